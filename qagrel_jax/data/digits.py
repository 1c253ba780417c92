"""``"digits"``, a data set that is always there.

scikit-learn's 1,797 handwritten digits of 8×8 pixels (Alpaydin & Kaynak 1998, UCI), their values
0..16 rescaled to 0..255. Every fifth image (indices 0, 5, 10, ...) is a test image: 1,437 to train
on and 360 to test on.
"""

import importlib.util
from pathlib import Path

import numpy as np

from qagrel_jax.data.dataset import INSTALL, DataError, Dataset

FILE = Path("datasets", "data", "digits.csv.gz")
"""Where scikit-learn keeps them: 64 pixels and the label, one image a line."""


def load() -> Dataset:
    """Return the digits.

    Raises:
      DataError: scikit-learn is missing.
    """
    rows = _rows()
    images = np.round(rows[:, :-1].reshape(-1, 8, 8, 1) * (255 / 16)).astype(np.uint8)
    labels = rows[:, -1].astype(np.int32)
    test = np.arange(len(labels)) % 5 == 0
    return Dataset("digits", "1.0.0", images[~test], labels[~test], images[test], labels[test], 10)


def _rows() -> np.ndarray:
    """Return float[images, 65], without scikit-learn's slow import where its file is found."""
    package = importlib.util.find_spec("sklearn")
    for folder in (package and package.submodule_search_locations) or ():
        if (path := Path(folder) / FILE).is_file():
            return np.loadtxt(path, delimiter=",")
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        raise DataError(f"'digits' needs scikit-learn: {INSTALL}") from None
    pixels, labels = load_digits(return_X_y=True)
    return np.column_stack([pixels, labels])
