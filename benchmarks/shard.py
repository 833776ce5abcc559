"""Core time a texture of a data set costs, part by part, as JSON: what the arithmetic of docs/scale.md rests on.

    python benchmarks/shard.py [--size 128] [--textures 64] [--rounds 5]

One thread, the process's own clock, medians; the write is timed by the clock on the wall (it waits for the disk).
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from spinloom.anneal import anneal
from spinloom.files import write_bytes
from spinloom.hamiltonian import Hamiltonian
from spinloom.octahedral import encode
from spinloom.shards import pack


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--textures", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    H = Hamiltonian(D=0.3)

    def cost(work: Callable[[], Any], clock: Callable[[], float] = time.process_time) -> float:
        """Milliseconds a texture."""
        times = []
        for _ in range(options.rounds + 1):
            began = clock()
            work()
            times.append(clock() - began)
        return round(1e3 * statistics.median(times[1:]) / options.textures, 3)

    spins = anneal(H, options.size, options.textures, threads=1)
    codes = encode(spins)
    content, _ = pack(0, codes, H)
    with tempfile.TemporaryDirectory(dir=".") as folder:
        found = {
            "size": options.size,
            "textures": options.textures,
            "bytes_a_texture": len(content) / options.textures,
            "anneal_ms": cost(lambda: anneal(H, options.size, options.textures, threads=1)),
            "encode_ms": cost(lambda: encode(spins)),
            "measure_and_checksum_ms": cost(lambda: pack(0, codes, H)),
            "write_and_fsync_ms": cost(lambda: write_bytes(Path(folder) / "shard", content), time.perf_counter),
        }
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
