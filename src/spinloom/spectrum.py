"""The structure factor: what a texture is made of, wherever on the lattice it stands."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from spinloom.hamiltonian import as_spins
from spinloom.typing import SiteMap


def structure_factor(spins: Any) -> SiteMap:
    r"""The spin structure factor (…, H, W), its sum over q equal to N for unit spins.

    .. math:: S(q) = \frac1N\sum_{a=x,y,z}\Bigl|\sum_r S^a_r e^{-iq\cdot r}\Bigr|^2

    Entry (m, n) belongs to q = 2π(n/W, m/H), in the order of ``torch.fft.fftfreq``.

    Raises:
        BadInput: the shape is not (…, 3, H, W).
    """
    spins = as_spins(spins)
    transform = torch.fft.fft2(spins)
    return (transform.real.square() + transform.imag.square()).sum(-3) / (spins.shape[-2] * spins.shape[-1])


def wave_vectors(height: int, width: int) -> tuple[Tensor, Tensor]:
    """(q_x, q_y), each (H, W) in radians a site, of the structure factor's entries."""
    q_y, q_x = torch.meshgrid(
        2 * math.pi * torch.fft.fftfreq(height, dtype=torch.float64),
        2 * math.pi * torch.fft.fftfreq(width, dtype=torch.float64),
        indexing="ij",
    )
    return q_x, q_y
