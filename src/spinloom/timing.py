"""How the benches time: one piece of work, and the ratio of two over the rounds of a race."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch


def timed(work: Callable[[], Any], device: str = "cpu") -> float:
    """Seconds that ``work`` takes, the GPU's share included."""
    cuda = device.startswith("cuda")
    if cuda:
        torch.cuda.synchronize()
    began = time.perf_counter()
    work()
    if cuda:
        torch.cuda.synchronize()
    return time.perf_counter() - began


def median_ratio(these: Sequence[float], those: Sequence[float]) -> float:
    """The median over the rounds of one over the other: what a machine does falls on both."""
    return statistics.median(one / other for one, other in zip(these, those, strict=True))


def threads_of(result: Mapping[str, Any]) -> str:
    """What a bench ran on, in words: sweeps and networks may have different numbers of threads."""
    sweeps, networks = result["threads"], result.get("network_threads", result["threads"])
    return f"{sweeps} threads" if sweeps == networks else f"{sweeps} threads ({networks} for networks)"
