"""The papers' recipe to the last batch, and their stopping rule, against literal copies of Keras's.

Keras trains on the incomplete last batch of an epoch. The authors' published code divides the
reward-based loss by the nominal batch size there, and averages the control's over what it sees.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from qagrel_jax import rules, training
from qagrel_jax.data import streaming
from qagrel_jax.networks import DenseNet
from qagrel_jax.policies import greedy
from qagrel_jax.random_keys import root_keys
from qagrel_jax.training import epoch as epochs
from qagrel_jax.training import fitting
from tests.combinations import every_value
from tests.reference import keras_epoch

pytestmark = pytest.mark.usefixtures("folded_keys")

RNG = np.random.default_rng(3)
CLASSES = 3


def _examples(count):
    images = RNG.integers(0, 256, (count, 3, 3, 1), np.uint8)
    return fitting.Examples(images, RNG.integers(0, CLASSES, count).astype(np.int32))


def _trainer(rule="q_agrel", batch_size=8, network=None, **options):
    return training.make_trainer(
        rules.q_agrel(greedy) if rule == "q_agrel" else rules.backprop(),
        network or DenseNet(CLASSES, hidden=(7, 5)),
        optax.sgd(0.1),
        image_shape=(3, 3, 1),
        num_classes=CLASSES,
        batch_size=batch_size,
        **options,
    )


def _one_epoch(trainer, examples, seeds=(0,), **options):
    run = fitting.start(trainer, root_keys(seeds))
    ((run, record),) = fitting.fit(
        trainer, run, examples, examples, epochs=1, patience=9, **options
    )
    return run, record


@pytest.mark.parametrize(
    ("name", "images", "batch", "steps", "last"),
    [
        ("MNIST", 60000, 128, 469, 96),
        ("CIFAR", 50000, 128, 391, 80),
        ("Tiny ImageNet", 100000, 128, 782, 32),
        ("MNIST, locally connected", 60000, 32, 1875, 32),
        ("CIFAR, locally connected", 50000, 32, 1563, 16),
    ],
)
def test_the_papers_epochs(name, images, batch, steps, last):
    trainer = training.Trainer(*[None] * 7, batch_size=batch)
    examples = fitting.Examples(jnp.zeros((images, 1), jnp.uint8), np.zeros(images))
    chunks = epochs.chunks_of_epoch(trainer, examples, 1, "keep", None)
    assert sum(chunk.steps for chunk in chunks) == steps
    assert chunks[-1].batch == last
    assert len({(chunk.batch, chunk.length) for chunk in chunks}) <= 2


@pytest.mark.parametrize(
    ("backend", "chunk_steps", "steps"),
    [
        ("cpu", None, [94, 94, 94, 94, 92, 1]),
        ("cpu", 200, [156, 156, 156, 1]),
        ("gpu", None, [468, 1]),
    ],
)
def test_full_batches_are_cut_into_even_calls(backend, chunk_steps, steps, monkeypatch):
    """MNIST has 468 of them, and an incomplete one."""
    monkeypatch.setattr(jax, "default_backend", lambda: backend)
    trainer = training.Trainer(*[None] * 7, batch_size=128)
    examples = fitting.Examples(jnp.zeros((60000, 1), jnp.uint8), np.zeros(60000))
    chunks = epochs.chunks_of_epoch(trainer, examples, 1, "keep", chunk_steps)
    assert [chunk.steps for chunk in chunks] == steps
    assert [chunk.length for chunk in chunks] == [steps[0]] * (len(steps) - 1) + [1]
    assert [chunk.first for chunk in chunks] == [0, *(chunk.last for chunk in chunks[:-1])]


def test_streamed_batches_of_all_seeds_keep_to_the_size_of_a_chunk(monkeypatch):
    """Seven full batches of eight images of nine bytes, for two seeds."""
    monkeypatch.setattr(streaming, "CHUNK_BYTES", 3 * (2 * 8 * 9) + 1)
    images = streaming.HostImages(np.zeros((61, 3, 3, 1), np.uint8))
    examples = fitting.Examples(images, np.zeros(61, np.int32))
    trainer = training.Trainer(*[None] * 7, batch_size=8)
    chunks = epochs.chunks_of_epoch(trainer, examples, 2, "keep", None)
    assert [chunk.steps for chunk in chunks] == [3, 3, 1, 1]


@pytest.mark.parametrize(
    ("rule", "where"), every_value(["q_agrel", "backprop"], ["in memory", "streamed"])
)
def test_an_epoch_is_keras(rule, where):
    """Three batches of 8 and one of 5, followed step by step with plain loops."""
    examples = _examples(29)
    trainer = _trainer(rule)
    states = trainer.init(root_keys([4]))
    kernels = [np.array(states.params[f"Dense_{i}"]["kernel"][0], float) for i in range(3)]
    order = np.asarray(trainer.epoch_order(states, np.int32(1), examples=29))[0]
    assert sorted(order) == list(range(29))
    for first in range(0, 29, 8):
        rows = order[first : first + 8]
        images = examples.images[rows].reshape(len(rows), -1) / 255
        outputs = images
        for i, kernel in enumerate(kernels):
            outputs = outputs @ kernel if i == 2 else np.maximum(outputs @ kernel, 0)
        gradients = keras_epoch.batch_gradient(
            kernels, images, examples.labels[rows], outputs.argmax(1), 8, rule
        )
        kernels = [k - 0.1 * g for k, g in zip(kernels, gradients, strict=True)]
    seen = examples
    if where == "streamed":
        seen = examples._replace(images=streaming.HostImages(examples.images))
    run, _ = _one_epoch(trainer, seen, seeds=[4])
    for i, kernel in enumerate(kernels):
        np.testing.assert_allclose(run.states.params[f"Dense_{i}"]["kernel"][0], kernel, atol=2e-7)
    assert int(run.states.step[0]) == 4


def test_the_record_weighs_examples_not_batches():
    examples = _examples(19)
    network = DenseNet(CLASSES, hidden=(6,))
    trainer = training.make_trainer(
        rules.q_agrel(greedy),
        network,
        optax.sgd(0.0),
        image_shape=(3, 3, 1),
        num_classes=CLASSES,
        batch_size=8,
    )
    run, record = _one_epoch(trainer, examples)
    params = jax.tree.map(lambda x: x[0], run.states.params)
    q_values = np.asarray(network.apply({"params": params}, examples.images / np.float32(255)))
    right = q_values.argmax(1) == examples.labels
    np.testing.assert_allclose(record.train_accuracy[0], right.mean(), rtol=1e-6)
    np.testing.assert_allclose(record.error[0], np.mean((right - q_values.max(1)) ** 2), rtol=1e-5)


class _Normalized(nn.Module):
    @nn.compact
    def __call__(self, x, train=False):
        x = x.reshape(len(x), -1)
        x = nn.BatchNorm(use_running_average=not train, momentum=0.5)(x)
        return nn.Dense(CLASSES)(x)


def test_batch_norm_sees_the_incomplete_batch_as_it_is():
    examples = _examples(11)
    trainer = _trainer(network=_Normalized())
    run, _ = _one_epoch(trainer, examples)
    order = np.asarray(trainer.epoch_order(trainer.init(root_keys([0])), 1, examples=11))[0]
    mean = 0.0
    for rows in (order[:8], order[8:]):
        mean = 0.5 * mean + 0.5 * (examples.images[rows] / 255).reshape(len(rows), -1).mean(0)
    found = run.states.model_state["batch_stats"]["BatchNorm_0"]["mean"][0]
    np.testing.assert_allclose(found, mean, rtol=1e-5)


@pytest.mark.parametrize("streamed", [False, True], ids=["in memory", "streamed"])
@pytest.mark.parametrize(
    "count",
    [pytest.param(24, marks=pytest.mark.slow), 29, pytest.param(61, marks=pytest.mark.slow)],
)
def test_two_step_programs_and_none_more_after_the_first_epoch(count, streamed):
    examples = _examples(count)
    if streamed:
        examples = examples._replace(images=streaming.HostImages(examples.images))
    trainer = _trainer()
    steps = trainer.run_batches if streamed else trainer.run_steps
    run = fitting.start(trainer, root_keys([0, 1]))
    compiled = []
    for _ in fitting.fit(trainer, run, examples, examples, epochs=3, patience=9, chunk_steps=2):
        compiled.append(steps._cache_size())
    assert compiled == [1 if count % 8 == 0 else 2] * 3


def test_how_an_epoch_is_cut_changes_no_bit():
    examples = _examples(61)
    whole, *cuts = (
        _one_epoch(_trainer(), examples, (0, 1), chunk_steps=n)[0].states.params
        for n in (None, 1, 2, 5)  # of seven steps and one of five examples
    )
    for cut in cuts:
        jax.tree.map(np.testing.assert_array_equal, whole, cut)


def test_the_last_batch_can_be_left_out():
    examples = _examples(29)
    run, _ = _one_epoch(_trainer(), examples, last_batch="drop")
    assert int(run.states.step[0]) == 3
    with pytest.raises(ValueError, match="unknown last_batch 'pad'"):
        _one_epoch(_trainer(), examples, last_batch="pad")
    with pytest.raises(ValueError, match="7 training examples do not fill one batch of 8"):
        _one_epoch(_trainer(), _examples(7))


def _fed(curves):
    """A trainer that does not learn and answers with the given accuracies [epochs, seeds]."""
    seeds = curves.shape[1]
    done = [0]

    def evaluate(states, images, labels):
        done[0] += 1
        return np.tile(curves[done[0] - 1][:, None].astype(np.float64), (1, CLASSES))

    steps = training.StepMetrics(np.zeros((seeds, 1)), np.zeros((seeds, 1)))
    nobody = (jnp.zeros(seeds, int), jnp.zeros(seeds), {}, ())
    return done, training.Trainer(
        init=lambda keys: training.TrainState(keys, *nobody),
        epoch_order=lambda states, epoch, examples: np.zeros((seeds, examples), np.int32),
        run_steps=lambda states, *_: (jax.tree.map(jnp.copy, states), steps),
        run_batches=None,
        evaluate=evaluate,
        count_correct=None,
        mesh=None,
        batch_size=2,
    )


def _stops(curves, patience, kill, min_gain=0.001):
    """Return each seed's stopping and best epoch; with ``kill`` every epoch is a run of its own."""
    done, trainer = _fed(curves)
    examples = fitting.Examples(np.zeros((2, 3, 3, 1), np.uint8), np.zeros(2, np.int32))
    run = fitting.start(trainer, root_keys(range(curves.shape[1])))
    stopped = np.zeros(curves.shape[1], int)
    while run.epoch < len(curves) and run.active.any():
        for after, _ in fitting.fit(
            trainer,
            run,
            examples,
            examples,
            epochs=int(run.epoch) + 1 if kill else len(curves),
            patience=patience,
            min_gain=min_gain,
        ):
            newly = run.active & ~after.active
            stopped[newly] = after.epoch
            run = after
        if kill:  # what a checkpoint holds, and no more
            done[0] = int(run.epoch)
            run = jax.tree.map(lambda x: x if isinstance(x, jax.Array) else np.array(x), run)
    return list(zip(stopped.tolist(), run.best_epoch.tolist(), strict=True))


def _keras(curve, patience, min_gain=0.001):
    callback = keras_epoch.EarlyStopping(min_gain, patience)
    for epoch, accuracy in enumerate(curve):
        callback.on_epoch_end(epoch, accuracy)
        if callback.stopped_epoch is not None:
            break
    stopped = 0 if callback.stopped_epoch is None else callback.stopped_epoch + 1
    return stopped, int(np.argmax(curve[: epoch + 1])) + 1


def _curves():
    thousandths = np.arange(30) / 1000
    hops = RNG.integers(0, 9, (30, 12)) / 1000 + 0.9  # ties, and gains of exactly .001
    best_first = np.concatenate([[0.95], np.full(29, 0.9)])
    return {
        "gains of .0004 an epoch": 0.9 + 0.0004 * np.arange(30)[:, None],
        "gains of exactly .001": np.stack([b + thousandths for b in (0.9, 0.5, 0.2, 0.1)], 1),
        "in images of ten thousand": np.round((0.9 + thousandths) * 10000)[:, None] / 10000,
        "ties": np.repeat(np.arange(10), 3)[:, None] / 100 + 0.5,
        "best in the first epoch": best_first[:, None],
        "nothing right": np.zeros((30, 1)),
        "two seeds that stop apart": np.stack([best_first, 0.9 + 2 * thousandths], 1),
        "hops": hops,
        "noise": RNG.uniform(0.3, 0.9, (30, 20)),
    }


@pytest.mark.parametrize("kill", [False, True], ids=["in one go", "killed after every epoch"])
@pytest.mark.parametrize("patience", [1, 4])
def test_early_stopping_is_keras(patience, kill):
    """Every curve is a seed beside the others."""
    curves = np.concatenate(list(_curves().values()), 1).astype(np.float32)
    expected = [_keras(curve, patience) for curve in curves.T]
    assert _stops(curves, patience, kill) == expected


def test_where_any_gain_counts_a_tie_is_none():
    curves = np.concatenate([_curves()["ties"], _curves()["hops"]], 1).astype(np.float32)
    expected = [_keras(curve, 2, min_gain=0.0) for curve in curves.T]
    assert _stops(curves, 2, False, min_gain=0.0) == expected
