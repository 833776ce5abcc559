"""What helps: the hybrid's training with one thing changed at a time, the same budget, several seeds.  As a table.

    python benchmarks/ablation.py OUT [--steps 1500] [--seeds 3] [--only NAME …] [--jobs 2]

32 × 32, D = 0.6 J, 4,000 textures, the quick preset's networks. Every training is a process of one thread (``--jobs``
of them at a time), and resumes: the same command goes on. ``OUT/ablation.json`` and a Markdown table hold, for every
variant, means and standard deviations over the seeds of what 1,000 prior samples and 200 driven ones show, raw and
relaxed.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

BASE: dict[str, Any] = {"gamma": 0.1}
FAST: dict[str, Any] = {"rate": 1e-3, "halving": 300}
MIDDLE: dict[str, Any] = {"rate": 5e-4, "halving": 300}
GRID: dict[str, Any] = {"networks.grid": True, "networks.whiten": True}
VARIANTS: dict[str, dict[str, Any]] = {
    "γ = 0.001 (paper)": {"gamma": 0.001},
    "γ = 0.1 (base)": {},
    "γ = 1": {"gamma": 1.0},
    "rate 1e-3": {"rate": 1e-3},
    "rate 1e-3, halving": FAST,
    "rate 1e-3, discriminator × 0.25": {"rate": 1e-3, "discriminator_rate": 0.25},
    "discriminator × 2": {"discriminator_rate": 2.0},
    "symmetries": {"augment": True},
    "average 0.999": {"average": 0.999},
    "instance noise 0.1": {"instance_noise": 0.1},
    "R1, 0.01": {"r1": 0.01},
    "energy 3": {"energy": 3.0},
    "rest 10": {"rest": 10.0, "energy_rise": 200},
    "spectrum 1": {"spectrum": 1.0},
    "whitened": {"networks.whiten": True},
    "grid": {"networks.grid": True},
    "grid, whitened": GRID,
    "grid, whitened, spectrum 1": {**GRID, "spectrum": 1.0},
    "grid, whitened, spectrum 3": {**GRID, "spectrum": 3.0},
    "grid, whitened, spectrum 3, rate 5e-4": {**GRID, "spectrum": 3.0, **MIDDLE},
    "grid, whitened, spectrum 10, rate 5e-4": {**GRID, "spectrum": 10.0, **MIDDLE},
    "grid, whitened, spectrum 3, rate 5e-4, average 0.99": {**GRID, "spectrum": 3.0, **MIDDLE, "average": 0.99},
    "grid, whitened, spectrum 3, rate 5e-4, rest 3": {
        **GRID,
        "spectrum": 3.0,
        **MIDDLE,
        "rest": 3.0,
        "energy_rise": 300,
    },
    "grid, whitened, spectrum 3, rate 5e-4, rest 10": {
        **GRID,
        "spectrum": 3.0,
        **MIDDLE,
        "rest": 10.0,
        "energy_rise": 300,
    },
    "grid, whitened, spectrum 3, rate 1e-3, rest 10": {
        **GRID,
        "spectrum": 3.0,
        **FAST,
        "rest": 10.0,
        "energy_rise": 300,
    },
    "grid, whitened, rate 5e-4, rest 3": {**GRID, **MIDDLE, "rest": 3.0, "energy_rise": 300},
    "grid, whitened, symmetries, average 0.99, rate 1e-3, D × 0.25, γ 3e-4, rest 20": {
        **GRID,
        **FAST,
        "rest": 20.0,
        "energy_rise": 200,
        "augment": True,
        "average": 0.99,
        "discriminator_rate": 0.25,
        "gamma": 3e-4,
    },
    "all but energy": {**FAST, "augment": True, "average": 0.999, "networks.grid": True, "networks.whiten": True},
    "all": {**FAST, "augment": True, "average": 0.999, "energy": 3.0, "networks.grid": True, "networks.whiten": True},
}
"""What differs from the quick preset's recipe: settings of the training, and of the networks."""


def one(out: Path, name: str, seed: int, steps: int) -> dict[str, Any]:
    """Train and judge one; what is finished is read back."""
    from spinloom.anneal import relax
    from spinloom.coverage import CoverageReference
    from spinloom.dataset import open_dataset
    from spinloom.objectives import reconstruction_error
    from spinloom.presets import TRAININGS
    from spinloom.sample import reconstruct, sample
    from spinloom.topology import nodal_points
    from spinloom.train import train

    data = open_dataset(out / "data")
    H = data.hamiltonian
    assert H is not None
    recipe = TRAININGS["quick"]
    changes = {"steps": steps, "seed": seed, "checkpoint_every": 250, **BASE, **VARIANTS[name]}
    shapes = {key.removeprefix("networks."): changes.pop(key) for key in list(changes) if key.startswith("networks.")}
    config = replace(recipe.training, **changes)
    networks = replace(recipe.networks, **shapes)
    folder = "".join(c if c.isalnum() or c in ".-" else "_" for c in name)
    run = train(data, out / f"{folder}-{seed}", networks, config, show=False)
    held_out = data.split(config.fraction)[1]
    judge = CoverageReference(held_out[:500], H=H, second=held_out[500:])
    found: dict[str, Any] = {"name": name, "seed": seed, "steps": run.step}
    for method, count in (("prior", 1000), ("ddls", 200)):
        spins = sample(run, count, method=method, seed=seed)  # type: ignore[arg-type]
        for name, textures in ((method, spins), (f"{method} + relax 20", relax(spins, H, 20))):
            energy = H.energy_excess(textures)
            coverage = judge(textures)
            found[name] = {
                "energy_excess": float(energy.mean()),
                "energy_std": float(energy.std()),
                "nodal_points": float(nodal_points(textures).double().mean()),
                "mz_std": float(textures[:, 2].mean((-2, -1)).std()),
                "coverage": coverage.coverage,
                "broad": coverage.broad,
                "knn_precision": coverage.knn["precision"],
                "knn_coverage": coverage.knn["coverage"],
                "distinctness": coverage.distinctness,
            }
    found["reconstruction"] = float(reconstruction_error(held_out[:500], reconstruct(run, held_out[:500])))
    return found


COLUMNS = {
    "energy_excess": ("ε", 4),
    "energy_std": ("its spread", 4),
    "nodal_points": ("nodal points", 2),
    "mz_std": ("M_z std", 4),
    "coverage": ("coverage", 2),
    "knn_precision": ("k-NN precision", 2),
    "knn_coverage": ("k-NN coverage", 2),
    "distinctness": ("distinctness", 2),
}


def table(results: list[dict[str, Any]], method: str) -> str:
    """Mean ± standard deviation over the seeds, a row a variant."""
    lines = [f"| {method} | seeds | {' | '.join(title for title, _ in COLUMNS.values())} |"]
    lines.append("|---|--:|" + "--:|" * len(COLUMNS))
    for name in VARIANTS:
        mine = [result[method] for result in results if result["name"] == name]
        if not mine:
            continue
        cells = []
        for column, (_, digits) in COLUMNS.items():
            values = [row[column] for row in mine]
            spread = f" ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else ""
            mark = "†" if column == "coverage" and any(row["broad"] for row in mine) else ""
            cells.append(f"{statistics.fmean(values):.{digits}f}{spread}{mark}".replace("-", "−"))
        lines.append(f"| {name} | {len(mine)} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", nargs="*", choices=list(VARIANTS), default=list(VARIANTS))
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--single", nargs=2, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.single:
        name, seed = asked.single
        print(json.dumps(one(asked.out, name, int(seed), asked.steps)))
        return

    from spinloom.dataset import simulate
    from spinloom.files import write_json
    from spinloom.hamiltonian import Hamiltonian

    simulate(asked.out / "data", Hamiltonian(D=0.6), 32, 4000, seed=0, show=False)
    path = asked.out / "ablation.json"
    results = json.loads(path.read_text())["rows"] if path.exists() else []
    results = [row for row in results if "reconstruction" in row]  # rows of before are measured again
    have = {(row["name"], row["seed"], row["steps"]) for row in results}
    jobs = [(name, seed) for seed in range(asked.seeds) for name in asked.only]
    threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")

    def work(job: tuple[str, int]) -> None:
        name, seed = job
        if (name, seed, asked.steps) in have:
            return
        command = [sys.executable, __file__, str(asked.out), "--steps", str(asked.steps), "--single", name, str(seed)]
        done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **threads}, check=False)
        if done.returncode:
            raise SystemExit(f"{name}, seed {seed}: {done.stderr.strip().splitlines()[-1]}")
        results.append(json.loads(done.stdout))
        write_json(path, {"steps": asked.steps, "rows": results})
        print(f"{name}, seed {seed}", file=sys.stderr, flush=True)

    with ThreadPoolExecutor(asked.jobs) as pool:
        list(pool.map(work, jobs))
    mine = [row for row in results if row["steps"] == asked.steps]
    print("\n\n".join(table(mine, method) for method in ("prior", "ddls", "prior + relax 20", "ddls + relax 20")))


if __name__ == "__main__":
    main()
