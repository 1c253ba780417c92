"""Training many seeds of one network with one rule: single steps, and whole runs."""

from qagrel_jax.training import checkpoints
from qagrel_jax.training.checkpoints import CheckpointError, load, save
from qagrel_jax.training.fitting import (
    PROTOCOLS,
    DivergedError,
    EpochRecord,
    Examples,
    Fit,
    fit,
    place,
    split,
    start,
)
from qagrel_jax.training.trainer import (
    RewardFunction,
    StepMetrics,
    Trainer,
    TrainState,
    make_trainer,
    overall_accuracy,
    select_seeds,
)

__all__ = [
    "PROTOCOLS",
    "CheckpointError",
    "DivergedError",
    "EpochRecord",
    "Examples",
    "Fit",
    "RewardFunction",
    "StepMetrics",
    "TrainState",
    "Trainer",
    "checkpoints",
    "fit",
    "load",
    "make_trainer",
    "overall_accuracy",
    "place",
    "save",
    "select_seeds",
    "split",
    "start",
]
