"""One block a file."""
