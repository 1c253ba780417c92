"""Which rules are measured, on whose weights, and what a run of the command is."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from experiments import config as configs
from experiments.config import Config

OBJECTIVES = ("cross_entropy", "prediction_error", "expected_reward")
"""As in ``qagrel_jax.update_statistics.objective_gradients``."""

WEIGHTS = ("common", "own")
TEACHER = "q_agrel"
"""The rule that trains the common weights."""


@dataclass(frozen=True)
class MeasuredRule:
    """A learning rule, and what of the configuration it changes."""

    rule: str
    objective: str  # one of ``OBJECTIVES``: what it descends on average, or means to
    changes: dict[str, Any] = field(default_factory=dict)
    enumerable: bool = True  # False: noise of its own, which must be sampled

    @property
    def feedback(self) -> str:
        """The kind of feedback pathway."""
        return self.changes.get("feedback", "tied")


# Learning rates matter to the rule's own training alone: those that the controls `baselines` and
# `attention` chose on the digits' validation split.
RULES = {
    "backprop": MeasuredRule("backprop", "cross_entropy"),
    "q_agrel": MeasuredRule("q_agrel", "prediction_error"),
    "agrel": MeasuredRule("agrel", "cross_entropy"),
    "reinforce": MeasuredRule("reinforce", "expected_reward"),
    "broadcast": MeasuredRule("broadcast", "prediction_error", {"broadcast_strength": 0.01}),
    "node_perturbation": MeasuredRule(
        "node_perturbation", "prediction_error", {"learning_rate": 0.003}, enumerable=False
    ),
    "stochastic_units": MeasuredRule(
        "stochastic_units",
        "expected_reward",
        {"learning_rate": 0.003, "noise_sd": 0.3},
        enumerable=False,
    ),
    "feedback_alignment": MeasuredRule("backprop", "cross_entropy", {"feedback": "random"}),
    "q_agrel_random_feedback": MeasuredRule("q_agrel", "prediction_error", {"feedback": "random"}),
}


@dataclass(frozen=True)
class Plan:
    """What one run of the command measures."""

    config: Config
    rules: tuple[str, ...] = tuple(RULES)
    weights: str = "common"
    stages: tuple[int, ...] = (0, 1, 5, 20)  # epochs of training
    classes: tuple[int, ...] = (0,)  # number of classes, the first ones; 0: all
    batch_sizes: tuple[int, ...] = (16,)
    images: int = 0  # number of training images, the first ones; 0: all
    samples: int = 1000  # batches, where actions are not enumerated
    groups: int = 10  # into which they are divided for standard errors
    method: str = "exact"  # or "sampled"

    def trainer_of(self, label: str) -> str:
        """Return the rule on whose weights ``label`` is measured.

        Random feedback is worth nothing on weights that have never learned with it, so that these
        rules are measured on weights of their own, whatever ``weights`` says.
        """
        tied = RULES[label].feedback == "tied"
        return TEACHER if tied and self.weights == "common" else label

    @property
    def samples_a_group(self) -> int:
        """Batches of a group, at least 2."""
        return max(2, -(-self.samples // self.groups))

    def config_of(self, label: str) -> Config:
        """Return the configuration that trains ``label``."""
        last = max(1, *self.stages)
        changes = {"epochs": last, "patience": last, "rules": (RULES[label].rule,)}
        return configs.replace(self.config, changes | RULES[label].changes)


def misfits(options: Mapping[str, Any]) -> str:
    """Say which of a saved plan's ``options`` are none, or of another type; empty if all fit."""
    defaults = {f.name: f.default for f in dataclasses.fields(Plan) if f.name != "config"}

    def fits(name: str, value: Any) -> bool:
        default = defaults.get(name)
        if isinstance(default, tuple) and isinstance(value, tuple):
            return all(type(item) is type(default[0]) for item in value)
        return type(value) is type(default)

    return ", ".join(f"{k} {v!r}" for k, v in options.items() if not fits(k, v))


def to_json(plan: Plan) -> dict[str, Any]:
    """Return ``plan`` as a JSON-ready dictionary."""
    content = dataclasses.asdict(plan) | {"config": configs.to_json(plan.config)}
    return {k: list(v) if isinstance(v, tuple) else v for k, v in content.items()}
