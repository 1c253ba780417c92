"""Numbers and tables as Markdown."""

from collections.abc import Sequence

import numpy as np

from experiments.common.significance import mean_sd


def table(headings: Sequence[str], rows: Sequence[Sequence[str]], right: bool = False) -> str:
    """Return a Markdown table; ``right``: all columns but the first end at the right."""
    lines = [headings, ["---", *["---:" if right else "---"] * (len(headings) - 1)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def spread(values: Sequence[float] | np.ndarray, digits: int = 2) -> str:
    """Return ``mean (sd) [lowest–highest]``; one value stands alone."""
    values = np.asarray(values, float)
    if len(values) < 2:
        return mean_sd(values, digits)
    return f"{mean_sd(values, digits)} [{values.min():.{digits}f}–{values.max():.{digits}f}]"


def p_value(p: float) -> str:
    """Return ``p`` to two digits; below 0.001 as a power of ten, as in 7·10⁻⁶."""
    if np.isnan(p):
        return "–"
    if p >= 0.001:
        return f"{p:.2g}"
    mantissa, exponent = f"{p:.0e}".split("e")
    raised = str(int(exponent)).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
    return f"10{raised}" if mantissa == "1" else f"{mantissa}·10{raised}"


def quoted(items: Sequence[str]) -> str:
    """Return ``items``, each as code, with commas."""
    return ", ".join(f"`{item}`" for item in items)
