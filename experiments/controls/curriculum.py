"""Controls of the class curriculum."""

from typing import Any

from experiments import config as configs
from experiments.config import Config
from experiments.controls.settings import Control, Setting, make_base, setting

QUESTION = (
    "Does a curriculum that adds classes one at a time, and shows the newest most often, speed up "
    "learning? A variant of ours (`qagrel_jax.curriculum`); an epoch is the "
    "same number of presented images with and without it."
)
STARTS: dict[str, dict[str, Any]] = {"papers' start": {"initialization": "paper"}, "He start": {}}
CURRICULUM: dict[str, Any] = {"curriculum": "index"}


def _with_and_without(
    base: Config, more: dict[str, dict[str, Any]] | None = None, **options: Any
) -> list[Setting]:
    """Both rules, both starts, without a curriculum, with its defaults, and with ``more``."""
    prefix = f"{options['classes']} classes, " if options.get("classes") else ""
    curricula = {"": {}, ", curriculum": CURRICULUM} | (more or {})
    return [
        setting(f"{prefix}{rule}, {start}{suffix}", rule, base, changes | curriculum, **options)
        for start, changes in STARTS.items()
        for rule in ("q_agrel", "backprop")
        for suffix, curriculum in curricula.items()
    ]


def curriculum(given: dict[str, Any]) -> Control:
    """The curriculum and its variants on the digits."""
    base = make_base(given, epochs=60, seeds=3)
    settings = _with_and_without(base)
    paper = STARTS["papers' start"] | CURRICULUM
    settings += [
        setting(f"q_agrel, papers' start, curriculum, {label}", "q_agrel", base, paper | changes)
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
    return Control(QUESTION, tuple(settings), picture="discovery")


def curriculum_mnist(given: dict[str, Any]) -> Control:
    """The curriculum on MNIST."""
    base = make_base(given, epochs=100, seeds=3, config="mnist_dense")
    base = configs.replace(base, {"initialization": "he", "protocol": "clean"})
    return Control(QUESTION, tuple(_with_and_without(base)), picture="discovery")


def curriculum_tiny_imagenet100(given: dict[str, Any]) -> Control:
    """The curriculum on 2 to 100 classes."""
    base = make_base(given, epochs=40, seeds=1, config="tiny_imagenet100_conv")
    base = configs.replace(base, {"initialization": "he", "protocol": "clean"})
    settings = []
    for n in (2, 10, 50, 100):
        settings += _with_and_without(base, _by_groups(n) if n > 2 else None, x=n, classes=n)
    return Control(QUESTION, tuple(settings), picture="discovery")


def curriculum_50_classes(given: dict[str, Any]) -> Control:
    """The curriculum by groups on 50 classes, from the papers' start, for longer."""
    base = make_base(given, epochs=60, seeds=1, config="tiny_imagenet100_conv")
    base = configs.replace(base, {"initialization": "paper", "protocol": "clean"})
    curricula: dict[str, dict[str, Any]] = {"": {}} | _by_groups(50)
    settings = [
        setting(f"{rule}, papers' start{suffix}", rule, base, changes, classes=50)
        for suffix, changes in curricula.items()
        for rule in ("q_agrel", "backprop")
    ]
    return Control(
        "Does a curriculum that adds five classes at a time speed up the learning of 50 classes? "
        "An epoch is the same number of presented images with and without it.",
        tuple(settings),
        picture="discovery",
    )


def _by_groups(classes: int) -> dict[str, dict[str, Any]]:
    """Groups of a tenth of the classes, each for little more than an epoch at most.

    The images of a single class change the same weights, which Q-AGREL's rate of 0.1 does not bear.
    """
    size = max(2, classes // 10)
    groups = {"curriculum_start": size, "curriculum_step": size, "curriculum_max_wait": 4 * classes}
    return {", curriculum by groups": CURRICULUM | groups}
