"""One position-wise part a file."""
