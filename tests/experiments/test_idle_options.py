"""Options on which nothing depends are refused; those on which something does pass."""

import dataclasses

import pytest

from experiments import config as configs
from experiments.common import cli
from experiments.config import Config
from experiments.train import idle

USED = {
    "feedback": "kolen_pollack",
    "curriculum": "index",
    "weight_decay": 0.1,
    "protocol": "clean",
    "rules": ("q_agrel", "node_perturbation", "broadcast"),
}


def test_every_option_is_a_field_and_passes_where_it_is_used():
    fields = {field.name for field in dataclasses.fields(Config)}
    names = [name for entry in idle.IDLE for name in entry.options]
    assert len(set(names)) == len(names) and set(names) <= fields
    idle.check(configs.replace(configs.load("digits"), USED), names)


def test_what_is_not_given_is_not_looked_at():
    config = configs.replace(configs.load("digits"), {"feedback_init": "he"})
    idle.check(config, ["learning_rate"])
    with pytest.raises(cli.UserError, match="--feedback-init does nothing with tied feedback"):
        idle.check(config, ["feedback_init"])
