"""What a curve-tracing run is: a frozen record, checked before anything slow is imported."""

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.common.cli import UserError
from experiments.config import FEEDBACK_ALIASES

FEEDBACKS = ("tied", "kolen_pollack", "random", "sign", "sign_fixed", "product")
"""Spelt out rather than imported, so that a wrong name is refused before JAX has loaded."""

FIRST_LENGTH = 2
BEYOND = (1, 2, 3, 4)
"""Generalization is tested on curves longer by so many pixels, ..."""
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
      max_trials: training trials after which a network gives up.
      shared: one weight for all pixels, or each synapse for itself.
      feedback: the kind of feedback pathway.
      learning_rate: β.
      exploration: ε of the max-Boltzmann policy.
      reward: for the right eye movement.
      clip: of a synapse's trace.
      steps: most steps of the activity.
      sweeps: most sweeps of the accessory network.
      tolerance: the largest change of a unit that counts as none.
      test_every: training trials between two frozen tests.
      test_trials: of a frozen test.
      accuracy: of a frozen test that makes the curves one pixel longer.
      final_accuracy: of the last stage's frozen test that ends the training; ``accuracy`` at least.
    """

    networks: int = 5
    seed: int = 0
    grid: int = 15
    max_length: int = 9
    max_trials: int = 50_000
    shared: bool = True
    feedback: str = "tied"
    learning_rate: float = 0.02
    exploration: float = 0.05
    reward: float = 1.2
    clip: float = 1.0
    steps: int = 50
    sweeps: int = 7
    tolerance: float = 1e-4
    test_every: int = 2000
    test_trials: int = 500
    accuracy: float = 0.85
    final_accuracy: float = 0.85

    def __post_init__(self) -> None:
        known = FEEDBACK_ALIASES.get(self.feedback, self.feedback)
        object.__setattr__(self, "feedback", known)
        if self.final_accuracy < self.accuracy:
            raise UserError(
                f"--final-accuracy must be at least {self.accuracy}, got {self.final_accuracy}"
            )
        if self.max_length > (most := self.grid**2 // 5):
            raise UserError(
                f"two curves of {self.max_length} pixels hardly fit into {self.grid} x {self.grid} "
                f"pixels: --max-length must be at most {most}"
            )

    @property
    def test_lengths(self) -> list[int]:
        """Lengths of the last tests: all of the curriculum with a distractor, and beyond."""
        most = self.grid**2 // 5
        trained = range(FIRST_LENGTH + 1, self.max_length + 1)
        longer = {self.max_length + more for more in BEYOND} | set(LONG)
        return [*trained, *sorted(n for n in longer if self.max_length < n <= most)]

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-ready dictionary."""
        return dataclasses.asdict(self)


def load(folder: Path) -> CurveConfig | None:
    """Return the configuration of the run in ``folder``, None if there is none.

    Raises:
      UserError: it cannot be read.
    """
    path = folder / "config.json"
    if not path.is_file():
        return None
    try:
        config = CurveConfig(**json.loads(path.read_text()))
        for entry in dataclasses.fields(CurveConfig):
            _check_type(entry.name, getattr(config, entry.name), type(entry.default))
        return config
    except (OSError, ValueError, TypeError) as error:
        raise UserError(f"{path} is no curve-tracing run ({error}): choose another --out") from None


def _check_type(name: str, value: Any, kind: type) -> None:
    fits = type(value) is kind or (kind is float and type(value) is int)
    if not fits:
        raise TypeError(f"{name} is {value!r}")


def difference(saved: CurveConfig, wanted: CurveConfig) -> str:
    """Say in what two configurations differ; empty if in nothing."""
    there, here = saved.to_json(), wanted.to_json()
    return ", ".join(
        f"{k} {there[k]!r} there, {here[k]!r} here" for k in here if there[k] != here[k]
    )
