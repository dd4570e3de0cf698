"""What must hold of components, and how it is checked; slow twins of the fast paths."""
