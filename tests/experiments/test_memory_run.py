"""What a working-memory run starts with: every setting in its place, every option where it acts."""

import dataclasses

import numpy as np
import pytest

from experiments.common.cli import UserError
from experiments.working_memory import config as memory_config
from experiments.working_memory import run as memory_run
from experiments.working_memory.config import MemoryConfig
from qagrel_jax.tasks.criterion import Criterion

GRID = MemoryConfig(
    "saccade", 3, feedbacks=("tied", "separate"), learning_rates=(0.1, 0.5), tag_decays=(0.2, 0.4)
)


def test_the_settings_of_a_grid_lie_in_order(tmp_path):
    setup = memory_run.make_setup(GRID)
    packed = memory_run.start(GRID, setup)
    seconds = memory_run.restore(tmp_path, packed, GRID)
    settings = packed.networks.settings
    assert (len(packed), seconds) == (2 * 2 * 2 * 3, 0.0)
    decays = [0.2] * 3 + [0.4] * 3
    np.testing.assert_allclose(settings.tag_decay, 4 * decays)
    np.testing.assert_allclose(settings.learning_rate, 2 * ([0.1] * 6 + [0.5] * 6))
    assert settings.tied.tolist() == [True] * 12 + [False] * 12
    weights, feedback = packed.networks.learner.weights, packed.networks.learner.feedback
    same = (weights.memory_q == feedback.memory).all((0, 1))
    assert same.tolist() == [True] * 12 + [False] * 12
    # Networks of one setting are not copies of one network, nor are those of another seed.
    assert len(np.unique(weights.memory_q[0, 0])) == 24
    other = dataclasses.replace(GRID, seed=1)
    again = memory_run.start(other, setup)
    assert (again.networks.learner.weights.memory_q[0, 0] != weights.memory_q[0, 0]).all()


def test_every_option_arrives():
    config = MemoryConfig(
        "vibrotactile",
        2,
        max_trials=77,
        leak=0.5,
        exploration=0.3,
        regular=5,
        memory=6,
        substeps=4,
        retest_after=8,
        task_parameters={"noise": "additive", "slope": 2},
    )
    setup = memory_run.make_setup(config)
    rule = setup.config
    assert (rule.leak, rule.exploration, rule.regular, rule.memory) == (0.5, 0.3, 5, 6)
    assert (rule.inputs, rule.actions, rule.feedback) == (21, 3, "tied")
    assert (rule.discount, rule.threshold) == (0.9, 2.5)
    assert (setup.criterion.max_trials, setup.criterion.retest_after) == (77, 8)
    assert (setup.substeps, setup.params.noise, setup.params.slope) == (4, "additive", 2.0)
    assert isinstance(setup.params.slope, float)


SHARED = {"memory": 6, "exploration": 0.3, "weight_range": 0.5, "threshold": 0.7}
OWN = {
    "augment": SHARED | {"regular": 5, "leak": 0.5, "bias": False, "policy": "epsilon_greedy"},
    "recollect": SHARED | {"slope": "corrected", "end_input": True, "policy": "max_boltzmann"},
    "workmate": SHARED | {"regular": 5, "blocks": 3, "time_cells": 6, "policy": "epsilon_greedy"},
}
"""All that a rule's own configuration takes from the run's, each value other than its default."""


@pytest.mark.parametrize("rule", OWN)
def test_every_option_of_a_rule_arrives(rule):
    config = MemoryConfig(
        "saccade",
        2,
        rule=rule,
        feedbacks=("kolen_pollack",),
        cooling=500 if rule == "recollect" else 0,  # it goes with max-Boltzmann alone
        substeps=4 if rule == "augment" else 1,
        max_trials=77,
        retest_after=8,
        task_parameters={"delay_steps": 4, "curriculum": True},
        **OWN[rule],
    )
    setup = memory_run.make_setup(config)
    defaults = {field.name: field.default for field in dataclasses.fields(setup.config)}
    named = defaults.keys() & {field.name for field in dataclasses.fields(config)}
    assert named == OWN[rule].keys()
    for name, value in OWN[rule].items():
        assert getattr(setup.config, name) == value != defaults[name], name
    assert (setup.config.feedback, defaults["feedback"]) == ("kolen_pollack", "tied")
    assert (setup.config.inputs, setup.config.actions) == (4, 3)
    assert (setup.cooling, setup.substeps) == (config.cooling, config.substeps)
    # Delays of 1, 2 and 4 steps, each with the same window.
    window, accuracy = (100, 0.86) if rule == "recollect" else (50, 0.9)
    assert setup.criterion == Criterion(4, (window,) * 3, accuracy, 77, (0, 0, 0, 0), 1, 8)


def test_the_setup_tells_the_learning_rate_and_decay_that_all_networks_have():
    own = memory_config.complete({"task": "twelve_ax"})
    rule = memory_run.make_setup(own).config
    assert (rule.learning_rate, rule.tag_decay) == (0.15, 0.15)
    given = {"task": "saccade", "learning_rates": (0.05,), "tag_decays": (0.2, 0.5)}
    rule = memory_run.make_setup(memory_config.complete(given)).config
    assert rule.learning_rate == 0.05


def test_a_grid_has_fewer_networks_for_each_setting():
    several = {"task": "saccade", "learning_rates": (0.05, 0.3)}
    assert memory_config.complete(several).networks == 20
    assert memory_config.complete(several | {"networks": 7}).networks == 7
    feedbacks = {"task": "saccade", "feedbacks": ("tied", "kolen_pollack")}
    assert memory_config.complete(feedbacks).networks == 1000
    assert memory_config.complete({"task": "saccade"}).networks == 1000


def test_waiting_for_a_test_that_never_comes_is_refused():
    given = {"task": "probabilistic", "retest_after": 5}
    with pytest.raises(UserError, match="--retest-after does nothing in probabilistic"):
        memory_run.make_setup(memory_config.complete(given))


def test_the_memory_units_share_several_leaks():
    config = MemoryConfig("saccade", 2, feedbacks=("tied", "separate"), memory=6, leak=(0.7, 1.0))
    rule = memory_run.make_setup(config).config
    assert rule.leak == (0.7, 0.7, 0.7, 1, 1, 1)
    assert rule.feedback == "kolen_pollack"  # the networks of the other kind are told to tie it


def test_without_options_criterion_and_parameters_are_the_tasks():
    setup = memory_run.make_setup(MemoryConfig("vibrotactile", 2))
    assert setup.criterion == setup.task.criterion
    assert setup.params == setup.task.params()
    assert setup.config.feedback == "tied" and setup.substeps == 1


@pytest.mark.parametrize(
    ("parameters", "says"),
    [
        ({"speed": 1}, "vibrotactile has no parameter 'speed'; valid: .*slope"),
        ({"level": 1}, "no parameter 'level'"),
        ({"delay_steps": 2.5}, "delay_steps must be a whole number, got 2.5"),
        ({"noise": 1}, "noise must be text, got 1"),
        ({"noise_sd": -0.5}, "noise_sd must be at least 0, got -0.5"),
    ],
)
def test_a_bad_parameter_is_named(parameters, says):
    with pytest.raises(UserError, match=says):
        memory_run.make_setup(MemoryConfig("vibrotactile", 2, task_parameters=parameters))
