"""Training many seeds of one network with one rule: single steps, and whole runs."""

from qagrel_jax.training import checkpoints, feedback_updates
from qagrel_jax.training.checkpoints import CheckpointError, load, save
from qagrel_jax.training.epoch import DivergedError
from qagrel_jax.training.evaluation import overall_accuracy
from qagrel_jax.training.examples import Examples, place, split
from qagrel_jax.training.fitting import PROTOCOLS, EpochRecord, Fit, fit, new_phase, start
from qagrel_jax.training.step import (
    CorrectFunction,
    Learner,
    RewardFunction,
    StepMetrics,
    TrainState,
    init_state,
    train_step,
    variables_of,
)
from qagrel_jax.training.trainer import Trainer, make_trainer, select_seeds

__all__ = [
    "PROTOCOLS",
    "CheckpointError",
    "CorrectFunction",
    "DivergedError",
    "EpochRecord",
    "Examples",
    "Fit",
    "Learner",
    "RewardFunction",
    "StepMetrics",
    "TrainState",
    "Trainer",
    "checkpoints",
    "feedback_updates",
    "fit",
    "init_state",
    "load",
    "make_trainer",
    "new_phase",
    "overall_accuracy",
    "place",
    "save",
    "select_seeds",
    "split",
    "start",
    "train_step",
    "variables_of",
]
