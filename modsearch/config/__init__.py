"""What a user writes and what a file holds: frozen models, read strictly."""
