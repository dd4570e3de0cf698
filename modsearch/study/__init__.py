"""A study: its stages, what it was made with, how far it is."""
