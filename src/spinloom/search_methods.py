"""Ways to search latent space, as coroutines: each yields codes to be judged and is sent what they are worth.

A method yields ``(codes, slopes wanted)``, codes (p, n) in float64, and is sent ``(values, slopes)``: values
(p, k), one column a goal, all to be minimised, and slopes (p, n), the gradient of the goal in z, or None. It
has no other input than its arguments, so one that is sent the same values asks for the same codes, bit for bit:
an interrupted search goes on by being told again what it was told.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import numpy as np

Asked = tuple[np.ndarray, bool]
Told = tuple[np.ndarray, np.ndarray | None]
Method = Generator[Asked, Told, np.ndarray]

RATE = 0.1
"""Adam's step in z, whose components are of order 1."""

SIGMA = 0.5
"""CMA-ES's first step, in standard deviations of the prior."""


Cells = tuple[int, int]
"""Rows and columns of a code that is laid out as a grid: (n/(h·w), h, w), flattened."""


def genetic(
    start: np.ndarray, bound: float, seed: int, goals: int, generations: int, cells: Cells | None = None
) -> Method:
    """A genetic algorithm from the codes ``start`` (p, n), as the paper searches; NSGA-II if goals are several.

    pymoo's own settings: tournaments of two, simulated binary crossover, polynomial mutation, the p fittest of
    parents and children live on. Half of the matings of codes on a grid of ``cells`` exchange patches instead
    (:func:`exchange_patches`). Returns the last codes.

    Source: Deb et al., IEEE Trans. Evol. Comput. 6, 182 (2002) for NSGA-II; the paper's section "Applications of
    the hybrid model".
    """
    from pymoo.algorithms.moo.nsga2 import NSGA2
    from pymoo.algorithms.soo.nonconvex.ga import GA
    from pymoo.core.evaluator import Evaluator
    from pymoo.core.problem import Problem
    from pymoo.core.termination import NoTermination
    from pymoo.problems.static import StaticProblem

    problem = Problem(n_var=start.shape[1], n_obj=goals, xl=-bound, xu=bound)
    # outside the bounds, the crossover would take roots of negative numbers
    first: Any = start.clip(-bound, bound)
    kind = GA if goals == 1 else NSGA2
    if cells is None:
        algorithm = kind(pop_size=len(start), sampling=first)
    else:
        algorithm = kind(pop_size=len(start), sampling=first, crossover=_crossover(cells))
    algorithm.setup(problem, termination=NoTermination(), seed=seed)
    codes = start
    for _ in range(generations):
        children = algorithm.ask()
        if children is None or len(children) == 0:  # all alike: nothing new comes of them
            break
        codes = np.asarray(children.get("X"), np.float64)
        values, _ = yield codes, False
        Evaluator().eval(StaticProblem(problem, F=values), children)
        algorithm.tell(infills=children)
    return codes


def _crossover(cells: Cells) -> Any:
    """pymoo's simulated binary crossover or, half the time, patches."""
    from pymoo.operators.crossover.sbx import SBX

    class Patchwork(SBX):
        def _do(self, problem: Any, X: np.ndarray, *args: Any, random_state: Any = None, **kwargs: Any) -> np.ndarray:
            children = super()._do(problem, X, *args, random_state=random_state, **kwargs)
            for mating in np.flatnonzero(random_state.random(X.shape[1]) < 0.5):
                children[:, mating] = exchange_patches(X[:, mating], cells, random_state)
            return children

    return Patchwork()


def exchange_patches(parents: np.ndarray, cells: Cells, random: np.random.Generator) -> np.ndarray:
    """Two codes (2, n) that have exchanged a rectangle of cells, anywhere on the torus, from anywhere else.

    Where a generator is a convolution of its code, a patch of the code is a patch of the texture wherever it is: the
    good parts of two textures, not only the numbers of two codes, come together.
    """
    height, width = cells
    one, other = parents.reshape(2, -1, height, width)
    other = np.roll(other, (random.integers(height), random.integers(width)), (1, 2))
    rows = (np.arange(height) - random.integers(height)) % height < random.integers(1, max(2, height))
    columns = (np.arange(width) - random.integers(width)) % width < random.integers(1, max(2, width))
    patch = rows[:, None] & columns[None]
    return np.stack((np.where(patch, other, one), np.where(patch, one, other))).reshape(2, -1)


def covariance(start: np.ndarray, bound: float, seed: int, population: int, generations: int) -> Method:
    """CMA-ES, which learns a normal distribution of good codes, from the best of the codes ``start`` (p, n).

    Source: Hansen & Ostermeier, Evol. Comput. 9, 159 (2001); the library cma.
    """
    import cma

    values, _ = yield start, False
    generator = np.random.default_rng(seed)
    options = {
        "bounds": [-bound, bound],
        "popsize": population,
        "randn": lambda *shape: generator.standard_normal(shape),
        "seed": np.nan,  # the library is not to touch NumPy's global state
        "verbose": -9,
    }
    best = start[values[:, 0].argmin()]
    strategy = cma.CMAEvolutionStrategy(best.clip(-0.99 * bound, 0.99 * bound), SIGMA, options)
    codes = start
    for _ in range(generations):
        drawn = strategy.ask()
        codes = np.array(drawn)
        values, _ = yield codes, False
        strategy.tell(drawn, values[:, 0].tolist())
    return codes


def gradient(start: np.ndarray, bound: float, steps: int) -> Method:
    """Adam on every code of ``start`` (p, n) at once, through the decoder; returns the best of each one's way.

    Source: Kingma & Ba, arXiv:1412.6980, its β₁ = 0.9 and β₂ = 0.999.
    """
    codes = start.clip(-bound, bound)
    best, least = codes, np.full(len(codes), np.inf)
    first, second = np.zeros_like(codes), np.zeros_like(codes)
    for step in range(1, steps + 1):
        values, slopes = yield codes, True
        assert slopes is not None
        better = values[:, 0] < least
        best, least = np.where(better[:, None], codes, best), np.where(better, values[:, 0], least)
        first = 0.9 * first + 0.1 * slopes
        second = 0.999 * second + 0.001 * slopes**2
        mean, square = first / (1 - 0.9**step), second / (1 - 0.999**step)
        codes = (codes - RATE * mean / (np.sqrt(square) + 1e-12)).clip(-bound, bound)
    return best


def genetic_with_head_start(
    start: np.ndarray,
    ahead: int,
    steps: int,
    bound: float,
    seed: int,
    generations: int,
    cells: Cells | None = None,
) -> Method:
    """:func:`genetic` for one goal, the first ``ahead`` codes of ``start`` moved before by :func:`gradient`."""
    moved = yield from gradient(start[:ahead], bound, steps)
    return (yield from genetic(np.concatenate((moved, start[ahead:])), bound, seed, 1, generations, cells))
