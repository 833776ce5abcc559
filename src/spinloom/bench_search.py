"""``spinloom bench search``: what a search finds, beside other ways to look, each given the same wall time."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from spinloom.anneal import anneal, available_threads
from spinloom.anneal import relax as align
from spinloom.errors import BadInput
from spinloom.findings import Found, settle
from spinloom.goals import Goal, goals
from spinloom.hamiltonian import Hamiltonian
from spinloom.optimise import SWEEPS
from spinloom.run import Run
from spinloom.schedule import Schedule
from spinloom.search import search
from spinloom.spiral import ground_state
from spinloom.timing import threads_of, timed
from spinloom.topology import nodal_points

CLOSE = 1e-5
"""Distance from the exact ground state, in units of J, that counts as having found it."""

MOST_TRIED = 1 << 12
"""Rounds of a try of :func:`fitting` at most."""

FIELD = 0.5
"""Of the field-cooled annealing, in units of D²/J: there skyrmion lattices are the ground state."""


def bench_search(
    run: Run, objective: str = "min-energy", seeds: int = 3, H: Hamiltonian | None = None
) -> dict[str, Any]:
    """What :func:`spinloom.search.search` finds with each seed, and what others find in as many seconds.

    - ``genetic``: the search as it is by default; its wall time is what the others get.
    - ``genetic, no head start``: the paper's way, as many generations as fit; for goals with a gradient.
    - ``gradient``: Adam from the genetic algorithm's first codes, as many steps as fit.
    - ``cma``: CMA-ES, as many generations as fit.
    - ``annealing, many``: the default schedule, as many textures as fit, the best of them.
    - ``annealing, slow``: one texture a core, cooled as slowly as fits.
    - ``annealing in a field``: for M_z, as ``many``, in ±½D²/J, which is switched off before relaxing.

    All answers are relaxed by as many sweeps as the search's, and settled. ``values`` are the objective after
    relaxing, ``settled`` after settling, with the nodal points left after relaxing, a list over the seeds each.

    Raises:
        BadInput: an objective that is not known by name or is about nodal points, no Hamiltonian, no seeds.
    """
    model = run.hamiltonian if H is None else H
    if model is None:
        raise BadInput(f"{run.path}: was trained on textures of an unknown Hamiltonian; nothing to anneal by, give H")
    if seeds < 1:
        raise BadInput(f"seeds={seeds}: use 1 or more")
    (goal,) = goals(objective, run, model)
    if goal.defects:
        raise BadInput(f"objective={objective!r}: every annealed texture is without nodal points; nothing to race")
    rows: dict[str, dict[str, list[Any]]] = {}

    def note(name: str, seconds: float, relaxed: Tensor, z: Tensor | None = None) -> None:
        cost = goal(relaxed).double().cpu() + nodal_points(relaxed).double() * 1e3  # a plain one, if there is one
        best = relaxed[int(cost.argmin())][None]
        at_rest = settle(best, model)
        row = rows.setdefault(name, {"values": [], "settled": [], "nodal_points": [], "seconds": [], "norm": []})
        row["values"].append(float(goal.of(best)))
        row["settled"].append(float(goal.of(at_rest)))
        row["nodal_points"].append(int(nodal_points(best)))
        row["seconds"].append(seconds)
        if z is not None:
            row["norm"].append(float(z.norm()) / z.numel() ** 0.5)

    for seed in range(seeds):
        found: list[Found] = []

        def look(seed: int = seed, found: list[Found] = found, **settings: Any) -> float:
            def once() -> None:
                one = search(run, model, objective, seed=seed, **settings)
                assert isinstance(one, Found)
                found.append(one)

            return timed(once)

        if seed == 0:
            look(generations=1)  # what is imported and compiled first is nobody's time
        limit = look()
        note("genetic", limit, found[-1].spins[None], found[-1].z)
        others: dict[str, dict[str, Any]] = {"cma": {"method": "cma"}}
        if goal.smooth:
            others["genetic, no head start"] = {"head_start": 0}
            others["gradient"] = {"method": "gradient"}
        for name, settings in others.items():
            generations = fitting(lambda count, s=settings: look(generations=count, **s), limit)
            note(name, look(generations=generations, **settings), found[-1].spins[None], found[-1].z)
        for name, seconds, spins in _annealings(model, run.size, goal, seed, limit):
            note(name, seconds, align(spins, model, SWEEPS))

    exact = None
    if objective == "min-energy" and model.B == 0 and model.K == 0:
        exact = ground_state(model, run.size)
    return {
        "run": str(run.path),
        "size": list(run.size),
        "objective": objective,
        "seeds": seeds,
        "relax": SWEEPS,
        "threads": available_threads(),
        "network_threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "ground_state": None if exact is None else exact.energy_excess,
        "rows": rows,
        "summary": {name: _summary(row, goal, exact and exact.energy_excess) for name, row in rows.items()},
    }


def fitting(work: Callable[[int], float], limit: float, few: int = 2, more: int = 6) -> int:
    """How many rounds of ``work`` (rounds → seconds) fit into ``limit`` seconds, by short tries.

    The second try is made longer until it takes an eighth of the limit more than the first: a smaller difference may
    be the machine's mood, and a rate that is far too high would keep the race running for hours.
    """
    short, longer = work(few), work(more)
    while longer - short < limit / 8 and more < MOST_TRIED:
        more *= 2
        longer = work(more)
    each = max((longer - short) / (more - few), 1e-4)
    return max(1, int((limit - short) / each) + few)


def _annealings(H: Hamiltonian, size: tuple[int, int], goal: Goal, seed: int, limit: float):
    """(name, seconds, textures) of each way to anneal for ``limit`` seconds."""
    threads = available_threads()
    spins: list[Tensor] = []

    def cool(model: Hamiltonian, samples: int, temperatures: int) -> float:
        schedule = Schedule.geometric(1.0, 0.01, steps=temperatures, heat_bath=1, over_relax=4).then_relax(500)
        return timed(lambda: spins.append(anneal(model, size, samples, seed=seed, schedule=schedule)))

    each = cool(H, threads, 200)
    many = max(1, int(limit / each)) * threads
    yield "annealing, many", cool(H, many, 200), spins[-1]
    slow = fitting(lambda count: cool(H, threads, count), limit, 20, 200)
    yield "annealing, slow", cool(H, threads, slow), spins[-1]
    if goal.name.endswith("-mz"):
        field = FIELD * H.D**2 / H.J * -goal.sign
        in_field = Hamiltonian(H.J, H.D, H.dmi, H.B + field, H.K)
        yield "annealing in a field", cool(in_field, many, 200), spins[-1]


def _summary(row: dict[str, list[Any]], goal: Goal, exact: float | None) -> dict[str, Any]:
    best = min if goal.sign > 0 else max
    said: dict[str, Any] = {
        "best": best(row["values"]),
        "median": statistics.median(row["values"]),
        "settled_best": best(row["settled"]),
        "settled_median": statistics.median(row["settled"]),
        "with_nodal_points": sum(count > 0 for count in row["nodal_points"]),
        "seconds": statistics.median(row["seconds"]),
    }
    if exact is not None:
        said["ground_states"] = sum(value - exact < CLOSE for value in row["settled"])
    return said


def print_search(result: dict[str, Any]) -> None:
    """The numbers of :func:`bench_search` as a table."""
    from rich.box import SIMPLE
    from rich.console import Console
    from rich.table import Table

    height, width = result["size"]
    exact = result["ground_state"]
    title = f"{result['objective']}, {height} × {width}, {result['seeds']} seeds, {threads_of(result)}"
    table = Table(title=title, box=SIMPLE)
    heads = ["best", "median", "settled", "nodal", "s"] + (["exact"] if exact is not None else [])
    table.add_column("", no_wrap=True)
    for head in heads:
        table.add_column(head, justify="right", no_wrap=True)
    for name, said in result["summary"].items():
        cells = [f"{said[key]:.6f}" for key in ("best", "median", "settled_best")]
        cells += [f"{said['with_nodal_points']}", f"{said['seconds']:.1f}"]
        if exact is not None:
            cells.append(f"{said['ground_states']}")
        table.add_row(name, *cells)
    console = Console()
    console.print(table)
    words = f"values after {result['relax']} sweeps; settled: the best at rest; nodal: answers with nodal points"
    if exact is not None:
        words += f"; exact: answers that settle within {CLOSE:g} of the ground state, ε = {exact:.6f}"
    console.print(words, highlight=False)
