"""The class curriculum: against a literal one, and inside the compiled epoch."""

import dataclasses
import functools
import os
import subprocess
import sys
import types
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from qagrel_jax import curriculum as curricula
from qagrel_jax import data, rules
from qagrel_jax.curriculum import Curriculum
from qagrel_jax.data import streaming
from qagrel_jax.networks import ConvNet, DenseNet
from qagrel_jax.random_keys import root_key, root_keys
from qagrel_jax.training import epoch, fitting, step, trainer
from tests.reference import curriculum as literal

pytestmark = pytest.mark.usefixtures("folded_keys")


ROOT = Path(__file__).resolve().parents[2]
OLDER_CODE = "--xla_cpu_use_fusion_emitters=false"
CLASSES = 5
DIGITS = data.load("digits")
CHOSEN = np.flatnonzero(DIGITS.train_labels < CLASSES)[:300]
IMAGES, LABELS = DIGITS.train_images[CHOSEN], DIGITS.train_labels[CHOSEN]
DATA = fitting.Examples(jnp.asarray(IMAGES), jnp.asarray(LABELS))


@pytest.mark.parametrize(
    "settings",
    [
        Curriculum(threshold=0.5, initial_classes=2, window=3, recency=2.0, decay=0.7),
        Curriculum(threshold=0.8, step_classes=3, window=2, max_wait=4, exploration=0.6),
        Curriculum(threshold=0.4, window=1, recency=0.0, order="random", exploration=0.0),
        Curriculum(initial_classes=9, window=2),
    ],
)
def test_classes_come_as_in_a_literal_loop(settings):
    state = curricula.start(root_key(3), settings, CLASSES)
    reference = literal.Curriculum(
        settings.threshold,
        settings.initial_classes,
        settings.step_classes,
        settings.window,
        settings.recency,
        settings.decay,
        settings.max_wait,
        np.asarray(state.turn).tolist(),
    )
    update = jax.jit(lambda state, *batch: curricula.update(settings, state, *batch))
    generator, over = np.random.default_rng(0), []
    for _ in range(80):
        expected = [reference.weight(label) for label in range(CLASSES)]
        np.testing.assert_allclose(curricula.weights(settings, state), expected, rtol=1e-6)
        over.append(bool(state.over))
        assert over[-1] == reference.over
        labels = generator.choice(np.flatnonzero(expected), 8)
        # Some classes are easier than others, and all get easier and harder by chance.
        right = generator.uniform(size=8) < generator.uniform() ** (0.3 * labels)
        explored = generator.uniform(size=8) < settings.exploration
        state = update(state, labels, right, explored)
        reference.batch(labels.tolist(), right.tolist(), explored.tolist())
    assert int(state.count) == sum(map(len, reference.came)) == CLASSES and over[-1]
    assert over[0] == (settings.initial_classes >= CLASSES)


def test_no_class_comes_before_the_newest_is_learned():
    settings = Curriculum(threshold=0.5, window=1, initial_classes=4)
    state = curricula.start(root_key(0), settings, CLASSES + 1)
    state = curricula.update(settings, state, jnp.arange(4), jnp.ones(4, bool))
    labels = jnp.array([0, 1, 2, 3, 4])
    for newest_right, count in ((False, 5), (True, 6)):
        right = jnp.array([True, True, True, True, newest_right])
        state = curricula.update(settings, state, labels, right)
        assert int(state.count) == count


def test_compiled_a_label_that_is_no_class_is_not_counted():
    plan = Curriculum(window=10, initial_classes=3)
    state = curricula.start(root_key(0), plan, 4)
    labels, right = jnp.array([-1, 0, 1, 4, 7]), jnp.array([True, True, False, True, True])
    counted = jax.jit(functools.partial(curricula.update, plan))(state, labels, right)
    assert counted.shown[0] == 2 and counted.right[0] == 1


def test_orders():
    turns = [
        np.asarray(curricula.start(root_key(s), Curriculum(order="random"), 10).turn)
        for s in (0, 1)
    ]
    assert sorted(turns[0]) == sorted(turns[1]) == list(range(10))
    assert (turns[0] != turns[1]).any()


def test_images_are_drawn_by_their_classs_weight():
    settings = Curriculum(recency=3.0, decay=0.5)
    state = curricula.start(root_key(0), settings, CLASSES)
    state = state._replace(
        count=jnp.int32(4), arrivals=jnp.int32(2), arrival=jnp.array([0, 0, 1, 2, 0])
    )
    table = curricula.class_table(LABELS, CLASSES)
    rows = curricula.draw(root_key(1), settings, state, table, jnp.zeros(40_000, jnp.int32))
    weights = np.array([1.75, 1.75, 2.5, 4, 0])
    expected = weights * np.bincount(LABELS, minlength=CLASSES)
    shown = np.bincount(LABELS[rows], minlength=CLASSES)
    np.testing.assert_allclose(shown / 40_000, expected / expected.sum(), atol=0.01)
    assert shown[4] == 0
    each = np.bincount(rows, minlength=len(LABELS))
    assert (each[LABELS < 4] > 0).all() and each.max() < 4 * each[LABELS == 3].mean()


def test_a_new_class_is_explored_until_it_is_learned():
    """A fifth of choices are among the newest actions alone, whatever the Q values."""
    settings = Curriculum(initial_classes=2, step_classes=2, window=1, exploration=0.2)
    state = curricula.start(root_key(0), settings, 4)
    every, right = jnp.arange(4), jnp.ones(4, bool)
    state = curricula.update(settings, state, every[:2], right[:2])
    explored = curricula.explore(root_key(1), settings, state, 20_000)
    np.testing.assert_allclose(explored.mean(), 0.2, atol=0.01)
    q_values = jnp.array([9.0, 8.0, 1.0, 2.0])
    outputs = curricula.mask(settings, state, jnp.tile(q_values, (20_000, 1)), explored)
    free = np.asarray(~explored)
    np.testing.assert_array_equal(outputs[free], np.tile(q_values, (free.sum(), 1)))
    np.testing.assert_array_equal(outputs[~free][:, :2], -np.inf)
    np.testing.assert_array_equal(outputs[~free][:, 2:], np.tile(q_values[2:], (sum(~free), 1)))
    state = curricula.update(settings, state, every, right)
    assert bool(state.over) and not curricula.explore(root_key(1), settings, state, 1000).any()


@pytest.mark.parametrize("exploration", [0.0, 1.0])
def test_a_step_of_training_explores_the_newest_and_does_not_count_it(exploration):
    """Class 2 has come to 0 and 1; with nothing compiled, so that actions can be looked at."""
    settings = Curriculum(initial_classes=2, window=100, exploration=exploration, max_wait=10**6)
    chosen = []

    def reward(key, labels, actions):
        chosen.append(np.asarray(actions))
        return (labels == actions).astype(jnp.float32)

    learner = step.Learner(rules.q_agrel(), DENSE, optax.sgd(0.05), reward, curriculum=settings)
    state = step.init_state(learner, root_key(0), (8, 8, 1), CLASSES)
    both = jnp.array([0, 1]), jnp.ones(2, bool)
    arrived = curricula.update(dataclasses.replace(settings, window=1), state.curriculum, *both)
    assert int(arrived.count) == 3
    labels = LABELS[LABELS < 3][:32]
    after, _ = step.train_step(
        learner, state._replace(curriculum=arrived), IMAGES[LABELS < 3][:32], jnp.asarray(labels)
    )
    (actions,) = chosen
    if exploration:
        assert set(actions) == {2} and after.curriculum.shown.tolist() == [0, 0]
    else:
        assert set(actions) <= {0, 1, 2} and set(actions) != {2}
        right = actions == labels
        assert after.curriculum.shown.tolist() == [32, (labels == 2).sum()]
        assert after.curriculum.right.tolist() == [right.sum(), right[labels == 2].sum()]


RULES = [
    rules.q_agrel(),
    rules.backprop(),
    rules.reinforce(),
    rules.agrel(),
    rules.node_perturbation(),
    rules.broadcast(),
]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_masked_outputs_are_not_chosen_and_do_not_learn(rule):
    settings = Curriculum(initial_classes=2)
    state = curricula.start(root_key(0), settings, CLASSES)
    network = DenseNet(CLASSES, hidden=(6,))
    inputs = jax.random.uniform(root_key(1), (64, 8))
    params = jax.jit(network.init)(root_key(2), inputs)

    def forward(params, inputs):
        return curricula.mask(settings, state, network.apply(params, inputs))

    decision = rule.act(root_key(3), forward, params, inputs)
    told = jnp.zeros(64, jnp.int32) if rule.outcome == "label" else jnp.ones(64)
    grads, errors = rule.update(decision, told)
    assert set(np.unique(decision.action)) <= {0, 1}
    assert jnp.isfinite(errors).all()
    onto = np.asarray(grads["params"]["Dense_1"]["kernel"])
    assert np.isfinite(np.concatenate([g.ravel() for g in jax.tree.leaves(grads)])).all()
    if rule.name != "node_perturbation":  # it moves all synapses alike, by one scalar
        assert (onto[:, 2:] == 0).all()
    assert np.abs(onto[:, :2]).max() > 0


def _trainer(curriculum, network=None, rule=None, **options):
    return trainer.make_trainer(
        rule or rules.q_agrel(),
        network or DenseNet(CLASSES, hidden=(16,)),
        optax.sgd(0.05),
        image_shape=(8, 8, 1),
        num_classes=CLASSES,
        batch_size=16,
        curriculum=curriculum,
        **options,
    )


def _run(own, *seeds, epochs=3, start=None, examples=DATA):
    run = start or fitting.start(own, root_keys(seeds))
    done = list(fitting.fit(own, run, examples, DATA, epochs=epochs, patience=99))
    return done[-1][0], [record for _, record in done]


def _same(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


def _close(a, b):
    np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-6)


DENSE, CONV = DenseNet(CLASSES, hidden=(16,)), ConvNet(CLASSES)


@pytest.mark.parametrize(
    ("network", "rule"),
    [
        pytest.param(DENSE, rules.q_agrel(), id="dense-q_agrel"),
        pytest.param(DENSE, rules.backprop(), id="dense-backprop", marks=pytest.mark.slow),
        pytest.param(CONV, rules.q_agrel(), id="conv-q_agrel", marks=pytest.mark.slow),
        pytest.param(CONV, rules.backprop(), id="conv-backprop", marks=pytest.mark.slow),
    ],
)
def test_with_all_classes_active_it_is_ordinary_training(network, rule):
    """To the bit: the incomplete last batch, dropout and all.

    The code generator of the tests adds up convolutions of the two programs in another order.
    """
    to_the_bit = isinstance(network, DenseNet) or OLDER_CODE not in os.environ["XLA_FLAGS"]
    same = _same if to_the_bit else functools.partial(jax.tree.map, _close)
    everything = Curriculum(initial_classes=CLASSES, mask=True)
    with_curriculum, _ = _run(_trainer(everything, network, rule), 1, epochs=2)
    ordinary, _ = _run(_trainer(None, network, rule), 1, epochs=2)
    same(with_curriculum.states.params, ordinary.states.params)
    same(with_curriculum.states.model_state, ordinary.states.model_state)


@pytest.mark.slow
def test_with_all_classes_active_it_is_ordinary_training_to_the_bit():
    """Convolutions, too, with the code generator that users have."""
    environment = {**os.environ, "XLA_FLAGS": "--xla_backend_optimization_level=0"}
    test = f"{__file__}::{test_with_all_classes_active_it_is_ordinary_training.__name__}"
    command = [sys.executable, "-m", "pytest", "-q", "-m", "slow or not slow", test]
    result = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True)
    assert "4 passed" in result.stdout, result.stdout


EAGER = Curriculum(threshold=0.4, initial_classes=2, window=7, recency=2.0, order="random")


@pytest.mark.parametrize(
    ("seeds", "epochs"), [((1,), 2), pytest.param((1, 2), 3, marks=pytest.mark.slow)]
)
def test_streamed_it_is_the_same_to_the_bit(monkeypatch, seeds, epochs):
    """Windows of 7 steps in epochs of 18 and an incomplete batch."""
    whole, _ = _run(_trainer(EAGER), *seeds, epochs=epochs)
    monkeypatch.setenv("QAGREL_JAX_RESIDENT_GIB", "0")
    examples = fitting.Examples(IMAGES, LABELS)
    streamed, _ = _run(_trainer(EAGER), *seeds, epochs=epochs, examples=examples)
    _same(whole.states.params, streamed.states.params)
    _same(whole.states.curriculum, streamed.states.curriculum)
    assert int(whole.states.curriculum.count.max()) > 2


@pytest.mark.parametrize(
    ("hold", "over", "steps"),
    [
        (streaming.HostImages, False, [1, 2, 2, 2, 1]),
        (streaming.HostImages, True, [7, 1]),
        (jnp.asarray, False, [7, 1]),
    ],
)
def test_streamed_batches_are_cut_where_a_seeds_window_ends(hold, over, steps):
    """After 1 and 3 steps of windows of 4, at steps 3 and 7 of an epoch, and at 1 and 5."""
    examples = fitting.Examples(hold(np.zeros((61, 3, 3, 1), np.uint8)), np.zeros(61, np.int32))
    of_windows = trainer.Trainer(*[None] * 7, batch_size=8, curriculum=Curriculum(window=4))
    chunks = epoch.chunks_of_epoch(of_windows, examples, 2, "keep", None, {1, 3}, over)
    assert [chunk.steps for chunk in chunks] == steps


@pytest.mark.parametrize(
    ("active", "over"), [([1, 1, 0], True), ([1, 1, 1], False), ([0, 0, 1], False)]
)
def test_it_is_over_once_every_seed_that_goes_on_sees_all_classes(active, over):
    shown = types.SimpleNamespace(over=jnp.array([True, True, False]))
    states = types.SimpleNamespace(curriculum=shown)
    run = types.SimpleNamespace(states=states, active=np.array(active, bool))
    assert fitting._curriculum_is_over(run) == over


def test_seeds_have_classes_of_their_own_and_resume_to_the_bit():
    own = _trainer(EAGER)
    whole, records = _run(own, 1, 2, epochs=4)
    half, _ = _run(own, 1, 2, epochs=2)
    came = np.asarray(half.states.curriculum.arrival)
    rest, later = _run(own, epochs=4, start=half)
    _same(whole.states.params, rest.states.params)
    _same(whole.states.curriculum, rest.states.curriculum)
    np.testing.assert_array_equal(records[3].accuracy, later[1].accuracy)
    assert (came[0] != came[1]).any()
    alone, _ = _run(_trainer(EAGER), 2, epochs=4)
    _same(
        jax.tree.map(lambda x: x[1], whole.states.curriculum),
        jax.tree.map(lambda x: x[0], alone.states.curriculum),
    )


def test_a_class_that_comes_compiles_nothing():
    own = _trainer(EAGER)
    run, _ = _run(own, 1, epochs=1)
    before, compiled = int(run.states.curriculum.count[0]), own.run_steps._cache_size()
    run, _ = _run(own, epochs=6, start=run)
    assert int(run.states.curriculum.count[0]) > before
    assert own.run_steps._cache_size() == compiled


@pytest.mark.slow
@pytest.mark.parametrize("rule", [rules.q_agrel(), rules.backprop()], ids=lambda rule: rule.name)
def test_it_learns_all_classes(rule):
    settings = Curriculum(window=5)
    run, records = _run(_trainer(settings, rule=rule), 0, epochs=60)
    assert int(run.states.curriculum.count[0]) == CLASSES
    assert (records[-1].class_accuracy > 0.5).all()


def test_what_is_shown_is_active():
    """A threshold that is never reached: three classes are never seen, nor ever right."""
    never = Curriculum(threshold=1.0, initial_classes=2, window=10**6, mask=True)
    own = _trainer(never)
    run, records = _run(own, 0, epochs=8)
    assert int(run.states.curriculum.count[0]) == 2
    assert (records[-1].class_accuracy[0, :2] > 0.9).all()
    assert (records[-1].class_accuracy[0, 2:] == 0).all()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"threshold": 1.5}, r"threshold must be in \[0, 1\], got 1.5"),
        ({"exploration": 1.1}, r"exploration must be in \[0, 1\], got 1.1"),
        ({"exploration": 1.0}, "exploration must be below 1 without max_wait, got 1.0"),
        ({"decay": -0.1}, r"decay must be in \[0, 1\], got -0.1"),
        ({"window": 0}, "window must be at least 1, got 0"),
        ({"max_wait": -1}, "max_wait must be at least 0, got -1"),
        ({"recency": -1.0}, "recency must be at least 0, got -1.0"),
        ({"order": "best"}, "unknown order 'best'; valid: index, random"),
    ],
)
def test_bad_settings(change, says):
    with pytest.raises(ValueError, match=says):
        Curriculum(**change)


def test_choices_of_another_batch_are_refused():
    settings = Curriculum(threshold=0.5, window=1)
    state = curricula.start(jax.random.key(0), settings, 3)
    labels, right = jnp.zeros(4, int), jnp.ones(4, bool)
    for wrong in (jnp.bool_(True), right[:1], right[None]):
        with pytest.raises(ValueError, match=r"right must be \[4\], got \["):
            curricula.update(settings, state, labels, wrong)
        with pytest.raises(ValueError, match=r"explored must be \[4\], got \["):
            curricula.update(settings, state, labels, right, wrong)
        with pytest.raises(ValueError, match=r"explored must be \[batch\], here \[4\], got \["):
            curricula.mask(settings, state, jnp.zeros((4, 3)), wrong)
    with pytest.raises(ValueError, match=r"outputs must be \[batch, 3 or more\], .*got \[4, 2\]"):
        curricula.mask(settings, state, jnp.zeros((4, 2)))


@pytest.mark.parametrize(("shift", "missing"), [(1, 0), (0, 5)])
def test_a_class_without_images_would_stop_it_and_is_refused(shift, missing):
    says = f"class {missing} has no examples, and a curriculum would wait for it"
    with pytest.raises(ValueError, match=says):
        curricula.class_table(LABELS + shift, CLASSES + 1)
    made = trainer.make_trainer(
        rules.q_agrel(),
        DenseNet(CLASSES + 1, hidden=(4,)),
        optax.sgd(0.1),
        image_shape=(8, 8, 1),
        num_classes=CLASSES + 1,
        curriculum=Curriculum(),
    )
    run = fitting.start(made, root_keys(np.arange(1)))
    examples = DATA._replace(labels=DATA.labels + shift)
    with pytest.raises(ValueError, match=says):
        next(fitting.fit(made, run, examples, examples, epochs=1, patience=1))


@pytest.mark.parametrize(
    "threshold",
    [
        0.6,
        pytest.param(0.7, marks=pytest.mark.slow),
        pytest.param(0.35, marks=pytest.mark.slow),
        0.15,
    ],
)
def test_a_fraction_that_equals_the_threshold_reaches_it(threshold):
    """In float32 the product of θ and a number of images may lie above the whole number it is."""
    settings = Curriculum(threshold=threshold, initial_classes=2, window=1)
    update = jax.jit(lambda right: curricula.update(settings, state, labels, right))
    for images in (20, 100, 260, 2560, 25_600):
        state = curricula.start(root_key(0), settings, CLASSES)
        labels = jnp.zeros(images, jnp.int32)
        needed = round(threshold * images)
        for right, count in ((needed, 3), (needed - 1, 2)):
            assert int(update(jnp.arange(images) < right).count) == count, (images, right)
        jax.clear_caches()


def test_actions_of_no_class_are_masked_until_it_is_over():
    settings = Curriculum(initial_classes=2, window=1, mask=True)
    state = curricula.start(root_key(0), settings, 3)
    outputs, explored = jnp.ones((2, 5)), jnp.array([False, True])
    masked = curricula.mask(settings, state, outputs, explored)
    np.testing.assert_array_equal(jnp.isfinite(masked), [[1, 1, 0, 0, 0]] * 2)
    for shown in (2, 3):
        state = curricula.update(settings, state, jnp.arange(shown), jnp.ones(shown, bool))
    assert bool(state.over)
    assert jnp.isfinite(curricula.mask(settings, state, outputs)).all()
    own = trainer.make_trainer(
        rules.q_agrel(),
        DenseNet(CLASSES + 2, hidden=(4,)),
        optax.sgd(0.05),
        image_shape=(8, 8, 1),
        num_classes=CLASSES,
        curriculum=Curriculum(),
    )
    _, (record,) = _run(own, 0, epochs=1)
    assert np.isfinite(record.error).all()


@pytest.mark.parametrize("rule", [rules.agrel(), rules.reinforce(), rules.stochastic_units()])
def test_forced_choices_are_refused_to_rules_that_learn_probabilities(rule):
    with pytest.raises(ValueError, match=f"exploration must be 0 with rule '{rule.name}', got 0.2"):
        _trainer(Curriculum(), rule=rule)
    assert _trainer(Curriculum(exploration=0.0), rule=rule).curriculum is not None


@pytest.mark.slow
@pytest.mark.parametrize("plan", [EAGER, Curriculum(threshold=1.0, window=7, max_wait=28)])
def test_resumed_with_other_epochs_it_streams_the_windows_it_is_in(monkeypatch, plan):
    """18 steps an epoch, then 19: windows of 7 go on from the steps done, not from an epoch's."""
    for resident in ("99", "0"):
        monkeypatch.setenv("QAGREL_JAX_RESIDENT_GIB", resident)
        own, examples = _trainer(plan), fitting.Examples(IMAGES, LABELS)
        run = fitting.start(own, root_keys((1,)))
        for epochs, last_batch in ((3, "drop"), (5, "keep")):
            options = {"epochs": epochs, "patience": 99, "last_batch": last_batch}
            *_, (run, _) = fitting.fit(own, run, examples, DATA, **options)
        if resident == "99":
            whole = jax.tree.map(np.array, (run.states.params, run.states.curriculum))
    _same(whole, (run.states.params, run.states.curriculum))
    assert not run.states.curriculum.over[0]  # or the windows would not matter


@pytest.mark.slow
def test_once_all_classes_are_shown_images_are_streamed_as_without_a_curriculum(monkeypatch):
    """In chunks of any length, read in advance, and no number changes."""
    short = Curriculum(threshold=1.0, initial_classes=4, window=7, max_wait=7)  # two windows
    whole, _ = _run(_trainer(short), 1, epochs=3)
    monkeypatch.setenv("QAGREL_JAX_RESIDENT_GIB", "0")
    prefetched, prefetch = [], streaming.prefetch

    def counted(reads):
        prefetched.append(1)
        return prefetch(reads)

    monkeypatch.setattr(streaming, "prefetch", counted)
    own, examples, chunks = _trainer(short), fitting.Examples(IMAGES, LABELS), []
    run = fitting.start(own, root_keys((1,)))
    options = {"epochs": 3, "on_chunk": lambda epoch, done, steps: chunks.append((epoch, done))}
    *_, (run, _) = fitting.fit(own, run, examples, DATA, **options)
    _same(whole.states.params, run.states.params)
    assert [done for epoch, done in chunks if epoch == 1] == [7, 14, 18, 19]
    assert [done for epoch, done in chunks if epoch == 3] == [18, 19]
    assert len(prefetched) == 2


def test_settings_given_as_arrays_can_be_static():
    given = Curriculum(threshold=np.array(0.5), window=jnp.int32(20), decay=np.float32(0.5))
    plain = Curriculum(threshold=0.5, window=20, decay=0.5)
    assert given == plain and hash(given) == hash(plain)


def test_outputs_of_classes_to_come_stay_open_where_that_was_asked_for():
    settings = Curriculum(initial_classes=2, mask=False)
    state = curricula.start(root_key(0), settings, 3)
    masked = curricula.mask(settings, state, jnp.ones((2, 5)), jnp.array([False, True]))
    # The second choice is among the newest classes alone.
    np.testing.assert_array_equal(jnp.isfinite(masked), [[1, 1, 1, 1, 1], [1, 1, 0, 0, 0]])


def test_a_window_without_a_free_choice_of_the_newest_classes_brings_none():
    settings = Curriculum(threshold=0.5, window=1)
    state = curricula.start(root_key(0), settings, 3)
    state = curricula.update(settings, state, jnp.array([0, 0]), jnp.ones(2, bool))
    assert int(state.count) == 2
    for labels, explored in (([0, 0], [False, False]), ([0, 1], [False, True])):
        given = jnp.array(labels), jnp.ones(2, bool), jnp.array(explored)
        state = curricula.update(settings, state, *given)
        assert int(state.count) == 2
