"""``"digits"``, a data set that is always there.

scikit-learn's 1,797 handwritten digits of 8×8 pixels (Alpaydin & Kaynak 1998, UCI), their values
0..16 rescaled to 0..255. Every fifth image (indices 0, 5, 10, ...) is a test image: 1,437 to train
on and 360 to test on.
"""

import numpy as np

from qagrel_jax.data.dataset import INSTALL, DataError, Dataset


def load() -> Dataset:
    """Return the digits.

    Raises:
      DataError: scikit-learn is missing.
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        raise DataError(f"'digits' needs scikit-learn: {INSTALL}") from None
    bunch = load_digits()
    images = np.round(bunch.images * (255 / 16)).astype(np.uint8)[..., None]
    labels = bunch.target.astype(np.int32)
    test = np.arange(len(labels)) % 5 == 0
    return Dataset("digits", "1.0.0", images[~test], labels[~test], images[test], labels[test], 10)
