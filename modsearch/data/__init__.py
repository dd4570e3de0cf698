"""Text to tokens: which files, which parts, which batches."""
