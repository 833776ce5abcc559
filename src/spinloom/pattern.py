"""What a texture is: stripes of one wave vector, a skyrmion lattice, or a labyrinth."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from spinloom.errors import BadInput
from spinloom.hamiltonian import as_spins
from spinloom.spectrum import structure_factor
from spinloom.topology import charge, whole_charge
from spinloom.typing import SiteMap, Spins

STRIPES = 0.8
"""Share of the structure factor in one pair ±q from which on a texture is called stripes."""

LATTICE = 0.8
"""Share of the reversed sites in round skyrmions from which on a texture is called a skyrmion lattice."""

ROUND = 1.5
"""Largest ratio of a round core's principal widths."""


@dataclass(frozen=True)
class Core:
    """A connected region of S_z reversed against the mean.

    ``charge`` is its topological charge, a whole number; ``sites`` its size; ``centre`` (row, column);
    ``elongation`` the ratio of its principal widths. ``winds``: it runs around the box, as a stripe does, and
    has neither centre nor elongation.
    """

    charge: int
    sites: int
    winds: bool
    centre: tuple[float, float] | None
    elongation: float | None

    @property
    def skyrmion(self) -> bool:
        """A region that closes in itself and holds one charge: a skyrmion, or a stretched one."""
        return not self.winds and abs(self.charge) == 1

    @property
    def round(self) -> bool:
        return self.skyrmion and self.elongation is not None and self.elongation <= ROUND


@dataclass(frozen=True)
class Pattern:
    """The kind of a texture and the numbers it is named by.

    Attributes:
        kind: ``uniform``, ``stripes``, ``broken stripes`` (some end: a reversed region closes in itself, or Q is not
            0), ``skyrmion lattice``, ``skyrmions among stripes`` or ``labyrinth``.
        wave_vector: (n, m) of the strongest q = 2π(n/W, m/H), n > 0, or n = 0 and m > 0.
        share: of the structure factor at q ≠ 0 in ±q, from 0 to 1: 1 for a planar spiral.
        charge: the topological charge Q.
        skyrmions: closed reversed regions of charge ±1.
        round_skyrmions: those of them whose principal widths differ by less than :data:`ROUND`.
        bands: reversed regions that run around the box.
        distance, distance_spread: mean and standard deviation of the distance in sites from a skyrmion's centre
            to the nearest other one; None below two.
    """

    kind: str
    wave_vector: tuple[int, int]
    share: float
    charge: float
    skyrmions: int
    round_skyrmions: int
    bands: int
    distance: float | None
    distance_spread: float | None

    def as_dict(self) -> dict[str, Any]:
        """Everything as plain JSON values."""
        return {**asdict(self), "wave_vector": list(self.wave_vector)}

    @property
    def words(self) -> str:
        """The pattern in one sentence."""
        n, m = self.wave_vector
        strongest = f"{100 * self.share:.1f}% of the structure factor in q = ±2π({n}, {m})/L"
        total = f"Q = {round(self.charge)}"
        if self.kind == "stripes":
            return f"stripes of one wave vector: {strongest}, {total}"
        bands = [_counted(self.bands, "band", " around the box")]
        if self.kind == "broken stripes":
            return "broken stripes: " + ", ".join([strongest, *filter(None, bands), total])
        if self.kind == "uniform":
            return f"uniform, {total}"
        if not self.skyrmions:
            return f"a labyrinth: {strongest}, no skyrmions, {total}"
        some = [
            _counted(self.skyrmions, "skyrmion", f" ({self.round_skyrmions} round)" if self.round_skyrmions else "")
        ]
        # of two, the mean distance is theirs and its spread nothing
        if self.distance is not None and self.skyrmions > 2:
            apart = [f"{self.distance:.1f} ± {self.distance_spread:.1f} sites apart"]
        else:
            apart = []
        article = "a " if self.kind == "skyrmion lattice" else ""
        return f"{article}{self.kind}: " + ", ".join([*some, *filter(None, bands), total, *apart])


def _counted(number: int, what: str, more: str) -> str:
    """So many of something; nothing of none."""
    return f"{number} {what}{'s' if number > 1 else ''}{more}" if number else ""


def pattern(spins: Any) -> Pattern:
    """The :class:`Pattern` of one texture (3, H, W).

    Raises:
        BadInput: there is more than one texture.
    """
    spins = as_spins(spins).detach().cpu()
    if spins.ndim != 3:
        raise BadInput(f"spins of shape {tuple(spins.shape)}: a pattern is of one (3, H, W); index the batch")
    wave_vector, share, modulated = strongest_wave(spins)
    found = cores(spins)
    skyrmions = [core for core in found if core.skyrmion]
    even = [core for core in found if core.round]
    reversed_sites = sum(core.sites for core in found)
    in_round = sum(core.sites for core in even)
    if modulated < 1e-3:
        kind = "uniform"
    elif share >= STRIPES:
        broken = any(not core.winds for core in found) or round(float(charge(spins))) != 0
        kind = "broken stripes" if broken else "stripes"
    elif even and in_round >= LATTICE * reversed_sites:
        kind = "skyrmion lattice"
    else:
        kind = "skyrmions among stripes" if skyrmions else "labyrinth"
    distances = _nearest([core.centre for core in skyrmions if core.centre is not None], spins.shape[-2:])
    return Pattern(
        kind=kind,
        wave_vector=wave_vector,
        share=share,
        charge=whole_charge(float(charge(spins))),
        skyrmions=len(skyrmions),
        round_skyrmions=len(even),
        bands=sum(core.winds for core in found),
        distance=float(np.mean(distances)) if distances else None,
        distance_spread=float(np.std(distances)) if distances else None,
    )


def strongest_wave(spins: Tensor) -> tuple[tuple[int, int], float, float]:
    """(n, m) of the pair ±q with most of the structure factor, its share of all at q ≠ 0, and the share of those in
    all."""
    factor = structure_factor(spins.double())
    height, width = factor.shape
    whole = float(factor.sum())
    factor[0, 0] = 0
    modulated = float(factor.sum())
    # S(q) = S(−q): the spins are real
    m, n = divmod(int(factor.argmax()), width)
    pair = 1 if (2 * m % height, 2 * n % width) == (0, 0) else 2
    share = pair * float(factor[m, n]) / modulated if modulated > 0 else 0.0
    n, m = (n + width // 2) % width - width // 2, (m + height // 2) % height - height // 2
    if n < 0 or (n == 0 and m < 0):
        n, m = -n, -m
    return (n, m), min(share, 1.0), modulated / whole


def cores(spins: Any) -> list[Core]:
    r"""The regions of one texture (3, H, W) whose S_z is opposite to the mean, with their charges.

    For counting, the sphere is stretched so that its hemisphere around the mean becomes the pole and the other
    one the rest of the sphere,

    .. math:: c < 0:\ S' = (-2 c S_x, -2 c S_y, 1 - 2 c^2), \qquad c \ge 0:\ S' = (0, 0, 1),

    c being S_z along the mean. That map has degree 1, and S′ is uniform between the regions, so that every
    region's share of the Berg–Lüscher charge is a whole number (where no bond of S′ turns by 180°). Sites
    that share a plaquette belong to one region.
    """
    spins = as_spins(spins).detach().double().cpu()
    up = 1.0 if float(spins[2].mean()) >= 0 else -1.0
    c = spins[2] * up
    inside = c < 0
    stretched = torch.stack((-2 * c * spins[0] * up, -2 * c * spins[1] * up, 1 - 2 * c * c))
    stretched = torch.where(inside, stretched, torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64)[:, None, None])
    labels, winds, members = _regions(inside.numpy())
    height, width = inside.shape
    # a plaquette belongs to the region that any of its corners is in: by the joining rule there is one at most
    corners = np.stack([np.roll(labels, shift, (0, 1)) for shift in ((0, 0), (-1, 0), (0, -1), (-1, -1))]).max(0)
    # the whole texture was turned over where the mean is down, which changes the sign of every charge
    density = up * _charge_density(stretched).numpy()
    charges = np.bincount(corners.ravel() + 1, density.ravel(), len(members) + 1)[1:]
    found = []
    for number, sites in enumerate(members):
        centre = elongation = None
        if not winds[number]:
            at = np.array(sites, np.float64)
            row, column = at.mean(0)
            centre = (float(row % height), float(column % width))
            # a site is a square of width 1: a twelfth keeps a single one round
            spread = np.linalg.eigvalsh(np.cov(at.T, bias=True).reshape(2, 2) + np.eye(2) / 12)
            elongation = math.sqrt(spread[1] / spread[0])
        found.append(Core(round(charges[number]), len(sites), winds[number], centre, elongation))
    return found


def _charge_density(spins: Spins) -> SiteMap:
    """The Berg–Lüscher charge of each plaquette (…, H, W): the sum is :func:`spinloom.topology.charge`."""
    right, up = torch.roll(spins, -1, -1), torch.roll(spins, -1, -2)
    corner = torch.roll(right, -1, -2)
    return (_half_angle(spins, right, corner) + _half_angle(spins, corner, up)) / (2 * math.pi)


def _half_angle(a: Spins, b: Spins, c: Spins) -> SiteMap:
    volume = (a * torch.linalg.cross(b, c, dim=-3)).sum(-3)
    return torch.atan2(volume, 1 + (a * b).sum(-3) + (b * c).sum(-3) + (c * a).sum(-3))


def _regions(inside: np.ndarray) -> tuple[np.ndarray, list[bool], list[list[tuple[int, int]]]]:
    """Regions on the torus, joined across edges and corners: labels (−1 outside), which run around it, and each
    one's sites, unwrapped."""
    height, width = inside.shape
    labels = np.full(inside.shape, -1)
    winds, members = [], []
    where: dict[tuple[int, int], tuple[int, int]] = {}
    for row, column in np.argwhere(inside).tolist():
        start = (row, column)
        if labels[start] >= 0:
            continue
        number, around, sites = len(members), False, []
        labels[start], where[start] = number, start
        queue = deque([start])
        while queue:
            row, column = queue.popleft()
            sites.append((row, column))
            for down in (-1, 0, 1):
                for right in (-1, 0, 1):
                    place = (row + down, column + right)
                    site = (place[0] % height, place[1] % width)
                    if not inside[site]:
                        continue
                    if labels[site] < 0:
                        labels[site], where[site] = number, place
                        queue.append(place)
                    elif where[site] != place:  # met again a turn further
                        around = True
        winds.append(around)
        members.append(sites)
    return labels, winds, members


def _nearest(centres: list[tuple[float, float]], size: tuple[int, ...]) -> list[float]:
    """From each centre to the nearest other one, on the torus."""
    if len(centres) < 2:
        return []
    box = np.array(size, np.float64)
    apart = np.array(centres)[:, None] - np.array(centres)[None]
    distance = np.hypot(*np.moveaxis(apart - box * np.round(apart / box), -1, 0))
    np.fill_diagonal(distance, np.inf)
    return distance.min(1).tolist()
