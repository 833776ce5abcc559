"""One Monte Carlo sweep in plain NumPy: the contract that every fast kernel is held to.

A sweep updates all sites with (row + column) even, then the others: on a lattice with even sides no two sites of
one colour are neighbours, so the order within a colour does not matter. The random numbers are a function of
(key, sweep number, site), see :mod:`spinloom.random`, so a kernel may visit the sites in any order it likes and
has to give the same spins to rounding. The arithmetic is done in the dtype of the spins.

Bulk DMI has no code of its own: turned by +90° about z the spins obey the interfacial model (see
:class:`spinloom.hamiltonian.Hamiltonian`), they are turned, swept, and turned back.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from spinloom.hamiltonian import Dmi, Hamiltonian
from spinloom.random import site_words, uniform

Array = np.ndarray
Key = tuple[int, int]

TINY = 1e-15
"""Added to h_z, so that a field that vanishes exactly still has a direction; beside 1 it is nothing in float32."""

HOT = 1e9
"""The temperature of a random start, in units of J: the heat bath then draws from the uniform sphere."""


def linear_field(spins: Array, hamiltonian: Hamiltonian) -> Array:
    """h, the field of the bonds and of B: the energy of one spin in it is −h·S − K S_z²; interfacial DMI."""
    right, left, up, down = (np.roll(spins, *by) for by in ((-1, -1), (1, -1), (-1, -2), (1, -2)))
    bonds = hamiltonian.J * ((left + right) + (up + down))
    turned = np.stack((left[2] - right[2], down[2] - up[2], (right[0] - left[0]) + (up[1] - down[1])))
    field = bonds + hamiltonian.D * turned
    field[2] += hamiltonian.B
    field[2] += TINY * hamiltonian.J
    return field.astype(spins.dtype)


def random_start(size: tuple[int, int], key: Key, dmi: Dmi = "interfacial", dtype: Any = np.float32) -> Array:
    """Spins uniform on the sphere: sweep number 0, a heat bath at temperature :data:`HOT` from spins along z."""
    spins = np.zeros((3, *size), dtype)
    spins[2] = 1
    return heat_bath(spins, Hamiltonian(J=1, D=0, dmi=dmi), HOT, key, sweep=0)


def heat_bath(spins: Array, hamiltonian: Hamiltonian, temperature: float, key: Key, sweep: int) -> Array:
    r"""Draw every spin anew from its conditional law :math:`\propto e^{h\cdot S/T + K S_z^2/T}`.

    For K = 0 without rejection: with b = |h|/T and u uniform in [0, 1),

    .. math:: 1 - \cos\theta = -\ln\bigl(1 - u\,(1 - e^{-2b})\bigr)/b

    and a uniform azimuth. For K ≠ 0 this is the proposal S′, taken with probability
    min(1, exp(K (S′_z² − S_z²)/T)).

    Source: Miyatake, Yamamoto, Kim, Toyonaga, Nagai, J. Phys. C 19, 2539 (1986); the logarithm is written so
    that it keeps its digits both at b ≪ 1 and at b ≫ 1.
    """
    sites = _sites(spins)
    u, v = (uniform(word, spins.dtype) for word in site_words(key, sweep, sites))

    def update(old: Array, field: Array) -> Array:
        length = np.sqrt((field * field).sum(0))
        b = length / temperature
        drop = np.minimum(-np.log1p(u * np.expm1(-2 * b)) / b, 2)  # 1 − cos θ
        new = around(field, length, drop, v)
        return accept(old, new, hamiltonian.K / temperature, key, sweep) if hamiltonian.K else new

    return _by_colour(spins, hamiltonian, update)


def around(field: Array, length: Array, drop: Array, v: Array) -> Array:
    """The unit vector at 1 − cos θ = ``drop`` from the field and azimuth 2πv about it.

    The vector (sin θ cos φ, sin θ sin φ, ∓cos θ) is mirrored in the plane that takes ∓ẑ to the direction of the
    field; the sign, that of −h_z, keeps the mirror well defined. As φ is uniform, a mirror serves as well as a
    rotation.
    """
    cosine, sine = 1 - drop, np.sqrt(drop * (2 - drop))
    angle = 2 * np.pi * v.astype(np.float64)  # the fast kernels reduce exactly; so does float64
    across_x = sine * np.cos(angle).astype(field.dtype)
    across_y = sine * np.sin(angle).astype(field.dtype)
    x, y, z = field
    in_plane = x * across_x + y * across_y
    back = in_plane / (length + np.abs(z)) - cosine
    side = np.copysign(field.dtype.type(1), z)
    return np.stack(
        (across_x - x * back / length, across_y - y * back / length, (cosine * z - side * in_plane) / length)
    )


def accept(old: Array, new: Array, k_over_t: float, key: Key, sweep: int) -> Array:
    """Metropolis' choice for the K term alone: S′ if w < exp(K (S′_z² − S_z²)/T), w from the extra words."""
    w = uniform(site_words(key, sweep, _sites(old), extra=True)[0], old.dtype)
    gain = k_over_t * (new[2] * new[2] - old[2] * old[2])
    return np.where(w < np.exp(np.minimum(gain, 0)), new, old)


def over_relax(spins: Array, hamiltonian: Hamiltonian, temperature: float, key: Key, sweep: int) -> Array:
    """Turn every spin by 180° about h: S′ = 2 (S·h) h/|h|² − S, at constant energy; K ≠ 0: see :func:`accept`.

    Source: Creutz, Phys. Rev. D 36, 515 (1987), for SU(2); the O(3) spin is the same reflection.
    """

    def update(old: Array, field: Array) -> Array:
        twice = 2 * (old * field).sum(0) / (field * field).sum(0)
        new = twice * field - old
        return accept(old, new, hamiltonian.K / temperature, key, sweep) if hamiltonian.K else new

    return _by_colour(spins, hamiltonian, update)


def align(spins: Array, hamiltonian: Hamiltonian) -> Array:
    """Point every spin along its field, at zero temperature; the energy never rises.

    For K = 0 this is the minimum of the one-site energy. For K > 0 the field is h + 2K S_z ẑ, for K < 0 it is
    h + 2|K| (S_x, S_y, 0): up to a constant the K term is minus a convex quadratic Q. With Q replaced by its
    tangent at the present spin the energy can only grow, except there; aligning minimises that upper bound.
    """

    def update(old: Array, field: Array) -> Array:
        k = hamiltonian.K
        pull = np.zeros((3, 1, 1), spins.dtype)
        pull[:2], pull[2] = -2 * min(k, 0.0), 2 * max(k, 0.0)
        field = field + pull * old
        return field / np.sqrt((field * field).sum(0))

    return _by_colour(spins, hamiltonian, update)


def turn(spins: Array) -> Array:
    """All spins by +90° about z, bulk to interfacial; exact."""
    return np.stack((-spins[1], spins[0], spins[2]))


def turn_back(spins: Array) -> Array:
    """All spins by −90° about z, interfacial to bulk; exact."""
    return np.stack((spins[1], -spins[0], spins[2]))


def _sites(spins: Array) -> Array:
    height, width = spins.shape[-2:]
    return np.arange(height * width, dtype=np.uint32).reshape(height, width)


def _by_colour(spins: Array, hamiltonian: Hamiltonian, update: Callable[[Array, Array], Array]) -> Array:
    """``update(spins, field)`` on the even sites, then, in the field of the new spins, on the odd ones."""
    bulk = hamiltonian.dmi == "bulk"
    spins = turn(spins) if bulk else spins
    rows, columns = np.indices(spins.shape[-2:])
    for colour in (0, 1):
        mine = (rows + columns) % 2 == colour
        spins = np.where(mine, update(spins, linear_field(spins, hamiltonian)), spins).astype(spins.dtype)
    return turn_back(spins) if bulk else spins
