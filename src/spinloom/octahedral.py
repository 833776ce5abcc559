"""Unit vectors as two 16-bit integers each: the sphere unfolded over an octahedron onto a square."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias, no_type_check

import numpy as np
import torch
from numba import njit
from torch import Tensor

from spinloom.errors import BadInput
from spinloom.hamiltonian import as_spins
from spinloom.typing import Spins

if TYPE_CHECKING:
    Codes: TypeAlias = Tensor
else:
    try:
        from jaxtyping import Int

        Codes = Int[Tensor, "*batch 2 H W"]
    except ImportError:
        Codes = Tensor
"""int16 coordinates (u, v) on the unfolded octahedron, one pair a site (see ``spinloom.typing``)."""

SIDE = np.float32(32767)
"""The code of the square's edge; ±1 along each axis is coded exactly, so uniform states stay uniform."""

ROUNDER = np.float32(1.5 * 2**23)
"""Added and taken away again, it rounds a float32 under 2²² to the nearest integer, ties to even."""

INFINITY = np.float32(np.inf)

SPINS_A_THREAD = 2**17
"""Below this many spins a second thread costs more than it saves."""

Picks = Sequence[tuple[np.ndarray, np.ndarray, np.ndarray]]
"""(codes (k, 2, S), rows, places): texture ``rows[j]`` of ``codes`` is the answer's texture ``places[j]``."""


def encode(spins: Any) -> Codes:
    r"""Octahedral coordinates of each spin, rounded to int16: at most 0.004° from it.

    .. math::
        (u, v) = \frac{(x, y)}{|x| + |y| + |z|}, \qquad
        u \mathrel{+}= \mathrm{sgn}(u)\,\frac{\max(-z, 0)}{|x| + |y| + |z|} \ \text{(likewise v)}

    times 32767. The two halves of each edge of the square are one line on the sphere, and so are its four
    corners: the non-negative code is taken, which makes ``encode(decode(c)) == c`` for every code this
    function gives. Lengths are ignored. float32 arithmetic without sums over sites: the same bits everywhere.

    Raises:
        BadInput: a vector is zero or not finite.

    Source: Cigolle et al., "A survey of efficient representations for independent unit vectors", JCGT 3(2)
    (2014), section 3.2 (oct).
    """
    spins = as_spins(spins)
    sites = spins.shape[-2] * spins.shape[-1]
    flat = spins.detach().to("cpu", torch.float32).reshape(-1, 3, sites).contiguous()
    codes = torch.empty((flat.shape[0], 2, flat.shape[2]), dtype=torch.int16)
    bad = _encode(flat.numpy(), codes.numpy())
    if bad:
        raise BadInput(f"spins: {bad} of them are zero or not finite; give unit vectors")
    return codes.reshape(*spins.shape[:-3], 2, *spins.shape[-2:])


def length_error(spins: Any) -> float:
    """The largest difference of a spin's length from 1; infinite if one is not a number."""
    spins = as_spins(spins)
    sites = spins.shape[-2] * spins.shape[-1]
    return float(_length_error(spins.detach().to("cpu", torch.float32).reshape(-1, 3, sites).contiguous().numpy()))


def decode(codes: Codes, threads: int | None = None) -> Spins:
    """The float32 unit vectors of octahedral codes; lengths are 1 to 3e-7."""
    flat = codes.detach().cpu().reshape(-1, 2, codes.shape[-2] * codes.shape[-1]).contiguous()
    every = np.arange(flat.shape[0])
    spins = decode_picks([(flat.numpy(), every, every)], flat.shape[0], flat.shape[2], threads)
    return spins.reshape(*codes.shape[:-3], 3, *codes.shape[-2:])


def decode_picks(picks: Picks, textures: int, sites: int, threads: int | None = None) -> Tensor:
    """Gather textures from several arrays of codes and decode them in one pass: (textures, 3, sites).

    ``threads`` is PyTorch's own number unless given; the answer does not depend on it.
    """
    spins = torch.empty((textures, 3, sites), dtype=torch.float32)
    target = spins.numpy()
    wanted = torch.get_num_threads() if threads is None else threads
    workers = max(1, min(wanted, textures, textures * sites // SPINS_A_THREAD))

    def work(number: int) -> Callable[[], None]:
        def run() -> None:
            for codes, rows, places in picks:
                # by place, not by position in a pick: picks are often of one texture each
                mine = places % workers == number
                _decode(codes, rows[mine], target, places[mine])

        return run

    # plain threads around a kernel without the GIL: unlike a parallel numba loop this is safe from several
    # Python threads at once and after a fork
    others = [threading.Thread(target=work(number)) for number in range(1, workers)]
    for other in others:
        other.start()
    work(0)()
    for other in others:
        other.join()
    return spins


@njit(nogil=True, cache=True, error_model="numpy")
@no_type_check
def _decode(codes, rows, spins, places):  # pragma: no cover (compiled)
    zero, one = np.float32(0), np.float32(1)
    for k in range(rows.size):
        coded_u, coded_v = codes[rows[k], 0], codes[rows[k], 1]
        out_x, out_y, out_z = spins[places[k], 0], spins[places[k], 1], spins[places[k], 2]
        for site in range(coded_u.size):
            u, v = np.float32(coded_u[site]), np.float32(coded_v[site])
            # whole numbers below 2²⁴: exact in float32 up to here and through the folding
            z = SIDE - abs(u) - abs(v)
            fold = max(-z, zero)
            x = u - fold if u >= zero else u + fold
            y = v - fold if v >= zero else v + fold
            scale = one / np.sqrt(x * x + y * y + z * z)
            out_x[site], out_y[site], out_z[site] = x * scale, y * scale, z * scale


@njit(nogil=True, cache=True, error_model="numpy")
@no_type_check
def _encode(spins, codes):  # pragma: no cover (compiled)
    zero = np.float32(0)
    bad = 0
    for k in range(spins.shape[0]):
        in_x, in_y, in_z = spins[k, 0], spins[k, 1], spins[k, 2]
        out_u, out_v = codes[k, 0], codes[k, 1]
        for site in range(in_x.size):
            x, y, z = in_x[site], in_y[site], in_z[site]
            length = abs(x) + abs(y) + abs(z)
            good = length > zero and length < INFINITY
            bad += 0 if good else 1
            scale = SIDE / length if good else zero
            fold = max(-z, zero) * scale
            u, v = x * scale, y * scale
            u = u + fold if u >= zero else u - fold
            v = v + fold if v >= zero else v - fold
            u, v = (u + ROUNDER) - ROUNDER, (v + ROUNDER) - ROUNDER
            u = abs(u) if abs(v) == SIDE else u
            v = abs(v) if abs(u) == SIDE else v
            out_u[site], out_v[site] = np.int16(u), np.int16(v)
    return bad


@njit(nogil=True, cache=True, error_model="numpy")
@no_type_check
def _length_error(spins):  # pragma: no cover (compiled)
    worst = np.float32(0)
    for k in range(spins.shape[0]):
        for site in range(spins.shape[2]):
            x, y, z = spins[k, 0, site], spins[k, 1, site], spins[k, 2, site]
            error = abs(np.sqrt(x * x + y * y + z * z) - np.float32(1))
            worst = max(worst, error if error == error else INFINITY)
    return worst
