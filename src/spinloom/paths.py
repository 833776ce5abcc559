r"""Paths between two textures, through latent space and through the space of spins, and the barriers on them.

A path in latent space is straight, spherical, or a string relaxed to the bottom of the valleys of E(G(z)), which
bends around domain walls. The same string in the space of all unit spins gives a first estimate of a transition
path that needs no generator. Functions take ``decode``: z (n, latent) → spins, as in :mod:`spinloom.sample`.

Translations: a texture and its translate are one texture, but a path that has to drag all its walls along is a
longer one. A code cannot be translated (a generator's first layer is tied to places), so :func:`aligned` moves the
spins, and an encoder has to say which code the moved texture has.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from spinloom.anneal import relax
from spinloom.errors import BadInput, whole
from spinloom.hamiltonian import Hamiltonian
from spinloom.measure import Table, measure
from spinloom.progress import progress
from spinloom.sample import CHUNK, Decode
from spinloom.string_method import FLAT, SPHERES, Energy, State, StringConfig, lengths, relax_string
from spinloom.typing import Latents, PerTexture, Spins

Mode = Literal["linear", "spherical", "string"]

MOST_IMAGES = 10_000
"""On one path."""

BETWEEN = 8
"""Points between neighbouring images, at which the energy is looked up too: domain walls may be narrower than the
images' distance."""

ROUNDING = 1e-8
"""Changes of ε/J that are none: decoded spins are float32."""

TOLERANCES = {"latent": 1.0, "spins": 0.1}
"""Largest force across the string at which it counts as converged: J a unit of latent space, J a radian. Strings
relax on energies in units of J, so that a model and its multiple have one path."""

REST = 500
"""Zero-temperature sweeps that bring the ends of a path in the space of spins to rest."""


@dataclass(frozen=True)
class Path:
    """Images along a path, ends included, and what was measured on them.

    Attributes:
        spins: the textures (images, 3, H, W).
        z: their codes (images, latent); None in the space of spins.
        table: :func:`spinloom.measure.measure` of them.
        length: how far along each lies (images,): in units of z, or in radians (root of the sum of squares over
            sites).
        fine_length, fine_energy: the same, and E/N + const. = ε in the unit of J, at the images and at
            :data:`BETWEEN` points between neighbours.
        steps, force, converged: of a string; ``force`` is the largest across it in J a unit of length, see
            :class:`StringConfig`. None where nothing was relaxed.
        J: the Hamiltonian's exchange.
    """

    spins: Spins
    z: Latents | None
    table: Table
    length: Tensor
    fine_length: Tensor
    fine_energy: Tensor
    steps: int = 0
    force: float | None = None
    converged: bool | None = None
    J: float | int = 1.0

    @property
    def barriers(self) -> tuple[float, float]:
        """Barriers in J from the first end to the last, and back: N·(max ε − ε_end)/J along the fine path.

        No path between the ends can be had for less than the lowest barrier of all paths, so that each one is an
        upper bound of what a transition needs.
        """
        top = self.fine_energy.max()
        return self._whole(top - self.fine_energy[0]), self._whole(top - self.fine_energy[-1])

    @property
    def ascents(self) -> tuple[float, float]:
        """The most that has to be climbed at one go, in J, forth and back: N·max (ε_later − ε_earlier)/J.

        It is the barrier where the end is the lowest point so far; an end that is no minimum hides barriers behind
        its own energy.
        """
        return self._climbs(self.fine_energy)

    @property
    def saddles(self) -> tuple[float, float]:
        """The same from the path's first valley to its last, forth and back; 0 with one valley or none.

        Codes of given textures lie on slopes. What a string has to climb to such an end is no barrier: it is what the
        end lacks to be at rest.
        """
        change = self.fine_energy.diff() / self.J
        up, down = (change > ROUNDING).nonzero(), (change < -ROUNDING).nonzero()
        first = int(up[0]) if len(up) else len(change)
        last = int(down[-1]) + 1 if len(down) else 0
        return self._climbs(self.fine_energy[first : last + 1]) if last > first else (0.0, 0.0)

    def _climbs(self, energy: Tensor) -> tuple[float, float]:
        forth = (energy - energy.cummin(0).values).max()
        back = (energy.flip(0) - energy.flip(0).cummin(0).values).max()
        return self._whole(forth), self._whole(back)

    def _whole(self, energy: Tensor) -> float:
        """A difference of ε as one of the whole texture's energies in J."""
        sites = self.spins.shape[-2] * self.spins.shape[-1]
        return float(sites * energy) / self.J

    @property
    def top(self) -> int:
        """The number of the image of most energy."""
        return int(self.table["energy_excess"].argmax())

    def as_dict(self) -> dict[str, Any]:
        """Everything but spins and codes as plain JSON values."""
        forth, back = self.barriers
        quantities = ("energy_excess", "mz", "charge", "nodal_points", "nodal_points_60", "bond_share_60")
        return {
            "length": self.length.tolist(),
            **{name: self.table[name].tolist() for name in quantities},
            **({"z_norm": self.z.norm(dim=1).tolist()} if self.z is not None else {}),
            "fine": {"length": self.fine_length.tolist(), "energy_excess": self.fine_energy.tolist()},
            "barrier_forth": forth,
            "barrier_back": back,
            "ascent_forth": self.ascents[0],
            "ascent_back": self.ascents[1],
            "saddle_forth": self.saddles[0],
            "saddle_back": self.saddles[1],
            "top_image": self.top,
            "steps": self.steps,
            "force": self.force,
            "converged": self.converged,
        }


def linear(a: Tensor, b: Tensor, images: int = 33) -> Latents:
    """``images`` codes on the straight line from a to b, each (latent,) or (1, latent), ends included (Fig. 5b–d)."""
    a, b = _ends(a, b)
    share = torch.linspace(0, 1, checked_images(images), dtype=a.dtype, device=a.device)[:, None]
    return (1 - share) * a + share * b


def spherical(a: Tensor, b: Tensor, images: int = 33) -> Latents:
    r"""Codes on the great circle through the ends' directions, |z| going linearly from |a| to |b|.

    .. math:: \hat z(t) = \frac{\sin((1-t)\omega)\,\hat a + \sin(t\omega)\,\hat b}{\sin\omega}

    A prior code has |z| near √n; the middle of a straight line between two has only √(n/2), where hardly any
    code of the training lay.

    Raises:
        BadInput: an end is zero, or the ends point in opposite directions: no circle is better than another.
    """
    a, b = _ends(a, b)
    long_a, long_b = a.norm(), b.norm()
    if not (long_a > 0 and long_b > 0):
        raise BadInput("mode='spherical': an end is the code 0, which has no direction; use 'linear'")
    to, end = a / long_a, b / long_b
    angle = torch.atan2((to - end).norm(), (to + end).norm()) * 2
    if torch.pi - angle < 1e-3:
        raise BadInput("mode='spherical': the ends are opposite codes, no circle is the shortest; use 'linear'")
    share = torch.linspace(0, 1, checked_images(images), dtype=a.dtype, device=a.device)[:, None]
    if angle < 1e-6:
        turned = (1 - share) * to + share * end
    else:
        turned = (torch.sin((1 - share) * angle) * to + torch.sin(share * angle) * end) / torch.sin(angle)
    return turned * ((1 - share) * long_a + share * long_b)


def interpolate(
    decode: Decode,
    a: Tensor,
    b: Tensor,
    H: Hamiltonian,
    images: int = 33,
    mode: Mode = "linear",
    settings: StringConfig | None = None,
    prior: float | int = 0.0,
    state: State | None = None,
    keep: Callable[[State], None] | None = None,
    show: bool = False,
) -> Path:
    r"""The path from code a to code b, each (latent,) or (1, latent).

    ``string`` starts from the straight line and relaxes on V(z) = E(G(z))/J + prior·|z|²/2, the ends fixed;
    ``prior`` > 0 keeps it where the generator was trained. ``state`` goes on from what ``keep`` was told.
    ``decode`` gets codes from where a and b are (:meth:`spinloom.run.Run.decode` takes them to a GPU).

    Source: the paper's Fig. 5b–d for ``linear``; for ``string`` see :func:`spinloom.string_method.relax_string`.

    Raises:
        BadInput: fewer than 3 images, ends of different lengths, an unknown mode, ``spherical`` between ends that
            have no shortest circle.
    """
    if mode not in ("linear", "spherical", "string"):
        raise BadInput(f"mode={mode!r}: unknown; use 'linear', 'spherical' or 'string'")
    z = (spherical if mode == "spherical" else linear)(a, b, images)
    steps, force, converged = 0, None, None
    if mode == "string":
        settings = settings or StringConfig(tolerance=TOLERANCES["latent"])
        with progress("relaxing the string", settings.steps, "steps", show) as advance:
            done = relax_string(latent_energy(decode, H, prior), z, FLAT, settings, state, keep, advance)
        z, steps, force, converged = done.points, done.steps, done.force, done.converged
    fine = _refined(z, FLAT)
    energy = torch.cat([_excess(decoded, H) for decoded in _decoded(decode, fine)])
    spins = torch.cat(_decoded(decode, z))
    measured = measure(spins, H), lengths(z, FLAT), lengths(fine, FLAT), energy
    return Path(spins, z, *measured, steps, force, converged, H.J)


def relax_path(
    spins: Spins,
    H: Hamiltonian,
    settings: StringConfig | None = None,
    sweeps: int = REST,
    state: State | None = None,
    keep: Callable[[State], None] | None = None,
    show: bool = False,
) -> Path:
    r"""A path (images, 3, H, W) relaxed in the space of unit spins: a first estimate of a transition path.

    Its ends are first brought to rest by ``sweeps`` zero-temperature sweeps and stay there. The string then
    relaxes on E(S)/J with the tangential gradient −(h − (h·S)S)/J, its images at equal geodesic distances,
    d(S, S′)² = Σ (angle between S_i and S′_i)². Between unrelated textures such a path has many barriers one after
    the other, and the number of images bounds how many are resolved; the barrier found is an upper bound.

    Source: the string method in the geometry of Bessarab, Uzdin & Jónsson, Comput. Phys. Commun. 196, 335 (2015).

    Raises:
        BadInput: fewer than 3 images, or both ends relax to the same texture.
    """
    checked_images(len(spins))
    settings = settings or StringConfig(tolerance=TOLERANCES["spins"])
    ends = rested_ends(spins[[0, -1]], H, sweeps)
    start = torch.cat((ends[:1], spins[1:-1].to(ends), ends[1:]))
    with progress("relaxing the spins' string", settings.steps, "steps", show) as advance:
        done = relax_string(spin_energy(H), start, SPHERES, settings, state, keep, advance)
    fine = _refined(done.points, SPHERES)
    energy = torch.cat([_excess(part, H) for part in fine.split(CHUNK)])
    found = done.points.cpu()
    return Path(
        found,
        None,
        measure(found, H),
        lengths(found, SPHERES),
        lengths(fine, SPHERES),
        energy,
        done.steps,
        done.force,
        done.converged,
        H.J,
    )


def rested_ends(spins: Spins, H: Hamiltonian, sweeps: int = REST) -> Spins:
    """Two textures (2, 3, H, W) brought to rest, between which a path in the space of spins is to run.

    Raises:
        BadInput: they come to rest as one.
    """
    ends = relax(spins, H, sweeps)
    if float(SPHERES.distance(ends[:1], ends[1:])[0]) < 1e-2:
        raise BadInput("spins: both ends relax to one texture, nothing lies between; use ends that differ at rest")
    return ends


def aligned(spins: Tensor, to: Tensor) -> tuple[Spins, tuple[int, int]]:
    r"""The texture (3, H, W) translated so that it overlaps most with another, and by how many (rows, columns).

    .. math:: \max_t \sum_r S(r - t)\cdot S'(r)

    over all exact translations of the box, by Fourier transform; the first of several equal maxima.

    Raises:
        BadInput: textures of different lattices.
    """
    if spins.shape != to.shape:
        raise BadInput(f"spins of {tuple(spins.shape)} to {tuple(to.shape)}: align textures of one lattice")
    overlap = torch.fft.ifft2((torch.fft.fft2(to.double()) * torch.fft.fft2(spins.double()).conj()).sum(0)).real
    # rounding must not choose between equal translations
    best = int((overlap > overlap.max() - 1e-6 * overlap.numel()).flatten().nonzero()[0, 0])
    rows, columns = divmod(best, spins.shape[-1])
    return spins.roll((rows, columns), (-2, -1)), (rows, columns)


def latent_energy(decode: Decode, H: Hamiltonian, prior: float | int = 0.0) -> Energy:
    """z (n, latent) → V(z) = E(G(z))/J + prior·|z|²/2 (n,), and its gradient, through the decoder."""

    def energy(z: Tensor) -> tuple[Tensor, Tensor]:
        values, slopes = [], []
        for part in z.split(CHUNK):
            with torch.enable_grad():
                part = part.detach().requires_grad_()
                value = _total(decode(part), H).to(part.device) + prior * part.square().sum(1) / 2
                (slope,) = torch.autograd.grad(value.sum(), part)
            values.append(value.detach())
            slopes.append(slope)
        return torch.cat(values), torch.cat(slopes)

    return energy


def spin_energy(H: Hamiltonian) -> Energy:
    """Spins (n, 3, H, W) → E/J (n,), and its gradient along the unit spheres."""

    def energy(spins: Tensor) -> tuple[Tensor, Tensor]:
        return _total(spins, H), SPHERES.project(spins, -H.local_field(spins) / H.J)

    return energy


def _total(spins: Tensor, H: Hamiltonian) -> Tensor:
    """E/J, summed in float64: barriers are small differences of it."""
    return H.energy_density(spins).double().sum((-2, -1)) / H.J


def _excess(spins: Tensor, H: Hamiltonian) -> PerTexture:
    return H.energy_excess(spins.double()).cpu()


def _decoded(decode: Decode, z: Latents) -> list[Tensor]:
    with torch.no_grad():
        return [decode(part).float().cpu() for part in z.split(CHUNK)]


def _refined(points: Tensor, space: Any) -> Tensor:
    """The images with :data:`BETWEEN` points put between neighbours."""
    parts = BETWEEN + 1
    first = points[:-1].repeat_interleave(parts, 0)
    second = points[1:].repeat_interleave(parts, 0)
    share = (torch.arange(len(first), dtype=points.dtype, device=points.device) % parts) / parts
    return torch.cat((space.between(first, second, share), points[-1:]))


def _ends(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    a, b = a.detach().reshape(-1), b.detach().reshape(-1)
    if len(a) != len(b):
        raise BadInput(f"a, b: codes of {len(a)} and {len(b)} numbers; both need the generator's latent dimension")
    if not (a.isfinite().all() and b.isfinite().all()):
        raise BadInput("a, b: a code holds NaN or infinity; give finite codes")
    return a, b


def checked_images(images: int) -> int:
    """How many images a path has.

    Raises:
        BadInput: too few or too many.
    """
    images = whole("images", images)
    if not 3 <= images <= MOST_IMAGES:
        raise BadInput(f"images={images}: a path has its two ends and some between; use 3 to {MOST_IMAGES}, e.g. 33")
    return images
