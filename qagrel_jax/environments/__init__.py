"""Environments, your own or others': two pure functions, and learners that play them.

An ``Environment`` serves one network; ``jax.vmap`` what plays it over many::

    state, observation = environment.reset(key)
    state, observation, reward, terminated, truncated = environment.step(key, state, action)

*Terminated* means that nothing can follow: the value of what comes next is 0, and AuGMEnT's last
reward-prediction error is δ = r − q. *Truncated* means that the episode was cut off, at a time
limit for example: the value of what would have followed is that of the last observation, and
δ = r + γ q(last observation) − q. RECOLLECT, to which a trial's end means nothing, has the latter
δ in both cases.

An AuGMEnT network remembers changes: its memory adds up what comes and goes, so that the same
observation twice in a row counts once. Clicks that are to be counted need a blank between them.

``from_gymnax`` makes an ``Environment`` of one of gymnax (Lange 2022, version 1.0 or later),
``from_task`` of a working-memory task; one of your own is two functions. ``trial`` lets a one-step
rule (Q-AGREL) play an environment whose episodes are one action long, ``begin`` and ``play`` let
AuGMEnT, RECOLLECT or WorkMATe play any other, and record their units. gymnax itself is imported
nowhere but in ``mnist_bandit``.
"""

from qagrel_jax.environments.environment import Environment
from qagrel_jax.environments.gymnax import from_gymnax, mnist_bandit
from qagrel_jax.environments.memory_tasks import from_task
from qagrel_jax.environments.one_step import Outcome, trial
from qagrel_jax.environments.playing import Player, Steps, begin, forget, play

__all__ = [
    "Environment",
    "Outcome",
    "Player",
    "Steps",
    "begin",
    "forget",
    "from_gymnax",
    "from_task",
    "mnist_bandit",
    "play",
    "trial",
]
