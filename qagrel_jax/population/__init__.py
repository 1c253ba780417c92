"""Many networks that learn a working-memory task at once, in one program."""

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
    "Packed",
    "Population",
    "Recording",
    "Settings",
    "Setup",
    "advance",
    "epsilon_greedy_from_gumbel",
    "max_boltzmann_from_gumbel",
    "record",
    "start",
]
