"""The package alone: what it imports, and what is in the wheel."""

import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml

import qagrel_jax

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

# Import everything with nothing but the dependencies; then use a little of it.
ALONE = """
import importlib, pkgutil, sys
BLOCKED = ("tensorflow_datasets", "tensorflow", "matplotlib", "sklearn", "scipy.stats", "rich",
           "tensorboardX", "safetensors", "h5py", "PIL", "pandas", "IPython")
class Block:
    def find_spec(self, name, path=None, target=None):
        # What the dependencies try to import for themselves is theirs.
        caller = sys._getframe(1)
        while caller and "importlib" in caller.f_code.co_filename:
            caller = caller.f_back
        inside = caller and caller.f_globals.get("__name__", "").startswith("qagrel_jax")
        if inside and name.startswith(BLOCKED):
            raise AssertionError(f"{caller.f_globals['__name__']} imports {name}")
sys.meta_path.insert(0, Block())
import qagrel_jax
for module in pkgutil.walk_packages(qagrel_jax.__path__, "qagrel_jax."):
    importlib.import_module(module.name)
loaded = [name for name in ("tensorflow_datasets", "matplotlib") if name in sys.modules]
assert not loaded, loaded
import jax.numpy as jnp
network = qagrel_jax.make_network("dense", 2, hidden=(3,))
print(sorted(network.init(qagrel_jax.policies.jax.random.key(0), jnp.ones((1, 4)))["params"]))
"""


def test_imports_need_no_extra():
    result = _python(sys.executable, ALONE)
    assert result.stdout.strip() == "['Dense_0', 'Dense_1']", result.stderr


def test_facts_agree():
    assert PROJECT["version"] == qagrel_jax.__version__
    names = sorted(d.split(">=")[0] for d in PROJECT["dependencies"])
    assert names == ["chex", "flax", "jax", "jaxlib", "optax"]
    assert all(">=" in d for d in PROJECT["dependencies"])
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == qagrel_jax.__version__
    assert citation["license"] == PROJECT["license"]
    cited = str(citation["references"])
    for fact in ("Neural Computation", "pcbi.1004060", "1811.01768", "Systems 33", "Zambrano"):
        assert fact in cited
    for paper in citation["references"]:
        assert paper["authors"] and paper["year"] and paper["title"]
        assert paper.get("journal") or paper.get("collection-title")
    assert f"## {qagrel_jax.__version__}" in (ROOT / "CHANGELOG.md").read_text()


@pytest.mark.slow
def test_the_wheel_in_a_clean_environment(tmp_path):
    """Builds and installs with pip, so it needs a package index; a minute or two."""
    _run(sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", tmp_path, ROOT)
    (wheel,) = tmp_path.glob("qagrel_jax-*.whl")
    with zipfile.ZipFile(wheel) as file:
        names = file.namelist()
    assert "qagrel_jax/py.typed" in names
    assert {n.split("/")[0].split("-")[0] for n in names} == {"qagrel_jax"}
    assert any(n.endswith("licenses/LICENSE") for n in names)
    _run(sys.executable, "-m", "venv", tmp_path / "clean")
    python = tmp_path / "clean" / "bin" / "python"
    _run(python, "-m", "pip", "install", "-q", wheel)
    result = _python(python, ALONE, cwd=tmp_path)
    assert result.stdout.strip() == "['Dense_0', 'Dense_1']", result.stderr
    result = _python(python, "import tensorflow_datasets", cwd=tmp_path)
    assert "ModuleNotFoundError" in result.stderr
    result = _python(python, "from qagrel_jax import data; data.load('digits')", cwd=tmp_path)
    assert "pip install 'qagrel_jax[experiments]'" in result.stderr


def _run(*command):
    subprocess.run([str(c) for c in command], check=True, timeout=900, cwd=ROOT)


def _python(python, code, cwd=ROOT):
    command = [str(python), "-c", code]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=cwd)
