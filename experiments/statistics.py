"""Statistics of seeds: intervals of means, of paired differences, and of ratios."""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

RESAMPLES = 10_000


class Difference(NamedTuple):
    """Mean of a − b, its 95 % interval and p; all but the mean NaN where nothing varies."""

    mean: float
    low: float
    high: float
    p: float


def paired_difference(a: np.ndarray, b: np.ndarray) -> Difference:
    """Compare two rules on the same seeds by Student's paired t test.

    d̄ ± t(0.975, n − 1) · s_d / √n, with d = a − b.

    Args:
      a: float[n], one value a seed.
      b: float[n], of the same seeds.

    >>> d = paired_difference(np.array([2.0, 4.0, 6.0]), np.array([1.0, 2.0, 3.0]))
    >>> round(d.mean, 3), round(d.low, 3), round(d.high, 3), round(d.p, 4)
    (2.0, -0.484, 4.484, 0.0742)
    """
    from scipy import stats

    d = np.asarray(a, float) - np.asarray(b, float)
    mean, n = float(d.mean()), len(d)
    # Accuracies come from float32: differences that differ only by its rounding are the same.
    if n < 2 or np.ptp(d) <= 1e-6 * max(np.abs(a).max(), np.abs(b).max()):
        return Difference(mean, np.nan, np.nan, np.nan)
    error = d.std(ddof=1) / np.sqrt(n)
    half = stats.t.ppf(0.975, n - 1) * error
    p = 2 * stats.t.sf(abs(mean) / error, n - 1)
    return Difference(mean, float(mean - half), float(mean + half), float(p))


def ratio_interval(a: np.ndarray, b: np.ndarray) -> tuple[float, float, float]:
    """Return mean(a) / mean(b) and its 95 % percentile bootstrap interval over paired seeds.

    The same 10,000 resamples of the seeds every time. With one seed there is no interval (NaN),
    and with three it is too narrow: the resamples know no seed but those.

    Args:
      a: float[n], one value a seed.
      b: float[n], of the same seeds; their mean is not 0.
    """
    a, b = np.asarray(a, float), np.asarray(b, float)
    ratio = float(a.mean() / b.mean())
    if len(a) < 2:
        return ratio, np.nan, np.nan
    rows = np.random.default_rng(0).integers(0, len(a), (RESAMPLES, len(a)))
    low, high = np.quantile(a[rows].mean(1) / b[rows].mean(1), (0.025, 0.975))
    return ratio, float(low), float(high)


def rank_test(a: ArrayLike, b: ArrayLike) -> float:
    """Return p of the two-sided Mann-Whitney test of ``a`` against ``b``; infinity ranks last.

    Where all values are equal nothing differs: p = 1 (versions of SciPy disagree on it).

    >>> rank_test([1, 2, np.inf], [np.inf, np.inf, np.inf]) < rank_test([1, 2], [1, 2]) == 1.0
    True
    >>> rank_test([np.inf, np.inf], [np.inf])
    1.0
    """
    from scipy import stats

    ranks = stats.rankdata(np.concatenate([a, b]))
    if np.ptp(ranks) == 0:
        return 1.0
    return float(stats.mannwhitneyu(ranks[: len(a)], ranks[len(a) :]).pvalue)


def mean_sd(values: ArrayLike, digits: int = 2) -> str:
    """Return ``mean (sd)``, the sd with n − 1; one value stands alone.

    >>> mean_sd([1.0, 2.0, 3.0], 1), mean_sd([1.0])
    ('2.0 (1.0)', '1.00')
    """
    values = np.asarray(values, float)
    text = f"{values.mean():.{digits}f}"
    return f"{text} ({values.std(ddof=1):.{digits}f})" if len(values) > 1 else text
