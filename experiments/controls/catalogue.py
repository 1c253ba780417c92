"""All controls by name: the digits network of ``configs/digits.py``, with one thing changed."""

from typing import Any

from experiments import config as configs
from experiments.common.cli import UserError
from experiments.controls import curriculum, learning_speed
from experiments.controls.settings import Control, make_base, setting


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


def _reward(given: dict[str, Any]) -> Control:
    base = make_base(given)
    return Control(
        "Does learning depend on the reward? Each choice gets the reward of another in the batch; "
        "and a reward for every choice (attention gates learning, the reward says nothing).",
        (
            setting("right choices rewarded", "q_agrel", base),
            setting("rewards shuffled", "q_agrel", base, {"reward": "shuffled"}),
            setting("every choice rewarded", "q_agrel", base, {"reward": "always"}),
        ),
    )


def _attention(given: dict[str, Any]) -> Control:
    base = make_base(given)
    settings = [setting("q_agrel", "q_agrel", base)]
    for family, strength, rates in (
        ("RPE broadcast, c = 1", 1.0, (0.001, 0.01, 0.1)),
        ("RPE broadcast, c = 0.01", 0.01, (0.03, 0.1)),
    ):
        for rate in rates:
            changes = {"learning_rate": rate, "broadcast_strength": strength}
            label = f"{family}, rate {rate:g}"
            settings.append(setting(label, "broadcast", base, changes, family=family))
    settings.append(
        setting("read-out alone learns", "broadcast", base, {"broadcast_strength": 0.0})
    )
    return Control(
        "Does learning depend on attention feedback? The reward-prediction error reaches every "
        "hidden unit alike (weight c), no feedback from the chosen unit; and c = 0, where only the "
        "output layer learns.",
        tuple(settings),
    )


def _baselines(given: dict[str, Any]) -> Control:
    base = make_base(given)
    settings = [setting("backprop", "backprop", base), setting("q_agrel", "q_agrel", base)]
    for rule, noise_sd, rates in (
        ("reinforce", 0.1, (0.03, 0.1, 0.3)),
        ("stochastic_units", 0.3, (0.003, 0.01, 0.03, 0.1)),
        ("node_perturbation", 0.1, (0.001, 0.003, 0.01)),
    ):
        for rate in rates:
            changes = {"learning_rate": rate, "noise_sd": noise_sd}
            settings.append(setting(f"{rule}, rate {rate:g}", rule, base, changes, family=rule))
    rule = "stochastic_units"
    for rate in (0.003, 0.01, 0.03):
        changes = {"learning_rate": rate, "noise_sd": 1.0}
        label = f"{rule}, σ 1, rate {rate:g}"
        settings.append(setting(label, rule, base, changes, family=rule))
    settings.append(
        setting("read-out alone learns", "broadcast", base, {"broadcast_strength": 0.0})
    )
    return Control(
        "How far do rules come that send no structured feedback to hidden units (node "
        "perturbation, stochastic units), and REINFORCE through the network, that does?",
        tuple(settings),
    )


def _exploration(given: dict[str, Any]) -> Control:
    base = make_base(given)
    settings = [
        setting(f"max-Boltzmann, ε = {e:g}", "q_agrel", base, {"epsilon": e}, x=e)
        for e in (0.0, 0.02, 0.1, 1.0)
    ]
    settings += [
        setting(f"softmax, T = {t:g}", "q_agrel", base, {"policy": "softmax", "temperature": t})
        for t in (0.1, 0.3)
    ]
    return Control(
        "How much exploration? ε of the max-Boltzmann policy at T = 1 (ε = 0: greedy; the papers: "
        "0.02), and a softmax policy at two temperatures T.",
        tuple(settings),
        picture="dots",
    )


def _classes(given: dict[str, Any]) -> Control:
    base = make_base(given)
    return Control(
        "What does a larger number of actions cost? The first 2 to 10 classes of the digits.",
        tuple(
            setting(f"{rule}, {n} classes", rule, base, family=rule, x=n, classes=n)
            for n in (2, 5, 10)
            for rule in ("q_agrel", "backprop")
        ),
        picture="sweep",
        x_label="number of classes",
    )


def _classes_tiny_imagenet100(given: dict[str, Any]) -> Control:
    base = make_base(given, epochs=15, seeds=1, config="tiny_imagenet100_conv")
    base = configs.replace(
        base, {"initialization": "he", "protocol": "clean", "learning_rate": 0.01, "batch_size": 32}
    )
    return Control(
        "What does a larger number of actions cost? The first 2 to 100 classes of "
        "tiny_imagenet100.",
        tuple(
            setting(f"{rule}, {n} classes", rule, base, family=rule, x=n, classes=n)
            for n in (2, 5, 10, 20, 50, 100)
            for rule in ("q_agrel", "backprop")
        ),
        picture="sweep",
        x_label="number of classes",
        x_log=True,
    )


def _feedback(given: dict[str, Any]) -> Control:
    base = make_base(given, epochs=25, seeds=5)
    decay, own = {"l2": 2e-3}, {"feedback": "kolen_pollack"}
    return Control(
        "Must feedback weights mirror forward weights? Per layer, the angle between the update and "
        "the true gradient of ½(r − q_s)², and between forward and feedback weights (nothing runs "
        "down from the first layer, whose feedback weights are therefore never used).",
        (
            setting("tied", "q_agrel", base),
            setting("reciprocal", "q_agrel", base, own),
            setting("reciprocal, l2 0.002", "q_agrel", base, own | decay),
            setting("tied, l2 0.002", "q_agrel", base, decay),
            setting("sign", "q_agrel", base, {"feedback": "sign"}),
            setting("random", "q_agrel", base, {"feedback": "random"}),
        ),
        measure_angles=True,
    )


def _batch(given: dict[str, Any]) -> Control:
    base = make_base(given)
    rates = {1: (0.01, 0.03), 16: (0.1,), 128: (0.3,)}
    settings = []
    for size in (16, 1, 128):
        for rule in ("q_agrel", "backprop"):
            for rate in rates[size]:
                changes = {"batch_size": size, "learning_rate": rate}
                family = f"{rule}, batch {size}"
                label = f"{family}, rate {rate:g}"
                settings.append(setting(label, rule, base, changes, family=family))
    return Control(
        "Does it learn online, one image and one weight change at a time, as a brain does? Each "
        "batch size with one or two learning rates.",
        tuple(settings),
    )


_CONTROLS = {
    "reward": _reward,
    "attention": _attention,
    "baselines": _baselines,
    "exploration": _exploration,
    "classes": _classes,
    "feedback": _feedback,
    "batch": _batch,
    "fast": learning_speed.fast,
    "fast_conv": learning_speed.fast_conv,
    "fast_mnist": learning_speed.fast_mnist,
    "classes_tiny_imagenet100": _classes_tiny_imagenet100,
    "curriculum": curriculum.curriculum,
    "curriculum_mnist": curriculum.curriculum_mnist,
    "curriculum_tiny_imagenet100": curriculum.curriculum_tiny_imagenet100,
    "curriculum_50_classes": curriculum.curriculum_50_classes,
}

NEED_DATA = (
    "fast_mnist",
    "classes_tiny_imagenet100",
    "curriculum_mnist",
    "curriculum_tiny_imagenet100",
    "curriculum_50_classes",
)
"""Controls on data that must be prepared first; they run only when named."""
