"""A study's records as tables, figures and a page."""
