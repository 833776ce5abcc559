"""Topological charge, nodal points and the share of strongly turned bonds.

A nodal point is where neighbouring spins turn by 90° or more, so that no smooth field runs through the
lattice there. Since π₁(S²) = 0, it is a lattice-scale singularity, not a protected defect: nothing keeps it
from being relaxed away, and how many are found depends on the angle asked for. In noise the bonds percolate
into one huge cluster, so counts should be read beside :func:`bond_share`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, no_type_check

import numba
import numpy as np
import torch
from torch import Tensor

from spinloom.errors import BadInput
from spinloom.hamiltonian import as_spins
from spinloom.typing import Counts, PerTexture

SITES_AT_ONCE = 1 << 18  # bounds the memory of one chunk of bonds: about 20 MB in float32


def compiled(function: Callable[..., Any]) -> Any:
    """Numba's compilation; other threads run meanwhile, and the machine code is kept where a folder allows it."""
    try:
        return numba.njit(nogil=True, cache=True)(function)
    except RuntimeError:  # neither the package's folder nor the user's can be written
        return numba.njit(nogil=True)(function)


def charge(spins: Any) -> PerTexture:
    r"""Topological charge Q (…,) of each texture, in float64 an integer up to rounding.

    .. math::
        Q = \frac1{4\pi}\sum_\triangle \Omega_\triangle, \qquad
        \Omega = 2\,\mathrm{atan2}\bigl(S_1\cdot(S_2\times S_3),\;
                 1 + S_1\cdot S_2 + S_2\cdot S_3 + S_3\cdot S_1\bigr)

    over two counter-clockwise triangles a plaquette, wrapped at the edges. A skyrmion with its core down in
    an up background and vorticity +1 has Q = −1. Where all neighbours' dot products are positive the choice
    of the plaquettes' diagonal does not matter.

    Source: Berg & Lüscher, Nucl. Phys. B 190, 412 (1981).

    Raises:
        BadInput: the shape is not (…, 3, H, W).
    """
    spins = as_spins(spins)
    flat = spins.detach().reshape(-1, *spins.shape[-3:]).cpu()
    flat = flat if flat.dtype in (torch.float32, torch.float64) else flat.float()
    answer = np.empty(len(flat))
    _charge(flat.numpy(), answer)
    return torch.from_numpy(answer).reshape(spins.shape[:-3])


@compiled
@no_type_check
def _half_angle(a, b, c):  # pragma: no cover (compiled)
    """Ω/2, in (−π, π], of the triangle a, b, c."""
    volume = (
        a[0] * (b[1] * c[2] - b[2] * c[1]) + a[1] * (b[2] * c[0] - b[0] * c[2]) + a[2] * (b[0] * c[1] - b[1] * c[0])
    )
    ab = a[0] * b[0] + a[1] * b[1] + a[2] * b[2]
    bc = b[0] * c[0] + b[1] * c[1] + b[2] * c[2]
    ca = c[0] * a[0] + c[1] * a[1] + c[2] * a[2]
    return math.atan2(volume, 1 + ab + bc + ca)


@compiled
@no_type_check
def _charge(spins, answer):  # pragma: no cover (compiled)
    textures, _, height, width = spins.shape
    unit = np.empty((height, width, 3))
    for texture in range(textures):
        # Q is whole only for exact unit vectors: float32's lengths would show as 1e-5 near folded triangles
        for row in range(height):
            for column in range(width):
                x = np.float64(spins[texture, 0, row, column])
                y = np.float64(spins[texture, 1, row, column])
                z = np.float64(spins[texture, 2, row, column])
                length = math.sqrt(x * x + y * y + z * z)
                scale = 1 / length if length > 0 else math.nan
                unit[row, column, 0] = x * scale
                unit[row, column, 1] = y * scale
                unit[row, column, 2] = z * scale
        turned = 0.0
        for row in range(height):
            up = (row + 1) % height
            for column in range(width):
                right = (column + 1) % width
                corner = unit[up, right]
                turned += _half_angle(unit[row, column], unit[row, right], corner)
                turned += _half_angle(unit[row, column], corner, unit[up, column])
        answer[texture] = turned / (2 * math.pi)


def whole_charge(value: float) -> float:
    """A charge that is a whole number but for float32's rounding as that number; any other as it is."""
    whole = float(round(value))
    return whole if abs(value - whole) < 1e-6 else value


def nodal_points(spins: Any, angle: float | int = 90) -> Counts:
    """The number (…,) of nodal points: clusters of plaquettes that hold a bond of at least ``angle`` degrees.

    Plaquettes are joined across shared edges, wrapped at the boundary; a single broken bond breaks both its
    plaquettes and is one nodal point. Nodal points are lattice-scale singularities, not protected defects
    (π₁(S²) = 0); state the angle, and :func:`bond_share` beside the count.

    Raises:
        BadInput: the shape is not (…, 3, H, W), or the angle is not in (0, 180].
    """
    spins = as_spins(spins)
    _, counts = _clusters(spins, angle)
    return torch.from_numpy(counts).reshape(spins.shape[:-3])


def nodal_centres(spins: Any, angle: float | int = 90) -> list[Tensor]:
    """For each texture (leading axes flattened) the centres (n, 2) of its nodal points as (row, column).

    A centre is the mean of the cluster's plaquette centres (plaquette (r, c) is centred at (r + ½, c + ½)),
    taken around the boundary: displacements are counted from the cluster's circular mean, and the answer lies
    in [0, H) × [0, W). For a cluster as large as the box it is one of several equally good points.

    Raises:
        BadInput: the shape is not (…, 3, H, W), or the angle is not in (0, 180].
    """
    labels, counts = _clusters(as_spins(spins), angle)
    centres = np.empty((int(counts.sum()), 2))
    first = np.cumsum(counts) - counts
    _mean_positions(labels, first, centres)
    # rounding noise of 1e-15 below zero would show as the far edge
    centres = np.remainder(centres.round(9), labels.shape[-2:])
    return list(torch.from_numpy(centres).split(counts.tolist()))


@compiled
@no_type_check
def _mean_positions(labels, first, centres):  # pragma: no cover (compiled)
    """Mean plaquette centre of every cluster: offsets from its circular mean, averaged."""
    textures, height, width = labels.shape
    for axis in range(2):
        period = height if axis == 0 else width
        phase = 2 * math.pi * (np.arange(period) + 0.5) / period
        sine, cosine = np.sin(phase), np.cos(phase)
        total = np.zeros((len(centres), 2))
        offsets = np.zeros((len(centres), 2))
        for pass_ in range(2):
            for texture in range(textures):
                for row in range(height):
                    for column in range(width):
                        if labels[texture, row, column] < 0:
                            continue
                        cluster = first[texture] + labels[texture, row, column]
                        position = row if axis == 0 else column
                        if pass_ == 0:
                            total[cluster, 0] += cosine[position]
                            total[cluster, 1] += sine[position]
                        else:
                            offset = position + 0.5 - centres[cluster, axis]
                            offsets[cluster, 0] += offset - period * math.floor(offset / period + 0.5)
                            offsets[cluster, 1] += 1
            for cluster in range(len(centres)):
                if pass_ == 0:
                    angle = math.atan2(total[cluster, 1], total[cluster, 0])
                    centres[cluster, axis] = angle * period / (2 * math.pi)
                else:
                    centres[cluster, axis] += offsets[cluster, 0] / offsets[cluster, 1]


def bond_share(spins: Any, angle: float | int = 90) -> PerTexture:
    r"""The share (…,) of nearest-neighbour bonds of textures (…, 3, H, W) that turn by at least ``angle`` degrees.

    .. math:: \tfrac{1}{2HW} \#\{\langle ij\rangle : S_i\cdot S_j \le \cos(\text{angle})\}

    in [0, 1], over the 2HW bonds of the periodic lattice; what :func:`nodal_points` joins to clusters.

    Raises:
        BadInput: the shape is not (…, 3, H, W), or the angle is not in (0, 180].
    """
    spins = as_spins(spins)
    flat = spins.reshape(-1, *spins.shape[-3:])
    answer = torch.empty(len(flat), dtype=torch.float64, device=flat.device)
    for chunk in _chunks(flat):
        along_x, along_y = _turned_bonds(flat[chunk], angle)
        answer[chunk] = (along_x.double().mean((-2, -1)) + along_y.double().mean((-2, -1))) / 2
    return answer.reshape(spins.shape[:-3])


def _turned_bonds(spins: Tensor, angle: float | int) -> tuple[Tensor, Tensor]:
    """Whether the bond from each site along +x, and along +y, turns by at least ``angle`` degrees."""
    if not 0 < angle <= 180:
        raise BadInput(f"angle={angle}: bonds turn by 0 to 180 degrees; use an angle in (0, 180], e.g. 90")
    # exactly 0 at 90°, so that S_i·S_j ≤ 0 is what is asked
    cosine = 0.0 if angle == 90 else math.cos(math.radians(angle))
    x, y, z = spins.unbind(-3)
    along_x = x * torch.roll(x, -1, -1) + y * torch.roll(y, -1, -1) + z * torch.roll(z, -1, -1)
    along_y = x * torch.roll(x, -1, -2) + y * torch.roll(y, -1, -2) + z * torch.roll(z, -1, -2)
    # written so that a spin that is not a number is a broken one, not a healthy one
    return ~(along_x > cosine), ~(along_y > cosine)


def _clusters(spins: Tensor, angle: float | int) -> tuple[np.ndarray, np.ndarray]:
    """Cluster numbers (n, H, W) of the broken plaquettes, −1 elsewhere, and the number (n,) of clusters."""
    flat = spins.reshape(-1, *spins.shape[-3:])
    broken = torch.empty((len(flat), *flat.shape[-2:]), dtype=torch.bool)
    for chunk in _chunks(flat):
        along_x, along_y = _turned_bonds(flat[chunk], angle)
        # the plaquette's lower and upper bond, its left and its right one
        broken[chunk] = along_x | torch.roll(along_x, -1, -2) | along_y | torch.roll(along_y, -1, -1)
    labels = np.empty(broken.shape, np.int32)
    counts = np.zeros(len(broken), np.int64)
    _label(broken.numpy(), labels, counts)
    return labels, counts


@compiled
@no_type_check
def _label(broken, labels, counts):  # pragma: no cover (compiled)
    """Number the edge-connected clusters of each texture by union–find on the torus."""
    textures, height, width = broken.shape
    parent = np.empty(height * width, np.int32)
    for texture in range(textures):
        for site in range(height * width):
            parent[site] = site
        for row in range(height):
            for column in range(width):
                if not broken[texture, row, column]:
                    continue
                site = row * width + column
                for step in range(2):
                    if step == 0:
                        next_row, next_column = row, (column + 1) % width
                    else:
                        next_row, next_column = (row + 1) % height, column
                    if not broken[texture, next_row, next_column]:
                        continue
                    a, b = site, next_row * width + next_column
                    while parent[a] != a:
                        parent[a] = parent[parent[a]]
                        a = parent[a]
                    while parent[b] != b:
                        parent[b] = parent[parent[b]]
                        b = parent[b]
                    if a < b:
                        parent[b] = a
                    elif b < a:
                        parent[a] = b
        # a root is its cluster's first site, so it is numbered before any other member is met
        found = 0
        for row in range(height):
            for column in range(width):
                if not broken[texture, row, column]:
                    labels[texture, row, column] = -1
                    continue
                root = row * width + column
                while parent[root] != root:
                    root = parent[root]
                if root == row * width + column:
                    labels[texture, row, column] = found
                    found += 1
                else:
                    labels[texture, row, column] = labels[texture, root // width, root % width]
        counts[texture] = found


def _chunks(flat: Tensor) -> list[slice]:
    step = max(1, SITES_AT_ONCE // (flat.shape[-2] * flat.shape[-1]))
    return [slice(start, start + step) for start in range(0, len(flat), step)]
