"""Exact planar spirals on the periodic lattice, and the ground state they hold at B = K = 0."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from spinloom.errors import BadInput
from spinloom.hamiltonian import Hamiltonian, as_size
from spinloom.typing import Spins


@dataclass(frozen=True)
class GroundState:
    """The lowest state of a periodic box: a planar spiral of n periods along x and m along y.

    ``energy`` is E/N and ``energy_excess`` is ε = E/N + 2J, in the unit of J; ``q`` = (n, m) with n ≥ m ≥ 0
    among spirals of one energy; ``spins`` is (3, H, W) in float64.
    """

    energy: float
    energy_excess: float
    q: tuple[int, int]
    spins: Tensor


def spiral_energy(H: Hamiltonian, size: int | tuple[int, int], n: int, m: int) -> float:
    r"""E/N of the planar spiral with wave vector q = 2π(n/W, m/H), in the unit of J.

    .. math:: E/N = -J(\cos q_x + \cos q_y) - |D|\sqrt{\sin^2 q_x + \sin^2 q_y}

    Each bond along δ turns the spins by q·δ about one axis, and the axis is chosen to gain most from the DMI.

    Raises:
        BadInput: B or K is not zero (a planar spiral is then no exact state), or the size is refused.
    """
    _refuse_field(H)
    qx, qy = _wave_vector(as_size(size), n, m)
    return -H.J * (math.cos(qx) + math.cos(qy)) - abs(H.D) * math.hypot(math.sin(qx), math.sin(qy))


def spiral(H: Hamiltonian, size: int | tuple[int, int], n: int, m: int, phase: float | int = 0.0) -> Spins:
    r"""The planar spiral (3, H, W) with n periods along x and m along y, in float64.

    .. math:: S(r) = \hat z\cos(q\cdot r + \varphi) + (\hat n\times\hat z)\sin(q\cdot r + \varphi)

    The axis n̂ ∥ D (sin q_x d_x + sin q_y d_y), with d the DMI's unit vectors along the two bonds, gains most
    from the DMI; at B = K = 0 the energy is :func:`spiral_energy`. ``phase`` is φ in radians.

    Raises:
        BadInput: the size is refused.
    """
    height, width = as_size(size)
    qx, qy = _wave_vector((height, width), n, m)
    gain_x, gain_y = math.sin(qx), math.sin(qy)
    axis = (gain_x, gain_y) if H.dmi == "bulk" else (-gain_y, gain_x)
    length = math.hypot(*axis)
    # sin(π) is 1e-16, not 0: no axis is better than another there
    axis = (axis[0] / length, axis[1] / length) if length > 1e-9 else (0.0, 1.0)
    if H.D < 0:
        axis = (-axis[0], -axis[1])
    column = torch.arange(width, dtype=torch.float64)
    row = torch.arange(height, dtype=torch.float64)[:, None]
    # whole turns are dropped before the sine, so that large n and m lose no digits
    turns = torch.remainder(column * n, width) / width + torch.remainder(row * m, height) / height
    angle = 2 * math.pi * turns + phase
    return torch.stack((axis[1] * angle.sin(), -axis[0] * angle.sin(), angle.cos()))


def ground_state(H: Hamiltonian, size: int | tuple[int, int]) -> GroundState:
    r"""The rigorous ground state of the periodic box at B = K = 0.

    The lowest of the box's spirals meets the bound of :func:`luttinger_tisza_bound`, so no state lies below
    it. At J = 1, D = 0.3 and 128² it is the spiral (5, 3) with ε = −0.044362.

    Source: Luttinger & Tisza, Phys. Rev. 70, 954 (1946).

    Raises:
        BadInput: B or K is not zero, or the size is refused.
    """
    _refuse_field(H)
    height, width = as_size(size)
    # the energy is even in q_x and in q_y, so a quarter of the zone holds every value
    qx = 2 * math.pi * torch.arange(width // 2 + 1, dtype=torch.float64) / width
    qy = 2 * math.pi * torch.arange(height // 2 + 1, dtype=torch.float64)[:, None] / height
    energy = -H.J * (qx.cos() + qy.cos()) - abs(H.D) * torch.hypot(qx.sin(), qy.sin())
    # (n, m) and (m, n) differ by rounding alone: the larger n is taken, so that the answer is one
    m, n = max(((energy - energy.min()) < 1e-12 * H.J).nonzero().tolist(), key=lambda pair: (pair[1], -pair[0]))
    lowest = spiral_energy(H, (height, width), n, m)
    return GroundState(lowest, lowest + 2 * H.J, (n, m), spiral(H, (height, width), n, m))


def luttinger_tisza_bound(H: Hamiltonian, size: int | tuple[int, int]) -> float:
    r"""The lower bound on E/N at B = K = 0 from relaxing |S_i| = 1 on each site to Σ|S_i|² = N.

    .. math::
        E/N = \frac1{N^2}\sum_q S_q^\dagger M(q) S_q \ge \min_q \lambda_{\min}(M(q)), \qquad
        M(q) = -J(\cos q_x + \cos q_y)\,\mathbb 1 - i D(\sin q_x [d_x]_\times + \sin q_y [d_y]_\times)

    with [d]ₓ the matrix of the cross product. Here it is found from the eigenvalues themselves, without
    using that the states are spirals.

    Source: Luttinger & Tisza, Phys. Rev. 70, 954 (1946).

    Raises:
        BadInput: B or K is not zero, or the size is refused.
    """
    _refuse_field(H)
    height, width = as_size(size)
    qx = 2 * math.pi * torch.arange(width, dtype=torch.float64) / width
    qy = 2 * math.pi * torch.arange(height, dtype=torch.float64)[:, None] / height
    qx, qy = torch.broadcast_tensors(qx, qy)
    d_x, d_y = ((1.0, 0.0), (0.0, 1.0)) if H.dmi == "bulk" else ((0.0, 1.0), (-1.0, 0.0))
    a = H.D * (qx.sin() * d_x[0] + qy.sin() * d_y[0])
    b = H.D * (qx.sin() * d_x[1] + qy.sin() * d_y[1])
    zero = torch.zeros_like(a)
    cross = torch.stack((zero, zero, b, zero, zero, -a, -b, a, zero), -1).unflatten(-1, (3, 3))
    exchange = -H.J * (qx.cos() + qy.cos())[..., None, None] * torch.eye(3, dtype=torch.float64)
    return torch.linalg.eigvalsh(torch.complex(exchange, -cross)).min().item()


def _wave_vector(size: tuple[int, int], n: int, m: int) -> tuple[float, float]:
    height, width = size
    return 2 * math.pi * (n % width) / width, 2 * math.pi * (m % height) / height


def _refuse_field(H: Hamiltonian) -> None:
    for name in ("B", "K"):
        if getattr(H, name) != 0:
            raise BadInput(f"{name}={getattr(H, name)}: spirals are exact only at B = K = 0; use {name}=0")
