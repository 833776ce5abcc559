"""From a labyrinth to a skyrmion lattice and on to saturation as the field rises, with the charge counted.

    python docs/examples/skyrmion_lattice.py [--size 80] [--samples 4] [--out FOLDER] [--quick]

Two histories. *Driven*: zero-field labyrinths are taken through a rising field at k_B T = 0.4 J. *Cooled*: for
each field fresh textures are cooled slowly from k_B T = 0.8 J. All are then relaxed at T = 0, so that what is
counted is the texture and not the thermal noise.

Every wall turns with the handedness that the DMI wants, so each closed wall carries its winding: Q = −χ, with χ
the number of domains that point down less the number of holes in them (the Euler number of the region S_z < 0).
Where all those domains are skyrmions, |Q| is their number. Writes skyrmion-lattice.png, prints JSON.
"""

import argparse
import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

import spinloom as sl
from spinloom.draw import PAGE, colour_wheel, draw_texture, new_figure

H = sl.Hamiltonian(J=1.0, D=0.5)
B_D = H.D**2 / H.J  # the one scale of field
PERIOD = 2 * math.pi / math.atan(H.D / H.J)  # λ of the zero-field spiral, in sites
TEMPERATURE = 0.4
DPI = 150
SHOWN = (0.0, 0.2, 0.5, 0.8, 1.0)  # in units of B_D
SPIRAL_ENDS, LATTICE_ENDS = 0.22, 0.80  # of the ground state, in units of B_D; found in tests/test_micromagnetic.py


def euler_number(spins: Tensor) -> Tensor:
    """Domains with S_z < 0 less their holes, from sites, bonds and plaquettes: χ = V − E + F on the torus."""
    down = spins[..., 2, :, :] < 0
    along_x, along_y = down & down.roll(-1, -1), down & down.roll(-1, -2)
    plaquettes = along_x & along_x.roll(-1, -2)
    vertices, edges_x, edges_y, faces = (part.sum((-2, -1)) for part in (down, along_x, along_y, plaquettes))
    return vertices - edges_x - edges_y + faces


def driven(fields: np.ndarray, start: Tensor, sweeps: int) -> list[Tensor]:
    """The textures of ``start`` taken from field to field, and what they relax to in each."""
    hold = sl.Schedule.constant(TEMPERATURE, sweeps, over_relax=4)
    spins, relaxed = start, []
    for seed, b in enumerate(fields, start=1):
        here = replace(H, B=float(b) * B_D)
        spins = sl.anneal(here, start=spins, schedule=hold, seed=seed)
        relaxed.append(sl.relax(spins, here, sweeps=200))
    return relaxed


def cooled(fields: np.ndarray, size: int, samples: int, steps: int) -> list[Tensor]:
    """Fresh textures in every field: field cooling."""
    cool = sl.Schedule.geometric(0.8, 0.05, steps=steps, heat_bath=1, over_relax=4).then_relax(400)
    return [sl.anneal(replace(H, B=float(b) * B_D), size, samples, seed=1, schedule=cool) for b in fields]


def table(textures: list[Tensor]) -> dict[str, list]:
    """Charge, Euler number and magnetisation of each texture, a list a field."""
    return {
        "charge": [sl.charge(spins).tolist() for spins in textures],
        "euler": [euler_number(spins).tolist() for spins in textures],
        "mz": [spins[:, 2].mean((-2, -1)).tolist() for spins in textures],
    }


def draw(fields: np.ndarray, rows: dict[str, list[Tensor]], found: dict[str, dict[str, list]]) -> Figure:
    """Both histories and the cooled one's structure factor; charge and magnetisation over the field."""
    width, height = PAGE, 6.15
    figure = new_figure(width, height)

    def axes(left: float, bottom: float, wide: float, tall: float) -> Axes:  # in inches
        return figure.add_axes((left / width, bottom / height, wide / width, tall / height))

    side, gap, left = 160 / DPI, 10 / DPI, 72 / DPI  # whole pixels a site
    size = rows["driven"][0].shape[-1]
    for column, b in enumerate(SHOWN):
        at = int(np.abs(fields - b).argmin())
        x = left + column * (side + gap)
        for row, bottom in (("driven", 716 / DPI), ("cooled", 526 / DPI)):
            ax = axes(x, bottom, side, side)
            draw_texture(ax, rows[row][at][0])
            for spine in ax.spines.values():
                spine.set(visible=True, linewidth=0.4, color="0.6")
            charge = found[row]["charge"][at][0]
            title = f"Q = {round(charge)}" if row == "cooled" else f"B = {fields[at]:.1f} D²/J\nQ = {round(charge)}"
            ax.set_title(title.replace("-", "−"), fontsize=7, pad=3)
            if column == 0:
                ax.set_ylabel(f"{row}\n{size} sites = {size / PERIOD:.1f} λ", fontsize=7)

        factor = sl.structure_factor(rows["cooled"][at][0]) / size**2
        factor[0, 0] = 0  # M² alone, and stronger than all the rest
        step = PERIOD / size  # between wave vectors, in 2π/λ
        low, high = -(size / 2 + 0.5) * step, (size / 2 - 0.5) * step
        ax = axes(x, 348 / DPI, side, side)
        picture = torch.fft.fftshift(factor.sqrt())
        image = ax.imshow(picture, origin="lower", extent=(low, high, low, high), cmap="magma", vmin=0, vmax=0.4)
        ax.set(xlim=(-2.4, 2.4), ylim=(-2.4, 2.4), xticks=(-2, 0, 2), yticks=(-2, 0, 2))
        ax.tick_params(labelsize=7, length=2, pad=2, labelleft=column == 0)
        ax.set_xlabel("$q_x$ (2π/λ)", fontsize=7, labelpad=1)
        if column == 0:
            ax.set_ylabel("cooled\n$q_y$ (2π/λ)", fontsize=7, labelpad=1)
    right = left + len(SHOWN) * (side + gap)
    colour_wheel(axes(right, 4.86, 0.86, 0.86))
    bar = figure.colorbar(image, cax=axes(right, 348 / DPI, 0.09, side))
    bar.set_label("$\\sqrt{S(q)/N}$, q ≠ 0", fontsize=7)
    bar.ax.tick_params(labelsize=7, length=2, pad=2)

    last = float(fields[-1])
    phases = (
        (0, SPIRAL_ENDS, "spiral"),
        (SPIRAL_ENDS, LATTICE_ENDS, "skyrmion lattice"),
        (LATTICE_ENDS, last, "uniform"),
    )
    for x, name, label in ((left, "charge", "skyrmions, −Q"), (left + 3.42, "mz", "$M_z/M_s$")):
        ax = axes(x, 0.42, 2.95, 1.3)
        for start, stop, text in phases:
            ax.axvspan(start, stop, color="0.9" if text == "skyrmion lattice" else "white", linewidth=0)
            ax.text((start + stop) / 2, 1.03, text, fontsize=7, ha="center", transform=ax.get_xaxis_transform())
        for row, style in (("driven", "o-"), ("cooled", "s--")):
            values = np.array(found[row][name]) * (-1 if name == "charge" else 1)
            ax.errorbar(fields, values.mean(1), values.std(1), fmt=style, ms=3, lw=1, elinewidth=0.8, label=row)
        ax.set(xlim=(0, last))
        ax.set_xlabel("field B (D²/J)", fontsize=7, labelpad=2)
        ax.set_ylabel(label, fontsize=7, labelpad=2)
        ax.tick_params(labelsize=7, length=2, pad=2)
        if name == "mz":
            ax.legend(fontsize=7, frameon=False, loc="lower right")
    return figure


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    ask.add_argument("--size", type=int, default=80, help="sites along a side")
    ask.add_argument("--samples", type=int, default=4, help="textures in each field")
    ask.add_argument("--out", type=Path, default=Path(__file__).parents[1] / "images", help="folder of the picture")
    ask.add_argument("--quick", action="store_true", help="fewer fields and sweeps")
    asked = ask.parse_args()

    fields = np.linspace(0, 1.2, 7 if asked.quick else 13).round(3)
    sweeps, steps = (100, 100) if asked.quick else (400, 4000)
    labyrinths = sl.anneal(H, asked.size, asked.samples, seed=0)
    rows = {
        "driven": driven(fields, labyrinths, sweeps),
        "cooled": cooled(fields, asked.size, asked.samples, steps),
    }
    found = {name: table(textures) for name, textures in rows.items()}
    asked.out.mkdir(parents=True, exist_ok=True)
    path = asked.out / "skyrmion-lattice.png"
    draw(fields, rows, found).savefig(path, dpi=DPI, pil_kwargs={"optimize": True})
    print(json.dumps({"picture": str(path), "field_unit": B_D, "fields": fields.tolist(), **found}))


if __name__ == "__main__":
    main()
