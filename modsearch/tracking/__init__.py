"""Finished trials told to experiment trackers; none is required."""
