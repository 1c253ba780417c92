"""Mean and variance of one update, by enumerating actions or by sampling."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from qagrel_jax import checks
from qagrel_jax.layers.kernels import kernels
from qagrel_jax.policies import at_least_float32
from qagrel_jax.random_keys import root_key
from qagrel_jax.rules.base import Forward, Rule
from qagrel_jax.tasks import classification

Probabilities = Callable[[chex.Array], chex.Array]
"""``outputs [actions] -> probabilities [actions]``, such as ``policies.softmax_probabilities``."""

Reward = Callable[[Any, chex.Array, chex.Array], chex.Array]
"""``(key, labels [batch], actions [batch]) -> rewards [batch]``: ``classification.reward``."""


class Moments(NamedTuple):
    """Mean and variance of one update, by layer."""

    mean: dict[str, chex.Array]  # like the kernel, in float32 at least: ū
    images: dict[str, chex.Array]  # float[], variance over batches of E[u | batch]
    choices: dict[str, chex.Array]  # float[], mean variance of u within a batch
    count: chex.Array  # float[], batches that the estimate rests on; infinity: it is exact


def _kernels(updates: chex.ArrayTree) -> dict[str, chex.Array]:
    """Return the kernels in float32 at least: sums of many lose digits in less."""
    return {name: at_least_float32(kernel) for name, kernel in kernels(updates).items()}


def exact_moments(
    rule: Rule,
    probabilities: Probabilities,
    forward: Forward,
    params: chex.ArrayTree,
    inputs: chex.Array,
    labels: chex.Array,
    reward: Reward = classification.reward,
) -> Moments:
    """Moments of the update by one image, every action of every image enumerated.

    ū = (1/n) Σ_i Σ_s π(s|x_i) u(x_i, s), and likewise the squares. Images are drawn from the n with
    equal probability. ``of_batch`` gives the moments of larger batches.

    Args:
      rule: a one-step rule whose update depends on the image and the action alone; a rule with
        noise of its own (node perturbation, stochastic units) must be sampled.
      probabilities: those with which the rule chooses, such as ``policies.softmax_probabilities``;
        unused by a rule that is told labels.
      forward: ``(params, inputs [1, ...]) -> outputs [1, actions]``, not random.
      params: its parameters.
      inputs: float[n, ...].
      labels: int[n].
      reward: what the task answers; not random.

    Returns:
      ``Moments`` with a ``count`` of infinity.

    Raises:
      ValueError: no inputs, or some that are not finite, labels that are no action's or not one
        for each input, no ``kernel``; a rule with noise of its own, which can't be seen where
        the arguments are traced.
      TypeError: an argument of another type.

    >>> import jax.numpy as jnp
    >>> from qagrel_jax import rules
    >>> from qagrel_jax.policies import softmax_probabilities
    >>> forward = lambda params, x: x @ params["out"]["kernel"]
    >>> params, x = {"out": {"kernel": jnp.zeros((1, 2))}}, jnp.ones((1, 1))
    >>> rule, labels = rules.agrel(), jnp.array([0])
    >>> exact = exact_moments(rule, softmax_probabilities, forward, params, x, labels)
    >>> exact.mean["out"].tolist(), float(exact.choices["out"])
    ([[-0.5, 0.5]], 0.5)
    """
    checks.instance("rule", rule, Rule, "q_agrel() gives one")
    checks.function("probabilities", probabilities, takes=("outputs",))
    inputs, labels = check_examples(forward, params, inputs, labels, reward)
    if not len(labels):
        raise ValueError("inputs must be at least one example, got none")
    _check_noiseless(rule, forward, params, inputs[:1])

    def of_image(image: chex.Array, label: chex.Array) -> tuple:
        # The action that is drawn is replaced by each in turn.
        decision = rule.act(unused_key(), forward, params, image[None])
        outputs = decision.outputs[0]
        weights = jnp.ones(1, outputs.dtype) if rule.supervised else probabilities(outputs)

        def learn(action: chex.Array) -> dict[str, chex.Array]:
            outcome = label[None]
            if not rule.supervised:
                answer = unused_key(), label[None], action[None]
                outcome = checks.compiled("reward", reward, *answer)
            return _kernels(rule.update(decision._replace(action=action[None]), outcome)[0])

        updates = jax.vmap(learn)(jnp.arange(len(weights)))
        mean = {name: jnp.tensordot(weights, u, 1) for name, u in updates.items()}
        second = {name: weights @ squares(u) for name, u in updates.items()}
        return mean, {name: square(u) for name, u in mean.items()}, second

    def add(total: tuple, example: tuple) -> tuple:
        return jax.tree.map(jnp.add, total, of_image(*example)), None

    shapes = jax.eval_shape(of_image, inputs[0], labels[0])
    nothing = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)
    total, _ = jax.lax.scan(add, nothing, (inputs, labels))
    mean, of_means, second = jax.tree.map(lambda x: x / len(labels), total)
    return Moments(
        mean,
        images={name: of_means[name] - square(mean[name]) for name in mean},
        choices={name: second[name] - of_means[name] for name in mean},
        count=jnp.array(jnp.inf),
    )


def _check_noiseless(
    rule: Rule, forward: Forward, params: chex.ArrayTree, image: chex.Array
) -> None:
    """Refuse a rule whose update by one image and one action depends on a random key."""

    def learn(key: chex.PRNGKey) -> dict[str, chex.Array]:
        decision = rule.act(key, forward, params, image)
        first = jnp.zeros_like(decision.action)
        outcome = first if rule.supervised else jnp.ones(1)
        return _kernels(rule.update(decision._replace(action=first), outcome)[0])

    if not len(image):
        return
    one, other = learn(root_key(0)), learn(root_key(1))
    if any(
        checks.known(one[name], other[name]) and bool((one[name] != other[name]).any())
        for name in one
    ):
        raise ValueError(
            f"rule {rule.name} has noise of its own, and enumerating actions leaves it out: use "
            "sampled_moments"
        )


def of_batch(exact: Moments, batch_size: int) -> Moments:
    """Moments of the mean update over ``batch_size`` images, drawn independently: V / batch_size.

    Args:
      exact: of the update by one image.
      batch_size: at least 1.

    Raises:
      ValueError: ``batch_size`` below 1, or moments that are estimates: sample the larger batch.
      TypeError: an argument of another type.
    """
    checks.instance("exact", exact, Moments, "exact_moments gives them")
    checks.whole("batch_size", batch_size)
    if checks.known(exact.count) and bool(jnp.isfinite(exact.count)):
        raise ValueError("only exact moments can be divided: sample batches of the size wanted")
    images, choices = jax.tree.map(lambda v: v / batch_size, (exact.images, exact.choices))
    return exact._replace(images=images, choices=choices)


def sampled_moments(
    key: chex.PRNGKey,
    learn: Callable[[chex.PRNGKey, chex.PRNGKey], chex.ArrayTree],
    samples: int,
) -> Moments:
    """Estimate the moments from ``samples`` batches, with two independent choices on each.

    The mean is that of w = (u + u')/2 over batches, updated one by one (Welford 1962). Of two
    updates on one batch, E|u − u'|²/2 is the choices' variance, and Var(w) that of the images plus
    half of it. All three are unbiased.

    Args:
      key: a random key.
      learn: ``(batch_key, choice_key) -> update`` shaped like the parameters. The first key draws
        the images (and what else the gradient of a batch depends on, such as dropout), the second
        the actions and noise.
      samples: batches, at least 2.

    Returns:
      ``Moments`` with a ``count`` of ``samples``.

    Raises:
      ValueError: fewer than 2 samples, updates without a ``kernel``.
      TypeError: ``key`` is no random key, ``learn`` no function, ``samples`` no number, an update
        no dictionary.

    >>> import jax, jax.numpy as jnp
    >>> def learn(batch_key, choice_key):
    ...     return {"out": {"kernel": 1 + jax.random.normal(choice_key)}}
    >>> moments = sampled_moments(jax.random.key(0), learn, 4000)
    >>> bool(abs(moments.mean["out"] - 1) < 0.1), bool(abs(moments.choices["out"] - 1) < 0.1)
    (True, True)
    """
    checks.random_key("key", key)
    checks.function("learn", learn, takes=("batch_key", "choice_key"))
    checks.whole("samples", samples, 2)

    def one(key: chex.PRNGKey) -> tuple[dict, dict]:
        batch, first, second = jax.random.split(key, 3)
        again = jax.random.clone(batch)  # the same images, on purpose
        one, other = _kernels(learn(batch, first)), _kernels(learn(again, second))
        apart = {name: square(one[name] - other[name]) / 2 for name in one}
        return {name: (one[name] + other[name]) / 2 for name in one}, apart

    def add(so_far: tuple, numbered: tuple) -> tuple:
        mean, scatter, apart = so_far
        number, key = numbered
        update, more = one(key)
        step = jax.tree.map(jnp.subtract, update, mean)
        mean = jax.tree.map(lambda m, s: m + s / number, mean, step)
        share = 1 - 1 / number
        scatter = {name: scatter[name] + share * square(step[name]) for name in scatter}
        return (mean, scatter, jax.tree.map(jnp.add, apart, more)), None

    shapes = jax.eval_shape(one, unused_key())
    nothing = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)
    start = (nothing[0], nothing[1], nothing[1])
    numbers = jnp.arange(1, samples + 1, dtype=jax.tree.leaves(shapes)[0].dtype)
    (mean, scatter, apart), _ = jax.lax.scan(add, start, (numbers, jax.random.split(key, samples)))
    choices = jax.tree.map(lambda total: total / samples, apart)
    images = {name: scatter[name] / (samples - 1) - choices[name] / 2 for name in scatter}
    return Moments(mean, images, choices, jnp.array(float(samples)))


def pool(groups: Moments) -> Moments:
    """Combine independent estimates of equal ``count`` into one (Chan, Golub & LeVeque 1979).

    Args:
      groups: ``Moments`` whose arrays have a leading axis [groups].

    Raises:
      ValueError: no such axis; counts that differ, where known.
      TypeError: ``groups`` are no ``Moments``.
    """
    check_groups(groups)
    number, size = groups.count.shape[0], groups.count[0]
    mean, choices = jax.tree.map(lambda x: x.mean(0), (groups.mean, groups.choices))

    def images(name: str) -> chex.Array:
        within = (size - 1) * (groups.images[name] + groups.choices[name] / 2).sum()
        between = size * squares(groups.mean[name] - mean[name][None]).sum()
        return (within + between) / (number * size - 1) - choices[name] / 2

    return Moments(mean, {name: images(name) for name in mean}, choices, groups.count.sum())


def check_examples(
    forward: Forward, params: chex.ArrayTree, inputs: Any, labels: Any, reward: Reward
) -> tuple[chex.Array, chex.Array]:
    """Return inputs and labels as arrays; check that the former are finite, the latter actions."""
    checks.forward(forward)
    checks.function("reward", reward, takes=("key", "labels", "actions"))
    inputs, labels = (x if isinstance(x, jax.Array) else np.asarray(x) for x in (inputs, labels))
    checks.finite("inputs", inputs)
    checks.shape("labels", labels, *inputs.shape[:1])
    checks.labels("label", labels, jax.eval_shape(forward, params, inputs[:1]).shape[-1])
    return jnp.asarray(inputs), jnp.asarray(labels)


def check_groups(groups: Moments) -> None:
    """Check that moments have a leading axis, and equal counts.

    Raises:
      TypeError: ``groups`` are no ``Moments``.
      ValueError: they have no leading axis; counts that differ, where known.
    """
    checks.instance("groups", groups, Moments)
    if groups.count.ndim != 1:
        raise ValueError(
            f"groups must have a leading axis [groups], got a count of shape {groups.count.shape}"
        )
    if checks.known(groups.count) and len(counts := np.unique(np.asarray(groups.count))) > 1:
        raise ValueError(f"groups must have one count, got {counts.tolist()}")


def unused_key() -> chex.PRNGKey:
    """Return a key for where one must be given and nothing that is drawn is used."""
    return root_key(0)


def square(x: chex.Array) -> chex.Array:
    """Return |x|², float[]."""
    return jnp.vdot(x, x)


def squares(x: chex.Array) -> chex.Array:
    """Return |x_i|², float[n], of x [n, ...]."""
    return jax.vmap(square)(x)
