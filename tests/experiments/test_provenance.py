"""The commit, the command, the device and the versions that a result names."""

import importlib.metadata
import os
import platform
import subprocess
import sys
from types import SimpleNamespace

import jax
import jaxlib
import numpy as np
import pytest

from experiments.common import provenance


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """A repository of one commit in place of this one."""
    for name, text in (("code.py", "1"), ("experiments/results/run.json", "{}")):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    for name in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"):
        monkeypatch.delenv(name, raising=False)
    author = ("-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false")
    for command in (["init", "-q"], ["add", "."], [*author, "commit", "-q", "-m", "first"]):
        subprocess.run(["git", *command], cwd=tmp_path, check=True)
    monkeypatch.setattr(provenance, "ROOT", tmp_path)
    return tmp_path


def test_code_that_differs_from_its_commit_is_dirty(repository):
    head = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=repository, capture_output=True, text=True, check=True
    ).stdout.strip()
    assert len(head) == 40 and provenance.commit() == head
    (repository / "experiments" / "results" / "run.json").write_text("[]")
    (repository / "notes.txt").write_text("not tracked")
    assert provenance.commit() == head
    (repository / "code.py").write_text("2")
    assert provenance.commit() == f"{head}-dirty"


def test_outside_git_there_is_no_commit(tmp_path, monkeypatch):
    monkeypatch.setattr(provenance, "ROOT", tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert provenance.commit() is None


@pytest.mark.parametrize(
    ("spec", "module"),
    [
        ("experiments.train.__main__", "experiments.train"),  # a package
        ("experiments.export", "experiments.export"),
        (None, "script.py"),  # python script.py
    ],
)
def test_the_command_as_it_was_given(spec, module, monkeypatch):
    main = SimpleNamespace(__spec__=None if spec is None else SimpleNamespace(name=spec))
    monkeypatch.setitem(sys.modules, "__main__", main)
    monkeypatch.setattr(sys, "argv", ["folder/script.py", "--out", "a b"])
    assert provenance.environment()["command"] == f"python -m {module} --out 'a b'"


@pytest.mark.parametrize(
    ("platform_name", "kind", "of_mesh", "told"),
    [
        ("gpu", "NVIDIA H100", None, "NVIDIA H100"),
        ("gpu", "NVIDIA H100", 1, "NVIDIA H100"),
        ("gpu", "NVIDIA H100", 2, "2 x NVIDIA H100"),
        ("cpu", "cpu", None, "cpu (48 cores, x86_64)"),
        ("cpu", "cpu", 2, "cpu (48 cores, x86_64)"),
    ],
)
def test_devices_in_words(platform_name, kind, of_mesh, told, monkeypatch):
    device = SimpleNamespace(platform=platform_name, device_kind=kind)
    monkeypatch.setattr(jax, "devices", lambda: [device] * 8)
    monkeypatch.setattr(os, "cpu_count", lambda: 48)
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    mesh = None if of_mesh is None else SimpleNamespace(size=of_mesh)
    assert provenance.device(mesh) == told
    assert provenance.environment(mesh)["device"] == told


def test_versions_are_those_of_what_is_installed(monkeypatch):
    found = provenance.versions()
    assert found["python"] == platform.python_version()
    for package in (jax, jaxlib, np):
        assert found[package.__name__] == package.__version__

    def version(name):
        if name != "jax":
            raise importlib.metadata.PackageNotFoundError(name)
        return "1.2.3"

    monkeypatch.setattr(importlib.metadata, "version", version)
    assert provenance.versions() == {"python": platform.python_version(), "jax": "1.2.3"}


@pytest.mark.parametrize(
    ("described", "told"),
    [
        ("processor\t: 0\nmodel name\t: Some CPU @ 2 GHz\nprocessor\t: 1\nmodel name\t: B\n", None),
        ("processor\t: 0\nCPU part\t: 0xd0c\n", "aarch64"),
        (OSError("no such file"), "arm"),
    ],
    ids=["x86", "ARM", "not Linux"],
)
def test_the_processor_is_told_on_every_system(monkeypatch, described, told):
    def read_text(path):
        assert str(path) == "/proc/cpuinfo"
        if isinstance(described, OSError):
            raise described
        return described

    monkeypatch.setattr(provenance.Path, "read_text", read_text)
    monkeypatch.setattr(provenance.platform, "processor", lambda: "arm")
    monkeypatch.setattr(provenance.platform, "machine", lambda: "aarch64")
    assert provenance.processor() == (told or "Some CPU @ 2 GHz")
