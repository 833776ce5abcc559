"""How much of the data a generator covers, with what it takes to know whether the figure means anything.

Coverage of high-dimensional data is fragile: with a wide kernel everything covers everything, with thresholds
that count a sample as its own neighbour nothing does. So every figure here uses leave-one-out thresholds,
reports its bandwidth, and comes with data against data and with controls that must score badly.

Two limits no pure control shows. A ceiling: the model sets its own threshold, by its 5% most isolated samples, so
a model of which more than 5% are outliers has a threshold near 0 and "covers" everything (``broad``). A floor: a
model that is slightly off everywhere, as generators are before relaxation, scores 0 like noise does.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from spinloom.errors import BadInput
from spinloom.hamiltonian import Hamiltonian, as_spins
from spinloom.spectrum import structure_factor, wave_vectors
from spinloom.topology import charge

Space = Literal["features", "spins"]

FEWEST = 40  # textures that a coverage is judged by
SHARE = 0.95  # of the model's own samples that lie above the density threshold
MARGIN = 0.1  # a control this close to data against data makes a space not informative
DISTINCT = 100  # textures in the control of repeated ones
ENTRIES_AT_ONCE = 1 << 23  # of a distance matrix, 64 MB in float64
SITES_AT_ONCE = 1 << 16  # of textures in one chunk of features, whose temporaries then stay in the cache


@dataclass(frozen=True)
class Coverage:
    """The coverage of real textures by fakes in one space, and what to judge it by.

    Attributes:
        coverage: AdaGAN's coverage C = P_data(p_model > t), in [0, 1]; a perfect model scores about 0.95.
        data_against_data: the same with held-back data in place of the fakes.
        controls: the same for three models that cover badly by construction: ``repeated`` (100 distinct
            textures of the data, repeated), ``sector`` (one symmetry sector of the data, see ``sector``) and
            ``noise`` (a random direction on every site).
        informative: False where a control comes within 0.1 of data against data, or above it: the space then
            does not see that failure, and ``coverage`` carries no claim.
        broad: True where samples off the data set the threshold, and ``coverage`` carries no claim for this
            model. t is where the model's 5% most isolated samples lie: 900 copies of one texture and 100
            outliers put t next to 0 and cover nearly everything. So it is True where the fakes' k-NN precision
            is under half of the data's own (``knn_data_against_data``), or where the coverage falls by more than
            0.1 once t is set by those fakes alone that lie in the ball of some real texture.
        space: "features" or "spins".
        bandwidth: σ of the Gaussian kernel, in the units of the space (:func:`median_bandwidth`).
        knn: precision, recall, density and coverage from k nearest neighbours, a second opinion.
        knn_data_against_data: the same with held-back data in place of the fakes.
        distinctness: how far a fake is from the nearest other one, in units of the data's: near 0 where there are few
            modes (:meth:`CoverageReference.distinctness`).
        k: the number of neighbours in ``knn``.
        sector: which sector the control of that name keeps.
        counts: how many textures each figure compares.
        seed: of the splits and controls.
    """

    coverage: float
    data_against_data: float
    controls: dict[str, float]
    informative: bool
    broad: bool
    space: str
    bandwidth: float
    knn: dict[str, float]
    knn_data_against_data: dict[str, float]
    distinctness: float
    k: int
    sector: str
    counts: dict[str, int]
    seed: int

    @property
    def values(self) -> dict[str, float]:
        """The fakes' figures by name: coverage, precision, recall, density, knn_coverage."""
        return {"coverage": self.coverage, **{_KNN_NAMES.get(name, name): v for name, v in self.knn.items()}}

    def as_dict(self) -> dict[str, Any]:
        """Everything as plain JSON values."""
        return asdict(self)


_KNN_NAMES = {"coverage": "knn_coverage"}


def coverage(
    real: Any,
    fakes: Any,
    space: Space = "features",
    H: Hamiltonian | None = None,
    seed: int = 0,
    k: int = 5,
    second: Any = None,
) -> Coverage:
    r"""The coverage of the textures ``real`` (m, 3, H, W) by ``fakes`` (n, 3, H, W), a share in [0, 1].

    .. math:: C = P_{\rm data}(p_{\rm model} > t), \qquad P_{\rm model}(p_{\rm model} > t) = 0.95

    with p_model a Gaussian kernel's density of the fakes. :class:`CoverageReference` for a single model.

    Source: Tolstikhin et al. (2017), arXiv:1701.02386 ("AdaGAN"), with leave-one-out thresholds.

    Raises:
        BadInput: too few textures, unequal lattices, numbers that are not finite, or an unknown space.
    """
    return CoverageReference(real, space, H, seed, k, second)(fakes)


class CoverageReference:
    """The data's side of the coverage, made once and called on the textures of several models.

    Data against data and the controls put held-back data in the place of the model: one random half of
    ``real``, judged on the other half, or, if given, ``second``: further data, disjoint from ``real``, judged
    on all of it.

    Spaces: ``features`` are the translation-invariant quantities of :func:`features`, standardised on
    ``real``; ``spins`` the 3HW components as they are, where a texture and its translation are strangers.

    Raises:
        BadInput: under 40 textures, unequal lattices, numbers that are not finite, an unknown space, or more
            than half of the textures are copies.
    """

    def __init__(
        self,
        real: Any,
        space: Space = "features",
        H: Hamiltonian | None = None,
        seed: int = 0,
        k: int = 5,
        second: Any = None,
    ) -> None:
        if space not in ("features", "spins"):
            raise BadInput(f"space={space!r}: unknown; use 'features' or 'spins'")
        if k < 1:
            raise BadInput(f"k={k}: neighbours are counted from 1; use e.g. k=5")
        self.space, self.H, self.seed, self.k = space, H, seed, k
        textures = _textures(real, "real", max(FEWEST, 2 * k + 2))
        self.size = (textures.shape[-2], textures.shape[-1])
        if space == "features":
            raw = features(textures, H)
            self._scale = _scale(raw)
            self._centre = raw.mean(0)
        vectors = self._embed(textures)
        nearest, self._radius = _neighbours(vectors, k)
        self.bandwidth = _half_median(nearest)
        self._real = vectors

        draw = np.random.default_rng(seed)
        if second is None:
            order = torch.from_numpy(draw.permutation(len(textures)))
            mine, held_back = order[: len(order) // 2].sort().values, order[len(order) // 2 :].sort().values
            judged, radius = vectors[held_back], None
            stand_in, model = textures[mine], vectors[mine]
        else:
            judged, radius = vectors, self._radius
            stand_in = _textures(second, "second", max(FEWEST, 2 * k + 2), self.size)
            model = self._embed(stand_in)
        if radius is None:
            radius = _neighbours(judged, k)[1]

        def score(model: Tensor) -> dict[str, float]:
            return _scores(judged, radius, model, self.bandwidth, k)

        few = torch.from_numpy(draw.permutation(len(model))[:DISTINCT])
        repeated = few.repeat(-(-len(model) // len(few)))[: len(model)]
        mz = stand_in[:, 2].double().mean((-2, -1))
        kept, self._sector = mz > 0, "M_z > 0"
        if not 1 / 3 < kept.double().mean() < 2 / 3:
            # no balance of up and down, as in a field
            kept, self._sector = mz.argsort()[len(mz) // 2 :], "the upper half in M_z"
        own = score(model)
        self.data_against_data = own["coverage"]
        self._knn = _knn(own)
        self.controls = {
            "repeated": score(model[repeated])["coverage"],
            "sector": score(model[kept])["coverage"],
            "noise": score(self._embed(_noise(stand_in.shape, draw)))["coverage"],
        }
        self.informative = all(value < self.data_against_data - MARGIN for value in self.controls.values())
        self._counts = {"real": len(vectors), "data": len(judged), "data_as_model": len(model)}
        self._counts["sector"] = len(model[kept])

    def __call__(self, fakes: Any) -> Coverage:
        """The coverage of the reference's textures by ``fakes`` (n, 3, H, W).

        Raises:
            BadInput: under 20 textures, another lattice, or numbers that are not finite.
        """
        model = self._embed(_textures(fakes, "fakes", max(20, self.k + 1), self.size))
        found = _scores(self._real, self._radius, model, self.bandwidth, self.k)
        return Coverage(
            coverage=found["coverage"],
            data_against_data=self.data_against_data,
            controls=dict(self.controls),
            informative=self.informative,
            broad=found["precision"] < self._knn["precision"] / 2
            or found["coverage"] - found["coverage_on_data"] > MARGIN,
            space=self.space,
            bandwidth=self.bandwidth,
            knn=_knn(found),
            knn_data_against_data=dict(self._knn),
            distinctness=self._distinct(model),
            k=self.k,
            sector=self._sector,
            counts={**self._counts, "fakes": len(model)},
            seed=self.seed,
        )

    def spread(self, fakes: Any) -> float:
        """The median distance between two of the fakes over that between two real textures; 0 if all are alike.

        Raises:
            BadInput: as a call.
        """
        model = self._embed(_textures(fakes, "fakes", max(20, self.k + 1), self.size))
        return float(torch.pdist(model).median() / torch.pdist(self._real).median())

    def distinctness(self, fakes: Any) -> float:
        """The median distance of a fake to the nearest other one, over that of as many real textures; 0 for few modes.

        Of 200 fakes that are a few textures with small differences, each has near fellows, however far the modes are
        apart: :meth:`spread` does not see that.

        Raises:
            BadInput: as a call.
        """
        return self._distinct(self._embed(_textures(fakes, "fakes", max(20, self.k + 1), self.size)))

    def _distinct(self, model: Tensor) -> float:
        count = min(len(model), len(self._real))
        alike, real = (_neighbours(some[:count], 1)[0].median() for some in (model, self._real))
        return float(alike / real)

    def _embed(self, textures: Tensor) -> Tensor:
        if self.space == "spins":
            return textures.flatten(1)
        return (features(textures, self.H) - self._centre) / self._scale


def features(spins: Any, H: Hamiltonian | None = None) -> Tensor:
    r"""Translation-invariant numbers (n, 14 or 16) that describe a labyrinth, float64, not yet standardised.

    With p(q) the structure factor over q ≠ 0, normalised to Σp = 1, and φ the angle of q:

    - magnetisation: the mean S_z; charge: the topological charge Q; skewness: the mean S_z³;
    - orientation: Σ p cos 2φ, Σ p sin 2φ, Σ p cos 4φ, Σ p sin 4φ;
    - spectrum: the mean and the standard deviation of |q| under p, and log Σp² (few Bragg peaks or many);
    - profile: the means of S_z² and S_z⁴ (sharp walls or a sine);
    - chirality: the means of c^x_y − c^y_x (Néel) and of c^x_x + c^y_y (Bloch), with c^a = S_i × S_{i+a};
    - energy: the mean and the standard deviation over sites of the energy density, only if ``H`` is given.

    In the reference each is divided by its standard deviation over the data (the components of a 2φ, 4φ or
    chirality vector by their common one), and by √g within a property of g numbers, so that every property
    weighs the same. The first three are odd under S → −S (in labyrinths they are nearly one and the same), so
    the sign of M_z is seen.

    Raises:
        BadInput: the shape is not (n, 3, H, W).
    """
    spins = as_spins(spins).detach()
    height, width = spins.shape[-2:]
    q_x, q_y = wave_vectors(height, width)
    q, phi = torch.hypot(q_x, q_y), torch.atan2(q_y, q_x)
    harmonics = torch.stack([wave(n * phi) for n in (2, 4) for wave in (torch.cos, torch.sin)])
    step = max(1, SITES_AT_ONCE // (height * width))
    rows = []
    for start in range(0, len(spins), step):
        part = spins[start : start + step].double()
        z = part[:, 2]
        weight = structure_factor(part)
        weight[:, 0, 0] = 0
        weight += 1e-12  # a uniform texture has a flat spectrum
        weight /= weight.sum((-2, -1), keepdim=True)
        mean_q = (weight * q).sum((-2, -1))
        spread_q = ((weight * q.square()).sum((-2, -1)) - mean_q.square()).clamp(min=0).sqrt()
        along_x, along_y = (torch.linalg.cross(part, part.roll(-1, axis), dim=1).unbind(1) for axis in (-1, -2))
        numbers = [
            z.mean((-2, -1)),
            charge(part),
            z.pow(3).mean((-2, -1)),
            *torch.einsum("nhw,khw->kn", weight, harmonics),
            mean_q,
            spread_q,
            weight.square().sum((-2, -1)).log(),
            z.square().mean((-2, -1)),
            z.pow(4).mean((-2, -1)),
            (along_x[1] - along_y[0]).mean((-2, -1)),
            (along_x[0] + along_y[1]).mean((-2, -1)),
        ]
        if H is not None:
            density = H.energy_density(part)
            numbers += [density.mean((-2, -1)), density.std((-2, -1))]
        rows.append(torch.stack(numbers, -1))
    return torch.cat(rows)


PROPERTIES = (1, 1, 1, 4, 3, 2, 2, 2)
"""How many of the numbers of :func:`features` describe one property, in their order."""
VECTORS = ((3, 5), (5, 7), (12, 14))
"""Which of them are components of one vector, 2φ, 4φ and chirality, and so share one scale."""


def _scale(raw: Tensor) -> Tensor:
    """What each number of :func:`features` is divided by: its standard deviation over ``raw`` times √g."""
    spread = raw.std(0)
    for first, last in VECTORS:
        # across its own direction the data's chirality varies by rounding: on that scale all would be noise
        spread[first:last] = spread[first:last].square().mean().sqrt()
    # what the data hold constant but for rounding (say, no charge at all) stays in its own units
    spread = torch.where(spread > 1e-6, spread, torch.ones_like(spread))
    weight = torch.tensor([g**0.5 for g in PROPERTIES for _ in range(g)], dtype=raw.dtype)
    return spread * weight[: len(spread)]


def compare_vectors(real: Any, fakes: Any, bandwidth: float | int | None = None, k: int = 5) -> dict[str, float]:
    r"""The five figures for feature vectors (n, d) and (m, d) given directly.

    ``coverage`` is AdaGAN's: the share of real x with p(x) > t, where

    .. math:: p(x) = \frac1m\sum_j e^{-|x - y_j|^2/2\sigma^2}, \qquad
              p_{-i}(y_i) = \frac1{m-1}\sum_{j\ne i} e^{-|y_i - y_j|^2/2\sigma^2}

    and t is the largest value that at least 95% of the fakes' own leave-one-out densities p₋ᵢ(yᵢ) exceed (a
    sample counted as its own neighbour would lift t out of every other point's reach). σ is ``bandwidth``, or
    :func:`median_bandwidth` of ``real``. With B_k(·) the ball to the k-th nearest neighbour in the own set:

    - ``precision``: the share of fakes in the B_k of some real; ``recall``: of real in the B_k of some fake;
    - ``density``: the mean number of real balls a fake lies in, over k (1 on average where the two agree);
    - ``knn_coverage``: the share of real whose B_k holds a fake.

    Sources: Tolstikhin et al., AdaGAN (arXiv:1701.02386), "coverage" in its section 4; Kynkäänniemi et al.
    (arXiv:1904.06991), eqs. 1–2, precision and recall; Naeem et al. (arXiv:2002.09797), density and coverage.

    Raises:
        BadInput: shapes that do not fit, at most k vectors, numbers that are not finite, or a bandwidth ≤ 0.
    """
    if k < 1:
        raise BadInput(f"k={k}: neighbours are counted from 1; use e.g. k=5")
    clouds = []
    for name, vectors in (("real", real), ("fakes", fakes)):
        cloud = torch.as_tensor(vectors)
        if cloud.ndim != 2 or len(cloud) <= k:
            raise BadInput(f"{name} of shape {tuple(cloud.shape)}: need (n, d) with n > k = {k}; give more vectors")
        if not cloud.isfinite().all():
            raise BadInput(f"{name}=NaN or infinity: distances need finite numbers; drop those vectors")
        clouds.append(cloud.double())
    if clouds[0].shape[1] != clouds[1].shape[1]:
        raise BadInput(f"fakes of {clouds[1].shape[1]} numbers: the real have {clouds[0].shape[1]}; make them agree")
    nearest, radius = _neighbours(clouds[0], k)
    if bandwidth is None:
        bandwidth = _half_median(nearest)
    if not bandwidth > 0:
        raise BadInput(f"bandwidth={bandwidth}: a kernel needs a width; use a number over 0")
    found = _scores(clouds[0], radius, clouds[1], float(bandwidth), k)
    return {"coverage": found["coverage"], **{_KNN_NAMES.get(n, n): v for n, v in _knn(found).items()}}


def median_bandwidth(real: Any) -> float:
    """The rule for σ: half the median distance of the real vectors (n, d) to their nearest others.

    It depends on the data alone, so all models are judged with one kernel. It is that narrow on purpose: at
    the median of all distances the kernel tells neither repeated textures nor a dropped sector from the data.

    Raises:
        BadInput: under two vectors, or more than half of them are copies.
    """
    vectors = torch.as_tensor(real)
    if vectors.ndim != 2 or len(vectors) < 2:
        raise BadInput(f"real of shape {tuple(vectors.shape)}: need (n, d) with n ≥ 2; give more vectors")
    return _half_median(_neighbours(vectors.double(), 1)[0])


def _half_median(nearest: Tensor) -> float:
    bandwidth = nearest.double().median().item() / 2
    if not bandwidth > 0:
        raise BadInput("bandwidth=0: more than half of the real textures are copies of others; drop the copies")
    return bandwidth


def _knn(found: dict[str, float]) -> dict[str, float]:
    return {name.removeprefix("knn_"): found[name] for name in ("precision", "recall", "density", "knn_coverage")}


def _scores(real: Tensor, radius: Tensor, fakes: Tensor, bandwidth: float, k: int) -> dict[str, float]:
    """All figures in one pass over the distances; ``radius`` (n,) reaches each real's k-th other real."""
    scale = -0.5 / bandwidth**2
    own_density = torch.empty(len(fakes), dtype=torch.float64)
    own_radius = torch.empty(len(fakes), dtype=torch.float64)
    for rows, squared in _distances(fakes, None):
        own_density[rows] = torch.logsumexp(squared * scale, 1) - math.log(len(fakes) - 1)
        own_radius[rows] = squared.kthvalue(min(k, len(fakes) - 1), 1).values
    density = torch.empty(len(real), dtype=torch.float64)
    recalled = torch.empty(len(real), dtype=torch.bool)
    covered = torch.empty(len(real), dtype=torch.bool)
    balls = torch.zeros(len(fakes), dtype=torch.int64)
    for rows, squared in _distances(real, fakes):
        density[rows] = torch.logsumexp(squared * scale, 1) - math.log(len(fakes))
        recalled[rows] = (squared <= own_radius).any(1)
        inside = squared <= radius[rows, None]
        covered[rows] = inside.any(1)
        balls += inside.sum(0)
    on_data = own_density[balls > 0]
    return {
        "coverage": _mean(density > _threshold(own_density)),
        # what is left once outliers have no say in the threshold
        "coverage_on_data": _mean(density > _threshold(on_data)) if len(on_data) else 0.0,
        "precision": _mean(balls > 0),
        "recall": _mean(recalled),
        "density": balls.double().mean().item() / k,
        "knn_coverage": _mean(covered),
    }


def _threshold(own_density: Tensor) -> Tensor:
    """AdaGAN's t: the smallest floor(5%) of the samples' own densities fail, at least one."""
    return own_density.kthvalue(max(1, math.floor((1 - SHARE) * len(own_density) + 1e-9))).values


def _mean(flags: Tensor) -> float:
    return flags.double().mean().item()


def _neighbours(vectors: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Each vector's distance to the nearest other one, and its squared distance to the k-th other one."""
    nearest = torch.empty(len(vectors), dtype=torch.float64)
    radius = torch.empty(len(vectors), dtype=torch.float64)
    for rows, squared in _distances(vectors, None):
        found = squared.topk(min(k, len(vectors) - 1), 1, largest=False, sorted=True).values
        nearest[rows], radius[rows] = found[:, 0].sqrt(), found[:, -1]
    return nearest, radius


def _distances(left: Tensor, right: Tensor | None) -> Iterator[tuple[slice, Tensor]]:
    """Squared distances in float64, some rows of ``left`` at a time.

    To ``right``, or to ``left`` itself where none is given, infinite on the diagonal.
    |a − b|² = |a|² + |b|² − 2a·b. Only the product is taken in the vectors' own precision: for textures in
    float32 it is off by about 1e-6 of |a|², while nearest neighbours are a sizeable part of it away.
    """
    other = left if right is None else right
    step = max(1, ENTRIES_AT_ONCE // len(other))
    lengths = torch.cat([part.double().square().sum(1) for part in other.split(4096)])
    for start in range(0, len(left), step):
        rows = slice(start, min(start + step, len(left)))
        part = left[rows]
        squared = (part @ other.T).double().mul_(-2)
        squared += lengths
        squared += lengths[rows, None] if right is None else part.double().square().sum(1)[:, None]
        squared.clamp_(min=0)
        if right is None:
            squared[:, rows].fill_diagonal_(math.inf)
        yield rows, squared


def _textures(given: Any, name: str, least: int, size: tuple[int, int] | None = None) -> Tensor:
    """float32 textures (n, 3, H, W), checked, from an array, a tensor or a data set."""
    whole = given if isinstance(given, (Tensor, np.ndarray)) else given[:]
    spins = as_spins(whole).detach().cpu()
    spins = spins.reshape(-1, *spins.shape[-3:]).float()
    if len(spins) < least:
        raise BadInput(f"{name}={len(spins)} textures: too few to estimate a coverage; use {least} or more")
    if size is not None and tuple(spins.shape[-2:]) != size:
        raise BadInput(f"{name} of {spins.shape[-2]} × {spins.shape[-1]} sites: the real are {size[0]} × {size[1]}")
    if not all(part.isfinite().all() for part in spins.split(1024)):
        raise BadInput(f"{name}=NaN or infinity in a texture: nothing to compare; drop those textures")
    return spins


def _noise(shape: torch.Size, draw: np.random.Generator) -> Tensor:
    """A random direction on every site."""
    spins = torch.from_numpy(draw.standard_normal(tuple(shape), dtype=np.float32))
    return spins / spins.norm(dim=1, keepdim=True)
