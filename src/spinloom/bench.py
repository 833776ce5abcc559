"""``spinloom bench``: how fast this machine is, and how near to a plain C program."""

from __future__ import annotations

import json
import platform
import shutil
import statistics
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from spinloom.anneal import anneal, available_threads
from spinloom.errors import BadInput
from spinloom.hamiltonian import Hamiltonian, as_size
from spinloom.schedule import DEFAULT_SCHEDULE, Schedule, Step

YARDSTICK = Path(__file__).parents[2] / "benchmarks" / "yardstick" / "annealer.c"

SWEEPS = 2000
RACES = {
    "heat_bath": Schedule((Step(0.5, heat_bath=SWEEPS),)),
    "over_relax": Schedule((Step(0.5, over_relax=SWEEPS),)),
    "align": Schedule((Step(relax=SWEEPS),)),
    "schedule": DEFAULT_SCHEDULE,
}
"""What is timed: each kind of sweep alone, and the default schedule."""


def bench_anneal(
    yardstick: bool = True, size: int = 128, rounds: int = 7, threads: int | None = None
) -> dict[str, Any]:
    """Million site updates a second at J = 1, D = 0.3: every kind of sweep on one core, the schedule on all.

    One core is timed by the process's own clock, several (``threads``) by the clock on the wall. With
    ``yardstick`` the C program of the source tree is compiled and the two take turns, so that whatever else the
    machine does falls on both; ``ratio`` is the median over the rounds of our rate over its, above 1 where we are
    faster. Without a compiler, or outside a source tree, ``yardstick`` is None and ``note`` says why.

    Raises:
        BadInput: an odd or small size, or no rounds.
    """
    height, width = as_size(size)
    if not isinstance(rounds, int) or isinstance(rounds, bool) or rounds < 1:
        raise BadInput(f"rounds={rounds}: need a whole number, at least 1; use e.g. rounds=7")
    H = Hamiltonian(J=1, D=0.3)
    many = available_threads() if threads is None else threads
    anneal(H, 4, many, schedule=Schedule.constant(1.0, 1), threads=threads)  # compiles; refuses bad threads
    ours: dict[str, list[float]] = {name: [] for name in (*RACES, "all_threads")}
    theirs: dict[str, list[float]] = {name: [] for name in RACES}
    with tempfile.TemporaryDirectory() as folder:
        program, note = _compiled(Path(folder)) if yardstick else (None, "not raced; --yardstick compiles and races it")
        for _ in range(rounds):
            for name, schedule in RACES.items():
                ours[name].append(_rate(H, size, 1, 1, schedule))
            if many > 1:
                ours["all_threads"].append(_rate(H, size, 2 * many, many, DEFAULT_SCHEDULE))
            if program:
                line = subprocess.run([program, str(size), str(SWEEPS)], capture_output=True, text=True, check=True)
                for name, rate in json.loads(line.stdout).items():
                    if name in theirs:
                        theirs[name].append(rate)
    rates = {name: statistics.median(values) for name, values in ours.items() if values}
    return {
        "unit": "million site updates a second",
        "size": [height, width],
        "machine": platform.processor() or platform.machine(),
        "torch": torch.__version__,
        "rounds": rounds,
        "threads": many,
        "rates": rates,
        "scaling": rates["all_threads"] / rates["schedule"] if "all_threads" in rates else None,
        "yardstick": {name: statistics.median(values) for name, values in theirs.items()} if program else None,
        "ratio": {name: _median_ratio(ours[name], theirs[name]) for name in RACES} if program else None,
        "note": note,
    }


def print_anneal(result: dict[str, Any]) -> None:
    """The numbers of :func:`bench_anneal` as a table."""
    from rich.console import Console
    from rich.table import Table

    height, width = result["size"]
    table = Table(title=f"annealing at {height} × {width}: {result['unit']}, median of {result['rounds']}")
    for column in ("", "spinloom", "C yardstick", "ratio"):
        table.add_column(column, justify="right" if column else "left")
    for name, rate in result["rates"].items():
        c = (result["yardstick"] or {}).get(name)
        label = (
            f"schedule, {result['threads']} threads" if name == "all_threads" else f"{name.replace('_', ' ')}, 1 thread"
        )
        table.add_row(label, f"{rate:.0f}", f"{c:.0f}" if c else "–", f"{result['ratio'][name]:.2f}" if c else "–")
    console = Console()
    console.print(table)
    if result["scaling"]:
        console.print(f"{result['threads']} threads are {result['scaling']:.2f} times one")
    if result["note"]:
        console.print(f"C yardstick: {result['note']}")


def _median_ratio(a: list[float], b: list[float]) -> float:
    return statistics.median(x / y for x, y in zip(a, b, strict=True))


def _rate(H: Hamiltonian, size: int, samples: int, threads: int, schedule: Schedule) -> float:
    clock = time.perf_counter if threads > 1 else time.process_time
    began = clock()
    anneal(H, size, samples, seed=1, schedule=schedule, threads=threads)
    return 1e-6 * samples * size * size * schedule.sweeps / (clock() - began)


def _compiled(folder: Path) -> tuple[str | None, str]:
    """The yardstick's program and an empty note, or None and the reason."""
    compiler = next((found for name in ("cc", "gcc", "clang") if (found := shutil.which(name))), None)
    if compiler is None:
        return None, "no C compiler found (cc, gcc, clang); install one to race against C"
    if not YARDSTICK.exists():
        return None, "its source, benchmarks/yardstick/annealer.c, comes with a source checkout alone"
    program = folder / "annealer"
    command = [compiler, "-O3", "-march=native", "-ffast-math", str(YARDSTICK), "-o", str(program), "-lm"]
    built = subprocess.run(command, capture_output=True, text=True)
    if built.returncode:
        return None, f"{compiler} failed: {(built.stderr.strip() or 'no message').splitlines()[-1]}"
    return str(program), ""
