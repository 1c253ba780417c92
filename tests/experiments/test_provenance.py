"""The commit and the command that a result names."""

import subprocess
import sys
from types import SimpleNamespace

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
