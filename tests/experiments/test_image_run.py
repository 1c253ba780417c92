"""What an image run is made of: who learns from what, at which rate, for which reward."""

import dataclasses
import json
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from experiments import config as configs
from experiments.agrel.__main__ import Options as AgrelOptions
from experiments.common import cli, fields
from experiments.common.cli import UserError
from experiments.common.names import CONTROL_RULES, PROTOCOLS, RULES
from experiments.train import build, one_rule
from experiments.working_memory.config import MemoryConfig
from qagrel_jax import data, rules
from qagrel_jax.curriculum import Curriculum
from qagrel_jax.networks import DenseNet
from qagrel_jax.training import fitting

pytestmark = pytest.mark.usefixtures("folded_keys")

DIGITS = data.load("digits")  # no two of its images are the same


def config(**changes):
    return configs.replace(configs.load("digits"), changes)


def _images(examples):
    return {image.tobytes() for image in np.asarray(examples.images)}


def test_a_validation_split_is_not_learned_from_and_the_test_set_is_kept_for_the_end():
    train, monitored, test = build.make_splits(DIGITS, config(protocol="clean"))
    assert [len(s.labels) for s in (train, monitored, test)] == [1437 - 144, 144, 360]
    assert len(_images(train) | _images(monitored)) == 1437
    assert not _images(test) & (_images(train) | _images(monitored))
    np.testing.assert_array_equal(test.images, DIGITS.test_images)
    pairs = zip(DIGITS.train_images, DIGITS.train_labels, strict=True)
    label_of = {image.tobytes(): label for image, label in pairs}
    for part in (train, monitored):
        for image, label in zip(*map(np.asarray, part), strict=True):
            assert label_of[image.tobytes()] == label


def test_the_papers_protocol_learns_from_all_and_watches_the_test_set():
    train, monitored, test = build.make_splits(DIGITS, config(protocol="paper"))
    np.testing.assert_array_equal(train.images, DIGITS.train_images)
    for part in (monitored, test):
        np.testing.assert_array_equal(part.images, DIGITS.test_images)
        np.testing.assert_array_equal(part.labels, DIGITS.test_labels)


def _updates(optimizer, params, grads, steps):
    state, found = optimizer.init(params), []
    for _ in range(steps):
        updates, state = optimizer.update(grads, state, params)
        found.append(jax.tree.map(float, updates))
    return found


@pytest.mark.parametrize("name", ["halve_every", "feedback_delay", "weight_decay_epochs"])
def test_the_longest_spans_of_epochs_never_end(name):
    """They are more steps than fit into 32 bits."""
    never = {"halve_every": 0, "feedback_delay": 10**6, "weight_decay_epochs": 0}
    params = {"kernel": jnp.ones(2), "feedback_kernel": jnp.ones(2)}

    def learn(epochs):
        made = config(feedback="kolen_pollack", weight_decay=0.1, **{name: epochs})
        optimizer = build.make_optimizer(made, 100)
        return jax.jit(optimizer.update)(params, optimizer.init(params), params)[0]

    jax.tree.map(np.testing.assert_array_equal, learn(10**9), learn(never[name]))


def test_kernels_decay_at_a_rate_that_halves():
    """Gradient of c·w² at w = 1 and c = ½: 1. So the update is minus the rate; 0 for the rest."""
    optimizer = build.make_optimizer(config(learning_rate=1.0, halve_every=2, l2=0.5), 3)
    params = {"Dense_0": {"kernel": 1.0, "feedback_kernel": 1.0}, "BatchNorm_0": {"scale": 1.0}}
    params = jax.tree.map(jnp.float32, params)
    updates = _updates(optimizer, params, jax.tree.map(jnp.zeros_like, params), 13)
    rates = [1.0] * 6 + [0.5] * 6 + [0.25]
    assert [u["Dense_0"]["kernel"] for u in updates] == [-rate for rate in rates]
    assert [u["Dense_0"]["feedback_kernel"] for u in updates] == [-rate for rate in rates]
    assert [u["BatchNorm_0"]["scale"] for u in updates] == [0.0] * 13


@pytest.mark.parametrize(
    ("feedback_l2", "expected"), [(None, [-0.1, -0.3]), (0.0, [0.0, -0.2]), (0.25, [-0.05, -0.25])]
)
def test_feedback_weights_have_a_rate_and_a_penalty_of_their_own(feedback_l2, expected):
    """At weights of 1 and a rate of 1 gradients g give −(g + 2·½); feedback −0.1 (g + 2 c)."""
    made = config(
        feedback="kolen_pollack",
        learning_rate=1.0,
        halve_every=0,
        l2=0.5,
        feedback_l2=feedback_l2,
        feedback_rate=0.1,
    )
    optimizer = build.make_optimizer(made, 3)
    params = {"Dense_0": {"kernel": 1.0, "feedback_kernel": 1.0}, "BatchNorm_0": {"scale": 1.0}}
    params = jax.tree.map(jnp.float32, params)
    for gradient, own in zip([0.0, 2.0], expected, strict=True):
        grads = jax.tree.map(lambda w, g=gradient: g * w, params)
        (updates,) = _updates(optimizer, params, grads, 1)
        wanted = {"kernel": -gradient - 1, "feedback_kernel": own}
        assert updates["Dense_0"] == pytest.approx(wanted, rel=1e-6)
        assert updates["BatchNorm_0"]["scale"] == -gradient


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("sgd", [-0.5, -0.5]),
        ("momentum", [-0.5, -0.95]),  # 0.5 · (0.9 · 1 + 1)
        ("adam", [-0.5, -0.5]),
        ("rmsprop", [-0.5 / 0.1**0.5, -0.5 / 0.19**0.5]),  # √ of a mean square, decay 0.9
        ("lion", [-0.5, -0.5]),
    ],
)
def test_optimizers_by_hand(name, expected):
    """Gradients of 1 at a rate of ½ that stays; the parameter is large, and nothing decays."""
    optimizer = build.make_optimizer(
        config(optimizer=name, learning_rate=0.5, halve_every=0), steps_per_epoch=1
    )
    params = {"kernel": jnp.float32(100)}
    found = _updates(optimizer, params, {"kernel": jnp.ones(())}, 2)
    np.testing.assert_allclose([u["kernel"] for u in found], expected, rtol=1e-3)


@pytest.mark.parametrize("epochs", [0, 2])
@pytest.mark.parametrize("name", ["sgd", "adam", "momentum"])
def test_weight_decay_brings_pairs_together_whatever_the_optimizer(name, epochs):
    """W and B get equal gradients: W − B shrinks by ∏(1 − λ_t), 3 steps an epoch."""
    share = [1.0] * 6 if epochs == 0 else [(1 + np.cos(np.pi * t / 6)) / 2 for t in range(6)] + [0]
    optimizer = build.make_optimizer(
        config(optimizer=name, weight_decay=0.25, weight_decay_epochs=epochs), steps_per_epoch=3
    )
    params = {"kernel": jnp.float32(5), "feedback_kernel": jnp.float32(-3), "bias": jnp.float32(1)}
    state, difference = optimizer.init(params), 8.0
    for step, part in enumerate(share):
        gradients = dict.fromkeys(params, jnp.float32(np.sin(step)))
        updates, state = optimizer.update(gradients, state, params)
        params = optax.apply_updates(params, updates)
        difference *= 1 - 0.25 * part
        np.testing.assert_allclose(params["kernel"] - params["feedback_kernel"], difference, 1e-5)


@pytest.mark.parametrize("epochs", [0, 2])
def test_feedback_weights_neither_learn_nor_decay_before_their_time(epochs):
    """2 epochs of 3 steps later they decay by what the others do then."""
    made = config(
        weight_decay=0.25, weight_decay_epochs=epochs, feedback_delay=1, feedback="kolen_pollack"
    )
    params = {"kernel": jnp.float32(5), "feedback_kernel": jnp.float32(-3)}
    optimizer = build.make_optimizer(made, steps_per_epoch=3)
    updates = _updates(optimizer, params, jax.tree.map(jnp.zeros_like, params), 6)
    share = [(1 + np.cos(np.pi * t / 6)) / 2 if epochs else 1 for t in range(6)]
    own = [0, 0, 0, *share[3:]]
    np.testing.assert_allclose([u["kernel"] for u in updates], -1.25 * np.array(share), 1e-5)
    np.testing.assert_allclose([u["feedback_kernel"] for u in updates], 0.75 * np.array(own), 1e-5)


def test_shuffled_rewards_need_no_last_batch_of_one():
    """1,437 images: 1,436 = 4 · 359."""
    shuffled = config(reward="shuffled", batch_size=4, protocol="paper")
    with pytest.raises(UserError, match="--batch-size 4 leaves one of 1437 training images"):
        build.make_splits(DIGITS, shuffled)
    build.make_splits(DIGITS, configs.replace(shuffled, {"last_batch": "drop"}))
    build.make_splits(DIGITS, configs.replace(shuffled, {"batch_size": 5}))


def test_an_epoch_counts_the_incomplete_last_batch(monkeypatch):
    given, make = [], build.make_optimizer
    monkeypatch.setattr(
        build,
        "make_optimizer",
        lambda c, steps, rate: given.append(steps) or make(c, steps, rate),
    )
    before = jax.config.jax_default_matmul_precision
    small = config(batch_size=100)
    try:
        build.make_trainer(small, "q_agrel", DIGITS, build.make_splits(DIGITS, small))
    finally:
        jax.config.update("jax_default_matmul_precision", before)
    assert given == [13]  # 1,293 images: 12 full batches and one of 93


def test_what_is_paid():
    labels, actions = jnp.array([3, 1, 1, 0]), jnp.array([3, 2, 0, 2])
    key = jax.random.key(0)

    def paid(**changes):
        return build.make_reward(config(**changes))(key, labels, actions).tolist()

    assert paid() == [1, 0, 0, 0]
    assert paid(reward_right=2.0, reward_wrong=-0.5) == [2, -0.5, -0.5, -0.5]
    assert paid(reward="always") == [1, 1, 1, 1]
    shuffled = paid(reward="shuffled")
    assert sorted(shuffled) == [0, 0, 0, 1] and shuffled[0] == 0


def _chosen(name="q_agrel", **changes):
    """How often each of three actions is chosen, their Q values being 0, 0.01 and 0.02."""
    rule = build.make_rule(name, config(**changes))
    q_values = jnp.tile(jnp.array([0.0, 0.01, 0.02]), (3000, 1))
    decision = rule.act(jax.random.key(1), lambda p, x: x + p, jnp.zeros(()), q_values)
    return np.bincount(decision.action, minlength=3) / 3000


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"policy": "greedy"}, [0, 0, 1]),
        ({"policy": "softmax", "temperature": 1e-3}, [0, 0, 1]),
        ({"policy": "softmax", "temperature": 100.0}, [1 / 3, 1 / 3, 1 / 3]),
        ({"policy": "epsilon_greedy", "epsilon": 0.3}, [0.1, 0.1, 0.8]),
        ({"policy": "max_boltzmann", "epsilon": 0.3}, [0.1, 0.1, 0.8]),
        ({"policy": "max_boltzmann", "epsilon": 1.0, "temperature": 1e-3}, [0, 0, 1]),
    ],
)
def test_the_policy_reaches_the_rule(changes, expected):
    np.testing.assert_allclose(_chosen(**changes), expected, atol=0.04)
    gained = _chosen(positive_gain=2.0, **changes)
    np.testing.assert_allclose(gained, expected, atol=0.04)


def _update(name, rewards, **changes):
    """A net of one hidden layer, greedy: its parameters, inputs, decision, gradients, errors."""
    rule = build.make_rule(name, config(policy="greedy", **changes))
    network = DenseNet(3, hidden=(5,))
    inputs = jax.random.uniform(jax.random.key(0), (2, 4))
    params = jax.jit(network.init)(jax.random.key(1), inputs)["params"]
    decision = rule.act(
        jax.random.key(2), lambda p, x: network.apply({"params": p}, x), params, inputs
    )
    return params, np.asarray(inputs), decision, *rule.update(decision, jnp.array(rewards))


def test_broadcast_gives_hidden_units_its_strength():
    params, inputs, decision, grads, _ = _update("broadcast", [1.0, 0.5], broadcast_strength=3.0)
    hidden = inputs @ np.asarray(params["Dense_0"]["kernel"])
    chosen = (np.maximum(hidden, 0) @ np.asarray(params["Dense_1"]["kernel"])).argmax(1)
    np.testing.assert_array_equal(decision.action, chosen)
    q_chosen = np.asarray(decision.outputs)[range(2), chosen]
    rpe = np.array([1.0, 0.5]) - q_chosen
    # α = 1: the change is δ · x · c g, g being 1 above threshold; the mean of two examples.
    change = np.einsum("b,bi,bj->ij", rpe, inputs, 3.0 * (hidden > 0)) / 2
    np.testing.assert_allclose(-grads["Dense_0"]["kernel"], change, rtol=1e-5)


@pytest.mark.parametrize("gain", [1.0, 4.0])
def test_positive_errors_of_q_agrel_weigh_as_told(gain):
    _, _, decision, _, rpe = _update("q_agrel", [9.0, -9.0], positive_gain=gain)
    plain = np.array([9.0, -9.0]) - np.asarray(decision.outputs)[range(2), decision.action]
    np.testing.assert_allclose(rpe, plain * [gain, 1], rtol=1e-6)


def test_the_noise_reaches_the_rules_that_have_some(monkeypatch):
    monkeypatch.setattr(rules, "node_perturbation", lambda policy, noise_sd: noise_sd)
    monkeypatch.setattr(rules, "stochastic_units", lambda noise_sd: noise_sd)
    for name in ("node_perturbation", "stochastic_units"):
        assert build.make_rule(name, config(noise_sd=0.7)) == 0.7


@pytest.mark.parametrize("name", RULES + CONTROL_RULES)
def test_rules_have_their_own_names(name):
    rule = build.make_rule(name, config())
    assert rule.name == name
    assert rule.outcome == ("label" if name == "backprop" else "reward")


@pytest.mark.parametrize(("protocol", "watched"), [("clean", "validation"), ("paper", "test")])
def test_a_line_of_metrics_by_hand(protocol, watched):
    record = fitting.EpochRecord(
        epoch=7,
        accuracy=np.array([0.75, 0.5, np.nan]),  # the third seed has stopped
        class_accuracy=np.array([[1.0, 0.5, 0.75], [0.5, 0.49, 0.51], [np.nan] * 3]),
        train_accuracy=np.array([0.625, 0.25, np.nan]),
        error=np.array([2.0, 3.0, np.nan]),
        reward=np.array([0.625, 0.25, np.nan]),
    )
    run = SimpleNamespace(states=SimpleNamespace(step=np.array([70, 70, 60])))
    assert one_rule._metrics_line("backprop", config(protocol=protocol), run, record) == {
        "rule": "backprop",
        "epoch": 7,
        "step": 70,
        f"{watched}_accuracy": [0.75, 0.5, None],
        "train_accuracy": [0.625, 0.25, None],
        "error": [2.0, 3.0, None],
        "classes_learned": [3, 2, None],
        "class_accuracy": [0.75, 0.495, 0.63],
    }


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_the_accuracy_reported_is_that_of_the_best_epoch(protocol, tmp_path):
    """Each seed's best parameters on the test set, or what was best on it as it was watched."""
    chosen = config(protocol=protocol, seeds=2, first_seed=4)
    splits = build.make_splits(DIGITS, chosen)
    shown = []

    def evaluate(states, images, labels):
        shown.append((states, len(labels)))
        return np.tile([[0.25], [0.75]], (1, 10))

    timings = [{"rule": "q_agrel", "seconds": s, "images": i} for s, i in ((9, 9), (2, 6), (3, 9))]
    timings.append({"rule": "backprop", "seconds": 1, "images": 1000})
    (tmp_path / "timings.jsonl").write_text("".join(json.dumps(t) + "\n" for t in timings))
    run = SimpleNamespace(
        best="at their best",
        states="now",
        best_accuracy=np.array([0.5, 0.875]),
        best_epoch=np.array([2, 3]),
        epoch=3,
        active=np.array([False, True]),
    )
    trainer = SimpleNamespace(evaluate=evaluate)
    found = one_rule._results(tmp_path, chosen, "q_agrel", trainer, run, splits)
    clean = protocol == "clean"
    assert shown == ([("at their best", 360)] if clean else [])
    assert found == {
        "rule": "q_agrel",
        "seeds": [4, 5],
        "test_accuracy": [0.25, 0.75] if clean else [0.5, 0.875],
        "best_epoch": [2, 3],
        "best_monitored_accuracy": [0.5, 0.875],
        "epochs": 3,
        "stopped_early": [True, False],
        "images_per_second": 3.0,  # the median of 3, 3; the first epoch, 1, compiles
        "train_seconds": 14.0,
    }


@pytest.fixture
def clock(monkeypatch):
    """A clock, [seconds], that goes on only where a test says so."""
    now = [0.0]
    for name in ("monotonic", "perf_counter"):
        monkeypatch.setattr(one_rule.time, name, lambda: now[0])
    return now


@pytest.mark.parametrize(("deadline", "epochs"), [(65.0, 2), (75.0, 3), (85.0, 4)])
def test_an_epoch_that_would_end_too_late_does_not_begin(deadline, epochs, clock):
    """The first one compiles, which the next do not; then the second seed has stopped."""

    def learn():
        for epoch, seconds in enumerate((50, 10, 10, 10, 10), 1):
            clock[0] += seconds
            yield SimpleNamespace(epoch=epoch, active=np.array([True, False])), epoch

    begun = SimpleNamespace(epoch=0, active=np.array([True, True]))
    timed = one_rule._timed(learn(), begun, config(epochs=9), 100, deadline)
    found = [(record, seconds, images) for _, record, seconds, images in timed]
    assert found == [(1, 50, 200), *((epoch, 10, 100) for epoch in range(2, epochs + 1))]


def test_checkpoints_take_a_twentieth_of_the_time_and_the_last_is_kept(clock, monkeypatch):
    kept = []

    def save(path, run, metadata):
        kept.append(run.epoch)
        clock[0] += 1.0

    monkeypatch.setattr(one_rule.saved, "save", save)
    saver = one_rule._Saver("path", 0, {})
    for epoch in range(1, 46):
        clock[0] += 1.0
        saver.save(SimpleNamespace(epoch=epoch))
    for _ in range(2):
        saver.save(SimpleNamespace(epoch=45), at_once=True)
    # One that ends at 2 s lets the next begin at 22 s, after the 21st epoch.
    assert kept == [1, 21, 41, 45]


def test_feedback_weights_are_drawn_as_the_options_say():
    """By He et al. also onto the output, where forward weights start small; and twice as strong."""
    made = config(hidden=(300, 200), feedback="random", feedback_init="he", feedback_scale=2.0)
    network = build.build_network(made, 10)
    variables = jax.jit(network.init)(jax.random.key(0), jnp.zeros((1, 8, 8, 1)))
    below = {"Dense_0": 64, "Dense_1": 300, "Dense_2": 200}
    forward, feedback = (
        {name: float(variables[part][name]["kernel"].std()) for name in below}
        for part in ("params", "feedback")
    )
    drawn = {name: (2 / inputs) ** 0.5 for name, inputs in below.items()}
    assert feedback == pytest.approx({name: 2 * sd for name, sd in drawn.items()}, rel=0.06)
    assert forward == pytest.approx(drawn | {"Dense_2": (0.01 / 200) ** 0.5}, rel=0.06)


def test_the_curriculum_is_what_the_options_say():
    assert build.make_curriculum(config()) is None
    given = config(
        curriculum="random",
        curriculum_threshold=0.7,
        curriculum_start=3,
        curriculum_step=4,
        curriculum_window=5,
        curriculum_recency=6.0,
        curriculum_decay=0.7,
        curriculum_exploration=0.3,
        curriculum_max_wait=8,
        curriculum_outputs="open",
    )
    assert build.make_curriculum(given) == Curriculum(
        0.7, 3, 4, 5, 6.0, 0.7, 0.3, 8, "random", False
    )
    # The options' defaults are the library's.
    assert build.make_curriculum(config(curriculum="index")) == Curriculum()


@pytest.mark.parametrize("kind", [configs.Config, MemoryConfig, AgrelOptions])
def test_none_can_be_given_wherever_it_is_a_value(kind):
    optional = [f.name for f in dataclasses.fields(kind) if "None" in str(f.type) if f.metadata]
    parser = cli.Parser()
    fields.add_options(parser, kind, SimpleNamespace(**dict.fromkeys(kind.__annotations__, 1)))
    for name in optional:
        option = "--" + name.replace("_", "-")
        assert fields.given(kind, parser.parse_args([option, "none"])) == {name: None}
        assert fields.given(kind, parser.parse_args([])) == {}
        assert fields.given(kind, parser.parse_args([option, "1"]))[name] in (1, (1,))
    assert len(optional) == 2


def test_ends_of_ranges_and_what_is_given_twice():
    """Layers may be alike, rules may not."""
    assert config(epsilon=0.0, hidden=(5, 5), weight_decay=1).hidden == (5, 5)
    for changes, says in (
        ({"learning_rate": 0.0}, r"--learning-rate must be in \(0, .*, got 0.0"),
        ({"epsilon": 1.5}, r"--epsilon must be in \[0, 1\], got 1.5"),
        ({"rules": ("agrel", "agrel")}, "--rule needs one or more different names"),
        ({"hidden": ()}, "--hidden needs one or more"),
    ):
        with pytest.raises(UserError, match=says):
            config(**changes)


def test_an_earlier_name_of_an_option_is_still_taken():
    old = configs.to_json(config(initialization="paper"))
    old["initialisation"] = old.pop("initialization")
    assert configs.from_json(old) == config(initialization="paper")
    parser = cli.Parser()
    fields.add_options(parser, configs.Config, config())
    given = parser.parse_args(["--initialisation", "paper"])
    assert fields.given(configs.Config, given) == {"initialization": "paper"}
    assert "initialisation" not in parser.format_help()


def test_a_configuration_of_a_version_without_a_curriculum_has_none():
    old = {k: v for k, v in configs.to_json(config()).items() if not k.startswith("curriculum")}
    assert configs.from_json(old) == config()


def test_seeds_beyond_31_bits_begin():
    """The last first seed that may be asked for, and those after it."""
    settings = config(first_seed=2**31 - 1, seeds=3, hidden=(4,))
    splits = build.make_splits(DIGITS, settings)
    run = build.start(build.make_trainer(settings, "q_agrel", DIGITS, splits), settings, DIGITS)
    numbers = np.asarray(jax.random.key_data(run.states.key))
    assert numbers.tolist() == [[0, 2**31 - 1], [0, 2**31], [0, 2**31 + 1]]
