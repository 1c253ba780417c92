"""What a control is: a question, and settings that differ in one thing.

Learning rates that differ between rules are compared by ``family``: of the settings of a family,
the one of the highest validation accuracy stands for it. The test set is not used.
"""

from dataclasses import dataclass
from typing import Any

from experiments import config as configs
from experiments.common import display
from experiments.config import Config

TERMS = {
    "read-out alone learns": "only the output layer learns",
    "read-out": "output layer",
    "right choices rewarded": "correct choices rewarded",
    "reciprocal": "kolen_pollack",
    "Many classes without the long wait: do classes that come one after another, the newest shown "
    "most often, shorten the way?": "Does a curriculum that adds classes one at a time, and shows "
    "the newest most often, speed up learning?",
    "Is it the reward that teaches?": "Does learning depend on the reward?",
    "Is it the attention feedback that teaches?": "Does learning depend on attention feedback?",
}
"""Of labels and of questions in older summaries."""


def shown(label: str) -> str:
    """Return a label, or a question of an older summary, in the field's terms, as it is shown.

    Labels are keys of ``settings.jsonl``: another one would be another setting to resume.
    """
    for old, new in TERMS.items():
        label = label.replace(old, new)
    return display.shown(label)


@dataclass(frozen=True)
class Setting:
    """One line of a control's table: a rule, its configuration, a part of the data."""

    label: str
    rule: str
    config: Config
    family: str = ""  # settings of one family compete; by default each is a family of its own
    x: float | None = None  # where it stands on the picture's axis, for a swept parameter
    classes: int = 0  # number of classes, the first ones; 0: all
    train_images: int = 0  # number of training images, the first ones; 0: all

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
    return {
        "rule": line["rule"],
        "config": configs.as_now(line["config"]),
        "family": line["family"],
    }


def make_base(
    given: dict[str, Any], epochs: int = 20, seeds: int = 3, config: str = "digits"
) -> Config:
    """Return the configuration ``config``, trained for so long, with what is ``given`` instead."""
    changes = {"epochs": epochs, "patience": epochs, "seeds": seeds}
    return configs.replace(configs.load(config), changes | given)


def setting(
    label: str, rule: str, base: Config, changes: dict[str, Any] | None = None, **options: Any
) -> Setting:
    """Return a ``Setting`` whose configuration is ``base`` with ``changes``."""
    return Setting(label, rule, configs.replace(base, changes or {}), **options)
