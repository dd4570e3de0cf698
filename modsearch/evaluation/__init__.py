"""Models scored with lm-eval: suites, their documents, and the adapter."""
