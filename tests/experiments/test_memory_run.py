"""What a working-memory run starts with: every setting in its place, every option where it acts."""

import dataclasses

import numpy as np
import pytest

from experiments.common.cli import UserError
from experiments.working_memory import run as memory_run
from experiments.working_memory.config import MemoryConfig

GRID = MemoryConfig(
    "saccade", 3, feedbacks=("tied", "separate"), learning_rates=(0.1, 0.5), tag_decays=(0.2, 0.4)
)


def test_the_settings_of_a_grid_lie_in_order(tmp_path):
    setup = memory_run.make_setup(GRID)
    packed = memory_run.start(GRID, setup)
    seconds = memory_run._load(tmp_path, packed, GRID)
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
        ({"delay_steps": 2.5}, "delay_steps must be int, got 2.5"),
        ({"noise": 1}, "noise must be str, got 1"),
        ({"noise_sd": -0.5}, "noise_sd must be at least 0, got -0.5"),
    ],
)
def test_a_bad_parameter_is_named(parameters, says):
    with pytest.raises(UserError, match=says):
        memory_run.make_setup(MemoryConfig("vibrotactile", 2, task_parameters=parameters))
