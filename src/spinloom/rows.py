"""The rows of a comparison: where textures come from, what was measured on them, and the look of a row in charts
and tables."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

Number = float | int

COLOURS = {
    "data": "#000000",
    "random": "#7f7f7f",
    "untrained": "#cc79a7",
    "vae": "#e69f00",
    "gan": "#0072b2",
    "hybrid": "#009e73",
}
"""Where a texture comes from → its colour (Okabe & Ito, safe for colour-blind readers)."""

MARKERS = {"data": "*", "random": "^", "prior": "o", "ddls": "D"}
"""How it was sampled → its marker."""

UNTRAINED = ("random", "untrained")
"""Sources whose energies may lie anywhere, so that they do not set an axis."""

OTHER_COLOURS = ("#d55e00", "#56b4e9", "#f0e442")
NAMES = {"vae": "VAE", "gan": "GAN", "ddls": "DDLS"}


@dataclass(frozen=True)
class Row:
    """One line of a comparison: textures of one origin, and what was measured on them.

    ``measures`` holds one array a quantity, one entry a texture (the columns of a
    :class:`spinloom.measure.Table`); ``coverage`` one number a space, which carries no claim in the spaces
    ``broad`` (:class:`spinloom.coverage.Coverage`). Rows that differ in ``trial`` alone are independent trainings.
    """

    name: str
    source: str
    method: str
    relax: int = 0
    measures: Mapping[str, Any] = field(default_factory=dict)
    coverage: Mapping[str, Number] = field(default_factory=dict)
    trial: int = 0
    broad: Collection[str] = ()

    @property
    def colour(self) -> str:
        return source_colour(self.source)

    @property
    def ink(self) -> str:
        """The colour darkened to be read as letters on white."""
        channels = (int(self.colour[at : at + 2], 16) for at in (1, 3, 5))
        return "#" + "".join(f"{round(0.72 * channel):02x}" for channel in channels)

    @property
    def marker(self) -> str:
        return MARKERS.get(self.method, "s")

    def came_from(self, rows: Iterable[Row]) -> Row | None:
        """The row of ``rows`` whose textures were relaxed to give this one's, None if this was not or it is absent."""
        kin = (row for row in rows if (row.source, row.method, row.trial) == (self.source, self.method, self.trial))
        return next((row for row in kin if not row.relax), None) if self.relax else None

    def values(self, name: str) -> np.ndarray:
        """The finite entries of one measure, empty where it was not taken."""
        if name not in self.measures:
            return np.empty(0)
        values = np.atleast_1d(np.asarray(self.measures[name], dtype=np.float64))
        return values[np.isfinite(values)]


def source_colour(source: str) -> str:
    """The colour of a source, one of three for a source that has none of its own."""
    return COLOURS.get(source) or OTHER_COLOURS[sum(source.encode()) % len(OTHER_COLOURS)]


def display_name(word: str) -> str:
    """A source or method as it is written in legends and tables."""
    return NAMES.get(word, word)


def shown_name(name: str) -> str:
    """A row's name as it is written in pictures: "VAE prior" of "vae prior"."""
    return " ".join(map(display_name, name.split(" ")))


def fixed(value: Number, digits: int) -> str:
    """The number with so many decimals and a true minus sign, none before a zero."""
    return f"{value:z.{digits}f}".replace("-", "−")
