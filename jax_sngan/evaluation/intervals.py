"""What scores of several seeds tell: an interval for their mean, and whether two sets of them differ."""

from collections.abc import Sequence

import numpy as np
from scipy import special

CONFIDENCE = 0.95


def interval(values: Sequence[float]) -> list[float]:
    """Student's 95 % confidence interval for the mean of [n] values, n at least 2."""
    quantile = special.stdtrit(len(values) - 1, (1 + CONFIDENCE) / 2)
    half = quantile * np.std(values, ddof=1) / np.sqrt(len(values))
    return [float(np.mean(values) - half), float(np.mean(values) + half)]


def paired_p(gaps: np.ndarray) -> float:
    """The two-sided p of Student's paired t-test of differences [n], not all equal, against a mean of 0."""
    t = gaps.mean() / (gaps.std(ddof=1) / np.sqrt(len(gaps)))
    return float(2 * special.stdtr(len(gaps) - 1, -abs(t)))
