"""What a working-memory run is: a frozen record, checked before anything slow is imported."""

import dataclasses
import itertools
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from experiments.common.cli import UserError
from experiments.config import FEEDBACK_ALIASES

TASKS = (
    *("saccade", "match_to_category", "probabilistic", "vibrotactile"),
    *("twelve_ax", "reversal_bandit"),
)
RULES = ("augment", "recollect")
POLICIES = ("max_boltzmann", "epsilon_greedy")
SLOPES = ("published", "corrected")
FEEDBACKS = ("tied", "kolen_pollack")
"""Spelt out rather than imported, so that a wrong name is refused before JAX has loaded."""

DEFAULT_NETWORKS = {
    "saccade": 1000,
    "match_to_category": 100,
    "probabilistic": 10,
    "vibrotactile": 100,
    "twelve_ax": 100,
    "reversal_bandit": 100,
}
RECOLLECT_NETWORKS = 100
RECOLLECT: dict[str, Any] = {
    "learning_rates": (0.1,),
    "tag_decays": (0.4,),
    "memory": 7,
    "policy": "epsilon_greedy",
    "threshold": 0.0,
}
"""Where RECOLLECT differs from AuGMEnT (van den Berg, Roelfsema & Bohte 2024)."""
OF_TASK: dict[tuple[str, str], dict[str, Any]] = {
    ("recollect", "saccade"): {"task_parameters": {"blank_steps": 0}},
    ("augment", "twelve_ax"): {
        "feedbacks": ("kolen_pollack",),
        "tag_decays": (0.15,),
        "regular": 10,
        "memory": 20,
        "weight_range": 0.5,
        "threshold": 0.0,
        "cooling": 2000,
    },
}
"""Where a task has parameters of its own; 12AX: Martinolli, Gerstner & Gilra (2018)."""
AUGMENT_ONLY = ("leak", "regular", "substeps")
RECOLLECT_ONLY = ("slope", "end_input")
GRID_NETWORKS = 20
GRID_LEARNING_RATES = (0.05, 0.15, 0.3, 0.6)
GRID_TAG_DECAYS = (0.0, 0.2, 0.5, 0.8)


@dataclass(frozen=True)
class MemoryConfig:
    """One population run; with several feedbacks, learning rates or tag decays, a grid of them.

    Attributes:
      task: a name in ``TASKS``.
      networks: networks, in a grid for each setting.
      max_trials: training trials after which a network gives up; None for the task's own.
      seed: of all random numbers.
      feedbacks: "tied", "kolen_pollack" (also as "separate", its earlier name) or both.
      learning_rates: β, one or several.
      tag_decays: λ, one or several.
      rule: a name in ``RULES``.
      policy: how to explore, a name in ``POLICIES``.
      exploration: ε.
      cooling: trials in which max-Boltzmann exploration sharpens, see ``population.Setup``.
      weight_range: initial weights are uniform in [−weight_range, weight_range].
      threshold: θ of the sigmoids.
      slope: of RECOLLECT's derivatives, a name in ``SLOPES``.
      end_input: whether RECOLLECT has an input that tells that a trial has ended.
      leak: of the memory; 1 is AuGMEnT. Several: the memory units have them in equal shares.
      regular: number of regular units.
      memory: number of memory units.
      substeps: of each action; more than 1 is a variant, see ``rules.augment_continuous``.
      retest_after: training trials from a failed frozen test to the next; None for the task's own.
      task_parameters: values that differ from the task's defaults, sorted by name.
    """

    task: str
    networks: int
    max_trials: int | None = None
    seed: int = 0
    feedbacks: tuple[str, ...] = ("tied",)
    learning_rates: tuple[float, ...] = (0.15,)
    tag_decays: tuple[float, ...] = (0.2,)
    rule: str = "augment"
    policy: str = "max_boltzmann"
    exploration: float = 0.025
    cooling: int = 0
    weight_range: float = 0.25
    threshold: float = 2.5
    slope: str = "published"
    end_input: bool = False
    leak: float | tuple[float, ...] = 1.0
    regular: int = 3
    memory: int = 4
    substeps: int = 1
    retest_after: int | None = None
    task_parameters: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        known = tuple(FEEDBACK_ALIASES.get(name, name) for name in self.feedbacks)
        object.__setattr__(self, "feedbacks", known)

    @property
    def settings(self) -> list[tuple[str, float, float]]:
        """Every (feedback, β, λ) of the grid."""
        return list(itertools.product(self.feedbacks, self.learning_rates, self.tag_decays))

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-ready dictionary."""
        return json.loads(json.dumps(dataclasses.asdict(self)))


def complete(given: dict[str, Any]) -> MemoryConfig:
    """Return the configuration of a new run: what is given, and the rule's and task's own values.

    Raises:
      UserError: an option of another rule.
    """
    rule, task = given.get("rule", "augment"), given["task"]
    others = AUGMENT_ONLY if rule == "recollect" else RECOLLECT_ONLY
    for name in others:
        if name in given:
            raise UserError(f"--{name.replace('_', '-')} is not an option of --rule {rule}")
    own = dict(RECOLLECT) if rule == "recollect" else {}
    own |= OF_TASK.get((rule, task), {})
    if given.get("policy", "max_boltzmann") != "max_boltzmann":
        own.pop("cooling", None)
    own["networks"] = RECOLLECT_NETWORKS if rule == "recollect" else DEFAULT_NETWORKS[task]
    parameters = own.get("task_parameters", {}) | given.get("task_parameters", {})
    return MemoryConfig(**own | given | {"task_parameters": dict(sorted(parameters.items()))})


def load(folder: Path) -> MemoryConfig | None:
    """Return the configuration of the run in ``folder``, None if there is none.

    Raises:
      UserError: it cannot be read.
    """
    path = folder / "config.json"
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_text())
        for name in ("feedbacks", "learning_rates", "tag_decays"):
            content[name] = tuple(content[name])
        if isinstance(content.get("leak"), list):
            content["leak"] = tuple(content["leak"])
        return MemoryConfig(**content)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{path} is no working-memory run ({error}): choose another --out"
        ) from None


def difference(saved: MemoryConfig, wanted: MemoryConfig) -> str:
    """Say in what two configurations differ; empty if in nothing."""
    there, here = saved.to_json(), wanted.to_json()
    return ", ".join(
        f"{k} {there[k]!r} there, {here[k]!r} here" for k in here if there[k] != here[k]
    )
