"""What a training's generator draws meanwhile: a run shows early whether it learns, and whether it collapses."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

from spinloom.anneal import relax
from spinloom.coverage import FEWEST, CoverageReference
from spinloom.dataset import Dataset
from spinloom.errors import BadInput
from spinloom.files import read_lines, write_bytes, write_lines
from spinloom.measure import measure
from spinloom.sample import sample_latents
from spinloom.typing import Spins

FILE, FOLDER = "watch.jsonl", "watch"

TEXTURES = 200
"""Textures drawn at every look, and held-out ones that they are compared with, at most."""

SHOWN = 6
"""Textures in the picture of a look."""

FALL = 0.5
"""Coverage, or spread, has fallen when it is below this part of its best so far,"""

ALIKE = 0.3
"""Relaxed samples whose distinctness is below this are of a few modes; data have 1."""

SWEEPS = 20
"""Of zero-temperature alignment: the generator's defects alone would make every sample distinct."""

WORTH = {"coverage": 0.2, "spread": 0.3}
"""if that was above this: coverage is near 0 in any training's beginning."""


@dataclass
class Watch:
    """Looks at a generator every few hundred steps.

    A look draws the same prior codes every time, with batch statistics frozen, and leaves the networks as they were:
    a run that is watched has the bits of one that is not. It appends a line to ``watch.jsonl`` and writes a picture,
    ``watch/step-….png``, where matplotlib is installed.

    Attributes:
        out: the run's folder.
        held_out: textures that are not trained on.
        latent: dimension of the latent space.
        seed: of the codes.
        lines: what was seen so far.
        picture: the last look's figure, where matplotlib is installed.
    """

    out: Path
    held_out: Dataset
    latent: int
    seed: int
    lines: list[dict[str, Any]] = field(default_factory=list)
    picture: Any = None
    _reference: CoverageReference | None = None

    def resume(self, step: int) -> None:
        """Keep what was seen up to ``step``."""
        self.lines = [line for line in read_lines(self.out / FILE) if line["step"] <= step]
        if (self.out / FILE).exists():
            self._write()

    def _write(self) -> None:
        write_lines(self.out / FILE, self.lines)

    def look(self, step: int, generator: nn.Module) -> str:
        """Draw, measure, write; a line that says what was found, or why nothing was: that does not stop a training."""
        try:
            return self._look(step, generator)
        except (BadInput, OSError, ValueError, RuntimeError) as error:
            why = (str(error).splitlines() or [type(error).__name__])[0]
            return f"step {step}: no look at the generator ({why}); the training goes on"

    def has(self, step: int) -> bool:
        """Whether the last look was at this step."""
        return bool(self.lines) and self.lines[-1]["step"] == step

    def _look(self, step: int, generator: nn.Module) -> str:
        spins = self._draw(generator)
        found: dict[str, Any] = {"step": step} | _summary(spins, self.held_out)
        reference = self._known()
        if reference is not None:
            judged = reference(spins)
            found |= {
                "coverage": round(judged.coverage, 4),
                "broad": judged.broad,
                "knn_precision": round(judged.knn["precision"], 4),
                "knn_recall": round(judged.knn["recall"], 4),
                "data_against_data": round(judged.data_against_data, 4),
                "spread": round(reference.spread(spins), 4),
            }
            H = self.held_out.hamiltonian
            if H is not None:
                found["distinctness"] = round(reference.distinctness(relax(spins, H, SWEEPS)), 4)
        collapse = collapsed([*self.lines, found])
        if collapse:
            found["collapse"] = collapse
        self.lines.append(found)
        self._write()
        self._paint(step, spins)
        return said(found)

    def _draw(self, generator: nn.Module) -> Spins:
        device = next(generator.parameters()).device
        learning = generator.training
        generator.eval()
        try:
            return sample_latents(lambda z: generator(z.to(device)), None, TEXTURES, self.latent, None, self.seed)[0]
        finally:
            generator.train(learning)

    def _known(self) -> CoverageReference | None:
        """The held-out textures' side of the coverage, made at the first look; None if they are too few."""
        if self._reference is None and len(self.held_out) >= FEWEST:
            self._reference = CoverageReference(self.held_out[:TEXTURES], H=self.held_out.hamiltonian)
        return self._reference

    def _paint(self, step: int, spins: Spins) -> None:
        try:
            from spinloom.draw import hero, png_bytes
        except ImportError:  # a machine with the bare necessities
            return
        self.picture = hero(spins[:SHOWN])
        self.picture.set_dpi(100)
        (self.out / FOLDER).mkdir(exist_ok=True)
        write_bytes(self.out / FOLDER / f"step-{step:06d}.png", png_bytes(self.picture))


def _summary(spins: Spins, held_out: Dataset) -> dict[str, Any]:
    table = measure(spins, held_out.hamiltonian).summary()
    found: dict[str, Any] = {}
    if "energy_excess" in table:
        found["energy_excess"] = {name: round(value, 5) for name, value in table["energy_excess"].items()}
        data = held_out.info["statistics"].get("energy_excess")
        found["data_energy_excess"] = data and round(data["mean"], 5)
    found["nodal_points"] = round(table["nodal_points"]["mean"], 4)
    found["mz_std"] = round(table["mz"]["std"], 5)
    return found


def collapsed(lines: list[dict[str, Any]]) -> str | None:
    """Which quantity says, at the last of these looks, that the modes collapse; None if none does.

    Relaxed samples are all but copies of a few (``distinctness`` under :data:`ALIKE`), from whatever look on. Or
    the coverage, or the spread of the samples in the space of features, is below half of the best it was. A spread
    beyond the data's own counts as the data's, and a coverage that outliers inflate (``broad``) does not count.
    """
    if lines and lines[-1].get("distinctness", 1.0) < ALIKE:
        return "distinctness"
    for name, worth in WORTH.items():
        inflated = name == "coverage"
        known = [line for line in lines if line.get(name) is not None and not (inflated and line.get("broad"))]
        values = [min(line[name], 1.0) for line in known]
        if not known or known[-1] is not lines[-1]:
            continue
        if max(values) > worth and values[-1] < FALL * max(values):
            return name
    return None


def said(found: dict[str, Any]) -> str:
    """A look in one line."""
    parts = []
    if "energy_excess" in found:
        energy, data = found["energy_excess"], found["data_energy_excess"]
        parts.append(f"ε = {energy['mean']:.4f} ± {energy['std']:.4f}" + (f" (data {data:.4f})" if data else ""))
    parts.append(f"{found['nodal_points']:.2f} nodal points")
    if "coverage" in found:
        mark = "†" if found["broad"] else ""
        parts.append(f"coverage {found['coverage']:.2f}{mark} (data {found['data_against_data']:.2f})")
    else:
        parts.append(f"no coverage (it needs {FEWEST} held-out textures)")
    line = f"step {found['step']}: " + ", ".join(parts)
    if found.get("collapse") == "distinctness":
        value = found["distinctness"]
        line += f"; relaxed, its samples are a few and near copies (distinctness {value:.2f}): a mode collapse?"
    elif "collapse" in found:
        line += f"; its {found['collapse']} has fallen to under half of what it was: a mode collapse?"
    return line
