"""Small data sets, written and prepared here, without TensorFlow."""

import shutil

import numpy as np
import pytest

from qagrel_jax import data


def picture(i, size=6):
    """An image whose top left pixel tells which it is."""
    pixels = np.full((size, size), 7, np.uint8)
    pixels[0, 0] = i
    return pixels


@pytest.fixture(scope="session")
def builders():
    """Register three synthetic TFDS builders that yield PIL images."""
    tfds = pytest.importorskip("tensorflow_datasets")
    image = pytest.importorskip("PIL.Image")
    made = []

    def info(self, shape, labels=3):
        return tfds.core.DatasetInfo(
            builder=self,
            features=tfds.features.FeaturesDict(
                {
                    "note": tfds.features.Text(),
                    "what": tfds.features.ClassLabel(num_classes=labels),
                    "seen": tfds.features.Image(shape=shape, encoding_format="png"),
                }
            ),
        )

    def examples(count, size):
        for i in range(count):
            pixels = image.fromarray(picture(i, size(i)))
            yield i, {"note": str(i), "what": i % 3, "seen": pixels}

    class Common(tfds.core.GeneratorBasedBuilder):
        VERSION = tfds.core.Version("1.2.0")
        url_infos = None  # nothing to download

        def _split_generators(self, manager):
            made.append(self.name)
            return {
                "train": examples(20, self.size),
                self.test_split: examples(self.test_count, self.size),
            }

        def _generate_examples(self):
            raise NotImplementedError

    class QjPil(Common):
        test_split, test_count = "validation", 9

        def _info(self):
            return info(self, (6, 6, 1))

        def size(self, i):
            return 6

    class QjVarying(Common):
        test_split, test_count = "test", 9

        def _info(self):
            return info(self, (None, None, 1))

        def size(self, i):
            return 6 + i % 2

    class QjNoTest(Common):
        test_split, test_count = "extra", 9

        def _info(self):
            return info(self, (6, 6, 1))

        def size(self, i):
            return 6

    del Common
    return {"classes": (QjPil, QjVarying, QjNoTest), "prepared": made}


@pytest.fixture(scope="session")
def synthetic_root(builders, tmp_path_factory):
    root = tmp_path_factory.mktemp("tfds")
    data.load("qj_pil", root, tmp_path_factory.mktemp("other_cache"))
    return root


@pytest.fixture
def synthetic(synthetic_root, tmp_path):
    """A prepared folder of its own for each test: ``(data_dir, version folder)``."""
    root = tmp_path / "tfds"
    shutil.copytree(synthetic_root / "qj_pil", root / "qj_pil")
    return root, root / "qj_pil" / "1.2.0"


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "cache"


def one_line(error):
    assert "\n" not in str(error.value)
    return str(error.value)
