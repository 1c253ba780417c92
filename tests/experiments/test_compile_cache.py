"""The second process finds what the first has compiled."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from experiments.common import compile_cache
from qagrel_jax.data import cache as array_cache

ROOT = Path(__file__).resolve().parents[2]
CODE = """
import sys
from experiments.common import compile_cache
if "late" in sys.argv:
    import jax
compile_cache.switch_on()
import jax, jax.numpy as jnp
found = []
jax.monitoring.register_event_listener(
    lambda name, **_: found.append(name.rpartition("/")[2]) if "cache_hits" in name else None)
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
jax.jit(lambda x: jnp.sort(x) @ x)(jnp.ones((5, 5)))
print(len(found))
"""


def _hits(cache, *arguments, **variables):
    environment = {k: v for k, v in os.environ.items() if not k.startswith("JAX_")}
    result = subprocess.run(
        [sys.executable, "-c", CODE, *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env={**environment, "QAGREL_JAX_CACHE": str(cache), **variables},
    )
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    return int(result.stdout)


def test_a_second_process_compiles_nothing_again(tmp_path):
    assert _hits(tmp_path) == 0
    assert any((tmp_path / "compiled").iterdir())
    assert _hits(tmp_path, "late") > 0
    assert _hits(tmp_path, JAX_ENABLE_COMPILATION_CACHE="false") == 0


def test_a_folder_that_cannot_be_made_is_no_error(tmp_path):
    (tmp_path / "file").write_text("")
    assert _hits(tmp_path / "file") == 0


def test_without_a_home_folder_there_is_none(monkeypatch):
    def unknown():
        raise RuntimeError("Could not determine home directory.")

    for name in ("QAGREL_JAX_CACHE", "XDG_CACHE_HOME", "JAX_COMPILATION_CACHE_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Path, "home", unknown)
    compile_cache.switch_on()
    assert "JAX_COMPILATION_CACHE_DIR" not in os.environ
    monkeypatch.setenv("QAGREL_JAX_CACHE", "/own")
    assert compile_cache.default_folder() == Path("/own/compiled")
    monkeypatch.delenv("QAGREL_JAX_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/caches")
    assert compile_cache.default_folder() == Path("/caches/qagrel_jax/compiled")


@pytest.mark.parametrize("own", [None, "/somewhere"])
def test_it_lies_beside_the_images(own, monkeypatch):
    if own:
        monkeypatch.setenv("QAGREL_JAX_CACHE", own)
    assert compile_cache.default_folder() == array_cache.default_folder() / "compiled"
