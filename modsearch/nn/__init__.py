"""The model: contracts, parts, and their assembly."""
