"""Options of the command line that nothing depends on beside the others: refused, not ignored."""

from collections.abc import Callable, Collection
from typing import NamedTuple

from experiments.common.cli import UserError
from experiments.config import Config


class Idle(NamedTuple):
    """Options, when they have no effect, and how that is said."""

    options: tuple[str, ...]  # names of fields
    applies: Callable[[Config], bool]
    told: str


def _without(*rules: str) -> Callable[[Config], bool]:
    return lambda config: not set(rules) & set(config.rules)


IDLE = (
    Idle(
        ("feedback_init", "feedback_rate", "feedback_l2", "feedback_delay"),
        lambda config: config.feedback == "tied",
        "with tied feedback",
    ),
    Idle(
        tuple(
            f"curriculum_{name}"
            for name in (
                "threshold",
                "start",
                "step",
                "window",
                "recency",
                "decay",
                "exploration",
                "max_wait",
                "outputs",
            )
        ),
        lambda config: config.curriculum == "off",
        "without --curriculum",
    ),
    Idle(
        ("reward_right", "reward_wrong"),
        lambda config: config.reward != "right",
        "with a --reward that does not depend on the choice",
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


def check(config: Config, given: Collection[str]) -> None:
    """Refuse options that change nothing.

    Args:
      config: the whole configuration.
      given: names of the fields that a person gave a value.

    Raises:
      UserError: the first such option.
    """
    for idle in IDLE:
        for name in idle.options:
            if name in given and idle.applies(config):
                option = "--" + name.replace("_", "-")
                raise UserError(f"{option} does nothing {idle.told}: leave it out")
