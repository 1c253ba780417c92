"""Fixtures of several files of tests."""

from tests.library.synthetic_sets import builders, cache, synthetic, synthetic_root

__all__ = ["builders", "cache", "synthetic", "synthetic_root"]
