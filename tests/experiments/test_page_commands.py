"""The commands that the pages say results come from are still taken as they stand."""

import re
import shlex

import pytest

from experiments import report
from experiments.feedback import __main__ as feedback
from experiments.train import __main__ as train

COMMANDS = sorted(
    {
        command
        for page in report.pages()
        for command in re.findall(
            r"`python -m experiments\.((?:train|feedback) [^`]*)`", page.read_text()
        )
        if "--resume" not in command and "DIR" not in command and "NAME" not in command
    }
)


def test_there_are_many():
    assert len(COMMANDS) > 40


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_of_a_page_is_taken(command, tmp_path):
    name, *arguments = shlex.split(command)
    module, check = {
        "train": (train, train._what_and_where),
        "feedback": (feedback, feedback._plan),
    }[name]
    parsed = module._parser(module._shown_in_help(arguments)).parse_args(arguments)
    parsed.out = tmp_path / "out"
    check(parsed)
