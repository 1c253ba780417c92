"""Environments of others: how episodes end, what learners make of it, and gymnax itself."""

import dataclasses
import itertools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import qagrel_jax
from qagrel_jax import data, environments, make_network, make_task
from qagrel_jax.environments import Environment
from qagrel_jax.rules import augment, make_rule, recollect, workmate
from qagrel_jax.rules.augment import AugmentConfig
from qagrel_jax.rules.recollect import RecollectConfig
from qagrel_jax.rules.workmate import WorkmateConfig
from tests.reference.recollect import Recollect
from tests.reference.workmate import Workmate

SHOWN = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
"""What the environment below shows: at first, after the first action, and last."""


def _two_steps(ending):
    """An environment of one action: after the second, episodes end in the way asked for."""
    shown = jnp.asarray(SHOWN)

    def step(key, state, action):
        del key, action
        state = state + 1
        over = state == 2
        terminated = over & (ending in ("terminated", "both"))
        truncated = over & (ending in ("truncated", "both"))
        return state, shown[state], state.astype(float), terminated, truncated

    return Environment(2, 1, lambda key: (jnp.int32(0), shown[0]), step)


def _q(weights, seen):
    """AuGMEnT's q of the only action after these observations, from its equations."""
    before = np.vstack([np.zeros(2), seen[:-1]])
    change = np.asarray(seen) - before
    transients = np.concatenate([np.maximum(change, 0), np.maximum(-change, 0)], axis=1)

    def sigmoid(u):
        return 1 / (1 + np.exp(2.5 - u))

    memory = sigmoid(transients.sum(0) @ weights.input_memory)
    regular = sigmoid(np.concatenate([[1.0], seen[-1]]) @ weights.input_regular)
    q = np.concatenate([[1.0], regular]) @ weights.regular_q + memory @ weights.memory_q
    return q[0]


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("ending", ["terminated", "truncated", "both"])
def test_a_terminated_value_ends_and_a_truncated_one_goes_on(ending):
    environment = _two_steps(ending)
    config = AugmentConfig(inputs=2, actions=1, discount=0.8)
    player = environments.begin(jax.random.key(0), config, environment)
    play = jax.jit(
        lambda player: environments.play(
            jax.random.key(1), config, player, environment, 4, plastic=False
        )
    )
    _, steps = play(player)
    weights = jax.tree.map(np.asarray, player.learner.weights)
    first, second, last = (_q(weights, SHOWN[: n + 1]) for n in range(3))
    follows = 0 if ending in ("terminated", "both") else 0.8 * last
    np.testing.assert_array_equal(steps.reward, [1, 2, 1, 2])
    np.testing.assert_array_equal(steps.terminated | steps.truncated, [0, 1, 0, 1])
    np.testing.assert_array_equal(steps.terminated, [0, ending != "truncated"] * 2)
    # Frozen, and forgetful, it meets the second episode as it met the first.
    np.testing.assert_allclose(steps.rpe, [0.8 * first, 1 + 0.8 * second - first] * 2, atol=1e-6)
    np.testing.assert_allclose(steps.last_rpe, [0, 2 + follows - second] * 2, atol=1e-6)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("ending", ["terminated", "truncated"])
def test_recollect_plays_by_its_printed_equations_and_nothing_resets_it(ending):
    environment = _two_steps(ending)._replace(actions=3)
    config = RecollectConfig(inputs=2, feedback="kolen_pollack", end_input=True)
    start = environments.begin(jax.random.key(0), config, environment)
    player, steps = jax.jit(
        lambda player: environments.play(
            jax.random.key(1), config, player, environment, 6, record=True
        )
    )(start)
    weights = start.learner.weights
    reference = Recollect(
        weights.gate, weights.candidate, weights.q, start.learner.feedback, s=config.steepness
    )
    actions, found = iter(steps.action.tolist()), []
    for number in range(9):  # the last observation of each episode is seen, too
        shown, over = number % 3, number % 3 == 2
        q_values = reference.forward([*SHOWN[shown], float(over)])
        # What is chosen once an episode is over has no effect but through its value.
        action = int(q_values.argmax()) if over else next(actions)
        units = reference.g.copy(), reference.y.copy()
        found.append((shown, q_values, *units, reference.learn(action, float(shown))))
    chose = [step for step in found if step[0] < 2]
    np.testing.assert_array_equal(steps.observation, [SHOWN[step[0]] for step in chose])
    recorded = steps.q_values, steps.units["gate"], steps.units["memory"], steps.rpe
    for position, values in enumerate(recorded, start=1):
        np.testing.assert_allclose(values, [step[position] for step in chose], atol=1e-6)
    last = [step[4] for step in found if step[0] == 2]
    np.testing.assert_allclose(steps.last_rpe[1::2], last, atol=1e-6)
    expected = reference.W_g, reference.W_c, reference.W_q
    for ours, theirs in zip(player.learner.weights, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-6)
    np.testing.assert_allclose(player.learner.feedback, reference.back, atol=1e-6)
    np.testing.assert_allclose(player.learner.memory, reference.y, atol=1e-6)
    assert np.abs(player.learner.memory).min() > 0


def test_what_augment_saw_and_its_units_are_recorded_if_asked():
    environment = _two_steps("terminated")
    config = AugmentConfig(inputs=2, actions=1)
    player = environments.begin(jax.random.key(0), config, environment)
    given = config, player, environment, 4, False
    _, steps = environments.play(jax.random.key(1), *given, record=True)
    weights = jax.tree.map(np.asarray, player.learner.weights)
    q_values = [_q(weights, SHOWN[: n + 1]) for n in range(2)]
    np.testing.assert_allclose(steps.q_values[:, 0], q_values * 2, atol=1e-6)
    np.testing.assert_array_equal(steps.observation, np.tile(SHOWN[:2], (2, 1)))
    assert set(steps.units) == {"regular", "memory"}
    hidden = np.concatenate([np.ones((4, 1)), steps.units["regular"]], axis=1)
    again = hidden @ weights.regular_q + steps.units["memory"] @ weights.memory_q
    np.testing.assert_allclose(again, steps.q_values, atol=1e-6)
    _, steps = environments.play(jax.random.key(1), *given)
    assert steps.observation is steps.q_values is steps.units is None


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("ending", ["terminated", "truncated"])
def test_workmate_plays_by_its_printed_equations(ending):
    environment = _two_steps(ending)._replace(actions=3)
    config = WorkmateConfig(inputs=2, regular=4, memory=6, time_cells=3, threshold=0.0)
    start = environments.begin(jax.random.key(0), config, environment)
    player, steps = environments.play(jax.random.key(1), config, start, environment, 8, record=True)
    reference = Workmate(*start.learner.weights, start.learner.projection, 3, theta=0.0, cells=3)
    gates = np.concatenate([steps.units["gate"], 0.5 * np.ones((8, 1))], axis=1).argmax(1)
    for episode in range(4):
        for shown in range(2):
            t = 2 * episode + shown
            q_values = reference.forward(SHOWN[shown])
            np.testing.assert_allclose(steps.q_values[t], q_values[:3], atol=1e-6)
            np.testing.assert_allclose(steps.units["match"][t], reference.match, atol=1e-6)
            np.testing.assert_allclose(steps.units["regular"][t], reference.h, atol=1e-6)
            rpe = reference.learn(int(steps.action[t]), int(gates[t]), float(shown), False)
            np.testing.assert_allclose(steps.rpe[t], rpe, atol=1e-6)
        q_values = reference.forward(SHOWN[2])
        best = int(q_values[:3].argmax()), int(q_values[3:].argmax())
        rpe = reference.learn(*best, 2.0, ending == "terminated")
        np.testing.assert_allclose(steps.last_rpe[t], rpe, atol=1e-6)
        reference.reset()
        reference.q_previous = 0.0
    for ours, theirs in zip(
        player.learner.weights, (reference.W_x, reference.W_S, reference.W_q), strict=True
    ):
        np.testing.assert_allclose(ours, theirs, atol=1e-6)
    chex.assert_trees_all_equal(
        environments.forget(player.learner), workmate.at_rest(player.learner)
    )
    with pytest.raises(TypeError, match="learner must be a"):
        environments.forget(recollect.init(jax.random.key(0), RecollectConfig(inputs=2)))


def test_playing_on_compiles_nothing():
    traced = []

    def reset(key):
        traced.append(key)
        return jnp.int32(0), jnp.ones(2)

    environment = _two_steps("both")._replace(reset=reset)
    config = AugmentConfig(inputs=2, actions=1)
    player = environments.begin(jax.random.key(0), config, environment)
    for number in range(3):
        player, _ = environments.play(jax.random.key(number), config, player, environment, 3)
        config = dataclasses.replace(config, learning_rate=0.1 / (1 + number))
        if number == 0:
            once = len(traced)
    assert len(traced) - once <= 2  # ``check`` alone


def test_objects_without_a_hash_play():
    @dataclasses.dataclass
    class Always:
        action: int

        def __call__(self, key, q_values, epsilon):
            return jnp.int32(self.action)

    sizes = {"inputs": np.array(2), "actions": jnp.array(3)}
    world = _two_steps("terminated")._replace(**sizes)
    config = AugmentConfig(inputs=2)
    player = environments.begin(jax.random.key(0), config, world)
    for action in (2, 1):
        key, policy = jax.random.key(action), Always(action)
        _, steps = environments.play(key, config, player, world, 3, choose=policy)
        np.testing.assert_array_equal(steps.action, action)


def test_a_player_of_the_other_rule_is_refused():
    environment = _two_steps("terminated")
    configs = [
        made(inputs=2, actions=1) for made in (AugmentConfig, RecollectConfig, WorkmateConfig)
    ]
    for config, other in itertools.permutations(configs, 2):
        player = environments.begin(jax.random.key(0), other, environment)
        with pytest.raises(TypeError, match=r"player\.learner must be an? \w+State, got"):
            environments.play(jax.random.key(1), config, player, environment, 2)
    with pytest.raises(TypeError, match="config must be one of AugmentConfig, RecollectConfig"):
        environments.begin(jax.random.key(0), {"inputs": 2}, environment)


@pytest.mark.parametrize(
    "name", ["saccade", "twelve_ax", "reversal_bandit", "match_to_sample", "twelve_ax_levels"]
)
def test_a_task_is_an_environment_of_its_trials(name):
    task = make_task(name)
    environment = environments.from_task(task)
    states, seen = jax.vmap(environment.reset)(jax.random.split(jax.random.key(0), 9))
    assert seen.shape == (9, task.inputs)
    theirs = jax.jit(jax.vmap(lambda *given: task.step(*given, task.params())))
    ours = jax.jit(jax.vmap(environment.step))
    over = np.zeros(9, bool)
    for number in range(40):
        keys, actions = jax.random.split(jax.random.key(number), 9), np.arange(9) % task.actions
        _, timestep = theirs(keys, states, actions)
        states, *answer = ours(jax.random.clone(keys), states, actions)
        expected = [timestep.observation, timestep.reward, timestep.done, np.zeros(9, bool)]
        jax.tree.map(np.testing.assert_array_equal, answer, expected)
        over |= timestep.done
    assert over.any()


def test_augment_plays_a_task():
    environment = environments.from_task(make_task("saccade"))
    config = AugmentConfig(inputs=4)
    player = environments.begin(jax.random.key(0), config, environment)
    play = jax.jit(lambda key: environments.play(key, config, player, environment, 300)[1])
    steps = play(jax.random.key(1))
    # Each trial brings nothing, the reward of fixation, that of a saccade, or both.
    trials = np.split(steps.reward, np.flatnonzero(steps.terminated) + 1)
    assert len(trials) > 20
    assert {round(float(t.sum()), 1) for t in trials} <= {0.0, 0.2, 1.5, 1.7}


def test_what_ends_is_forgotten_but_not_the_weights():
    environment = _two_steps("truncated")
    config = AugmentConfig(inputs=2, actions=1, feedback="kolen_pollack")
    start = environments.begin(jax.random.key(0), config, environment)
    player, _ = environments.play(jax.random.key(1), config, start, environment, 2)
    learner = player.learner
    assert player.state == 0
    assert player.reward == 0
    for part in (learner.tags, learner.trace, learner.memory, learner.observation):
        assert all((leaf == 0).all() for leaf in jax.tree.leaves(part))
    assert learner.q_previous == 0
    for before, after in zip(start.learner.weights, learner.weights, strict=True):
        assert (before != after).any()
    assert (start.learner.feedback.memory != learner.feedback.memory).any()


def test_sizes_that_differ_are_refused():
    environment = _two_steps("terminated")
    for config, message in (
        (AugmentConfig(inputs=3, actions=1), "config.inputs must be 2, the environment's, got 3"),
        (AugmentConfig(inputs=2), "config.actions must be 1, the environment's, got 3"),
    ):
        with pytest.raises(ValueError, match=message):
            environments.begin(jax.random.key(0), config, environment)
    with pytest.raises(ValueError, match="an environment gives rewards, but backprop learns from"):
        environments.trial(
            jax.random.key(0),
            qagrel_jax.backprop(),
            lambda p, x: x @ p,
            jnp.ones((2, 1)),
            environment,
        )


@pytest.mark.slow
def test_augment_learns_the_memory_chain():
    gymnax = pytest.importorskip("gymnax")
    chain, params = gymnax.make("MemoryChain-bsuite")
    environment = environments.from_gymnax(chain, params.replace(memory_length=3), on_off=True)
    config = AugmentConfig(inputs=environment.inputs, actions=environment.actions)
    assert (config.inputs, config.actions) == (6, 2)
    keys = jax.random.split(jax.random.key(0), 8)
    players = jax.vmap(lambda key: environments.begin(key, config, environment))(keys)

    @jax.jit
    def play(number, players, plastic):
        keys = jax.random.split(jax.random.key(number), 8)
        return jax.vmap(
            lambda key, player: environments.play(key, config, player, environment, 4000, plastic)
        )(keys, players)

    players, _ = play(1, players, True)
    _, test = play(2, players, False)
    assert not test.truncated.any()
    episodes = test.terminated.sum(1)
    assert (episodes == 1000).all()  # of memory_length + 1 actions
    right = (test.reward > 0).sum(1) / episodes
    assert (right == 1).mean() >= 0.75
    assert right.mean() > 0.95


def test_a_time_limit_truncates():
    gymnax = pytest.importorskip("gymnax")
    chain, params = gymnax.make("MemoryChain-bsuite")
    params = params.replace(memory_length=5, max_steps_in_episode=2)
    environment = environments.from_gymnax(chain, params)
    config = AugmentConfig(inputs=3, actions=2)
    player = environments.begin(jax.random.key(0), config, environment)
    _, steps = jax.jit(
        lambda player: environments.play(jax.random.key(1), config, player, environment, 6)
    )(player)
    assert not steps.terminated.any()
    assert steps.truncated.tolist() == [False, True] * 3


def test_q_agrel_learns_the_image_bandit():
    pytest.importorskip("gymnax")
    digits = data.load("digits")
    bandit = environments.mnist_bandit(digits.train_images, digits.train_labels)
    environment = environments.from_gymnax(bandit)
    assert (environment.inputs, environment.actions) == (64, 10)
    network = qagrel_jax.make_network("dense", 10, hidden=(60,))
    params = jax.jit(network.init)(jax.random.key(0), jnp.zeros((1, 64)))["params"]
    rule, optimizer = qagrel_jax.q_agrel(), optax.sgd(0.2)

    def forward(params, inputs):
        return network.apply({"params": params}, inputs)

    def learn(params, key):
        grads, outcome = environments.trial(key, rule, forward, params, environment, batch=16)
        updates, _ = optimizer.update(grads, optimizer.init(params))
        return optax.apply_updates(params, updates), outcome

    keys = jax.random.split(jax.random.key(1), 1500)
    params, outcome = jax.jit(lambda params: jax.lax.scan(learn, params, keys))(params)
    assert outcome.ended.all()
    assert set(np.unique(outcome.reward).tolist()) == {-1, 1}
    assert (outcome.reward[:50] > 0).mean() < 0.3
    assert (outcome.reward[-50:] > 0).mean() > 0.9
    inputs = jnp.asarray(digits.test_images, jnp.float32).reshape(-1, 64) / 255
    accuracy = (forward(params, inputs).argmax(1) == digits.test_labels).mean()
    assert accuracy > 0.85


def test_what_the_network_returns_beside_its_outputs_comes_back():
    """BatchNorm's statistics, for instance."""
    network = qagrel_jax.make_network("conv", 3)
    variables = jax.jit(network.init)(jax.random.key(0), jnp.zeros((1, 8, 8, 1)))
    params = variables.pop("params")
    task = environments.Environment(
        inputs=64,
        actions=3,
        reset=lambda key: (jnp.int32(0), jax.random.uniform(key, (64,))),
        step=lambda key, state, action: (state, jnp.zeros(64), 1.0, True, False),
    )

    def forward(params, inputs):
        given = {"params": params, **variables}
        images, rngs = inputs.reshape(-1, 8, 8, 1), {"dropout": jax.random.key(1)}
        return network.apply(given, images, train=True, rngs=rngs, mutable=["batch_stats"])

    @jax.jit
    def learn(key, params):
        rule = qagrel_jax.q_agrel()
        return environments.trial(key, rule, forward, params, task, batch=4, has_aux=True)

    _, outcome = learn(jax.random.key(2), params)
    mean = outcome.aux["batch_stats"]["BatchNorm_0"]["mean"]
    assert (mean != variables["batch_stats"]["BatchNorm_0"]["mean"]).any()


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (np.zeros((3, 8, 8)), np.zeros(2), r"shapes \(3, 8, 8\) and \(2,\)"),
        (np.zeros((3, 8, 8, 3)), np.zeros(3), r"shapes \(3, 8, 8, 3\) and \(3,\)"),
        (np.zeros((3, 8, 8)), np.array([0, 1, 10]), r"label must be in \[0, 10\), got 10 at"),
    ],
)
def test_images_that_do_not_fit_are_refused(images, labels, message):
    pytest.importorskip("gymnax")
    with pytest.raises(ValueError, match=message):
        environments.mnist_bandit(images, labels)


class _StandIn:
    """gymnax's functional API, with parts that can be wrong."""

    name, default_params = "stand-in", None

    def __init__(self, actions=2, answers=6):
        self.actions, self.answers = actions, answers

    def action_space(self, params):
        return type("Discrete", (), {"n": self.actions} if self.actions else {})()

    def observation_space(self, params):
        return type("Box", (), {"shape": (2, 2)})()

    def reset(self, key, params):
        return jnp.array([[1, -2], [0, 3]]), jnp.int32(0)

    def step(self, key, state, action, params):
        last = {"final_observation": -jnp.ones((2, 2))}
        over = state == 1
        answer = jnp.zeros((2, 2)), state, 1, over, ~over, last
        return answer if self.answers == 6 else (*answer[:4], {})


def test_observations_become_inputs_flat_or_by_sign():
    flat = environments.from_gymnax(_StandIn())
    by_sign = environments.from_gymnax(_StandIn(), on_off=True)
    assert (flat.inputs, by_sign.inputs, flat.actions) == (4, 8, 2)
    key = jax.random.key(0)
    assert flat.reset(key)[1].tolist() == [1, -2, 0, 3]
    assert by_sign.reset(key)[1].tolist() == [1, 0, 0, 3, 0, 2, 0, 0]
    _, last, reward, terminated, truncated = by_sign.step(key, jnp.int32(1), jnp.int32(0))
    assert last.tolist() == [0] * 4 + [1] * 4
    assert (reward, terminated, truncated) == (1, True, False)


def test_what_is_no_environment_for_us_is_refused():
    with pytest.raises(ValueError, match="stand-in has no discrete set of actions"):
        environments.from_gymnax(_StandIn(actions=None))
    old = environments.from_gymnax(_StandIn(answers=5))
    with pytest.raises(ValueError, match=r"it needs gymnax 1\.0 or later"):
        old.step(jax.random.key(0), jnp.int32(0), jnp.int32(0))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"reset": lambda key: jnp.zeros(2)}, r"reset must return \(state, observation\), got"),
        (
            {"reset": lambda key: (jnp.zeros(2), jnp.int32(0))},
            r"reset must return an observation \[2\], got int32",
        ),
        (
            {"step": lambda key, state, action: (state, jnp.zeros(2), 0.0, True)},
            r"step must return \(state, observation, reward, terminated, truncated\), got",
        ),
        (
            {"step": lambda key, state, action: (1.0 * state, jnp.zeros(2), 0.0, True, False)},
            "a state like that of reset, int32",
        ),
        (
            {"reset": lambda key: (jnp.int32(0), jnp.zeros((2, 1)))},
            r"environment.reset must return an observation \[2\], got float32\[2, 1\]",
        ),
        (
            {"reset": lambda key: (jnp.int32(0), (jnp.zeros(2), 1))},
            r"environment.reset must return an observation \[2\], got \('float32\[2\]', ",
        ),
        (
            {"step": lambda key, state, action: (state, jnp.zeros((1, 2)), 0.0, True, False)},
            r"environment.step must return an observation \[2\], got float32\[1, 2\]",
        ),
        (
            {"step": lambda key, state, action: (state, jnp.zeros(2), jnp.zeros(1), True, False)},
            r"environment.step must return a reward that is one number, got float32\[1\]",
        ),
        (
            {"step": lambda key, state, action: (state, jnp.zeros(2), 0.0, 1.0, False)},
            r"environment.step must return terminated as one truth value, got float32\[\]",
        ),
        (
            {"step": lambda key, state, action: (state, jnp.zeros(2), 0.0, True, jnp.int32(0))},
            r"environment.step must return truncated as one truth value, got int32\[\]",
        ),
        (
            {
                "step": lambda key, state, action: (
                    state,
                    jnp.zeros(2),
                    0.0,
                    jnp.ones(1, bool),
                    True,
                )
            },
            r"environment.step must return terminated as one truth value, got bool\[1\]",
        ),
    ],
)
def test_functions_that_answer_otherwise_are_told(changes, says):
    environment = environments.Environment(
        inputs=2,
        actions=3,
        reset=lambda key: (jnp.int32(0), jnp.zeros(2)),
        step=lambda key, state, action: (state, jnp.zeros(2), 0.0, True, False),
    )
    config = AugmentConfig(inputs=2, actions=3)
    environments.begin(jax.random.key(0), config, environment)
    with pytest.raises(ValueError, match=says):
        environments.begin(jax.random.key(1), config, environment._replace(**changes))


@pytest.mark.parametrize(
    ("reward", "over"), [(1.0, True), (1, np.bool_(True)), (True, jnp.bool_(True))]
)
def test_pythons_numbers_and_truth_values_pass(reward, over):
    environment = Environment(
        inputs=2,
        actions=3,
        reset=lambda key: (0, np.array([0, 1])),
        step=lambda key, state, action: (state, np.array([0, 1]), reward, over, False),
    )
    config = AugmentConfig(inputs=2, actions=3)
    player = environments.begin(jax.random.key(0), config, environment)
    _, steps = environments.play(jax.random.key(1), config, player, environment, 2)
    assert steps.reward.tolist() == [1, 1] and steps.terminated.all()
    _, outcome = environments.trial(
        jax.random.key(2),
        qagrel_jax.q_agrel(),
        lambda params, inputs: inputs @ params,
        jnp.zeros((2, 3)),
        environment,
        batch=2,
    )
    assert outcome.reward.tolist() == [1, 1] and outcome.ended.all()


def test_a_network_of_other_outputs_than_actions_is_refused():
    """Rewards of an action that does not exist would be those of another."""
    reset = lambda key: (jnp.int32(0), jnp.ones(1))  # noqa: E731
    paid = jnp.array([0.0, 1.0])
    step = lambda key, state, action: (state, jnp.ones(1), paid[action], True, False)  # noqa: E731
    world = Environment(inputs=1, actions=2, reset=reset, step=step)
    forward = lambda params, inputs: inputs @ params  # noqa: E731
    for outputs in (1, 5):
        with pytest.raises(ValueError, match=rf"must return \[batch, 2\].*got \[4, {outputs}\]"):
            params = jnp.ones((1, outputs))
            environments.trial(
                jax.random.key(0), qagrel_jax.q_agrel(), forward, params, world, batch=4
            )
    config = AugmentConfig(inputs=1, actions=2)
    player = environments.begin(jax.random.key(0), config, world)
    larger = world._replace(actions=3)
    with pytest.raises(ValueError, match=r"config\.actions must be 3, the environment's, got 2"):
        environments.play(jax.random.key(1), config, player, larger, steps=2)


def test_every_reward_has_its_error():
    """Of three actions the second is rewarded: its error is told when the third is chosen."""

    def step(key, state, action):
        state = state + 1
        return state, jnp.ones(1), (state == 2) * 1.0, state == 3, jnp.bool_(False)

    world = Environment(1, 2, lambda key: (jnp.int32(0), jnp.ones(1)), step)
    config = AugmentConfig(inputs=1, actions=2, discount=0.5)
    player = environments.begin(jax.random.key(0), config, world)
    _, steps = environments.play(jax.random.key(1), config, player, world, 3, plastic=False)
    learner, rpe = player.learner, []
    for number, (reward, ended) in enumerate([(0, False), (0, False), (1, False), (0, True)]):
        key = jax.random.key(number)  # no two actions are equally good
        learner, activity = augment.step(
            key, config, learner, jnp.ones(1), float(reward), ended, plastic=False
        )
        rpe.append(activity.rpe)
    np.testing.assert_allclose(steps.rpe, rpe[:3], atol=1e-6)
    np.testing.assert_allclose(steps.last_rpe, [0, 0, rpe[3]], atol=1e-6)
    assert steps.rpe.argmax() == 2


def test_a_policy_of_ones_own_plays():
    world = _two_steps("terminated")._replace(actions=3)
    config = AugmentConfig(inputs=2)
    player = environments.begin(jax.random.key(0), config, world)
    _, steps = environments.play(
        jax.random.key(1), config, player, world, 5, choose=lambda key, q, epsilon: jnp.int32(2)
    )
    np.testing.assert_array_equal(steps.action, 2)


ONE_STEP = ("q_agrel", "agrel", "broadcast", "node_perturbation", "reinforce", "stochastic_units")


@pytest.mark.parametrize(
    "name",
    [n if n == "q_agrel" else pytest.param(n, marks=pytest.mark.slow) for n in ONE_STEP],
)
def test_a_one_step_rule_does_not_play_longer_episodes(name):
    world, network = _two_steps("both"), make_network("dense", 1, hidden=(3,))
    params = network.init(jax.random.key(0), jnp.zeros((1, 2)))

    def play(params):
        key, rule = jax.random.key(1), make_rule(name)
        return environments.trial(key, rule, network.apply, params, world, batch=4)

    with pytest.raises(ValueError, match="an episode went on after its first action"):
        play(params)
    grads, outcome = jax.jit(play)(params)
    assert np.isnan(outcome.rpe).all()
    assert any(np.isnan(leaf).any() for leaf in jax.tree.leaves(grads))
    np.testing.assert_array_equal(outcome.reward, 1)


@pytest.mark.parametrize("make_key", [jax.random.key, jax.random.PRNGKey])
def test_an_environment_may_keep_its_key(make_key, folded_keys):
    def reset(key):
        return key, jnp.ones(2)

    def step(key, state, action):
        del key
        return state, jnp.ones(2), 1.0 * (action == 0), jnp.bool_(True), jnp.bool_(False)

    environment, config = Environment(2, 2, reset, step), AugmentConfig(inputs=2, actions=2)
    player = environments.begin(make_key(0), config, environment)
    player, steps = environments.play(make_key(1), config, player, environment, 5)
    assert steps.terminated.all() and player.state.shape == ()


def test_what_is_no_random_key_is_named():
    environment, config = _two_steps("both"), AugmentConfig(inputs=2, actions=1)
    player = environments.begin(jax.random.key(0), config, environment)
    for bad in (0, None, jnp.zeros(2), jax.random.split(jax.random.key(0), 3)):
        with pytest.raises(TypeError, match=r"key must be a random key, such as jax.random.key"):
            environments.begin(bad, config, environment)
        with pytest.raises(TypeError, match="key must be a random key"):
            environments.play(bad, config, player, environment, 5)
        with pytest.raises(TypeError, match="key must be a random key"):
            environments.trial(bad, make_rule("q_agrel"), jnp.matmul, jnp.ones(2), environment)


def _chancy(terminated):
    """One number is seen, and the reward is another; episodes of one action end as asked for."""

    def reset(key):
        seen = jax.random.uniform(key, (1,))
        return seen, seen

    def step(key, state, action):
        del action
        return state, state, jax.random.uniform(key), jnp.bool_(terminated), ~jnp.bool_(terminated)

    return Environment(1, 2, reset, step)


@pytest.mark.parametrize("terminated", [True, False])
def test_each_one_step_episode_has_chances_of_its_own_however_it_ends(terminated):
    seen = []

    def forward(params, inputs):
        seen.append(inputs)
        return inputs @ params

    params, rule = jnp.ones((1, 2)), make_rule("q_agrel")
    key, world = jax.random.key(0), _chancy(terminated)
    _, outcome = environments.trial(key, rule, forward, params, world, batch=50)
    assert outcome.ended.all() and np.isfinite(outcome.rpe).all()
    assert len(np.unique(seen[0])) == len(np.unique(outcome.reward)) == 50


def test_a_tasks_parameters_are_those_that_were_given():
    """Without blank steps the mark is seen at once."""
    task = make_task("saccade")
    for given, seen in ((None, 0), (task.params(blank_steps=0), 1)):
        _, observation = environments.from_task(task, given).reset(jax.random.key(0))
        assert observation.sum() == seen
