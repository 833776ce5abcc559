"""Random batches of a stored data set, decoding included: warm, and with the files out of the page cache, as JSON.

    python benchmarks/batches.py [DATA] [--batch 64] [--count 200] [--folder .]

Without DATA a set of 4,000 random textures of 128 × 128 (262 MB) is made in a temporary folder of ``--folder``:
decoding does not care what a texture shows. Before every cold batch each shard is written back and dropped from
the page cache (``posix_fadvise(DONTNEED)``), and how much of it is still there is counted with ``mincore``; what a
disk or its controller remembers is beyond that, so a cold figure belongs to the disk it was measured on.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import mmap
import os
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from spinloom.dataset import open_dataset, write_dataset

TEXTURES, SIDE, SHARD = 4_000, 128, 500


def random_textures():
    for number in range(TEXTURES // SHARD):
        draw = torch.Generator().manual_seed(number)
        spins = torch.randn(SHARD, 3, SIDE, SIDE, generator=draw)
        yield spins / spins.norm(dim=1, keepdim=True)


def drop(path: Path) -> float:
    """Take the set out of the page cache, where nothing maps it; the share that stayed."""
    pages = stayed = 0
    for file in path.glob("*.safetensors"):
        with file.open("rb") as handle:
            os.fsync(handle.fileno())
            os.posix_fadvise(handle.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            there = resident(handle.fileno(), file.stat().st_size)
        pages += len(there)
        stayed += int(there.sum())
    return stayed / pages


def resident(descriptor: int, length: int) -> np.ndarray:
    """Which pages of a file are in memory."""
    mapped = mmap.mmap(descriptor, length, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ | mmap.PROT_WRITE)
    view = (ctypes.c_char * length).from_buffer(mapped)
    flags = np.zeros(-(-length // mmap.PAGESIZE), np.uint8)
    libc = ctypes.CDLL(None, use_errno=True)
    address, size = ctypes.c_void_p(ctypes.addressof(view)), ctypes.c_size_t(length)
    if libc.mincore(address, size, flags.ctypes.data_as(ctypes.c_void_p)):
        raise OSError(ctypes.get_errno(), "mincore")
    del view
    mapped.close()
    return (flags & 1).astype(bool)


def warm(path: Path, batch: int, count: int) -> list[float]:
    """Milliseconds of batches of a set that is in memory."""
    batches = open_dataset(path).batches(batch, seed=1)
    times = []
    for number in range(3 * count):
        began = time.perf_counter()
        next(batches)
        if number >= 2 * count:  # by then every page was seen, and the kernels are compiled
            times.append(1e3 * (time.perf_counter() - began))
    return times


def cold(path: Path, batch: int, count: int) -> tuple[list[float], float]:
    """Milliseconds of batches none of which is in memory, and the largest share of the set that was."""
    times, stayed = [], 0.0
    for number in range(count):
        stayed = max(stayed, drop(path))
        batches = open_dataset(path).batches(batch, seed=1, start=number)
        began = time.perf_counter()
        next(batches)
        times.append(1e3 * (time.perf_counter() - began))
        del batches  # with its mappings of the files, which keep pages in memory
    return times, stayed


def spread(times: list[float]) -> dict[str, float]:
    ordered = sorted(times)
    at = {"median_ms": 0.5, "10%_ms": 0.1, "90%_ms": 0.9}
    return {name: round(ordered[round(share * (len(ordered) - 1))], 2) for name, share in at.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, nargs="?")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--folder", type=Path, default=Path())
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        path = options.data or write_dataset(Path(folder) / "set", random_textures(), shard_size=SHARD).path
        info = open_dataset(path).info
        found = {"textures": info["samples"], "size": info["size"], "batch": options.batch}
        found["threads"] = torch.get_num_threads()
        found["warm"] = spread(warm(path, options.batch, options.count))
        times, stayed = cold(path, options.batch, options.count // 4)
        found["cold"] = {**spread(times), "in_memory_before": round(stayed, 3)}
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
