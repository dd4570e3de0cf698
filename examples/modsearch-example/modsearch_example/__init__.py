"""Components for modsearch."""
