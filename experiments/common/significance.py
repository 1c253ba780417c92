"""Statistics of seeds: intervals of paired differences and of ratios, and tests on ranks."""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike


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

    a, b = np.asarray(a, float), np.asarray(b, float)
    d = a - b
    mean, n = float(d.mean()), len(d)
    # Accuracies come from float32: differences that differ only by its rounding are the same.
    if n < 2 or np.ptp(d) <= 1e-6 * max(np.abs(a).max(), np.abs(b).max()):
        return Difference(mean, np.nan, np.nan, np.nan)
    test = stats.ttest_rel(a, b)
    low, high = test.confidence_interval(0.95)
    return Difference(mean, float(low), float(high), float(test.pvalue))


def ratio_interval(a: ArrayLike, b: ArrayLike) -> tuple[float, float, float]:
    """Return mean(a) / mean(b) and its 95 % interval by Fieller's theorem (1954), paired.

    All ρ that Student's t test of a − ρ·b against 0 does not reject: (ā − ρb̄)² ≤ t² · var(a −
    ρb) / n, with t = t(0.975, n − 1). The values are positive, so that the interval ends at 0.

    Args:
      a: float[n], one value a seed, above 0.
      b: float[n], of the same seeds, above 0.

    Returns:
      Ratio, low, high. Low and high are NaN with one seed, where nothing varies, and where b is so
      uncertain that the interval would have no upper end.

    >>> [round(x, 3) for x in ratio_interval([2, 4, 6], [2, 2, 2])]  # 2 ± 4.303 · 1 / √3
    [2.0, 0.0, 4.484]
    """
    from scipy import stats

    a, b = np.asarray(a, float), np.asarray(b, float)
    ratio, n = float(a.mean() / b.mean()), len(a)
    if n < 2 or np.ptp(a) == np.ptp(b) == 0:
        return ratio, np.nan, np.nan
    t2 = stats.t.ppf(0.975, n - 1) ** 2
    covariance = t2 * np.cov(a, b) / n
    square = b.mean() ** 2 - covariance[1, 1]
    middle = a.mean() * b.mean() - covariance[0, 1]
    end = a.mean() ** 2 - covariance[0, 0]
    if square <= 0:
        return ratio, np.nan, np.nan
    half = np.sqrt(max(middle**2 - square * end, 0.0))
    return ratio, float(max((middle - half) / square, 0.0)), float((middle + half) / square)


def signed_rank_test(a: ArrayLike, b: ArrayLike) -> float:
    """Return p of Wilcoxon's two-sided signed-rank test of pairs; infinity is later than all.

    Pairs that are equal, infinity among them, say nothing and are left out; p = 1 if all are.

    Args:
      a: [n], one value a network.
      b: [n], of the same networks.

    >>> signed_rank_test([2, 3, 4, 5, np.inf, np.inf], [1, 1, 1, 1, 1, np.inf])  # 2 / 2⁵
    0.0625
    """
    from scipy import stats

    a, b = np.asarray(a, float), np.asarray(b, float)
    there = np.concatenate([a, b])
    there = there[np.isfinite(there)]
    never = 2 * there.max() if there.size else 0.0
    d = np.where(np.isinf(a), never, a) - np.where(np.isinf(b), never, b)
    d = d[d != 0]
    return float(stats.wilcoxon(d).pvalue) if d.size else 1.0


def rank_test(a: ArrayLike, b: ArrayLike) -> float:
    """Return p of the two-sided Mann-Whitney test of ``a`` against ``b``; infinity ranks last.

    Where all values are equal nothing differs: p = 1 (versions of SciPy disagree on it).

    Args:
      a: [n], of independent networks.
      b: [m], of others.

    >>> rank_test([1, 2, np.inf], [np.inf, np.inf, np.inf]) < rank_test([1, 2], [1, 2]) == 1.0
    True
    >>> rank_test([np.inf, np.inf], [np.inf])
    1.0
    """
    from scipy import stats

    a, b = np.asarray(a), np.asarray(b)
    ranks = stats.rankdata(np.concatenate([a, b]))
    if np.ptp(ranks) == 0:
        return 1.0
    return float(stats.mannwhitneyu(ranks[: len(a)], ranks[len(a) :]).pvalue)


def mean_sd(values: ArrayLike, digits: int = 2) -> str:
    """Return ``mean (sd)``, the sd with n − 1; one value stands alone.

    Args:
      values: [n], n at least 1.
      digits: after the point.

    >>> mean_sd([1.0, 2.0, 3.0], 1), mean_sd([1.0])
    ('2.0 (1.0)', '1.00')
    """
    values = np.asarray(values, float)
    text = f"{values.mean():.{digits}f}"
    return f"{text} ({values.std(ddof=1):.{digits}f})" if len(values) > 1 else text
