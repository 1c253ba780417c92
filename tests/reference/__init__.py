"""Slow, literal NumPy versions of the papers' equations: what the package is held against."""
