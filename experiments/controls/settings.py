"""What each control trains: the digits network of ``configs/digits.py``, with one thing changed.

Learning rates that differ between rules are compared by ``family``: of the settings of a family,
the one of the highest validation accuracy stands for it. The test set has no say.
"""

from dataclasses import dataclass
from typing import Any

from experiments import config as configs
from experiments.common.cli import UserError
from experiments.config import Config

TERMS = {
    "read-out alone learns": "only the output layer learns",
    "read-out": "output layer",
    "right choices rewarded": "correct choices rewarded",
}


def shown(label: str) -> str:
    """Return a label, or a question of an older summary, in the field's terms.

    Labels are keys of ``settings.jsonl``: another one would be another setting to resume.
    """
    for old, new in TERMS.items():
        label = label.replace(old, new)
    return label


@dataclass(frozen=True)
class Setting:
    """One line of a control's table: a rule, its configuration, a part of the data."""

    label: str
    rule: str
    config: Config
    family: str = ""  # settings of one family compete; by default each is a family of its own
    x: float | None = None  # where it stands on the picture's axis, for a swept parameter
    classes: int = 0  # only images of the first so many classes; 0: all
    train_images: int = 0  # only the first so many training images; 0: all

    @property
    def competes_with(self) -> str:
        """The family, or the setting's own label."""
        return self.family or self.label


@dataclass(frozen=True)
class Control:
    """A question, the settings that answer it, and how the answer is drawn."""

    question: str
    settings: tuple[Setting, ...]
    picture: str = "curves"  # or "sweep", against ``x``, "dots", a line of dots a setting, or
    # "discovery", accuracy by presented images and the accuracy of each class
    x_label: str = ""
    x_log: bool = False
    measure_angles: bool = False  # of update and feedback weights, every epoch


def identity(setting: Setting) -> dict[str, Any]:
    """Return what makes two settings the same run."""
    return {
        "rule": setting.rule,
        "config": configs.to_json(setting.config),
        "family": setting.competes_with,
    }


def identity_of_line(line: dict[str, Any]) -> dict[str, Any]:
    """Return the ``identity`` of the setting whose line of results this is."""
    config = configs.to_json(configs.from_json(line["config"]))
    return {"rule": line["rule"], "config": config, "family": line["family"]}


def names() -> tuple[str, ...]:
    """Return the names of all controls, the quick ones first."""
    return tuple(_CONTROLS)


def load(name: str, seeds: int | None, epochs: int | None) -> Control:
    """Return the control ``name``; ``seeds`` and ``epochs`` override those of its settings.

    Raises:
      UserError: an unknown name.
    """
    if name not in _CONTROLS:
        raise UserError(f"unknown control {name!r}; valid: {', '.join(_CONTROLS)}")
    given = {"seeds": seeds} if seeds else {}
    given |= {"epochs": epochs, "patience": epochs} if epochs else {}
    return _CONTROLS[name](given)


def _base(given: dict, epochs: int = 20, seeds: int = 3, config: str = "digits") -> Config:
    base = configs.replace(
        configs.load(config), {"epochs": epochs, "patience": epochs, "seeds": seeds}
    )
    return configs.replace(base, given)


def _setting(label: str, rule: str, base: Config, changes: dict | None = None, **options: object):
    return Setting(label, rule, configs.replace(base, changes or {}), **options)


def _reward(given: dict) -> Control:
    base = _base(given)
    return Control(
        "Is it the reward that teaches? Each choice gets the reward of another in the batch; "
        "and a reward for every choice (attention gates learning, the reward says nothing).",
        (
            _setting("right choices rewarded", "q_agrel", base),
            _setting("rewards shuffled", "q_agrel", base, {"reward": "shuffled"}),
            _setting("every choice rewarded", "q_agrel", base, {"reward": "always"}),
        ),
    )


def _attention(given: dict) -> Control:
    base = _base(given)
    settings = [_setting("q_agrel", "q_agrel", base)]
    for family, strength, rates in (
        ("RPE broadcast, c = 1", 1.0, (0.001, 0.01, 0.1)),
        ("RPE broadcast, c = 0.01", 0.01, (0.03, 0.1)),
    ):
        settings += [
            _setting(f"{family}, rate {rate:g}", "broadcast", base,
                     {"learning_rate": rate, "broadcast_strength": strength}, family=family)
            for rate in rates
        ]  # fmt: skip
    settings.append(
        _setting("read-out alone learns", "broadcast", base, {"broadcast_strength": 0.0})
    )
    return Control(
        "Is it the attention feedback that teaches? The reward-prediction error reaches every "
        "hidden unit alike (weight c), no feedback from the chosen unit; and c = 0, where only the "
        "output layer learns.",
        tuple(settings),
    )


def _baselines(given: dict) -> Control:
    base = _base(given)
    settings = [_setting("backprop", "backprop", base), _setting("q_agrel", "q_agrel", base)]
    for rule, noise_sd, rates in (
        ("reinforce", 0.1, (0.03, 0.1, 0.3)),
        ("stochastic_units", 0.3, (0.003, 0.01, 0.03, 0.1)),
        ("node_perturbation", 0.1, (0.001, 0.003, 0.01)),
    ):
        settings += [
            _setting(f"{rule}, rate {rate:g}", rule, base,
                     {"learning_rate": rate, "noise_sd": noise_sd}, family=rule)
            for rate in rates
        ]  # fmt: skip
    settings += [
        _setting(f"stochastic_units, σ 1, rate {rate:g}", "stochastic_units", base,
                 {"learning_rate": rate, "noise_sd": 1.0}, family="stochastic_units")
        for rate in (0.003, 0.01, 0.03)
    ]  # fmt: skip
    settings.append(
        _setting("read-out alone learns", "broadcast", base, {"broadcast_strength": 0.0})
    )
    return Control(
        "How far do rules come that send no structured feedback to hidden units (node "
        "perturbation, stochastic units), and REINFORCE through the network, that does?",
        tuple(settings),
    )


def _exploration(given: dict) -> Control:
    base = _base(given)
    settings = [
        _setting(f"max-Boltzmann, ε = {e:g}", "q_agrel", base, {"epsilon": e}, x=e)
        for e in (0.0, 0.02, 0.1, 1.0)
    ]
    settings += [
        _setting(f"softmax, T = {t:g}", "q_agrel", base, {"policy": "softmax", "temperature": t})
        for t in (0.1, 0.3)
    ]
    return Control(
        "How much exploration? ε of the max-Boltzmann policy at T = 1 (ε = 0: greedy; the papers: "
        "0.02), and a softmax policy at two temperatures T.",
        tuple(settings),
        picture="dots",
    )


def _classes(given: dict) -> Control:
    base = _base(given)
    return Control(
        "What does a larger number of actions cost? The first 2 to 10 classes of the digits.",
        tuple(
            _setting(f"{rule}, {n} classes", rule, base, family=rule, x=n, classes=n)
            for n in (2, 5, 10)
            for rule in ("q_agrel", "backprop")
        ),
        picture="sweep",
        x_label="number of classes",
    )


def _classes_tiny_imagenet100(given: dict) -> Control:
    base = _base(given, epochs=15, seeds=1, config="tiny_imagenet100_conv")
    base = configs.replace(
        base, {"initialisation": "he", "protocol": "clean", "learning_rate": 0.01, "batch_size": 32}
    )
    return Control(
        "What does a larger number of actions cost? The first 2 to 100 classes of "
        "tiny_imagenet100.",
        tuple(
            _setting(f"{rule}, {n} classes", rule, base, family=rule, x=n, classes=n)
            for n in (2, 5, 10, 20, 50, 100)
            for rule in ("q_agrel", "backprop")
        ),
        picture="sweep",
        x_label="number of classes",
        x_log=True,
    )


def _feedback(given: dict) -> Control:
    base = _base(given, epochs=25, seeds=5)
    decay, own = {"l2": 2e-3}, {"feedback": "kolen_pollack"}
    return Control(
        "Must feedback weights mirror forward weights? Per layer, the angle between the update and "
        "the true gradient of ½(r − q_s)², and between forward and feedback weights (nothing runs "
        "down from the first layer, whose feedback weights are therefore never used).",
        (
            _setting("tied", "q_agrel", base),
            _setting("reciprocal", "q_agrel", base, own),
            _setting("reciprocal, l2 0.002", "q_agrel", base, own | decay),
            _setting("tied, l2 0.002", "q_agrel", base, decay),
            _setting("sign", "q_agrel", base, {"feedback": "sign"}),
            _setting("random", "q_agrel", base, {"feedback": "random"}),
        ),
        measure_angles=True,
    )


def _batch(given: dict) -> Control:
    base = _base(given)
    rates = {1: (0.01, 0.03), 16: (0.1,), 128: (0.3,)}
    return Control(
        "Does it learn online, one image and one weight change at a time, as a brain does? Each "
        "batch size with one or two learning rates.",
        tuple(
            _setting(f"{rule}, batch {size}, rate {rate:g}", rule, base,
                     {"batch_size": size, "learning_rate": rate}, family=f"{rule}, batch {size}")
            for size in (16, 1, 128)
            for rule in ("q_agrel", "backprop")
            for rate in rates[size]
        ),
    )  # fmt: skip


_FAST = {
    "paper's N(0, 0.01²), rate 0.1": {"initialisation": "paper"},
    "He, rate 0.1": {},
    "He, rate 0.2": {"learning_rate": 0.2},
    "He, rate 0.3": {"learning_rate": 0.3},
    "He, optimistic (rewards 0, −1)": {"reward_right": 0.0, "reward_wrong": -1.0},
    "He, rewards 1, −1": {"reward_wrong": -1.0},
    "He, reward 3": {"reward_right": 3.0},
    "He, ε 0": {"epsilon": 0.0},
    "He, ε 0.1": {"epsilon": 0.1},
    "He, softmax T 0.1": {"policy": "softmax", "temperature": 0.1},
    "He, gain 3": {"positive_gain": 3.0},
    "He, gain 10": {"positive_gain": 10.0},
    "He, gain 3, rate 0.2": {"positive_gain": 3.0, "learning_rate": 0.2},
    "He, gain 3, softmax T 0.1": {"positive_gain": 3.0, "policy": "softmax", "temperature": 0.1},
    "He, momentum 0.9, rate 0.03": {"optimizer": "momentum", "learning_rate": 0.03},
    "He, RMSprop 0.001": {"optimizer": "rmsprop", "learning_rate": 0.001},
    "He, Adam 0.001": {"optimizer": "adam", "learning_rate": 0.001},
    "He, ε 0.1, rate 0.2": {"epsilon": 0.1, "learning_rate": 0.2},
    "He, softmax T 0.1, rate 0.2": {
        "policy": "softmax",
        "temperature": 0.1,
        "learning_rate": 0.2,
    },
    "He, softmax T 0.1, momentum 0.9, rate 0.03": {
        "policy": "softmax",
        "temperature": 0.1,
        "optimizer": "momentum",
        "learning_rate": 0.03,
    },
    "He, softmax T 0.1, Adam 0.001": {
        "policy": "softmax",
        "temperature": 0.1,
        "optimizer": "adam",
        "learning_rate": 0.001,
    },
    "He, Adam 0.001, gain 3": {"optimizer": "adam", "learning_rate": 0.001, "positive_gain": 3.0},
}
_FAST_BACKPROP = (
    "paper's N(0, 0.01²), rate 0.1",
    "He, rate 0.1",
    "He, rate 0.2",
    "He, rate 0.3",
    "He, momentum 0.9, rate 0.03",
    "He, RMSprop 0.001",
    "He, Adam 0.001",
)


def _fast(given: dict) -> Control:
    base = _base(given)
    settings = [
        _setting(f"backprop: {label}", "backprop", base, _FAST[label]) for label in _FAST_BACKPROP
    ]
    settings += [_setting(label, "q_agrel", base, changes) for label, changes in _FAST.items()]
    return Control(
        "What brings Q-AGREL's learning time nearest to backprop's at no loss of accuracy?",
        tuple(settings),
        picture="dots",
    )


def _fast_mnist(given: dict) -> Control:
    base = _base(given, epochs=10, seeds=2, config="mnist_dense")
    small = {"hidden": (300, 200, 100), "batch_size": 32}
    base = configs.replace(base, {"initialisation": "he", "protocol": "clean", **small})
    settings = [
        _setting(f"{prefix}{label}", rule, base, _FAST[label], train_images=12_000)
        for label in (
            "He, rate 0.1",
            "He, Adam 0.001",
            "He, softmax T 0.1, Adam 0.001",
            "paper's N(0, 0.01²), rate 0.1",
        )
        for rule, prefix in (("backprop", "backprop: "), ("q_agrel", ""))
        if rule == "q_agrel" or "softmax" not in label
    ]
    return Control(
        "Does it hold on MNIST? Dense 300 – 200 – 100, batch 32, the first 12,000 training images.",
        tuple(settings),
        picture="dots",
    )


def _fast_conv(given: dict) -> Control:
    base = _base(given, epochs=15, seeds=2)
    base = configs.replace(base, {"architecture": "conv", "hidden": None, "batch_size": 64})
    paper = {"initialisation": "paper"}
    adam = {"optimizer": "adam", "learning_rate": 0.001}
    settings = [
        _setting(f"{prefix}{label}", rule, base, changes)
        for rule, prefix in (("backprop", "backprop: "), ("q_agrel", ""))
        for label, changes in (
            ("paper's N(0, 0.005²), rate 0.1", paper),
            ("He, rate 0.01", {"learning_rate": 0.01}),
            ("He, rate 0.03", {"learning_rate": 0.03}),
            ("He, rate 0.1", {}),
            ("He, Adam 0.001", adam),
        )
    ]
    return Control(
        "And with convolutions and BatchNorm? The papers' conv network on the digits.",
        tuple(settings),
        picture="dots",
    )


_CURRICULUM_QUESTION = (
    "Many classes without the long wait: do classes that come one after another, the newest shown "
    "most often, shorten the way? A variant of ours (`qagrel_jax.curriculum`); an epoch is the "
    "same number of presented images with and without it."
)
_STARTS = {"papers' start": {"initialisation": "paper"}, "He start": {}}
_CURRICULUM = {"curriculum": "index"}


def _with_and_without(base: Config, **options: Any) -> list[Setting]:
    """Both rules, both starts, with the curriculum's defaults and without one."""
    prefix = f"{options['classes']} classes, " if options.get("classes") else ""
    return [
        _setting(f"{prefix}{rule}, {start}{', curriculum' if curriculum else ''}", rule, base,
                 changes | curriculum, **options)
        for start, changes in _STARTS.items()
        for rule in ("q_agrel", "backprop")
        for curriculum in ({}, _CURRICULUM)
    ]  # fmt: skip


def _curriculum(given: dict) -> Control:
    base = _base(given, epochs=60, seeds=3)
    settings = _with_and_without(base)
    paper = _STARTS["papers' start"] | _CURRICULUM
    settings += [
        _setting(f"q_agrel, papers' start, curriculum, {label}", "q_agrel", base, paper | changes)
        for label, changes in (
            ("no recency bias", {"curriculum_recency": 0.0}),
            ("new classes not explored", {"curriculum_exploration": 0.0}),
            ("open outputs", {"curriculum_outputs": "open"}),
            ("random order", {"curriculum": "random"}),
            ("two at a time", {"curriculum_step": 2}),
            ("θ 0.9", {"curriculum_threshold": 0.9}),
            ("θ 0.6", {"curriculum_threshold": 0.6}),
        )
    ]
    return Control(_CURRICULUM_QUESTION, tuple(settings), picture="discovery")


def _curriculum_mnist(given: dict) -> Control:
    base = _base(given, epochs=100, seeds=3, config="mnist_dense")
    base = configs.replace(base, {"initialisation": "he", "protocol": "clean"})
    return Control(_CURRICULUM_QUESTION, tuple(_with_and_without(base)), picture="discovery")


def _curriculum_tiny_imagenet100(given: dict) -> Control:
    base = _base(given, epochs=40, seeds=1, config="tiny_imagenet100_conv")
    base = configs.replace(base, {"initialisation": "he", "protocol": "clean"})
    settings = [
        setting for n in (2, 10, 50, 100) for setting in _with_and_without(base, x=n, classes=n)
    ]
    return Control(_CURRICULUM_QUESTION, tuple(settings), picture="discovery")


_CONTROLS = {
    "reward": _reward,
    "attention": _attention,
    "baselines": _baselines,
    "exploration": _exploration,
    "classes": _classes,
    "feedback": _feedback,
    "batch": _batch,
    "fast": _fast,
    "fast_conv": _fast_conv,
    "fast_mnist": _fast_mnist,
    "classes_tiny_imagenet100": _classes_tiny_imagenet100,
    "curriculum": _curriculum,
    "curriculum_mnist": _curriculum_mnist,
    "curriculum_tiny_imagenet100": _curriculum_tiny_imagenet100,
}

NEED_DATA = (
    "fast_mnist", "classes_tiny_imagenet100", "curriculum_mnist", "curriculum_tiny_imagenet100"
)  # fmt: skip
"""Controls on data that must be prepared first; they run only when named."""
