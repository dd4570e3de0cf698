"""A search space: axes, arms and stages, and the candidates that they mean."""
