"""Fig. 5: the textures of most and least M_z and of least energy in the latent space of the hybrid, or of a single run,
and the ways between them.

a: the plane through the three codes, I (most M_z), II (least M_z) and III (least ε); beside it what they are, with
their structure factors. b–d: textures on the straight lines I–II, I–III and II–III, and along them ε, M_z, Q and nodal
points. e, f: where the three lie in the test data's distributions of M_z and ε; a single run has no data, and it is
those of its prior's relaxed textures. Searches and map are computed from the finished run and kept beside the figure; a
call that is stopped goes on.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.lines import Line2D
from matplotlib.patches import Circle, Rectangle
from matplotlib.ticker import MaxNLocator
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from spinloom.anneal import relax
from spinloom.draw import ENERGY_COLOURS, PAGE, RED, Figure, colour_wheel, draw_texture, tidy
from spinloom.figures.folder import Folder, label
from spinloom.figures.settings import Fig5
from spinloom.figures.sheet import INK, Sheet
from spinloom.files import write_bytes
from spinloom.findings import Found
from spinloom.latent import LatentMap, Plane, latent_map
from spinloom.measure import Table, measure
from spinloom.optimise import SearchConfig
from spinloom.paths import Path as LatentPath
from spinloom.paths import interpolate
from spinloom.rows import display_name, fixed
from spinloom.run import Run
from spinloom.sample import decoded, prior_latents
from spinloom.search import search
from spinloom.spectrum import structure_factor
from spinloom.topology import nodal_centres
from spinloom.typing import Spins

GOALS = {"I": ("max-mz", "most $M_z$"), "II": ("min-mz", "least $M_z$"), "III": ("min-energy", "least ε")}
WAYS = {"b": ("I", "II", "#0072b2"), "c": ("I", "III", "#d55e00"), "d": ("II", "III", "#009e73")}
"""Letter → the two ends and a colour (Okabe & Ito)."""

ASKED = ("population", "generations", "head_start", "inner_relax", "relax")
"""What can be asked of a search."""

ANSWER = "answer.safetensors"

SPAN = (-2, 2)
"""Of either coordinate of the plane."""

SHOWN = 9
"""Textures in a strip."""

SWEEPS = 50
"""Zero-temperature sweeps of the dashed curves."""

BESIDE = 500
"""Textures of the prior that the answers of a single run are seen beside."""


def draw(folder: Folder, given: Fig5) -> tuple[Figure, str]:
    """The figure and its caption."""
    run = folder.model
    # every search has first codes of its own, so that short ones cannot end at one code
    found = {
        name: look_for(folder, run, goal, given.seed + number, given)
        for number, (name, (goal, _)) in enumerate(GOALS.items())
    }
    plane = Plane.through(*(found[name].z for name in GOALS))
    codes = "-".join(f"{float(found[name].z.double().sum()):.6f}" for name in GOALS)
    keep = folder.kept(f"plane-{given.resolution}-{codes}.safetensors")
    H = folder.hamiltonian
    map_ = latent_map(run.decode, H, plane, SPAN, given.resolution, keep=keep, label=label(run), show=folder.show)
    ways = {
        letter: interpolate(run.decode, found[one].z, found[other].z, H, given.images)
        for letter, (one, other, _) in WAYS.items()
    }

    up, across = folder.results["size"]
    gap, margin = 0.05, 0.28
    side = (PAGE - margin - 0.06 - gap * (SHOWN - 1)) / SHOWN
    tall = side * up / across
    first, strips, curves, charts = 2.86, 3 * (tall + 0.24), 1.72, 1.6
    sheet = Sheet(PAGE, first + strips + curves + charts)
    plane_panel(sheet, map_, plane, sheet.height)
    found_panels(sheet, found, folder, sheet.height)
    top = sheet.height - first
    for letter, way in ways.items():
        strip(sheet, letter, way, top, side, tall, margin, gap)
        top -= tall + 0.24
    curve_panels(sheet, ways, folder, top)
    distributions(sheet, found, *beside(folder, given))
    return sheet.figure, caption(folder, found, given)


def search_config(given: Fig5, seed: int | None = None) -> SearchConfig:
    """How one of the searches goes.

    Raises:
        BadInput: it cannot.
    """
    asked = {name: getattr(given, name) for name in ASKED}
    return SearchConfig(seed=given.seed if seed is None else seed, **asked)


@dataclass(frozen=True)
class Answer:
    """What a search found.

    Attributes:
        z: the code (n,).
        spins: its texture (3, H, W) after the sweeps that end the search.
        report: see :func:`spinloom.findings.reports`.
    """

    z: Tensor
    spins: Spins
    report: Mapping[str, Any]


def look_for(folder: Folder, run: Run, goal: str, seed: int, given: Fig5) -> Answer:
    """The answer of a search. Both are kept: a search that is asked for again brings its candidates to rest again."""
    asked = {name: getattr(given, name) for name in ASKED}
    name = "-".join([goal, str(seed), *(f"{key}{value}" for key, value in asked.items() if value is not None)])
    place = folder.kept(name)
    mark = json.dumps([label(run), folder.hamiltonian.as_dict(), name])
    answer = _kept(place / ANSWER, mark)
    if answer is None:
        found = search(run, folder.hamiltonian, goal, seed=seed, out=place, show=folder.show, **asked)
        assert isinstance(found, Found)
        answer = Answer(found.z, found.spins, found.report)
        tensors = {"z": answer.z.contiguous(), "spins": answer.spins.contiguous()}
        write_bytes(place / ANSWER, save(tensors, {"search": mark, "report": json.dumps(answer.report)}))
    return answer


def _kept(file: Path, mark: str) -> Answer | None:
    """An answer that is there, of this search; the search itself says what is wrong with a folder of another one."""
    try:
        with safe_open(file, "pt") as handle:
            told = handle.metadata() or {}
            if told.get("search") != mark:
                return None
            return Answer(handle.get_tensor("z"), handle.get_tensor("spins"), json.loads(told["report"]))
    except (OSError, SafetensorError):
        return None


# a and what was found


def plane_panel(sheet: Sheet, map_: LatentMap, plane: Plane, top: float) -> None:
    """a: ε on the plane, the three codes and the lines between them."""
    side = 1.75
    ax = sheet.axes(0.48, top - 0.2 - side, side, side)
    sheet.letter("a", 0.04, top - 0.02)
    low, high = (float(value) for value in np.quantile(map_.energy_excess.numpy(), (0.002, 0.998)))
    half = SPAN[1] * plane.unit
    image = ax.imshow(
        1e3 * map_.energy_excess.numpy(),
        origin="lower",
        extent=(-half, half, -half, half),
        cmap=ENERGY_COLOURS,
        vmin=1e3 * low,
        vmax=1e3 * high,
    )
    marks = {name: np.array(place) * plane.unit for name, place in zip(GOALS, plane.marks.values(), strict=True)}
    edge = [patheffects.withStroke(linewidth=2.6, foreground="white")]
    for one, other, colour in WAYS.values():
        ax.plot(*np.stack((marks[one], marks[other]), 1), color=colour, lw=1.4, path_effects=edge)
    for name, place in marks.items():
        ax.plot(*place, "o", ms=4.5, mfc="white", mec=INK, mew=0.9, zorder=4)
        away = place / max(float(np.hypot(*place)), 1e-9)
        text = ax.annotate(
            name,
            (place[0], place[1]),
            (9 * away[0], 9 * away[1]),
            textcoords="offset points",
            ha="center",
            va="center",
            zorder=5,
        )
        text.set(fontsize=8, fontweight="bold", color=INK)
        text.set_path_effects([patheffects.withStroke(linewidth=2.2, foreground="white")])
    ax.set_xlabel("along II − I, in latent space", fontsize=7, labelpad=1)
    ax.set_ylabel("across", fontsize=7, labelpad=-1)
    ax.xaxis.set_major_locator(MaxNLocator(4))
    ax.yaxis.set_major_locator(MaxNLocator(4))
    ax.tick_params(labelsize=7, length=2, width=0.6, pad=2)
    for spine in ax.spines.values():
        spine.set_linewidth(0.6)
    sheet.bar(image, (2.3, top - 0.2 - side, 0.09, side), "ε (10⁻³ J)")


def found_panels(sheet: Sheet, found: Mapping[str, Answer], folder: Folder, top: float) -> None:
    """The three textures after the sweeps, their structure factors and what they are."""
    side, left, gap = 0.95, 3.2, 0.1
    up, across = folder.results["size"]
    tall = side * up / across
    factors = {name: shares(found[name]) for name in GOALS}
    most = max(float(factor.max()) for factor in factors.values())
    ring = math.atan2(abs(folder.hamiltonian.D), folder.hamiltonian.J)
    # pixels are centred at q = 2π(n/W, m/H), from −π on
    west, south = math.pi / across, math.pi / up
    extent = (-math.pi - west, math.pi - west, -math.pi - south, math.pi - south)
    image = None
    for number, (name, (_, words)) in enumerate(GOALS.items()):
        x = left + number * (side + gap)
        spins, report = found[name].spins, found[name].report
        ax = sheet.axes(x, top - 0.2 - tall, side, tall)
        draw_texture(ax, spins, nodal_centres(spins[None])[0])
        frame(ax)
        ax.set_title(f"{name}: {words}", fontsize=8, fontweight="bold", pad=4)
        ax = sheet.axes(x, top - 0.28 - tall - side, side, side)
        image = ax.imshow(
            factors[name].numpy(),
            origin="lower",
            cmap="magma",
            norm=LogNorm(1e-4, most),
            extent=extent,
        )
        ax.add_patch(Circle((0, 0), ring, fill=False, ec="#56b4e9", lw=0.7, ls=(0, (3, 2))))
        reach = 3.2 * ring
        ax.set(xlim=(-reach, reach), ylim=(-reach, reach), facecolor="black")
        ticks = [-1, 0, 1] if reach > 1 else [-0.5, 0, 0.5]
        ax.set_xticks(ticks)
        ax.set_yticks(ticks if number == 0 else [])
        ax.tick_params(labelsize=7, length=2, width=0.6, pad=2)
        ax.set_xlabel("$q_x$ (1/site)", fontsize=7, labelpad=1)
        if number == 0:
            ax.set_ylabel("$q_y$ (1/site)", fontsize=7, labelpad=-1)
        pattern, stage = report["pattern"], report["stages"]["relaxed"]
        lines = (
            pattern["kind"].replace("skyrmions among stripes", "skyrmions, stripes"),
            f"Q = {fixed(round(pattern['charge']), 0)}, {int(stage['nodal_points'])} ○",
        )
        sheet.words("\n".join(lines), x + side / 2, top - 0.6 - tall - side, va="top", linespacing=1.25)
    assert image is not None
    edge = left + 3 * (side + gap)
    sheet.bar(image, (edge - 0.03, top - 0.28 - tall - side, 0.08, side), "share of S(q)", extend="min", log=True)
    wheel = 0.68
    colour_wheel(sheet.axes(edge - 0.07, top - 0.2 - tall / 2 - wheel / 2, wheel, wheel), fontsize=7)


def shares(found: Answer) -> Any:
    """S(q) as shares of all at q ≠ 0, (H, W), with q = 0 in the middle and rows towards +q_y."""
    factor = structure_factor(found.spins)
    factor[0, 0] = 0
    return torch.fft.fftshift(factor / factor.sum()).clamp(min=1e-12)


def frame(ax: Axes) -> None:
    ax.add_patch(Rectangle((0, 0), 1, 1, transform=ax.transAxes, fill=False, ec=RED, lw=2.0, clip_on=False))


# b–d


def strip(
    sheet: Sheet, letter: str, way: LatentPath, top: float, side: float, tall: float, left: float, gap: float
) -> None:
    """Textures along a line, the ends framed."""
    one, other, colour = WAYS[letter]
    sheet.letter(letter, 0.04, top)
    sheet.words(f"{one}–{other}", 0.13, top - 0.2 - tall / 2 - 0.04, rotation=90, color=colour, fontweight="bold")
    images = np.linspace(0, len(way.spins) - 1, SHOWN).round().astype(int)
    chosen = way.spins[images]
    energies = way.table["energy_excess"]
    for column, (image, spins, centres) in enumerate(zip(images, chosen, nodal_centres(chosen), strict=True)):
        ax = sheet.axes(left + column * (side + gap), top - 0.17 - tall, side, tall)
        draw_texture(ax, spins, centres)
        ax.set_title(f"ε {fixed(1e3 * float(energies[image]), 1)}", fontsize=7, pad=2)
        if column in (0, SHOWN - 1):
            frame(ax)


CURVES = {"energy_excess": "ε (10⁻³ J)", "mz": "$M_z$", "charge": "charge Q", "nodal_points": "nodal points"}


def curve_panels(sheet: Sheet, ways: Mapping[str, LatentPath], folder: Folder, top: float) -> None:
    """What is measured along the lines: solid as decoded, dashed after a few zero-temperature sweeps."""
    between, tall, left = 0.5, 1.0, 0.46
    across = (PAGE - left - 0.1 - between * (len(CURVES) - 1)) / len(CURVES)
    after = {
        letter: measure(relax(way.spins, folder.hamiltonian, SWEEPS), folder.hamiltonian)
        for letter, way in ways.items()
    }
    base = top - 0.34 - tall
    for number, (quantity, name) in enumerate(CURVES.items()):
        ax = sheet.axes(left + number * (across + between), base, across, tall)
        for letter, way in ways.items():
            colour = WAYS[letter][2]
            curve(ax, way, way.table, quantity, color=colour, lw=1.1, fine=quantity == "energy_excess")
            curve(ax, way, after[letter], quantity, color=colour, lw=0.9, ls=(0, (2.5, 1.5)))
        ax.set_title(name, fontsize=8, pad=3)
        ax.set_xlabel("share of the line", fontsize=7, labelpad=2)
        ax.set_xlim(0, 1)
        ax.set_xticks([0, 0.5, 1], ["0", "½", "1"])
        ax.yaxis.set_major_locator(MaxNLocator(4, integer=quantity in ("charge", "nodal_points"), min_n_ticks=2))
        ax.margins(y=0.08)
        tidy(ax)
    handles = [Line2D([], [], color=colour, lw=1.4, label=f"{one}–{other}") for one, other, colour in WAYS.values()]
    handles += [
        Line2D([], [], color="0.4", lw=1.1, label="as decoded"),
        Line2D([], [], color="0.4", lw=0.9, ls=(0, (2.5, 1.5)), label=f"after {SWEEPS} zero-temperature sweeps"),
    ]
    place: dict[str, Any] = {"loc": "upper center", "bbox_to_anchor": (0.5, top / sheet.height), "frameon": False}
    sheet.figure.legend(handles=handles, ncols=len(handles), fontsize=7, borderpad=0, **place)


def curve(ax: Axes, way: LatentPath, table: Table, quantity: str, fine: bool = False, **look: Any) -> None:
    scale = 1e3 if quantity == "energy_excess" else 1.0
    if fine:
        length = way.fine_length.numpy()
        ax.plot(length / length[-1], scale * way.fine_energy.numpy(), **look)
        return
    along, values = way.length.numpy() / float(way.length[-1]), scale * np.asarray(table[quantity], float)
    if quantity in ("charge", "nodal_points"):
        ax.step(along, values.round(), where="mid", **look)
    else:
        ax.plot(along, values, **look)


# e and f


def beside(folder: Folder, given: Fig5) -> tuple[str, Table]:
    """What the answers are seen beside: the test data or, where there are none, textures of the prior, relaxed."""
    if folder.single is None:
        return "test data", folder.measured("test-data")
    z = prior_latents(given.seed, BESIDE, folder.latent)
    relaxed = relax(decoded(folder.model.decode, z), folder.hamiltonian, SWEEPS)
    return "the prior", measure(relaxed, folder.hamiltonian)


def distributions(sheet: Sheet, found: Mapping[str, Answer], name: str, table: Table) -> None:
    """M_z and ε of the textures of a table, called ``name``, and where the answers are."""
    tall, base, across = 0.95, 0.4, 2.85
    ground = found["III"].report["ground_state"]
    panels = (
        ("e", "mz", 1.0, "$M_z$", ("I", "II"), None),
        ("f", "energy_excess", 1e3, "ε (10⁻³ J)", ("III",), ground and 1e3 * ground["energy_excess"]),
    )
    for number, (letter, quantity, scale, symbol, ends, lowest) in enumerate(panels):
        left = 0.55 + number * (across + 0.68)
        ax = sheet.axes(left, base, across, tall)
        sheet.letter(letter, left - 0.51, base + tall + 0.22)
        values = scale * np.asarray(table[quantity], float)
        ax.hist(values, bins=40, color="0.62")
        most = ax.get_ylim()[1]
        for height, end in zip((0.44, 0.27), ends, strict=False):
            stages = found[end].report["stages"]
            decoded, relaxed = (scale * stages[stage][quantity] for stage in ("decoded", "relaxed"))
            ax.plot(decoded, 0, "v", ms=5, mfc="white", mec=RED, mew=1.0, clip_on=False, zorder=4)
            ax.plot(relaxed, 0, "v", ms=5, color=RED, clip_on=False, zorder=4)
            ax.plot([relaxed, relaxed], [0, 0.5 * most], color=RED, lw=1.1)
            # beside its line, towards the data
            right = relaxed < float(np.median(values))
            words = f"  {end}: {fixed(relaxed, 3 if scale == 1 else 1)}  "
            text = ax.text(relaxed, height * most, words, ha="left" if right else "right", va="center", fontsize=7)
            text.set_path_effects([patheffects.withStroke(linewidth=2.2, foreground="white")])
        handles = [
            Rectangle((0, 0), 1, 1, fc="0.62", label=name),
            Line2D([], [], ls="none", marker="v", ms=5, mfc="white", mec=RED, label="as decoded"),
            Line2D([], [], ls="none", marker="v", ms=5, color=RED, label="relaxed"),
        ]
        if lowest:
            ax.axvline(lowest, color=INK, lw=0.9, ls=(0, (4, 2)))
            handles.append(Line2D([], [], color=INK, lw=0.9, ls=(0, (4, 2)), label="ground state"))
        ax.margins(x=0.06)
        ax.set_ylim(0, 1.05 * most)
        ax.set_xlabel(symbol, fontsize=8, labelpad=2)
        ax.set_ylabel("textures", fontsize=8)
        ax.xaxis.set_major_locator(MaxNLocator(6))
        ax.yaxis.set_major_locator(MaxNLocator(3, integer=True))
        above: dict[str, Any] = {"loc": "lower right", "bbox_to_anchor": (1.02, 0.98), "borderpad": 0}
        ax.legend(handles=handles, ncols=4, fontsize=7, frameon=False, handlelength=1.4, columnspacing=1.0, **above)
        tidy(ax)


def caption(folder: Folder, found: Mapping[str, Answer], given: Fig5) -> str:
    told = []
    for name, (_, words) in GOALS.items():
        report = found[name].report
        quantity, letter = ("energy_excess", "ε") if name == "III" else ("mz", "M_z")
        before, after = (fixed(report["stages"][stage][quantity], 4) for stage in ("decoded", "relaxed"))
        kind = report["pattern"]["kind"]
        told.append(f"{name} ({words.replace('$', '')}): {letter} = {before} as decoded, {after} relaxed, {kind}")
    theirs = f"M_z and ε of {BESIDE} textures of the prior after {SWEEPS} zero-temperature sweeps"
    theirs = "The test data’s M_z and ε" if folder.single is None else theirs
    return f"""The paper’s Fig. 5. Codes of the {display_name(folder.model.objective)} found by a genetic algorithm
    (seeds {given.seed} to {given.seed + 2}, {given.head_start} gradient steps before it): {"; ".join(told)}. (a) ε on
    the plane through the three codes, and the lines between them; beside it the textures after the sweeps that end each
    search, framed red, and their structure factors as shares of all at q ≠ 0; the dashed circle is the spiral’s |q|.
    (b–d) Textures G(z) on the straight lines, ends framed, nodal points circled, ε above in 10⁻³ J; below, what is
    measured on {given.images} textures of each. (e, f) {theirs}, and those of I, II, III."""
