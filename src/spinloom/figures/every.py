"""Figures by number, with their settings, into a finished folder and its report, or of a single run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from spinloom.draw import Figure, png_bytes
from spinloom.errors import BadInput
from spinloom.figures import fig1, fig2, fig3, fig4, fig5, fig6
from spinloom.figures.folder import Folder
from spinloom.figures.settings import FigureSettings
from spinloom.files import write_bytes
from spinloom.latent import Plane, checked_grid
from spinloom.paths import checked_images
from spinloom.processor import for_networks
from spinloom.report import FIGURES, write_report, write_trials_report
from spinloom.sample import DDLS

DRAWN: dict[int, Callable[[Folder, Any], tuple[Figure, str]]] = {
    1: fig1.draw, 2: fig2.draw, 3: fig3.draw, 4: fig4.draw, 5: fig5.draw, 6: fig6.draw,
}  # fmt: skip
"""Number → from a folder and the figure's settings to the figure and its caption."""


def check_settings(settings: FigureSettings, latent: int, held_out: int, only: Sequence[int] = tuple(DRAWN)) -> None:
    """Refuse what one of the figures would refuse, with codes of ``latent`` numbers and ``held_out`` textures of test
    data, before any work.

    Raises:
        BadInput: a bad setting.
    """
    if 1 in only and not 0 <= settings.fig1.texture < held_out:
        raise BadInput(f"fig1.texture={settings.fig1.texture}: the test data are 0 … {held_out - 1}; use one of them")
    if 3 in only:
        checked_grid(fig3.SPAN, settings.fig3.resolution)
        Plane.along(latent, settings.fig3.axes, settings.fig3.seed)
    if 4 in only:
        fig4.rule_of(settings.fig4, DDLS())
    if 5 in only:
        checked_grid(fig5.SPAN, settings.fig5.resolution)
        checked_images(settings.fig5.images)
        for number in range(len(fig5.GOALS)):
            fig5.search_config(settings.fig5, settings.fig5.seed + number)


def draw_figures(
    path: Path | str,
    only: Sequence[int] = (),
    out: Path | str | None = None,
    settings: FigureSettings = FigureSettings(),  # noqa: B008
    show: bool = True,
    say: Callable[[str], None] = lambda line: None,
    device: str = "cpu",
) -> list[Path]:
    """Draw the paper's figures ``only`` (1 to 6; none: all) of a finished folder of a pipeline or of trials.

    Of a single run, by its folder or by the name of a model that comes with the package, there are those that need
    networks alone, 3 to 6. They go into ``path/figures`` and the folder's report, or into ``out``, each as a PNG that
    carries its caption. Maps, paths and searches are computed from the runs and kept beside them: drawn again, a figure
    takes no time, and a call that was stopped goes on. ``device`` is where the networks are.

    Returns:
        The files, in the order of ``only``; with ``out=None`` the path of a finished folder's report is the last.

    Raises:
        BadInput: neither a finished folder nor a run; no such figure or device; a bad setting.
    """
    folder = Folder.open(Path(path), None if out is None else Path(out), show, device)
    for number in only:
        if number not in DRAWN:
            raise BadInput(f"only={number}: the paper's figures are {min(DRAWN)} to {max(DRAWN)}; use some of these")
    drawable = [number for number in DRAWN if folder.lacks(number) is None]
    for number in only:
        if number not in drawable:
            there = ", ".join(map(str, drawable))
            raise BadInput(f"only={number}: needs {folder.lacks(number)}; of {path}, a single run, there are {there}")
    only = only or drawable
    check_settings(settings, folder.latent, len(folder.test_data) if 1 in only else 0, only)
    written = []
    for number in only:
        say(f"Fig. {number}")
        with for_networks():
            figure, caption = DRAWN[number](folder, getattr(settings, f"fig{number}", None))
        folder.out.mkdir(parents=True, exist_ok=True)
        file = folder.out / f"fig{number}.png"
        write_bytes(file, png_bytes(figure, " ".join(caption.split())))
        written.append(file)
    if folder.single is None and folder.out == folder.path / FIGURES:
        written.append(write_report(folder.path) if folder.trials is None else write_trials_report(folder.path))
    return written
