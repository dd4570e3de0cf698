"""modsearch: architecture search and benchmarks for Mixture-of-Depths at equal training FLOPs."""

__version__ = "0.1.0"
