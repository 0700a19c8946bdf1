"""Estimates with 95% intervals, and the correction for many tests, that every analysis shares. Knows numbers only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.special import ndtri

BOOTSTRAPS = 2000


@dataclass(frozen=True)
class Estimate:
    """A number with its 95% interval. Prints as ``0.652 [0.636, 0.668]``."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"

    @property
    def percent(self) -> str:
        """As ``65.2% [63.6, 66.8]``, for sentences."""
        return f"{self.value:.1%} [{100 * self.low:.1f}, {100 * self.high:.1f}]"


def wilson(part: int, whole: int) -> Estimate:
    """The share part / whole with its score interval (Wilson 1927); of nothing, 0 with an interval from 0 to 1."""
    if not whole:
        return Estimate(0.0, 0.0, 1.0)
    share, z = part / whole, ndtri(0.975)
    # By hand, as scipy.stats has it: that takes a second to import.
    scale = 2 * (whole + z**2)
    centre, reach = (2 * whole * share + z**2) / scale, z / scale * np.sqrt(4 * whole * share * (1 - share) + z**2)
    return Estimate(float(share), float(centre - reach) if part else 0.0,
                    float(centre + reach) if part < whole else 1.0)


def difference(first: Estimate, second: Estimate) -> Estimate:
    """``second`` minus ``first``, two independent shares with `wilson` intervals (Newcombe 1998, method 10)."""
    value = second.value - first.value
    return Estimate(value, value - float(np.hypot(second.value - second.low, first.high - first.value)),
                    value + float(np.hypot(second.high - second.value, first.value - first.low)))


def share_table(groups: Mapping[str, np.ndarray]) -> pd.DataFrame:
    """Share of True in each bool array (`wilson`): value, low, high, images; empty arrays are left out."""
    rows = {}
    for name, values in groups.items():
        if len(values):
            share = wilson(np.sum(values), len(values))
            rows[name] = (share.value, share.low, share.high, len(values))
    return pd.DataFrame.from_dict(rows, orient="index", columns=["value", "low", "high", "images"])


def resample(values: np.ndarray, bootstraps: int = BOOTSTRAPS, seed: int = 0) -> np.ndarray:
    """float64 (B, D): sums of float ``values`` (N, D) over rows drawn with replacement (bootstrap, Efron 1979)."""
    random, count = np.random.default_rng(seed), len(values)
    return np.stack([np.bincount(random.integers(0, count, count), minlength=count) @ values
                     for _ in range(bootstraps)])


def percentiles(value: float, samples: np.ndarray | list[float]) -> Estimate:
    """``value`` with the middle 95% of its bootstrap ``samples`` (B,) as interval."""
    low, high = np.quantile(samples, (0.025, 0.975))
    return Estimate(float(value), float(low), float(high))


def bootstrap_mean(values: np.ndarray, bootstraps: int = BOOTSTRAPS, seed: int = 0) -> Estimate:
    """The mean of float ``values`` (N,), N ≥ 1, with a percentile bootstrap interval."""
    values = np.asarray(values, np.float64)
    return percentiles(values.mean(), resample(values[:, None], bootstraps, seed)[:, 0] / len(values))


def holm(p_values: np.ndarray) -> np.ndarray:
    """p-values of any shape, adjusted so that the chance of even one false finding stays at the level (Holm 1979)."""
    flat = np.asarray(p_values, float).ravel()
    order = np.argsort(flat)
    adjusted = np.empty_like(flat)
    adjusted[order] = np.maximum.accumulate(flat[order] * np.arange(len(flat), 0, -1)).clip(max=1)
    return adjusted.reshape(np.shape(p_values))
