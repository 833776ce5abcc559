"""What the proofs found, kept for the report: rows with p-values, checks, controls that must fail, figures.

A *test* is a statistical comparison with a p-value; it fails below :data:`ALPHA`. A *check* holds or does not. A
*control* is a rule made wrong on purpose: the test it is given to must reject it, p < :data:`REJECTED`, or the test
is blind. Seeds are fixed, so a verdict is the same at every run; they were set once and never searched, and
``SPINLOOM_VERIFY_SEEDS=1`` (2, 3, …) in the environment runs everything with others.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import matplotlib

matplotlib.use("agg")
import numpy as np
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from PIL import Image
from scipy import stats

from spinloom.chains import Estimate

ALPHA = 1e-4
"""A test fails below this: some hundred tests of right code fail somewhere once in a hundred seeds."""

FAMILY = 0.01
"""Level of the tests taken together, after Holm's correction."""

REJECTED = 1e-6
"""A control is rejected below this."""

INK, MUTE, MAIN, SECOND, THIRD, FOURTH = "#1b1f24", "#8b949e", "#0072b2", "#d55e00", "#009e73", "#cc79a7"
"""Okabe & Ito's colours, told apart by every eye."""

STYLE = {
    "font.size": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e6e8eb",
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "axes.titlesize": 8.5,
    "axes.titlelocation": "left",
    "legend.frameon": False,
    "legend.fontsize": 7.5,
    "lines.linewidth": 1.2,
    "lines.markersize": 4,
    "errorbar.capsize": 2,
    "figure.dpi": 160,
    "figure.constrained_layout.use": True,
}


@dataclass(frozen=True)
class Line:
    """A line of a section's table; ``p`` is None for a check."""

    kind: str
    what: str
    found: str
    expected: str
    many: str
    tau: str
    statistic: str
    p: float | None
    passed: bool


@dataclass
class Proof:
    """A section of the report."""

    name: str
    title: str
    text: str
    lines: list[Line] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    figures: list[tuple[bytes, tuple[int, int], str]] = field(default_factory=list)
    seconds: float = 0.0

    def test(
        self,
        what: str,
        p: float,
        statistic: str,
        found: str = "",
        expected: str = "",
        many: Any = "",
        tau: str = "",
    ) -> None:
        """Record a p-value; assert that it is no smaller than :data:`ALPHA`."""
        self._add("test", what, found, expected, many, tau, statistic, p, p >= ALPHA)

    def control(self, what: str, p: float, statistic: str, found: str = "", expected: str = "", many: Any = "") -> None:
        """Record a p-value of something wrong; assert that it is rejected."""
        self._add("control", what, found, expected, many, "", statistic, p, p < REJECTED)

    def check(self, what: str, holds: bool, found: str = "", expected: str = "", many: Any = "", tau: str = "") -> None:
        """Record and assert a statement without a p-value."""
        self._add("check", what, found, expected, many, tau, "", None, bool(holds))

    def show(self, what: str, found: Estimate, digits: int = 5) -> None:
        """Record a mean that a test of several means is about."""
        self._add("value", what, value(found, digits), "", round(found.effective), tau(found), "", None, True)

    def mean(self, what: str, found: Estimate, expected: float, error: float = 0.0, digits: int = 5) -> float:
        """A mean against a number known exactly or with a standard error; returns z."""
        z = (found.mean - expected) / math.hypot(found.error, error)
        known = f"{round(expected, digits) + 0.0:.{digits}f}" + (f" ± {error:.{digits}f}" if error else "")
        self.test(what, normal_p(z), f"z = {z:+.2f}", value(found, digits), known, round(found.effective), tau(found))
        return z

    def _add(self, kind, what, found, expected, many, tau, statistic, p, passed) -> None:
        number = f"{many:,}".replace(",", "\u202f") if isinstance(many, int) else str(many)
        self.lines.append(Line(kind, what, found, expected, number, tau, statistic, p, bool(passed)))
        wanted = f"; expected {expected}" if expected else ""
        assert passed, f"{kind}: {what}: {found}{wanted}; {statistic}, p = {p}"

    def figure(self, figure: Figure, caption: str) -> None:
        """Keep a figure as a PNG of few colours, which is small."""
        content = io.BytesIO()
        figure.savefig(content, format="png", metadata={"Software": None})
        plt.close(figure)
        picture = Image.open(content).convert("RGB").quantize(96, dither=Image.Dither.NONE)
        small = io.BytesIO()
        picture.save(small, format="png", optimize=True)
        self.figures.append((small.getvalue(), picture.size, " ".join(caption.split())))


def canvas(columns: int = 2, rows: int = 1, height: float = 2.6, **settings: Any) -> tuple[Figure, np.ndarray]:
    """A figure in the house's style and its axes as a flat array."""
    plt.rcParams.update(STYLE)
    figure, axes = plt.subplots(rows, columns, figsize=(7.6, height * rows), squeeze=False, **settings)
    return figure, axes.ravel()


# statistics ----------------------------------------------------------------------------------------------------------


def normal_p(z: float) -> float:
    """Two-sided."""
    return float(2 * stats.norm.sf(abs(z)))


def value(found: Estimate, digits: int = 5) -> str:
    return f"{found.mean:.{digits}f} ± {found.error:.{digits}f}"


def tau(found: Estimate) -> str:
    return f"{found.tau:.2f} ± {found.tau_error:.2f}"


def goodness(counts: np.ndarray, probabilities: np.ndarray) -> tuple[float, int, float]:
    """Pearson's χ², degrees of freedom and p of counts in cells of known probability; cells under 10 are joined."""
    counts, expected = np.ravel(counts), np.ravel(probabilities) * np.sum(counts)
    order = np.argsort(expected)
    small = np.cumsum(expected[order]) < 10  # the rarest, together
    joined = order[: int(small.sum()) + 1]
    rest = np.setdiff1d(order, joined)
    o = np.append(counts[rest], counts[joined].sum())
    e = np.append(expected[rest], expected[joined].sum())
    chi = float(((o - e) ** 2 / e).sum())
    return chi, len(e) - 1, float(stats.chi2.sf(chi, len(e) - 1))


def symmetry(forth: np.ndarray, back: np.ndarray | None = None) -> tuple[float, int, float, np.ndarray]:
    """Are n(a → b) and n(b → a) draws of one number? χ², degrees of freedom, p and the pulls of all pairs a < b.

    With one matrix of counts this is Bowker's test of symmetry, J. Am. Stat. Assoc. 43, 572 (1948). ``back`` holds
    the counts of another, equally long run; then forth[a, b] is compared with back[b, a], a = b included.
    """
    other = forth.T if back is None else back.T
    pairs = np.triu_indices(len(forth), 1) if back is None else np.nonzero(np.ones_like(forth))
    a, b = forth[pairs].astype(float), other[pairs].astype(float)
    seen = a + b >= 20
    pulls = (a - b)[seen] / np.sqrt((a + b)[seen])
    chi, freedom = float((pulls**2).sum()), int(seen.sum()) - (0 if back is None else 1)
    return chi, freedom, float(stats.chi2.sf(chi, freedom)), pulls


def same_mean(found: Iterable[Estimate]) -> tuple[float, int, float]:
    """χ² of several means about their weighted mean."""
    means, errors = (np.array(column) for column in zip(*((f.mean, f.error) for f in found), strict=True))
    centre = np.average(means, weights=errors**-2)
    chi = float((((means - centre) / errors) ** 2).sum())
    return chi, len(means) - 1, float(stats.chi2.sf(chi, len(means) - 1))


def holm(p: Sequence[float]) -> np.ndarray:
    """p-values adjusted so that all of them together keep their level: Holm, Scand. J. Stat. 6, 65 (1979)."""
    p = np.asarray(p)
    order = np.argsort(p)
    adjusted = np.maximum.accumulate((len(p) - np.arange(len(p))) * p[order])
    answer = np.empty_like(p)
    answer[order] = np.minimum(adjusted, 1)
    return answer
