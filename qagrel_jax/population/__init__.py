"""Many networks that learn a task at once, in one program: working memory, or one-step rules."""

from qagrel_jax.population.one_step import Learners, OnlineTrainer, make_online_trainer
from qagrel_jax.population.packing import Packed
from qagrel_jax.population.population import (
    Population,
    Settings,
    Setup,
    advance,
    epsilon_greedy_from_gumbel,
    max_boltzmann_from_gumbel,
    start,
)
from qagrel_jax.population.recording import Recording, record

__all__ = [
    "Learners",
    "OnlineTrainer",
    "Packed",
    "Population",
    "Recording",
    "Settings",
    "Setup",
    "advance",
    "epsilon_greedy_from_gumbel",
    "make_online_trainer",
    "max_boltzmann_from_gumbel",
    "record",
    "start",
]
