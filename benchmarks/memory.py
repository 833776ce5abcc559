"""Peak memory of ``spinloom simulate`` against the number of textures and of textures a shard, as JSON.

    python benchmarks/memory.py [--size 128] [--shards 10000 50000]

The schedule is a short one: memory does not depend on how long a texture is annealed. The last rows finish sets of
very many shards, and open them: the shards are stand-ins of eight bytes, their records are as always.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from spinloom.dataset import open_dataset
from spinloom.files import write_json
from spinloom.hamiltonian import Hamiltonian
from spinloom.schedule import Schedule
from spinloom.shards import record_name, shard_name
from spinloom.simulation import Simulation, begin, finish

CASES = [(250, 500), (1_000, 500), (4_000, 500), (2_000, 1_000), (4_000, 2_000)]
"""(textures, textures a shard)."""


def peak(command: list[str]) -> int:
    """Megabytes (10⁶ bytes) of one process."""
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(child.pid, 0)
    if status:
        raise SystemExit(f"{' '.join(command)}: failed")
    return round(usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e6)


def simulate(folder: Path, size: int, samples: int, shard_size: int) -> list[str]:
    quench = folder / "quench.json"
    write_json(quench, Schedule.geometric(1.0, 0.1, steps=2, heat_bath=1, over_relax=1).as_dict())
    options = {"--samples": samples, "--size": size, "--shard-size": shard_size, "--schedule": quench}
    words = [str(word) for option in options.items() for word in option]
    return [sys.executable, "-m", "spinloom", "simulate", str(folder / f"{samples}-{shard_size}"), *words, "--quiet"]


def pretend(out: Path, shards: int) -> None:
    """An unfinished set that lacks nothing but ``dataset.json``."""
    simulation = Simulation(Hamiltonian(D=0.3), (128, 128), 2_000 * shards, shard_size=2_000)
    begin(out, simulation)
    for number in range(shards):
        (out / shard_name(number)).write_bytes(bytes(8))
        columns = {name: {"mean": 1e-7 * number, "squares": 1e-3} for name in ("mz", "energy_excess")}
        record = {"name": shard_name(number), "samples": 2_000, "bytes": 8, "sha256": "0" * 64, "measures": columns}
        (out / record_name(number)).write_text(json.dumps(record, indent=1))
    assert finish(out, simulation)
    assert len(open_dataset(out)) == simulation.samples


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--shards", type=int, nargs="*", default=[10_000, 50_000])
    parser.add_argument("--pretend", nargs=2, metavar=("OUT", "SHARDS"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.pretend:
        pretend(Path(options.pretend[0]), int(options.pretend[1]))
        return
    rows = []
    for samples, shard_size in CASES:
        with tempfile.TemporaryDirectory() as folder:
            found = peak(simulate(Path(folder), options.size, samples, shard_size))
        rows.append({"samples": samples, "shard_size": shard_size, "peak_MB": found})
    for shards in options.shards:
        with tempfile.TemporaryDirectory() as folder:
            found = peak([sys.executable, __file__, "--pretend", str(Path(folder) / "set"), str(shards)])
        rows.append({"samples": 2_000 * shards, "shards": shards, "finish_and_open_peak_MB": found})
    print(json.dumps({"size": options.size, "rows": rows}, indent=1))


if __name__ == "__main__":
    main()
