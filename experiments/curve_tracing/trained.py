"""Networks that the command has trained, in a notebook: to record their activity, to test them.

from experiments.curve_tracing.trained import load

functions, variables = load("runs/curves")
first = jax.tree.map(lambda leaf: leaf[0], variables)
trial, image, states = functions.record(first, jax.random.key(0), 7)
states.modulated_input  # float[steps, grid, grid, features]
"""

import os
from pathlib import Path
from typing import Any

from experiments.common.cli import UserError
from experiments.curve_tracing import config as curve_config
from experiments.curve_tracing import learners, run


def load(folder: str | os.PathLike) -> tuple[learners.Learners, Any]:
    """Read the networks of a run, finished or not; nothing in its folder changes.

    Args:
      folder: of the run.

    Returns:
      The functions that train, test and record them, and what the networks have learned: Flax's
      variables, with a leading axis over the networks.

    Raises:
      UserError: no curve-tracing run, or one without a checkpoint; a damaged checkpoint.
    """
    folder = Path(folder)
    if not (folder / curve_config.FILE).is_file():
        raise UserError(f"{folder} holds no run: it has no {curve_config.FILE}")
    config = curve_config.load(folder)
    if not (folder / run.CHECKPOINT).is_file():
        raise UserError(f"{folder} has no {run.CHECKPOINT}: has the run begun to learn?")
    functions = learners.make(config)
    return functions, run.restore(folder, config, functions)["variables"]
