"""A sheet of paper in inches: axes, letters, words and arrows at places, for figures that are laid out by hand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.image import AxesImage
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, Polygon
from matplotlib.ticker import FixedLocator, MaxNLocator

from spinloom.draw import Figure, new_figure
from spinloom.rows import Number

PLAYERS = {"E": ("#d6ecfa", "#0072b2"), "G": ("#cdebe0", "#00785a"), "D": ("#fae0cc", "#b24a00")}
"""Fill and edge of encoder, generator and discriminator."""

INK = "#222222"


class Sheet:
    """A figure whose places are counted in inches from its lower left corner."""

    def __init__(self, width: Number, height: Number) -> None:
        self.width, self.height = width, height
        self.figure: Figure = new_figure(width, height)
        self._plain: Axes | None = None

    @property
    def plain(self) -> Axes:
        """Axes over all of the sheet, in inches, for boxes, arrows and words."""
        if self._plain is None:
            self._plain = self.figure.add_axes((0, 0, 1, 1), zorder=-1)
            self._plain.set(xlim=(0, self.width), ylim=(0, self.height))
            self._plain.axis("off")
        return self._plain

    def axes(self, left: Number, bottom: Number, width: Number, height: Number) -> Axes:
        across, up = self.width, self.height
        return self.figure.add_axes((left / across, bottom / up, width / across, height / up))

    def letter(self, letter: str, left: Number, top: Number) -> None:
        self.words(letter, left, top, fontsize=10, fontweight="bold", ha="left", va="top")

    def words(self, text: str, x: Number, y: Number, **look: Any) -> None:
        style: dict[str, Any] = {"fontsize": 7, "ha": "center", "va": "center", "color": INK} | look
        self.figure.text(x / self.width, y / self.height, text, **style)

    def box(self, x: Number, y: Number, width: Number, height: Number, fill: str, edge: str, round_: Number = 0.03):
        """A box with round corners about its centre."""
        corner = (x - width / 2 + round_, y - height / 2 + round_)
        self.plain.add_patch(
            FancyBboxPatch(
                corner,
                width - 2 * round_,
                height - 2 * round_,
                boxstyle=f"round,pad={round_}",
                facecolor=fill,
                edgecolor=edge,
                linewidth=0.9,
            )
        )

    def network(self, name: str, x: Number, y: Number, width: Number, tall: Number, short: Number) -> None:
        """A trapezium about its centre, ``tall`` where textures go in or out and ``short`` at the other end."""
        fill, edge = PLAYERS[name]
        left, right = (short, tall) if name == "G" else (tall, short)
        corners = [
            (x - width / 2, y - left / 2),
            (x - width / 2, y + left / 2),
            (x + width / 2, y + right / 2),
            (x + width / 2, y - right / 2),
        ]
        self.plain.add_patch(Polygon(corners, facecolor=fill, edgecolor=edge, linewidth=1.0, joinstyle="round"))
        self.words(name, x, y, fontsize=12, fontstyle="italic", fontweight="bold", color=edge)

    def arrow(self, start: tuple[Number, Number], end: tuple[Number, Number], **look: Any) -> None:
        style: dict[str, Any] = {
            "arrowstyle": "-|>",
            "mutation_scale": 7,
            "linewidth": 0.9,
            "color": INK,
            "shrinkA": 0,
            "shrinkB": 0,
        }
        self.plain.add_patch(FancyArrowPatch(start, end, **(style | look)))

    def bar(
        self,
        image: AxesImage,
        place: tuple[Number, Number, Number, Number],
        words: str,
        extend: str = "both",
        upright: bool = True,
        ticks: Sequence[Number] = (),
        log: bool = False,
    ) -> None:
        """A colour bar at a place (left, bottom, width, height), its quantity and unit beside or above it."""
        orientation = "vertical" if upright else "horizontal"
        bar = self.figure.colorbar(image, cax=self.axes(*place), orientation=orientation, extend=extend)
        bar.ax.tick_params(labelsize=7, length=2, width=0.6, pad=2)
        if not log:
            bar.locator = FixedLocator(list(ticks)) if ticks else MaxNLocator(3, steps=[1, 2, 5, 10])
            bar.update_ticks()
        bar.outline.set_linewidth(0.6)  # type: ignore[operator]
        if upright:
            bar.set_label(words, fontsize=7)
        else:
            bar.ax.set_title(words, fontsize=7, pad=3)
