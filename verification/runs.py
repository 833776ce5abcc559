"""Equilibrium runs of the periodic lattice, measured sweep by sweep on independent chains."""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np
import torch

from spinloom import Hamiltonian, Schedule, anneal
from spinloom.chains import Estimate, estimate
from spinloom.schedule import Step


@dataclass(frozen=True)
class Mix:
    """Between two measurements: ``repeat`` times these sweeps."""

    heat_bath: int = 1
    over_relax: int = 0
    repeat: int = 1

    def schedule(self, T: float, times: int = 1) -> Schedule:
        return Schedule((Step(T, self.heat_bath, self.over_relax),) * (self.repeat * times))

    def __str__(self) -> str:
        once = f"{self.heat_bath} HB" + (f" + {self.over_relax} OR" if self.over_relax else "")
        return once if self.repeat == 1 else f"{self.repeat} × ({once})"


@dataclass(frozen=True)
class Series:
    """Measurements (chains, steps): E/N; M²; M_z; and the identity, whose mean in equilibrium is zero.

    ``identity`` is (1/N) Σ_i |S_i × H_i|² − T [2 S_i·h_i − 2K (1 − 3 S_z²)], where h is the field of the bonds and B,
    and H = h + 2K S_z ẑ. That its mean vanishes is the divergence theorem on the product of spheres,
    T⟨ΔE⟩ = ⟨|∇E|²⟩: the "configurational temperature" of spins is T, for every lattice, coupling and temperature
    (Nurdin & Schotte, Phys. Rev. E 61, 3579 (2000)).
    """

    energy: torch.Tensor
    square: torch.Tensor
    z: torch.Tensor
    identity: torch.Tensor
    spins: torch.Tensor

    def estimates(self) -> dict[str, Estimate]:
        return {name: estimate(getattr(self, name)) for name in ("energy", "square", "z", "identity")}


def measure(spins: torch.Tensor, H: Hamiltonian, T: float) -> torch.Tensor:
    """(textures, 4): E/N, M², M_z, identity. In float64 from unit vectors, by code that is not the package's."""
    answer = np.empty((len(spins), 4))
    array = spins.cpu().numpy()
    if H.dmi == "bulk":
        array = np.stack((-array[:, 1], array[:, 0], array[:, 2]), 1)
    _measure(np.ascontiguousarray(array), H.J, H.D, H.B, H.K, T, answer)
    return torch.from_numpy(answer)


@numba.njit(cache=True, error_model="numpy")
def _measure(spins, J, D, B, K, T, answer):  # pragma: no cover (compiled)
    textures, _, height, width = spins.shape
    s = np.empty((height, width, 3))
    for texture in range(textures):
        for r in range(height):
            for c in range(width):
                x, y, z = spins[texture, 0, r, c], spins[texture, 1, r, c], spins[texture, 2, r, c]
                length = np.sqrt(float(x) * x + float(y) * y + float(z) * z)
                s[r, c, 0], s[r, c, 1], s[r, c, 2] = x / length, y / length, z / length
        energy = identity = mx = my = mz = 0.0
        for r in range(height):
            up, down = (r + 1) % height, (r - 1) % height
            for c in range(width):
                right, left = (c + 1) % width, (c - 1) % width
                hx = J * (s[r, right, 0] + s[r, left, 0] + s[up, c, 0] + s[down, c, 0])
                hy = J * (s[r, right, 1] + s[r, left, 1] + s[up, c, 1] + s[down, c, 1])
                hz = J * (s[r, right, 2] + s[r, left, 2] + s[up, c, 2] + s[down, c, 2])
                hx += D * (s[r, left, 2] - s[r, right, 2])
                hy += D * (s[down, c, 2] - s[up, c, 2])
                hz += D * (s[r, right, 0] - s[r, left, 0] + s[up, c, 1] - s[down, c, 1])
                x, y, z = s[r, c, 0], s[r, c, 1], s[r, c, 2]
                along = x * hx + y * hy + z * hz
                energy -= 0.5 * along + B * z + K * z * z
                hz += B + 2 * K * z
                total = x * hx + y * hy + z * hz
                identity += hx * hx + hy * hy + hz * hz - total * total
                identity -= T * (2 * (along + B * z) - 2 * K * (1 - 3 * z * z))
                mx, my, mz = mx + x, my + y, mz + z
        sites = height * width
        answer[texture, 0], answer[texture, 3] = energy / sites, identity / sites
        answer[texture, 1] = (mx * mx + my * my + mz * mz) / sites**2
        answer[texture, 2] = mz / sites


def equilibrium(
    H: Hamiltonian,
    T: float,
    size: int,
    chains: int,
    steps: int,
    seed: int,
    mix: Mix = Mix(),
    burn: int = 200,
    start: torch.Tensor | None = None,
    cool: bool = True,
    device: str = "cpu",
) -> Series:
    """``steps`` measurements of each of ``chains`` chains, after ``burn`` steps that are thrown away.

    The start is random and cooled from 2J in 60 steps, or given. Every call of the kernel has a seed of its own.
    """
    seed *= 100_000
    if start is None:
        over = mix.over_relax
        first = Schedule.geometric(max(2 * H.J, T), T, 60, 1, over) if cool else Schedule.constant(T, 1)
        start = anneal(H, size, chains, seed=seed, schedule=first, device=device)
    spins = anneal(H, start=start, samples=chains, seed=seed + 1, schedule=mix.schedule(T, burn), device=device)
    rows = []
    for number in range(steps):
        spins = anneal(H, start=spins, seed=seed + 2 + number, schedule=mix.schedule(T), device=device)
        rows.append(measure(spins, H, T))
    return Series(*torch.stack(rows, 1).unbind(-1), spins.cpu())
