"""What can be said of a configuration or a study without training it."""
