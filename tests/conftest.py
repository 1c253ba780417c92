"""Shared settings of the tests: quick compilation, and silent mistakes made loud."""

import atexit
import gc
import os
import shutil
import tempfile

from jaxlib import version as jaxlib_version

# Tests compile many small programs once; LLVM's optimizations cost far more than they give back,
# and the older code generator compiles a third faster.
if "XLA_FLAGS" not in os.environ:
    os.environ["XLA_FLAGS"] = (
        "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true "
        "--xla_cpu_parallel_codegen_split_count=1"
    )
    if jaxlib_version.__version_info__ < (0, 11):  # later XLA has no other and aborts on the flag
        os.environ["XLA_FLAGS"] += " --xla_cpu_use_fusion_emitters=false"
# What one test has compiled no other compiles again, nor a process that a test starts.
if "PYTEST_XDIST_WORKER" not in os.environ:
    os.environ["JAX_COMPILATION_CACHE_DIR"] = tempfile.mkdtemp(prefix="compiled-")
    atexit.register(shutil.rmtree, os.environ["JAX_COMPILATION_CACHE_DIR"], ignore_errors=True)
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.02"
# No test reads from which line of Python an operation of a compiled program comes.
os.environ["JAX_TRACEBACK_IN_LOCATIONS_LIMIT"] = "0"

import jax
import pytest

jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_debug_key_reuse", True)
# Tracing makes many small objects that live on; looking through them takes a tenth of the time.
gc.set_threshold(50_000, 50, 100)

LONG_FILES = (
    "test_rules.py",
    "test_notebooks.py",
    "test_sharding.py",
    "test_train_command.py",
    "test_curriculum.py",
    "test_training.py",
    "test_transforms.py",
    "test_settings.py",
    "test_own_network.py",
    "test_feedback.py",
    "test_reproduce.py",
    "test_relearnn.py",
    "test_readme.py",
)
"""Begun first, the longest first: at the end one of them would leave the other workers idle."""


def pytest_configure(config):
    config.option.loadscopereorder = False  # pytest-xdist would begin with the most tests


def pytest_collection_modifyitems(items):
    place = {name: number for number, name in enumerate(LONG_FILES)}
    items.sort(key=lambda item: place.get(item.path.name, len(place)))


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
