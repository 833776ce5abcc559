"""Magnetisation as unit spins: directions and lengths, cells outside the sample, layers and crops."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, final

import numpy as np
import torch
from torch import Tensor

from spinloom.errors import BadInput, whole
from spinloom.typing import SiteMap, Spins

UNIT = 1e-6
"""Vectors this near to length 1 are unit vectors already and keep their bits."""

CONSTANT = 1e-5
"""Lengths that agree to this part are one number: the spread of one that was stored in float32."""

STRONGEST = 1e100
"""Lengths beyond this are no magnetisation in any unit; their squares would overflow."""

LENGTHS = {
    "m": 1.0,
    "cm": 1e-2,
    "mm": 1e-3,
    "um": 1e-6,
    "µm": 1e-6,
    "μm": 1e-6,
    "nm": 1e-9,
    "å": 1e-10,
    "angstrom": 1e-10,
    "pm": 1e-12,
}
"""Units of length by name, in metres."""


def directions(vectors: Tensor) -> tuple[Spins, SiteMap]:
    r"""Unit vectors S = M / \|M\| (…, 3, H, W), float32, and \|M\| (…, H, W), float64.

    Where M = 0 (a cell outside the sample) S is zero. Vectors of length 1 to 1e-6 stay as they are, so unit
    vectors keep their bits. No length under- or overflows on the way.
    """
    # NumPy, on one thread: a field is small, and torch's threads would wait for one another at every step
    given = vectors.detach().cpu().numpy()
    exact = given.astype(np.float64)
    largest = np.abs(exact).max(-3, keepdims=True)
    with np.errstate(over="ignore", invalid="ignore"):  # what is not finite stays so
        exact /= np.where(largest > 0, largest, 1)
        length = np.sqrt(np.einsum("...chw,...chw->...hw", exact, exact))[..., None, :, :]
        exact /= np.where(length > 0, length, 1)
        magnitude = largest * length
    unit = np.abs(magnitude - 1) < UNIT
    spins = np.where(unit, given, exact).astype(np.float32)
    return torch.from_numpy(spins), torch.from_numpy(magnitude[..., 0, :, :])


Crop = tuple[int, int, int, int]
"""(x0, x1, y0, y1): columns x0 to x1 − 1 and rows y0 to y1 − 1."""


def one_layer(vectors: Tensor, layer: int | None, name: str) -> Tensor:
    """Layer ``layer`` of (…, Z, 3, Y, X); None takes the only one.

    Raises:
        BadInput: there are several layers and none is chosen, or there is no such layer.
    """
    layers = vectors.shape[-4]
    if layer is None and layers > 1:
        raise BadInput(f"{name}: holds {layers} layers; choose one of 0 to {layers - 1}, e.g. layer={layers // 2}")
    number = whole("layer", 0 if layer is None else layer)
    if not 0 <= number < layers:
        raise BadInput(f"layer={number}: {name} holds {layers}, counted from 0; use 0 to {layers - 1}")
    return vectors[..., number, :, :, :]


def cropped(vectors: Tensor, crop: Any, name: str) -> Tensor:
    """The part ``crop`` = (x0, x1, y0, y1) of (…, 3, Y, X), or all of it.

    Raises:
        BadInput: the part is empty or reaches beyond the field.
    """
    if crop is None:
        return vectors
    rows, columns = vectors.shape[-2:]
    try:
        x0, x1, y0, y1 = (whole("crop", value) for value in crop)
    except (TypeError, ValueError) as error:
        raise BadInput(f"crop={crop}: give four whole numbers x0, x1, y0, y1, e.g. 0 {columns} 0 {rows}") from error
    if not (0 <= x0 < x1 <= columns and 0 <= y0 < y1 <= rows):
        raise BadInput(
            f"crop={x0} {x1} {y0} {y1}: {name} has {columns} columns and {rows} rows; "
            f"use 0 ≤ x0 < x1 ≤ {columns} and 0 ≤ y0 < y1 ≤ {rows}"
        )
    return vectors[..., y0:y1, x0:x1]


def check_full(magnitude: SiteMap, name: str) -> None:
    """Refuse lengths (Y, X) that are none of a lattice full of spins.

    Raises:
        BadInput: cells are without magnetisation (the line says how many, and the largest part that has none);
            a length is not finite, or absurd.
    """
    if not magnitude.isfinite().all():
        bad = int((~magnitude.isfinite()).sum())
        raise BadInput(f"{name}: {bad} of {magnitude.numel()} vectors hold NaN or infinity; drop it, or make it again")
    if float(magnitude.max()) > STRONGEST:
        raise BadInput(f"{name}: vectors up to {float(magnitude.max()):.3g} long are no magnetisation; check the file")
    outside = magnitude == 0
    empty = int(outside.sum())
    if not empty:
        return
    if empty == outside.numel():
        raise BadInput(f"{name}: all {empty} cells have zero magnetisation; choose another file or layer")
    x0, x1, y0, y1 = largest_full_part(~outside)
    raise BadInput(
        f"{name}: {empty} of {outside.numel()} cells have zero magnetisation (outside the sample), but every site of "
        f"a lattice needs a spin; crop to x0 x1 y0 y1 = {x0} {x1} {y0} {y1}, the largest full part"
    )


def largest_full_part(full: Tensor) -> Crop:
    """The largest rectangle (x0, x1, y0, y1) of a mask (Y, X) that is True throughout.

    Row by row the mask is a skyline of columns; the rectangle under each column is bounded by the nearest lower
    ones, which a stack of rising columns gives in one pass.
    """
    best, part = 0, (0, 0, 0, 0)
    heights = [0] * full.shape[1]
    for y, row in enumerate(full.tolist()):
        heights = [height + 1 if inside else 0 for height, inside in zip(heights, row, strict=True)]
        rising: list[tuple[int, int]] = []  # (where a rectangle of this height can begin, height)
        for x, height in enumerate([*heights, 0]):
            begin = x
            while rising and rising[-1][1] >= height:
                begin, tall = rising.pop()
                if tall * (x - begin) > best:
                    best, part = tall * (x - begin), (begin, x, y + 1 - tall, y + 1)
            rising.append((begin, height))
    return part


@final
@dataclass
class Spread:
    """Mean, deviation and range of lengths that come some at a time."""

    count: int = 0
    mean: float = 0.0
    squares: float = 0.0
    least: float = math.inf
    most: float = 0.0

    def add(self, values: Tensor) -> None:
        """Take in more lengths, each at most ``STRONGEST``."""
        some, mean = values.numel(), values.mean().item()
        apart = mean - self.mean
        self.squares += ((values - mean) ** 2).sum().item() + apart**2 * self.count * some / (self.count + some)
        self.count += some
        self.mean += apart * some / self.count
        self.least, self.most = min(self.least, values.min().item()), max(self.most, values.max().item())

    def as_json(self) -> float | dict[str, float]:
        """One number if all lengths agree to 1e-5, else mean, std, min and max."""
        if self.most - self.least <= CONSTANT * self.mean:
            return _rounded(self.mean)
        std = math.sqrt(self.squares / self.count)
        found = {"mean": self.mean, "std": std, "min": self.least, "max": self.most}
        return {name: _rounded(value) for name, value in found.items()}


def _rounded(value: float) -> float:
    # the last bits of a float64 sum may depend on the processor and the threads; these do not
    return float(f"{value:.9g}")
