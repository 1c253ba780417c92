"""Controls of learning time: start, learning rate, optimizer, exploration, reward."""

from typing import Any

from experiments import config as configs
from experiments.controls.settings import Control, make_base, setting

CHANGES: dict[str, dict[str, Any]] = {
    "paper's N(0, 0.01²), rate 0.1": {"initialization": "paper"},
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
BACKPROP = (
    "paper's N(0, 0.01²), rate 0.1",
    "He, rate 0.1",
    "He, rate 0.2",
    "He, rate 0.3",
    "He, momentum 0.9, rate 0.03",
    "He, RMSprop 0.001",
    "He, Adam 0.001",
)


def fast(given: dict[str, Any]) -> Control:
    """Everything that may shorten Q-AGREL\'s learning time, on the digits."""
    base = make_base(given)
    settings = [
        setting(f"backprop: {label}", "backprop", base, CHANGES[label]) for label in BACKPROP
    ]
    settings += [setting(label, "q_agrel", base, changes) for label, changes in CHANGES.items()]
    return Control(
        "What brings Q-AGREL's learning time nearest to backprop's at no loss of accuracy?",
        tuple(settings),
        picture="dots",
    )


def fast_mnist(given: dict[str, Any]) -> Control:
    """The best of it on MNIST."""
    base = make_base(given, epochs=10, seeds=2, config="mnist_dense")
    small = {"hidden": (300, 200, 100), "batch_size": 32}
    base = configs.replace(base, {"initialization": "he", "protocol": "clean", **small})
    settings = [
        setting(f"{prefix}{label}", rule, base, CHANGES[label], train_images=12_000)
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


def fast_conv(given: dict[str, Any]) -> Control:
    """Learning rates and Adam for the papers\' conv network, on the digits."""
    base = make_base(given, epochs=15, seeds=2)
    base = configs.replace(base, {"architecture": "conv", "hidden": None, "batch_size": 64})
    paper = {"initialization": "paper"}
    adam = {"optimizer": "adam", "learning_rate": 0.001}
    settings = [
        setting(f"{prefix}{label}", rule, base, changes)
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
