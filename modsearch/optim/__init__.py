"""How weights follow gradients: optimisers, and their learning rates."""
