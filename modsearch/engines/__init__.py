"""What executes trials."""
