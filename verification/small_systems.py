"""Open chains and pairs of spins, swept by the real kernel.

The kernel knows periodic lattices alone. But the sites of one colour are updated in whatever field the other colour
makes, and that can be arranged: a chain lies along a row, and around it stand spins placed so that together they
leave a chain's spin the field of its own neighbours and nothing else. Above and below an inner spin stand +x̂ and −x̂;
an end, which lacks a neighbour, has +ŷ in its place and above and below the other two vectors of a 120° star. With
J and interfacial D of any size these cancel: Σ S = 0 for the exchange, and no z components and no difference along
the bonds' directions for the DMI. ``Chains.misfit`` measures that with the Hamiltonian itself.

One call of ``anneal`` with one sweep updates the even sites first. They are kept, all else is put back; for the odd
spins of the chains the lattice is rolled by one column. So every move is made by the code under test, in its own
arithmetic and with its own random numbers.
"""

from __future__ import annotations

import math

import numba
import numpy as np
import torch

from spinloom import Hamiltonian, Schedule, anneal
from spinloom.schedule import Step

FAR = 8


def half_sweep(
    spins: torch.Tensor,
    H: Hamiltonian,
    T: float,
    kind: str,
    seed: int,
    colour: int = 0,
    only: torch.Tensor | None = None,
    device: str = "cpu",
) -> torch.Tensor:
    """The sites of one colour updated by the kernel (``kind`` = heat_bath or over_relax), the others as they were.

    ``only`` (H, W) leaves out more of them.
    """
    moved = anneal(
        H,
        start=spins.roll(1, -1) if colour else spins,
        schedule=Schedule((Step(T, **{kind: 1}),)),
        seed=seed,
        device=device,
    ).cpu()
    rows, columns = np.indices(spins.shape[-2:])
    mine = torch.from_numpy((rows + columns) % 2 == colour)
    return torch.where(mine if only is None else mine & only, moved.roll(-1, -1) if colour else moved, spins)


class Chains:
    """Many open chains of ``length`` spins along x, started from random directions."""

    def __init__(
        self, length: int, textures: int, blocks: int, rows: int, seed: int, H: Hamiltonian, T: float, device: str
    ) -> None:
        self.length, self.H, self.T, self.seed, self.device = length, H, T, seed, device
        period = length + 2 - length % 2  # even, so that a spin's place in its chain tells its colour
        column = np.arange(period * blocks) % period
        inside = column < length
        end = (column == 0) | (column == length - 1)
        spins = np.zeros((3, rows, period * blocks))
        spins[1, 0::2] = 1  # beyond the ends
        for row, sign, angle in ((1, 1, 210), (3, -1, 330)):
            spins[0, row::4] = np.where(end, math.cos(math.radians(angle)), sign)
            spins[1, row::4] = np.where(end, math.sin(math.radians(angle)), 0)
        self.mine = np.zeros((rows, period * blocks), bool)
        self.mine[0::2] = inside
        every = np.repeat(spins[None], textures, 0)
        draw = np.random.default_rng(seed)
        start = draw.standard_normal((3, textures, int(self.mine.sum())))
        every[:, :, self.mine] = (start / np.linalg.norm(start, axis=0)).transpose(1, 0, 2)
        self.spins = torch.from_numpy(every).float()
        self._where = torch.from_numpy(self.mine)

    def values(self) -> torch.Tensor:
        """(textures, chains, length, 3) in float64, lengths exactly 1."""
        found = self.spins[:, :, self._where].double()
        found = found / found.norm(dim=1, keepdim=True)
        return found.movedim(1, -1).reshape(len(self.spins), -1, self.length, 3)

    def move(self, kind: str, colour: int) -> None:
        self.seed += 1
        self.spins = half_sweep(self.spins, self.H, self.T, kind, self.seed, colour, self._where, self.device)

    def sweep(self, heat_bath: int = 1, over_relax: int = 0) -> None:
        for kind, count in (("heat_bath", heat_bath), ("over_relax", over_relax)):
            for _ in range(count):
                self.move(kind, 0)
                self.move(kind, 1)

    def measure(self) -> np.ndarray:
        """(textures, 2 + FAR): the energy a bond, ⟨S_z⟩, and ⟨S_i·S_{i+r}⟩ for r = 1 … FAR."""
        answer = np.empty((len(self.spins), 2 + min(FAR, self.length - 1)))
        H = self.H
        _measure(self.spins.numpy(), self.mine[0], self.length, H.J, H.D, H.B, H.K, answer)
        return answer

    def misfit(self) -> float:
        """Largest difference between the lattice's bond field on a chain's spin and the field of an open chain."""
        lattice = self.H.bond_field(self.spins.double())[:, :, self._where].movedim(1, -1)
        s = self.spins[:, :, self._where].double().movedim(1, -1).reshape(len(self.spins), -1, self.length, 3)
        field = torch.zeros_like(s)
        J, D = self.H.J, self.H.D
        field[..., 1:, :] += J * s[..., :-1, :]
        field[..., :-1, :] += J * s[..., 1:, :]
        field[..., 1:, 0] += D * s[..., :-1, 2]
        field[..., 1:, 2] -= D * s[..., :-1, 0]
        field[..., :-1, 0] -= D * s[..., 1:, 2]
        field[..., :-1, 2] += D * s[..., 1:, 0]
        return float((lattice.reshape(field.shape) - field).abs().max())


@numba.njit(cache=True, error_model="numpy")
def _measure(spins, inside, length, J, D, B, K, answer):  # pragma: no cover (compiled)
    """The open chain's energy written out: DMI vector D ŷ, nothing beyond the ends."""
    far = answer.shape[1] - 2
    s = np.empty((length, 3))
    for texture in range(spins.shape[0]):
        answer[texture] = 0
        chains = 0
        for row in range(0, spins.shape[2], 2):
            place = 0
            for column in range(spins.shape[3]):
                if not inside[column]:
                    continue
                x, y, z = (
                    spins[texture, 0, row, column],
                    spins[texture, 1, row, column],
                    spins[texture, 2, row, column],
                )
                scale = np.sqrt(float(x) * x + float(y) * y + float(z) * z)
                s[place, 0], s[place, 1], s[place, 2] = x / scale, y / scale, z / scale
                place += 1
                if place < length:
                    continue
                place = 0
                chains += 1
                for i in range(length):
                    z = s[i, 2]
                    answer[texture, 1] += z / length
                    answer[texture, 0] -= (B * z + K * z * z) / (length - 1)
                    for r in range(1, min(far, length - 1 - i) + 1):
                        dot = s[i, 0] * s[i + r, 0] + s[i, 1] * s[i + r, 1] + s[i, 2] * s[i + r, 2]
                        answer[texture, 1 + r] += dot / (length - r)
                        if r == 1:
                            turn = s[i, 2] * s[i + 1, 0] - s[i, 0] * s[i + 1, 2]
                            answer[texture, 0] -= (J * dot + D * turn) / (length - 1)
        answer[texture] /= chains
