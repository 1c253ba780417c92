"""The trainer with a user's own network and own arrays: what works, and what is told otherwise."""

import functools
import inspect

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from qagrel_jax import (
    attend,
    layers,
    make_network,
    make_rule,
    make_trainer,
    plain,
    q_agrel,
    rules,
    training,
    weights,
)
from qagrel_jax.curriculum import Curriculum
from qagrel_jax.data.streaming import HostImages
from qagrel_jax.networks import DenseNet
from qagrel_jax.policies import greedy_probabilities
from qagrel_jax.population import make_online_trainer
from qagrel_jax.tasks import classification, vectors
from qagrel_jax.training import Examples, fit, split, start, variables_of

pytestmark = pytest.mark.usefixtures("folded_keys")

SHAPE, CLASSES = (4, 4, 1), 3
PIXELS = np.random.default_rng(0).integers(0, 256, (20, *SHAPE), np.uint8)
EXAMPLES = Examples(PIXELS, np.arange(20) % CLASSES)


class Plain(nn.Module):
    """A network that does the same in training and afterwards."""

    @nn.compact
    def __call__(self, x):
        return layers.Dense(CLASSES)(nn.relu(layers.Dense(5)(x.reshape(len(x), -1))))


class Regularized(nn.Module):
    """A network that must be told which of the two it is."""

    @nn.compact
    def __call__(self, x, train):
        x = nn.relu(layers.Dense(5)(x.reshape(len(x), -1)))
        x = nn.BatchNorm(use_running_average=not train)(x)
        return layers.Dense(CLASSES)(nn.Dropout(0.3, deterministic=not train)(x))


def _trainer(network, **changes):
    options = {"image_shape": SHAPE, "num_classes": CLASSES, "batch_size": 8} | changes
    return make_trainer(q_agrel(), network, optax.sgd(0.1), **options)


def _start(trainer, seeds=2):
    return start(trainer, jax.random.split(jax.random.key(0), seeds))


def _fitted(trainer, examples=EXAMPLES, epochs=1, **options):
    *_, (run, record) = fit(trainer, _start(trainer), examples, examples, epochs=epochs, **options)
    return run, record


@pytest.mark.parametrize("network", [Plain(), Regularized()], ids=["plain", "regularized"])
def test_a_network_may_take_train_or_not(network):
    run, record = _fitted(_trainer(network))
    variables = variables_of(run.states, 1)
    options = {"train": False} if isinstance(network, Regularized) else {}
    inputs = classification.normalize(PIXELS)
    q_values = network.apply(variables, inputs, **options)
    assert record.accuracy[1] == np.float32((q_values.argmax(1) == EXAMPLES.labels).mean())
    seen = attend(network, variables, inputs, q_values.argmax(1), **options)
    np.testing.assert_array_equal(seen.outputs, q_values)
    both = variables_of(run.states)
    jax.tree.map(lambda all, one: np.testing.assert_array_equal(all[1], one), both, variables)


def test_floats_are_learned_from_as_they_are():
    pixels, _ = _fitted(_trainer(Plain()))
    floats = EXAMPLES._replace(images=PIXELS.astype(np.float32) / 255)
    same, _ = _fitted(_trainer(Plain()), floats)
    close = functools.partial(np.testing.assert_allclose, atol=1e-5)
    jax.tree.map(close, pixels.states.params, same.states.params)


@pytest.mark.parametrize(
    ("changes", "error", "says"),
    [
        ({"images": PIXELS[..., 0]}, ValueError, r"images of train must be \[n, 4, 4, 1\], got \["),
        ({"images": PIXELS[:15]}, ValueError, "train has 15 images, but 20 labels"),
        ({"labels": EXAMPLES.labels[:15]}, ValueError, "train has 20 images, but 15 labels"),
        (
            {"images": PIXELS.astype(int)},
            TypeError,
            "must be uint8, or floats as they are, got int",
        ),
    ],
)
def test_arrays_that_do_not_fit_are_told(changes, error, says):
    trainer = _trainer(Plain())
    with pytest.raises(error, match=says):
        next(fit(trainer, _start(trainer), EXAMPLES._replace(**changes), EXAMPLES, epochs=1))
    with pytest.raises(error, match=says.replace("train", "monitored")):
        next(fit(trainer, _start(trainer), EXAMPLES, EXAMPLES._replace(**changes), epochs=1))


def test_fewer_outputs_than_classes_are_told():
    with pytest.raises(ValueError, match=r"an output for each of 4 classes, .* got \[1, 3\]"):
        _start(_trainer(Plain(), num_classes=4))


def test_without_patience_none_stops():
    trainer = _trainer(Plain())
    run, _ = _fitted(trainer, epochs=4, min_gain=1.0)
    assert run.epoch == 4 and run.active.all()
    run, _ = _fitted(trainer, epochs=4, min_gain=1.0, patience=2)
    assert run.epoch == 3 and not run.active.any()


@pytest.mark.parametrize("key", [jax.random.PRNGKey(0), jax.random.key(0), 3])
def test_one_key_is_no_keys(key):
    with pytest.raises(TypeError, match=r"keys must be random keys \[seeds\], such as jax.random"):
        start(_trainer(Plain()), key)


@pytest.mark.slow
def test_statistics_keep_their_dtype_in_float64(x64):
    trainer = _trainer(make_network("conv", CLASSES))
    run, _ = _fitted(trainer)
    before = _start(trainer).states
    kinds = [jax.tree.map(lambda x: x.dtype, s.model_state) for s in (before, run.states)]
    assert kinds[0] == kinds[1]
    assert run.states.params["Dense_0"]["kernel"].dtype == np.float64


INPUTS = jnp.ones((2, 16))


@pytest.mark.parametrize("name", [name for name in rules.RULES if name != "relearnn"])
def test_what_forward_returns_is_told_apart(name):
    rule, network = make_rule(name), Plain()
    variables = jax.jit(network.init)(jax.random.key(0), INPUTS)
    plain, with_aux = network.apply, lambda v, x: (network.apply(v, x), {"some": 1.0})
    key = jax.random.key(1)
    with pytest.raises(TypeError, match="call act with has_aux=True"):
        rule.act(key, with_aux, variables, INPUTS)
    with pytest.raises(TypeError, match=r"forward must return \(outputs, aux\)"):
        rule.act(key, plain, variables, INPUTS, has_aux=True)
    with pytest.raises(ValueError, match="inputs need a batch axis"):
        rule.act(key, lambda v, x: network.apply(v, x)[0], variables, INPUTS)
    with pytest.raises(ValueError, match=r"got \[2, 3, 1\]: flatten before the last layer"):
        rule.act(key, lambda v, x: network.apply(v, x)[..., None], variables, INPUTS)
    with pytest.raises(TypeError, match=r"key must be a random key, .* got 1"):
        rule.act(1, plain, variables, INPUTS)
    with pytest.raises(TypeError, match="forward must be a function"):
        rule.act(key, variables, plain, INPUTS)
    decision = rule.act(key, with_aux, variables, INPUTS, has_aux=True)
    assert decision.aux == {"some": 1.0}
    outcome = np.ones((2, 1), np.int32 if rule.outcome == "label" else np.float32)
    with pytest.raises(ValueError, match=r"(rewards|labels) must be \[batch\], here \[2\], got \["):
        rule.update(decision, outcome)
    rule.update(decision, outcome=outcome[:, 0])


def test_rules_by_name():
    assert make_rule("node_perturbation", noise_sd=0.1).name == "node_perturbation"
    with pytest.raises(ValueError, match="unknown rule 'qagrel'"):
        make_rule("qagrel")
    with pytest.raises(TypeError, match="backprop has no option 'policy'; valid: "):
        make_rule("backprop", policy=None)


def test_q_values_are_not_measured_by_softmax():
    """Right Q values of 1 beside 0: greedy is always rewarded, softmax e/(1 + e)."""
    task = vectors.xor()
    q_values = jax.nn.one_hot(task.labels, 2)
    assert vectors.expected_reward(task, q_values, greedy_probabilities) == 1
    np.testing.assert_allclose(vectors.expected_reward(task, q_values), np.e / (1 + np.e), 1e-6)
    trainer = make_online_trainer(
        q_agrel(),
        DenseNet(2, hidden=(5,)),
        optax.sgd(0.1),
        task,
        trials=1,
        probabilities=greedy_probabilities,
    )
    keys = jax.random.split(jax.random.key(0), 3)
    _, reward = trainer.advance(keys, trainer.init(keys), 0)
    # Each of four patterns is right, wrong, or, where both values are equal, half of it.
    assert (8 * reward == jnp.round(8 * reward)).all()


def test_a_network_gets_images_as_they_were_in_training():
    """uint8 as they are would be 255 times as bright."""
    for name in ("dense", "conv", "locally_connected", "deep"):
        network, images = make_network(name, 2), np.zeros((1, 8, 8, 1), np.uint8)
        variables = jax.eval_shape(network.init, jax.random.key(0), images)
        with pytest.raises(TypeError, match="images must be floats, got uint8: tasks"):
            network.apply(variables, images)


def test_floats_that_look_like_pixels_are_warned_of():
    pixels = Examples(PIXELS.astype(np.float32), EXAMPLES.labels)
    with pytest.warns(UserWarning, match="are floats up to 25[0-9], taken as they are: divide by"):
        _fitted(_trainer(Plain()), pixels)


def test_images_that_are_only_evaluated_are_looked_at_too():
    trainer = _trainer(Plain())
    states, pixels = trainer.init(jax.random.split(jax.random.key(5), 1)), PIXELS.astype(np.float32)
    with pytest.warns(UserWarning, match="the examples are floats up to 25[0-9], taken as they"):
        trainer.evaluate(states, pixels, EXAMPLES.labels)
    pixels[-1] = np.nan
    with pytest.raises(ValueError, match="images of the examples must be finite"):
        trainer.evaluate(states, pixels, EXAMPLES.labels)


def test_stimuli_of_0_and_1_are_warned_of_where_they_would_be_dark():
    """uint8 is divided by 255; of truth values the message says what keeps them bright."""
    binary = (PIXELS > 127).astype(np.uint8)
    assert binary.max() == 1
    with pytest.warns(UserWarning, match="are uint8 of 0 and 1, which are divided by 255: multip"):
        _fitted(_trainer(Plain()), Examples(binary, EXAMPLES.labels))
    with pytest.raises(TypeError, match=r"got bool: give 255 \* images\.astype\(np\.uint8\)"):
        _fitted(_trainer(Plain()), Examples(binary == 1, EXAMPLES.labels))
    bright = _fitted(
        _trainer(Plain()), Examples(255 * (binary == 1).astype(np.uint8), EXAMPLES.labels)
    )
    as_floats = _fitted(_trainer(Plain()), Examples(binary.astype(np.float32), EXAMPLES.labels))
    jax.tree.map(np.testing.assert_array_equal, bright[0].states.params, as_floats[0].states.params)


@pytest.mark.parametrize("name", ["training", "is_training", "deterministic"])
def test_another_name_for_train_is_refused(name):
    def call(self, x, mode=False):
        return layers.Dense(CLASSES)(x.reshape(len(x), -1))

    call.__signature__ = inspect.signature(call).replace(
        parameters=[
            p.replace(name=name) if p.name == "mode" else p
            for p in inspect.signature(call).parameters.values()
        ]
    )
    named = type("Named", (nn.Module,), {"__call__": nn.compact(call)})
    with pytest.raises(ValueError, match=f"that is True in training train, got {name}"):
        _trainer(named())


@pytest.mark.parametrize(
    ("labels", "error", "says"),
    [
        (np.eye(3, dtype=int)[EXAMPLES.labels], ValueError, r"must be \[n\], .*got \[20, 3\]"),
        (EXAMPLES.labels[:, None], ValueError, r"must be \[n\], .*got \[20, 1\]"),
        (np.array(["a"] * 20), TypeError, "must be whole numbers"),
        (EXAMPLES.labels * 1.0, TypeError, "must be whole numbers, got float64"),
    ],
)
def test_labels_are_a_number_each(labels, error, says):
    trainer, other = _trainer(Plain()), Examples(PIXELS, labels)
    for train, monitored in ((other, EXAMPLES), (EXAMPLES, other)):
        with pytest.raises(error, match=says):
            next(fit(trainer, _start(trainer), train, monitored, epochs=1))


def test_classes_beyond_the_trainers_are_not_left_out():
    trainer = _trainer(Plain())
    with pytest.raises(ValueError, match=r"classes below 3, got .* up to 3"):
        trainer.evaluate(_start(trainer).states, PIXELS, EXAMPLES.labels + 1)


def test_images_and_labels_of_different_number_are_refused():
    """Streamed ones, too, of which a part would be taken."""
    trainer, few = _trainer(Plain()), EXAMPLES.labels[:-1]
    states = _start(trainer).states
    for images in (PIXELS, jnp.asarray(PIXELS), HostImages(PIXELS)):
        says = f"there are {len(PIXELS)} images, but {len(few)} labels"
        with pytest.raises(ValueError, match=says):
            split(Examples(images, few), 0.3)
        with pytest.raises(ValueError, match=says):
            trainer.evaluate(states, images, few)
    listed = trainer.evaluate(states, PIXELS, list(EXAMPLES.labels))
    np.testing.assert_array_equal(listed, trainer.evaluate(states, PIXELS, EXAMPLES.labels))
    with pytest.raises(TypeError, match="labels must be whole numbers, got float32"):
        trainer.evaluate(states, PIXELS, EXAMPLES.labels.astype(np.float32))


def test_labels_beyond_32_bits_are_refused():
    trainer = _trainer(Plain())
    beyond = Examples(PIXELS, EXAMPLES.labels + 2**32)
    with pytest.raises(ValueError, match="labels must be class numbers, got up to"):
        next(fit(trainer, _start(trainer), beyond, EXAMPLES, epochs=1))


def test_streamed_images_are_checked_as_those_in_memory():
    trainer = _trainer(Plain())
    whole = Examples(HostImages(PIXELS.astype(np.int32)), EXAMPLES.labels)
    with pytest.raises(TypeError, match=r"images of train must be uint8, or floats .* got int32"):
        next(fit(trainer, _start(trainer), whole, EXAMPLES, epochs=1))
    bright = Examples(HostImages(np.full(PIXELS.shape, 200, np.float32)), EXAMPLES.labels)
    with pytest.warns(UserWarning, match="images of train are floats up to 200"):
        next(fit(trainer, _start(trainer), bright, EXAMPLES, epochs=1))


@pytest.mark.parametrize("whole", [PIXELS, {"images": PIXELS}, "digits", EXAMPLES[:1]])
def test_what_are_no_examples_is_named(whole):
    trainer = _trainer(Plain())
    for given, name in (((whole, EXAMPLES), "train"), ((EXAMPLES, whole), "monitored")):
        with pytest.raises(TypeError, match=rf"{name} must be Examples\(images, labels\), such as"):
            next(fit(trainer, _start(trainer), *given, epochs=1))


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
@pytest.mark.parametrize("hold", [np.asarray, jnp.asarray, HostImages])
@pytest.mark.parametrize("dtype", [np.float32, jnp.bfloat16])
def test_images_that_are_not_finite_are_named(wrong, hold, dtype):
    images = PIXELS.astype(np.float32) / 255
    images[7, 1, 2, 0] = wrong
    bad, trainer = Examples(hold(images.astype(dtype)), EXAMPLES.labels), _trainer(Plain())
    for given, name in (((bad, EXAMPLES), "train"), ((EXAMPLES, bad), "monitored")):
        said = rf"images of {name} must be finite, got {wrong} at \(7, 1, 2, 0\)"
        with pytest.raises(ValueError, match=said):
            next(fit(trainer, _start(trainer), *given, epochs=1))


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_no_images_are_evaluated_and_one_without_its_axis_is_refused(dtype):
    trainer = _trainer(Plain())
    states, images = _start(trainer).states, PIXELS.astype(dtype)
    nothing = trainer.evaluate(states, images[:0], EXAMPLES.labels[:0])
    np.testing.assert_array_equal(nothing, np.zeros((len(states.step), CLASSES)))
    with pytest.raises(ValueError, match=r"labels must be \[n\]"):
        trainer.evaluate(states, images[0], EXAMPLES.labels[0])


def test_evaluate_takes_what_fit_takes():
    trainer = _trainer(Plain())
    states = _start(trainer).states
    with pytest.raises(TypeError, match="images of the examples must be uint8, or floats"):
        trainer.evaluate(states, PIXELS.astype(np.int32), EXAMPLES.labels)
    with pytest.raises(ValueError, match=r"must be \[n, 4, 4, 1\], got \[20, 4, 4\]"):
        trainer.evaluate(states, PIXELS[..., 0], EXAMPLES.labels)


def test_a_state_in_place_of_a_run_is_named():
    trainer = _trainer(Plain())
    with pytest.raises(TypeError, match=r"run must be a Fit, .* start gives one"):
        next(fit(trainer, _start(trainer).states, EXAMPLES, EXAMPLES, epochs=1))


def test_a_collection_that_a_network_sows_into_is_named():
    class Sown(nn.Module):
        name_of_collection: str

        @nn.compact
        def __call__(self, x):
            x = layers.Dense(CLASSES)(x.reshape(len(x), -1))
            self.sow(self.name_of_collection, "size", jnp.abs(x).mean())
            return x

    _fitted(_trainer(Sown("intermediates")))
    with pytest.raises(ValueError, match=r"collection 'losses' has other .*: sow into 'intermed"):
        _fitted(_trainer(Sown("losses")))


@pytest.mark.parametrize("names", [("data",), ("batch",), ("seeds", "model")])
def test_a_mesh_of_other_axes_is_refused(names):
    devices = np.array(jax.devices()[:1]).reshape([1] * len(names))
    with pytest.raises(ValueError, match=r"mesh must be one of sharding.make_mesh, .* got"):
        _trainer(Plain(), mesh=jax.sharding.Mesh(devices, names))
    explicit = jax.make_mesh(
        (1, 1), ("seeds", "batch"), axis_types=(jax.sharding.AxisType.Explicit,) * 2
    )
    with pytest.raises(ValueError, match="not of type Auto"):
        _trainer(Plain(), mesh=explicit)


def test_a_consumed_run_says_so(tmp_path):
    trainer = _trainer(Plain())
    begun = _start(trainer)
    list(fit(trainer, begun, EXAMPLES, EXAMPLES, epochs=1))
    with pytest.raises(ValueError, match="run was consumed by another call"):
        next(fit(trainer, begun, EXAMPLES, EXAMPLES, epochs=2))
    for use in (
        lambda: trainer.evaluate(begun.states, *EXAMPLES),
        lambda: training.variables_of(begun.best, 0),
        lambda: training.variables_of(begun.best),
        lambda: training.save(tmp_path / "run.msgpack", begun),
        lambda: weights.save(tmp_path / "net.npz", begun.best),
        lambda: plain.to_plain(begun),
    ):
        with pytest.raises(ValueError, match=r"was consumed by another call: .* keep a copy"):
            use()
    assert not list(tmp_path.iterdir())


def test_a_copy_goes_on_as_the_run_itself():
    """Two continuations of one run, one of them with a lesion, as an experiment may have them."""
    trainer = _trainer(Plain())
    for run, _ in fit(trainer, _start(trainer), EXAMPLES, EXAMPLES, epochs=1):
        copy = jax.tree.map(jnp.copy, run)
    ends = []
    for begun in (run, copy):
        for end, _ in fit(trainer, begun, EXAMPLES, EXAMPLES, epochs=2):
            ends.append(training.variables_of(end.states))
    jax.tree.map(np.testing.assert_array_equal, *ends)


def test_gradients_may_be_added_up_over_steps():
    """optax.MultiSteps is no GradientTransformation, but has one."""
    sizes = {"image_shape": SHAPE, "num_classes": CLASSES}
    every_second = optax.MultiSteps(optax.sgd(0.1), 2)
    wrapped = optax.GradientTransformation(every_second.init, every_second.update)
    runs = []
    for optimizer, options in (
        (every_second, {}),
        (wrapped, {}),
        (lambda rate: optax.MultiSteps(optax.sgd(rate), 2), {"learning_rate": 0.1}),
    ):
        trainer = make_trainer(q_agrel(), Plain(), optimizer, batch_size=8, **sizes, **options)
        runs.append(variables_of(_fitted(trainer, epochs=2)[0].states))
    for run in runs[1:]:
        jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-6), runs[0], run)


def test_what_are_no_learners_says_so():
    trainer = _trainer(Plain())
    run = _start(trainer)
    one = jax.tree.map(lambda x: x[0], run.states)
    for states, error, said in (
        (run, TypeError, "states must be a TrainState, got .*run.states and run.best of a Fit are"),
        (run.states.params, TypeError, "states must be a TrainState"),
        (one, ValueError, "states must be of seeds, with a leading axis"),
    ):
        with pytest.raises(error, match=said):
            trainer.evaluate(states, *EXAMPLES)
        with pytest.raises(error, match=said):
            training.variables_of(states, 0)
    assert set(training.variables_of(one)) >= {"params"}


@pytest.mark.parametrize(
    "change, said",
    [
        ({"hidden": (6,)}, r"params.* is float32\[16, 6\], expected float32\[16, 5\]"),
        ({"hidden": (5, 5)}, r"params.* is float32\[5, 5\], expected float32\[5, 3\]"),
        ({"feedback": "random"}, r"model_state\['feedback'\].*, expected none"),
        ({"image_shape": (2, 4, 1)}, r"params.* is float32\[8, 5\], expected float32\[16, 5\]"),
        ({"momentum": 0.9}, r"opt_state.* is float32.*, expected none"),
        ({"curriculum": Curriculum()}, r"curriculum.* is .*, expected none"),
    ],
    ids=["units", "layers", "feedback", "shape", "optimizer", "curriculum"],
)
def test_a_run_of_another_trainer_is_refused(change, said):
    def make(hidden=(5,), feedback="tied", momentum=None, **options):
        network = DenseNet(CLASSES, feedback, hidden=hidden)
        options = {"image_shape": SHAPE, "num_classes": CLASSES, "batch_size": 8} | options
        return make_trainer(q_agrel(), network, optax.sgd(0.1, momentum), **options)

    for trainer, other, expected in (
        (make(), make(**change), f"states.{said}"),
        (make(**change), make(), ", expected "),
    ):
        with pytest.raises(ValueError, match=rf"another network, .* than trainer: .*{expected}"):
            next(fit(trainer, _start(other), EXAMPLES, EXAMPLES, epochs=1))


def test_a_run_whose_best_is_of_another_trainer_is_refused():
    trainer, other = (
        make_trainer(
            q_agrel(),
            DenseNet(CLASSES, hidden=(units,)),
            optax.sgd(0.1),
            image_shape=SHAPE,
            num_classes=CLASSES,
        )
        for units in (5, 6)
    )
    run = _start(trainer)._replace(best=_start(other).best)
    with pytest.raises(ValueError, match=r"another network, .* than trainer"):
        next(fit(trainer, run, EXAMPLES, EXAMPLES, epochs=1))


def test_a_network_that_returns_more_than_outputs_is_refused():
    class Pair(nn.Module):
        @nn.compact
        def __call__(self, x):
            return layers.Dense(CLASSES)(x.reshape(len(x), -1)), x

    with pytest.raises(ValueError, match=r"an output for each of 3 classes, .* got tuple"):
        _start(_trainer(Pair()))
    variables = Pair().init(jax.random.key(0), jnp.zeros((1, *SHAPE)))
    with pytest.raises(TypeError, match=r"network must return outputs .* got tuple"):
        attend(Pair(), variables, jnp.zeros((1, *SHAPE)), jnp.zeros(1, int))


def test_examples_may_be_a_pair():
    kept, held = split((PIXELS, EXAMPLES.labels), 0.2)
    whole = split(EXAMPLES, 0.2)
    jax.tree.map(np.testing.assert_array_equal, (kept, held), whole)
