"""A field loop in real units: FeGe's magnetisation and charge as the field is driven up, down and up again.

    python docs/examples/field_loop.py [--size 96] [--samples 4] [--out FOLDER] [--quick]

Zero-field labyrinths of FeGe (bulk DMI) are driven round a loop at two temperatures of the Monte Carlo. Where
walls cannot nucleate the loop is open: at one and the same field stand the stripes of the way up and the
saturated state of the way down. Where they can, the loop closes and skyrmions come and go. The temperature only
sets how easily the lattice of cells crosses its barriers: it is not the temperature of a sample.
Writes field-loop.png, prints JSON.
"""

import argparse
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

import spinloom as sl
from spinloom.draw import PAGE, colour_wheel, draw_texture, new_figure

# Beg et al., Sci. Rep. 5, 17137 (2015)
FEGE = sl.Micromagnetic(A=8.78e-12, D=1.58e-3, Ms=3.84e5, cell=4e-9, thickness=10e-9, dmi="bulk")
H = sl.Hamiltonian(**FEGE.couplings)
LARGEST = 0.48  # T, above the saturation of every texture
MARKED = 0.2  # T, where the two ways are compared
TEMPERATURES = (0.2, 0.4)  # J
COLOURS = {0.2: "tab:blue", 0.4: "tab:red"}
DPI = 150


def loop(step: float) -> np.ndarray:
    """Fields in tesla: 0 → +max → −max → +max."""
    count = round(LARGEST / step)
    up = np.arange(count + 1)
    whole = np.concatenate((up, np.arange(count - 1, -count - 1, -1), np.arange(-count + 1, count + 1)))
    return (whole * LARGEST / count).round(6)


def drive(spins: Tensor, fields: np.ndarray, temperature: float, sweeps: int) -> tuple[dict[str, list], dict]:
    """M_z/M_s and Q of each texture in each field, relaxed there at T = 0; the textures at ``MARKED``."""
    hold = sl.Schedule.constant(temperature, sweeps, over_relax=4)
    mz, charge, marked = [], [], {}
    first_turn = int(fields.argmax())
    for number, tesla in enumerate(fields):
        here = replace(H, B=FEGE.field(float(tesla)))
        spins = sl.anneal(here, start=spins, schedule=hold, seed=number + 1)
        relaxed = sl.relax(spins, here, sweeps=100)
        mz.append(relaxed[:, 2].mean((-2, -1)).tolist())
        charge.append(sl.charge(relaxed).tolist())
        if tesla == MARKED and len(marked) < 2:
            marked["up" if number < first_turn else "down"] = relaxed[0]
    return {"mz": mz, "charge": charge}, marked


def area(fields: np.ndarray, mz: list) -> float:
    """Energy density ∮ M dB in J/m³ lost in one closed loop, from +max to −max and back."""
    turn = int(fields.argmax())
    mean = np.array(mz).mean(1)
    return abs(float(FEGE.Ms * ((mean[turn + 1 :] + mean[turn:-1]) / 2 * np.diff(fields[turn:])).sum()))


def draw(fields: np.ndarray, found: dict[float, dict[str, list]], marked: dict[float, dict[str, Tensor]]) -> Figure:
    """The textures at the marked field above the loops of M_z and Q."""
    width, height = PAGE, 3.8
    figure = new_figure(width, height)

    def axes(left: float, bottom: float, wide: float, tall: float) -> Axes:  # in inches
        return figure.add_axes((left / width, bottom / height, wide / width, tall / height))

    side, gap, left = 192 / DPI, 14 / DPI, 78 / DPI
    letters = iter("abcd")
    places = [(temperature, way) for temperature in TEMPERATURES for way in ("up", "down")]
    for column, (temperature, way) in enumerate(places):
        spins = marked[temperature][way]
        ax = axes(left + column * (side + gap), 342 / DPI, side, side)
        draw_texture(ax, spins)
        for spine in ax.spines.values():
            spine.set(visible=True, linewidth=0.4, color="0.6")
        charge = round(sl.charge(spins).item())
        arrow = {"up": "↑", "down": "↓"}[way]
        style = {"fontsize": 7, "pad": 3, "color": COLOURS[temperature]}
        ax.set_title(f"({next(letters)}) {MARKED * 1e3:.0f} mT {arrow}", loc="left", **style)
        ax.set_title(f"Q = {charge}".replace("-", "−"), loc="right", **style)
        if column == 0:
            ax.set_ylabel(f"{FEGE.metres(spins.shape[-1]) * 1e9:.0f} nm", fontsize=7)
    colour_wheel(axes(left + 4 * (side + gap) - 0.02, 2.5, 0.86, 0.86))

    turn, bottom = int(fields.argmax()), int(fields.argmin())
    ways = ((slice(0, turn + 1), ":"), (slice(turn, bottom + 1), "-"), (slice(bottom, None), "--"))
    for x, name, label in ((left, "mz", "$M_z/M_s$"), (left + 3.42, "charge", "charge Q")):
        ax = axes(x, 0.42, 2.95, 1.62)
        ax.axhline(0, color="0.8", lw=0.6)
        ax.axvline(MARKED * 1e3, color="0.8", lw=0.6)
        for temperature in TEMPERATURES:
            mean = np.array(found[temperature][name]).mean(1)
            for part, style in ways:
                text = f"$k_BT$ = {temperature} J" if style == "-" else None
                ax.plot(fields[part] * 1e3, mean[part], style, color=COLOURS[temperature], lw=1.1, label=text)
        if name == "charge":
            for style, text in ((":", "first rise"), ("-", "falling"), ("--", "rising")):
                ax.plot([], [], style, color="0.3", lw=1.1, label=text)
        ax.set(xlim=(-LARGEST * 1e3, LARGEST * 1e3))
        ax.set_xlabel("field μ₀H (mT)", fontsize=7, labelpad=2)
        ax.set_ylabel(label, fontsize=7, labelpad=2)
        ax.tick_params(labelsize=7, length=2, pad=2)
        handles, texts = ax.get_legend_handles_labels()
        cut = slice(0, 2) if name == "mz" else slice(2, None)
        ax.legend(
            handles[cut], texts[cut], fontsize=7, frameon=False, loc="upper left" if name == "mz" else "upper right"
        )
    return figure


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    ask.add_argument("--size", type=int, default=96, help="cells along a side")
    ask.add_argument("--samples", type=int, default=4, help="textures in the mean")
    ask.add_argument("--out", type=Path, default=Path(__file__).parents[1] / "images", help="folder of the picture")
    ask.add_argument("--quick", action="store_true", help="fewer fields and sweeps")
    asked = ask.parse_args()

    fields = loop(0.04 if asked.quick else 0.02)
    start = sl.anneal(H, asked.size, asked.samples, seed=0)
    found, marked = {}, {}
    for temperature in TEMPERATURES:
        found[temperature], marked[temperature] = drive(start, fields, temperature, 60 if asked.quick else 200)
    asked.out.mkdir(parents=True, exist_ok=True)
    path = asked.out / "field-loop.png"
    draw(fields, found, marked).savefig(path, dpi=DPI, pil_kwargs={"optimize": True})
    told = {str(t): {**found[t], "lost": area(fields, found[t]["mz"])} for t in TEMPERATURES}
    print(json.dumps({"picture": str(path), "tesla": fields.tolist(), "J": FEGE.J, "period": FEGE.period, **told}))


if __name__ == "__main__":
    main()
