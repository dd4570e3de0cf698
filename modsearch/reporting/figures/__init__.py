"""The figures of a report: all that matplotlib draws."""
