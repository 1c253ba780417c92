"""Data sets: values (not only shapes), and the cache."""

import errno
import hashlib
import os
import shutil
import subprocess
import sys
import warnings
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from qagrel_jax import data
from qagrel_jax.data import cache as array_cache
from qagrel_jax.data import decoding
from qagrel_jax.data import tfds as our_tfds
from tests.library.synthetic_sets import one_line, picture

ROOT = Path(__file__).resolve().parents[2]
REAL = Path(os.environ.get("TFDS_DATA_DIR") or ROOT.parent / "shared" / "tfds")

# Published class counts of the original files.
MNIST_TRAIN = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
MNIST_TEST = [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]


@pytest.fixture(scope="session")
def real(tmp_path_factory):
    """Load a real set by name, decoded once a session; skip where it is not there."""
    cache = tmp_path_factory.mktemp("cache")

    def load(name):
        if not (REAL / name).is_dir():
            pytest.skip(f"no prepared {name} in {REAL}")
        return data.load(name, REAL, cache)

    return load


# --- digits ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("file", ["found", "elsewhere"])
def test_digits_values_and_split(file, monkeypatch):
    source = pytest.importorskip("sklearn.datasets").load_digits()
    if file == "elsewhere":
        monkeypatch.setattr(sys.modules["qagrel_jax.data.digits"], "FILE", Path("nowhere"))
    digits = data.load("digits")
    data.validate(digits.train_images, digits.train_labels, digits.num_classes)
    data.validate(digits.test_images, digits.test_labels, digits.num_classes)
    assert digits.train_images.shape == (1437, 8, 8, 1)
    assert digits.test_images.shape == (360, 8, 8, 1)
    assert digits.train_labels.dtype == np.int32
    assert (digits.train_images.min(), digits.train_images.max()) == (0, 255)
    # 0 → 0, 8 → 127.5 → 128 (round half to even), 16 → 255, by hand.
    table = np.array([0, 16, 32, 48, 64, 80, 96, 112, 128, 143, 159, 175, 191, 207, 223, 239, 255])
    np.testing.assert_array_equal(
        digits.test_images[1, ..., 0], table[source.images[5].astype(int)]
    )
    np.testing.assert_array_equal(digits.train_labels[:4], source.target[1:5])
    both = np.concatenate([digits.train_labels, digits.test_labels])
    # The UCI test set's published class counts.
    assert np.bincount(both).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]


# --- the real sets --------------------------------------------------------------------------------


@pytest.mark.real_data
@pytest.mark.slow
def test_mnist_values(real):
    mnist = real("mnist")
    assert mnist.train_images.shape == (60000, 28, 28, 1)
    assert mnist.test_images.shape == (10000, 28, 28, 1)
    assert mnist.train_images.dtype == np.uint8 and mnist.train_labels.dtype == np.int32
    assert (mnist.train_images.min(), mnist.train_images.max()) == (0, 255)
    assert round(float(mnist.train_images.mean()), 4) == 33.3184
    assert np.bincount(mnist.train_labels).tolist() == MNIST_TRAIN
    assert np.bincount(mnist.test_labels).tolist() == MNIST_TEST
    assert mnist.num_classes == 10
    assert "tensorflow" not in sys.modules


@pytest.mark.real_data
@pytest.mark.slow
def test_mnist_is_read_record_by_record_unchanged(real):
    """Checksum against TFDS's own reader, one record at a time."""
    mnist = real("mnist")
    tfds = pytest.importorskip("tensorflow_datasets")
    source = tfds.builder_from_directory(str(REAL / "mnist" / mnist.version)).as_data_source("test")
    ours, theirs = hashlib.sha256(), hashlib.sha256()
    for i in range(0, 10000, 20):
        example = source[i]
        theirs.update(example["image"].tobytes() + bytes([example["label"]]))
        ours.update(mnist.test_images[i].tobytes() + bytes([mnist.test_labels[i]]))
    assert ours.digest() == theirs.digest()


@pytest.mark.real_data
@pytest.mark.slow
def test_cifar10_classes(real):
    cifar = real("cifar10")
    assert cifar.train_images.shape == (50000, 32, 32, 3)
    assert np.bincount(cifar.train_labels).tolist() == [5000] * 10
    assert np.bincount(cifar.test_labels).tolist() == [1000] * 10
    # The published means of the lossless images, 125.3, 123.0, 113.9.
    means = cifar.train_images.mean((0, 1, 2))
    np.testing.assert_allclose(means, [125.307, 122.950, 113.865], rtol=0.005)


@pytest.mark.real_data
@pytest.mark.slow
def test_tiny_imagenet100_classes(real):
    tiny = real("tiny_imagenet100")
    assert tiny.num_classes == 100
    assert np.bincount(tiny.train_labels).tolist() == [500] * 100
    assert np.bincount(tiny.test_labels).tolist() == [50] * 100
    assert tiny.test_images.shape == (5000, 32, 32, 3)


@pytest.mark.real_data
def test_truncated_real_file_is_named(tmp_path):
    if not (REAL / "mnist").is_dir():
        pytest.skip(f"no prepared mnist in {REAL}")
    shutil.copytree(REAL / "mnist", tmp_path / "mnist")
    (file,) = (tmp_path / "mnist").glob("*/*train.array_record*")
    file.chmod(0o644)
    os.truncate(file, file.stat().st_size // 2)
    with pytest.raises(data.DataError) as error:
        data.load("mnist", tmp_path, tmp_path / "cache")
    assert file.name in one_line(error) and "prepare the data set again" in str(error.value)
    file.parent.chmod(0o755)


# --- preparing and reading the synthetic set ------------------------------------------------------


def test_pil_builder_is_prepared_without_tensorflow(builders, tmp_path, cache):
    before = builders["prepared"].count("qj_pil")
    ours = data.load("qj_pil", tmp_path, cache)
    assert "tensorflow" not in sys.modules
    assert (ours.name, ours.version, ours.num_classes) == ("qj_pil", "1.2.0", 3)
    assert ours.train_images.shape == (20, 6, 6, 1)
    assert ours.test_images.shape == (9, 6, 6, 1)  # from "validation"
    # TFDS shuffles when it writes; the top left pixel tells which image each is.
    which = ours.train_images[:, 0, 0, 0]
    assert sorted(which) == list(range(20))
    np.testing.assert_array_equal(ours.train_labels, which % 3)
    np.testing.assert_array_equal(ours.train_images[3, ..., 0], picture(which[3]))
    data.load("qj_pil", tmp_path, cache)
    assert builders["prepared"].count("qj_pil") == before + 1


def test_reading_needs_no_tensorflow(synthetic, cache):
    code = f"""if True:
        from importlib.machinery import PathFinder
        find = PathFinder.find_spec
        PathFinder.find_spec = lambda name, *rest: (
            None if name.partition(".")[0] == "tensorflow" else find(name, *rest)
        )
        from qagrel_jax import data
        print(len(data.load('qj_pil', {str(synthetic[0])!r}, {str(cache)!r}).test_labels))
    """
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert (result.stdout, result.stderr) == ("9\n", "")


def test_cached_set_is_not_decoded_again(synthetic, cache, monkeypatch):
    root, _ = synthetic
    first = data.load("qj_pil", root, cache)
    monkeypatch.setattr(decoding, "_decode", lambda *_: pytest.fail("decoded again"))
    second = data.load("qj_pil", root, cache)
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a, b)


def test_images_read_two_at_a_time_are_those_read_at_once(synthetic, cache, tmp_path, monkeypatch):
    root, _ = synthetic
    at_once = data.load("qj_pil", root, cache)
    monkeypatch.setattr(decoding, "_CHUNK", 2)
    for a, b in zip(at_once, data.load("qj_pil", root, tmp_path / "other"), strict=True):
        np.testing.assert_array_equal(a, b)


def test_changed_source_is_decoded_again_and_the_old_entry_dropped(synthetic, cache):
    root, folder = synthetic
    data.load("qj_pil", root, cache)
    (before,) = cache.iterdir()
    os.utime(folder / "features.json", (1, 1))
    data.load("qj_pil", root, cache)
    (after,) = cache.iterdir()
    assert before != after


def test_of_two_kinds_of_label_the_set_says_which_is_read():
    """CIFAR-100 has a coarse one, too."""
    features = our_tfds.import_tfds().features
    found = {
        "coarse_label": features.ClassLabel(num_classes=2),
        "image": features.Image(shape=(2, 2, 3)),
        "label": features.ClassLabel(num_classes=5),
    }
    info = SimpleNamespace(features=found, supervised_keys=("image", "label"), full_name="a set")
    assert our_tfds.feature_names(SimpleNamespace(info=info)) == ("image", "label")
    with pytest.raises(data.DataError, match="it has 2 ClassLabel features, one is needed"):
        info.supervised_keys = None
        our_tfds.feature_names(SimpleNamespace(info=info))


def test_only_the_files_that_hold_the_records_are_named():
    split = SimpleNamespace(shard_lengths=[3, 2, 4], filepaths=["a", "b", "c"])
    asked = {"a": (0, 3), "b": (3, 5), "a or b": (2, 4), "a or b or c": (0, 6), "c": (8, 9)}
    assert {told: decoding._shards(split, *records) for told, records in asked.items()} == {
        told: told for told in asked
    }


def test_sets_of_one_name_in_two_folders_are_kept_side_by_side(tmp_path):
    found = {}
    for place in ("here", "there"):
        (tmp_path / place / "1.0.0").mkdir(parents=True)
        (tmp_path / place / "1.0.0" / "data").write_text(place)
        path = array_cache.entry(tmp_path / "cache", tmp_path / place / "1.0.0", "set-1.0.0")
        array_cache.write(path, {"images": np.full(2, len(place))})
        found[place] = path
    for place, path in found.items():
        assert array_cache.read(path)["images"].tolist() == [len(place)] * 2


def test_an_entry_is_of_a_folder_however_named_as_it_is_now(tmp_path, monkeypatch):
    source, link = tmp_path / "set", tmp_path / "link"
    source.mkdir()
    link.symlink_to(source)
    monkeypatch.chdir(tmp_path)

    def entry(content, modified=1, named=source, file="data"):
        for path in source.iterdir():
            path.unlink()
        (source / file).write_text(content)
        os.utime(source / file, (modified, modified))
        return array_cache.entry(tmp_path / "cache", named, "set")

    first = entry("one")
    for named in (source, link, Path("set"), Path("link")):
        assert entry("one", named=named) == first
    others = [entry("longer"), entry("one", modified=2), entry("one", file="other")]
    assert len({first, *others}) == 4


def test_an_entry_that_cannot_be_written_leaves_the_one_before(tmp_path, monkeypatch):
    path = tmp_path / "set-where-what.npz"
    array_cache.write(path, {"x": np.arange(3)})

    def savez(file, **arrays):
        file.write(b"half of it")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(np, "savez", savez)
    with pytest.warns(UserWarning, match="No space left on device"):
        array_cache.write(path, {"x": np.arange(5)})
    assert array_cache.read(path)["x"].tolist() == [0, 1, 2]
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("damage", ["truncate", "garbage", "flip"])
def test_damaged_cache_is_rebuilt(synthetic, cache, damage):
    root, _ = synthetic
    first = data.load("qj_pil", root, cache)
    (file,) = cache.iterdir()
    content = bytearray(file.read_bytes())
    if damage == "truncate":
        content = content[: len(content) // 2]
    elif damage == "garbage":
        content = bytearray(b"not a zip")
    else:
        at = content.index(first.train_images.tobytes())
        content[at] ^= 255
    file.write_bytes(content)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        second = data.load("qj_pil", root, cache)
    np.testing.assert_array_equal(first.train_images, second.train_images)
    assert array_cache.read(file) is not None


def test_a_set_past_the_limit_is_never_in_memory(synthetic, cache, tmp_path, monkeypatch):
    root, _ = synthetic
    small = data.load("qj_pil", root, tmp_path / "other")
    monkeypatch.setenv("QAGREL_JAX_RESIDENT_GIB", "1e-9")
    decoded, again = data.load("qj_pil", root, cache), data.load("qj_pil", root, cache)
    for large in (decoded, again):
        assert isinstance(large.train_images, np.memmap)
        assert isinstance(large.test_images, np.memmap)
        for a, b in zip(large, small, strict=True):
            np.testing.assert_array_equal(a, b)
    assert len(list(cache.iterdir())) == 1  # nothing is left of the space it was decoded into


def test_no_room_to_decode_a_large_set(synthetic, tmp_path, monkeypatch):
    (tmp_path / "a_file").write_text("")
    monkeypatch.setenv("QAGREL_JAX_RESIDENT_GIB", "0")
    with pytest.raises(data.DataError, match="set QAGREL_JAX_CACHE to another disk"):
        data.load("qj_pil", synthetic[0], tmp_path / "a_file" / "cache")


def test_unwritable_cache_only_warns(synthetic, tmp_path):
    root, _ = synthetic
    blocked = tmp_path / "a_file"
    blocked.write_text("")
    with pytest.warns(UserWarning, match="QAGREL_JAX_CACHE"):
        loaded = data.load("qj_pil", root, blocked / "cache")
    assert len(loaded.train_images) == 20


def test_progress_is_reported(synthetic, cache):
    seen = []
    data.load("qj_pil", synthetic[0], cache, progress=lambda *report: seen.append(report))
    assert seen == [("train", 20, 20), ("validation", 9, 9)]


def test_cache_folder_from_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "x"))
    monkeypatch.delenv("QAGREL_JAX_CACHE", raising=False)
    assert array_cache.default_folder() == tmp_path / "x" / "qagrel_jax"
    monkeypatch.setenv("QAGREL_JAX_CACHE", "")
    assert array_cache.default_folder() == tmp_path / "x" / "qagrel_jax"
    monkeypatch.setenv("QAGREL_JAX_CACHE", str(tmp_path / "q"))
    assert array_cache.default_folder() == tmp_path / "q"
    monkeypatch.setenv("QAGREL_JAX_CACHE", "~/q")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert array_cache.default_folder() == tmp_path / "q"
    for name in ("QAGREL_JAX_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.setenv(name, "")
    assert array_cache.default_folder() == tmp_path / ".cache" / "qagrel_jax"


def test_folders_may_be_in_the_home_folder(synthetic, tmp_path, monkeypatch):
    root, _ = synthetic
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sets").symlink_to(root)
    data.load("qj_pil", "~/sets", "~/cache")
    assert (tmp_path / "cache").is_dir() and not (tmp_path / "~").exists()


def test_newest_version_is_taken(synthetic, cache):
    root, folder = synthetic
    shutil.copytree(folder, root / "qj_pil" / "1.10.0")
    assert our_tfds.find_prepared(root, "qj_pil", None, None).name == "1.10.0"
    assert our_tfds.find_prepared(root, "qj_pil", None, "1.2.0").name == "1.2.0"
    (root / "qj_pil" / "2.0.0.incompleteABC").mkdir()
    assert our_tfds.find_prepared(root, "qj_pil", None, None).name == "1.10.0"


def test_a_pinned_version_is_the_one_that_is_read(synthetic, cache):
    """Also where the newest has filled the cache before."""
    root, folder = synthetic
    shutil.copytree(folder, root / "qj_pil" / "1.10.0")
    for name, version in (
        ("qj_pil", "1.10.0"),
        ("qj_pil:1.2.0", "1.2.0"),
        ("qj_pil:1.10.0", "1.10.0"),
        ("qj_pil:1.2.0", "1.2.0"),
    ):
        assert data.load(name, root, cache).version == version
    with pytest.raises(data.DataError):
        data.load("qj_pil:1.3.0", root, cache)


def test_several_configs_must_be_told_apart(synthetic, cache):
    root, folder = synthetic
    for config in ("a", "b"):
        shutil.copytree(folder, root / "many" / config / "1.0.0")
    with pytest.raises(data.DataError, match="valid: many/a, many/b"):
        data.load("many", root)
    assert our_tfds.find_prepared(root, "many", "b", None) == root / "many" / "b" / "1.0.0"
    assert data.load("many/b", root, cache).name == "many/b"
    assert [path.name[:7] for path in cache.iterdir()] == ["many-b-"]
