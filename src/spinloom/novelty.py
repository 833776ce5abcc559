"""Whether a texture is new: how far the nearest training texture is, symmetries taken out."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from spinloom.errors import BadInput
from spinloom.hamiltonian import Hamiltonian, as_spins
from spinloom.symmetry import IDENTITY, KEEP, REVERSE, Symmetry, symmetries

SITES_AT_ONCE = 1 << 18
"""Of reference textures in one chunk."""


SAME = 0.25
"""RMS distance under which two textures count as one that is a little deformed: spins 14° apart on average."""


@dataclass(frozen=True)
class Novelty:
    """The distance to the nearest reference texture beside the references' own.

    Attributes:
        distance: the smallest RMS distance of a spin over the references, all symmetries and translations; 0 for
            a copy, about √2 for strangers.
        nearest: that reference's number.
        searched: how many references were looked at.
        own_mean, own_std, own_least: the same distance from some references to the nearest of the others.
        own: how many those were.
    """

    distance: float
    nearest: int
    searched: int
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
        what = "new" if self.new else "near a training texture"
        return (
            f"{what}: the nearest of {self.searched} training textures, symmetries taken out, is at an RMS distance "
            f"of {self.distance:.3f} a spin; their own {self.own_mean:.3f} ± {self.own_std:.3f} "
            f"(least {self.own_least:.3f} of {self.own})"
        )


def novelty(spins: Any, reference: Any, H: Hamiltonian | None, count: int = 500, own: int = 20) -> list[Novelty]:
    """A :class:`Novelty` for each texture (n, 3, H, W), against the first ``count`` of ``reference``.

    ``reference`` is a tensor or a data set, anything with a length whose slices are textures. Its own distances
    are those of ``own`` of them, evenly spaced, each to the nearest of the others.

    Raises:
        BadInput: fewer than two references, or textures of another lattice.
    """
    spins = _batch(spins)
    searched = min(count, len(reference))
    if searched < 2 or own < 1:
        raise BadInput(f"reference of {searched} textures, own={own}: distances need at least 2 and 1; give more")
    _same_lattice(spins, _batch(reference[:1]))
    picked = torch.linspace(0, searched - 1, min(own, searched)).round().long().unique()
    queries = torch.cat((spins, torch.cat([_batch(reference[i : i + 1]) for i in picked.tolist()])))
    itself = torch.cat((torch.full((len(spins),), -1), picked))
    distance, nearest = nearest_texture(queries, reference, H, searched, itself)
    among = distance[len(spins) :]
    return [
        Novelty(
            distance=float(distance[k]),
            nearest=int(nearest[k]),
            searched=searched,
            own_mean=float(among.mean()),
            own_std=float(among.std()) if len(among) > 1 else 0.0,
            own_least=float(among.min()),
            own=len(among),
        )
        for k in range(len(spins))
    ]


def nearest_texture(
    spins: Any, reference: Any, H: Hamiltonian | None, count: int | None = None, itself: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    r"""RMS distance (n,) of each texture (n, 3, H, W) to its nearest reference, and that one's number (n,).

    .. math:: d^2 = \min_{g, t} \frac1N\sum_r |S(r) - (g S')(r + t)|^2
                  = 2 - 2\max_{g, t}\frac1N\sum_r S(r)\cdot(g S')(r + t)

    over the exact symmetries g of ``H`` (:func:`spinloom.symmetry.symmetries`; without one, translations alone)
    and all translations t at once, by the convolution theorem. ``itself``: for each texture the number of a
    reference to be passed over, −1 for none.

    Raises:
        BadInput: textures of another lattice.
    """
    spins = _batch(spins)
    size = (spins.shape[-2], spins.shape[-1])
    group = symmetries(H, size) if H is not None else (Symmetry(IDENTITY, KEEP),)
    reverses = Symmetry(IDENTITY, REVERSE) in group
    # a reversed texture's products are the negative ones: half the group will do
    group = [element for element in group if not reverses or element.mz_sign > 0]
    # an element and its inverse are both in the group: the textures are moved in place of the references
    transforms = [torch.fft.rfft2(element(spins)) for element in group]
    best = torch.full((len(spins),), -math.inf)
    nearest = torch.full((len(spins),), -1)
    total = len(reference) if count is None else min(count, len(reference))
    step = max(1, SITES_AT_ONCE // (size[0] * size[1]))
    for first in range(0, total, step):
        part = _batch(reference[first : min(first + step, total)])
        _same_lattice(spins, part)
        theirs = torch.fft.rfft2(part).conj()
        for transform in transforms:
            for k, mine in enumerate(transform):
                products = torch.fft.irfft2((mine * theirs).sum(1), s=size)
                products = products.abs() if reverses else products
                likeness = products.amax((-2, -1)) / (size[0] * size[1])
                if itself is not None and first <= itself[k] < first + len(part):
                    likeness[itself[k] - first] = -math.inf
                value, at = likeness.max(0)
                if value > best[k]:
                    best[k], nearest[k] = value, first + at
    return (2 - 2 * best.double()).clamp(min=0).sqrt(), nearest


def _same_lattice(spins: Tensor, reference: Tensor) -> None:
    mine, theirs = tuple(spins.shape[-2:]), tuple(reference.shape[-2:])
    if mine != theirs:
        raise BadInput(f"reference of lattice {theirs}: the textures have {mine}; use one of that size")


def _batch(spins: Any) -> Tensor:
    spins = as_spins(spins).detach().cpu().float()
    return spins if spins.ndim == 4 else spins.reshape(-1, *spins.shape[-3:])
