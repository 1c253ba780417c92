"""A loop of one's own: BatchNorm and dropout in Linen, flax.nnx modules, optax's other optimizers.

The references are ``jax.grad`` of ½(r − q_s)² through the same forward pass.
"""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from qagrel_jax import layers, make_network, rules, training
from qagrel_jax.random_keys import root_key, root_keys

REWARDS = jnp.array([1.0, 0.0, 0.5, 1.0])


class Normalized(nn.Module):
    @nn.compact
    def __call__(self, x, train):
        x = nn.relu(layers.Dense(16)(x))
        x = nn.BatchNorm(use_running_average=not train, momentum=0.9)(x)
        x = nn.Dropout(0.2, deterministic=not train)(x)
        return layers.Dense(2)(x)


class Plain(nnx.Module):
    def __init__(self, rngs):
        self.hidden = nnx.Linear(8, 16, rngs=rngs)
        self.norm = nnx.BatchNorm(16, momentum=0.9, rngs=rngs)
        self.dropout = nnx.Dropout(0.2, rngs=rngs)
        self.output = nnx.Linear(16, 2, rngs=rngs)

    def __call__(self, x):
        return self.output(self.dropout(self.norm(nnx.relu(self.hidden(x)))))


def _expected(forward, params, action):
    """The gradient of ½(r − q_s)² and what ``forward`` returned beside the outputs."""

    def loss(params):
        outputs, aux = forward(params)
        return 0.5 * jnp.square(REWARDS - outputs[jnp.arange(4), action]).mean(), aux

    return jax.grad(loss, has_aux=True)(params)


def _compare(got, expected):
    for a, b in zip(*map(jax.tree.leaves, (got, expected)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


def test_batch_norm_and_dropout_in_linen():
    net, rule, optimizer = Normalized(), rules.q_agrel(), optax.sgd(0.1)
    x = jax.random.normal(root_key(1), (4, 8))
    variables = net.init(root_key(0), x, train=False)
    params, batch_stats = variables["params"], variables["batch_stats"]
    opt_state = optimizer.init(params)

    def forward(params, x, batch_stats, dropout):
        return net.apply(
            {"params": params, "batch_stats": batch_stats},
            x,
            train=True,
            rngs={"dropout": dropout},
            mutable=["batch_stats"],
        )

    @jax.jit
    def trial(params, batch_stats, opt_state, key):
        choose, dropout = jax.random.split(key)
        decision = rule.act(
            choose, lambda p, x: forward(p, x, batch_stats, dropout), params, x, has_aux=True
        )
        grads, _ = rule.update(decision, REWARDS)
        updates, opt_state = optimizer.update(grads, opt_state, params)
        new_params = optax.apply_updates(params, updates)
        return new_params, decision.aux["batch_stats"], opt_state, decision.action, grads

    for step in range(2):
        before = params, batch_stats
        params, batch_stats, opt_state, action, grads = trial(*before, opt_state, root_key(step))
        dropout = jax.random.split(root_key(step))[1]
        same = functools.partial(forward, x=x, batch_stats=before[1], dropout=dropout)
        expected, aux = jax.jit(lambda p, a, f=same: _expected(f, p, a))(before[0], action)
        _compare(grads, expected)
        _compare(batch_stats, aux["batch_stats"])


def test_nnx_modules():
    """Split into parameters and the rest; merged, with ``copy=True``, in the forward pass."""
    model, rule = Plain(nnx.Rngs(0)), rules.q_agrel()
    model.train()
    graph, params, rest = nnx.split(model, nnx.Param, ...)
    x = jax.random.normal(root_key(1), (4, 8))

    def forward(params, x, rest):
        model = nnx.merge(graph, params, rest, copy=True)
        return model(x), nnx.split(model, nnx.Param, ...)[2]

    @jax.jit
    def trial(params, rest, key):
        decision = rule.act(key, lambda p, x: forward(p, x, rest), params, x, has_aux=True)
        grads, _ = rule.update(decision, REWARDS)
        new_params = jax.tree.map(lambda p, g: p - 0.1 * g, params, grads)
        return new_params, decision.aux, decision.action, grads

    for step in range(2):
        before = params, rest
        params, rest, action, grads = trial(*before, root_key(step))
        same = functools.partial(forward, x=x, rest=before[1])
        expected, aux = _expected(same, before[0], action)
        _compare(grads, expected)
        _compare(nnx.filter_state(rest, nnx.BatchStat), nnx.filter_state(aux, nnx.BatchStat))
    nnx.update(model, params, rest)
    model.eval()
    assert model(x).shape == (4, 2)


@pytest.mark.parametrize("name", ["broadcast", "node_perturbation", "stochastic_units"])
def test_rules_that_reach_into_layers_refuse_nnx(name):
    graph, params = nnx.split(nnx.Linear(8, 2, rngs=nnx.Rngs(0)))
    rule = getattr(rules, name)()
    with pytest.raises(ValueError, match=r"needs a network made of qagrel_jax\.layers"):
        rule.act(root_key(0), lambda p, x: nnx.merge(graph, p)(x), params, jnp.ones((4, 8)))


@pytest.mark.parametrize("name", ["q_agrel", "backprop", "broadcast"])
def test_an_nnx_model_changed_in_place_is_refused(name):
    graph, params, rest = nnx.split(nnx.BatchNorm(8, rngs=nnx.Rngs(0)), nnx.Param, ...)

    def forward(params, x):
        return nnx.merge(graph, params, rest)(x)

    message = r"merge it with nnx.merge\(..., copy=True\) and return what changed"
    with pytest.raises(ValueError, match=message) as error:
        getattr(rules, name)().act(root_key(0), forward, params, jnp.ones((4, 8)))
    assert "\n" not in str(error.value)


def _trainer(optimizer, rule):
    network = make_network("dense", 3, hidden=(4,))
    return training.make_trainer(
        rule, network, optimizer, image_shape=(2, 2, 1), num_classes=3, batch_size=4
    )


def _one_epoch(optimizer, rule):
    trainer = _trainer(optimizer, rule)
    pixels = np.random.default_rng(0).integers(0, 256, (4, 2, 2, 1), np.uint8)
    examples = training.Examples(pixels, np.array([0, 1, 2, 1]))
    run = training.start(trainer, root_keys([0]))
    return next(training.fit(trainer, run, examples, examples, epochs=1, patience=1))


@pytest.mark.parametrize("name", ["q_agrel", "backprop"])
def test_an_optimizer_that_asks_for_a_value_gets_the_steps_error(name):
    def remember(grads, state, params=None, *, value, **_):
        return grads, value

    seen = optax.GradientTransformationExtraArgs(lambda params: jnp.zeros(()), remember)
    run, record = _one_epoch(optax.chain(optax.sgd(0.1), seen), getattr(rules, name)())
    np.testing.assert_allclose(run.states.opt_state[1], record.error, rtol=1e-6)


OWN_UPDATES = {
    "mean": (lambda grads, errors: (grads, errors.mean()), ValueError, "errors of the rule"),
    "scalars": (lambda grads, errors: (jax.tree.map(jnp.mean, grads), errors), ValueError, "grads"),
    "layer": (lambda grads, errors: (grads["Dense_0"], errors), ValueError, "shaped like params"),
}


@pytest.mark.parametrize("case", OWN_UPDATES)
def test_a_rule_of_ones_own_that_returns_other_shapes_is_refused(case):
    own, kind, message = OWN_UPDATES[case]
    rule = rules.q_agrel()
    with pytest.raises(kind, match=message) as error:
        _one_epoch(
            optax.sgd(0.1),
            rule._replace(update=lambda decision, reward: own(*rule.update(decision, reward))),
        )
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("kind", [tuple, list])
def test_a_reward_of_ones_own_is_an_array(kind):
    trainer = training.make_trainer(
        rules.q_agrel(),
        make_network("dense", 3, hidden=(4,)),
        optax.sgd(0.1),
        image_shape=(2, 2, 1),
        num_classes=3,
        batch_size=4,
        reward=lambda key, labels, actions: kind([jnp.ones(4), key]),
    )
    examples = training.Examples(np.zeros((4, 2, 2, 1), np.uint8), np.array([0, 1, 2, 1]))
    run = training.start(trainer, root_keys([0]))
    with pytest.raises(TypeError, match=f"reward must return an array.*got a {kind.__name__}"):
        next(training.fit(trainer, run, examples, examples, epochs=1))


def test_an_optimizers_own_error_is_its_own():
    def update(grads, state, params=None):
        return jax.tree.map(lambda g: jnp.add(g, "typo"), grads), state

    with pytest.raises(TypeError, match="add") as error:
        _one_epoch(optax.GradientTransformation(lambda params: (), update), rules.q_agrel())
    assert "line search" not in str(error.value)


def test_plateaus_are_seen_and_line_searches_refused():
    run, _ = _one_epoch(
        optax.chain(optax.sgd(0.1), optax.contrib.reduce_on_plateau()), rules.q_agrel()
    )
    assert np.isfinite(run.states.opt_state[1].best_value).all()
    _one_epoch(optax.lbfgs(linesearch=None), rules.q_agrel())
    with pytest.raises(TypeError, match="optimizer wants more than gradients and a value") as error:
        _one_epoch(optax.lbfgs(), rules.q_agrel())
    assert "value_fn" in str(error.value) and "\n" not in str(error.value)
