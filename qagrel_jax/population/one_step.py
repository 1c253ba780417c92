"""Online training of one-step rules on vector tasks: many networks at once, in one program.

Each trial shows one pattern and is followed by one weight change, as a brain learns. What a network
sees and does depends on its own key and the number of the trial alone, on no other network.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import chex
import flax.linen as nn
import jax
import optax

from qagrel_jax import checks, optimizers, passes
from qagrel_jax.policies import softmax_probabilities
from qagrel_jax.rules import Rule, schedules
from qagrel_jax.rules.schedules import RuleOfStep
from qagrel_jax.tasks import vectors

WEIGHTS = 2**31
"""What is folded into a network's key for its initial weights; trials fold their number in."""

STREAMS = WEIGHTS + 1
"""What is folded in for the network's own random streams, dropout and feedback."""


class Learners(NamedTuple):
    """The networks now; leading axes N run over them."""

    params: chex.ArrayTree  # float[N, ...], all variables of the network: {"params": ..., ...}
    optimizer_state: chex.ArrayTree  # [N, ...]


class OnlineTrainer(NamedTuple):
    """Compiled functions over all networks."""

    init: Callable[[chex.PRNGKey], Learners]  # (keys [N]) -> learners
    advance: Callable[..., tuple[Learners, chex.Array]]  # (keys [N], learners, number of the first
    # trial) -> (learners, float[N], expected reward of each policy after the last trial)


def make_online_trainer(
    rule: Rule | RuleOfStep,
    network: nn.Module,
    optimizer: optax.GradientTransformation,
    task: vectors.VectorTask,
    *,
    trials: int,
    test: vectors.VectorTask | None = None,
    probabilities: Callable[[chex.Array], chex.Array] = softmax_probabilities,
) -> OnlineTrainer:
    """Compile the online training of ``rule`` on ``task``.

    Args:
      rule: a one-step rule, from ``qagrel_jax.rules``, or a function of the trial's number,
        int32[], that returns one.
      network: maps float[batch, features] to float[batch, actions].
      optimizer: turns pseudo-gradients into weight changes.
      task: what is learned.
      trials: in one call of ``advance``.
      test: patterns over which the policy's expected reward is taken; None: ``task``.
      probabilities: of that policy, ``outputs [actions] -> probabilities [actions]``. The default
        suits rules that choose by softmax; of Q values ask ``policies.greedy_probabilities``.

    Returns:
      ``OnlineTrainer``.

    Raises:
      TypeError: ``rule`` is no ``Rule`` and returns none, ``network`` no module, ``optimizer`` none
        of optax, ``task`` or ``test`` no ``VectorTask``.
      ValueError: ``trials`` is below 1, a pattern's label is no action's, the rule is relearnn, or
        the network has another name for ``train``.

    >>> import numpy as np, optax
    >>> import qagrel_jax as qj
    >>> network = qj.networks.ThreeLayer(num_actions=2, hidden=8, feedback="tied", spread=2.0)
    >>> trainer = make_online_trainer(
    ...     qj.agrel(), network, optax.sgd(0.2), qj.tasks.vectors.xor(), trials=20
    ... )
    >>> keys = qj.random_keys.root_keys(np.arange(3))
    >>> learners, reward = trainer.advance(keys, trainer.init(keys), 0)
    >>> reward.shape
    (3,)
    """
    if schedules.first(rule).name == "relearnn":
        raise ValueError("relearnn takes a Recurrent network: call its act and update")
    checks.instance("network", network, nn.Module, "make_network gives one by its name")
    passes.check_mode(network)
    optimizer = optimizers.checked(optimizer)
    test = task if test is None else test
    vectors.check("task", task)
    vectors.check("test", test)
    checks.whole("trials", trials)
    init = partial(_init, network, optimizer, task)
    checks.function("probabilities", probabilities, takes=("outputs",))
    sizes = task.num_actions, test.num_actions
    advance = partial(_advance, rule, network, optimizer, sizes, trials, probabilities)
    # Patterns are arguments: as constants they would be a part of the program, at any size.
    patterns = (task.inputs, task.labels), (test.inputs, test.labels)
    return OnlineTrainer(jax.jit(jax.vmap(init)), partial(jax.jit(advance), patterns))


def _init(
    network: nn.Module,
    optimizer: optax.GradientTransformation,
    task: vectors.VectorTask,
    key: chex.PRNGKey,
) -> Learners:
    start = jax.random.fold_in(key, WEIGHTS)
    variables = network.init(start, task.inputs[:1], **passes.mode(network, False))
    return Learners(variables, optimizer.init(variables["params"]))


def _advance(
    rule: Rule | RuleOfStep,
    network: nn.Module,
    optimizer: optax.GradientTransformation,
    sizes: tuple[int, int],
    trials: int,
    probabilities: Callable,
    patterns: tuple[tuple, tuple],
    keys: chex.PRNGKey,
    learners: Learners,
    first: chex.Array,
) -> tuple[Learners, chex.Array]:
    task, test = (
        vectors.VectorTask(inputs, labels, actions)
        for (inputs, labels), actions in zip(patterns, sizes, strict=True)
    )
    one = jax.vmap(partial(_trial, rule, network, optimizer, task), (0, 0, None))
    learners = jax.lax.fori_loop(0, trials, lambda i, now: one(keys, now, first + i), learners)
    run: Callable[..., chex.Array] = partial(network.apply, **passes.mode(network, False))
    outputs = jax.vmap(run, (0, None))(learners.params, test.inputs)
    reward = jax.vmap(lambda of_one: vectors.expected_reward(test, of_one, probabilities))(outputs)
    return learners, reward


def _trial(
    rule: Rule | RuleOfStep,
    network: nn.Module,
    optimizer: optax.GradientTransformation,
    task: vectors.VectorTask,
    key: chex.PRNGKey,
    learner: Learners,
    number: chex.Array,
) -> Learners:
    """Show one network one pattern; let it choose, be rewarded and learn."""
    rule = schedules.at_step(rule, number)
    draw, choose = jax.random.split(jax.random.fold_in(key, number))
    pattern, seen = vectors.reset(draw, task)
    own = jax.random.fold_in(jax.random.fold_in(key, STREAMS), number)
    rngs = dict(zip(("dropout", "feedback"), jax.random.split(own), strict=True))
    # Other collections, such as fixed feedback weights, are no affair of the optimizer.
    others = {name: value for name, value in learner.params.items() if name != "params"}
    now = learner.params["params"]
    forward = passes.in_training(network, others, rngs)
    decision = rule.act(choose, forward, now, seen[None], has_aux=True)
    if rule.supervised:
        outcome = task.labels[pattern]
    else:
        outcome = vectors.step(task, pattern, decision.action[0])
    grads, errors = rule.update(decision, outcome[None])
    error = rule.mean_error(errors)
    updates, state = optimizers.update(optimizer, grads, learner.optimizer_state, now, error)
    variables = {"params": optax.apply_updates(now, updates)}
    return Learners(variables | passes.changed(others, decision.aux), state)
