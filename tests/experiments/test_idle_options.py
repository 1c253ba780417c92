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
    "policy": "max_boltzmann",
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


@pytest.mark.parametrize(
    ("changes", "name", "says"),
    [
        ({"feedback": "random"}, "feedback_rate", "with random feedback"),
        ({"feedback": "direct"}, "feedback_delay", "with direct feedback"),
        ({"feedback": "sign"}, "feedback_init", "with sign feedback"),
        ({}, "angle_images", "with tied feedback, where no angles are measured"),
        ({"policy": "softmax"}, "epsilon", "with policy softmax and these rules"),
        ({"policy": "epsilon_greedy"}, "temperature", "with policy epsilon_greedy and these rules"),
        (
            {"rules": ("backprop", "agrel")},
            "policy",
            "without --rule q_agrel or broadcast or node_perturbation",
        ),
        ({"rules": ("reinforce",)}, "epsilon", "and these rules"),
        ({"rules": ("backprop",)}, "reward", "with backprop alone"),
        ({"rules": ("backprop",)}, "reward_wrong", "or with backprop alone"),
        ({}, "curriculum_decay", "without --curriculum, or with --curriculum-recency 0"),
        ({"curriculum": "index", "curriculum_recency": 0.0}, "curriculum_decay", "-recency 0"),
        ({}, "curriculum_exploration", "without --curriculum, or with backprop alone"),
        (
            {"curriculum": "index", "rules": ("backprop",)},
            "curriculum_exploration",
            "or with backprop alone",
        ),
        ({"feedback": "sign_fixed"}, "feedback_l2", "with sign_fixed feedback"),
        ({"feedback": "sign_batchwise"}, "feedback_rate", "with sign_batchwise feedback"),
        ({"policy": "greedy"}, "epsilon", "with policy greedy and these rules"),
        ({"policy": "greedy"}, "temperature", "with policy greedy and these rules"),
        ({"rules": ("agrel",)}, "positive_gain", "without --rule q_agrel"),
        ({}, "broadcast_strength", "without --rule broadcast"),
        ({"trained_layers": "output", "feedback": "sign"}, "feedback", "-layers output"),
    ],
)
def test_what_a_setting_makes_idle_is_refused(changes, name, says):
    config = configs.replace(configs.load("digits"), changes)
    option = "--" + name.replace("_", "-")
    with pytest.raises(cli.UserError, match=f"{option} does nothing .*{says}: leave it out"):
        idle.check(config, [name])


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        ({"feedback": "random"}, ["feedback_init", "angle_images"]),
        ({"feedback": "product"}, ["feedback_init", "feedback_rate", "feedback_l2"]),
        ({"policy": "epsilon_greedy"}, ["policy", "epsilon"]),
        ({"policy": "softmax"}, ["temperature"]),
        ({"rules": ("backprop", "reinforce")}, ["reward", "reward_wrong"]),
        ({"rules": ("stochastic_units",)}, ["noise_sd"]),
        ({"feedback": "sign_fixed"}, ["feedback_init"]),
    ],
)
def test_what_a_setting_uses_passes(changes, names):
    idle.check(configs.replace(configs.load("digits"), changes), names)


def test_of_several_runs_one_is_enough():
    tied = configs.load("digits")
    other = configs.replace(tied, {"feedback": "kolen_pollack"})
    idle.check_all([tied, other], ["feedback_rate"])
    with pytest.raises(cli.UserError, match="--feedback-rate does nothing with tied feedback"):
        idle.check_all([tied, tied], ["feedback_rate"])
