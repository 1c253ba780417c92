"""Training and fitting: seeds are independent, runs repeat, the stopping rule is the papers'."""

import pickle
import types

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from qagrel_jax import analysis, data, rules, sharding, training
from qagrel_jax import curriculum as curricula
from qagrel_jax.curriculum import Curriculum
from qagrel_jax.networks import ConvNet, DenseNet
from qagrel_jax.policies import greedy
from qagrel_jax.random_keys import root_key
from qagrel_jax.tasks.classification import make_reward
from qagrel_jax.training import epoch as epochs_of
from qagrel_jax.training import fitting, step
from qagrel_jax.training import trainer as trainers

pytestmark = pytest.mark.usefixtures("folded_keys")


RNG = np.random.default_rng(0)
DIGITS = data.load("digits")
CHOSEN = np.flatnonzero(DIGITS.train_labels < 3)[:384]
IMAGES, LABELS = DIGITS.train_images[CHOSEN], DIGITS.train_labels[CHOSEN]
COUNT = len(LABELS)
DATA = fitting.Examples(jnp.asarray(IMAGES), jnp.asarray(LABELS))


def _trainer(network=None, rule=None, optimizer=None, **options):
    return training.make_trainer(
        rule or rules.q_agrel(),
        network or DenseNet(3, hidden=(16,)),
        optimizer or optax.sgd(0.05),
        image_shape=(8, 8, 1),
        num_classes=3,
        batch_size=16,
        **options,
    )


def _keys(*seeds):
    return jax.vmap(jax.random.key)(jnp.array(seeds))


def _run(trainer, *seeds, epochs=3, patience=99, start=None):
    run = start or fitting.start(trainer, _keys(*seeds))
    done = list(fitting.fit(trainer, run, DATA, DATA, epochs=epochs, patience=patience))
    return done[-1][0], [record for _, record in done]


@pytest.mark.parametrize(
    "network",
    [
        pytest.param(DenseNet(3, hidden=(16,)), id="dense"),
        pytest.param(ConvNet(3), id="conv", marks=pytest.mark.slow),
    ],
)
def test_seeds_beside_others_are_seeds_alone(network):
    slow = optax.sgd(0.002)
    by_itself = _trainer(network, optimizer=slow, seeds_by="map")
    alone = [_run(by_itself, seed)[0].states.params for seed in (4, 9)]
    for seeds_by in ("vmap", "map"):
        together = _run(_trainer(network, optimizer=slow, seeds_by=seeds_by), 4, 9)[0].states.params
        for i, one in enumerate(alone):
            jax.tree.map(
                lambda a, b, i=i: np.testing.assert_allclose(a[i], b[0], atol=2e-5), together, one
            )


def test_a_run_repeats_bit_for_bit_and_goes_on_where_it_stopped():
    trainer = _trainer(ConvNet(3), optimizer=optax.sgd(0.002))
    whole, records = _run(trainer, 1, 2, epochs=4)
    half, _ = _run(trainer, 1, 2, epochs=2)
    rest, later = _run(trainer, epochs=4, start=half)
    jax.tree.map(np.testing.assert_array_equal, whole.states.params, rest.states.params)
    jax.tree.map(np.testing.assert_array_equal, whole.best_accuracy, rest.best_accuracy)
    np.testing.assert_array_equal(records[3].accuracy, later[1].accuracy)


def test_the_second_call_does_not_compile():
    trainer = _trainer()
    _run(trainer, 0, epochs=3)
    assert trainer.run_steps._cache_size() == 1
    assert trainer.count_correct._cache_size() == 1


def _halved(rate):
    return optax.sgd(optax.exponential_decay(rate, 30, 0.5, staircase=True))


@pytest.mark.parametrize(
    "make",
    [optax.sgd, pytest.param(optax.adam, marks=pytest.mark.slow), _halved],
    ids=["sgd", "adam", "halved"],
)
def test_another_rate_is_of_the_same_program_and_changes_no_bit(make):
    """Against the rate as a constant of the program."""
    trainer = _trainer(optimizer=make, learning_rate=0.05)
    for rate in (0.05, 0.013):
        found, records = _run(trainer._replace(learning_rate=np.float32(rate)), 0, 1)
        expected, of_constant = _run(_trainer(optimizer=make(rate)), 0, 1)
        jax.tree.map(np.testing.assert_array_equal, found.states.params, expected.states.params)
        np.testing.assert_array_equal(records[-1].error, of_constant[-1].error)
    assert trainer.run_steps._cache_size() == 1


def test_the_size_of_a_run_is_known_before_it_starts_on_a_mesh_too():
    for mesh in (None, sharding.make_mesh()):
        trainer = _trainer(mesh=mesh)
        shapes = jax.eval_shape(trainer.init, _keys(0, 1))
        jax.tree.map(
            lambda shape, array: chex.assert_shape(array, shape.shape),
            shapes,
            fitting.start(trainer, _keys(0, 1)).states,
        )


def test_a_rate_that_is_a_plain_number_compiles_nothing():
    trainer = _trainer(optimizer=optax.sgd, learning_rate=0.05)
    for rate in (None, 0.013, 0, np.float64(0.1)):
        changed = trainer if rate is None else trainer._replace(learning_rate=rate)
        _run(changed, 0, epochs=1)
    assert trainer.run_steps._cache_size() == 1


@pytest.mark.parametrize("place", [2, -3])
def test_a_learner_that_is_not_there_is_refused(place):
    states = _trainer().init(_keys(0, 1))
    with pytest.raises(ValueError, match=rf"seed must be in \[-2, 1\], got {place}"):
        training.variables_of(states, place)


def test_labels_of_any_whole_dtype_and_lists_are_the_same():
    expected, (record,) = _run(_trainer(), 0, epochs=1)
    for labels in (LABELS.astype(np.uint8), LABELS.astype(np.int64), LABELS.tolist()):
        examples = fitting.Examples(IMAGES.tolist() if labels is LABELS else IMAGES, labels)
        run = fitting.start(_trainer(), _keys(0))
        *_, (run, found) = fitting.fit(_trainer(), run, examples, examples, epochs=1)
        jax.tree.map(np.testing.assert_array_equal, run.states.params, expected.states.params)
        np.testing.assert_array_equal(found.accuracy, record.accuracy)


def test_nothing_to_monitor_is_refused():
    empty = fitting.Examples(IMAGES[:0], LABELS[:0])
    with pytest.raises(ValueError, match="monitored has no examples"):
        next(fitting.fit(_trainer(), fitting.start(_trainer(), _keys(0)), DATA, empty, epochs=1))


def test_a_rate_that_is_not_the_optimizers_is_refused():
    trainer = _trainer()._replace(learning_rate=np.float32(0.1))
    with pytest.raises(ValueError, match="make_trainer was not given a learning_rate"):
        _run(trainer, 0, epochs=1)
    with pytest.raises(TypeError, match="optimizer must be a function"):
        _trainer(optimizer=optax.sgd(0.1), learning_rate=0.1)
    with pytest.raises(ValueError, match="learning_rate must be at least 0"):
        _trainer(optimizer=optax.sgd, learning_rate=-1.0)


def test_a_rate_that_the_optimizer_keeps_in_its_state_is_refused():
    """There another rate would have no effect."""
    for make in (
        optax.inject_hyperparams(optax.sgd),
        lambda rate: optax.chain(optax.clip(1.0), optax.inject_hyperparams(optax.adam)(rate)),
    ):
        with pytest.raises(ValueError, match="keeps its learning rate in its state"):
            _run(_trainer(optimizer=make, learning_rate=0.1), 0, epochs=1)
        _run(_trainer(optimizer=make(0.1)), 0, epochs=1)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_where_nothing_can_be_chosen_nothing_is_correct(value):
    """Not even images of the class that the largest of such outputs would name."""
    trainer = _trainer()
    states = trainer.init(_keys(0))
    broken = states._replace(params=jax.tree.map(lambda w: jnp.full_like(w, value), states.params))
    assert trainer.evaluate(states, *DATA).any()
    np.testing.assert_array_equal(trainer.evaluate(broken, *DATA), 0)


def test_on_an_accelerator_an_epoch_is_one_call_and_two_waits(monkeypatch):
    """One wait for the accuracy and one for the metrics; none a step."""
    calls, waits = [], []
    trainer = _trainer()
    run_steps, fetch = trainer.run_steps, sharding.fetch
    trainer = trainer._replace(run_steps=lambda *a: calls.append(1) or run_steps(*a))
    run = fitting.start(trainer, _keys(0, 1))
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    monkeypatch.setattr(sharding, "fetch", lambda tree: waits.append(1) or fetch(tree))
    done = list(fitting.fit(trainer, run, DATA, DATA, epochs=2, patience=9))
    assert (len(calls), len(waits)) == (2, 4)
    monkeypatch.undo()
    _, records = _run(_trainer(), 0, 1, epochs=2)
    for (_, there), here in zip(done, records, strict=True):
        np.testing.assert_array_equal(there.error, here.error)


def test_the_old_states_make_room_for_the_new():
    """Donation: the compiled step writes into the buffers it read from, all of them."""
    trainer = _trainer(optimizer=optax.sgd(0.05, momentum=0.9))
    states = trainer.init(_keys(0, 1))
    order = trainer.epoch_order(states, jnp.int32(1), examples=COUNT).reshape(2, -1, 16)
    arguments = (states, np.ones(2, bool), *DATA, order)
    memory = trainer.run_steps.lower(*arguments).compile().memory_analysis()
    learners = states._replace(key=jax.random.key_data(states.key))
    assert memory.alias_size_in_bytes >= sum(x.nbytes for x in jax.tree.leaves(learners))
    trainer.run_steps(*arguments)
    assert all(x.is_deleted() for x in jax.tree.leaves(states))


def test_the_old_best_makes_room_for_the_new():
    run = fitting.start(_trainer(), _keys(0, 1))
    before = jax.tree.leaves(run.best)
    worse = fitting._after_epoch(run, np.float32([-2, -2]), 5, 0)
    assert all(a is b for a, b in zip(jax.tree.leaves(worse.best), before, strict=True))
    better = fitting._after_epoch(run, np.float32([0.5, -2]), 5, 0)
    assert all(x.is_deleted() for x in before)
    assert not any(x.is_deleted() for x in jax.tree.leaves((better.best, better.states)))
    np.testing.assert_array_equal(better.best_accuracy, np.float32([0.5, -1]))


def test_each_seed_keeps_its_own_best_parameters():
    run = fitting.start(_trainer(), _keys(0, 1))
    learned = jax.tree.map(lambda p: p + 1, run.states.params)
    run = run._replace(states=run.states._replace(params=learned))
    before, now = (jax.tree.map(np.array, state.params) for state in (run.best, run.states))
    best = fitting._after_epoch(run, np.float32([0.5, -2]), 5, 0).best.params
    jax.tree.map(lambda kept, new: np.testing.assert_array_equal(kept[0], new[0]), best, now)
    jax.tree.map(lambda kept, old: np.testing.assert_array_equal(kept[1], old[1]), best, before)


TWICE = np.tile(np.arange(16), (1, 2, 1))  # one batch, two steps, one seed


def _steps(trainer, order):
    return trainer.run_steps(trainer.init(_keys(0)), np.ones(1, bool), *DATA, order)


@pytest.mark.parametrize(
    "curriculum",
    [pytest.param(None, marks=pytest.mark.slow), Curriculum()],
    ids=["plain", "curriculum"],
)
def test_what_is_random_has_a_key_of_its_own_in_every_step_of_every_seed(curriculum, monkeypatch):
    """The choice, dropout, feedback, the reward, and what a curriculum draws.

    With nothing compiled, so that keys can be looked at.
    """
    seen = []

    def note(key):
        seen.append(tuple(np.asarray(jax.random.key_data(key)).tolist()))

    class Network(DenseNet):
        @nn.nowrap
        def apply(self, *arguments, rngs, **options):
            note(rngs["dropout"])
            note(rngs["feedback"])
            return super().apply(*arguments, rngs=rngs, **options)

    rule = rules.q_agrel()

    def act(key, *arguments, **options):
        note(key)
        return rule.act(key, *arguments, **options)

    def reward(key, labels, actions):
        note(key)
        return (labels == actions).astype(jnp.float32)

    def noted(function):
        return lambda key, *arguments: note(key) or function(key, *arguments)

    for name in ("draw", "explore"):
        monkeypatch.setattr(curricula, name, noted(getattr(curricula, name)))
    learner = Network(3, hidden=(4,)), rule._replace(act=act)
    trainer = _trainer(*learner, reward=reward, curriculum=curriculum)
    states = trainer.init(_keys(0, 1))
    with jax.disable_jit():
        trainer.run_steps(states, np.ones(2, bool), *DATA, np.tile(TWICE, (2, 1, 1)))
    each = 4 if curriculum is None else 6
    assert len(seen) == 2 * 2 * each and len(set(seen)) == len(seen)


def test_dropout_is_drawn_anew_and_running_statistics_add_up():
    """Without learning, two steps on one batch differ in their dropout alone."""
    states, metrics = _steps(_trainer(ConvNet(3), optimizer=optax.sgd(0.0)), TWICE)
    assert abs(metrics.error[0, 0] - metrics.error[0, 1]) > 1e-6
    kernel = np.asarray(states.params["Conv_0"]["kernel"][0], float)
    padded = np.pad(IMAGES[:16].astype(float) / 255, ((0, 0), (1, 1), (1, 1), (0, 0)))
    activity = sum(
        padded[:, i : i + 8, j : j + 8] * kernel[i, j, 0] for i in range(3) for j in range(3)
    )
    mean = np.maximum(activity, 0).mean((0, 1, 2))
    running = states.model_state["batch_stats"]["BatchNorm_0"]["mean"][0]
    np.testing.assert_allclose(running, (1 - 0.99**2) * mean, rtol=1e-3)


def test_the_optimizer_remembers():
    """At a rate of 0.1, then 0, two steps are one."""
    trainer = _trainer(optimizer=optax.sgd(lambda count: jnp.where(count == 0, 0.1, 0.0)))
    start = trainer.init(_keys(0)).params["Dense_0"]["kernel"]
    one, two = (_steps(trainer, order)[0].params for order in (TWICE[:, :1], TWICE))
    jax.tree.map(np.testing.assert_array_equal, one, two)
    assert np.abs(one["Dense_0"]["kernel"] - start).max() > 1e-6


@pytest.mark.parametrize("name", ["q_agrel", "backprop"])
def test_an_epochs_record_by_hand(name):
    """Without learning and exploring: the whole set's fraction right, and mean δ² or loss."""
    rule = rules.q_agrel(greedy) if name == "q_agrel" else rules.backprop()
    trainer = _trainer(rule=rule, optimizer=optax.sgd(0.0))
    run = fitting.start(trainer, _keys(3, 4))
    kernels = jax.tree.map(lambda k: np.asarray(k, float), run.states.params)
    *_, (_, record) = fitting.fit(trainer, run, DATA, DATA, epochs=1, patience=9)
    for seed in range(2):
        hidden = IMAGES.reshape(COUNT, -1) / 255 @ kernels["Dense_0"]["kernel"][seed]
        q_values = np.maximum(hidden, 0) @ kernels["Dense_1"]["kernel"][seed]
        right = q_values.argmax(1) == LABELS
        if name == "q_agrel":
            error = np.mean((right - q_values.max(1)) ** 2)
        else:
            p = np.exp(q_values) / np.exp(q_values).sum(1, keepdims=True)
            error = -np.log(p[np.arange(COUNT), LABELS]).mean()
        np.testing.assert_allclose(record.error[seed], error, rtol=1e-5)
        np.testing.assert_allclose(record.accuracy[seed], right.mean(), rtol=1e-6)
        np.testing.assert_allclose(record.train_accuracy[seed], right.mean(), rtol=1e-6)
        by_class = [right[c == LABELS].mean() for c in range(3)]
        np.testing.assert_allclose(record.class_accuracy[seed], by_class, rtol=1e-6)


@pytest.mark.parametrize("rule", [rules.q_agrel(), rules.backprop()], ids=["q_agrel", "backprop"])
def test_it_learns(rule):
    run, _ = _run(_trainer(rule=rule), 0, 1, epochs=25)
    assert (run.best_accuracy > 0.9).all()


def test_an_epoch_shows_each_example_once_in_an_order_of_its_own():
    trainer = _trainer()
    states = trainer.init(_keys(0, 1))
    first = np.asarray(trainer.epoch_order(states, jnp.int32(1), examples=COUNT))
    second = np.asarray(trainer.epoch_order(states, jnp.int32(2), examples=COUNT))
    for order in (*first, *second):
        assert sorted(order) == list(range(COUNT))
    assert not (first[0] == first[1]).all()
    assert not (first[0] == second[0]).all()


def test_evaluation_is_the_plain_fraction_right():
    network = DenseNet(3, hidden=(16,))
    trainer = _trainer(network, evaluation_batch=7)
    states = trainer.init(_keys(5))
    per_class = trainer.evaluate(states, *DATA)
    params = jax.tree.map(lambda x: x[0], states.params)
    chosen = network.apply({"params": params}, IMAGES.astype(np.float32) / 255).argmax(-1)
    right = np.asarray(chosen) == LABELS
    np.testing.assert_allclose(per_class[0], [right[c == LABELS].mean() for c in range(3)], 1e-6)
    overall = training.overall_accuracy(per_class, DATA.labels)
    np.testing.assert_allclose(overall[0], right.mean(), rtol=1e-6)
    half = np.where(np.arange(len(LABELS)) % 2, LABELS, -1)  # images of no class are not counted
    overall = training.overall_accuracy(trainer.evaluate(states, IMAGES, half), half)
    np.testing.assert_allclose(overall[0], right[half >= 0].mean(), rtol=1e-6)
    with pytest.raises(ValueError, match="labels must have one of a class at least, got 2 of none"):
        training.overall_accuracy(per_class, np.array([-1, -1]))
    with pytest.raises(ValueError, match="labels must be classes below 3, got 3"):
        training.overall_accuracy(per_class, np.array([0, 3]))


def test_a_stopped_seed_no_longer_changes():
    trainer = _trainer()
    run = fitting.start(trainer, _keys(0, 1))
    run = run._replace(active=jnp.array([True, False]))
    before = jax.tree.map(np.asarray, run.states.params)
    after, records = _run(trainer, epochs=2, start=run)
    kernel = "Dense_0"
    np.testing.assert_array_equal(
        before[kernel]["kernel"][1], after.states.params[kernel]["kernel"][1]
    )
    assert not (before[kernel]["kernel"][0] == after.states.params[kernel]["kernel"][0]).all()
    assert np.isnan(records[0].accuracy[1])


def test_nan_stops_at_its_step():
    with pytest.raises(fitting.DivergedError, match=r"seed \d diverged at step \d+ \(epoch \d\)"):
        _run(_trainer(optimizer=optax.sgd(1e30)), 0)
    errors = np.ones((4, 4))
    errors[1, 2], errors[0, 3], errors[2, 0] = np.nan, np.inf, np.nan
    rewards = np.ones((4, 4))
    rewards[1, 2], rewards[0, 2] = np.nan, np.nan  # seed 0's step before: its error is finite
    active, before = np.array([True, True, False, True]), np.array([10, 20, 30, 40])
    for told, by_reward in ((None, (False, False)), (rewards, (False, True))):
        metrics = step.StepMetrics(np.ones((4, 4)), errors, told)
        found = epochs_of._diverged(metrics, active, before, 5)
        assert [(e.seed, e.step, e.epoch) for e in found] == [(0, 14, 5), (1, 23, 5)]
        assert tuple(e.by_reward for e in found) == by_reward


def _damaged(run, *seeds):
    """Make the weights of some seeds so large that their outputs are no numbers."""
    rows = np.isin(np.arange(len(run.active)), seeds)

    def damage(leaf):
        return jnp.where(rows.reshape(-1, *[1] * (leaf.ndim - 1)), 1e30, leaf)

    return run._replace(states=run.states._replace(params=jax.tree.map(damage, run.states.params)))


@pytest.mark.parametrize("seeds_by", ["vmap", "map"])
def test_a_seed_that_diverges_stops_and_changes_no_bit_of_the_others(seeds_by):
    trainer = _trainer(seeds_by=seeds_by)
    expected, of_all = _run(trainer, 0, 1, 2)
    start = _damaged(fitting.start(trainer, _keys(0, 1, 2)), 1)
    with pytest.warns(RuntimeWarning, match=r"seed 1 diverged at step 1 \(epoch 1\).*others go on"):
        found, records = _run(trainer, start=start)
    assert [[e.seed for e in record.diverged] for record in records] == [[1], [], []]
    assert found.diverged.tolist() == [False, True, False]
    assert found.active.tolist() == [True, False, True]
    assert found.best_epoch[1] == 1  # there is no better one
    assert records[0].accuracy[1] == 0
    assert not np.isfinite(records[0].error[1])
    for record, whole in zip(records, of_all, strict=True):
        np.testing.assert_array_equal(record.accuracy[[0, 2]], whole.accuracy[[0, 2]])
        np.testing.assert_array_equal(record.error[[0, 2]], whole.error[[0, 2]])
    assert np.isnan([record.accuracy[1] for record in records[1:]]).all()
    for name in ("states", "best"):
        pair = (getattr(run, name).params for run in (found, expected))
        jax.tree.map(lambda a, b: np.testing.assert_array_equal(a[::2], b[::2]), *pair)


@pytest.mark.parametrize("chunk_steps", [None, 7])
@pytest.mark.filterwarnings("ignore:seed 0 diverged")
def test_a_seed_that_diverges_late_keeps_its_best_weights(chunk_steps, tmp_path):
    trainer = _trainer()
    half, _ = _run(trainer, 0, 1, epochs=2)
    best = jax.tree.map(lambda leaf: np.array(leaf[0]), half.best.params)
    options = {"epochs": 3, "patience": 9, "chunk_steps": chunk_steps}
    run, record = next(fitting.fit(trainer, _damaged(half, 0), DATA, DATA, **options))
    assert [(e.seed, e.step, e.epoch) for e in record.diverged] == [(0, 49, 3)]
    assert record.accuracy[0] == 0 and run.best_epoch[0] <= 2
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(a, b[0]), best, run.best.params)
    training.save(tmp_path / "run", run)
    again = training.load(tmp_path / "run", fitting.start(trainer, _keys(0, 1)))
    assert again.diverged.tolist() == [True, False]
    later, records = _run(trainer, start=again, epochs=4)
    assert np.isnan(records[0].accuracy).tolist() == [True, False]
    next_phase = fitting.new_phase(later)
    assert next_phase.active.tolist() == [False, True]
    assert next_phase.diverged.tolist() == [True, False]


@pytest.mark.parametrize("chunk_steps", [None, 5])
@pytest.mark.filterwarnings("ignore:seed 1 diverged")
def test_the_last_seed_to_diverge_ends_the_run(chunk_steps):
    trainer, told = _trainer(), []
    options = {"epochs": 9, "patience": 9, "chunk_steps": chunk_steps}
    start = _damaged(fitting.start(trainer, _keys(0, 1)), 1)
    run, _ = next(fitting.fit(trainer, start, DATA, DATA, **options))
    options["on_chunk"] = lambda *counts: told.append(counts)
    with pytest.raises(fitting.DivergedError, match=r"seed 0 diverged at step 25 \(epoch 2\)"):
        next(fitting.fit(trainer, _damaged(run, 0), DATA, DATA, **options))
    assert not told  # after the first chunk of the epoch there is nothing to learn


@pytest.mark.filterwarnings("ignore:seed 1 diverged")
def test_a_seed_that_has_stopped_by_the_rule_is_left_when_the_others_diverge():
    trainer = _trainer()
    start = _damaged(fitting.start(trainer, _keys(0, 1)), 1)
    run, records = _run(trainer, start=start._replace(active=np.array([False, True])))
    assert len(records) == 1 and not run.active.any()
    assert run.diverged.tolist() == [False, True]


def test_divergence_in_a_later_epoch_is_told_with_its_step():
    """24 batches an epoch, and a rate that is no number from the 30th on."""
    trainer = _trainer(optimizer=optax.sgd(lambda count: jnp.where(count < 29, 0.01, jnp.nan)))
    with pytest.raises(fitting.DivergedError, match=r"seed 0 diverged at step 31 \(epoch 2\)"):
        _run(trainer, 0)
    run, _ = _run(trainer, 0, epochs=1)  # and taken up again
    with pytest.raises(fitting.DivergedError, match=r"seed 0 diverged at step 31 \(epoch 2\)"):
        _run(trainer, epochs=2, start=run)


def test_a_reward_that_is_no_number_is_told_from_divergence():
    """24 batches an epoch; the reward of class 2 is not finite, or the weights are damaged."""
    for bad in (np.nan, np.inf):
        reward = lambda key, labels, actions, bad=bad: jnp.where(labels == 2, bad, 1.0)  # noqa: E731
        with pytest.raises(fitting.DivergedError, match="a reward is NaN or infinite") as told:
            _run(_trainer(reward=reward), 0)
        assert told.value.by_reward
    start = _damaged(fitting.start(_trainer(), _keys(0)), 0)
    with pytest.raises(fitting.DivergedError, match=r"NaN or infinity$") as told:
        _run(_trainer(), start=start)
    assert not told.value.by_reward
    supervised = _trainer(rule=rules.backprop())
    with pytest.raises(fitting.DivergedError, match=r"NaN or infinity$"):
        _run(supervised, start=_damaged(fitting.start(supervised, _keys(0)), 0))


def test_divergence_in_another_phase_counts_the_steps_of_all_and_names_the_last():
    """24 batches an epoch, of which seed 1 has missed those of the first phase."""
    trainer = _trainer()
    start = fitting.start(trainer, _keys(0, 1))._replace(active=np.array([True, False]))
    run, _ = _run(trainer, start=start, epochs=1)
    phase = _damaged(fitting.new_phase(run), 0, 1)
    with pytest.raises(fitting.DivergedError, match=r"seed 0 diverged at step 25 \(epoch 1\)"):
        _run(trainer, start=phase)


def test_progress_within_an_epoch_counts_its_steps():
    """29 examples are three batches of 8 and one of 5."""
    told = []
    few = fitting.Examples(DATA.images[:29], DATA.labels[:29])
    trainer = _trainer()._replace(batch_size=8)
    run = fitting.start(trainer, _keys(0))
    options = {"chunk_steps": 2, "on_chunk": lambda *counts: told.append(counts)}
    list(fitting.fit(trainer, run, few, few, epochs=2, **options))
    assert told == [(1, 2, 4), (1, 3, 4), (1, 4, 4), (2, 2, 4), (2, 3, 4), (2, 4, 4)]


def test_what_a_mesh_does_not_divide_is_refused():
    mesh = types.SimpleNamespace(shape={sharding.BATCH: 3, sharding.SEEDS: 2})
    assert trainers._divided(6, 20, mesh) == 21
    with pytest.raises(ValueError, match="batch_size 5 is not divisible over 3 devices"):
        trainers._divided(5, 20, mesh)
    with pytest.raises(ValueError, match="3 seeds are not divisible over 2 devices"):
        fitting.start(_trainer()._replace(mesh=mesh), _keys(0, 1, 2))


def test_the_validation_split_is_held_out():
    kept, held = fitting.split(fitting.Examples(IMAGES, np.arange(COUNT)), 0.25)
    assert len(held.labels) == COUNT // 4
    assert sorted([*kept.labels, *held.labels]) == list(range(COUNT))
    # A run that is resumed, by whatever version, must hold the same ones out.
    chosen = np.random.default_rng(0).permutation(COUNT)[: COUNT // 4]
    np.testing.assert_array_equal(held.labels, np.sort(chosen))
    np.testing.assert_array_equal(held.images, IMAGES[np.sort(chosen)])
    with pytest.raises(ValueError, match=r"got 1\.5"):
        fitting.split(fitting.Examples(IMAGES, LABELS), 1.5)


@pytest.mark.parametrize("rule", [rules.q_agrel(), rules.backprop()], ids=lambda rule: rule.name)
def test_an_epoch_has_its_mean_reward(rule):
    trainer = _trainer(rule=rule, reward=make_reward(2.0, -1.0))
    _, (record,) = _run(trainer, 0, 1, epochs=1)
    told_labels = rule.outcome == "label"
    by_hand = np.nan if told_labels else 3 * record.train_accuracy - 1
    np.testing.assert_allclose(record.reward, np.broadcast_to(by_hand, 2), atol=1e-6)


def test_the_task_may_reward_as_it_likes():
    trainer = _trainer(reward=lambda key, labels, actions: (actions == 0).astype(jnp.float32))
    run, _ = _run(trainer, 0, epochs=30)
    per_class = trainer.evaluate(run.states, *DATA)
    np.testing.assert_array_equal(per_class[0], [1, 0, 0])


def test_bad_arguments():
    with pytest.raises(ValueError, match="batch_size must be at least 1, got 0"):
        training.make_trainer(
            rules.q_agrel(),
            DenseNet(3),
            optax.sgd(0.1),
            image_shape=(8, 8, 1),
            num_classes=3,
            batch_size=0,
        )
    with pytest.raises(ValueError, match="unknown seeds_by"):
        _trainer(seeds_by="pmap")


def test_kolen_pollack_started_equal_stays_equal_to_tied():
    def run(feedback):
        trainer = _trainer(DenseNet(3, hidden=(16,), feedback=feedback))
        start = fitting.start(trainer, _keys(0))
        params = fitting.start(_trainer(DenseNet(3, hidden=(16,))), _keys(0)).states.params
        if feedback == "kolen_pollack":
            params = {
                k: {"kernel": v["kernel"], "feedback_kernel": v["kernel"].copy()}
                for k, v in params.items()
            }
        start = start._replace(states=start.states._replace(params=params))
        return _run(trainer, epochs=5, start=start)[0].states.params

    tied, reciprocal = run("tied"), run("kolen_pollack")
    for layer in tied:
        np.testing.assert_array_equal(
            reciprocal[layer]["kernel"], reciprocal[layer]["feedback_kernel"]
        )
        np.testing.assert_allclose(tied[layer]["kernel"], reciprocal[layer]["kernel"], atol=1e-6)


@pytest.mark.slow
def test_kolen_pollack_with_decay_becomes_symmetric_and_learns():
    network = DenseNet(3, hidden=(32, 16), feedback="kolen_pollack")
    decayed = optax.chain(optax.add_decayed_weights(0.02), optax.sgd(0.1))
    trainer = _trainer(network, optimizer=decayed)
    start = fitting.start(trainer, _keys(0, 1))
    before = analysis.feedback_angles(start.states.params, {}, "kolen_pollack")
    run, _ = _run(trainer, epochs=60, start=start)
    after = analysis.feedback_angles(run.states.params, {}, "kolen_pollack")
    for layer in before:
        assert (before[layer] > 50).all()
        assert (after[layer] < 0.6 * before[layer]).all()
    assert (run.best_accuracy > 0.9).all()


@pytest.mark.slow
@pytest.mark.parametrize("feedback", ["random", "sign"])
def test_random_and_sign_feedback_learn(feedback):
    run, _ = _run(_trainer(DenseNet(3, hidden=(32, 16), feedback=feedback)), 0, 1, epochs=100)
    assert (run.best_accuracy > 0.8).all()


@pytest.mark.parametrize("nominal", [None, 8, 32])
def test_a_step_of_ones_own_divides_by_the_nominal_batch_if_there_is_one(nominal):
    images, labels = jnp.ones((8, 2, 2, 1)), jnp.zeros(8, jnp.int32)
    network, rule = DenseNet(2, hidden=(3,)), rules.q_agrel()
    learner = step.Learner(rule, network, optax.sgd(1.0), batch_size=nominal)
    state = step.init_state(learner, root_key(0), (2, 2, 1), 2)
    after, _ = jax.jit(step.train_step, static_argnums=0)(learner, state, images, labels)
    step_key = jax.random.fold_in(jax.random.fold_in(state.key, 1), 0)
    forward = lambda params, x: network.apply({"params": params}, x)  # noqa: E731

    @jax.jit
    def learn(key, params):
        decision = rule.act(key, forward, params, images)
        return rule.update(decision, (decision.action == labels).astype(jnp.float32))

    grads, _ = learn(jax.random.split(step_key, 3)[0], state.params)
    share = 1 if nominal is None else 8 / nominal
    leaves = map(jax.tree.leaves, (after.params, state.params, grads))
    for new, old, grad in zip(*leaves, strict=True):
        np.testing.assert_allclose(old - new, share * grad, atol=1e-6)


def test_the_error_of_divergence_passes_from_process_to_process():
    for by_reward, ends in ((False, "NaN or infinity"), (True, "a reward is NaN or infinite")):
        error = fitting.DivergedError(2, 30, 4, by_reward)
        again = pickle.loads(pickle.dumps(error))
        assert (str(again), again.seed, again.step, again.epoch) == (str(error), 2, 30, 4)
        told = str(again.counted_from(5))
        assert told == f"seed 7 diverged at step 30 (epoch 4): {ends}"


def test_examples_may_be_lists():
    placed = fitting.place(fitting.Examples([[[[0.5]]], [[[1.0]]]], [1, 0]))
    assert (placed.images.shape, placed.labels.tolist()) == ((2, 1, 1, 1), [1, 0])
    kept, held_out = fitting.split(fitting.Examples(np.ones((4, 1, 1, 1)), [0, 1, 2, 3]), 0.25)
    assert sorted([*kept.labels.tolist(), *held_out.labels.tolist()]) == [0, 1, 2, 3]
