"""What is known exactly: one spin, two spins, open chains, both ends of the temperature axis. J, D, B, K, T as numbers.

Nothing here comes from the package; the Hamiltonian is written out again, for bonds along +x with the DMI vector
D ŷ and along +y with −D x̂ (interfacial).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

Array = np.ndarray

X_AXIS, Y_AXIS = np.array([1.0, 0, 0]), np.array([0, 1.0, 0])


def langevin(x: float) -> float:
    """⟨cos θ⟩ = coth x − 1/x of one spin in a field, and of a bond of the open D = 0 chain."""
    return x / 3 - x**3 / 45 if abs(x) < 1e-3 else 1 / math.tanh(x) - 1 / x


def one_spin_cdf(B: float, K: float, T: float) -> Callable[[Array], Array]:
    """P(S_z ≤ z) under the density ∝ exp((B z + K z²)/T), by Simpson's rule on 20,000 intervals."""
    z = np.linspace(-1, 1, 20001)
    middle = (z[1:] + z[:-1]) / 2
    top = max(abs(B) + K, B * B / (-4 * K) if K < 0 else 0)  # keeps the exponentials finite

    def weight(at: Array) -> Array:
        return np.exp((B * at + K * at * at - top) / T)

    pieces = (weight(z[1:]) + 4 * weight(middle) + weight(z[:-1])) / 6
    below = np.concatenate(([0.0], np.cumsum(pieces)))
    return lambda values: np.interp(values, z, below / below[-1])


def bond_matrix(J: float, D: float, axis: Array) -> Array:
    """M with bond energy −Sᵀ M S′ = −J S·S′ − D n̂·(S × S′)."""
    a, b, c = axis
    return J * np.eye(3) - D * np.array([[0, -c, b], [c, 0, -a], [-b, a, 0]])


# chains and pairs by quadrature on the sphere ----------------------------------------------------------------------


def sphere(z_edges: Array, z_order: int, phi_edges: Array, phi_order: int) -> tuple[Array, Array, Array]:
    """Unit vectors (n, 3), weights that sum to 1, and the cell (z bin, φ bin as one number) of each.

    Gauss–Legendre in z and φ within every cell, so that cells with sharp edges cost no accuracy.
    """
    nodes, weights, cells = [], [], []
    (gz, wz), (gp, wp) = (np.polynomial.legendre.leggauss(order) for order in (z_order, phi_order))
    cell = 0
    for z0, z1 in itertools.pairwise(z_edges):
        z = (z0 + z1) / 2 + gz * (z1 - z0) / 2
        for p0, p1 in itertools.pairwise(phi_edges):
            phi = (p0 + p1) / 2 + gp * (p1 - p0) / 2
            zz, pp = (grid.ravel() for grid in np.meshgrid(z, phi, indexing="ij"))
            r = np.sqrt(1 - zz * zz)
            nodes.append(np.stack((r * np.cos(pp), r * np.sin(pp), zz), 1))
            weights.append(np.outer(wz, wp).ravel() * (z1 - z0) * (p1 - p0) / 4 / (4 * math.pi))
            cells.append(np.full(zz.size, cell))
            cell += 1
    return np.concatenate(nodes), np.concatenate(weights), np.concatenate(cells)


@dataclass(frozen=True)
class ChainMeans:
    """Of an open chain of n spins: energy a bond (all terms), ⟨S_z⟩ a spin, ⟨S_i·S_{i+1}⟩ a bond."""

    energy: float
    z: float
    neighbours: float


def open_chain(n: int, J: float, D: float, B: float, K: float, T: float) -> ChainMeans:
    """By the transfer matrix e^{Sᵀ M S′/T} on 24 × 48 points of the sphere; the bonds run along x."""
    points, weights, _ = sphere(np.array([-1.0, 1.0]), 24, np.linspace(0, 2 * math.pi, 4), 16)
    z = points[:, 2]
    bond = points @ bond_matrix(J, D, Y_AXIS) @ points.T
    transfer = np.exp((bond - bond.max()) / T)
    cosine = points @ points.T
    own = B * z + K * z * z
    site = weights * np.exp((own - own.max()) / T)
    left = [site]  # the first k spins summed over, spin k's own factor included
    for _ in range(n - 1):
        following = site * (transfer.T @ left[-1])
        left.append(following / following.sum())
    right = [np.ones_like(site)]  # the spins after spin k summed over
    for _ in range(n - 1):
        before = transfer @ (site * right[-1])
        right.append(before / before.max())
    right.reverse()
    bonds = neighbours = sites = mean_z = 0.0
    for k in range(n):
        law = left[k] * right[k]
        sites += law @ own / law.sum()
        mean_z += law @ z / law.sum()
        if k + 1 < n:
            ends = left[k][:, None] * transfer * (site * right[k + 1])[None]
            bonds += (ends * bond).sum() / ends.sum()
            neighbours += (ends * cosine).sum() / ends.sum()
    return ChainMeans(-(bonds + sites) / (n - 1), mean_z / n, neighbours / (n - 1))


def pair_cells(J: float, D: float, B: float, K: float, T: float, z_edges: Array, phi_edges: Array) -> Array:
    """Probabilities (cells, cells) of a pair of spins, bond along x; cells as in :func:`sphere`."""
    points, weights, cells = sphere(z_edges, 10, phi_edges, 14)
    own = B * points[:, 2] + K * points[:, 2] ** 2
    exponent = (points @ bond_matrix(J, D, Y_AXIS) @ points.T + own[:, None] + own[None]) / T
    law = np.outer(weights, weights) * np.exp(exponent - exponent.max())
    count = int(cells.max()) + 1
    member = np.eye(count)[cells]
    probabilities = member.T @ law @ member
    return probabilities / probabilities.sum()


# the lattice: high and low temperature ------------------------------------------------------------------------------


def high_temperature_energy(J: float, D: float, T: float) -> float:
    """E/N of the infinite lattice at B = K = 0 from the free energy to fourth order in 1/T; exact in D to there.

    With G_a = M_a M_aᵀ, for a = x, y:
    ln Z/N = Σ_a tr G_a/(18 T²)                                             (a bond twice)
           + Σ_a [((tr G_a)² + 2 tr G_a²)/75 − (tr G_a)²/27]/(24 T⁴)        (a bond four times)
           + [κ(x,x) + κ(y,y) + 4 κ(x,y)]/(4 T⁴)                            (two bonds at a site, each twice)
           + tr(M_x M_y M_xᵀ M_yᵀ)/(81 T⁴)                                  (a plaquette)
    with κ(a,b) = [2 tr(G_a G_b) − ⅔ tr G_a tr G_b]/135; it vanishes at D = 0.
    """
    matrices = bond_matrix(J, D, Y_AXIS), bond_matrix(J, D, -X_AXIS)
    forms = [m @ m.T for m in matrices]

    def kappa(a: Array, b: Array) -> float:
        return (2 * np.trace(a @ b) - 2 / 3 * np.trace(a) * np.trace(b)) / 135

    second = sum(np.trace(g) for g in forms) / 18
    fourth = sum((np.trace(g) ** 2 + 2 * np.trace(g @ g)) / 75 - np.trace(g) ** 2 / 27 for g in forms) / 24
    fourth += (kappa(forms[0], forms[0]) + kappa(forms[1], forms[1]) + 4 * kappa(*forms)) / 4
    fourth += np.trace(matrices[0] @ matrices[1] @ matrices[0].T @ matrices[1].T) / 81
    return float(-2 * second / T - 4 * fourth / T**3)


def character_energy(J: float, T: float) -> float:
    """E/N of the infinite lattice at D = B = K = 0 by the character expansion; the first term left out is O((J/T)⁷).

    ln Z/N = 2 ln(sinh K/K) + 3u⁴ + 6u⁶ + O(u⁸) with u = coth K − 1/K, K = J/T: closed loops of four bonds (one a
    site) and of six (two a site), each with weight 3uⁿ.
    """
    K = J / T
    u = langevin(K)
    slope = 1 - u * u - 2 * u / K
    return -J * (2 * u + (12 * u**3 + 36 * u**5) * slope)


def spin_wave_energy(J: float, T: float, sites: int) -> float:
    """E/N at D = B = K = 0 at low T: −2J + T(1 − 1/N) + T²/(8J) + 0.077024 T³/J² + 0.063378 T⁴/J³ + O(T⁵).

    Two transverse modes a site with T/2 each, less the two of the uniform rotation; then the perturbative
    coefficients of the O(n) model at n = 3, of the infinite lattice: per bond 1/4·(n−1), 1/32·(n−1),
    0.00726994 (n−1) + 0.00599298 (n−1)², 0.00291780 (n−1) + 0.00332878 (n−1)² + 0.00156728 (n−1)³.

    Source: Allés, Buonanno, Cella, Nucl. Phys. B 500, 513 (1997), hep-lat/9701001.
    """
    t = T / J
    third = 0.00726994 * 2 + 0.00599298 * 4
    fourth = 0.00291780 * 2 + 0.00332878 * 4 + 0.00156728 * 8
    return J * (-2 + t * (1 - 1 / sites) + t**2 / 8 + 2 * third * t**3 + 2 * fourth * t**4)


def polarised_magnon_sum(J: float, B: float, side: int) -> float:
    """a in M_z = 1 − a T + O(T²) of the field-polarised state: a = (1/N) Σ_q 1/(B + J(4 − 2 cos q_x − 2 cos q_y)).

    Interfacial DMI drops out of the harmonic modes about a state along z.
    """
    q = 2 * math.pi * np.arange(side) / side
    return float((1 / (B + J * (4 - 2 * np.cos(q)[:, None] - 2 * np.cos(q)[None]))).mean())
