"""Options of the command line that nothing depends on beside the others: refused, not ignored."""

from collections.abc import Callable, Collection, Sequence
from typing import NamedTuple

from experiments.common.cli import UserError
from experiments.config import Config

LEARNED = ("feedback_rate", "feedback_l2", "feedback_delay")
"""Settings of feedback weights that learn."""

DRAWN = ("feedback_init", "feedback_scale")
"""Settings of feedback weights that are drawn."""

WITHOUT = {
    "tied": (*LEARNED, *DRAWN),
    "random": LEARNED,
    "sign": (*LEARNED, "feedback_init"),
    "sign_batchwise": LEARNED,
    "sign_fixed": LEARNED,
    "direct": LEARNED,
}
"""Settings that say nothing of a kind of feedback."""


class Idle(NamedTuple):
    """Options, when they have no effect, and how that is said."""

    options: tuple[str, ...]  # names of fields
    applies: Callable[[Config], bool]
    told: str  # of the config, {0}


def _without(*rules: str) -> Callable[[Config], bool]:
    return lambda config: not set(rules) & set(config.rules)


def _of_other_kinds(name: str) -> Callable[[Config], bool]:
    return lambda config: name in WITHOUT.get(config.feedback, ())


OF_CHOICES = ("policy", "epsilon", "temperature", "reward", "reward_right", "reward_wrong")
"""Options of rules that choose by a policy, or that a reward teaches."""

_CHOOSING = ("q_agrel", "broadcast", "node_perturbation")
"""Rules that choose by the policy; the others choose by a softmax of their own, or are told."""

_no_policy = _without(*_CHOOSING)

IDLE = (
    Idle(
        ("feedback",),
        lambda config: config.trained_layers == "output",
        "with --trained-layers output",
    ),
    *(
        Idle((name,), _of_other_kinds(name), "with {0.feedback} feedback")
        for name in (*LEARNED, "feedback_init")
    ),
    Idle(
        ("angle_images",),
        lambda config: config.feedback == "tied",
        "with {0.feedback} feedback, where no angles are measured",
    ),
    Idle(("policy",), _no_policy, "without --rule " + " or ".join(_CHOOSING)),
    Idle(
        ("epsilon",),
        lambda config: _no_policy(config) or config.policy in ("greedy", "softmax"),
        "with policy {0.policy} and these rules",
    ),
    Idle(
        ("temperature",),
        lambda config: _no_policy(config) or config.policy in ("greedy", "epsilon_greedy"),
        "with policy {0.policy} and these rules",
    ),
    Idle(("reward",), lambda config: set(config.rules) <= {"backprop"}, "with backprop alone"),
    Idle(
        tuple(
            f"curriculum_{name}"
            for name in (
                "threshold",
                "start",
                "step",
                "window",
                "recency",
                "max_wait",
                "outputs",
            )
        ),
        lambda config: config.curriculum == "off",
        "without --curriculum",
    ),
    Idle(
        ("curriculum_decay",),
        lambda config: config.curriculum == "off" or not config.curriculum_recency,
        "without --curriculum, or with --curriculum-recency 0",
    ),
    Idle(
        ("curriculum_exploration",),
        lambda config: config.curriculum == "off" or set(config.rules) <= {"backprop"},
        "without --curriculum, or with backprop alone",
    ),
    Idle(
        ("reward_right", "reward_wrong"),
        lambda config: config.reward != "right" or set(config.rules) <= {"backprop"},
        "with a --reward that does not depend on the choice, or with backprop alone",
    ),
    Idle(
        ("weight_decay_epochs",), lambda config: not config.weight_decay, "without --weight-decay"
    ),
    Idle(
        ("validation_fraction",),
        lambda config: config.protocol == "paper",
        "with --protocol paper, which holds nothing out",
    ),
    Idle(("positive_gain",), _without("q_agrel"), "without --rule q_agrel"),
    Idle(
        ("noise_sd",),
        _without("node_perturbation", "stochastic_units"),
        "without --rule node_perturbation or stochastic_units",
    ),
    Idle(("broadcast_strength",), _without("broadcast"), "without --rule broadcast"),
)


def names(config: Config) -> set[str]:
    """Return the fields that say nothing beside the others."""
    return {name for idle in IDLE if idle.applies(config) for name in idle.options}


def check(config: Config, given: Collection[str]) -> None:
    """Refuse options that change nothing.

    Args:
      config: the whole configuration.
      given: names of the fields that a person gave a value.

    Raises:
      UserError: the first such option.
    """
    check_all([config], given)


def check_all(runs: Sequence[Config], given: Collection[str]) -> None:
    """Refuse options that change nothing in any of ``runs``; see ``check``."""
    for idle in IDLE:
        for name in idle.options:
            if name in given and runs and all(idle.applies(config) for config in runs):
                option = "--" + name.replace("_", "-")
                raise UserError(f"{option} does nothing {idle.told.format(runs[0])}: leave it out")
