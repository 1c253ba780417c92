"""What a curve-tracing run is: a frozen record, checked before anything slow is imported."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.common import fields, files
from experiments.common.cli import UserError
from experiments.common.names import FEEDBACK_ALIASES

FILE = "config.json"
FEEDBACKS = ("tied", "kolen_pollack", "random", "sign", "sign_fixed", "product")
"""Spelled out rather than imported, so that a wrong name is refused before JAX has loaded."""

LONGEST = 100
"""The library's ``longest_curve`` is repeated here for the same reason."""

FIRST_LENGTH = 2
BEYOND = (1, 2, 3, 4)
"""Generalization is tested on curves that are these numbers of pixels longer, ..."""
LONG = (15, 20, 30)
"""... and on curves of these lengths."""


@dataclass(frozen=True)
class CurveConfig:
    """One run: some networks, each with a curriculum of its own.

    Attributes:
      networks: number of networks.
      seed: of all random numbers.
      grid: pixels along each side.
      max_length: curves of the last stage, in pixels.
      apart: no pixel is beside both curves, in training and tests.
      max_trials: training trials after which a network gives up.
      shared: one weight for all pixels, or each synapse for itself.
      feedback: the kind of feedback pathway.
      learning_rate: β.
      neighbor_rate: of weights that the four neighbors share, as a part of β; 0.25: the mean of
        four synapses' traces, 1: their sum.
      output_rate: of weights onto the outputs, which all pixels share.
      exploration: ε of the max-Boltzmann policy.
      reward: for the correct eye movement.
      clip: of a weight's trace, after these rates.
      steps: most steps of the activity.
      sweeps: most sweeps of the accessory network.
      tolerance: the largest change of a unit that counts as none.
      test_every: training trials between two frozen tests.
      test_trials: of a frozen test.
      accuracy: of a frozen test that makes the curves one pixel longer.
      final_accuracy: of the last stage's frozen test that ends the training; ``accuracy`` at least.
    """

    networks: int = fields.number(1, 10_000, "how many", default=5)
    seed: int = fields.number(0, 2**31 - 1, "all randomness follows from it", default=0)
    grid: int = fields.number(5, 200, "pixels along each side", default=15)
    max_length: int = fields.number(3, 1000, "pixels of the longest curves to learn", default=9)
    apart: bool = fields.flag(True, "no pixel is beside both curves, in training and tests")
    max_trials: int = fields.number(
        1, 10**9, "training trials after which a network gives up", default=50_000
    )
    shared: bool = fields.flag(
        False,
        "each synapse for itself; default: one weight for all pixels",
        option="--unshared",
    )
    feedback: str = fields.choice(
        FEEDBACKS, "feedback pathway", aliases=FEEDBACK_ALIASES, default="tied"
    )
    learning_rate: float = fields.number(0, 100, "beta", default=0.02)
    neighbor_rate: float = fields.number(
        0,
        100,
        "of weights that the four neighbors share, as a part of beta; 1/4, the default, is the "
        "mean of four synapses, 1 their sum",
        default=0.25,
    )
    output_rate: float = fields.number(
        0,
        100,
        "of weights onto the outputs, which all pixels share, as a part of beta",
        default=0.05,
    )
    exploration: float = fields.number(0, 1, "epsilon of the max-Boltzmann policy", default=0.05)
    reward: float = fields.number(-1e6, 1e6, default=1.2)
    clip: float = fields.number(0, 1e6, default=1.0)
    steps: int = fields.number(1, 100_000, "most steps of the activity", default=50)
    sweeps: int = fields.number(1, 100_000, "most sweeps of the accessory network", default=7)
    tolerance: float = fields.number(0, 1e6, default=1e-4)
    test_every: int = fields.number(
        1, 10**9, "training trials between two frozen tests", default=2000
    )
    test_trials: int = fields.number(1, 10**6, "trials of a frozen test", default=500)
    accuracy: float = fields.number(0, 1, default=0.85)
    final_accuracy: float = fields.number(
        0, 1, "of the frozen test at the last length that ends it all", default=0.85
    )

    def __post_init__(self) -> None:
        known = FEEDBACK_ALIASES.get(str(self.feedback), self.feedback)
        object.__setattr__(self, "feedback", known)
        fields.check(self)
        if self.final_accuracy < self.accuracy:
            raise UserError(
                f"--final-accuracy must be at least {self.accuracy}, got {self.final_accuracy}"
            )
        if self.max_trials % self.test_every:
            raise UserError(
                f"--max-trials must be a multiple of --test-every ({self.test_every}), got "
                f"{self.max_trials}"
            )
        if self.max_length > (most := self.longest_curve):
            raise UserError(
                f"two curves of {self.max_length} pixels hardly fit into {self.grid} x {self.grid} "
                f"pixels: --max-length must be at most {most}"
            )

    @property
    def longest_curve(self) -> int:
        """Pixels of the longest curves that can be drawn."""
        return min(self.grid**2 // (7 if self.apart else 5), LONGEST)

    @property
    def test_lengths(self) -> list[int]:
        """Lengths of the last tests: all of the curriculum with a distractor, and beyond."""
        trained = range(FIRST_LENGTH + 1, self.max_length + 1)
        longer = {self.max_length + more for more in BEYOND} | set(LONG)
        return [*trained, *sorted(n for n in longer if self.max_length < n <= self.longest_curve)]

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-ready dictionary."""
        return dataclasses.asdict(self)


def from_json(content: dict[str, Any]) -> CurveConfig:
    """Return what ``to_json`` wrote, maybe in an older version, in which all weights had rate β.

    Raises:
      TypeError: content that is no mapping.
      UserError: a field that is unknown, a value that is refused.
    """
    given = {"neighbor_rate": 1.0, "output_rate": 1.0, **content}
    fields.check_names(CurveConfig, given)
    return CurveConfig(**given)


def load(folder: Path) -> CurveConfig:
    """Return the configuration of the run in ``folder``.

    Raises:
      UserError: it cannot be read.
    """
    path = folder / FILE
    try:
        return from_json(files.read_json(path) or {})
    except (TypeError, UserError) as error:
        raise UserError(f"{path} is no curve-tracing run ({error}): choose another --out") from None
