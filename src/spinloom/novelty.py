"""Whether a texture is new: how far the nearest training texture is, symmetries taken out."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from spinloom.errors import BadInput
from spinloom.hamiltonian import Hamiltonian, as_spins
from spinloom.progress import progress
from spinloom.symmetry import IDENTITY, KEEP, REVERSE, Symmetry, symmetries
from spinloom.typing import Spins

SITES_AT_ONCE = 1 << 19
"""Of reference textures in one chunk."""

MISSED = 0.1
"""What the grid of translations that is looked at first may miss of a likeness, at most; see :func:`_grid_of`."""

ROUNDING = 1e-5
"""Of a likeness, in float32, and more."""

PATIENCE = 2.0
"""Seconds from which on a comparison shows its progress."""

SAME = 0.25
"""RMS distance under which two textures count as one that is a little deformed: spins 14° apart on average."""


@dataclass(frozen=True)
class Novelty:
    """The distance to the nearest reference texture beside the references' own.

    Attributes:
        distance: the smallest RMS distance of a spin over the references, all symmetries and translations; 0 for
            a copy, about √2 for strangers.
        nearest: that reference's number.
        searched, given: how many references were looked at, from the first on, and how many there are.
        own_mean, own_std, own_least: the same distance from some references to the nearest of the others.
        own: how many those were.
    """

    distance: float
    nearest: int
    searched: int
    given: int
    own_mean: float
    own_std: float
    own_least: float
    own: int

    @property
    def new(self) -> bool:
        """Whether it is no nearer to the references than these are to each other, and no deformed one of them.

        The second because a data set may hold near twins, as on small boxes, where few states are metastable.
        """
        return self.distance >= max(self.own_least, SAME)

    @property
    def words(self) -> str:
        """The finding in one sentence."""
        what = "new" if self.new else "not new, nearer to a training texture than these are to each other"
        what = what if self.distance >= SAME else "near a training texture"
        some = "" if self.searched == self.given else f"the first {self.searched} of "
        return (
            f"{what}: the nearest of {some}{self.given} training textures, symmetries taken out, is at an RMS distance "
            f"of {self.distance:.3f} a spin; their own {self.own_mean:.3f} ± {self.own_std:.3f} "
            f"(least {self.own_least:.3f} of {self.own})"
        )


def novelty(
    spins: Any, reference: Any, H: Hamiltonian | None, count: int | None = None, own: int = 20, show: bool = False
) -> list[Novelty]:
    r"""A :class:`Novelty` for each texture (n, 3, H, W), against all of ``reference``, or the first ``count``.

    .. math:: d = \min_{r, g} \sqrt{\tfrac{1}{HW} \sum_i |S_i - (g S^r)_i|^2}

    over the references r, (m, 3, H, W), and all exact symmetries g of ``H``, translations included (those of the
    lattice alone if it is None): an RMS distance of unit spins, from 0 to 2.

    ``reference`` is a tensor or a data set, anything with a length whose slices are textures. Its own distances
    are those of ``own`` of them, evenly spaced, each to the nearest of the others. ``show``: a progress bar.

    Raises:
        BadInput: fewer than two references, or textures of another lattice.
    """
    spins = _batch(spins)
    searched = comparable(reference, (spins.shape[-2], spins.shape[-1]), count)
    if own < 1:
        raise BadInput(f"own={own}: distances of the reference's own are needed; use 1 or more")
    picked = torch.linspace(0, searched - 1, min(own, searched), dtype=torch.float64).round().long().unique()
    queries = torch.cat((spins, torch.cat([_batch(reference[i : i + 1]) for i in picked.tolist()])))
    itself = torch.cat((torch.full((len(spins),), -1), picked))
    distance, nearest = nearest_texture(queries, reference, H, searched, itself, show)
    among = distance[len(spins) :]
    return [
        Novelty(
            distance=float(distance[k]),
            nearest=int(nearest[k]),
            searched=searched,
            given=len(reference),
            own_mean=float(among.mean()),
            own_std=float(among.std()) if len(among) > 1 else 0.0,
            own_least=float(among.min()),
            own=len(among),
        )
        for k in range(len(spins))
    ]


def comparable(reference: Any, size: tuple[int, int], count: int | None = None) -> int:
    """How many textures of ``reference`` ones of ``size`` are compared with: all, or the first ``count``.

    Raises:
        BadInput: fewer than two, or textures of another lattice.
    """
    searched = len(reference) if count is None else min(count, len(reference))
    if searched < 2:
        raise BadInput(f"reference of {searched} textures: distances need at least 2; give more")
    _same_lattice(size, _batch(reference[:1]))
    return searched


def nearest_texture(
    spins: Any,
    reference: Any,
    H: Hamiltonian | None,
    count: int | None = None,
    itself: Tensor | None = None,
    show: bool = False,
) -> tuple[Tensor, Tensor]:
    r"""RMS distance (n,) of each texture (n, 3, H, W) to its nearest reference, and that one's number (n,).

    .. math:: d^2 = \min_{g, t} \frac1N\sum_r |S(r) - (g S')(r + t)|^2
                  = 2 - 2\max_{g, t}\frac1N\sum_r S(r)\cdot(g S')(r + t)

    over the exact symmetries g of ``H`` (:func:`spinloom.symmetry.symmetries`; without one, translations alone)
    and all translations t at once, by the convolution theorem. That maximum, the likeness, is looked for among the
    long waves on a coarse grid of translations (:class:`_Grid`) first, and on the lattice wherever that leaves room
    for the nearest one: the answer is exact. ``count``: of the references, the first so many; ``itself``: for each
    texture the number of a reference to be passed over, −1 for none.

    Raises:
        BadInput: textures of another lattice.
    """
    spins = _batch(spins)
    size = (spins.shape[-2], spins.shape[-1])
    group = symmetries(H, size) if H is not None else (Symmetry(IDENTITY, KEEP),)
    reverses = Symmetry(IDENTITY, REVERSE) in group
    # a reversed texture's products are the negative ones: half the group will do
    group = [element for element in group if not reverses or element.mz_sign > 0]
    grid = _grid_of(_transform(spins), size)
    mine = [_Coarse.of(_transform(element(spins)), grid) for element in group]
    best, nearest = [-math.inf] * len(spins), [-1] * len(spins)
    total = len(reference) if count is None else min(count, len(reference))
    step = max(1, SITES_AT_ONCE // (size[0] * size[1]))

    def look(first: int) -> int:
        part = _batch(reference[first : min(first + step, total)])
        _same_lattice(size, part)
        whole = _transform(part)
        theirs = _Coarse.of(whole, grid)
        for k in range(len(spins)):
            # an element and its inverse are both in the group: the textures are moved in place of the references
            likeness = torch.stack([_likeness(moved.low[k], theirs.low, grid.sides, reverses) for moved in mine])
            if itself is not None and first <= itself[k] < first + len(part):
                likeness[:, itself[k] - first] = -math.inf
            most = likeness + grid.missed(mine[0], theirs, k) + ROUNDING
            # the likeliest alone first: it rules out nearly all others
            for least in (float(likeness.max()), -math.inf):
                for g, column in enumerate((likeness >= least) & (most > best[k])):
                    numbers = column.nonzero()[:, 0]
                    if len(numbers):
                        moved = _transform(group[g](spins[k]))
                        value, at = _likeness(moved, whole[numbers], size, reverses).max(0)
                        if value > best[k]:
                            best[k], nearest[k] = float(value), first + int(numbers[at])
        return len(part)

    began = time.monotonic()
    done = look(0) if total else 0
    left = (time.monotonic() - began) * (total - done) / max(done, 1)
    with progress("comparing", total - done, "textures", show and left > PATIENCE) as advance:
        for first in range(step, total, step):
            advance(look(first))
    return (2 - 2 * torch.tensor(best, dtype=torch.float64)).clamp(min=0).sqrt(), torch.tensor(nearest)


def _transform(spins: Spins) -> Tensor:
    """Fourier amplitudes (…, 3, H, W//2 + 1), whose squares over the whole plane add up to 1."""
    return torch.fft.rfft2(spins, norm="forward")


def _likeness(mine: Tensor, theirs: Tensor, sides: tuple[int, int], reverses: bool) -> Tensor:
    """The largest product (n,) of a texture (3, …) with others (n, 3, …), by their amplitudes, over translations."""
    # the small factor is the conjugate: all that changes is the sign of the translation
    x, y, z = mine.conj().resolve_conj()
    total = (x * theirs[:, 0]).addcmul_(y, theirs[:, 1]).addcmul_(z, theirs[:, 2])
    products = torch.fft.irfft2(total, s=sides, norm="forward")
    return (products.abs() if reverses else products).amax((-2, -1))


@dataclass(frozen=True)
class _Grid:
    r"""Translations on ``sides`` points instead of all H × W, and wave vectors that these tell apart.

    With c_q the products of two textures' amplitudes, their likeness at a translation is f(t) = Σ c_q exp(i q·t).
    At a grid point, half a spacing δ from the maximum at most, it falls short by at most

    .. math:: \tfrac12\sum_q |c_q| (q\cdot\delta)^2 + \sum_{q\,\text{left out}} |c_q|
              \le \tfrac12\sqrt{aa'} + \sqrt{hh'}, \qquad
              a = \max_\delta \sum_q |S_q|^2 (q\cdot\delta)^2, \quad h = \sum_{q\,\text{left out}} |S_q|^2

    since the slope is 0 at the maximum, and by Cauchy and Schwarz. No symmetry of the box changes a and h.
    """

    size: tuple[int, int]
    sides: tuple[int, int]

    def lowest(self, transform: Tensor) -> Tensor:
        """Of amplitudes (…, H, W//2 + 1) those the grid tells apart, (…, h, w//2 + 1)."""
        if self.sides == self.size:
            return transform
        up, along = (side // 2 for side in self.sides)
        low = transform.new_zeros(*transform.shape[:-2], self.sides[0], along + 1)
        low[..., :up, :along] = transform[..., :up, :along]
        low[..., 1 - up :, :along] = transform[..., 1 - up :, :along]
        return low

    def bend_and_rest(self, transform: Tensor, low: Tensor) -> tuple[Tensor, Tensor]:
        """a and h (n,) of textures by their amplitudes."""
        if self.sides == self.size:
            nothing = torch.zeros(len(transform))
            return nothing, nothing
        height, width = self.size
        q_y = 2 * math.pi * torch.fft.fftfreq(height)[:, None]
        q_x = 2 * math.pi * torch.fft.rfftfreq(width)
        # half a spacing
        d_y, d_x = (whole / side / 2 for whole, side in zip(self.size, self.sides, strict=True))
        share = _whole_plane(transform, width)
        straight = (share * ((q_y * d_y) ** 2 + (q_x * d_x) ** 2)).sum((-2, -1))
        across = (share * (q_y * d_y * q_x * d_x)).sum((-2, -1))
        rest = share.sum((-2, -1)) - _whole_plane(low, self.sides[1]).sum((-2, -1))
        return straight + 2 * across.abs(), rest.clamp(min=0)

    def missed(self, mine: _Coarse, theirs: _Coarse, k: int) -> Tensor:
        """What the grid misses at most (n,) of the likeness of texture k and n others."""
        return (mine.bend[k] * theirs.bend).sqrt() / 2 + (mine.rest[k] * theirs.rest).sqrt()


@dataclass(frozen=True)
class _Coarse:
    """Amplitudes ``low`` (n, 3, h, w//2 + 1) of textures on a grid, and what it takes to know what that misses."""

    low: Tensor
    bend: Tensor
    rest: Tensor

    @classmethod
    def of(cls, transform: Tensor, grid: _Grid) -> _Coarse:
        low = grid.lowest(transform)
        return cls(low, *grid.bend_and_rest(transform, low))


def _whole_plane(transform: Tensor, width: int) -> Tensor:
    """|S_q|² (n, H, W//2 + 1), each counted as often as it is in the whole plane."""
    share = (transform.real.square() + transform.imag.square()).sum(-3)
    share[..., 1 : (width + 1) // 2] *= 2
    return share


def _grid_of(transform: Tensor, size: tuple[int, int]) -> _Grid:
    """The coarsest grid that misses :data:`MISSED` at most of two textures as rough as the roughest of these.

    One of more than half as many points as there are sites is not worth a second look: then it is the lattice.
    """
    longest = max(size)
    for points in range(4, longest, 2):
        sides = (_even(size[0] * points / longest), _even(size[1] * points / longest))
        if 2 * sides[0] * sides[1] > size[0] * size[1]:
            break
        grid = _Grid(size, sides)
        bend, rest = grid.bend_and_rest(transform, grid.lowest(transform))
        if float((bend / 2 + rest).max()) <= MISSED:
            return grid
    return _Grid(size, size)


def _even(least: float) -> int:
    """The next even number whose transform is fast: of the prime factors 2, 3 and 5."""
    number = max(4, 2 * math.ceil(least / 2))
    while 30**12 % number:
        number += 2
    return number


def _same_lattice(size: tuple[int, int], reference: Tensor) -> None:
    theirs = (reference.shape[-2], reference.shape[-1])
    if size != theirs:
        raise BadInput(f"reference of lattice {theirs}: the textures have {size}; use one of that size")


def _batch(spins: Any) -> Tensor:
    spins = as_spins(spins).detach().cpu().float()
    return spins if spins.ndim == 4 else spins.reshape(-1, *spins.shape[-3:])
