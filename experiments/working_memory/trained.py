"""Networks that the command has trained, in a notebook: to record their units.

    from experiments.working_memory.trained import load
    from qagrel_jax.population import record

    setup, networks = load("runs/saccade")
    first = networks.network(0).learner
    left = record(setup, first, setup.task.examples["pro left"], jax.random.key(0))

``left.memory`` is float[steps, units].
"""

import os
from pathlib import Path

from experiments.common import folders
from experiments.working_memory import config as memory_config
from experiments.working_memory import run
from qagrel_jax.population import Packed, Setup


def load(folder: str | os.PathLike) -> tuple[Setup, Packed]:
    """Read the networks of a run, finished or not; nothing in its folder changes.

    Args:
      folder: of the run.

    Returns:
      What they learn and how, and the networks as its checkpoint holds them: as many of each
      setting of a grid, setting after setting. Each network's β, λ and feedback are in
      ``networks.networks.settings``; where all have the same β and λ, ``setup.config`` has them,
      too. Where ``networks.advance()`` is called, those go on learning that have neither converged
      nor given up.

    Raises:
      UserError: no working-memory run, or one without a checkpoint; a damaged checkpoint.
    """
    folder = Path(folder)
    folders.check_trained(folder, memory_config.FILE, run.CHECKPOINT, run.OLD_CHECKPOINT)
    config = memory_config.load(folder)
    setup = run.make_setup(config)
    networks = run.start(config, setup)
    run.restore(folder, networks, config)
    return setup, networks
