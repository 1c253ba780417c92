"""Settings of the whole process: double precision, NaN checks, another default for random keys."""

import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from qagrel_jax.random_keys import root_key
from tests.library import settings_run

ROOT = Path(__file__).resolve().parents[2]
# The kinds of key, and the settings under which they are used.
SETTINGS = {
    "typed": {"JAX_ENABLE_X64": "1", "JAX_DEBUG_NANS": "1"},
    "pinned legacy": {"JAX_DEFAULT_PRNG_IMPL": "rbg", "JAX_DEBUG_NANS": "1"},
}


@pytest.fixture(scope="module")
def expected(folded_keys):
    return settings_run.run(root_key(0))


def _all_numbers(results):
    return np.concatenate([np.ravel(value) for value in results.values()])


@pytest.mark.slow
@pytest.mark.parametrize("kinds", SETTINGS)
def test_everything_runs_under_the_settings(kinds, expected):
    """A root key gives the same numbers under any default; other kinds of key work as well."""
    process = subprocess.run(
        [sys.executable, "-m", "tests.library.settings_run", *kinds.split()],
        capture_output=True,
        text=True,
        env={**os.environ, **SETTINGS[kinds], "PYTHONPATH": str(ROOT)},
        cwd=ROOT,
    )
    assert process.returncode == 0, process.stderr[-2000:]
    results = json.loads(process.stdout.splitlines()[-1])
    assert all(np.isfinite(_all_numbers(numbers)).all() for numbers in results.values())
    if "pinned" in results:
        np.testing.assert_allclose(
            _all_numbers(results["pinned"]), _all_numbers(expected), rtol=1e-5
        )


@pytest.mark.slow
def test_legacy_keys_draw_what_typed_ones_do(expected, folded_keys):
    legacy = settings_run.run(jax.random.PRNGKey(0))
    np.testing.assert_allclose(_all_numbers(legacy), _all_numbers(expected), rtol=1e-6)
