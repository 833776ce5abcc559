"""The Heisenberg + Dzyaloshinskii–Moriya lattice model: energies, their maps and the field on a spin."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from os import PathLike
from typing import Any

import numpy as np
import torch
from torch import Tensor

from spinloom.errors import BadInput, real, whole
from spinloom.micromagnetic import Dmi, Micromagnetic
from spinloom.typing import PerTexture, SiteMap, Spins

STRONGEST = 1e100
"""Largest coupling in any unit, so that sums and squares of energies stay finite."""


def as_spins(spins: Any) -> Tensor:
    """A floating-point tensor (…, 3, H, W) from a tensor or a NumPy array, without a copy where possible.

    Raises:
        BadInput: the third axis from the end is not the three spin components.
    """
    if isinstance(spins, (str, PathLike)):
        raise BadInput(f"spins={str(spins)!r}: a name, not textures; open a data set's folder with open_dataset(…)[:]")
    tensor = spins if isinstance(spins, Tensor) else torch.from_numpy(_native(np.asarray(spins)))
    if tensor.ndim < 3 or tensor.shape[-3] != 3:
        raise BadInput(f"spins of shape {tuple(tensor.shape)}: need (…, 3, H, W), components x, y, z third from last")
    return tensor if tensor.is_floating_point() else tensor.float()


def _native(array: np.ndarray) -> np.ndarray:
    """The array as torch takes it: native byte order, no reversed axis, writable memory."""
    if array.dtype.isnative and array.flags.writeable and min(array.strides, default=0) >= 0:
        return array
    return np.array(array, array.dtype.newbyteorder("="), order="C")


def as_size(size: int | tuple[int, int]) -> tuple[int, int]:
    """(H, W) from ``size``: one even side, or two.

    Raises:
        BadInput: a side is odd or under 4, where a periodic checkerboard has no meaning.
    """
    given = size if isinstance(size, (tuple, list)) else (size, size)
    if len(given) != 2:
        raise BadInput(f"size={size}: need one side or two, (H, W)")
    sides = (whole("size", given[0]), whole("size", given[1]))
    for side in sides:
        if side < 4:
            raise BadInput(f"size={side}: a periodic checkerboard needs sides of at least 4; use 4 or more")
        if side % 2:
            raise BadInput(f"size={side}: a periodic checkerboard needs even sides; use {side - 1} or {side + 1}")
    return sides


@dataclass(frozen=True)
class Hamiltonian:
    r"""Classical unit spins on a periodic square lattice with exchange, DMI, field and easy axis.

    .. math::
        \mathcal H = -J\sum_{\langle ij\rangle} S_i\cdot S_j
                     -\sum_{\langle ij\rangle} D_{ij}\cdot(S_i\times S_j)
                     - B\sum_i S_i^z - K\sum_i (S_i^z)^2

    Energies come in the unit that J is given in (J = 1: in units of J), lengths in lattice sites. x is the last
    array axis, y the one before it, and row r + 1 lies at +y. For a bond along +x (+y) the DMI vector is

    - ``interfacial`` (Néel):  D ŷ  (−D x̂),
    - ``bulk`` (Bloch):        D x̂  ( D ŷ).

    A global spin rotation by −90° about z turns the first model into the second, so all their energies agree.
    K > 0 is an easy axis along z, K < 0 an easy plane.

    Source: the paper's Hamiltonian in its section "Dataset" (J = 1, D = 0.3); B and K are standard additions.

    Raises:
        BadInput: a coefficient is not finite, J is not positive, or ``dmi`` is unknown.
    """

    J: float | int = 1.0
    D: float | int = 0.3
    dmi: Dmi = "interfacial"
    B: float | int = 0.0
    K: float | int = 0.0

    def __post_init__(self) -> None:
        for name in ("J", "D", "B", "K"):
            given = getattr(self, name)
            value = real(given, STRONGEST)
            if math.isnan(value):
                shown = str(given)[:24]
                raise BadInput(f"{name}={shown}: the coefficient must be a finite number to 1e100, e.g. {name}=0.3")
            object.__setattr__(self, name, value)
        if self.J <= 0:
            raise BadInput(f"J={self.J}: the exchange must be ferromagnetic; use J > 0, e.g. J=1")
        if self.dmi not in ("interfacial", "bulk"):
            raise BadInput(f"dmi={self.dmi!r}: unknown form; use 'interfacial' or 'bulk'")

    @classmethod
    def from_micromagnetic(
        cls,
        A: float | int,
        D: float | int,
        Ms: float | int,
        Ku: float | int = 0.0,
        B: float | int = 0.0,
        cell: float | int | None = None,
        thickness: float | int | None = None,
        dmi: Dmi = "interfacial",
    ) -> Hamiltonian:
        r"""The lattice model of a film given in SI units, its energies in units of J = 2 A t.

        .. math:: J = 1, \quad D = \frac{D_\text{SI}\,a}{2A}, \quad B = \frac{M_s B_\text{SI}\,a^2}{2A}, \quad
                  K = \frac{K_u a^2}{2A}

        with the cell's side a. Units, signs and what is left out: :class:`~spinloom.micromagnetic.Micromagnetic`,
        which also gives J in joule, kelvin and tesla. The thickness t sets J alone.

        >>> H = Hamiltonian.from_micromagnetic(8.78e-12, 1.58e-3, 3.84e5, cell=2e-9, thickness=1e-8, dmi="bulk")
        >>> round(H.D, 4)  # FeGe: a spiral of 2π/arctan(D) = 35.3 sites or 70.6 nm
        0.18

        Raises:
            BadInput: a number is not finite, or A, Ms, ``cell`` or ``thickness`` is missing or not positive.
        """
        if cell is None or thickness is None:
            missing = "cell" if cell is None else "thickness"
            raise BadInput(f"{missing}=None: a cell's side and the film's thickness are needed; give {missing} in m")
        film = Micromagnetic(A=A, D=D, Ms=Ms, Ku=Ku, B=B, cell=cell, thickness=thickness, dmi=dmi)
        return cls(**film.couplings)

    def to_micromagnetic(
        self, cell: float | int, thickness: float | int, J: float | int, Ms: float | int
    ) -> Micromagnetic:
        r"""The film in SI units that this lattice stands for; the inverse of :meth:`from_micromagnetic`.

        .. math:: A = \frac{J_\text{SI}}{2t}, \quad D_\text{SI} = \frac{D}{J}\frac{J_\text{SI}}{at}, \quad
                  K_u = \frac{K}{J}\frac{J_\text{SI}}{a^2t}, \quad B_\text{SI} = \frac{B}{J}\frac{J_\text{SI}}{M_s a^2t}

        The lattice knows neither its unit of energy nor a moment: ``J`` is the exchange in joule (2 A t), ``Ms`` in
        A/m, ``cell`` and ``thickness`` in m.

        Raises:
            BadInput: a number is not finite or not positive.
        """
        for name, value in (("J", J), ("cell", cell), ("thickness", thickness), ("Ms", Ms)):
            if not real(value) > 0:
                raise BadInput(f"{name}={value}: must be a positive, finite number; give {name} in SI units")
        unit = J / self.J
        volume = cell**2 * thickness
        return Micromagnetic(
            A=J / (2 * thickness),
            D=self.D * unit / (cell * thickness),
            Ms=Ms,
            Ku=self.K * unit / volume,
            B=self.B * unit / (Ms * volume),
            cell=cell,
            thickness=thickness,
            dmi=self.dmi,
        )

    def as_dict(self) -> dict[str, Any]:
        """The coefficients as plain JSON values."""
        return asdict(self)

    def bond_field(self, spins: Any) -> Spins:
        """Exchange and DMI field on every spin, −∂/∂S of the bond terms; differentiable."""
        x, y, z = as_spins(spins).unbind(-3)
        right_x, right_y, right_z = (torch.roll(c, -1, -1) for c in (x, y, z))
        left_x, left_y, left_z = (torch.roll(c, 1, -1) for c in (x, y, z))
        up_x, up_y, up_z = (torch.roll(c, -1, -2) for c in (x, y, z))
        down_x, down_y, down_z = (torch.roll(c, 1, -2) for c in (x, y, z))
        # opposite neighbours are added first, so that S → −S changes the sign and nothing else, bit for bit
        h_x = self.J * ((right_x + left_x) + (up_x + down_x))
        h_y = self.J * ((right_y + left_y) + (up_y + down_y))
        h_z = self.J * ((right_z + left_z) + (up_z + down_z))
        if self.dmi == "interfacial":
            h_x = h_x + self.D * (left_z - right_z)
            h_y = h_y + self.D * (down_z - up_z)
            h_z = h_z + self.D * ((right_x - left_x) + (up_y - down_y))
        else:
            h_x = h_x + self.D * (down_z - up_z)
            h_y = h_y + self.D * (right_z - left_z)
            h_z = h_z + self.D * ((left_y - right_y) + (up_x - down_x))
        return torch.stack((h_x, h_y, h_z), -3)

    def local_field(self, spins: Any) -> Spins:
        """The effective field h = −∂(N·energy)/∂S: bonds, + B ẑ, + 2 K S_z ẑ; in the unit J is given in."""
        spins = as_spins(spins)
        field = self.bond_field(spins)
        along_z = field[..., 2, :, :] + self.B + 2 * self.K * spins[..., 2, :, :]
        return torch.stack((field[..., 0, :, :], field[..., 1, :, :], along_z), -3)

    def energy_density(self, spins: Any) -> SiteMap:
        """Energy a site (…, H, W), every bond shared equally by its two ends; the mean is :meth:`energy`.

        This is the map beside the textures in the paper's Fig. 2a–d; in the unit J is given in.
        """
        spins = as_spins(spins)
        z = spins[..., 2, :, :]
        bonds = -0.5 * (spins * self.bond_field(spins)).sum(-3)
        return bonds - self.B * z - self.K * z * z

    def energy(self, spins: Any) -> PerTexture:
        """Energy per site E/N in the unit J is given in, shape (…,)."""
        return self.energy_density(spins).mean((-2, -1))

    def energy_excess(self, spins: Any) -> PerTexture:
        """ε = E/N + 2J + |B| + max(K, 0): the energy per site above the uniform state along z.

        For K < 0 the constant is 2J + |B|, which at B = 0 is the uniform state in the plane (with a field that
        state is canted and the constant is only a convention). This is the paper's ε
        (its data have ε = −0.0423 at J = 1, D = 0.3).
        """
        return self.energy(spins) + (2 * self.J + abs(self.B) + max(self.K, 0.0))
