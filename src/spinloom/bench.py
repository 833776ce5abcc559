"""``spinloom bench``: how fast this machine is, how near to a plain C program, how far from other programs."""

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

from spinloom.anneal import anneal, available_threads, relax
from spinloom.errors import BadInput
from spinloom.hamiltonian import Hamiltonian, as_size
from spinloom.peers import PEERS, Worker, version
from spinloom.progress import progress
from spinloom.schedule import DEFAULT_SCHEDULE, Schedule, Step
from spinloom.timing import median_ratio

YARDSTICK = Path(__file__).parents[2] / "benchmarks" / "yardstick" / "annealer.c"

SWEEPS = 2000
RACES = {
    "heat_bath": Schedule((Step(0.5, heat_bath=SWEEPS),)),
    "over_relax": Schedule((Step(0.5, over_relax=SWEEPS),)),
    "align": Schedule((Step(relax=SWEEPS),)),
    "schedule": DEFAULT_SCHEDULE,
}
"""What is timed: each kind of sweep alone, and the default schedule."""

TOLERANCES = (1e-4, 1e-5)
"""How near, in J a site, a relaxation comes to the energy where the default schedule's relaxation ends."""

LLG_ROUNDS = 3
"""Pairs of relaxations: one of the LLG equation takes seconds."""


def bench_anneal(
    yardstick: bool = True,
    size: int = 128,
    rounds: int = 7,
    threads: int | None = None,
    peers: bool = False,
    show: bool = False,
) -> dict[str, Any]:
    """Million site updates a second at J = 1, D = 0.3: every kind of sweep on one core, the schedule on all.

    One core is timed by the process's own clock, several (``threads``) by the clock on the wall. With
    ``yardstick`` the C program of the source tree is compiled and the two take turns, so that whatever else the
    machine does falls on both; ``ratio`` is the median over the rounds of our rate over its, above 1 where we are
    faster. Without a compiler, or outside a source tree, ``yardstick`` is None and ``note`` says why.

    With ``peers`` the programs of :mod:`spinloom.peers` take turns with ours in the same way, see :func:`race_peers`.

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
        "ratio": {name: median_ratio(ours[name], theirs[name]) for name in RACES} if program else None,
        "note": note,
        "peers": race_peers(size, rounds, show) if peers else None,
    }


NOTES = {
    "spirit": "E/N by its own sweeps, started from one of our textures",
    "spinmc": "exchange only, so both at D = 0",
    "magnumnp": "float32 like ours, LLG with damping alone; relaxations start at T = 0.01 and end that near, in J a "
    "site, to the energy where 500 alignment sweeps end",
}
"""What to know of each peer's races."""


def race_peers(size: int = 128, rounds: int = 7, show: bool = False) -> list[dict[str, Any]]:
    """Every peer's races on one core each at J = 1, D = 0.3 (spinmc: D = 0, it has no DMI), alternated with ours.

    A race is ``what``, ``unit``, ``theirs``, ``ours``, both medians over the rounds, and ``ratio``, the median of how
    many times faster we are; of energies, means with their standard errors, the ratio is None. A peer that is not
    installed, or that fails, has no races and a ``note``.
    """
    found: list[dict[str, Any]] = []
    with progress("racing", len(PEERS), "programs", show) as advance:
        for name, program in PEERS.items():
            peer = {"peer": program, "pip": name, "version": version(name), "races": []}
            if peer["version"] is None:
                peer["note"] = f"not installed; pip install {name}"
            else:
                D = 0.0 if name == "spinmc" else 0.3
                try:
                    with Worker(name, J=1.0, D=D, size=as_size(size)) as worker:
                        peer["races"] = PEER_RACES[name](worker, size, rounds)
                    peer["note"] = NOTES[name]
                except RuntimeError as error:
                    peer["note"] = f"failed: {error}"
            found.append(peer)
            advance(1)
    return found


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
    if result["peers"] is not None:
        _print_peers(console, result["peers"])


def _print_peers(console: Any, peers: list[dict[str, Any]]) -> None:
    from rich.table import Table

    table = Table(title="beside other programs, one core each", caption="times faster: above 1 where spinloom is")
    for column in ("", "race", "theirs", "spinloom", "times faster"):
        table.add_column(column, justify="left" if column in ("", "race") else "right")
    for peer in peers:
        label = f"{peer['peer']} {peer['version']}"
        for race in peer["races"]:
            ratio = f"{race['ratio']:.3g}" if race["ratio"] else "–"
            table.add_row(
                label, f"{race['what']}, {race['unit']}", _number(race["theirs"]), _number(race["ours"]), ratio
            )
            label = ""
        table.add_section()
    if table.row_count:
        console.print(table)
    for peer in peers:
        if peer["note"]:
            console.print(f"{peer['peer']}: {peer['note']}", markup=False)


def _number(value: float | list[float] | None) -> str:
    if value is None:
        return "not reached"
    if isinstance(value, list):
        return f"{value[0]:.4f}({1e4 * value[1]:.0f})"  # the error in units of the last digit
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def _race_metropolis(worker: Worker, size: int, rounds: int) -> list[dict[str, Any]]:
    """A Metropolis sweep of Spirit or spinmc against a heat-bath sweep, and the mean energy both come to."""
    H, T = Hamiltonian(J=1, D=0 if worker.name == "spinmc" else 0.3), 0.5
    sweeps, heat_bath = 50 if worker.name == "spirit" else 400, Schedule((Step(T, heat_bath=SWEEPS),))
    worker.ask("rate", temperature=T, sweeps=2)
    theirs, ours = [], []
    for _ in range(rounds):
        theirs.append(worker.ask("rate", temperature=T, sweeps=sweeps))
        ours.append(_rate(H, size, 1, 1, heat_bath))
    race = {
        "what": f"Metropolis against heat bath, T = {T}, D = {H.D:g}",
        "unit": "M a second",
        "theirs": statistics.median(theirs),
        "ours": statistics.median(ours),
        "ratio": median_ratio(ours, theirs),
    }
    return [race, _mean_energies(worker.name, H, T, min(size, 64))]


def _mean_energies(name: str, H: Hamiltonian, T: float, side: int) -> dict[str, Any]:
    """E/N in equilibrium, each by its own sweeps; Spirit's go on from one of our textures, spinmc takes no start."""
    spins = anneal(H, side, 200, seed=2, schedule=Schedule.constant(T, 300, over_relax=4))
    with Worker(name, J=H.J, D=H.D, size=(side, side)) as worker:
        if name == "spirit":
            begin = {"texture": worker.save(spins[0]), "settle": 300, "sweeps": 200}
        else:
            begin = {"settle": 2000, "sweeps": 4000}
        energies = worker.ask("energies", temperature=T, blocks=4, **begin)
    return {
        "what": f"E/N in equilibrium, {side}², T = {T}, D = {H.D:g}",
        "unit": "J",
        "theirs": _mean(energies),
        "ours": _mean(H.energy(spins).tolist()),
        "ratio": None,
    }


def _race_llg(worker: Worker, size: int, rounds: int) -> list[dict[str, Any]]:
    """Damping by magnum.np against alignment sweeps: single evaluations, then the way down to one energy.

    Both start from one texture of the default cooling, T = 0.01, and go down to within :data:`TOLERANCES` of the
    energy where the default's 500 alignment sweeps end. How long that takes is found first; then only that is timed.
    """
    H = Hamiltonian(J=1, D=0.3)
    texture = anneal(H, size, 1, seed=2, schedule=Schedule.geometric(1, 0.01, steps=200), threads=1)[0]
    file = worker.save(texture)
    end = float(H.energy(relax(texture, H, 500, threads=1).double()))
    goals = [end + tolerance for tolerance in TOLERANCES]
    theirs, ours = [], []
    for _ in range(rounds):
        theirs.append(worker.ask("rate", texture=file, evaluations=40))
        ours.append(_rate(H, size, 1, 1, RACES["align"]))
    races = [
        {
            "what": "LLG right-hand side against alignment sweep",
            "unit": "M a second",
            "theirs": statistics.median(theirs),
            "ours": statistics.median(ours),
            "ratio": median_ratio(ours, theirs),
        }
    ]
    plan = worker.ask("plan", texture=file, goals=goals)
    for method, label in (("llg", "LLG"), ("minimiser", "its minimiser")):
        for tolerance, goal, amount in zip(TOLERANCES, goals, plan[method], strict=True):
            sweeps = _sweeps_to(texture, H, goal)
            theirs, ours = [], []
            for _ in range(min(rounds, LLG_ROUNDS)):
                if amount is not None:
                    theirs.append(worker.ask("relax", texture=file, method=method, amount=amount)["seconds"])
                ours.append(_seconds(texture, H, sweeps))
            races.append(
                {
                    "what": f"down to {tolerance:g} J: {label} against {sweeps} alignment sweeps",
                    "unit": "ms",
                    "theirs": 1e3 * statistics.median(theirs) if theirs else None,
                    "ours": 1e3 * statistics.median(ours),
                    "ratio": median_ratio(theirs, ours) if theirs else None,
                }
            )
    return races


PEER_RACES = {"spirit": _race_metropolis, "spinmc": _race_metropolis, "magnumnp": _race_llg}


def _sweeps_to(texture: torch.Tensor, H: Hamiltonian, goal: float) -> int:
    """The fewest alignment sweeps that bring the energy a site down to ``goal``; there are some, up to 500."""
    low, high = 0, 500  # the energy never rises
    while high - low > 1:
        middle = (low + high) // 2
        reached = float(H.energy(relax(texture, H, middle, threads=1).double())) <= goal
        low, high = (low, middle) if reached else (middle, high)
    return high


def _seconds(texture: torch.Tensor, H: Hamiltonian, sweeps: int) -> float:
    """Of one core for one relaxation, the mean of as many as make a clock's ticks small."""
    times, began = 0, time.process_time()
    while times < 5 or time.process_time() - began < 0.1:
        relax(texture, H, sweeps, threads=1)
        times += 1
    return (time.process_time() - began) / times


def _mean(values: list[float]) -> list[float]:
    """The mean and its standard error."""
    return [statistics.fmean(values), statistics.stdev(values) / len(values) ** 0.5]


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
