"""The GPU sweep on a real GPU: is it the CPU's, and how fast.  ``python benchmarks/gpu.py [--quick] [--out FILE]``

Needs a CUDA build of torch (which brings ``cuda.bindings`` and NVRTC), numba, safetensors and rich; the package is
found beside this file if it is not installed. One JSON object goes to standard output (and to FILE), what is
being done to standard error. Exit code 1: a check failed.

- parity: short schedules against ``sweep.py``, with the same random numbers, for every kind of DMI, B, K and both
  kernels; bits of the two kernels and of any batch are the same.
- energies: equilibrium at five (D, T) on both devices, within 3 σ of each other and of the references.
- labyrinths: the default schedule's textures from both devices: means within 3 σ, distributions by Kolmogorov-Smirnov.
- rates: every kind of sweep alone, blocks of 256, 512 and 1,024 threads, sizes from 32² to 512², and the job itself:
  40,000 × 128².
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "src"))

import numpy as np  # noqa: E402
import torch  # noqa: E402

from spinloom import sweep_cuda  # noqa: E402
from spinloom.anneal import anneal  # noqa: E402
from spinloom.hamiltonian import Hamiltonian  # noqa: E402
from spinloom.measure import measure  # noqa: E402
from spinloom.random import texture_key  # noqa: E402
from spinloom.schedule import DEFAULT_SCHEDULE, Schedule, Step  # noqa: E402
from spinloom.sweep import align, heat_bath, over_relax, random_start  # noqa: E402
from spinloom.sweep_numba import Program  # noqa: E402

MODELS = {
    "exchange": Hamiltonian(J=1, D=0),
    "interfacial": Hamiltonian(J=1, D=0.3),
    "bulk in a field": Hamiltonian(J=2, D=-0.6, dmi="bulk", B=0.1),
    "easy axis": Hamiltonian(J=1, D=0.4, B=-0.2, K=0.5),
    "easy plane, bulk": Hamiltonian(J=1, D=0.4, dmi="bulk", B=0.1, K=-0.5),
}
SHORT = {
    "hot": (Schedule((Step(1e9, 1),)), 3e-5),
    "heat bath": (Schedule((Step(0.7, 1),)), 3e-4),
    "cold": (Schedule((Step(0.02, 1),)), 3e-4),
    "over-relax": (Schedule((Step(0.7, 0, 1),)), 3e-5),
    "align": (Schedule((Step(relax=1),)), 3e-5),
    "all": (Schedule((Step(2.0, 1, 1), Step(0.5, 1, 2, field=0.3), Step(0.05, 1, 1, 2))), 1e-2),
}
"""Schedules and how far a spin may be off in float32, 1 in 1,000 excepted where K ≠ 0; errors grow from sweep to sweep,
in a cold easy plane the fastest."""

REFERENCES = [
    # D, T, E/N at L = 64 and its error: an independent heat-bath program
    (0.0, 2.0, -0.3462, 2e-4),
    (0.0, 1.0, -0.7599, 2e-4),
    (0.0, 0.25, -1.7408, 1e-4),
    (0.3, 1.0, -0.8091, 2e-4),
    (0.3, 0.5, -1.4912, 2e-4),
]

INSTRUCTIONS = {"heat_bath": 172, "over_relax": 50.9, "align": 40.9}
"""Machine instructions an update at 128², counted in the code for sm_90 by ``gpu_code.py``."""

ISSUED = 128
"""Thread instructions that a multiprocessor issues in a clock: four warps of 32."""


def say(*words: Any) -> None:
    print(*words, file=sys.stderr, flush=True)


def z(difference: float, *errors: float) -> float:
    return float(difference) / math.hypot(*errors, 1e-12)


# is it the CPU's -------------------------------------------------------------------------------------------------


def by_contract(H: Hamiltonian, schedule: Schedule, key: tuple[int, int], spins: np.ndarray) -> np.ndarray:
    sweep = 0
    for step in schedule.steps:
        model = replace(H, B=H.B if step.field is None else step.field)
        for kind, count in ((heat_bath, step.heat_bath), (over_relax, step.over_relax), (align, step.relax)):
            for _ in range(count):
                sweep += 1
                spins = kind(spins, model) if kind is align else kind(spins, model, step.temperature, key, sweep)
    return spins


def parity(sizes: list[tuple[int, int]], gpu: sweep_cuda.Card) -> dict[str, Any]:
    """Both kernels against sweep.py, and against each other bit for bit."""
    rows, good = [], True
    for size in sizes:
        for name, H in MODELS.items():
            for what, (schedule, tolerance) in SHORT.items():
                program = Program(H, schedule)
                pair = [
                    sweep_cuda.anneal_on(
                        gpu, program, size, 3, 5, 8, layout=sweep_cuda.Layout.of(size, bool(H.K), shared)
                    ).cpu()
                    for shared in (gpu.shared, 0)
                ]
                alone = sweep_cuda.anneal_on(gpu, program, size, 1, 5, 10).cpu()
                key = texture_key(5, 10)
                expected = by_contract(H, schedule, key, random_start(size, key, H.dmi))
                off = np.abs(pair[0][2].numpy() - expected)
                largest, typical = float(np.quantile(off, 0.999 if H.K else 1.0)), float(np.median(off))
                same = torch.equal(pair[0], pair[1]) and torch.equal(pair[0][2], alone[0])
                fine = same and largest < tolerance and typical < max(2e-6, tolerance / 400)
                rows.append(
                    {"size": size, "model": name, "schedule": what, "largest": largest, "median": typical, "same": same}
                )
                if not fine:
                    say("PARITY", rows[-1])
                good &= fine
    return {"good": good, "largest": max(row["largest"] for row in rows), "rows": rows}


def mean_energy(H: Hamiltonian, T: float, device: str, chains: int, size: int, seed: int, rounds: int):
    """⟨E/N⟩ and its standard error from independent chains."""
    cool = Schedule.geometric(max(2.0, 2 * T), T, steps=60, heat_bath=1, over_relax=4)
    spins = anneal(H, size, chains, seed, schedule=cool.then(Schedule.constant(T, 150, 4)), device=device)
    means = torch.zeros(chains, dtype=torch.float64)
    for number in range(rounds):
        spins = anneal(H, start=spins, seed=seed + 1 + number, schedule=Schedule.constant(T, 6, 4), device=device)
        means += H.energy(spins.double()).cpu() / rounds
    return float(means.mean()), float(means.std() / math.sqrt(chains))


def energies(chains: int, size: int, rounds: int) -> dict[str, Any]:
    rows = []
    for number, (D, T, reference, error) in enumerate(REFERENCES):
        H = Hamiltonian(J=1, D=D)
        there, e_there = mean_energy(H, T, "cuda", 4 * chains, size, 1000 * number + 1, rounds)
        here, e_here = mean_energy(H, T, "cpu", chains, size, 1000 * number + 501, rounds)
        row = {"D": D, "T": T, "cuda": [there, e_there], "cpu": [here, e_here], "z": z(there - here, e_there, e_here)}
        if size == 64:
            row["z_reference"] = z(there - reference, e_there, error)
        rows.append(row)
        say(row)
    return {"good": all(abs(row["z"]) < 3 and abs(row.get("z_reference", 0)) < 3 for row in rows), "rows": rows}


def kolmogorov_smirnov(a: np.ndarray, b: np.ndarray) -> float:
    """The p-value (asymptotic) that two samples are of one distribution."""
    every = np.concatenate((a, b))
    gap = np.abs(
        np.searchsorted(np.sort(a), every, side="right") / len(a)
        - np.searchsorted(np.sort(b), every, side="right") / len(b)
    ).max()
    n = math.sqrt(len(a) * len(b) / (len(a) + len(b)))
    x = (n + 0.12 + 0.11 / n) * gap
    if x < 0.2:  # where the series alternates; the value is 1 to nine digits
        return 1.0
    return 2 * sum((-1) ** (k - 1) * math.exp(-2 * k * k * x * x) for k in range(1, 101))


def labyrinths(size: int, on_gpu: int, on_cpu: int) -> dict[str, Any]:
    """The default schedule at D = 0.3: energies, M_z, wavelengths, bonds; seeds differ."""
    H = Hamiltonian(J=1, D=0.3)
    tables = {}
    for device, many, seed in (("cuda", on_gpu, 1), ("cpu", on_cpu, 2)):
        began = time.perf_counter()
        spins = anneal(H, size, many, seed, device=device).cpu()
        say(f"{many} textures on {device}: {time.perf_counter() - began:.1f} s")
        tables[device] = measure(spins, H)
    result: dict[str, Any] = {"textures": {"cuda": on_gpu, "cpu": on_cpu}, "quantities": {}}
    good = True
    for name in tables["cuda"].names:
        # rounded, as the last digits of a state that both find would be told apart
        a, b = (tables[device][name].double().numpy().round(6) for device in ("cuda", "cpu"))
        if not (np.isfinite(a).all() and np.isfinite(b).all()):
            result["quantities"][name] = {"note": "not finite everywhere"}
            continue
        row = {
            "cuda": [float(a.mean()), float(a.std(ddof=1))],
            "cpu": [float(b.mean()), float(b.std(ddof=1))],
            "z": z(a.mean() - b.mean(), a.std(ddof=1) / math.sqrt(len(a)), b.std(ddof=1) / math.sqrt(len(b))),
            "p": kolmogorov_smirnov(a, b),
        }
        result["quantities"][name] = row
        # several quantities, correlated: a limit that is passed by all of them in 99 runs of 100
        good &= abs(row["z"]) < 3.5 and row["p"] > 1e-3
        say(name, row)
    return {"good": good, **result}


# how fast --------------------------------------------------------------------------------------------------------


def timed(job: Callable[[], Any], rounds: int) -> float:
    """The median of some runs, in seconds, after one that warms up; every job ends by waiting for the GPU."""
    job()
    times = []
    for _ in range(rounds):
        began = time.perf_counter()
        job()
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def rate(gpu: sweep_cuda.Card, size: int, textures: int, schedule: Schedule, rounds: int, layout=None) -> float:
    """Updates a nanosecond."""
    program = Program(Hamiltonian(J=1, D=0.3), schedule)
    job = lambda: sweep_cuda.anneal_on(gpu, program, (size, size), textures, 1, 0, layout=layout)  # noqa: E731
    return 1e-9 * textures * size * size * schedule.sweeps / timed(job, rounds)


def rates(gpu: sweep_cuda.Card, size: int, samples: int, sweeps: int, rounds: int) -> dict[str, Any]:
    wave = gpu.processors * sweep_cuda.Layout.of((size, size), False, gpu.shared).blocks_a_processor(gpu)
    kinds = {
        "heat_bath": Schedule((Step(0.5, heat_bath=sweeps),)),
        "over_relax": Schedule((Step(0.5, over_relax=sweeps),)),
        "align": Schedule((Step(relax=sweeps),)),
        "default schedule": DEFAULT_SCHEDULE,
    }
    result: dict[str, Any] = {"unit": "updates a nanosecond", "size": size}
    result["kinds"] = {name: rate(gpu, size, 4 * wave, schedule, rounds) for name, schedule in kinds.items()}
    say(result["kinds"])
    own = sweep_cuda.Layout.of((size, size), False, gpu.shared)
    threads = [n for n in (256, 512, 1024) if n <= own.threads]
    result["threads"] = {
        n: rate(gpu, size, 4 * wave, DEFAULT_SCHEDULE, rounds, replace(own, threads=n)) for n in threads
    }
    say(result["threads"])
    short = Schedule.geometric(1.0, 0.01, steps=20, heat_bath=1, over_relax=4).then_relax(50)
    result["sizes"] = {
        side: rate(gpu, side, max(1, 4 * wave * size * size // (side * side)), short, rounds)
        for side in sorted({size // 4, size // 2, size, 2 * size, 4 * size})
    }
    say(result["sizes"])
    in_memory = sweep_cuda.Layout.of((size, size), False, 0)
    result["in memory"] = rate(gpu, size, 4 * wave, short, rounds, in_memory)
    program, began = Program(Hamiltonian(J=1, D=0.3), DEFAULT_SCHEDULE), time.perf_counter()
    chunk = min(samples, 10_000)
    for first in range(0, samples, chunk):
        sweep_cuda.anneal_on(gpu, program, (size, size), min(chunk, samples - first), 0, first)
    seconds = time.perf_counter() - began
    result["job"] = {
        "textures": samples,
        "seconds": seconds,
        "updates a nanosecond": 1e-9 * samples * size * size * DEFAULT_SCHEDULE.sweeps / seconds,
    }
    say(result["job"])
    began = time.perf_counter()
    textures = sweep_cuda.anneal_on(gpu, program, (size, size), min(chunk, samples), 0, 0)
    annealed = time.perf_counter()
    textures.cpu()
    result["copy to the host"] = (time.perf_counter() - annealed) / (annealed - began)
    return result


def ceiling(clock_mhz: float, processors: int) -> dict[str, float]:
    """Updates a nanosecond if every clock issued four warps: what no change but fewer instructions can pass."""
    per_second = ISSUED * processors * clock_mhz * 1e-3
    whole = (200 * INSTRUCTIONS["heat_bath"] + 800 * INSTRUCTIONS["over_relax"] + 500 * INSTRUCTIONS["align"]) / 1500
    return {**{name: per_second / n for name, n in INSTRUCTIONS.items()}, "default schedule": per_second / whole}


def machine(gpu: sweep_cuda.Card) -> dict[str, Any]:
    found: dict[str, Any] = {"torch": torch.__version__, "cuda": torch.version.cuda, "card": str(gpu)}
    if torch.cuda.is_available():
        found["name"] = torch.cuda.get_device_name(gpu.device)
    query = "name,driver_version,clocks.max.sm,clocks.sm,power.limit"
    try:
        command = ["nvidia-smi", f"--query-gpu={query}", "--format=csv,noheader,nounits"]
        line = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout.splitlines()[0]
        found["nvidia-smi"] = dict(zip(query.split(","), (word.strip() for word in line.split(",")), strict=True))
    except (OSError, subprocess.SubprocessError, IndexError, ValueError) as error:
        found["nvidia-smi"] = f"not read ({type(error).__name__})"
    return found


def resources(gpu: sweep_cuda.Card, size: int) -> list[str]:
    """What ptxas says of registers and spills."""
    layout = sweep_cuda.Layout.of((size, size), False, gpu.shared)
    _, log = sweep_cuda.compiled(layout, f"sm_{gpu.architecture}", "--ptxas-options=-v")
    return [line.split(":", 1)[-1].strip() for line in log.splitlines() if "registers" in line or "spill" in line]


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=["parity", "energies", "labyrinths", "rates"], action="append")
    parser.add_argument("--size", type=int, default=128, help="side of the lattices that are timed")
    parser.add_argument("--samples", type=int, default=40_000, help="textures of the timed job")
    parser.add_argument("--textures", type=int, default=1000, help="labyrinths a device that are compared")
    parser.add_argument("--quick", action="store_true", help="a tenth of everything")
    parser.add_argument("--out", type=Path, help="write the JSON there too")
    given = parser.parse_args(arguments)
    less = 10 if given.quick else 1
    gpu = sweep_cuda.card("cuda")
    parts: dict[str, Callable[[], dict[str, Any]]] = {
        "parity": lambda: parity([(8, 36), (given.size, given.size)], gpu),
        "rates": lambda: rates(gpu, given.size, given.samples // less, 2000 // less, 3),
        "energies": lambda: energies(max(8, 96 // less), min(64, given.size), 60 // less),
        "labyrinths": lambda: labyrinths(given.size, max(4, given.textures // less), max(4, given.textures // less)),
    }
    result: dict[str, Any] = {"machine": machine(gpu)}
    if given.size == 128 and gpu.architecture == 90:
        result["resources"] = resources(gpu, given.size)
        result["ceiling at 1755 MHz"] = ceiling(1755, gpu.processors)
        result["ceiling at 1980 MHz"] = ceiling(1980, gpu.processors)
    good = True
    for name, part in parts.items():
        if given.only and name not in given.only:
            continue
        say(f"== {name}")
        began = time.perf_counter()
        result[name] = part()
        result[name]["took"] = time.perf_counter() - began
        good &= result[name].get("good", True)
        if given.out:  # after every part: what is done is kept if time runs out
            given.out.write_text(json.dumps({"good": good, **result}, indent=1))
    print(json.dumps({"good": good, **result}))
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
