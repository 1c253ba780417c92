"""A reward of one's own has a measure of its own, and learners go on in another phase."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from qagrel_jax import data, rules, training
from qagrel_jax.curriculum import Curriculum
from qagrel_jax.networks import DenseNet
from qagrel_jax.tasks.classification import normalize

pytestmark = pytest.mark.usefixtures("folded_keys")

DIGITS = data.load("digits")
CHOSEN = np.flatnonzero(DIGITS.train_labels < 3)[:200]
DATA = training.Examples(DIGITS.train_images[CHOSEN], DIGITS.train_labels[CHOSEN])


def _trainer(rule=None, actions=3, **options):
    network = DenseNet(actions, hidden=(16,))
    sizes = {"image_shape": (8, 8, 1), "num_classes": 3, "batch_size": 16}
    return training.make_trainer(
        rule or rules.q_agrel(), network, optax.sgd(0.05), **sizes | options
    )


@functools.cache
def _plain():
    return _trainer()


def _start(trainer, seeds=1):
    return training.start(trainer, jax.random.split(jax.random.key(0), seeds))


def _run(trainer, run, epochs, **options):
    done = list(training.fit(trainer, run, DATA, DATA, epochs=epochs, **options))
    return done[-1][0], [record for _, record in done]


def odd(labels, actions):
    return actions == labels % 2


def next_one(labels, actions):
    return actions == (labels + 1) % 3


def test_accuracy_is_of_what_the_trainer_calls_correct():
    trainer = _trainer(actions=2, correct=odd)
    run, records = _run(trainer, _start(trainer, 2), 8)
    for record in records:  # without a reward of its own, that of a correct choice is 1
        np.testing.assert_allclose(record.reward, record.train_accuracy, rtol=1e-6)
    per_class = trainer.evaluate(run.best, *DATA)
    for seed in range(2):
        variables = training.variables_of(run.best, seed)
        outputs = DenseNet(2, hidden=(16,)).apply(variables, normalize(DATA.images))
        right = np.asarray(outputs).argmax(1) == DATA.labels % 2
        by_hand = [right[DATA.labels == label].mean() for label in range(3)]
        np.testing.assert_allclose(per_class[seed], by_hand, rtol=1e-6)
        np.testing.assert_allclose(run.best_accuracy[seed], right.mean(), rtol=1e-6)
        assert right.mean() > 0.95


@pytest.mark.parametrize("given", [{}, {"correct": next_one}])
def test_best_epoch_and_stopping_rule_follow_it(given):
    def paid(key, labels, actions):
        return jnp.where(next_one(labels, actions), 2.0, 0.0)

    trainer = _trainer(reward=paid, **given)
    run, records = _run(trainer, _start(trainer), 25)
    greedy_reward = {}
    for name in ("states", "best"):
        variables = training.variables_of(getattr(run, name), 0)
        outputs = DenseNet(3, hidden=(16,)).apply(variables, normalize(DATA.images))
        greedy_reward[name] = paid(None, DATA.labels, np.asarray(outputs).argmax(1)).mean()
    assert greedy_reward["states"] > 1.8
    assert (greedy_reward["best"] > 1.8) == bool(given)  # by labels the first epochs were best
    assert (records[-1].accuracy > 0.9) == bool(given)


def test_a_curriculum_counts_it():
    """Nobody is ever right, so that no class comes; everybody always, and all come."""
    for verdict in (False, True):

        def never_or_always(labels, actions, verdict=verdict):
            return jnp.full(labels.shape, verdict)

        plan = Curriculum(window=2, exploration=0.0)
        trainer = _trainer(correct=never_or_always, curriculum=plan)
        run, _ = _run(trainer, _start(trainer), 1)
        assert int(run.states.curriculum.count[0]) == (3 if verdict else 1)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"actions": 2}, ValueError, "output for each of 3 classes"),
        ({"actions": 2, "rule": rules.backprop(), "correct": odd}, ValueError, "each of 3 classes"),
        ({"actions": 2, "curriculum": Curriculum(), "correct": odd}, ValueError, "of 3 classes"),
        ({"correct": 1}, TypeError, "correct must be a function"),
        ({"correct": lambda labels: labels == 1}, TypeError, "correct must"),
        ({"correct": lambda labels, actions: 1.0 * (labels == actions)}, TypeError, "True or Fal"),
        ({"correct": lambda labels, actions: odd(labels, actions).all()}, ValueError, r"\[batch\]"),
    ],
)  # fmt: skip
def test_what_cannot_be_counted_is_refused(options, error, message):
    with pytest.raises(error, match=message):
        trainer = _trainer(**options)
        _run(trainer, _start(trainer), 1)


def test_a_phase_begins_with_the_learners_and_forgets_the_stopping_rule():
    trainer = _plain()
    run, _ = _run(trainer, _start(trainer, 2), 3, patience=1, min_gain=0.9)
    assert not run.active.any()
    before = jax.tree.map(np.asarray, run.states._replace(key=jax.random.key_data(run.states.key)))
    phase = training.new_phase(run)
    assert int(phase.epoch) == 0 and phase.active.all()
    after = phase.states._replace(key=jax.random.key_data(phase.states.key))
    jax.tree.map(np.testing.assert_array_equal, before._replace(key=0), after._replace(key=0))
    assert (before.key != np.asarray(after.key)).any(axis=1).all()
    for key, new in zip(before.key, after.key, strict=True):
        folded = jax.random.fold_in(jax.random.wrap_key_data(key), 7)
        np.testing.assert_array_equal(jax.random.key_data(folded), new)
    jax.tree.map(np.testing.assert_array_equal, phase.states.params, phase.best.params)
    run, records = _run(trainer, phase, 2)
    assert [record.epoch for record in records] == [1, 2]
    assert (np.asarray(run.states.step) == before.step + 2 * 13).all()


def test_a_phase_of_the_same_is_the_steps_one_by_one():
    trainer = _plain()
    run, _ = _run(trainer, _start(trainer), 1)
    phase = training.new_phase(run)
    params, key = jax.tree.map(lambda x: x[0], (phase.states.params, phase.states.key))
    order = np.asarray(trainer.epoch_order(phase.states, np.int32(1), examples=len(DATA.labels)))
    learner = training.Learner(
        rules.q_agrel(), DenseNet(3, hidden=(16,)), optax.sgd(0.05), batch_size=16
    )
    state = training.init_state(learner, key, (8, 8, 1), 3)._replace(
        params=params, step=jnp.int32(13)
    )
    step = jax.jit(training.train_step, static_argnums=0)
    for first in range(0, 200, 16):
        rows = order[0, first : first + 16]
        state, _ = step(learner, state, DATA.images[rows], DATA.labels[rows])
    run, _ = _run(trainer, phase, 1)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b[0], atol=1e-6),
        state.params,
        run.states.params,
    )


@pytest.mark.slow
def test_seeds_that_stopped_apart_go_on_the_same_streamed(monkeypatch):
    """A curriculum's windows then end at other steps in each seed."""
    trainer = _trainer(curriculum=Curriculum(threshold=0.3, window=4))

    def phases():
        run = _start(trainer, 2)
        run, _ = _run(trainer, run._replace(active=np.array([True, False])), 1)
        assert np.asarray(run.states.step).tolist() == [13, 0]
        return _run(trainer, training.new_phase(run), 2)[0].states

    whole = phases()
    monkeypatch.setenv("QAGREL_JAX_RESIDENT_GIB", "0")
    streamed = phases()
    jax.tree.map(np.testing.assert_array_equal, whole.params, streamed.params)
    jax.tree.map(np.testing.assert_array_equal, whole.curriculum, streamed.curriculum)
    assert (np.asarray(whole.curriculum.count) > 1).all()


def test_what_was_consumed_begins_no_phase():
    trainer = _plain()
    first = _start(trainer)
    _run(trainer, first, 1)
    with pytest.raises(ValueError, match="consumed by another call"):
        training.new_phase(first)
    with pytest.raises(TypeError, match="run must be"):
        training.new_phase(first.states)


@pytest.mark.filterwarnings("ignore:seed . diverged")
def test_the_step_of_a_divergence_counts_what_this_seed_saw_in_all_phases(tmp_path):
    """13 batches an epoch: seed 0 has seen 26 at first, seed 1 none."""
    trainer = _plain()
    run = _start(trainer, 2)._replace(active=np.array([True, False]))
    run, _ = _run(trainer, run, 2)
    damaged = jax.tree.map(lambda leaf: leaf * 1e30, run.states.params)
    phase = training.new_phase(run._replace(states=run.states._replace(params=damaged)))
    training.save(tmp_path / "run", phase._replace(epoch=np.int32(1)))
    for begun in (phase, training.load(tmp_path / "run", _start(trainer, 2))):
        with pytest.raises(training.DivergedError, match="seed 0 diverged at step 27") as error:
            _run(trainer, begun._replace(active=np.array([True, True])), 2)
        assert error.value.step == 27
    sound = _start(trainer, 2)._replace(active=np.array([True, False]))
    sound, _ = _run(trainer, sound, 2)
    one = jax.tree.map(lambda leaf: leaf.at[1].multiply(1e30), sound.states.params)
    phase = training.new_phase(sound._replace(states=sound.states._replace(params=one)))
    _, records = _run(trainer, phase, 1)
    assert [(e.seed, e.step) for e in records[0].diverged] == [(1, 1)]
