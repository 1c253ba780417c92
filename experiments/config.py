"""What an experiment is: a frozen record, a file a configuration, checked before anything runs."""

import dataclasses
import importlib.util
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from experiments.common.cli import UserError

CONFIGS = Path(__file__).resolve().parent / "configs"
DEFAULT = "digits"

RULES = ("q_agrel", "backprop")
CONTROL_RULES = ("agrel", "broadcast", "node_perturbation", "reinforce", "stochastic_units")
REWARDS = ("right", "shuffled", "always")
POLICIES = ("greedy", "epsilon_greedy", "softmax", "max_boltzmann")
FEEDBACKS = ("tied", "reciprocal", "random", "sign")
ARCHITECTURES = ("dense", "conv", "locally_connected", "deep")
INITIALISATIONS = ("he", "paper")
PROTOCOLS = ("clean", "paper")
LAST_BATCH = ("keep", "drop")
CURRICULA = ("off", "index", "random")
CURRICULUM_OUTPUTS = ("open", "masked")
SEEDS_BY = ("auto", "vmap", "map")
PRECISIONS = ("float32", "tensorfloat32", "bfloat16")
OPTIMIZERS = ("sgd", "momentum", "adam", "rmsprop", "lion")
"""Spelt out rather than imported, so that a wrong name is refused before JAX has loaded."""


def _one_of(names: tuple[str, ...], text: str, **extra: Any) -> Any:
    return field(metadata={"help": text, "choices": names}, **extra)


def _number(low: float, high: float, text: str, open_low: bool = False, **extra: Any) -> Any:
    return field(metadata={"help": text, "range": (low, high), "open_low": open_low}, **extra)


@dataclass(frozen=True)
class Config:
    """One experiment. Every field is also an option of ``python -m experiments.train``."""

    name: str
    dataset: str = field(metadata={"help": "digits, a TFDS name, or a folder in the data dir"})
    architecture: str = _one_of(ARCHITECTURES, "network")
    hidden: tuple[int, ...] | None = field(
        default=None, metadata={"help": "units of the dense net's layers, e.g. 300,200,100"}
    )
    rules: tuple[str, ...] = field(
        default=RULES,
        metadata={"help": "learning rules, comma-separated", "several": RULES + CONTROL_RULES},
    )
    feedback: str = _one_of(FEEDBACKS, "feedback pathway", default="tied")
    initialisation: str = _one_of(INITIALISATIONS, "how kernels are drawn", default="he")
    policy: str = _one_of(
        POLICIES,
        "action selection of q_agrel, broadcast, node_perturbation",
        default="max_boltzmann",
    )
    epsilon: float = _number(0, 1, "probability of exploring", default=0.02)
    temperature: float = _number(0, 1e9, "softmax temperature", open_low=True, default=1.0)
    reward: str = _one_of(
        REWARDS, "what is paid: right choices, those of others in the batch, or any choice",
        default="right",
    )  # fmt: skip
    reward_right: float = _number(-1e9, 1e9, "the reward of a right choice", default=1.0)
    reward_wrong: float = _number(
        -1e9, 1e9, "of a wrong one; right 1-c and wrong -c is the same as Q values that start at c",
        default=0.0,
    )  # fmt: skip
    positive_gain: float = _number(
        0, 1e9, "weighs positive reward-prediction errors of q_agrel", open_low=True, default=1.0
    )
    noise_sd: float = _number(
        0, 1e9, "of the units of node_perturbation and stochastic_units", open_low=True, default=0.1
    )
    broadcast_strength: float = _number(
        -1e9, 1e9, "what broadcast gives hidden units in place of attention", default=1.0
    )
    optimizer: str = _one_of(OPTIMIZERS, "optax optimiser", default="sgd")
    learning_rate: float = _number(0, 1e9, "step size", open_low=True, default=0.1)
    halve_every: int = _number(0, 10**9, "halve the learning rate so often, epochs; 0: never",
                               default=100)  # fmt: skip
    l2: float = _number(0, 1e9, "c in the penalty c·Σw² on kernels", default=0.0)
    batch_size: int = _number(1, 10**9, "examples a step", default=128)
    last_batch: str = _one_of(
        LAST_BATCH,
        "the incomplete last batch of an epoch is trained on (keep) or left out (drop)",
        default="keep",
    )
    epochs: int = _number(1, 10**9, "at most", default=500)
    patience: int = _number(1, 10**9, "stop after so many epochs without a gain", default=45)
    min_gain: float = _number(0, 1, "a gain, as a fraction", default=0.001)
    protocol: str = _one_of(
        PROTOCOLS,
        "clean: a validation split picks the epoch; paper: the test set does",
        default="clean",
    )
    validation_fraction: float = _number(
        0, 0.9, "of the training set, protocol clean", open_low=True, default=0.1
    )
    seeds: int = _number(1, 10**6, "how many networks of each rule", default=10)
    first_seed: int = _number(0, 2**31 - 1, "seeds are first_seed, first_seed + 1, ...", default=0)
    criterion: float = _number(
        0, 1, "fraction of backprop's final accuracy to reach", open_low=True, default=0.98
    )
    curriculum: str = _one_of(
        CURRICULA,
        "classes come one after another (a variant), by index or in an order of each seed's own",
        default="off",
    )
    curriculum_threshold: float = _number(
        0, 1, "right choices on the active classes at which the next ones come", default=0.8
    )
    curriculum_start: int = _number(1, 10**6, "classes active from the start", default=2)
    curriculum_step: int = _number(1, 10**6, "so many come at a time", default=1)
    curriculum_window: int = _number(1, 10**9, "batches over which choices are counted", default=20)
    curriculum_recency: float = _number(
        0, 1e9, "how much more often the newest class is shown; 0: no recency bias", default=4.0
    )
    curriculum_decay: float = _number(
        0, 1, "what is left of that each time that others come", default=0.5
    )
    curriculum_max_wait: int = _number(
        0, 10**9, "batches after which the next classes come anyway; 0: never", default=0
    )
    curriculum_outputs: str = _one_of(
        CURRICULUM_OUTPUTS,
        "whether classes that are not active can be chosen (open) or not (masked)",
        default="masked",
    )
    precision: str = _one_of(PRECISIONS, "of the computation", default="float32")
    seeds_by: str = _one_of(
        SEEDS_BY,
        "seeds of a device side by side (vmap) or one after the other (map, less memory); "
        "auto is map on a CPU, else vmap",
        default="auto",
    )

    def __post_init__(self) -> None:
        for entry in dataclasses.fields(self):
            _check(entry, getattr(self, entry.name))
        if self.reward == "shuffled" and self.batch_size < 2:
            raise UserError("--reward shuffled needs a --batch-size of at least 2")
        if self.hidden is not None and self.architecture != "dense":
            raise UserError(f"--hidden goes with the dense architecture, not {self.architecture}")
        if self.hidden is not None and (not self.hidden or min(self.hidden) < 1):
            raise UserError(f"--hidden needs one or more sizes of at least 1, got {self.hidden}")

    def epoch_of(self, examples: int) -> tuple[int, int]:
        """Return the steps of an epoch over so many training examples, and the images it shows."""
        full, rest = divmod(examples, self.batch_size)
        if rest and self.last_batch == "keep":
            return full + 1, examples
        return full, full * self.batch_size


def load(name: str) -> Config:
    """Load ``experiments/configs/<name>.py``, or the path of a file of the same kind.

    Raises:
      UserError: no such configuration (lists those there are), or a file without ``config``.
    """
    path = Path(name) if name.endswith(".py") else CONFIGS / f"{name}.py"
    if not path.is_file():
        raise UserError(f"unknown config {name!r}; valid: {', '.join(names())}")
    specification = importlib.util.spec_from_file_location(f"config_{path.stem}", path)
    module = importlib.util.module_from_spec(specification)
    try:
        specification.loader.exec_module(module)
    except Exception as error:
        raise UserError(f"config {path}: {error}") from error
    if not isinstance(getattr(module, "config", None), Config):
        raise UserError(f"config {path} does not define `config = Config(...)`")
    return module.config


def names() -> list[str]:
    """Return the names of all configurations."""
    return sorted(path.stem for path in CONFIGS.glob("*.py") if not path.stem.startswith("_"))


def to_json(config: Config) -> dict[str, Any]:
    """Return ``config`` as a JSON-ready dictionary."""
    return json.loads(json.dumps(dataclasses.asdict(config)))


def from_json(content: Mapping[str, Any]) -> Config:
    """Return the ``Config`` that ``to_json`` wrote.

    One that does not name ``last_batch`` is of a version that left it out.

    Raises:
      UserError: fields missing, unknown or out of range.
    """
    try:
        content = {"last_batch": "drop", **content}
        return Config(**{k: tuple(v) if isinstance(v, list) else v for k, v in content.items()})
    except TypeError as error:
        raise UserError(f"not a config of this version: {error}") from None


def replace(config: Config, changes: Mapping[str, Any]) -> Config:
    """Return ``config`` with ``changes``, checked again."""
    return dataclasses.replace(config, **changes)


def _check(entry: dataclasses.Field, value: Any) -> None:
    metadata = entry.metadata
    option = "--" + entry.name.replace("_", "-")
    if "choices" in metadata and value not in metadata["choices"]:
        raise UserError(f"unknown {entry.name} {value!r}; valid: {', '.join(metadata['choices'])}")
    if "several" in metadata:
        for one in value:
            if one not in metadata["several"]:
                raise UserError(f"unknown rule {one!r}; valid: {', '.join(metadata['several'])}")
        if not value or len(set(value)) < len(value):
            raise UserError(f"{option} needs one or more different names, got {value}")
    if "range" in metadata:
        low, high = metadata["range"]
        above = value > low if metadata["open_low"] else value >= low
        if not (above and value <= high):
            bracket = "(" if metadata["open_low"] else "["
            raise UserError(f"{option} must be in {bracket}{low}, {high}], got {value}")
