"""Rules without structured feedback: their local equations, and what they do on average."""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qagrel_jax import layers, rules
from qagrel_jax.networks import DenseNet
from qagrel_jax.policies import softmax
from qagrel_jax.rules import perturbation
from qagrel_jax.tasks import classification
from tests.combinations import every_value
from tests.reference import perturbation as literal

SIZES = (5, 4, 3)
BATCH = 3


def _net():
    network = DenseNet(num_actions=SIZES[-1], hidden=SIZES[:-1])
    inputs = jax.random.uniform(jax.random.key(0), (BATCH, 6), jnp.result_type(float))
    params = jax.jit(network.init)(jax.random.key(3), inputs)
    # The read-out at full size, so that hidden units matter to it.
    params["params"]["Dense_2"]["kernel"] = 10 * params["params"]["Dense_2"]["kernel"]
    return network.apply, params, inputs


def _kernels(params):
    return [np.asarray(params["params"][f"Dense_{i}"]["kernel"]) for i in range(len(SIZES))]


def _flat(grads):
    return jnp.concatenate([g.ravel() for g in jax.tree.leaves(grads)])


def _cosine(a, b):
    a, b = _flat(a), _flat(b)
    return float(a @ b / jnp.linalg.norm(a) / jnp.linalg.norm(b))


class WithWindows(nn.Module):
    """A layer of windows, another with strides, a dense output layer."""

    kind: type
    padding: str

    @nn.compact
    def __call__(self, images):
        """Map images to outputs."""
        x = nn.relu(self.kind(2, padding=self.padding)(images))
        x = nn.relu(self.kind(2, padding="SAME", strides=(2, 2))(x))
        return layers.Dense(3)(x.reshape(x.shape[0], -1))


def _windows_net(kind, name, padding):
    network = WithWindows(kind, padding)
    images = jax.random.uniform(jax.random.key(0), (BATCH, 5, 5, 2), jnp.result_type(float))
    params = jax.jit(network.init)(jax.random.key(3), images)
    kernels = params["params"]
    kernels["Dense_0"]["kernel"] = 3 * kernels["Dense_0"]["kernel"]
    described = [
        {"kind": name, "kernel": kernels[f"{kind.__name__}_0"]["kernel"], "stride": 1}
        | {"padding": padding},
        {"kind": name, "kernel": kernels[f"{kind.__name__}_1"]["kernel"], "stride": 2}
        | {"padding": "SAME"},
        {"kind": "dense", "kernel": kernels["Dense_0"]["kernel"]},
    ]
    described = [layer | {"kernel": np.asarray(layer["kernel"])} for layer in described]
    names = [f"{kind.__name__}_0", f"{kind.__name__}_1", "Dense_0"]
    return network.apply, params, images, names, described


def _dense_net():
    apply, params, inputs = _net()
    return apply, params, inputs, [f"Dense_{i}" for i in range(len(SIZES))], _kernels(params)


NETS = {
    "dense": _dense_net,
    "conv": lambda: _windows_net(layers.Conv, "conv", "SAME"),
    "locally_connected": lambda: _windows_net(layers.LocallyConnected, "local", "VALID"),
}


RULES = ["node_perturbation", "stochastic_units", "broadcast"]


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(("name", "net"), every_value(RULES, NETS))
def test_the_local_equations(name, net, monkeypatch):
    """Against a loop over synapses, with the same noise in both."""
    apply, params, inputs, names, described = NETS[net]()
    shapes = [current.shape for current in literal.forward(described, np.asarray(inputs[0]))[1]]
    assert len(set(shapes)) == len(shapes)  # a layer is known by its shape
    noise = [np.random.default_rng(i).normal(size=(BATCH, *n)) for i, n in enumerate(shapes)]
    monkeypatch.setattr(
        perturbation, "_draw", lambda key, like: jnp.asarray(noise[shapes.index(like.shape[1:])])
    )
    rule, change_of = {
        "node_perturbation": (
            rules.node_perturbation(softmax, noise_sd=0.3),
            lambda b, k, s, r: literal.node_perturbation_change(
                k, np.asarray(inputs[b]), [n[b] for n in noise], 0.3, s, r
            ),
        ),
        "stochastic_units": (
            rules.stochastic_units(noise_sd=0.3),
            lambda b, k, s, r: literal.stochastic_units_change(
                k, np.asarray(inputs[b]), [n[b] for n in noise[:-1]], 0.3, s, r
            ),
        ),
        "broadcast": (
            rules.broadcast(softmax, strength=0.7),
            lambda b, k, s, r: literal.broadcast_change(k, np.asarray(inputs[b]), 0.7, s, r),
        ),
    }[name]
    rewards = np.array([1.0, 0.0, 0.4])

    @jax.jit
    def learn(params):
        decision = rule.act(jax.random.key(2), apply, params, inputs)
        return decision.action, rule.update(decision, jnp.asarray(rewards))[0]

    action, grads = learn(params)
    changes = [change_of(b, described, int(action[b]), rewards[b]) for b in range(BATCH)]
    for depth, layer in enumerate(names):
        expected = np.mean([change[depth] for change in changes], axis=0)
        np.testing.assert_allclose(-grads["params"][layer]["kernel"], expected, atol=1e-10)
        assert np.abs(expected).max() > 1e-3


def test_node_perturbation_tends_to_q_agrel():
    """Averaged over ever more noise it turns towards the change that feedback gives at once."""
    apply, params, inputs = _net()
    noisy, attentive = rules.node_perturbation(noise_sd=0.01), rules.q_agrel()
    toward = jax.jit(lambda params: _learn(attentive, apply, params, inputs[:1]))(params)
    learn = jax.jit(
        lambda keys: jax.vmap(lambda key: _learn(noisy, apply, params, inputs[:1], key))(keys)
    )
    each = learn(jax.random.split(jax.random.key(3), 4096))
    cosines = [
        _cosine(jax.tree.map(lambda g, n=samples: g[:n].mean(0), each), toward)
        for samples in (4, 64, 4096)
    ]
    assert cosines[0] < cosines[1] < cosines[2]
    assert cosines[1] < 0.95 < cosines[2]


def _learn(rule, apply, params, inputs, key=None):
    key = jax.random.key(3) if key is None else key
    decision = rule.act(key, apply, params, inputs)
    return rule.update(decision._replace(action=jnp.ones(1, jnp.int32)), jnp.ones(1))[0]


def test_stochastic_units_climb_the_expected_reward():
    """Against the derivative of the same expectation along its path, noise held fixed."""
    apply, params, inputs = _net()
    samples, sd, paid = 20_000, 0.5, jnp.array([1.0, 0.0, 0.0])
    rule = rules.stochastic_units(noise_sd=sd)
    repeated = jnp.repeat(inputs[:1], samples, axis=0)

    @jax.jit
    def learn(params):
        decision = rule.act(jax.random.key(4), apply, params, repeated)
        return rule.update(decision, paid[decision.action])[0]

    grads = learn(params)

    noise_key = jax.random.key(5)
    kernels = [params["params"][f"Dense_{i}"]["kernel"] for i in range(3)]

    def expected_reward(kernels):
        x = repeated
        for layer, kernel in enumerate(kernels[:-1]):
            noise = jax.random.normal(jax.random.fold_in(noise_key, layer), (samples, SIZES[layer]))
            x = jax.nn.relu(x @ kernel + sd * noise)
        return (jax.nn.softmax(x @ kernels[-1]) @ paid).mean()

    uphill = jax.jit(jax.grad(expected_reward))(kernels)
    for layer, slope in enumerate(uphill):
        assert _cosine(-grads["params"][f"Dense_{layer}"]["kernel"], slope) > 0.9, layer


@pytest.mark.usefixtures("x64")
def test_reinforce_is_the_gradient_of_the_expected_reward():
    """Exactly, once its change is averaged over the actions it might have taken."""
    apply, params, inputs = _net()
    rule, paid = rules.reinforce(), jnp.array([1.0, -0.5, 0.2])
    decision = jax.jit(lambda q: rule.act(jax.random.key(6), apply, q, inputs[:1]))(params)
    update = jax.jit(rule.update)
    p = jax.nn.softmax(decision.outputs[0])
    total = jax.tree.map(jnp.zeros_like, params)
    for action in range(3):
        grads, error = update(decision._replace(action=jnp.array([action])), paid[action, None])
        np.testing.assert_allclose(error, paid[action] - (p**2).sum())
        total = jax.tree.map(lambda t, g, a=action: t + p[a] * g, total, grads)
    slope = jax.jit(jax.grad(lambda q: jax.nn.softmax(apply(q, inputs[:1])[0]) @ paid))(params)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(-a, b, atol=1e-12), total, slope)


def test_without_strength_only_the_read_out_learns():
    apply, params, inputs = _net()
    rule = rules.broadcast(strength=0.0)

    @jax.jit
    def learn(params):
        decision = rule.act(jax.random.key(2), apply, params, inputs)
        return rule.update(decision, jnp.ones(BATCH))[0]

    grads = learn(params)
    sizes = [float(jnp.abs(grads["params"][f"Dense_{i}"]["kernel"]).max()) for i in range(3)]
    assert sizes[:2] == [0.0, 0.0]
    assert sizes[2] > 0


@pytest.mark.parametrize("rule", ["node_perturbation", "stochastic_units", "broadcast"])
def test_a_network_of_other_layers_is_refused(rule):
    with pytest.raises(ValueError, match=r"needs a network made of qagrel_jax\.layers"):
        getattr(rules, rule)().act(
            jax.random.key(0), lambda p, x: x @ p, jnp.ones((3, 2)), jnp.ones((1, 3))
        )


@pytest.mark.parametrize("rule", ["node_perturbation", "stochastic_units", "broadcast"])
def test_a_network_with_one_other_layer_is_refused(rule):
    """Its synapses would not learn, and nothing would say so."""
    network = nn.Sequential([nn.Dense(3), nn.relu, layers.Dense(2)])
    params = jax.jit(network.init)(jax.random.key(0), jnp.ones((1, 3)))
    with pytest.raises(ValueError, match=r"a Dense of flax.* use the layers of qagrel_jax\.layers"):
        getattr(rules, rule)().act(jax.random.key(1), network.apply, params, jnp.ones((1, 3)))


def test_parameters_out_of_range():
    with pytest.raises(ValueError, match="noise_sd must be positive and finite, got 0"):
        rules.node_perturbation(noise_sd=0)
    with pytest.raises(ValueError, match="noise_sd must be positive and finite, got -1"):
        rules.stochastic_units(noise_sd=-1)
    with pytest.raises(ValueError, match="strength must be finite, got inf"):
        rules.broadcast(strength=float("inf"))


def test_rewards_that_say_nothing():
    labels = jnp.array([0, 1, 2, 3])
    right = jnp.array([0, 0, 0, 0])  # the first choice is the only right one
    for seed in range(5):
        dealt = classification.shuffled_reward(jax.random.key(seed), labels, right)
        assert dealt.sum() == 1 and dealt[0] == 0
    places = {
        int(classification.shuffled_reward(jax.random.key(seed), labels, right).argmax())
        for seed in range(30)
    }
    assert places == {1, 2, 3}
    assert classification.constant_reward(jax.random.key(0), labels, right).tolist() == [1.0] * 4
    with pytest.raises(ValueError, match="batch of 1 cannot be shuffled"):
        classification.shuffled_reward(jax.random.key(0), labels[:1], right[:1])


@pytest.mark.parametrize(("right", "wrong"), [(1.0, 0.0), (0.0, -1.0), (3.0, 0.5)])
def test_paying(right, wrong):
    paid = classification.make_reward(right, wrong)(
        jax.random.key(0), jnp.array([0, 1]), jnp.array([0, 0])
    )
    assert paid.tolist() == [right, wrong]


@pytest.mark.usefixtures("x64")
def test_optimistic_q_values_are_rewards_moved_down():
    """A constant c added to every Q value, or taken from every reward: the same change."""
    apply, params, inputs = _net()
    rule, c = rules.q_agrel(), 1.0
    rewards = jnp.array([1.0, 0.0, 0.0])

    def learn(forward, rewards):
        decision = rule.act(jax.random.key(0), forward, params, inputs)
        return rule.update(decision, rewards)

    learn = jax.jit(learn, static_argnums=0)
    one, other = learn(lambda p, x: c + apply(p, x), rewards), learn(apply, rewards - c)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-12), one, other)


@pytest.mark.parametrize("forward", ["net", None, lambda params: params])
@pytest.mark.parametrize("name", sorted(set(rules.RULES) - {"relearnn"}))
def test_a_forward_that_is_none_is_named(name, forward):
    with pytest.raises(TypeError, match="forward must be a function"):
        rules.make_rule(name).act(jax.random.key(0), forward, {}, jnp.ones((1, 2)))


@pytest.mark.parametrize("rule", [rules.node_perturbation(), rules.stochastic_units()])
def test_a_noisy_forward_without_aux_is_told(rule):
    forward, params, inputs = _net()
    with pytest.raises(TypeError, match=r"has_aux=True: forward must return \(outputs, aux\)"):
        rule.act(jax.random.key(0), forward, params, inputs, has_aux=True)


@pytest.mark.parametrize("name", ["broadcast", "node_perturbation", "stochastic_units"])
def test_an_embedding_would_not_learn_and_is_refused(name):
    class Words(nn.Module):
        @nn.compact
        def __call__(self, words):
            return layers.Dense(2)(nn.relu(layers.Dense(3)(nn.Embed(7, 4)(words))))

    words, rule = jnp.arange(5), rules.make_rule(name)
    params = Words().init(jax.random.key(0), words)
    with pytest.raises(ValueError, match=r"a Embed of .* cannot be reached into"):
        rule.act(jax.random.key(1), Words().apply, params, words)


@pytest.mark.parametrize(
    "name",
    ["broadcast", pytest.param("node_perturbation", marks=pytest.mark.slow), "stochastic_units"],
)
def test_inputs_may_be_a_pytree(name):
    network, rule = DenseNet(num_actions=2, hidden=(3,)), rules.make_rule(name)
    images = jax.random.uniform(jax.random.key(0), (BATCH, 4))
    params = jax.jit(network.init)(jax.random.key(1), images)

    @partial(jax.jit, static_argnums=0)
    def learn(forward, inputs):
        decision = rule.act(jax.random.key(2), forward, params, inputs)
        return rule.update(decision, jnp.ones(BATCH))

    plain = learn(network.apply, images)
    named = learn(lambda params, x: network.apply(params, x["images"]), {"images": images})
    jax.tree.map(np.testing.assert_array_equal, plain, named)


@pytest.mark.parametrize("make", [rules.node_perturbation, rules.broadcast])
def test_a_policy_of_ones_own_chooses(make):
    apply, params, inputs = _net()
    rule = make(lambda key, q_values: q_values.argmin())
    decision = rule.act(jax.random.key(1), apply, params, inputs)
    np.testing.assert_array_equal(decision.action, decision.outputs.argmin(1))
