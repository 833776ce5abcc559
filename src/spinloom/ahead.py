"""What is needed next, made in a thread meanwhile."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

T = TypeVar("T")


@contextmanager
def ahead(items: Iterator[T]) -> Iterator[Iterator[T]]:
    """The same items in the same order, each made in one thread while the one before is worked with.

    What goes wrong in making an item is raised where that item is asked for. At the end of the block, be it an error or
    an interrupt, the thread finishes what it has in hand, which nobody will ask for, and ends.
    """
    with ThreadPoolExecutor(1, "ahead") as pool:
        yield _taken(items, pool)


def _taken(items: Iterator[T], pool: ThreadPoolExecutor) -> Iterator[T]:
    end = object()
    coming = pool.submit(next, items, end)
    while (item := coming.result()) is not end:
        coming = pool.submit(next, items, end)
        yield item  # type: ignore[misc]
