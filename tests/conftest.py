"""Shared settings of the tests: quick compilation, and silent mistakes made loud."""

import os

# Tests compile many small programs once; LLVM's optimizations cost far more than they give back.
os.environ.setdefault(
    "XLA_FLAGS", "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
)

import jax
import pytest

jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_debug_key_reuse", True)


@pytest.fixture(scope="module")
def folded_keys():
    """Switch the check for keys used twice off.

    A learner's key is kept and folded with the step, and its best epoch and its checkpoint share
    it: the checker takes that for reuse.
    """
    with jax.debug_key_reuse(False):
        yield


@pytest.fixture
def x64():
    """Run a test in float64."""
    # Before JAX 0.8 it is experimental.
    enable_x64 = (jax if hasattr(jax, "enable_x64") else jax.experimental).enable_x64
    with enable_x64(True):
        yield
