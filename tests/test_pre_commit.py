"""The hooks run before a commit what runs before a merge, with the installed tools."""

from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parent.parent


def test_hooks_are_the_commands_of_ci():
    (repository,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    assert repository["repo"] == "local"
    steps = (ROOT / ".ci" / "run").read_text()
    for hook in repository["hooks"]:
        assert hook["language"] == "system"
        command = hook["entry"].removeprefix("python ").replace(" --force-exclude", "")
        assert f"{command} ." in steps or f"{command}\n" in steps
