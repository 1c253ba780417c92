"""As ``test_arguments``: layers, recurrent networks, curricula, environments, update statistics."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qagrel_jax import checks, curriculum, environments, layers, policies, rules, weights
from qagrel_jax import update_statistics as statistics
from qagrel_jax.curriculum import Curriculum
from qagrel_jax.environments import Environment
from qagrel_jax.networks import make_network
from qagrel_jax.recurrent import GridNet, as_recurrent
from qagrel_jax.rules import augment, memory
from tests.library.test_arguments import (
    COUNT,
    FLAG,
    FROM_ZERO,
    FUNCTION,
    INF,
    KEY,
    NAME,
    NAN,
    NOT_NEGATIVE,
    OTHER,
    POSITIVE,
    SHARE,
    cases,
    is_named_in_one_line,
)

pytestmark = pytest.mark.usefixtures("folded_keys")

LAYER = {
    "features": COUNT,
    "feedback": NAME,
    "use_bias": FLAG,
    "kernel_init": FUNCTION,
    "feedback_init": ("he", 3),
    "dtype": ("text", jnp.int32),
    "feedback_scale": POSITIVE,
    "num_actions": ("3", NAN, 2.5, 0, -1, True),
    "expansion": COUNT,
}
WINDOW = {
    "window": (3, "33", (3,), (3, 0), (3, 2.5), None),
    "strides": (2, "11", (1,), (0, 1), None),
    "padding": NAME,
}
ENVIRONMENT = Environment(
    1,
    2,
    lambda key: (jnp.int32(0), jnp.ones(1)),
    lambda key, state, action: (state, jnp.ones(1), 1.0, jnp.bool_(True), jnp.bool_(False)),
)
CONFIG = augment.AugmentConfig(inputs=1, actions=2)
PLAYER = environments.begin(jax.random.key(0), CONFIG, ENVIRONMENT)
MEMORY = [
    (rule, rule.init(jax.random.key(2), rule.config(inputs=2, memory=2)))
    for rule in memory.RULES.values()
]
PLAN, LABELS = Curriculum(), jnp.array([0, 1])
STATE = curriculum.start(jax.random.key(1), PLAN, 2)
CLASSES = curriculum.class_table(LABELS, 2)
FORWARD = lambda params, x: x @ params["out"]["kernel"]  # noqa: E731
PARAMS = {"out": {"kernel": jnp.zeros((1, 2))}}
PROBABILITIES = policies.softmax_probabilities
EXAMPLES = {"forward": FORWARD, "inputs": jnp.ones((2, 1)), "labels": LABELS}
BAD_EXAMPLES = {
    "probabilities": FUNCTION,
    "forward": FUNCTION,
    "reward": FUNCTION,
    "inputs": ([[NAN], [1.0]], [[INF], [1.0]], [["1"], ["1"]]),
}
BAD_LABELS = ([0, 2], [-1, 0], [0.0, 1.0], ["0", "1"])
EXACT = statistics.exact_moments(rules.agrel(), PROBABILITIES, params=PARAMS, **EXAMPLES)


def _exact(**options):
    good = {"rule": rules.agrel(), "probabilities": PROBABILITIES, "params": PARAMS, **EXAMPLES}
    return statistics.exact_moments(**{**good, **options})


def _gradients(**options):
    good = {"probabilities": PROBABILITIES, "params": PARAMS, **EXAMPLES}
    return statistics.objective_gradients(**{**good, **options})


def _environment_of(**options):
    return environments.begin(
        jax.random.key(2),
        CONFIG,
        ENVIRONMENT._replace(**{k.split(".")[1]: v for k, v in options.items()}),
    )


def _trial(**options):
    good = {"rule": rules.q_agrel(), "forward": lambda w, x: x @ w, "params": jnp.zeros((1, 2))}
    return environments.trial(KEY, **{**good, "environment": ENVIRONMENT, **options})


GROUPS = jax.tree.map(lambda x: jnp.stack([x, x]), EXACT)
TABLE = [
    (layers.Dense, {"features": 2}, LAYER),
    (layers.Conv, {"features": 2}, LAYER | WINDOW),
    (layers.LocallyConnected, {"features": 2}, LAYER | WINDOW),
    (
        make_network,
        {"architecture": "dense", "num_actions": 2},
        {"feedback_init": NAME, "feedback_scale": POSITIVE, "expansion": COUNT},
    ),
    (
        GridNet,
        {},
        {
            "features": COUNT,
            "colors": COUNT,
            "shared": FLAG,
            "feedback": (*NAME, "direct", "sign_batchwise"),
            "weight_range": NOT_NEGATIVE,
        },
    ),
    (as_recurrent, {"network": GridNet()}, {"network": OTHER, "variables": (3, "text")}),
    (
        rules.converged,
        {"settled": rules.Settled(*[jnp.zeros(1)] * 6), "tolerance": 1e-3},
        {"settled": (*OTHER, np.ones((3, 3))), "tolerance": NOT_NEGATIVE},
    ),
    (
        Curriculum,
        {},
        {
            **dict.fromkeys(("threshold", "decay"), SHARE),
            **dict.fromkeys(("initial_classes", "step_classes", "window"), COUNT),
            "recency": NOT_NEGATIVE,
            "max_wait": FROM_ZERO,
            "order": NAME,
            "mask": FLAG,
        },
    ),
    (
        functools.partial(curriculum.start, KEY),
        {"curriculum": PLAN, "num_classes": 3},
        {"curriculum": OTHER, "num_classes": COUNT},
    ),
    (
        lambda label, num_classes: curriculum.class_table(label, num_classes),
        {"label": LABELS, "num_classes": 2},
        {"label": BAD_LABELS, "num_classes": COUNT},
    ),
    (
        curriculum.weights,
        {"curriculum": PLAN, "state": STATE},
        {"curriculum": OTHER, "state": OTHER},
    ),
    (curriculum.active, {"state": STATE}, {"state": OTHER}),
    (
        functools.partial(curriculum.explore, KEY),
        {"curriculum": PLAN, "state": STATE, "batch": 2},
        {"curriculum": OTHER, "state": OTHER, "batch": COUNT},
    ),
    (
        functools.partial(curriculum.draw, KEY),
        {"curriculum": PLAN, "state": STATE, "table": CLASSES, "ordinary": LABELS},
        {
            "curriculum": OTHER,
            "state": OTHER,
            "table": OTHER,
            "ordinary": (jnp.ones(2), np.array(["a"])),
        },
    ),
    (
        functools.partial(curriculum.mask, outputs=jnp.ones((2, 2))),
        {"curriculum": PLAN, "state": STATE},
        {"curriculum": OTHER, "state": OTHER},
    ),
    (
        lambda label, **o: curriculum.update(labels=label, **o),
        {"curriculum": PLAN, "state": STATE, "label": LABELS, "right": LABELS == 0},
        {
            "curriculum": OTHER,
            "state": OTHER,
            "label": BAD_LABELS,
            "right": (LABELS, "yes", None),
            "explored": (LABELS, "yes"),
        },
    ),
    (
        lambda **lists: curriculum.update(PLAN, STATE, **lists),
        {"labels": [0, 1], "right": [True, False], "explored": [False, False]},
        {"right": (["yes", "no"], [0, 1])},
    ),
    (
        _trial,
        {},
        {
            "rule": OTHER,
            "forward": FUNCTION,
            "environment": OTHER,
            "batch": COUNT,
            "has_aux": FLAG,
        },
    ),
    (
        _environment_of,
        {},
        {
            "environment.inputs": COUNT,
            "environment.actions": COUNT,
            "environment.reset": FUNCTION,
            "environment.step": FUNCTION,
        },
    ),
    (
        functools.partial(environments.begin, jax.random.key(3)),
        {"config": CONFIG, "environment": ENVIRONMENT},
        {"config": OTHER, "environment": OTHER},
    ),
    (
        functools.partial(environments.play, jax.random.key(4)),
        {"config": CONFIG, "player": PLAYER, "environment": ENVIRONMENT, "steps": 1},
        {
            "config": OTHER,
            "player": OTHER,
            "environment": OTHER,
            "steps": COUNT,
            "plastic": (*FLAG, np.ones(1)),
        },
    ),
    (environments.forget, {"learner": PLAYER.learner}, {"learner": OTHER}),
    *(
        (call, {"state": state} | more, {"state": OTHER} | bad)
        for rule, state in MEMORY
        for call, more, bad in (
            (
                rule.tie_feedback,
                {"tied": True},
                {"tied": (*FLAG, np.ones(1), *(np.ones(n, bool) for n in (1, 3, 6)))},
            ),
            (rule.at_rest, {}, {}),
        )
    ),
    (
        rules.workmate.time_cells,
        {"clock": jnp.int32(2), "number": 4},
        {"number": (-1, "four", 2.5, None)},
    ),
    (_exact, {}, {**BAD_EXAMPLES, "rule": OTHER}),
    (lambda label: _exact(labels=np.asarray(label)), {"label": LABELS}, {"label": BAD_LABELS}),
    (_gradients, {}, BAD_EXAMPLES),
    (lambda label: _gradients(labels=np.asarray(label)), {"label": LABELS}, {"label": BAD_LABELS}),
    (
        statistics.of_batch,
        {"exact": EXACT, "batch_size": 2},
        {"exact": OTHER, "batch_size": COUNT},
    ),
    (
        functools.partial(statistics.sampled_moments, jax.random.key(5)),
        {"learn": lambda images, choices: PARAMS, "samples": 2},
        {"learn": FUNCTION, "samples": (*COUNT, 1)},
    ),
    (statistics.pool, {"groups": GROUPS}, {"groups": (*OTHER, EXACT)}),
    (
        statistics.statistics,
        {"moments": EXACT, "reference": EXACT},
        {"moments": OTHER, "reference": (*OTHER, EXACT._replace(mean={}))},
    ),
    (statistics.jackknife, {"groups": GROUPS, "reference": EXACT}, {"groups": (*OTHER, EXACT)}),
]


@pytest.mark.parametrize(("function", "good", "argument", "values"), cases(TABLE))
def test_a_bad_value_is_named_in_one_line(function, good, argument, values):
    is_named_in_one_line(function, good, argument, values)


@pytest.mark.parametrize("row", TABLE)
def test_good_values_pass(row):
    function, good, _ = row
    function(**good)


def test_gymnax():
    gymnax = pytest.importorskip("gymnax")
    catch, _ = gymnax.make("Catch-bsuite")
    pixels, labels = np.zeros((2, 1, 1), np.uint8), np.array([0, 1])
    bandit = lambda label, images: environments.mnist_bandit(images, label)  # noqa: E731
    for function, good, bad in (
        (
            environments.from_gymnax,
            {"environment": catch},
            {"environment": ("Catch-bsuite", None, 3), "on_off": FLAG},
        ),
        (
            bandit,
            {"images": pixels, "label": labels},
            {
                "images": (
                    pixels[0],
                    pixels + NAN,
                    pixels - 1.0,
                    pixels + 256.0,
                    pixels.astype(str),
                ),
                "label": (labels - 1, labels + 9, labels + 0.5, labels[:1], labels.astype(str)),
            },
        ),
    ):
        function(**good)
        for argument, values in bad.items():
            is_named_in_one_line(function, good, argument, values)


def test_truth_values_may_be_arrays_and_traced():
    for value in (True, np.bool_(False), np.zeros(2, bool), jnp.zeros(2, bool)):
        checks.truth_value("plastic", value)
    jax.jit(lambda x: checks.truth_value("plastic", x))(True)
    with pytest.raises(TypeError, match="plastic must be True or False, got"):
        jax.jit(lambda x: checks.truth_value("plastic", x))(1.0)


def test_lists_are_taken_as_arrays():
    table = curriculum.class_table([0, 1, 1], 2)
    assert table.size.tolist() == [1, 2]
    state = curriculum.start(KEY, Curriculum(initial_classes=2), 2)  # over from the start
    drawn = curriculum.draw(jax.random.key(2), PLAN, state, table, [2, 0])
    assert drawn.tolist() == [2, 0]
    masked = curriculum.mask(PLAN, STATE, [[0.0, 1.0]], [True])
    assert masked.tolist() == [[0.0, -INF]]
    as_lists = _exact(inputs=[[1.0], [1.0]], labels=[0, 1])
    jax.tree.map(np.testing.assert_array_equal, as_lists, EXACT)
    given = _gradients(inputs=[[1.0], [1.0]], labels=[0, 1])
    jax.tree.map(np.testing.assert_array_equal, given, _gradients())


def test_moments_of_no_examples_are_refused():
    with pytest.raises(ValueError, match="at least one example, got none"):
        _exact(inputs=jnp.ones((0, 1)), labels=jnp.zeros(0, int))


@pytest.mark.parametrize(
    "call",
    [
        lambda key: curriculum.start(key, Curriculum(order="random"), 2),
        lambda key: curriculum.draw(key, PLAN, STATE, curriculum.class_table(LABELS, 2), LABELS),
        lambda key: curriculum.explore(key, PLAN, STATE, 2),
        lambda key: statistics.sampled_moments(key, lambda b, c: PARAMS, 2),
    ],
)
def test_what_is_no_random_key_is_told(call):
    for key in (0, np.zeros(3, np.uint32), jax.random.split(jax.random.key(4))):
        with pytest.raises(TypeError, match="key must be a random key"):
            call(key)


def test_weights_must_be_floats_and_rewards_real():
    decision = rules.q_agrel().act(jax.random.key(5), FORWARD, PARAMS, jnp.ones((2, 1)))
    with pytest.raises(TypeError, match="reward must be real numbers, got complex"):
        rules.q_agrel().update(decision, np.array([1j, 2j]))
    whole = {"out": {"kernel": np.zeros((1, 2), int)}}
    for make in (rules.q_agrel, rules.node_perturbation, rules.broadcast, rules.stochastic_units):
        with pytest.raises(TypeError, match=r"params\['out'\]\['kernel'\] must be floats, .* int"):
            make().act(jax.random.key(6), FORWARD, whole, jnp.ones((2, 1)))


def test_a_trial_reports_rewards_as_floats_and_needs_a_feedforward_rule():
    def step(key, state, action):
        return state, jnp.ones(1), action == 1, jnp.bool_(True), jnp.bool_(False)

    _, outcome = _trial(environment=ENVIRONMENT._replace(step=step), batch=4)
    assert outcome.reward.dtype == outcome.rpe.dtype
    assert outcome.reward.tolist() == (outcome.action == 1).astype(float).tolist()
    with pytest.raises(ValueError, match="relearnn takes a Recurrent network"):
        _trial(rule=rules.relearnn())


def test_a_player_whose_environment_counts_in_python_is_loaded_as_saved(tmp_path):
    def reset(key):
        return {"t": 0}, jnp.ones(1)

    def step(key, state, action):
        return {"t": state["t"] + 1}, jnp.ones(1), 1.0, jnp.bool_(False), jnp.bool_(False)

    world = Environment(1, 2, reset, step)
    player = environments.begin(jax.random.key(7), CONFIG, world)
    played, _ = environments.play(jax.random.key(8), CONFIG, player, world, 3)
    weights.save(tmp_path / "player.npz", played)
    again, _ = weights.load(tmp_path / "player.npz", like=player)
    assert again.state["t"].item() == 3
