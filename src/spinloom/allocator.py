"""How the C library gives memory back: not at all while networks run on a CPU."""

from __future__ import annotations

import ctypes
import functools

TRIM_THRESHOLD, TOP_PAD, MMAP_THRESHOLD = -1, -2, -3
"""Names of mallopt(3)'s parameters in glibc's malloc.h."""


@functools.cache
def keep_pages() -> bool:
    """Let glibc keep freed memory for the next tensor; False where the C library is another.

    By default it maps every large tensor anew, and the kernel clears its pages: a hybrid step of batch 50 at
    128² spent 2.3 s of 4.8 s of two cores there.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):  # musl, macOS, Windows
        return False
    sizes = {MMAP_THRESHOLD: 1 << 30, TRIM_THRESHOLD: 2**31 - 1, TOP_PAD: 1 << 27}
    return all(mallopt(parameter, size) == 1 for parameter, size in sizes.items())
