"""Domains and walls in maps of latent space, and the numbers that tell them from a blur.

A generator that has learnt what separates textures maps latent space into *domains*, where ε hardly changes, cut by
narrow *walls*, where a nodal point appears and the texture changes; one that has not gives a blur. What follows puts
numbers to that, so that it can be tested on many planes and not looked at on one.

Domains are found by a watershed with a least depth: pixels are flooded from the lowest up, and two basins that meet
are one if the shallower is less than 1 J (of the whole texture's energy) deep. A ridge found by curvature (a Hessian)
needs a length scale, which is what is in question here, and breaks where walls cross or fade; the watershed needs
none, always gives closed domains, and its one threshold is physical: a wall lower than a single bond turned through
90° is no wall.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, no_type_check

import numpy as np
import torch

from spinloom.errors import BadInput
from spinloom.hamiltonian import Hamiltonian
from spinloom.latent import LatentMap, Plane, latent_map
from spinloom.measure import wavelength
from spinloom.progress import progress
from spinloom.sample import Decode, Score
from spinloom.topology import charge, compiled, nodal_centres, nodal_points
from spinloom.typing import Spins

SHARE = 0.1
"""Of the pixels, the steepest, whose part in all of |∇ε| is the sharpness."""

BLURS = 20
"""Gaussian fields that a sharpness is compared with."""

DEEP = 1.0
"""Least depth of a domain in J, in the energy of the whole texture."""


@dataclass(frozen=True, eq=False)
class Domains:
    """A map's domains, numbered from 0 by rising ε of their lowest pixels, and the walls between neighbours.

    Attributes:
        labels: the domain of every pixel, (R, R).
        lowest: (n, 2): row and column of each domain's lowest pixel.
        walls: of neighbours (a, b), a < b: row and column of the pass between them, the highest pixel of the lowest
            way from one into the other.
    """

    labels: np.ndarray
    lowest: np.ndarray
    walls: dict[tuple[int, int], tuple[int, int]]

    def barriers(self, map_: LatentMap) -> list[float]:
        """Of every wall how high its pass is above the higher domain's lowest pixel, in J of the whole texture."""
        energy = map_.energy_excess.double().numpy()
        floor = energy[self.lowest[:, 0], self.lowest[:, 1]]
        scale = map_.sites / map_.J
        return [float(energy[at] - max(floor[a], floor[b])) * scale for (a, b), at in self.walls.items()]

    def as_dict(self, map_: LatentMap) -> dict[str, Any]:
        """Lowest pixels and walls, (row, column) each, as plain JSON values; the labels are an array."""
        walls = zip(self.walls.items(), self.barriers(map_), strict=True)
        return {
            "lowest": self.lowest.tolist(),
            "walls": [{"between": list(pair), "pass": list(at), "barrier": high} for (pair, at), high in walls],
        }


def find_domains(map_: LatentMap, depth: float | int = DEEP) -> Domains:
    """The domains of a map: a watershed of ε whose basins are at least ``depth``·J deep, in the texture's energy N·ε.

    Pixels are visited by rising ε, ties in reading order; each joins the basin of its lowest visited neighbour (of
    eight). Where it also touches another basin the two are one if the shallower's lowest pixel lies less than
    ``depth`` below it.

    Raises:
        BadInput: a depth that is negative or not a number.
    """
    if not depth >= 0:
        raise BadInput(f"depth={depth}: basins are not shallower than 0; use e.g. depth={DEEP:g}")
    energy = map_.energy_excess.double().numpy()
    order = np.argsort(energy, axis=None, kind="stable")
    labels = np.empty(energy.shape, np.int64)
    _flood(energy, order, float(depth) * map_.J / map_.sites, labels)
    roots, numbers = np.unique(labels, return_inverse=True)
    # a root is its basin's lowest pixel
    by_energy = np.argsort(energy.flat[roots], kind="stable")
    rank = np.empty(len(roots), np.int64)
    rank[by_energy] = np.arange(len(roots))
    labels = rank[numbers].reshape(energy.shape)
    lowest = np.stack(np.unravel_index(roots[by_energy], energy.shape), 1)
    walls: dict[tuple[int, int], tuple[int, int]] = {}
    heights: dict[tuple[int, int], float] = {}
    for one, other in _boundary(labels):
        pair = (min(labels[one], labels[other]), max(labels[one], labels[other]))
        higher = max(one, other, key=lambda pixel: energy[pixel])
        if pair not in heights or energy[higher] < heights[pair]:
            heights[pair], walls[int(pair[0]), int(pair[1])] = energy[higher], higher
    return Domains(labels, lowest, dict(sorted(walls.items())))


Pixel = tuple[int, int]


def _boundary(labels: np.ndarray) -> list[tuple[Pixel, Pixel]]:
    """All pairs of neighbouring pixels (of eight) that belong to different domains."""
    height, width = labels.shape
    found = []
    for down, right in ((0, 1), (1, 0), (1, 1), (1, -1)):
        left = max(0, -right)
        here = labels[: height - down, left : width - max(0, right)]
        there = labels[down:, left + right : width + min(0, right)]
        for row, column in np.argwhere(here != there).tolist():
            found.append(((row, column + left), (row + down, column + left + right)))
    return found


@compiled
@no_type_check
def _flood(energy, order, depth, labels):  # pragma: no cover (compiled)
    """Watershed with a least depth; ``labels`` becomes the flat index of each pixel's basin's lowest pixel."""
    height, width = energy.shape
    flat = energy.ravel()
    basin = np.full(height * width, -1, np.int64)
    parent = np.arange(height * width)
    for pixel in order:
        row, column = pixel // width, pixel % width
        lowest = -1
        for down in range(-1, 2):
            for right in range(-1, 2):
                r, c = row + down, column + right
                if 0 <= r < height and 0 <= c < width and basin[r * width + c] >= 0:
                    near = r * width + c
                    if lowest < 0 or flat[near] < flat[lowest]:
                        lowest = near
        if lowest < 0:
            basin[pixel] = pixel
            continue
        own = basin[lowest]
        while parent[own] != own:
            own = parent[own]
        for down in range(-1, 2):
            for right in range(-1, 2):
                r, c = row + down, column + right
                if not (0 <= r < height and 0 <= c < width) or basin[r * width + c] < 0:
                    continue
                other = basin[r * width + c]
                while parent[other] != other:
                    other = parent[other]
                if other == own:
                    continue
                deep, shallow = own, other
                if flat[other] < flat[own]:
                    deep, shallow = other, own
                if flat[pixel] - flat[shallow] < depth:
                    parent[shallow] = deep
                    own = deep
        basin[pixel] = own
    for pixel in range(height * width):
        root = basin[pixel]
        while parent[root] != root:
            root = parent[root]
        labels[pixel // width, pixel % width] = root


def steepness(map_: LatentMap) -> np.ndarray:
    """|∇ε| (R, R) in the unit of J over latent length, by central differences."""
    return _slope(map_.energy_excess.double().numpy()) / map_.pixel


def _slope(energy: np.ndarray) -> np.ndarray:
    along_rows, along_columns = np.gradient(energy)
    return np.hypot(along_rows, along_columns)


def map_numbers(map_: LatentMap, domains: Domains | None = None) -> dict[str, float | None]:
    r"""What tells flat domains with narrow walls from a blur.

    - ``flat_share``: the share of the pixels without a nodal point.
    - ``wall_width``: the mean width of the rest, in latent units: w = 2A/P (exact for long straight strips), A its
      area and P its perimeter, the map's frame included, by Cauchy–Crofton over four directions. A map that is all
      wall has half its side; one without nodal points has None.
    - ``sharpness``: the part of Σ|∇ε| in the steepest 10 % of the pixels; ``blur_sharpness`` and ``blur_std``:
      mean and standard deviation of the same for 20 Gaussian-blurred white noises of the map's own correlation
      length σ. Any smooth isotropic Gaussian field has 0.20 on a large map (|∇ε| is then Rayleigh distributed).
    - ``length``: that σ = √(Var ε / ⟨|∇ε|²⟩), in latent units: how far one goes till ε changes.
    - ``domains``: their number; ``barrier``: the mean over neighbours of the pass above the higher domain's lowest
      pixel, in J of the whole texture (None with one domain); ``walls_nodal``: the share of passes with a nodal
      point; ``walls_charge``: the share of neighbours whose lowest pixels differ in charge.

    A width or length is bounded from below by the pixel.

    Raises:
        BadInput: the domains are those of a map of another resolution.
    """
    domains = domains or find_domains(map_)
    energy = map_.energy_excess.double().numpy()
    if domains.labels.shape != energy.shape:
        raise BadInput(
            f"domains of {domains.labels.shape[0]} × {domains.labels.shape[1]} pixels: the map has "
            f"{energy.shape[0]} × {energy.shape[1]}; use its own, find_domains(map)"
        )
    nodal = map_.nodal_points.numpy() > 0
    perimeter = _perimeter(np.pad(nodal, 1))
    slope = _slope(energy)
    spread, mean_square = energy.std(), float(np.square(slope).mean())
    sigma = float(spread / math.sqrt(mean_square)) if mean_square > 0 else math.inf
    blur = _blurs(len(energy), sigma) if math.isfinite(sigma) else (0.0, 0.0)
    lowest = domains.lowest
    charges = map_.charge.numpy()[lowest[:, 0], lowest[:, 1]]
    barriers = domains.barriers(map_)
    return {
        "flat_share": float(1 - nodal.mean()),
        "wall_width": 2 * float(nodal.sum()) / perimeter * map_.pixel if nodal.any() else None,
        "sharpness": _steepest_part(slope),
        "blur_sharpness": blur[0],
        "blur_std": blur[1],
        "length": sigma * map_.pixel if math.isfinite(sigma) else None,
        "domains": float(len(lowest)),
        "barrier": float(np.mean(barriers)) if barriers else None,
        "walls_nodal": float(np.mean([nodal[at] for at in domains.walls.values()])) if barriers else None,
        "walls_charge": float(np.mean([charges[a] != charges[b] for a, b in domains.walls])) if barriers else None,
    }


def _perimeter(inside: np.ndarray) -> float:
    """The length, in pixels, of a region's boundary: P = (π/2) ⟨crossings · spacing of the lines⟩ over directions."""
    rows, columns = inside[1:] != inside[:-1], inside[:, 1:] != inside[:, :-1]
    diagonal, other = inside[1:, 1:] != inside[:-1, :-1], inside[1:, :-1] != inside[:-1, 1:]
    crossings = rows.sum() + columns.sum() + (diagonal.sum() + other.sum()) / math.sqrt(2)
    return math.pi / 2 * float(crossings) / 4


def _steepest_part(slope: np.ndarray) -> float:
    ordered = np.sort(slope, axis=None)[::-1]
    total = float(ordered.sum())
    return float(ordered[: max(1, round(SHARE * len(ordered)))].sum()) / total if total > 0 else 0.0


def _blurs(side: int, sigma: float) -> tuple[float, float]:
    """Mean and standard deviation of the sharpness of white noise blurred by a Gaussian of ``sigma`` pixels."""
    draw = np.random.default_rng(0)
    padded = 2 * side  # so that a map is no torus
    frequency = np.fft.fftfreq(padded) ** 2
    keep = np.exp(-2 * (math.pi * min(sigma, side)) ** 2 * (frequency[:, None] + frequency[None, : side + 1]))
    parts = []
    for _ in range(BLURS):
        noise = np.fft.rfft2(draw.standard_normal((padded, padded)))
        parts.append(_steepest_part(_slope(np.fft.irfft2(noise * keep, (padded, padded))[:side, :side])))
    return float(np.mean(parts)), float(np.std(parts, ddof=1))


# k, l, m: two domains and the wall between them


@dataclass(frozen=True, eq=False)
class Crossing:
    """Two points k and m in neighbouring domains and l on the wall between them (Fig. 3c).

    Attributes:
        pixels: (row, column) of k, l and m.
        clean: whether k and m have no nodal point and l has one.
        depth: the least depth of domains at which k and m lie in two, in J.
        spins: what the three decode to, (3, 3, H, W).
        energy_excess, nodal_points, charge: of the three.
        centre: (row, column) in sites of what changes: of the nodal points of l the one where k and m differ most,
            or, if l has none, where they do.
        difference: how much k and m differ there: the mean of (1 − S_k·S_m)/2 in the circle over that of the map.
        radius: of the circle, in sites.
    """

    pixels: tuple[tuple[int, int], tuple[int, int], tuple[int, int]]
    clean: bool
    depth: float
    spins: Spins
    energy_excess: tuple[float, ...]
    nodal_points: tuple[int, ...]
    charge: tuple[int, ...]
    centre: tuple[float, float]
    radius: float
    difference: float

    @property
    def charge_difference(self) -> int:
        """Q(m) − Q(k)."""
        return self.charge[2] - self.charge[0]

    @property
    def shallow(self) -> bool:
        """Whether the map has no wall of 1 J, so that this one is of domains that are less deep."""
        return self.depth < DEEP


def find_crossing(decode: Decode, H: Hamiltonian, map_: LatentMap, domains: Domains | None = None) -> Crossing | None:
    """The steepest wall of a map with a flat pixel of each of its two domains, decoded; None if ε has no wall at all.

    Flat is a pixel with no more nodal points than any other of its domain whose |∇ε| is at most the median of such
    pixels. From up to 40 pixels of each boundary the nearest flat pixels k and m of either side are found; l is the
    highest pixel on the way from k to m; and of all triples that with the largest rise (ε_l − max(ε_k, ε_m))/|k − m|
    is taken, those first in which k and m have no nodal point and l has one. The charges have no part in the choice,
    nor has a twentieth of the map along its frame, where a domain is cut off.
    Where the whole map is one domain, as of a blur, the least depth is halved till there are two (``shallow``).

    Raises:
        nothing of its own: the map was checked when it was made; what ``decode`` raises is passed on.
    """
    depth = DEEP
    chosen = _steepest_wall(map_, domains or find_domains(map_))
    while chosen is None and depth > 1e-3:
        depth /= 2
        chosen = _steepest_wall(map_, find_domains(map_, depth))
    return None if chosen is None else _decode_crossing(decode, H, map_, *chosen, depth)


def _steepest_wall(map_: LatentMap, domains: Domains) -> tuple[Any, bool] | None:
    """The pixels of k, l and m, and whether they are clean."""
    energy, slope = map_.energy_excess.double().numpy(), steepness(map_)
    nodal = map_.nodal_points.numpy()
    rim = len(energy) // 20
    inner = np.zeros(energy.shape, bool)
    inner[rim : len(energy) - rim, rim : len(energy) - rim] = True
    places: dict[tuple[int, int], list[Pixel]] = {}
    for one, other in _boundary(domains.labels):
        if inner[one] and inner[other]:
            a, b = int(domains.labels[one]), int(domains.labels[other])
            places.setdefault((min(a, b), max(a, b)), []).append(max(one, other, key=lambda pixel: energy[pixel]))
    members = {}
    for number in {domain for pair in places for domain in pair}:
        calm = inner & (domains.labels == number)
        calm &= nodal == nodal[calm].min(initial=nodal.max())
        members[number] = np.argwhere(calm & (slope <= np.median(slope[calm]))) if calm.any() else []
    best: tuple[bool, float] | None = None
    chosen = None
    for (a, b), at in sorted(places.items()):
        if not len(members[a]) or not len(members[b]):
            continue
        for place in at[:: max(1, len(at) // 40)]:
            k, m = (_nearest(members[side], place) for side in (a, b))
            wall = _highest_between(energy, k, m)
            rise = float(energy[wall] - max(energy[tuple(k)], energy[tuple(m)])) / float(np.hypot(*(m - k)))
            rank = (bool(nodal[tuple(k)] == 0 and nodal[tuple(m)] == 0 and nodal[wall] > 0), rise)
            if rise > 0 and (best is None or rank > best):
                best, chosen = rank, (tuple(int(x) for x in k), wall, tuple(int(x) for x in m))
    return None if best is None else (chosen, best[0])


def _nearest(cells: np.ndarray, place: tuple[int, int]) -> np.ndarray:
    return cells[np.square(cells - np.array(place)).sum(1).argmin()]


def _highest_between(energy: np.ndarray, start: np.ndarray, end: np.ndarray) -> tuple[int, int]:
    """The pixel of highest energy on the straight line between two pixels."""
    share = np.linspace(0, 1, 2 * int(np.abs(end - start).max()) + 1)[:, None]
    rows, columns = np.rint(start + share * (end - start)).astype(np.int64).T
    at = int(energy[rows, columns].argmax())
    return int(rows[at]), int(columns[at])


@torch.no_grad()
def _decode_crossing(
    decode: Decode, H: Hamiltonian, map_: LatentMap, pixels: Any, clean: bool, depth: float
) -> Crossing:
    spins = decode(torch.cat([map_.code(row, column) for row, column in pixels])).float().cpu()
    k, wall, m = spins
    changed = (1 - (k * m).sum(0).clamp(-1, 1)).double() / 2
    radius = max(2.0, 0.45 * float(wavelength(k[None])[0]))
    height, width = changed.shape
    row, column = torch.meshgrid(
        (torch.arange(height) + height // 2) % height - height // 2,
        (torch.arange(width) + width // 2) % width - width // 2,
        indexing="ij",
    )
    disc = (row**2 + column**2 <= radius**2).double()
    inside = torch.fft.irfft2(torch.fft.rfft2(changed) * torch.fft.rfft2(disc / disc.sum()), s=(height, width))
    (centres,) = nodal_centres(wall[None])
    if len(centres):
        at = (centres.round().long() % torch.tensor([height, width])).T
        best = int(inside[at[0], at[1]].argmax())
        centre, found = centres[best].tolist(), float(inside[at[0, best], at[1, best]])
    else:
        best = int(inside.argmax())
        centre, found = [float(best // width), float(best % width)], float(inside.max())
    return Crossing(
        pixels,
        clean,
        depth,
        spins,
        tuple(H.energy_excess(spins.double()).tolist()),
        tuple(nodal_points(spins).tolist()),
        tuple(int(q) for q in charge(spins).round().tolist()),
        (centre[0], centre[1]),
        radius,
        found / max(float(changed.mean()), 1e-12),
    )


# many planes


@dataclass(frozen=True)
class Survey:
    """:func:`map_numbers` of many planes: the first of pair ``pairs[i]`` of axes and draw j of the prior, row (i, j).

    Attributes:
        pairs: of axes.
        draws: how many codes of the prior fix the other components; plane (i, j) has pair i and draw j.
        rows: the numbers, pair by pair.
    """

    pairs: tuple[tuple[int, int], ...]
    draws: int
    rows: tuple[dict[str, float | None], ...]

    def table(self, name: str) -> np.ndarray:
        """One number as an array (pairs, draws); what a plane does not have is NaN."""
        values = [math.nan if row[name] is None else row[name] for row in self.rows]
        return np.array(values, dtype=np.float64).reshape(len(self.pairs), self.draws)

    def summary(self) -> dict[str, dict[str, float | int | None]]:
        """Mean, standard deviation and number of planes that have it, of every number."""
        found = {}
        for name in self.rows[0]:
            values = self.table(name)
            values = values[np.isfinite(values)]
            found[name] = {
                "mean": float(values.mean()) if len(values) else None,
                "std": float(values.std(ddof=1)) if len(values) > 1 else None,
                "planes": len(values),
            }
        return found


def survey_design(latent: int, planes: int, seed: int) -> tuple[tuple[tuple[int, int], ...], int]:
    """Pairs of axes and the number of draws whose products are ``planes`` planes: 10 are 5 pairs × 2 draws, 12 are
    4 × 3, a prime number is so many pairs of one draw. The pairs are random and share no axis where there are enough.

    Raises:
        BadInput: no planes, or a latent space of one dimension.
    """
    if planes < 1:
        raise BadInput(f"planes={planes}: a survey needs at least one, e.g. 10")
    if latent < 2:
        raise BadInput(f"latent={latent}: a plane needs two axes; use a run of a larger latent space")
    draws = max(b for b in range(1, math.isqrt(planes) + 1) if planes % b == 0)
    draw = np.random.default_rng([seed, planes])
    pool: list[int] = []
    pairs = []
    for _ in range(planes // draws):
        if len(pool) < 2:
            pool = draw.permutation(latent).tolist()
        pairs.append((pool.pop(), pool.pop()))
    return tuple(pairs), draws


def survey(
    decode: Decode,
    H: Hamiltonian,
    latent: int,
    planes: int = 10,
    seed: int = 0,
    span: tuple[float | int, float | int] = (-2, 2),
    resolution: int = 64,
    score: Score | None = None,
    keep: Path | None = None,
    label: str = "",
    show: bool = False,
) -> Survey:
    """:func:`map_numbers` of ``planes`` planes: random pairs of axes (:func:`survey_design`), each with every draw.

    ``keep`` names files that the maps are kept in: ``<keep>-<pair>-<draw>.safetensors``.

    Raises:
        BadInput: as :func:`latent_map` and :func:`survey_design`.
    """
    pairs, draws = survey_design(latent, planes, seed)
    rows = []
    with progress("surveying", planes, "planes", show) as advance:
        for number, pair in enumerate(pairs):
            for draw in range(draws):
                file = keep and keep.with_name(f"{keep.name}-{number}-{draw}.safetensors")
                plane = Plane.along(latent, pair, seed, draw)
                rows.append(map_numbers(latent_map(decode, H, plane, span, resolution, score, file, label)))
                advance(1)
    return Survey(pairs, draws, tuple(rows))


def spread_of_axes(table: np.ndarray, seed: int = 0) -> dict[str, float | None]:
    """Whether the choice of axes matters beside the draw of the rest: one number's table (pairs, draws).

    ``axes_std`` is the standard deviation of the pairs' means over draws, ``draws_std`` that of the draws' means over
    pairs, ``rest_std`` what neither explains, a plane. ``axes_p`` is the probability, by 2,000 permutations of the
    pairs within every draw, of means of pairs that differ at least as much if axes did not matter; ``draws_p`` the
    same the other way round. None where there are under two pairs or draws, or a plane has no such number.
    """
    names = ("axes_std", "draws_std", "rest_std", "axes_p", "draws_p")
    if min(table.shape) < 2 or not np.isfinite(table).all():
        return dict.fromkeys(names)
    rest = table - table.mean(0) - table.mean(1, keepdims=True) + table.mean()
    freedom = (table.shape[0] - 1) * (table.shape[1] - 1)
    draw = np.random.default_rng(seed)
    return {
        "axes_std": float(table.mean(1).std(ddof=1)),
        "draws_std": float(table.mean(0).std(ddof=1)),
        "rest_std": math.sqrt(float(np.square(rest).sum()) / freedom),
        "axes_p": _chance(table, draw),
        "draws_p": _chance(table.T, draw),
    }


def _chance(table: np.ndarray, draw: np.random.Generator, trials: int = 2000) -> float:
    """How often rows shuffled within every column have means that spread at least as much."""
    shuffled = draw.permuted(np.broadcast_to(table, (trials, *table.shape)), axis=1)
    at_least = shuffled.mean(2).var(1) >= table.mean(1).var() * (1 - 1e-9)
    return float((1 + at_least.sum()) / (1 + trials))


def compare_surveys(one: Survey, other: Survey, name: str) -> dict[str, float | int | None]:
    """``one`` − ``other`` of a number over the planes that both have it on: mean difference and its standard error.

    Planes share their coordinates, not their meaning, so that this is two samples of planes; the standard error
    takes them as independent.
    """
    difference = (one.table(name) - other.table(name)).ravel()
    difference = difference[np.isfinite(difference)]
    if len(difference) < 2:
        return {"mean": float(difference[0]) if len(difference) else None, "error": None, "planes": len(difference)}
    error = float(difference.std(ddof=1)) / math.sqrt(len(difference))
    return {"mean": float(difference.mean()), "error": error, "planes": len(difference)}
