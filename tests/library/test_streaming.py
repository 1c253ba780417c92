"""Streamed images give the same bits as whole ones."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from qagrel_jax import rules, training
from qagrel_jax.data import cache as array_cache
from qagrel_jax.data import streaming
from qagrel_jax.networks import DenseNet
from qagrel_jax.training import fitting

pytestmark = pytest.mark.usefixtures("folded_keys")

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (77, 4, 4, 1), np.uint8)
LABELS = RNG.integers(0, 3, 77).astype(np.int32)


def _run(examples, chunk_steps=None):
    trainer = training.make_trainer(
        rules.q_agrel(),
        DenseNet(3, hidden=(8,)),
        optax.sgd(0.05, momentum=0.9),
        image_shape=(4, 4, 1),
        num_classes=3,
        batch_size=4,
        evaluation_batch=10,
        seeds_by="map",
    )
    kept, held = fitting.split(examples, 0.3)
    run = fitting.start(trainer, jax.vmap(jax.random.key)(jnp.arange(2)))
    done = list(
        fitting.fit(trainer, run, kept, held, epochs=3, patience=9, chunk_steps=chunk_steps)
    )
    return jax.tree.leaves(
        (done[-1][0].states.params, done[-1][0].best.params, [record for _, record in done])
    )


@pytest.mark.parametrize("where", ["memory", "file", "accelerator"])
def test_the_same_bits_as_resident(where, tmp_path, monkeypatch):
    whole = _run(fitting.Examples(IMAGES, LABELS))
    monkeypatch.setenv(streaming.LIMIT_VARIABLE, "0")
    monkeypatch.setattr(streaming, "CHUNK_BYTES", 16 * 4 * 2 * 3)  # three steps of two seeds
    images = IMAGES
    if where == "accelerator":  # as far as one can be pretended
        monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    if where == "file":
        array_cache.write(tmp_path / "x-0-0.npz", {"images": IMAGES})
        images = array_cache.read(tmp_path / "x-0-0.npz", map_above=100)["images"]
        assert isinstance(images, np.memmap)
    assert isinstance(fitting.place(fitting.Examples(images, LABELS)).images, streaming.HostImages)
    jax.tree.map(np.testing.assert_array_equal, _run(fitting.Examples(images, LABELS)), whole)


def test_chunks_change_no_bit():
    examples = fitting.Examples(IMAGES, LABELS)
    jax.tree.map(np.testing.assert_array_equal, _run(examples, chunk_steps=5), _run(examples))


def test_an_array_mapped_from_its_cache_entry_is_the_array(tmp_path):
    by_columns = np.asfortranarray(np.arange(12).reshape(3, 4))
    large = np.arange(10**5).reshape(4, -1)
    arrays = {"a": IMAGES, "labels": LABELS, "by_columns": by_columns, "large": large}
    path = tmp_path / "set-where-what.npz"
    array_cache.write(path, arrays)
    for map_above, mapped in ((1e4, {"large"}), (0, set(arrays)), (1e9, set())):
        found = array_cache.read(path, map_above)
        assert {name for name in found if isinstance(found[name], np.memmap)} == mapped
        assert not any(found[name].flags.writeable for name in mapped)
        for name, array in arrays.items():
            assert found[name].dtype == array.dtype
            np.testing.assert_array_equal(found[name], array)
    path.write_bytes(path.read_bytes()[:-100])
    assert array_cache.read(path, 0) is None


def test_the_next_chunk_is_read_while_this_one_is_used():
    import threading

    second_was_read = threading.Event()

    def second():
        second_was_read.set()
        return 2

    chunks = streaming.prefetch([lambda: 1, second, lambda: 3])
    assert next(chunks) == 1
    assert second_was_read.wait(10)
    assert list(chunks) == [2, 3]


def test_the_limit_is_in_gib(monkeypatch):
    monkeypatch.delenv(streaming.LIMIT_VARIABLE, raising=False)
    assert streaming.limit_bytes() == 4 * 2**30
    monkeypatch.setenv(streaming.LIMIT_VARIABLE, "0.5")
    assert streaming.limit_bytes() == 2**29


@pytest.mark.parametrize("text", ["much", "-1", "nan"])
def test_a_limit_that_is_none(text, monkeypatch):
    monkeypatch.setenv(streaming.LIMIT_VARIABLE, text)
    with pytest.raises(ValueError, match=f"GiB.*got '{text}'"):
        streaming.limit_bytes()


def test_chunks_keep_to_their_size():
    images = streaming.HostImages(np.zeros((10, 32, 32, 3), np.uint8))
    steps = streaming.steps_at_once(images, 128)
    assert steps * 128 * 3072 <= streaming.CHUNK_BYTES < (steps + 1) * 128 * 3072
    assert streaming.steps_at_once(images, 10**9) == 1
