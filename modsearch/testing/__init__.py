"""What tests of the package and of its plugins share: slow twins of the fast paths."""
