"""``spinloom bench sample``: textures a second from a generator and a few sweeps, against annealing as low."""

from __future__ import annotations

import math
import statistics
from typing import Any

import torch
from torch import Tensor

from spinloom.anneal import anneal, available_threads
from spinloom.errors import BadInput
from spinloom.hamiltonian import Hamiltonian
from spinloom.run import Run
from spinloom.sample import sample
from spinloom.schedule import Schedule
from spinloom.timing import median_ratio, threads_of, timed
from spinloom.topology import nodal_points

SLOWEST = 400
"""Temperatures of the slowest cooling that is tried: twice the default schedule's."""


def cooling(temperatures: int) -> Schedule:
    """The default schedule, made longer or shorter: 5 sweeps a temperature from 1 to 0.01, 2½ of alignment for each."""
    relax = math.ceil(2.5 * temperatures)
    return Schedule.geometric(1.0, 0.01, steps=temperatures, heat_bath=1, over_relax=4).then_relax(relax)


def bench_sample(run: Run, count: int = 100, relax: int = 20, rounds: int = 5) -> dict[str, Any]:
    """Textures a second by the run's generator and ``relax`` alignment sweeps, and by annealing, in turn.

    The annealing is the shortest :func:`cooling` whose mean ε over ``count`` textures is no higher than that of the
    generator's; ``ratio`` is the median over the rounds of the generator's rate over the annealing's. Sweeps have all
    cores, ``threads``; networks torch's number of threads, ``network_threads``.

    Raises:
        BadInput: the run's Hamiltonian is not known, or a count is too small.
    """
    H = run.hamiltonian
    if H is None:
        raise BadInput(f"{run.path}: was trained on textures of an unknown Hamiltonian; nothing to anneal by")
    if count < 2 or rounds < 1 or relax < 0:
        raise BadInput(f"count={count}, rounds={rounds}, relax={relax}: use at least 2, 1 and 0")
    drawn = sample(run, count, relax=relax)
    goal = float(H.energy_excess(drawn).mean())
    temperatures, annealed = shortest(H, run.size, count, goal)
    schedule = cooling(temperatures)
    seconds: dict[str, list[float]] = {"generator": [], "annealing": []}
    for number in range(rounds):
        seconds["generator"].append(timed(lambda number=number: sample(run, count, seed=number, relax=relax)))
        seconds["annealing"].append(
            timed(lambda number=number: anneal(H, run.size, count, seed=number, schedule=schedule))
        )
    textures = {"generator": drawn, "annealing": annealed}
    energies = {name: float(H.energy_excess(spins).mean()) for name, spins in textures.items()}
    return {
        "unit": "textures a second",
        "run": str(run.path),
        "size": list(run.size),
        "threads": available_threads(),
        "network_threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "rounds": rounds,
        "count": count,
        "relax": relax,
        "rates": {name: count / statistics.median(values) for name, values in seconds.items()},
        "ratio": median_ratio(seconds["annealing"], seconds["generator"]),
        "energy_excess": energies,
        "nodal_points": {name: float(nodal_points(spins).double().mean()) for name, spins in textures.items()},
        "mz_std": {name: float(spins[:, 2].mean((-2, -1)).std()) for name, spins in textures.items()},
        "schedule": {
            "temperatures": temperatures,
            "sweeps": schedule.sweeps,
            "reached": energies["annealing"] <= goal,
        },
    }


def shortest(H: Hamiltonian, size: tuple[int, int], count: int, goal: float) -> tuple[int, Tensor]:
    """The least number of temperatures (to :data:`SLOWEST`) at which :func:`cooling` reaches ``goal``; the textures.

    By bisection: mean energies fall with slower cooling, but for the noise of ``count`` textures.
    """

    def cooled(temperatures: int) -> Tensor:
        return anneal(H, size, count, seed=0, schedule=cooling(temperatures))

    low, high = 0, 1
    found = cooled(high)
    while float(H.energy_excess(found).mean()) > goal:
        if high == SLOWEST:
            return high, found
        low, high = high, min(2 * high, SLOWEST)
        found = cooled(high)
    while high - low > 1:
        middle = (low + high) // 2
        tried = cooled(middle)
        if float(H.energy_excess(tried).mean()) > goal:
            low = middle
        else:
            high, found = middle, tried
    return high, found


def print_sample(result: dict[str, Any]) -> None:
    """The numbers of :func:`bench_sample` as a table."""
    from rich.console import Console
    from rich.table import Table

    height, width = result["size"]
    table = Table(title=f"{height} × {width}, {threads_of(result)}, median of {result['rounds']}")
    for column in ("", "textures a second", "ε", "nodal points", "M_z std"):
        table.add_column(column, justify="right" if column else "left")
    how = {
        "generator": f"generator + {result['relax']} sweeps",
        "annealing": f"annealing, {result['schedule']['sweeps']} sweeps",
    }
    for name, words in how.items():
        table.add_row(
            words,
            f"{result['rates'][name]:.4g}",
            f"{result['energy_excess'][name]:.5f}",
            f"{result['nodal_points'][name]:.3f}",
            f"{result['mz_std'][name]:.4f}",
        )
    console = Console()
    console.print(table)
    if result["schedule"]["reached"]:
        console.print(f"the generator is {result['ratio']:.3g} times as fast")
    else:
        console.print("no annealing that was tried gets as low")
