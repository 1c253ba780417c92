"""The working-memory rules under one contract, so that one program runs populations of any."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from qagrel_jax import checks
from qagrel_jax.rules import augment, recollect, workmate


class MemoryRule(NamedTuple):
    """What a rule must offer; every function is for one network, or for many along a last axis."""

    config: type  # the class of its sizes and parameters
    state: type  # the class of what a network carries from step to step
    init: Callable[..., Any]  # (key, config) -> state
    step: Callable[..., Any]  # (randomness, config, state, observation, reward, ended, …)
    tie_feedback: Callable[..., Any]  # (state, tied) -> state
    at_rest: Callable[..., Any]  # (state) -> state between trials, its weights as they are
    resets: bool  # whether the end of a trial resets what it keeps from step to step
    units: dict[str, str]  # what its units are: field of its ``Activity`` -> name
    choices: Callable[..., tuple[int, ...]]  # (config) -> options of each choice of a step
    contents: tuple[str, ...] = ()  # further fields of ``Activity`` to record, not between 0 and 1

    @property
    def groups(self) -> tuple[str, ...]:
        """What a recording keeps, in its order."""
        return (*self.units, *self.contents)

    def recorded(self, activity: Any) -> dict[str, Any]:
        """Return what a recording keeps of a step's ``activity``, by name."""
        return {name: getattr(activity, name) for name in self.groups}


RULES = {
    "augment": MemoryRule(
        augment.AugmentConfig,
        augment.AugmentState,
        augment.init,
        augment.step,
        augment.tie_feedback,
        augment.at_rest,
        True,
        {"regular": "regular units", "memory": "memory units"},
        lambda config: (config.actions,),
    ),
    "recollect": MemoryRule(
        recollect.RecollectConfig,
        recollect.RecollectState,
        recollect.init,
        recollect.step,
        recollect.tie_feedback,
        recollect.at_rest,
        False,
        {"gate": "gates", "memory": "memory units"},
        lambda config: (config.actions,),
    ),
    "workmate": MemoryRule(
        workmate.WorkmateConfig,
        workmate.WorkmateState,
        workmate.init,
        workmate.step,
        workmate.tie_feedback,
        workmate.at_rest,
        True,
        {"regular": "regular units", "match": "match units", "gate": "blocks overwritten"},
        workmate.choices,
        ("memory", "gate_q_values"),
    ),
}
"""Every working-memory rule by name."""

Config = augment.AugmentConfig | recollect.RecollectConfig | workmate.WorkmateConfig


def rule_of(config: Config) -> MemoryRule:
    """Return the rule that a configuration belongs to.

    Raises:
      TypeError: it belongs to none.

    >>> rule_of(recollect.RecollectConfig(inputs=4)).units
    {'gate': 'gates', 'memory': 'memory units'}
    """
    for rule in RULES.values():
        if isinstance(config, rule.config):
            return rule
    names = ", ".join(rule.config.__name__ for rule in RULES.values())
    raise TypeError(f"config must be one of {names}, got {checks.in_a_line(config)}")
