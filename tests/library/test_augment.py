"""AuGMEnT against its printed equations, its gradient, and JAX's transformations."""

import dataclasses
import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qagrel_jax.policies import max_boltzmann
from qagrel_jax.population import max_boltzmann_from_gumbel
from qagrel_jax.rules import augment, recollect, synapses, workmate
from qagrel_jax.rules.augment import AugmentConfig, Weights
from tests.library.networks_axis import check_as_each_alone
from tests.reference.augment import Augment

CONFIG = AugmentConfig(inputs=4)
CONFIGS = {
    augment: AugmentConfig,
    recollect: recollect.RecollectConfig,
    workmate: workmate.WorkmateConfig,
}


def given(randomness, q_values, epsilon):
    """The action is what ``randomness`` says."""
    return randomness


given_step = jax.jit(functools.partial(augment.step, choose=given))


def world(steps, networks, seed=0, inputs=4, actions=3):
    """Random observations, rewards, trial ends and actions, networks' axis last."""
    rng = np.random.default_rng(seed)
    observation = rng.integers(0, 2, (steps, inputs, networks)) * rng.random((inputs, networks))
    reward = rng.choice([0.0, 0.2, 1.5], (steps, networks), p=[0.8, 0.1, 0.1])
    ended = rng.random((steps, networks)) < 0.1
    return observation, reward, ended, rng.integers(0, actions, (steps, networks))


def states(config, networks, seed=0):
    keys = jax.random.split(jax.random.key(seed), networks)
    return jax.vmap(lambda key: augment.init(key, config), out_axes=-1)(keys)


def test_sizes_and_parameters_are_the_papers():
    """Rombouts, Bohte & Roelfsema (2015)."""
    assert (
        AugmentConfig(
            inputs=4,
            regular=3,
            memory=4,
            actions=3,
            feedback="tied",
            weight_range=0.25,
            learning_rate=0.15,
            tag_decay=0.2,
            discount=0.9,
            exploration=0.025,
            threshold=2.5,
            leak=1.0,
        )
        == CONFIG
    )
    weights = states(CONFIG, 500).weights
    shapes = [(1 + 4, 3), (2 * 4, 4), (1 + 3, 3), (4, 3)]
    assert [w.shape[:-1] for w in weights] == shapes
    for drawn in weights:
        assert 0.249 < np.abs(drawn).max() <= 0.25
        np.testing.assert_allclose([drawn.mean(), drawn.std()], [0, 0.25 / 3**0.5], atol=0.01)


@pytest.mark.parametrize(
    ("feedback", "leak", "bias"),
    [("tied", 1.0, True), ("kolen_pollack", 0.8, True), ("tied", 0.9, False)],
)
def test_every_number_of_a_thousand_steps_agrees_with_the_printed_equations(
    x64, feedback, leak, bias
):
    networks = 3
    config = AugmentConfig(inputs=4, feedback=feedback, leak=leak, bias=bias)
    start = states(config, networks)

    def body(state, step):
        action, *seen = step
        state, activity = augment.step(action, config, state, *seen, choose=given)
        return state, (state, activity)

    observation, reward, ended, action = world(1000, networks)
    ours = jax.jit(lambda *xs: jax.lax.scan(body, start, xs)[1])(action, observation, reward, ended)
    ours = jax.tree.map(lambda x: np.moveaxis(np.asarray(x), -1, 1), ours)

    def first(x):
        return np.moveaxis(np.asarray(x), -1, 0)

    reference = Augment(
        *map(first, start.weights),
        feedback=None if feedback == "tied" else [first(f) for f in start.feedback],
        leak=leak,
        bias=float(bias),
    )
    for t in range(1000):
        state, activity = jax.tree.map(lambda x, t=t: x[t], ours)
        q_values = reference.forward(first(observation[t]))
        rpe = reference.learn(action[t], reward[t], ended[t])
        pairs = [
            (activity.q_values, q_values),
            (activity.rpe, rpe),
            (state.trace, reference.trace[..., 0]),
            (state.memory, reference.S),
            (state.q_previous, reference.q_previous),
            *zip(state.weights, reference.weights, strict=True),
            *zip(state.tags, reference.tags, strict=True),
            *zip(state.feedback or (), reference.back or (), strict=True),
        ]
        for mine, theirs in pairs:
            assert np.abs(mine - theirs).max() < 1e-9
    assert np.abs(reference.W_M).max() > 0.3, "nothing was learned, so nothing was tested"


def test_without_tag_decay_learning_follows_the_gradient_of_the_prediction_error(x64):
    config = AugmentConfig(inputs=5, tag_decay=0.0)
    observation, reward, _, action = world(6, 1, seed=3, inputs=5)
    observation, reward, action = observation[..., 0], reward[:, 0] + 0.7, action[:, 0]
    start = augment.init(jax.random.key(2), config)
    state = start
    for t in range(6):
        before = state
        last = t == 5
        state, activity = given_step(
            action[t], config, state, observation[t], reward[t], False, last
        )
    target = reward[5] + config.discount * activity.q_values[action[5]]

    def error(weights):
        seen = jnp.zeros(5)
        memory = jnp.zeros(config.memory)
        for x in observation[:5]:
            transients = jnp.concatenate([jnp.maximum(x - seen, 0), jnp.maximum(seen - x, 0)])
            memory = memory + transients @ weights.input_memory
            seen = x

        def sigmoid(u):
            return 1 / (1 + jnp.exp(config.threshold - u))

        regular = sigmoid(weights.input_regular[0] + seen @ weights.input_regular[1:])
        q_values = weights.regular_q[0] + regular @ weights.regular_q[1:]
        q_values = q_values + sigmoid(memory) @ weights.memory_q
        return 0.5 * (target - q_values[action[4]]) ** 2

    gradient = jax.grad(error)(before.weights)
    for new, old, slope in zip(state.weights, before.weights, gradient, strict=True):
        assert np.abs(slope).max() > 1e-4
        np.testing.assert_allclose(new - old, -config.learning_rate * slope, atol=1e-14)


def test_tags_of_unchosen_q_units_decay_by_lambda_gamma_exactly():
    state = augment.init(jax.random.key(0), CONFIG)
    state = state._replace(tags=jax.tree.map(lambda t: t + 0.37, state.tags))
    after, _ = given_step(jnp.int32(1), CONFIG, state, jnp.ones(4), 0.0, False, True)
    for ours, before in (
        (after.tags.regular_q, state.tags.regular_q),
        (after.tags.memory_q, state.tags.memory_q),
    ):
        expected = np.float32(0.2) * np.float32(0.9) * np.asarray(before)
        np.testing.assert_array_equal(ours[:, [0, 2]], expected[:, [0, 2]])
        assert (ours[:, 1] > expected[:, 1]).all()


def test_independent_feedback_keeps_its_distance_from_the_forward_weights():
    config = AugmentConfig(inputs=4, feedback="kolen_pollack")
    state = first = states(config, 2)
    for observation, reward, ended, action in zip(*world(50, 2), strict=True):
        x = jnp.asarray(observation, jnp.float32)
        state, _ = given_step(action, config, state, x, reward, ended)

    def distance(s):
        return s.feedback.memory - s.weights.memory_q

    assert float(jnp.abs(state.weights.memory_q - first.weights.memory_q).max()) > 0.01
    np.testing.assert_allclose(distance(state), distance(first), atol=1e-6)


def test_the_end_of_a_trial_resets_all_but_the_weights():
    state, _ = augment.step(
        jnp.int32(0),
        CONFIG,
        augment.init(jax.random.key(0), CONFIG),
        jnp.ones(4),
        0.0,
        False,
        choose=given,
    )
    ended, activity = given_step(jnp.int32(0), CONFIG, state, jnp.zeros(4), 1.5, True)
    assert float(activity.rpe) == pytest.approx(1.5 - float(state.q_previous))
    for rest in (ended.tags, ended.trace, ended.memory, ended.observation, ended.q_previous):
        assert all(not np.any(leaf) for leaf in jax.tree.leaves(rest))
    for new, old in zip(ended.weights, state.weights, strict=True):
        assert np.any(new != old)


def test_a_frozen_network_is_greedy_and_keeps_its_weights_to_the_bit():
    config = AugmentConfig(inputs=4, exploration=1.0)
    step = jax.jit(functools.partial(augment.step, plastic=False))
    state = first = augment.init(jax.random.key(0), config)
    for t, key in enumerate(jax.random.split(jax.random.key(1), 40)):
        state, activity = step(key, config, state, jnp.full(4, t % 2), 1.5, False)
        assert int(activity.action) == int(np.argmax(activity.q_values))
    for new, old in zip(state.weights, first.weights, strict=True):
        np.testing.assert_array_equal(new, old)


def test_leaky_memory_forgets():
    config = AugmentConfig(inputs=4, leak=0.5)
    state = augment.init(jax.random.key(0), config)
    seen = []
    for _ in range(3):
        state, _ = given_step(jnp.int32(0), config, state, jnp.ones(4), 0.0, False)
        seen.append(np.asarray(state.memory))
    np.testing.assert_allclose(seen[1], seen[0] / 2, rtol=1e-6)
    np.testing.assert_allclose(seen[2], seen[0] / 4, rtol=1e-6)


def test_units_that_leak_differently_are_each_a_network_of_their_own(x64):
    """A unit's memory and trace depend on its own leak alone."""
    networks, leaks = 3, (0.7, 0.7, 1.0, 1.0)
    assert synapses.hybrid_leak(4, 0.7, 1.0) == leaks
    config = AugmentConfig(inputs=4, leak=leaks, feedback="kolen_pollack")
    state = states(config, networks)
    assert state.trace.shape == (8, 4, networks)
    reference = Augment(
        *(np.moveaxis(np.asarray(w), -1, 0) for w in state.weights),
        feedback=[np.moveaxis(np.asarray(f), -1, 0) for f in state.feedback],
        leak=np.array(leaks),
    )
    for observation, reward, ended, action in zip(*world(300, networks), strict=True):
        state, activity = given_step(action, config, state, observation, reward, ended)
        q_values = reference.forward(np.moveaxis(observation, -1, 0))
        reference.learn(action, reward, ended)
        pairs = [
            (activity.q_values, q_values),
            (state.trace, reference.trace),
            (state.memory, reference.S),
            *zip(state.weights, reference.weights, strict=True),
            *zip(state.tags, reference.tags, strict=True),
        ]
        for mine, theirs in pairs:
            assert np.abs(np.moveaxis(np.asarray(mine), -1, 0) - theirs).max() < 1e-9
    same = states(AugmentConfig(inputs=4, leak=(0.8,) * 4), 2)
    plain = states(AugmentConfig(inputs=4, leak=0.8), 2)
    for observation, reward, ended, action in zip(*world(30, 2), strict=True):
        seen = observation, reward, ended
        same, _ = given_step(action, AugmentConfig(inputs=4, leak=(0.8,) * 4), same, *seen)
        plain, _ = given_step(action, AugmentConfig(inputs=4, leak=0.8), plain, *seen)
    chex.assert_trees_all_close(same.weights, plain.weights, atol=1e-12)


def test_leaks_must_be_one_a_unit():
    for leak in ((0.7, 1.0), (0.7, 1.0, 1.0, 1.2)):
        with pytest.raises(ValueError, match="leak"):
            AugmentConfig(inputs=4, leak=leak)
    with pytest.raises(ValueError, match="multiple of the 3 leaks, got 4"):
        synapses.hybrid_leak(4, 0.7, 0.8, 1.0)
    for leak in (1.5, -1.0, np.nan):
        with pytest.raises(ValueError, match="leak must be in"):
            synapses.hybrid_leak(4, 0.7, leak)
    with pytest.raises(ValueError, match="memory must be at least 1, got 0"):
        synapses.hybrid_leak(0, 0.7)


def test_jit_vmap_and_the_networks_axis_are_the_plain_step():
    networks, steps = 3, 12
    observation, reward, ended, _ = world(steps, networks)
    observation, reward = jnp.asarray(observation, jnp.float32), jnp.asarray(reward, jnp.float32)
    keys = jax.random.split(jax.random.key(5), (steps, networks))
    start = mapped = states(CONFIG, networks)

    axes = (0, None, -1, -1, -1, -1)
    step_all = jax.jit(jax.vmap(augment.step, in_axes=axes, out_axes=-1))
    actions = []
    for t in range(steps):
        seen = observation[t], reward[t], ended[t]
        mapped, activity = step_all(keys[t], CONFIG, mapped, *seen)
        actions.append(activity.action)
    assert step_all._cache_size() == 1

    together = start
    for t in range(steps):
        seen = observation[t], reward[t], ended[t]
        together, _ = given_step(actions[t], CONFIG, together, *seen)
    chex.assert_trees_all_close(together, mapped, atol=1e-6)

    alone = jax.tree.map(lambda x: x[..., 1], start)
    for t, key in enumerate(jax.random.clone(keys)[:, 1]):
        alone, activity = augment.step(
            key, CONFIG, alone, observation[t, :, 1], reward[t, 1], ended[t, 1]
        )
        assert activity.action == actions[t][1]
    chex.assert_trees_all_close(alone, jax.tree.map(lambda x: x[..., 1], mapped), atol=1e-6)


def test_settings_may_differ_between_networks():
    config = AugmentConfig(
        inputs=4, learning_rate=jnp.array([0.0, 0.3]), tag_decay=jnp.array([0.2, 0.9])
    )
    state = first = states(config, 2)
    observation, reward, ended, action = world(20, 2)
    for t in range(20):
        x = jnp.asarray(observation[t], jnp.float32)
        state, _ = given_step(action[t], config, state, x, reward[t], ended[t])
    moved = jnp.abs(state.weights.memory_q - first.weights.memory_q).max((0, 1))
    assert moved[0] == 0 and moved[1] > 0


AXIS = {
    "one for all": {},
    "kolen_pollack": {"feedback": "kolen_pollack", "policy": "epsilon_greedy"},
    "each its own": {
        "learning_rate": [0.1, 0.2, 0.3],
        "tag_decay": [0.2, 0.5, 0.9],
        "discount": [0.9, 0.8, 0.7],
        "exploration": [0.0, 0.5, 1.0],
        "threshold": [2.5, 1.0, 0.0],
        "leak": [1.0, 0.5, 0.0],
    },
    "leaks of units": {"leak": (1.0, 0.8, 0.6, 0.4)},
}


@pytest.mark.parametrize("settings", AXIS.values(), ids=AXIS)
def test_many_networks_step_by_default_as_each_alone(settings):
    """``plastic``, ``reward`` and ``ended`` are one for all; every parameter may differ."""
    differ = {name: value for name, value in settings.items() if isinstance(value, list)}
    config = AugmentConfig(4, **settings | {k: jnp.array(v) for k, v in differ.items()})
    of_each = [
        AugmentConfig(4, **settings | {k: v[n] for k, v in differ.items()}) for n in range(3)
    ]
    observations, *_ = world(8, 3)
    check_as_each_alone(augment.step, config, of_each, states(config, 3), observations)


def test_gumbel_numbers_drawn_beforehand_give_max_boltzmanns_own_actions():
    keys = jax.random.split(jax.random.key(0), 500)
    q_values = jax.random.normal(jax.random.key(1), (3, 500)).at[:, :50].set(0.5)
    gumbel = jax.vmap(lambda key: jax.random.gumbel(key, (3,)), out_axes=-1)(keys)
    ours = max_boltzmann_from_gumbel(gumbel, q_values, jnp.full(500, 0.5))
    again = jax.random.clone(keys)
    theirs = jax.vmap(lambda k, q: max_boltzmann(k, q, 0.5), in_axes=(0, -1))(again, q_values)
    np.testing.assert_array_equal(ours, theirs)


def test_initial_weights_fill_the_range_and_differ():
    config = AugmentConfig(
        inputs=20, regular=30, memory=30, weight_range=0.25, feedback="kolen_pollack"
    )
    state = augment.init(jax.random.key(0), config)
    for w in (*state.weights, *state.feedback):
        assert -0.25 <= float(w.min()) < -0.2 and 0.2 < float(w.max()) <= 0.25
    assert np.any(state.feedback.memory != state.weights.memory_q)
    shapes = Weights((21, 30), (40, 30), (31, 3), (30, 3))
    assert tuple(w.shape for w in state.weights) == shapes


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("inputs", 0),
        ("memory", -1),
        ("regular", 2.5),
        ("feedback", "both"),
        ("learning_rate", -0.1),
        ("tag_decay", 1.5),
        ("discount", -0.2),
        ("exploration", 2.0),
        ("leak", 1.01),
        ("weight_range", -1.0),
        ("threshold", float("nan")),
        ("learning_rate", float("inf")),
        ("tag_decay", np.float32(1.5)),
        ("discount", jnp.float32(1.5)),
    ],
)
def test_a_bad_parameter_is_named_with_its_value(field, value):
    with pytest.raises(ValueError, match=rf"{field}.*{value}"):
        AugmentConfig(**{"inputs": 4, field: value})


def test_sizes_given_as_arrays_can_be_static():
    config = AugmentConfig(np.array(4), memory=jnp.int32(4), weight_range=np.array(0.25))
    assert jax.tree.structure(config) == jax.tree.structure(CONFIG)
    assert hash(config) == hash(CONFIG)


@pytest.mark.slow
def test_a_units_leak_may_differ_between_networks():
    """Units of a leak each, float[networks]: each network as alone with numbers of its own."""
    leaks = [(0.7, 1.0, 0.3, 0.9), (0.8, 0.2, 1.0, 0.5)]
    config = AugmentConfig(inputs=4, memory=4, leak=tuple(map(jnp.array, zip(*leaks, strict=True))))
    alone = [AugmentConfig(inputs=4, memory=4, leak=leak) for leak in leaks]
    state = augment.init(jax.random.key(0), alone[0])
    together = jax.tree.map(lambda x: jnp.stack([x, x], -1), state)
    states = [state, state]
    for step in range(4):
        seen = jax.random.uniform(jax.random.key(step), (4,))
        both = jnp.stack([seen, seen], -1)
        frozen = {"reward": jnp.zeros(()), "ended": jnp.bool_(False), "plastic": False}
        each = [
            augment.step(jax.random.key(9), c, s, seen, **frozen)
            for c, s in zip(alone, states, strict=True)
        ]
        states = [new for new, _ in each]
        many = {**frozen, "reward": jnp.zeros(2), "ended": jnp.zeros(2, bool)}
        together, activity = augment.step(jax.random.key(9), config, together, both, **many)
        for network, (_, own) in enumerate(each):
            np.testing.assert_allclose(activity.memory[:, network], own.memory, rtol=1e-6)
    assert np.abs(activity.memory[:, 0] - activity.memory[:, 1]).max() > 1e-3


@pytest.mark.parametrize("rule", CONFIGS, ids=["augment", "recollect", "workmate"])
def test_what_does_not_belong_together_is_refused(rule):
    """Each of these once ran: with other feedback, other sizes, one network's input for all."""
    config = CONFIGS[rule](inputs=2, memory=4, actions=3)
    state = rule.init(jax.random.key(0), config)
    three = jax.tree.map(lambda x: jnp.stack([x] * 3, axis=-1), state)
    keys, seen = jax.random.PRNGKey(1), jnp.array([1.0, 0.0])
    own = dataclasses.replace(config, feedback="kolen_pollack")
    for other in (None, *(r.init(keys, c(inputs=2)) for r, c in CONFIGS.items() if r is not rule)):
        with pytest.raises(TypeError, match=r"state must be an? \w+State, got .*init gives one"):
            rule.step(keys, config, other, seen, 0.0, False)
    with pytest.raises(ValueError, match="it has no feedback weights"):
        rule.step(keys, own, state, seen, 0.0, False)
    with pytest.raises(ValueError, match="it has feedback weights"):
        rule.step(keys, config, rule.init(keys, own), seen, 0.0, False)
    with pytest.raises(ValueError, match="state must be of the sizes of config"):
        rule.step(keys, dataclasses.replace(config, memory=6), state, seen, 0.0, False)
    with pytest.raises(ValueError, match=r"observation must be \[2, 3\], got \[2\] \(of many"):
        rule.step(keys, config, three, seen, 0.0, False)
    with pytest.raises(ValueError, match=r"observation must be \[2\], got \[3\]"):
        rule.step(keys, config, state, jnp.zeros(3), 0.0, False)
    each = jnp.stack([seen] * 3, axis=-1)
    best_of_all = functools.partial(rule.step, choose=lambda _, q, epsilon: jnp.argmax(q))
    with pytest.raises(ValueError, match=r"an action for each network, \[3\], got \[\]"):
        best_of_all(keys, config, three, each, 0.0, False)
    from_one = functools.partial(rule.step, choose=lambda _, q, epsilon: jnp.int32(3))
    with pytest.raises(ValueError, match=r"must be in \[0, 3\), got 3"):
        from_one(keys, config, state, seen, 0.0, False)
    assert np.isnan(jax.jit(from_one)(keys, config, state, seen, 0.0, False)[1].rpe)
    with pytest.raises(TypeError, match=r"named in config\.policy"):
        rule.step(keys, config, state, seen, 0.0, False, choose=max_boltzmann_of_two)


@pytest.mark.parametrize("rule", CONFIGS, ids=["augment", "recollect", "workmate"])
@pytest.mark.parametrize("networks", [(), (3,)], ids=["one", "three"])
def test_what_is_neither_one_value_nor_one_for_each_network_is_refused(rule, networks):
    """Memory units and inputs are as many as to be taken for networks."""
    config = CONFIGS[rule](inputs=2, memory=4)
    state = rule.init(jax.random.key(0), config)
    state = jax.tree.map(lambda x: jnp.broadcast_to(x[..., None], (*x.shape, 3)), state)
    if not networks:
        state = jax.tree.map(lambda x: x[..., 0], state)
    seen, none = jnp.zeros((2, *networks)), np.zeros(1, bool)
    good = jax.random.PRNGKey(1), config, state, seen, 0.0, False
    rule.step(*good)
    for wrong, name in (
        ((*good[:4], [1.0, 0.0], False), "reward"),
        ((*good[:5], none), "ended"),
        ((*good, none), "plastic"),
        *(
            ((good[0], dataclasses.replace(config, **{field: jnp.full(4, 0.5)}), *good[2:]), field)
            for field in ("threshold", "learning_rate", "tag_decay", "discount", "exploration")
        ),
    ):
        with pytest.raises(ValueError, match=rf"{name} must be one value.*, got shape \["):
            rule.step(*wrong)
    with pytest.raises(TypeError, match="randomness must be a random key"):
        rule.step(0, *good[1:])
    with pytest.raises(TypeError, match="observation must be real numbers"):
        rule.step(*good[:3], seen + 1j, 0.0, False)
    for wrong in ((0, config), (good[0], {"inputs": 2})):
        with pytest.raises(TypeError, match=r"key must be a random key|config must be a"):
            rule.init(*wrong)


def test_a_state_goes_on_with_its_own_kind_of_leak_alone():
    """With 2 · inputs = memory the shapes of the other kind would fit together."""
    config = AugmentConfig(inputs=2, memory=4)
    each = dataclasses.replace(config, leak=(1.0,) * 4)
    key, seen = jax.random.PRNGKey(0), jnp.ones(2)
    for its, other in ((config, each), (each, config)):
        state = augment.init(key, its)
        augment.step(key, its, state, seen, 0.0, False)
        with pytest.raises(ValueError, match=r"state must be of config.leak, as init makes it"):
            augment.step(key, other, state, seen, 0.0, False)
    as_array = dataclasses.replace(config, leak=jnp.full(4, 0.5))
    with pytest.raises(ValueError, match=r"config.leak must be one value, got shape \[4\]"):
        augment.step(key, as_array, augment.init(key, as_array), seen, 0.0, False)


def max_boltzmann_of_two(key, q_values):
    return max_boltzmann(key, q_values)


@pytest.mark.parametrize("rule", CONFIGS, ids=["augment", "recollect", "workmate"])
def test_observations_may_be_lists_or_whole_numbers(rule):
    config = CONFIGS[rule](inputs=2)
    state = rule.init(jax.random.key(0), config)
    plain = rule.step(jax.random.key(1), config, state, jnp.array([1.0, 0.0]), 0.0, False)
    for seen in ([1, 0], np.array([1, 0]), np.array([True, False])):
        other = rule.step(jax.random.key(1), config, state, seen, 0.0, False)
        jax.tree.map(np.testing.assert_array_equal, plain, other)
        chex.assert_trees_all_equal_dtypes(plain[0], other[0])
