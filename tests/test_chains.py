"""Estimates from correlated series whose autocorrelation time and error are known exactly."""

import math

import numpy as np
import pytest
import torch

from spinloom.chains import Estimate, autocorrelation, estimate
from spinloom.errors import BadInput


def ar1(a: float, chains: int, steps: int, seed: int) -> np.ndarray:
    """x' = a x + √(1 − a²) ξ from its stationary law: mean 0, variance 1, ρ(t) = aᵗ, τ = (1 + a)/(2 (1 − a))."""
    draw = np.random.default_rng(seed)
    x = np.empty((chains, steps))
    x[:, 0] = draw.standard_normal(chains)
    for t in range(1, steps):
        x[:, t] = a * x[:, t - 1] + math.sqrt(1 - a * a) * draw.standard_normal(chains)
    return x


@pytest.mark.parametrize("a", [0.0, 0.5, 0.9, 0.97, -0.3, -0.6])
def test_the_exact_time_of_an_autoregressive_chain(a):
    exact = (1 + a) / (2 * (1 - a))
    found = estimate(ar1(a, 40, 8000, 1))
    assert abs(found.tau - exact) < 4 * found.tau_error + math.exp(-6) * exact
    assert found.tau_error < 0.06 * exact + 0.01
    assert abs(found.mean) < 4 * found.error
    assert found.error == pytest.approx(math.sqrt(2 * exact / (40 * 8000)), rel=0.1)
    assert found.effective == pytest.approx(40 * 8000 / (2 * exact), rel=0.1)
    assert (found.chains, found.steps) == (40, 8000)


@pytest.mark.parametrize("chains", [1, 8])
def test_errors_cover_as_they_should(chains):
    """|mean|/error over 400 repetitions has the quantiles of a normal variable, and is not that of naive errors."""
    pulls, naive = [], []
    for x in ar1(0.8, 400 * chains, 1600, 11).reshape(400, chains, 1600):
        found = estimate(x)
        pulls.append(found.mean / found.error)
        naive.append(found.mean / (x.std() / math.sqrt(x.size)))
    assert np.mean(np.abs(pulls) < 1) == pytest.approx(0.683, abs=4 * math.sqrt(0.683 * 0.317 / 400))
    assert np.mean(np.abs(pulls) < 2) == pytest.approx(0.954, abs=4 * math.sqrt(0.954 * 0.046 / 400))
    assert np.mean(np.abs(naive) < 1) < 0.45  # √(2τ) = 3 times too small


def test_the_error_of_tau_covers_too():
    pulls = []
    for x in ar1(0.7, 300 * 4, 1500, 12).reshape(300, 4, 1500):
        found = estimate(x)
        pulls.append((found.tau - 1.7 / 0.6) / found.tau_error)
    assert np.mean(np.abs(pulls) < 1) == pytest.approx(0.683, abs=0.12)
    assert abs(np.mean(pulls)) < 0.3


def test_autocorrelation_is_the_plain_sum():
    x = ar1(0.6, 3, 50, 2)
    d = x - x.mean()
    plain = [np.mean(d[:, : 50 - t] * d[:, t:]) for t in range(50)]
    np.testing.assert_allclose(autocorrelation(x), np.array(plain) / plain[0], atol=1e-12)
    np.testing.assert_allclose(autocorrelation(x[0])[0], 1)


def test_shift_and_scale():
    x = ar1(0.5, 5, 2000, 3)
    plain, moved = estimate(x), estimate(7 - 1e-3 * x)
    assert moved.mean == pytest.approx(7 - 1e-3 * plain.mean, abs=1e-12)
    assert moved.error == pytest.approx(1e-3 * plain.error, rel=1e-9)
    assert moved.tau == pytest.approx(plain.tau, rel=1e-9)


def test_thinning_costs_no_precision_until_values_are_independent():
    x = ar1(0.95, 20, 20000, 4)
    every, fifth = estimate(x), estimate(x[:, ::5])
    assert fifth.tau == pytest.approx(every.tau / 5, rel=0.1)
    assert fifth.error == pytest.approx(every.error, rel=0.1)


def test_takes_tensors_and_one_chain():
    x = ar1(0.5, 1, 4000, 5)
    one = estimate(torch.from_numpy(x[0]))
    assert isinstance(one, Estimate) and one.chains == 1 and math.isnan(one.spread)
    assert one.mean == pytest.approx(x.mean()) and one.error == estimate(x).error


def test_short_chains_are_refused():
    x = ar1(0.9, 1, 400, 6)[0]  # τ = 9.5
    with pytest.raises(BadInput, match=r"run at least \d+ steps"):
        estimate(x)
    assert estimate(x, least=20).steps == 400
    walk = np.cumsum(np.random.default_rng(7).standard_normal(3000))
    with pytest.raises(BadInput, match="chain of 3000 steps"):
        estimate(walk)


def test_many_short_chains_do_not_make_a_long_one():
    with pytest.raises(BadInput, match="autocorrelation times"):
        estimate(ar1(0.9, 200, 400, 8))


def test_chains_stuck_in_different_states_are_refused():
    """Means a third of the fluctuation apart: too little for the correlation to show it, not for the means."""
    x = ar1(0.3, 10, 4000, 9)
    assert estimate(x).spread < 3
    with pytest.raises(BadInput, match="scatter"):
        estimate(x + 0.1 * np.arange(10)[:, None] / 3)
    with pytest.raises(BadInput, match="chain"):
        estimate(x + np.arange(10)[:, None])


def test_a_drift_is_refused():
    with pytest.raises(BadInput, match="chain of 4000 steps"):
        estimate(ar1(0.3, 4, 4000, 10) + np.linspace(0, 8, 4000))


@pytest.mark.parametrize(
    ("series", "names"),
    [
        (np.zeros((2, 3, 4)), "shape (2, 3, 4)"),
        ([1.0], "1 steps"),
        (np.zeros((0, 5)), "0 chains"),
        ([1.0, math.nan, 2.0], "NaN"),
        ([2.0] * 100, "all values are 2"),
    ],
)
def test_refusals_name_the_value(series, names):
    for question in (estimate, autocorrelation):
        with pytest.raises(BadInput) as refusal:
            question(series)
        assert names in str(refusal.value)


@pytest.mark.parametrize("name", ["window", "least"])
def test_settings_must_be_positive(name):
    with pytest.raises(BadInput, match=f"{name}=0"):
        estimate(np.random.default_rng(0).standard_normal(1000), **{name: 0})
