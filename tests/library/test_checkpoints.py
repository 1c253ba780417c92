"""A checkpoint is whole, of the run it says, or refused: every byte is looked at."""

from typing import Any, NamedTuple

import flax.serialization
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from qagrel_jax import networks, random_keys, rules, training
from qagrel_jax.random_keys import root_keys
from qagrel_jax.training import checkpoints

METADATA = {"rule": "q_agrel", "config": {"learning_rate": 0.1, "hidden": [8]}}
TREE = {"key": jax.random.key(3, impl="rbg"), "w": np.arange(3, dtype=np.float32)}


@pytest.fixture
def path(tmp_path):
    checkpoints.save(tmp_path / "run.msgpack", TREE, METADATA)
    return tmp_path / "run.msgpack"


def test_what_was_saved_comes_back(path):
    back = checkpoints.load(path, TREE, METADATA)
    np.testing.assert_array_equal(back["w"], TREE["w"])
    assert jax.random.key_impl(back["key"]) == "rbg"
    np.testing.assert_array_equal(*map(jax.random.key_data, (back["key"], TREE["key"])))


def test_a_path_may_be_text(tmp_path):
    checkpoints.save(str(tmp_path / "run.msgpack"), TREE)
    back = checkpoints.load(str(tmp_path / "run.msgpack"), TREE)
    np.testing.assert_array_equal(back["w"], TREE["w"])


def test_a_changed_byte_is_found_wherever_it_is(path):
    whole = path.read_bytes()
    for place in range(len(whole)):
        for flip in (0x01, 0x80, 0xFF):
            damaged = bytearray(whole)
            damaged[place] ^= flip
            path.write_bytes(damaged)
            with pytest.raises(checkpoints.CheckpointError, match="damaged"):
                checkpoints.load(path, TREE, METADATA)


@pytest.mark.parametrize("length", [0, 10, 60, 120, -1])
def test_a_file_cut_off_is_found(path, length):
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(checkpoints.CheckpointError, match="damaged"):
        checkpoints.load(path, TREE, METADATA)


@pytest.mark.parametrize(
    ("metadata", "says"),
    [
        ({"rule": "backprop"}, "rule is 'q_agrel' there, 'backprop' here"),
        ({"config": {"learning_rate": 0.2}}, "learning_rate is 0.1 there, 0.2 here"),
        ({"config": {"hidden": (9,)}}, r"hidden is \[8\] there, \(9,\) here"),
        ({"task": "saccade"}, "task is None there, 'saccade' here"),
    ],
)
def test_of_something_else(path, metadata, says):
    with pytest.raises(checkpoints.CheckpointError, match=says):
        checkpoints.load(path, TREE, metadata)


@pytest.mark.parametrize(
    "other",
    [
        {"w": np.zeros(2, np.float32)},
        {"w": np.zeros(3, np.int32)},
        {"v": np.zeros(3, np.float32)},
    ],
)
def test_of_another_shape_kind_or_structure(path, other):
    checkpoints.save(path, {"w": np.zeros(3, np.float32)})
    with pytest.raises(
        checkpoints.CheckpointError, match=r"another network, .* or of another vers"
    ):
        checkpoints.load(path, other)


def test_an_array_of_another_shape_is_named(path):
    checkpoints.save(path, {"params": {"w": np.zeros((2, 3))}})
    said = r"\['params'\]\['w'\]: expected shape \(2, 4\), got \(2, 3\)"
    with pytest.raises(checkpoints.CheckpointError, match=said):
        checkpoints.load(path, {"params": {"w": np.zeros((2, 4))}})


@pytest.mark.parametrize("wanted", [np.float32, np.int32])
def test_wider_numbers_are_not_cut(path, wanted):
    wide = np.array([2**40 + 1], np.promote_types(wanted, np.int64))
    checkpoints.save(path, {"w": wide})
    assert checkpoints.load(path, {"w": wide})["w"] == wide
    for template in (np.zeros(1, wanted), jnp.zeros(1, wanted)):
        with pytest.raises(checkpoints.CheckpointError, match=f"numbers of {wanted.__name__}"):
            checkpoints.load(path, {"w": template})


@pytest.fixture(scope="module")
def trained():
    """A trainer of two seeds, and what it is after an epoch."""
    trainer = training.make_trainer(
        rules.q_agrel(),
        networks.make_network("dense", 3, hidden=(4,)),
        optax.sgd(0.1),
        image_shape=(2, 2, 1),
        num_classes=3,
        batch_size=4,
    )
    images = np.random.default_rng(0).integers(0, 256, (8, 2, 2, 1), np.uint8)
    examples = training.Examples(images, np.arange(8, dtype=np.int32) % 3)
    fresh = training.start(trainer, root_keys(jnp.arange(2)))

    def fit(run, epochs):
        options = {"epochs": epochs, "patience": 9}
        *_, (last, _) = training.fit(trainer, run, examples, examples, **options)
        return last

    return trainer, fit, fresh


def test_a_fit_goes_on_in_the_same_bits(trained, folded_keys, tmp_path):
    """Saved after an epoch and loaded into a fresh start, as a notebook would."""
    trainer, fit, _ = trained
    begun = fit(training.start(trainer, root_keys(jnp.arange(2))), 1)
    training.save(tmp_path / "fit", begun)
    end = fit(begun, 3)
    fresh = training.start(trainer, root_keys(jnp.arange(2)))
    again = fit(training.load(tmp_path / "fit", fresh), 3)
    for one, other in zip(jax.tree.leaves(end), jax.tree.leaves(again), strict=True):
        raw = random_keys.to_numbers
        np.testing.assert_array_equal(raw(one), raw(other))


@pytest.mark.parametrize("field", ["epoch", "best_epoch", "reference_epoch"])
@pytest.mark.parametrize("epoch", [-1, 7])
def test_epochs_that_cannot_be_are_refused_in_older_files_too(trained, tmp_path, field, epoch):
    *_, fresh = trained
    wrong = fresh._replace(**{field: np.full_like(getattr(fresh, field), epoch)})
    content = flax.serialization.to_bytes(jax.tree.map(np.asarray, random_keys.to_numbers(wrong)))
    (tmp_path / "old").write_bytes(content)
    if (field, epoch) == ("epoch", 7):
        assert training.load(tmp_path / "old", fresh).epoch == 7  # no contradiction
        return
    with pytest.raises(training.CheckpointError, match=f"damaged: {field} is"):
        training.load(tmp_path / "old", fresh)


class Best(NamedTuple):
    best_epoch: int
    weights: np.ndarray


def test_a_field_of_another_tree_may_have_any_name(tmp_path):
    checkpoints.save(tmp_path / "best.msgpack", Best(3, np.ones(2)))
    assert checkpoints.load(tmp_path / "best.msgpack", Best(0, np.zeros(2))).best_epoch == 3


class Old(NamedTuple):
    """What a version kept."""

    step: Any


class New(NamedTuple):
    """What a later one keeps."""

    step: Any
    curriculum: Any = None


def test_a_checkpoint_of_a_version_with_fewer_fields_is_read(tmp_path):
    """Where what came later is None; else it is refused."""
    checkpoints.save(tmp_path / "c", {"states": Old(np.int32(7))})
    back = checkpoints.load(tmp_path / "c", {"states": New(np.int32(0))})
    assert back == {"states": New(np.int32(7), None)}
    for template in (
        {"states": New(np.int32(0), np.zeros(2))},
        {"other": New(np.int32(0))},
    ):
        with pytest.raises(checkpoints.CheckpointError, match="of another version"):
            checkpoints.load(tmp_path / "c", template)


def test_metadata_that_came_later_is_not_missed(tmp_path):
    checkpoints.save(tmp_path / "c", {"w": np.ones(1)}, {"rule": "q_agrel", "config": {"a": 1}})
    wanted = {"rule": "q_agrel", "config": {"a": 1, "curriculum": "off"}}
    checkpoints.load(tmp_path / "c", {"w": np.zeros(1)}, wanted)
    with pytest.raises(checkpoints.CheckpointError, match="a is 1 there, 2 here"):
        checkpoints.load(tmp_path / "c", {"w": np.zeros(1)}, {"config": {"a": 2}})


@pytest.mark.parametrize("there", ["tied", "kolen_pollack", "random", "direct"])
@pytest.mark.parametrize("here", ["tied", "kolen_pollack", "random", "direct"])
def test_a_network_of_another_feedback_is_refused(tmp_path, there, here):
    def states(feedback):
        network = networks.make_network("dense", 2, hidden=(3,), feedback=feedback)
        return network.init(jax.random.key(0), jnp.ones((1, 2, 2, 1)))

    checkpoints.save(tmp_path / "run.msgpack", states(there))
    if there == here:
        checkpoints.load(tmp_path / "run.msgpack", states(here))
        return
    problem = "also has" if here == "tied" else "lacks"
    with pytest.raises(checkpoints.CheckpointError, match=rf"it {problem} .*kernel and 1 more"):
        checkpoints.load(tmp_path / "run.msgpack", states(here))
