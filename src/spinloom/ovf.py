"""OVF, the vector field files of OOMMF, mumax³, Ubermag and Spirit: versions 1.0 and 2.0 in, 2.0 out.

A file is a header of ``# label: value`` lines and a block of numbers, as text or as IEEE numbers after a check
value: big-endian and scaled by ``valuemultiplier`` in 1.0, little-endian in 2.0. x runs fastest, then y, then z,
and y grows with the row, as here.

Source: OOMMF User's Guide, "Vector Field File Format (OVF)".
"""

from __future__ import annotations

import math
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, final

import numpy as np
import torch
from torch import Tensor

from spinloom.errors import BadInput, whole
from spinloom.files import write_bytes
from spinloom.hamiltonian import as_spins
from spinloom.magnetisation import LENGTHS, check_full, cropped, directions, one_layer
from spinloom.ovf_parser import CHECK, Parser, quoted
from spinloom.typing import SiteMap, Spins

Mode = Literal["text", "bin4", "bin8"]


@final
@dataclass(frozen=True, eq=False, repr=False)
class OvfField:
    """A vector field on a rectangular mesh, as an OVF file holds it.

    Attributes:
        vectors: (Z, 3, Y, X) in the file's units, ``valuemultiplier`` applied; float32 from 4-byte numbers,
            else float64.
        steps: the cell's sides x, y, z in ``meshunit``; None if the file does not say.
        meshunit: the unit of lengths, as written.
        valueunit: the unit of the vectors' x component, as written, e.g. ``A/m``.
        title: as written.
    """

    vectors: Tensor
    steps: tuple[float, float, float] | None
    meshunit: str
    valueunit: str
    title: str

    @cached_property
    def _split(self) -> tuple[Tensor, Tensor]:
        return directions(self.vectors)

    @property
    def spins(self) -> Spins:
        """Unit vectors (Z, 3, Y, X), float32; zero where there is no magnetisation (:attr:`outside`)."""
        return self._split[0]

    @property
    def magnitude(self) -> SiteMap:
        """The vectors' lengths (Z, Y, X), float64, in the file's units."""
        return self._split[1]

    @property
    def outside(self) -> Tensor:
        """Mask (Z, Y, X) of the cells of zero magnetisation: those outside the sample's edge."""
        return self.magnitude == 0

    @property
    def cell(self) -> tuple[float, float, float]:
        """The cell's sides (x, y, z) in metres.

        Raises:
            BadInput: the file gives no sides, or no unit of length that is known here.
        """
        unit = LENGTHS.get(self.meshunit.lower())
        if self.steps is None or unit is None:
            missing = "step sizes" if self.steps is None else f"meshunit {quoted(self.meshunit)} in metres"
            raise BadInput(f"cell: unknown, the file gives no {missing}; use vectors and steps, or give one")
        x, y, z = (step * unit for step in self.steps)
        return x, y, z

    def texture(self, layer: int | None = None, crop: Sequence[int] | None = None) -> Spins:
        """One layer as a texture (3, H, W) of unit spins without empty cells, e.g. for ``anneal(start=…)``.

        ``crop`` = (x0, x1, y0, y1) takes columns x0 to x1 − 1 and rows y0 to y1 − 1.

        Raises:
            BadInput: several layers and none chosen, a layer or crop beyond the field, or cells of zero
                magnetisation in it; the line names the largest part without any.
        """
        name = f"field {quoted(self.title)}"
        spins = cropped(one_layer(self.spins, layer, name), crop, name)
        check_full(cropped(one_layer(self.magnitude.unsqueeze(-3), layer, name), crop, name).squeeze(-3), name)
        return spins

    def __repr__(self) -> str:
        layers, _, rows, columns = self.vectors.shape
        unit = f" in {self.valueunit}" if self.valueunit else ""
        empty = int(self.outside.sum())
        outside = f", {empty} cells outside the sample" if empty else ""
        return f"<OvfField {self.title!r}: {columns} × {rows} × {layers} cells{unit}{outside}>"


def read_ovf(path: Path | str, segment: int | None = None) -> OvfField:
    """Read an OVF file (.ovf, .omf, .ohf): version 1.0 or 2.0, text, binary 4 or binary 8, rectangular mesh.

    ``segment`` chooses one of several fields in a file, from 0.

    Raises:
        BadInput: no such file; not OVF; an irregular mesh; vectors that have not three components; several
            segments and none chosen; a header or data that cannot be right: node counts that the file is too
            short for, a wrong check value, NaN or infinity, text that is no number.

    Source: OOMMF User's Guide, "Vector Field File Format (OVF)".
    """
    path = Path(path)
    if segment is not None and whole("segment", segment) < 0:
        raise BadInput(f"segment={segment}: segments count from 0; use e.g. segment=0")
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise BadInput(f"{path}: not a file; name an OVF file")
        with path.open("rb") as handle:
            found = Parser(path, handle, status.st_size).field(segment)
    except OSError as error:
        raise BadInput(f"{path}: cannot be read ({error.strerror}); check the path") from error
    vectors = torch.from_numpy(found.values).movedim(-1, 1).contiguous()
    return OvfField(vectors, found.steps, found.meshunit, found.valueunit, found.title)


def write_ovf(
    path: Path | str,
    spins: Any,
    cell: Sequence[float | int] = (2e-9, 2e-9, 1e-9),
    mode: str = "bin4",
    magnitude: float | int | None = None,
    title: str = "m",
) -> None:
    """Write spins (3, H, W), or layers (Z, 3, H, W), as OVF 2.0 for OOMMF, mumax³ and Ubermag.

    ``mode`` "bin4" keeps float32, "bin8" and "text" float64 bit for bit. ``cell`` is the size (x, y, z) of a cell
    in m. ``magnitude``, in A/m, multiplies the vectors; without it they are written as they are, without a unit,
    as mumax³ does its m. A file that is there is replaced; textures (n, 3, H, W) would become n layers of one
    film: write them one by one, or with :func:`~spinloom.export_dataset`.

    Raises:
        BadInput: another shape, a number that is not finite (in 4 bytes), a cell that is not positive, an
            unknown mode, or the file cannot be written.

    Source: OOMMF User's Guide, "The OVF 2.0 format".
    """
    write_bytes(path, ovf_bytes(spins, cell, mode, magnitude, title))


def ovf_bytes(
    spins: Any,
    cell: Sequence[float | int] = (2e-9, 2e-9, 1e-9),
    mode: str = "bin4",
    magnitude: float | int | None = None,
    title: str = "m",
) -> bytes:
    """The content of the file that :func:`write_ovf` writes."""
    representation = {"text": "Text", "bin4": "Binary 4", "bin8": "Binary 8"}.get(mode)
    if representation is None:
        raise BadInput(f"mode={mode!r}: unknown; use 'text', 'bin4' or 'bin8'")
    sides = checked_cell(cell)
    if len(title) > 400 or not title.isprintable() or "##" in title:  # which begins a comment
        raise BadInput(f"title={quoted(title)}: must be a line of at most 400 characters without ##; use e.g. 'm'")
    tensor = as_spins(spins).detach().cpu()
    if tensor.ndim not in (3, 4) or not tensor.numel():
        raise BadInput(
            f"spins of shape {tuple(tensor.shape)}: one file holds one texture (3, H, W) or its layers (Z, 3, H, W); "
            "write a file each"
        )
    vectors = np.moveaxis((tensor if tensor.ndim == 4 else tensor[None]).numpy(), 1, -1)
    with np.errstate(over="ignore"):
        if magnitude is not None:
            vectors = vectors * np.float64(checked_magnitude(magnitude))
        values = np.ascontiguousarray(vectors, "<f4" if mode == "bin4" else "<f8")
    if not np.isfinite(values).all():
        raise BadInput("spins: a number is not finite, or too large for 4 bytes; OVF holds finite numbers alone")
    layers, rows, columns, _ = values.shape
    label = "m" if magnitude is None else "M"
    unit = "1" if magnitude is None else "A/m"
    lines = ["# OOMMF OVF 2.0", "# Segment count: 1", "# Begin: Segment", "# Begin: Header", f"# Title: {title}"]
    lines += ["# meshtype: rectangular", "# meshunit: m"]
    nodes = (columns, rows, layers)
    axes = list(zip("xyz", nodes, sides, strict=True))
    lines += [f"# {axis}min: 0" for axis in "xyz"]
    lines += [f"# {axis}max: {many * side!r}" for axis, many, side in axes]
    lines += ["# valuedim: 3", f"# valuelabels: {label}_x {label}_y {label}_z", f"# valueunits: {unit} {unit} {unit}"]
    lines += [f"# {axis}base: {side / 2!r}" for axis, _, side in axes]
    lines += [f"# {axis}nodes: {many}" for axis, many, _ in axes]
    lines += [f"# {axis}stepsize: {side!r}" for axis, _, side in axes]
    lines += ["# End: Header", f"# Begin: Data {representation}", ""]
    if mode == "text":
        rows_of_text = (f"{x!r} {y!r} {z!r}\n" for x, y, z in values.reshape(-1, 3).tolist())
        block = "".join(rows_of_text).encode()
    else:
        block = np.array(CHECK[values.itemsize], values.dtype).tobytes() + values.tobytes() + b"\n"
    return "\n".join(lines).encode() + block + f"# End: Data {representation}\n# End: Segment\n".encode()


def checked_cell(cell: Any) -> tuple[float, float, float]:
    """The cell's sides as three floats.

    Raises:
        BadInput: not three positive, finite lengths.
    """
    try:
        sides = tuple(map(float, cell))
    except (TypeError, ValueError):
        sides = ()
    if len(sides) != 3 or not all(0 < side < math.inf for side in sides):
        raise BadInput(f"cell={cell}: need three positive lengths x, y, z in m; use e.g. 2e-9 2e-9 1e-9")
    return sides


def checked_magnitude(magnitude: Any) -> float:
    """The magnitude as a float.

    Raises:
        BadInput: it is not positive and finite.
    """
    try:
        value = float(magnitude)
    except (TypeError, ValueError, OverflowError):
        value = math.nan
    if not 1e-30 <= value <= 1e30:  # files of float32 hold no more
        raise BadInput(f"magnitude={str(magnitude)[:24]}: must be from 1e-30 to 1e30, in A/m; use e.g. 8e5")
    return value
