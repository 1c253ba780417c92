"""Every public function refuses what it cannot use, in one line that names argument and value."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from qagrel_jax import data, policies, population, rules, sharding, tasks, training, weights
from qagrel_jax.layers import convolve, output_size
from qagrel_jax.networks import ConvNet, DenseNet, ThreeLayer, make_network
from qagrel_jax.population import packing, recording
from qagrel_jax.rules import _agrel, augment, augment_continuous
from qagrel_jax.tasks import classification, vectors
from qagrel_jax.tasks.criterion import Criterion
from qagrel_jax.training import fitting

pytestmark = pytest.mark.usefixtures("folded_keys")

NAN, INF = float("nan"), float("inf")
NUMBER = ("0.5", None, NAN, INF, [1.0], 1j)
POSITIVE = (*NUMBER, 0.0, -1.0)
NOT_NEGATIVE = (*NUMBER, -1.0)
SHARE = (*NOT_NEGATIVE, 1.5)
COUNT = ("3", None, NAN, 2.5, 0, -1, True, [3])
FROM_ZERO = ("3", None, NAN, 2.5, -1, [3])
FUNCTION = ("greedy", None, 3, lambda: 0)
NAME = ("nonsense", None, 3, ["greedy"])
OTHER = ("text", None, 3)
FLAG = ("yes", None, 1)

Q = jnp.array([0.5, 1.0])
KEY = jax.random.key(0)
SACCADE = tasks.make_task("saccade")
CONFIG = augment.AugmentConfig(inputs=4)
SETUP = population.Setup(SACCADE, SACCADE.params(), CONFIG, SACCADE.criterion)
STATE = augment.init(jax.random.key(1), CONFIG)
PIXELS = np.zeros((2, 1, 1, 1), np.uint8)
DURATIONS = ("blank_steps", "delay_steps")
TRIAL = {
    "fixation_reward": NOT_NEGATIVE,
    "correct_reward": NOT_NEGATIVE,
    "blank_steps": FROM_ZERO,
    "fixation_timeout": COUNT,
    "fixation_steps": COUNT,
    "fixation_break": NAME,
    "response_timeout": COUNT,
    "delay_steps": FROM_ZERO,
    "level": ("0", -1, NAN, 0.5, [0]),
}
# Placeholders that pytree utilities put in place of a leaf have to pass: None, truth values.
LEAF_SHARE = ("0.5", NAN, -0.1, 1.5, [0.5])
NUMBERS = (NUMBER, POSITIVE, NOT_NEGATIVE, SHARE, COUNT, FROM_ZERO, LEAF_SHARE)


def _packed(**options):
    return packing.Packed(SETUP, KEY, **{"learning_rate": [0.1], "tag_decay": [0.2], **options})


def _update(rule, told):
    forward = lambda params, x: x @ params  # noqa: E731
    decision = rule.act(KEY, forward, jnp.zeros((3, 2)), jnp.ones((1, 3)))
    return rule.update(decision, told)


def _augment_step(**options):
    good = {"randomness": KEY, "config": CONFIG, "state": STATE, "observation": jnp.ones(4)}
    return augment.step(**{**good, "reward": 0.5, "ended": False, **options})


def _trainer(**options):
    good = {"rule": rules.q_agrel(), "network": make_network("dense", 2, hidden=(3,))}
    good |= {"optimizer": optax.sgd(0.1), "image_shape": (1, 1, 1), "num_classes": 2}
    return training.make_trainer(**{**good, "batch_size": 2, **options})


@functools.cache
def _started():
    trainer = _trainer()
    return trainer, fitting.start(trainer, jax.random.split(KEY, 1))


def _fit(**options):
    trainer, run = _started()  # which no epoch consumes
    train = fitting.Examples(PIXELS, options.pop("labels", np.array([0, 1])))
    good = {"epochs": 0, "patience": 1, **options}
    return list(fitting.fit(trainer, run, train, train, **good))


REWARD = ([NAN], [INF], ["1"])
# (function, arguments that are right, {argument: values that are wrong})
TABLE = [
    (functools.partial(policies.epsilon_greedy, KEY, Q), {}, {"epsilon": SHARE}),
    (functools.partial(policies.softmax, KEY, Q), {}, {"temperature": POSITIVE}),
    (
        functools.partial(policies.max_boltzmann, KEY, Q),
        {},
        {"epsilon": SHARE, "temperature": POSITIVE},
    ),
    (functools.partial(policies.epsilon_greedy_probabilities, Q), {}, {"epsilon": SHARE}),
    (functools.partial(policies.softmax_probabilities, Q), {}, {"temperature": POSITIVE}),
    (
        functools.partial(policies.max_boltzmann_probabilities, Q),
        {},
        {"epsilon": SHARE, "temperature": POSITIVE},
    ),
    (
        lambda policy, **o: policies.make_policy(policy, **o),
        {"policy": "greedy"},
        {"policy": NAME, "epsilon": SHARE, "temperature": POSITIVE},
    ),
    (rules.q_agrel, {}, {"policy": FUNCTION, "rpe": FUNCTION}),
    (rules.amplified_prediction_error, {"gain": 2}, {"gain": POSITIVE}),
    (rules.agrel, {}, {"bound": POSITIVE}),
    (functools.partial(_agrel.expand, jnp.zeros(1)), {}, {"bound": POSITIVE}),
    (
        rules.relearnn,
        {},
        {
            "policy": FUNCTION,
            "rpe": FUNCTION,
            "steps": COUNT,
            "sweeps": COUNT,
            "tolerance": NOT_NEGATIVE,
            "clip": ("1", NAN, 0.0, -1.0),
        },
    ),
    (
        rules.recollect.RecollectConfig,
        {"inputs": 4},
        {
            **dict.fromkeys(("inputs", "memory", "actions"), COUNT),
            "end_input": FLAG,
            **dict.fromkeys(("feedback", "slope", "policy"), ("nonsense", None, 3)),
            **dict.fromkeys(("learning_rate", "gate_rate", "steepness"), ("1", NAN, -1.0, [1.0])),
            **dict.fromkeys(("tag_decay", "discount", "exploration"), LEAF_SHARE),
        },
    ),
    (
        rules.workmate.WorkmateConfig,
        {"inputs": 4},
        {
            **dict.fromkeys(("inputs", "regular", "memory", "blocks", "actions"), COUNT),
            **dict.fromkeys(("feedback", "policy"), ("nonsense", None, 3)),
            **dict.fromkeys(("learning_rate", "weight_range"), ("1", NAN, -1.0, [1.0])),
            **dict.fromkeys(("tag_decay", "discount", "exploration"), LEAF_SHARE),
        },
    ),
    (rules.broadcast, {}, {"policy": FUNCTION, "strength": NUMBER}),
    (rules.node_perturbation, {}, {"policy": FUNCTION, "noise_sd": POSITIVE}),
    (rules.stochastic_units, {}, {"noise_sd": POSITIVE}),
    (
        functools.partial(rules.one_step_rule, "mine"),
        {"policy": policies.greedy, "teaching_signal": lambda q, a, r: (q, r)},
        {"policy": FUNCTION, "teaching_signal": FUNCTION, "outcome": NAME},
    ),
    *(
        (lambda reward, rule=rule: _update(rule, reward), {"reward": [1.0]}, {"reward": REWARD})
        for rule in (rules.q_agrel(), rules.agrel(), rules.reinforce())
    ),
    (
        lambda label: _update(rules.backprop(), label),
        {"label": [1]},
        {"label": ([2], [-1], [0.0], ["1"])},
    ),
    (
        augment.AugmentConfig,
        {"inputs": 4},
        {
            **dict.fromkeys(("inputs", "regular", "memory", "actions"), COUNT),
            "feedback": NAME,
            "bias": FLAG,
            "weight_range": NOT_NEGATIVE,
            "learning_rate": ("1", NAN, -1.0, [1.0]),
            "threshold": ("1", NAN, INF),
            **dict.fromkeys(("tag_decay", "discount"), LEAF_SHARE),
            **dict.fromkeys(("exploration", "leak"), LEAF_SHARE),
        },
    ),
    (
        _augment_step,
        {},
        {
            "reward": (NAN, INF, "1"),
            "config": OTHER,
            "choose": ("greedy", 3),
            "ended": FLAG,
            "plastic": FLAG,
        },
    ),
    (
        augment_continuous.in_steps_of,
        {"config": CONFIG, "fraction": 0.5},
        {"fraction": (*SHARE, 0.0)},
    ),
    (
        functools.partial(augment_continuous.step, KEY, CONFIG, STATE, jnp.ones(4), 0.5, False),
        {"substeps": 1},
        {"substeps": COUNT},
    ),
    (
        make_network,
        {"architecture": "dense", "num_actions": 2},
        {
            "architecture": NAME,
            "num_actions": COUNT,
            "feedback": NAME,
            "initialization": NAME,
            "dtype": ("text", jnp.int32),
            "hidden": (3, "30", None),
        },
    ),
    (DenseNet, {"num_actions": 2}, {"num_actions": COUNT, "feedback": NAME}),
    (lambda **o: DenseNet(2, hidden=(o["hidden[0]"],)), {"hidden[0]": 3}, {"hidden[0]": COUNT}),
    (ConvNet, {"num_actions": 2}, {"num_actions": COUNT, "shared": FLAG}),
    (
        ThreeLayer,
        {"num_actions": 2, "hidden": 3},
        {"num_actions": COUNT, "hidden": COUNT, "feedback": NAME, "spread": NOT_NEGATIVE},
    ),
    (
        output_size,
        {"image_shape": (5, 5, 1), "window": (3, 3), "strides": (1, 1), "padding": "SAME"},
        {"window": (3, "33", (3,), None), "strides": (2, "11", (1,), None), "padding": NAME},
    ),
    (
        lambda **o: output_size((5, 5, 1), (3, 3), (1, o["strides[1]"]), "SAME"),
        {"strides[1]": 1},
        {"strides[1]": COUNT},
    ),
    (
        functools.partial(convolve, jnp.ones((1, 5, 5, 1)), jnp.ones((3, 3, 1, 1))),
        {"strides": (1, 1), "padding": "SAME"},
        {"strides": (1, None, (1,)), "padding": NAME},
    ),
    (lambda task: tasks.make_task(task), {"task": "saccade"}, {"task": NAME}),
    (
        tasks.TASKS["saccade"].params,
        {},
        {**TRIAL, "cue_steps": COUNT, "curriculum": FLAG, "level": ("0", -1, NAN, 0.5, 1)},
    ),
    (
        tasks.TASKS["match_to_category"].params,
        {},
        {**TRIAL, "cue_steps": COUNT, "direction_noise": NOT_NEGATIVE, "tuning_width": POSITIVE},
    ),
    (
        tasks.TASKS["vibrotactile"].params,
        {},
        {
            **TRIAL,
            "stimulus_steps": COUNT,
            "slope": NOT_NEGATIVE,
            "noise_sd": NOT_NEGATIVE,
            "noise": NAME,
            "noise_each_step": FLAG,
            "least_difference": (*NOT_NEGATIVE, 23.0),
        },
    ),
    (
        tasks.TASKS["probabilistic"].params,
        {},
        {
            **TRIAL,
            "symbol_steps": COUNT,
            "symbols_stay": NAME,
            "targets_stay": NAME,
            "ties": NAME,
            "level": ("0", -1, 8, NAN, 2.5, np.float32(1)),
        },
    ),
    (
        tasks.curve_tracing.Params,
        {},
        {
            "grid": COUNT,
            "max_length": COUNT,
            "correct_reward": NOT_NEGATIVE,
            "apart": FLAG,
            "shortest": ("three", 2.5, 1, NAN, [3]),
            "longest": ("nine", 8.5, 10, NAN, [9]),
        },
    ),
    (
        tasks.TASKS["reversal_bandit"].params,
        {},
        {
            "pulls": COUNT,
            "interval": FROM_ZERO,
            "better": SHARE,
            "worse": SHARE,
            "level": ("0", -1, 0.5),
        },
    ),
    (
        tasks.TASKS["twelve_ax"].params,
        {},
        {
            "most_pairs": COUNT,
            "target_probability": SHARE,
            "wrong_reward": NUMBER,
            "level": ("0", -1, 0.5),
        },
    ),
    (
        Criterion,
        {"conditions": 1, "windows": (5,), "accuracy": 0.8, "max_trials": 60},
        {
            "conditions": COUNT,
            "windows": ((), 5, "5", None),
            "accuracy": (*SHARE, 0.0),
            "max_trials": COUNT,
            "consecutive": FROM_ZERO,
            "test_repeats": COUNT,
            "retest_after": COUNT,
            "test_allowed": (1,),
        },
    ),
    (classification.make_reward, {}, {"right": NUMBER, "wrong": NUMBER}),
    (vectors.count_ones, {}, {"bits": (*COUNT, 13)}),
    (vectors.orientation, {}, {"tilts": (*COUNT, 3), "colors": COUNT, "units": (*COUNT, 1)}),
    (
        vectors.images,
        {"pixels": PIXELS, "labels": np.array([0, 1]), "num_classes": 2},
        {"num_classes": COUNT, "labels": (np.array([0, 2]), np.array([-1, 0]), np.array([0.0, 1]))},
    ),
    (
        functools.partial(population.Setup, criterion=SACCADE.criterion),
        {"task": SACCADE, "params": SACCADE.params(), "config": CONFIG},
        {"task": ("saccade", None), "params": (None, 3), "substeps": COUNT, "cooling": FROM_ZERO},
    ),
    (
        _packed,
        {},
        {
            "steps": COUNT,
            "block": ("3", NAN, 2.5, 0, -1, [3]),
            "learning_rate": ([NAN], [-1.0], ["1"]),
            "tag_decay": ([1.5], [NAN], ["1"]),
            "tied": ([True, False],),
        },
    ),
    (
        functools.partial(recording.record, key=KEY),
        {"setup": SETUP, "learner": STATE, "index": 0},
        {"setup": OTHER, "index": FROM_ZERO, "steps": COUNT},
    ),
    (sharding.make_mesh, {}, {"seeds": COUNT, "batch": COUNT}),
    (
        data.validate,
        {"images": PIXELS, "labels": np.array([0, 1]), "num_classes": 2},
        {"num_classes": (*COUNT, 1)},
    ),
    (
        _trainer,
        {},
        {
            "rule": OTHER,
            "network": OTHER,
            "optimizer": OTHER,
            "image_shape": (3, "28", None),
            "num_classes": COUNT,
            "batch_size": COUNT,
            "evaluation_batch": COUNT,
            "reward": tuple(value for value in FUNCTION if value is not None),
            "correct": FUNCTION,
            "seeds_by": ("nonsense", 3),
        },
    ),
    (
        _fit,
        {},
        {
            "epochs": FROM_ZERO,
            "patience": tuple(v for v in COUNT if v is not None),
            "min_gain": NOT_NEGATIVE,
            "last_batch": NAME,
            "chunk_steps": ("3", 0, -1, 2.5),
            "on_chunk": FUNCTION,
            "labels": (np.array([0, 2]), np.array([-1, 0]), np.array([0.0, 1.0])),
        },
    ),
    (
        functools.partial(fitting.start, _trainer()),
        {"keys": jax.random.split(jax.random.key(0), 1)},
        {"keys": (0, None, "text")},
    ),
    (
        functools.partial(fitting.split, fitting.Examples(PIXELS, np.array([0, 1]))),
        {"fraction": 0.5},
        {"fraction": (*SHARE, 0.0, 1.0)},
    ),
    (
        functools.partial(weights.load_keras, "net.h5", image_shape=(1, 1, 1)),
        {},
        {"network": OTHER},
    ),
]


def cases(table):
    cases = []
    for number, (function, good, bad) in enumerate(table):
        for argument, values in bad.items():
            name = getattr(getattr(function, "func", function), "__name__", "made")
            case = f"{number}-{name}-{argument}"
            cases.append(pytest.param(function, good, argument, values, id=case))
    return cases


def _error_of(values, value):
    """No number, function or name at all is a ``TypeError``; one out of range a ``ValueError``."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if any(values is kind for kind in NUMBERS):
        return ValueError if number else TypeError
    if values is NAME:
        return ValueError if isinstance(value, str) else TypeError
    if any(values is kind for kind in (FUNCTION, FLAG)):
        return TypeError
    return (ValueError, TypeError)


def is_named_in_one_line(function, good, argument, values):
    for value in values:
        with pytest.raises(_error_of(values, value)) as error:
            function(**{**good, argument: value})
        message = str(error.value)
        assert argument in message, message
        single = value[0] if isinstance(value, list) and len(value) == 1 else value
        shown = any(str(v) in message for v in (value, single, np.asarray(value).dtype))
        assert shown or callable(value) or isinstance(value, np.ndarray | tuple | list), message
        assert "\n" not in message


@pytest.mark.parametrize(("function", "good", "argument", "values"), cases(TABLE))
def test_a_bad_value_is_named_in_one_line(function, good, argument, values):
    is_named_in_one_line(function, good, argument, values)


@pytest.mark.parametrize("row", TABLE[:-1])
def test_good_values_pass(row):
    function, good, _ = row
    function(**good)
