"""Means of correlated measurements: the integrated autocorrelation time, and errors that know of it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from spinloom.errors import BadInput

WINDOW = 6.0
"""Lags are summed up to this many τ: of an exponential all but e⁻⁶ of τ (Sokal finds 4 to 6 sensible)."""

FLOOR = 2.0
"""The least τ the window is taken for, so that correlation of alternating sign is seen too."""

LEAST = 100.0
"""Steps a chain must have for every τ: τ itself is then known to a fifth or better, even from one chain. With the
convention 2τ of other programs these are the usual fifty."""

DISAGREEMENT = 4.5
"""Standard deviations by which the scatter of the chains' means may exceed what τ allows."""


@dataclass(frozen=True)
class Estimate:
    """The mean of an observable along Markov chains, with one standard error.

    ``tau`` is the integrated autocorrelation time in steps (1/2 for independent values), ``tau_error`` its own
    standard error, ``window`` the lag its sum stops at, ``effective`` the number of independent values that would
    give the same error. ``spread`` is χ² per degree of freedom of the chains' means about the mean: near 1 where
    the chains agree; NaN for one chain.
    """

    mean: float
    error: float
    tau: float
    tau_error: float
    window: int
    effective: float
    spread: float
    chains: int
    steps: int


def autocorrelation(series: Any) -> np.ndarray:
    r"""ρ(t) of measurements (steps,) or (chains, steps), for t = 0 … steps − 1.

    .. math:: \rho(t) = \Gamma(t)/\Gamma(0), \qquad
              \Gamma(t) = \frac1{m (n - t)}\sum_{k=1}^m\sum_{s=1}^{n-t}(x_{k,s} - \bar x)(x_{k,s+t} - \bar x)

    with one mean x̄ for all m chains of n steps, so that chains which disagree show as correlation that stays.

    Source: Wolff, Comput. Phys. Commun. 156, 143 (2004), hep-lat/0306017, eq. (31), for equally long replica.

    Raises:
        BadInput: not one or two axes, fewer than 2 steps, values that are not finite or all the same.
    """
    covariance, _ = _covariance(_values(series))
    return covariance / covariance[0]


def estimate(series: Any, window: float | int = WINDOW, least: float | int = LEAST) -> Estimate:
    r"""Mean and standard error of measurements (steps,) or (chains, steps), in equilibrium, equally spaced.

    .. math::
        \tau = \tfrac12 + \sum_{t=1}^{M}\rho(t), \qquad
        \sigma^2(\bar x) = \frac{2\tau\,\Gamma(0)}{mn}, \qquad
        n_{\rm eff} = \frac{mn}{2\tau}

    M is the smallest lag with M ≥ ``window``·max(τ(M), 2) (Sokal's automatic window). The mean is estimated from the
    same values, which lowers every Γ(t) by σ²; that is put back.

    Source: Sokal, "Monte Carlo methods in statistical mechanics", in: Functional Integration (Plenum, 1997),
    section 3; Wolff, Comput. Phys. Commun. 156, 143 (2004), hep-lat/0306017: eq. (35) for σ², (42) for the error
    of τ, (49) for the bias.

    Raises:
        BadInput: as :func:`autocorrelation`; a chain shorter than ``least``·τ, or in which correlation does not
            end; chains whose means disagree by more than τ allows: each has yet to see the whole equilibrium.
    """
    for name, value in (("window", window), ("least", least)):
        if not (isinstance(value, (int, float)) and math.isfinite(value) and value > 0):
            raise BadInput(f"{name}={value}: must be a finite number > 0; leave it out")
    values = _values(series)
    chains, steps = values.shape
    many = chains * steps
    covariance, mean = _covariance(values)
    sums = 0.5 + np.cumsum(covariance[1:] / covariance[0])  # τ(M) for M = 1, 2, …
    lags = np.arange(1, steps)
    enough = np.flatnonzero(lags >= window * np.maximum(sums, FLOOR))
    if not len(enough) or (lag := int(lags[enough[0]])) > steps // 2:
        raise BadInput(f"chain of {steps} steps: correlation does not end within half of it; run it longer")
    tau = float(sums[lag - 1])
    if tau <= 0:
        raise BadInput(f"chain of {steps} steps: the sum of correlations is {tau:.2g}, lost in noise; run it longer")
    variance = float(covariance[0]) * (1 + 2 * tau / many)
    tau *= (1 + (2 * lag + 1) / many) / (1 + 2 * tau / many)
    if steps < least * tau:
        raise BadInput(
            f"chain of {steps} steps: τ = {tau:.3g} leaves {steps / tau:.0f} autocorrelation times of the {least:g} "
            f"that an error needs; run at least {math.ceil(least * tau)} steps"
        )
    squared = 2 * tau * variance / many
    spread = math.nan
    if chains > 1:
        spread = float(values.mean(1).var(ddof=1)) / (squared * chains)
        # χ² to a normal variable: Wilson & Hilferty, Proc. Natl. Acad. Sci. 17, 684 (1931)
        part = 2 / (9 * (chains - 1))
        if (spread ** (1 / 3) - 1 + part) / math.sqrt(part) > DISAGREEMENT:
            raise BadInput(
                f"{chains} chains: their means scatter by {math.sqrt(spread):.2g} times what τ = {tau:.3g} allows; "
                "they have not seen the same equilibrium, run them longer"
            )
    return Estimate(
        mean=mean,
        error=math.sqrt(squared),
        tau=tau,
        tau_error=tau * math.sqrt(4 * max(lag + 0.5 - tau, 0.5) / many),
        window=lag,
        effective=many / (2 * tau),
        spread=spread,
        chains=chains,
        steps=steps,
    )


def _values(series: Any) -> np.ndarray:
    values = np.asarray(series, dtype=np.float64)
    if values.ndim not in (1, 2):
        raise BadInput(f"series of shape {values.shape}: need (steps,) or (chains, steps)")
    values = np.atleast_2d(values)
    if values.shape[0] < 1 or values.shape[1] < 2:
        raise BadInput(f"series of {values.shape[1]} steps in {values.shape[0]} chains: need 2 steps or more")
    if not np.isfinite(values).all():
        raise BadInput("series: holds NaN or infinity; leave those measurements out")
    if not np.ptp(values):
        raise BadInput(f"series: all values are {values[0, 0]:g}; without fluctuation there is no error, measure more")
    return values


def _covariance(values: np.ndarray) -> tuple[np.ndarray, float]:
    """Γ(t) for t = 0 … steps − 1, by Fourier transform, and the mean."""
    steps = values.shape[1]
    mean = float(values.mean())
    length = 2 ** math.ceil(math.log2(2 * steps))  # zeros behind the chain keep its end from its beginning
    total = np.zeros(steps)
    for chain in values:
        power = np.abs(np.fft.rfft(chain - mean, length)) ** 2
        total += np.fft.irfft(power, length)[:steps]
    return total / (len(values) * np.arange(steps, 0, -1)), mean
