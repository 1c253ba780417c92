"""Data sets: one-line errors for all that breaks."""

import os
import re
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from qagrel_jax import data
from qagrel_jax.data import tfds as our_tfds
from tests.library.synthetic_sets import one_line

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("name", ["nosuch", "", "../mnist", "a b", None])
def test_unknown_name_lists_the_valid_ones(synthetic, name):
    with pytest.raises(data.DataError) as error:
        data.load(name, synthetic[0])
    assert re.search(r"digits.*qj_pil.*mnist, fashion_mnist.*cifar100", one_line(error))


@pytest.mark.parametrize("damage", ["truncated", "empty", "missing", "fewer"])
def test_damaged_data_file_is_named(synthetic, cache, damage):
    root, folder = synthetic
    data.load("qj_pil", root, cache)  # a good cache must not hide the damage
    (file,) = folder.glob("*train.array_record*")
    (other,) = folder.glob("*validation.array_record*")
    if damage == "truncated":
        os.truncate(file, file.stat().st_size // 2)
    elif damage == "empty":
        os.truncate(file, 0)
    elif damage == "missing":
        file.unlink()
    else:
        shutil.copyfile(other, file)
    with pytest.raises(data.DataError) as error:
        data.load("qj_pil", root, cache)
    assert file.name in one_line(error) and "prepare the data set again" in str(error.value)
    assert damage != "fewer" or "9 records instead of 20" in str(error.value)


def test_damaged_dataset_info(synthetic, cache):
    root, folder = synthetic
    (folder / "dataset_info.json").write_text("{")
    with pytest.raises(data.DataError) as error:
        data.load("qj_pil", root, cache)
    assert "dataset_info.json" in one_line(error)


def test_tfrecord_needs_preparing_again(synthetic, cache):
    root, folder = synthetic
    info = folder / "dataset_info.json"
    info.write_text(info.read_text().replace("array_record", "tfrecord"))
    for file in folder.glob("*.array_record-*"):
        file.rename(folder / file.name.replace("array_record", "tfrecord"))
    with pytest.raises(data.DataError) as error:
        data.load("qj_pil", root, cache)
    assert "file_format='array_record'" in one_line(error)


def test_label_out_of_range_in_a_set(synthetic, cache):
    root, folder = synthetic
    features = folder / "features.json"
    text = features.read_text()
    assert '"numClasses": "3"' in text
    features.write_text(text.replace('"numClasses": "3"', '"numClasses": "2"'))
    with pytest.raises(data.DataError, match=r"label 2 .* is not in \[0, 2\)"):
        data.load("qj_pil", root, cache)


def test_images_of_varying_size(builders, tmp_path, cache):
    with pytest.raises(data.DataError, match="varying size"):
        data.load("qj_varying", tmp_path, cache)
    _, varying, _ = builders["classes"]
    varying(data_dir=str(tmp_path)).download_and_prepare(file_format="array_record")
    with pytest.raises(data.DataError, match="varying size") as error:
        data.load("qj_varying", tmp_path, cache)
    one_line(error)


def test_no_test_split(builders, tmp_path, cache):
    with pytest.raises(data.DataError, match="no split 'validation'; it has: ") as error:
        data.load("qj_no_test", tmp_path, cache)
    one_line(error)


def test_not_an_image_classification_set(builders, tmp_path):
    with pytest.raises(data.DataError, match="not an image classification set") as error:
        data.load("imdb_reviews", tmp_path)
    one_line(error)


def test_unknown_config_lists_the_valid_ones(builders, tmp_path):
    with pytest.raises(data.DataError, match=r"valid: .*balanced") as error:
        data.load("emnist/nosuch", tmp_path)
    one_line(error)


def test_no_network(builders, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(our_tfds, "_reachable", lambda url: asked.append(url))
    with pytest.raises(data.DataError) as error:
        data.load("fashion_mnist", tmp_path)
    message = one_line(error)
    assert "fashion-mnist" in asked[0] and asked[0] in message
    assert "TFDS_DATA_DIR" in message and "digits" in message


def test_preparing_arrays_without_tensorflow_says_what_to_install(builders, tmp_path, monkeypatch):
    if "tensorflow" in sys.modules:
        pytest.skip("TensorFlow is loaded")
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    monkeypatch.setattr(our_tfds, "_reachable", lambda url: True)
    builder_class = sys.modules["tensorflow_datasets"].image_classification.MNIST

    def fail(self, **_):
        from tensorflow_datasets.core.utils.lazy_imports_utils import tensorflow

        return tensorflow.io

    monkeypatch.setattr(builder_class, "download_and_prepare", fail)
    with pytest.raises(data.DataError) as error:
        data.load("mnist", tmp_path)
    assert "pip install tensorflow" in one_line(error)


def test_without_a_home_folder_it_is_said_what_to_set(monkeypatch):
    def unknown(*_):
        raise RuntimeError("Could not determine home directory.")

    for name in ("TFDS_DATA_DIR", "QAGREL_JAX_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Path, "home", unknown)
    monkeypatch.setattr(Path, "expanduser", unknown)
    with pytest.raises(data.DataError, match="no home folder is known: set TFDS_DATA_DIR"):
        data.load("mnist")


def test_reachability_ends_in_time(monkeypatch):
    over = threading.Event()

    def hang(*_, **__):
        over.wait(30)
        raise OSError("what nobody waits for any more")

    monkeypatch.setattr(our_tfds.urllib.request, "urlopen", hang)
    start = time.monotonic()
    assert not our_tfds._reachable("http://example.invalid/", timeout=0.2)
    assert time.monotonic() - start < 2
    over.set()


def test_fetching_from_an_unreachable_host_fails_fast(tmp_path):
    """In a process of its own, with a proxy that cannot be there: in seconds, one line."""
    environment = {**os.environ, "http_proxy": "http://127.0.0.1:9", "no_proxy": ""}
    code = (
        "from qagrel_jax import data\n"
        f"try: data.load('fashion_mnist', {str(tmp_path)!r})\n"
        "except data.DataError as error: print(error)"
    )
    start = time.monotonic()
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, env=environment
    )
    # Importing JAX alone takes seconds on a busy machine; TFDS would try for minutes.
    assert time.monotonic() - start < 40
    assert "cannot be reached" in result.stdout and result.stdout.count("\n") == 1
    assert result.stderr == ""


@pytest.mark.parametrize("name", ["digits", "mnist"])
def test_missing_package(name, tmp_path, monkeypatch):
    missing = ("sklearn", "tensorflow_datasets")
    # Parts that another test imported would be found without the package.
    for module in {*missing, *(m for m in sys.modules if m.startswith(missing))}:
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(data.DataError) as error:
        data.load(name, tmp_path)
    assert "pip install 'qagrel_jax[experiments]'" in one_line(error)


def test_import_is_lazy():
    code = "import sys, qagrel_jax.data; print({'tensorflow_datasets', 'sklearn'} & {*sys.modules})"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert result.stdout.strip() == "set()"


# --- validate -------------------------------------------------------------------------------------

IMAGES, LABELS = np.zeros((4, 2, 2, 1), np.uint8), np.array([0, 1, 2, 0])


def test_validate_accepts_good_arrays():
    data.validate(IMAGES, LABELS, 3)


@pytest.mark.parametrize(
    ("images", "labels", "classes", "says"),
    [
        (IMAGES[..., 0], LABELS, 3, r"\(4, 2, 2\)"),
        (IMAGES.astype(np.float32), LABELS, 3, "float32"),
        (IMAGES, LABELS[:3], 3, "4 images but 3 labels"),
        (IMAGES, LABELS, 2, r"label 2 \(image 2\)"),
        (IMAGES, -LABELS, 3, r"label -1 \(image 1\)"),
        (IMAGES, LABELS[:, None], 3, r"\(4, 1\)"),
        (IMAGES, LABELS.astype(float), 3, "float64"),
        (IMAGES[:0], LABELS[:0], 3, r"\(0, 2, 2, 1\)"),
        (IMAGES, LABELS * 0, 1, "at least 2, got 1"),
    ],
)
def test_validate_prints_the_offending_value(images, labels, classes, says):
    with pytest.raises(ValueError, match=says):
        data.validate(images, labels, classes)
