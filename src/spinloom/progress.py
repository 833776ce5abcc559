"""A progress bar with rate and time left, quiet when not a terminal."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def progress(what: str, total: int, unit: str = "", show: bool = True) -> Iterator[Callable[[int], None]]:
    """Yield ``advance(n)``; a bar appears on standard error only if it is a terminal and ``show``.

    >>> with progress("annealing", 10, "textures") as advance:
    ...     advance(10)
    """
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        ProgressColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )
    from rich.text import Text

    console = Console(stderr=True)
    if not (show and console.is_terminal):
        yield lambda n: None
        return

    began = time.monotonic()

    class Rate(ProgressColumn):
        def render(self, task):
            spent = max(time.monotonic() - began, 1e-9)
            return Text(f"{task.completed / spent:.3g} {unit}/s")

    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        Rate(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
    ) as bar:
        task = bar.add_task(what, total=total)
        yield lambda n: bar.advance(task, n)
