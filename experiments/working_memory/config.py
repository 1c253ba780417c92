"""What a working-memory run is: a frozen record, checked before anything slow is imported."""

import dataclasses
import itertools
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.common import fields, files
from experiments.common.cli import UserError
from experiments.common.names import FEEDBACK_ALIASES

FILE = "config.json"
TASKS = (
    *("saccade", "match_to_category", "probabilistic", "vibrotactile"),
    *("twelve_ax", "reversal_bandit"),
    *("match_to_sample", "twelve_ax_levels"),
)
RULES = ("augment", "recollect", "workmate")
POLICIES = ("max_boltzmann", "epsilon_greedy")
SLOPES = ("published", "corrected")
FEEDBACKS = ("tied", "kolen_pollack")
"""Spelled out rather than imported, so that a wrong name is refused before JAX has loaded."""

DEFAULT_NETWORKS = {
    "saccade": 1000,
    "match_to_category": 100,
    "probabilistic": 10,
    "vibrotactile": 100,
    "twelve_ax": 100,
    "reversal_bandit": 100,
    "match_to_sample": 100,
    "twelve_ax_levels": 100,
}
OTHER_RULES_NETWORKS = 100
RECOLLECT: dict[str, Any] = {
    "learning_rates": (0.1,),
    "tag_decays": (0.4,),
    "memory": 7,
    "policy": "epsilon_greedy",
    "threshold": 0.0,
}
"""Where RECOLLECT differs from AuGMEnT (van den Berg, Roelfsema & Bohte 2024)."""
WORKMATE: dict[str, Any] = {"tag_decays": (0.8,), "regular": 15, "memory": 30}
"""The same of WorkMATe (Kruijne, Bohte, Roelfsema & Olivers 2021)."""
OF_RULE = {"augment": {}, "recollect": RECOLLECT, "workmate": WORKMATE}
OF_TASK: dict[tuple[str, str], dict[str, Any]] = {
    ("recollect", "saccade"): {"task_parameters": {"blank_steps": 0}},
    ("augment", "twelve_ax"): {
        "feedbacks": ("kolen_pollack",),
        "tag_decays": (0.15,),
        "regular": 10,
        "memory": 20,
        "weight_range": 0.5,
        "threshold": 0.0,
        "bias": False,
        "cooling": 2000,
    },
}
"""Where a task has parameters of its own; 12AX: Martinolli, Gerstner & Gilra (2018)."""
OPTIONS_OF = {
    "leak": ("augment",),
    "regular": ("augment", "workmate"),
    "substeps": ("augment",),
    "bias": ("augment",),
    "slope": ("recollect",),
    "end_input": ("recollect",),
    "blocks": ("workmate",),
    "time_cells": ("workmate",),
}
"""Options that not all rules have."""
GRID_NETWORKS = 20
GRID_LEARNING_RATES = (0.05, 0.15, 0.3, 0.6)
GRID_TAG_DECAYS = (0.0, 0.2, 0.5, 0.8)

_NETWORKS, _TASK = "the networks", "the task"
_TASKS_OWN = "the task's own"


@dataclass(frozen=True)
class MemoryConfig:
    """One population run; with several feedbacks, learning rates or tag decays, a grid of them.

    Attributes:
      task: a name in ``TASKS``.
      networks: networks for each setting.
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
      bias: whether AuGMEnT's regular and Q units have one.
      slope: of RECOLLECT's derivatives, a name in ``SLOPES``.
      end_input: whether RECOLLECT has an input that tells that a trial has ended.
      leak: of the memory; 1 is AuGMEnT. Several: the memory units have them in equal shares.
      regular: number of regular units.
      memory: number of memory units; WorkMATe's of all blocks.
      blocks: of WorkMATe's memory.
      time_cells: inputs that tell WorkMATe which step of a trial it is.
      substeps: of each action; more than 1 is a variant, see ``rules.augment_continuous``.
      retest_after: training trials from a failed frozen test to the next; None for the task's own.
      task_parameters: values that differ from the task's defaults, sorted by name.
    """

    task: str = fields.choice(TASKS)
    networks: int = fields.number(
        1,
        1_000_000,
        "how many for each setting of feedback, learning rate and tag decay",
        default_is=", ".join(f"{task} {n}" for task, n in DEFAULT_NETWORKS.items())
        + f"; other rules {OTHER_RULES_NETWORKS}; --grid, several learning rates or tag decays "
        f"{GRID_NETWORKS}",
    )
    max_trials: int | None = fields.number(
        1,
        1_000_000_000,
        "training trials after which a network gives up",
        default=None,
        default_is=_TASKS_OWN,
    )
    seed: int = fields.number(0, 2**31 - 1, "all randomness follows from it", default=0)
    feedbacks: tuple[str, ...] = fields.choices(
        "feedback",
        FEEDBACKS,
        "feedback pathway, one or both",
        aliases=FEEDBACK_ALIASES,
        group=_NETWORKS,
        option="--feedback",
        default=("tied",),
        default_is="tied; 12AX kolen_pollack",
    )
    learning_rates: tuple[float, ...] = fields.number(
        0,
        100,
        "beta",
        group=_NETWORKS,
        option="--learning-rate",
        default=(0.15,),
        default_is="0.15; RECOLLECT 0.1",
    )
    tag_decays: tuple[float, ...] = fields.number(
        0,
        1,
        "lambda",
        group=_NETWORKS,
        option="--tag-decay",
        default=(0.2,),
        default_is="0.2; 12AX 0.15, RECOLLECT 0.4, WorkMATe 0.8",
    )
    rule: str = fields.choice(RULES, "learning rule", group=_NETWORKS, default="augment")
    policy: str = fields.choice(
        POLICIES,
        "how to explore",
        group=_NETWORKS,
        default="max_boltzmann",
        default_is="max_boltzmann; RECOLLECT epsilon_greedy, which draws uniformly",
    )
    exploration: float = fields.number(
        0, 1, "probability of exploring", group=_NETWORKS, default=0.025
    )
    cooling: int = fields.number(0, 1_000_000_000, default=0)
    weight_range: float = fields.number(0, 1e6, default=0.25)
    threshold: float = fields.number(-1e6, 1e6, default=2.5)
    bias: bool = fields.switch(
        "whether AuGMEnT's regular and Q units have one",
        group=_NETWORKS,
        default=True,
        default_is="yes; 12AX no",
    )
    slope: str = fields.choice(
        SLOPES,
        "of RECOLLECT's derivatives, published ones lacking a factor of 2",
        group=_NETWORKS,
        default="published",
    )
    end_input: bool = fields.flag(
        True, "RECOLLECT with an input that tells that a trial has ended", group=_NETWORKS
    )
    leak: float | tuple[float, ...] = fields.number(
        0,
        1,
        "memory kept each step; 1: all. Several: for equal shares of the memory units",
        group=_NETWORKS,
        default=1.0,
    )
    regular: int = fields.number(
        1,
        10_000,
        "regular units",
        group=_NETWORKS,
        default=3,
        default_is="3; 12AX 10, WorkMATe 15",
    )
    memory: int = fields.number(
        1,
        10_000,
        "memory units; of WorkMATe a multiple of --blocks",
        group=_NETWORKS,
        default=4,
        default_is="4; 12AX 20, RECOLLECT 7, WorkMATe 30",
    )
    blocks: int = fields.number(
        1, 10_000, "that WorkMATe's memory units are divided into", group=_NETWORKS, default=2
    )
    time_cells: int = fields.number(
        0,
        10_000,
        "inputs that tell WorkMATe which step of the trial it is",
        group=_NETWORKS,
        default=20,
    )
    substeps: int = fields.number(
        1,
        1000,
        "a variant: learn in N steps of T/N while each action lasts for T; 1: AuGMEnT",
        group=_NETWORKS,
        default=1,
    )
    retest_after: int | None = fields.number(
        1,
        2**31 - 1,
        "training trials from a failed frozen test to the next",
        group=_TASK,
        default=None,
        default_is=_TASKS_OWN,
    )
    task_parameters: dict[str, Any] = fields.text(option="--set", default_factory=dict)

    def __post_init__(self) -> None:
        if isinstance(self.feedbacks, tuple):
            known = tuple(FEEDBACK_ALIASES.get(str(name), name) for name in self.feedbacks)
            object.__setattr__(self, "feedbacks", known)
        fields.check(self)

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
    for name, rules in OPTIONS_OF.items():
        if name in given and rule not in rules:
            raise UserError(f"--{name.replace('_', '-')} is not an option of --rule {rule}")
    own: dict[str, Any] = dict(OF_RULE[rule])
    own |= OF_TASK.get((rule, task), {})
    if given.get("policy", "max_boltzmann") != "max_boltzmann":
        own.pop("cooling", None)
    own["networks"] = DEFAULT_NETWORKS[task] if rule == "augment" else OTHER_RULES_NETWORKS
    if any(len(given.get(name, ())) > 1 for name in ("learning_rates", "tag_decays")):
        own["networks"] = GRID_NETWORKS
    parameters = own.get("task_parameters", {}) | given.get("task_parameters", {})
    return MemoryConfig(**own | given | {"task_parameters": dict(sorted(parameters.items()))})


NO_SETTINGS = ("seed", "networks", "max_trials", "retest_after", "cooling")
"""Fields that leave the rule and the task as they are."""


def changed(rule: str, task: str, config: dict[str, Any], told: tuple[str, ...] = ()) -> list[str]:
    """Name the settings in ``config`` that are not the rule's and task's own, nor ``told``.

    The task's parameters come last, unless "task_parameters" are ``told``.
    """
    own = complete({"rule": rule, "task": task}).to_json()
    apart = (*told, *NO_SETTINGS, "task_parameters")
    found = {name: config.get(name, value) for name, value in own.items() if name not in apart}
    parameters = config.get("task_parameters", {}) if "task_parameters" not in told else {}
    usual = own | own["task_parameters"]
    return [
        f"{name} {fields.shown(tuple(value) if isinstance(value, list) else value)}"
        for name, value in (*found.items(), *parameters.items())
        if usual.get(name) != value
    ]


def load(folder: Path) -> MemoryConfig:
    """Return the configuration of the run in ``folder``.

    Raises:
      UserError: it cannot be read.
    """
    path = folder / FILE
    content = files.read_json(path)
    try:
        fields.check_names(MemoryConfig, content or {})
        return MemoryConfig(**fields.as_given(content or {}))
    except (TypeError, UserError) as error:
        raise UserError(
            f"{path} is no working-memory run ({error}): choose another --out"
        ) from None
