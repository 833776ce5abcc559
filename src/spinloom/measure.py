"""Spins to a table of physical quantities, one entry a texture; simulated and generated ones alike."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from spinloom.errors import BadInput
from spinloom.files import write_bytes
from spinloom.hamiltonian import Hamiltonian, as_spins
from spinloom.spectrum import structure_factor, wave_vectors
from spinloom.topology import bond_share, charge, nodal_points
from spinloom.typing import PerTexture, SiteMap

ANGLES = (90, 75, 60)
SITES_AT_ONCE = 1 << 17  # bounds the memory of one batch; its temporaries in float64 then fit the cache


@dataclass(frozen=True)
class Table:
    """Named columns with one entry a texture; ``table["mz"]`` is a column."""

    columns: dict[str, Tensor]

    def __post_init__(self) -> None:
        lengths = {name: tuple(column.shape) for name, column in self.columns.items()}
        if len(set(lengths.values())) != 1 or any(len(shape) != 1 for shape in lengths.values()):
            raise BadInput(f"columns={lengths}: every column needs one entry a texture; give equal lengths")

    def __getitem__(self, name: str) -> Tensor:
        if name == "energy_excess" and name not in self.columns:
            raise BadInput(f"column={name!r}: energies need a Hamiltonian; measure(spins, Hamiltonian(J=…, D=…))")
        if name not in self.columns:
            raise BadInput(f"column={name!r}: not measured; use one of {', '.join(self.columns)}")
        return self.columns[name]

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))

    @property
    def names(self) -> tuple[str, ...]:
        """The columns' names, in order."""
        return tuple(self.columns)

    def summary(self) -> dict[str, dict[str, float]]:
        """Mean and standard deviation (over textures, unbiased; 0 for one texture) of every column."""
        return {
            name: {
                "mean": column.double().mean().item(),
                "std": column.double().std().item() if len(self) > 1 else 0.0,
            }
            for name, column in self.columns.items()
        }

    def save(self, path: Path | str) -> None:
        """Write the columns to a safetensors file.

        Raises:
            BadInput: the file cannot be written.
        """
        from safetensors.torch import save

        columns = {name: column.contiguous() for name, column in self.columns.items()}
        # the file sorts its tensors; the metadata keeps the columns' order
        write_bytes(path, save(columns, {"columns": ",".join(columns)}))

    @classmethod
    def load(cls, path: Path | str) -> Table:
        """Read what :meth:`save` wrote.

        Raises:
            BadInput: the file is missing or is no such table.
        """
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(path, "pt") as file:
                order = (file.metadata() or {}).get("columns", "").split(",")
                if sorted(order) != sorted(file.keys()):
                    raise BadInput(f"{path}: holds no list of its columns, so it is not a table; measure again")
                return cls({name: file.get_tensor(name) for name in order})
        except OSError as error:
            raise BadInput(f"{path}: cannot be read ({error.strerror or error}); check the path") from error
        except SafetensorError as error:
            raise BadInput(f"{path}: is not a table ({error}); measure again") from error


def measure(spins: Any, H: Hamiltonian | None = None, batch: int = 500) -> Table:
    """The physical quantities of each texture (leading axes flattened).

    - ``energy_excess``: ε in the unit of J, :meth:`Hamiltonian.energy_excess`; only if ``H`` is given.
    - ``mz``: the mean S_z.
    - ``nodal_points``, ``nodal_points_75``, ``nodal_points_60``: :func:`~spinloom.topology.nodal_points` at
      90°, 75° and 60°, and ``bond_share_90``, ``_75``, ``_60``: the share of bonds that turn as much.
    - ``charge``: the topological charge Q.
    - ``wavelength``: :func:`wavelength`, in sites.

    ``spins`` may also be a data set: anything with a length whose slices are textures (n, 3, H, W). At most
    ``batch`` textures, fewer if they are large, are in work at once.

    Raises:
        BadInput: there are no textures, the shape is not (…, 3, H, W), or a number in them is not finite.
    """
    columns: dict[str, list[Tensor]] = {}
    for part in _batches(spins, batch):
        if not part.isfinite().all():
            bad = int((~part.isfinite()).flatten(1).any(1).sum())
            raise BadInput(f"spins={bad} textures of {len(part)} hold NaN or infinity: nothing to measure; drop them")
        exact = part.double()
        row = {"energy_excess": H.energy_excess(exact)} if H is not None else {}
        row["mz"] = exact[:, 2].mean((-2, -1))
        for angle in ANGLES:
            row["nodal_points" if angle == 90 else f"nodal_points_{angle}"] = nodal_points(part, angle)
        for angle in ANGLES:
            row[f"bond_share_{angle}"] = bond_share(part, angle)
        row["charge"] = charge(part)
        row["wavelength"] = wavelength(part)
        for name, value in row.items():
            columns.setdefault(name, []).append(value.cpu())
    if not columns:
        raise BadInput("spins=0 textures: nothing to measure; give at least one")
    return Table({name: torch.cat(values) for name, values in columns.items()})


def radial_average(factor: SiteMap, bins: int | None = None) -> tuple[Tensor, Tensor]:
    """(|q| of the rings (b,), mean of the structure factor on each (…, b)), |q| in (0, π] radians a site.

    The rings share (0, π] equally; their number is half the longer side unless given. q = 0 and the corners
    beyond π are left out. A ring without an entry holds 0.
    """
    height, width = factor.shape[-2:]
    bins = bins or max(height, width) // 2
    q_x, q_y = wave_vectors(height, width)
    q = torch.hypot(q_x, q_y)
    # rings are closed above, so that |q| = π is in; the tolerance keeps equal |q| in one ring
    ring = torch.ceil(q / math.pi * bins - 1e-9).long() - 1
    inside = ((ring >= 0) & (ring < bins)).flatten()
    belongs = torch.zeros(int(inside.sum()), bins, dtype=factor.dtype)
    belongs[torch.arange(len(belongs)), ring.flatten()[inside]] = 1
    total = factor.flatten(-2)[..., inside] @ belongs.to(factor.device)
    centres = (torch.arange(bins, dtype=torch.float64) + 0.5) * math.pi / bins
    return centres, total / belongs.sum(0).clamp(min=1).to(factor.device)


def wavelength(spins: Any) -> PerTexture:
    r"""The texture's period λ = 2π / ⟨|q|⟩ (…,) in sites, |q| averaged with the weight S(q) over q ≠ 0.

    A uniform texture has no such weight; its answer is the longer side, the longest period the box holds.

    Raises:
        BadInput: the shape is not (…, 3, H, W).
    """
    factor = structure_factor(spins).double()
    height, width = factor.shape[-2:]
    q = torch.hypot(*wave_vectors(height, width)).to(factor.device)
    factor[..., 0, 0] = 0
    weight = factor.sum((-2, -1))
    period = 2 * math.pi * weight / (factor * q).sum((-2, -1))
    # rounding leaves about 1e-10 of the N in all
    return torch.where(weight > 1e-8 * height * width, period, torch.full_like(period, max(height, width)))


def _batches(spins: Any, batch: int) -> Iterator[Tensor]:
    """Float tensors (n, 3, H, W) of bounded size from an array, a tensor or a sliceable data set."""
    if batch < 1:
        raise BadInput(f"batch={batch}: textures are measured some at a time; use 1 or more")
    if isinstance(spins, (Tensor, np.ndarray)):
        spins = as_spins(spins)
        spins = spins.detach().reshape(-1, *spins.shape[-3:])
    start, step = 0, 1
    while start < len(spins):
        part = as_spins(spins[start : start + step])
        yield part
        start += len(part)
        # the first one alone shows how large they are
        step = max(1, min(batch, SITES_AT_ONCE // (part.shape[-2] * part.shape[-1])))
