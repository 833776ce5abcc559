"""What networks want of a CPU: freed memory kept for the next tensor, denormal numbers flushed to zero."""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Iterator
from contextlib import contextmanager

import torch

TRIM_THRESHOLD, TOP_PAD, MMAP_THRESHOLD = -1, -2, -3
"""Names of mallopt(3)'s parameters in glibc's malloc.h."""


@contextmanager
def for_networks() -> Iterator[None]:
    """Settings of this process for training and sampling; denormal numbers are as before afterwards.

    Saturated players make denormal gradients, which CPUs crawl through.
    """
    keep_pages()
    flushed = bool(torch.tensor(2.0**-149) * torch.tensor(1.0) == 0)
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(flushed)


@functools.cache
def keep_pages() -> bool:
    """Let glibc keep freed memory for the next tensor; False where the C library is another.

    By default it maps every large tensor anew, and the kernel clears its pages: nearly half the time of a hybrid
    step of batch 50 at 128² went there.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):  # musl, macOS, Windows
        return False
    sizes = {MMAP_THRESHOLD: 1 << 30, TRIM_THRESHOLD: 2**31 - 1, TOP_PAD: 1 << 27}
    return all(mallopt(parameter, size) == 1 for parameter, size in sizes.items())
