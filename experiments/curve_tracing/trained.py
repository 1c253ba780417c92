"""Networks that the command has trained, in a notebook: to record their activity, to test them.

    from experiments.curve_tracing.trained import load

    run = load("runs/curves")
    first = jax.tree.map(lambda leaf: leaf[0], run.variables)
    trial, image, states = run.functions.record(first, jax.random.key(0), 7)

Of ``states``, ``modulated_input`` is float[steps, grid, grid, colors].
"""

import os
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from experiments.common import folders
from experiments.common.cli import UserError
from experiments.curve_tracing import config as curve_config
from experiments.curve_tracing import learners
from experiments.curve_tracing import run as curve_run


class Trained(NamedTuple):
    """The networks of a run, as its checkpoint holds them."""

    config: curve_config.CurveConfig  # of the run
    functions: learners.Learners  # that train, test and record them
    variables: Any  # Flax's, with a leading axis over the networks
    lengths: np.ndarray  # int[networks], pixels of the curves that each has come to
    done: np.ndarray  # bool[networks], whether it has learned all
    trials: int  # training trials so far: the first number of further ones is this


def load(folder: str | os.PathLike, longest: int | None = None) -> Trained:
    """Read the networks of a run, finished or not; nothing in its folder changes.

    Args:
      folder: of the run.
      longest: pixels of the longest curves that ``functions`` draw; None: those of the run's last
        tests.

    Returns:
      The run. ``functions.test(variables, number, lengths)`` takes lengths int[networks] and any
      number, of which the trials of the test are drawn.

    Raises:
      UserError: no curve-tracing run, or one without a checkpoint; a damaged checkpoint; a number
        out of range.
    """
    folder = Path(folder)
    folders.check_trained(folder, curve_config.FILE, curve_run.CHECKPOINT)
    config = curve_config.load(folder)
    shortest = curve_config.FIRST_LENGTH + 1  # which a distractor needs
    if longest is not None and not shortest <= longest <= config.longest_curve:
        limits = f"in [{shortest}, {config.longest_curve}]"
        raise UserError(f"longest must be {limits} pixels, got {longest}")
    functions = learners.make(config, longest)
    state = curve_run.restore(folder, config, functions)
    return Trained(config, functions, **state)
