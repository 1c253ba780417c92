"""Images of one's own, as NumPy arrays in a file."""

import numpy as np
import pytest

from qagrel_jax import data

RNG = np.random.default_rng(0)
GOOD = {
    "train_images": RNG.integers(0, 256, (6, 5, 4, 3), np.uint8),
    "train_labels": np.array([0, 1, 3, 0, 2, 0]),
    "test_images": RNG.integers(0, 256, (2, 5, 4, 3), np.uint8),
    "test_labels": np.array([1, 0], np.uint8),
}


def _load(folder, **changed):
    path = folder / "birds.npz"
    np.savez(path, **{k: v for k, v in (GOOD | changed).items() if v is not None})
    return data.load(str(path))


def test_arrays_come_back(tmp_path):
    birds = _load(tmp_path)
    for name, array in GOOD.items():
        np.testing.assert_array_equal(getattr(birds, name), array)
    assert birds.train_labels.dtype == birds.test_labels.dtype == np.int32
    assert birds.train_images.dtype == np.uint8
    assert (birds.name, birds.num_classes) == ("birds", 4)
    assert data.load(tmp_path / "birds.npz").name == "birds"
    assert _load(tmp_path, num_classes=7).num_classes == 7


@pytest.mark.parametrize(
    ("labels", "first", "classes"), [([0, 5], 4, 6), ([3, 4], 0, 5), ([200, 3], 0, 201)]
)
def test_classes_without_an_image_are_told(labels, first, classes, tmp_path):
    changed = {name: np.array(labels * n) for name, n in (("train_labels", 3), ("test_labels", 1))}
    if first:
        changed["train_labels"] = GOOD["train_labels"]
    with pytest.warns(UserWarning, match=f"birds.npz has no image of class {first}, but labels up"):
        assert _load(tmp_path, **changed).num_classes == classes
    assert _load(tmp_path, num_classes=300, **changed).num_classes == 300


def test_labels_may_be_larger_than_a_byte(tmp_path):
    labels = {"train_labels": [0, 127, 128, 199, 300, 70_000], "test_labels": [70_000, 128]}
    arrays = {name: np.array(values) for name, values in labels.items()}
    many = _load(tmp_path, num_classes=70_001, **arrays)
    assert many.train_labels.tolist() == labels["train_labels"]
    assert many.test_labels.tolist() == labels["test_labels"]


def test_gray_images_need_no_axis_of_channels(tmp_path):
    gray = {name: GOOD[name][..., 0] for name in ("train_images", "test_images")}
    birds = _load(tmp_path, **gray)
    assert birds.train_images.shape == (6, 5, 4, 1)
    np.testing.assert_array_equal(birds.test_images[..., 0], gray["test_images"])


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"test_labels": None}, "has no test_labels: it must hold train_images, train_labels, "),
        ({"train_images": GOOD["train_images"] / 255}, r"train of .*uint8 .*\(255 \* images\)"),
        (
            {name: np.zeros((2, 3, 8, 8), np.uint8) for name in ("train_images", "test_images")}
            | {"train_labels": np.zeros(2, int)},
            r"shape \(2, 3, 8, 8\), channels first: np.moveaxis\(images, 1, -1\)",
        ),
        ({"test_images": np.array([[1], [1, 2]], object)}, "test_images of .* holds objects"),
        ({"train_labels": GOOD["train_labels"][:5]}, "train of .*6 images but 5 labels"),
        ({"test_labels": np.array([0.0, 1.0])}, "test_labels of .*whole numbers, got float64"),
        ({"test_labels": np.array([0, -1])}, r"test of .*label -1 \(image 1\) is not in \[0, 4\)"),
        ({"test_images": GOOD["test_images"][:, :4]}, r"one shape, got \[5, 4, 3\] to train on"),
        ({"test_images": GOOD["test_images"][:, :, :3]}, r"one shape, got \[5, 4, 3\] to train on"),
        ({"test_images": GOOD["test_images"][..., :1]}, r"and \[5, 4, 1\] to test on"),
        ({"test_images": np.zeros(2, np.uint8)}, "images must be .n, height, width, channels"),
        ({"num_classes": 2}, "label 3 .image 2. is not in .0, 2."),
        ({"num_classes": -7}, "num_classes must be at least 2, got -7"),
        ({"num_classes": 2.5}, "num_classes of .* must be one whole number"),
        ({"num_classes": [2, 3]}, "num_classes of .* must be one whole number"),
        ({"train_labels": np.zeros(6, int), "test_labels": np.zeros(2, int)}, "num_classes must"),
        ({"train_labels": np.array(["a"] * 6)}, "whole numbers, got <U1"),
        ({"train_labels": np.array([None] * 6)}, "train_labels of .* holds objects, not numbers"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(tmp_path, changed, message):
    with pytest.raises(data.DataError, match=message) as error:
        _load(tmp_path, **changed)
    assert "birds.npz" in str(error.value) and "\n" not in str(error.value)


def test_files_that_are_none(tmp_path):
    with pytest.raises(data.DataError, match=r"nosuch.npz does not exist"):
        data.load(str(tmp_path / "nosuch.npz"))
    np.savez_compressed(tmp_path / "whole.npz", **GOOD)
    whole = (tmp_path / "whole.npz").read_bytes()
    middle = len(whole) // 2
    np.save(tmp_path / "one.npy", GOOD["train_images"])
    for name, content, message in (
        ("text.npz", b"no archive", "is no whole file of arrays: write it with np.savez"),
        ("empty.npz", b"", "is no whole file of arrays"),
        ("cut.npz", whole[:-100], "is no whole file of arrays"),
        ("one.npz", (tmp_path / "one.npy").read_bytes(), "is no whole file of arrays"),
        ("changed.npz", whole[: middle - 40] + bytes(80) + whole[middle + 40 :], "cannot read"),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(data.DataError, match=message) as error:
            data.load(str(tmp_path / name))
        assert name in str(error.value) and "\n" not in str(error.value)
    (tmp_path / "folder.npz").mkdir()
    with pytest.raises(data.DataError, match="is no whole file of arrays"):
        data.load(str(tmp_path / "folder.npz"))
