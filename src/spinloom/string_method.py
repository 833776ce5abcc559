r"""The string method: a chain of images that relaxes to a minimum-energy path, in flat space or on unit spheres.

On such a path the gradient has no part across it; its highest point is a saddle. Every step moves each image
downhill across the string and then puts the images back to equal distances along it. In the end the highest image
climbs along the string, so that the saddle is one of the images.

Source: E, Ren & Vanden-Eijnden, J. Chem. Phys. 126, 164103 (2007); tangents and climbing image: Henkelman &
Jónsson, J. Chem. Phys. 113, 9978 (2000), Henkelman, Uberuaga & Jónsson, ibid. 9901; step lengths: Malitsky &
Mishchenko, ICML 2020, arXiv:1910.09529.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from spinloom.errors import BadInput, whole

Energy = Callable[[Tensor], tuple[Tensor, Tensor]]
"""Points (n, …) → energies (n,) and gradients (n, …), tangential ones where the space is curved."""

State = dict[str, Tensor]
"""All that a relaxation goes on from."""

KEEP_EVERY = 100
"""Steps after which a relaxation's state is given to be kept."""


@dataclass(frozen=True)
class Space:
    """What a string has to know of the space it lies in.

    Attributes:
        between: points at shares t (k,) of the shortest way from a to b, each (k, …).
        distance: of a to b, (k,).
        project: vectors at points x made tangential.
        settle: points brought back into the space after a step.
    """

    between: Callable[[Tensor, Tensor, Tensor], Tensor]
    distance: Callable[[Tensor, Tensor], Tensor]
    project: Callable[[Tensor, Tensor], Tensor]
    settle: Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class StringConfig:
    """When a string is done.

    Attributes:
        tolerance: largest force across the string, over its images, at which it is converged; for the climbing
            image the whole force counts. In the unit of energy over that of length.
        steps: the most steps; a string that has not converged by then says so.
        climb: whether the highest image climbs, from the step at which the force has come within 4 tolerances, or
            from half of all steps on.

    Raises:
        BadInput: a value outside its range.
    """

    tolerance: float | int = 1.0
    steps: int = 1000
    climb: bool = True

    def __post_init__(self) -> None:
        if not 0 < self.tolerance < float("inf"):
            raise BadInput(f"tolerance={self.tolerance}: must be positive and finite, e.g. 1")
        object.__setattr__(self, "steps", whole("steps", self.steps))
        if not 1 <= self.steps <= 10**7:
            raise BadInput(f"steps={self.steps}: must be a whole number from 1 to 10⁷, e.g. 1000")


@dataclass(frozen=True)
class Relaxed:
    """A string after :func:`relax_string`: its points, their energies, the largest force across it, steps taken."""

    points: Tensor
    energies: Tensor
    force: float
    steps: int
    converged: bool


def relax_string(
    energy: Energy,
    points: Tensor,
    space: Space,
    settings: StringConfig,
    state: State | None = None,
    keep: Callable[[State], None] | None = None,
    advance: Callable[[int], None] | None = None,
) -> Relaxed:
    r"""Images (n, …) moved to a path on which ∇V has no part across, ends fixed.

    .. math:: x_i \leftarrow x_i - \lambda_i (\nabla V - (\nabla V\cdot\tau)\tau), \qquad
              |x_{i+1} - x_i| \text{ made equal along the string}

    with τ the upwind tangent. λ_i = min(√(1 + θ) λ_i′, |Δx|/(2|ΔF|)), F the force across, follows the curvature each
    image has met, and no image moves by more than half the distance to its neighbours. The climbing image goes along
    −∇V + 2(∇V·τ)τ; the images on both its sides are spaced apart from each other.
    """
    space_ends = (points[:1].clone(), points[-1:].clone())
    if state is None:
        points = _spaced(points, space, None)
        state = {"step": torch.tensor(0), "climbing": torch.tensor(False), "points": points}
    step, climbing = int(state["step"]), bool(state["climbing"])
    state = {name: value.to(points.device) for name, value in state.items()}  # what was kept lies on the CPU
    points = state["points"].to(points)
    before, across_before = state.get("before"), state.get("across_before")
    size, growth = state.get("size"), state.get("growth")
    if advance:
        advance(step)
    while True:
        values, slope = energy(points)
        tangent = _tangents(points, values, space)
        along = _dot(slope, tangent)
        top = int(values[1:-1].argmax()) + 1
        # a path that has its highest point at an end has nothing to climb
        climber = top if climbing and values[top] > max(float(values[0]), float(values[-1])) else None
        across = slope - _wide(along, slope) * tangent
        if climber is not None:
            across[climber] -= along[climber] * tangent[climber]
        force = float(_length(across[1:-1]).max())
        near = force < 4 * settings.tolerance or 2 * step >= settings.steps
        if force < settings.tolerance and (climbing or not settings.climb):
            return Relaxed(points, values, force, step, True)
        if step >= settings.steps:
            return Relaxed(points, values, force, step, False)
        climbing = climbing or (settings.climb and near)

        limit = space.distance(points[:1], points[1:2]).new_tensor(
            0.5 * float(space.distance(points[:-1], points[1:]).mean())
        )
        pulled = _length(across).clamp(min=1e-30)
        if before is None or across_before is None or size is None or growth is None:
            fresh = 0.1 * limit / pulled.max()
            size, growth = fresh.expand(len(points)).clone(), torch.ones_like(pulled)
        else:
            moved, turned = _length(points - before), _length(across - across_before)
            curved = moved / (2 * turned).clamp(min=1e-30)
            new = torch.minimum((1 + growth).sqrt() * size, torch.where(moved > 0, curved, size))
            # a start beside a rest point would else begin with nothing and grow from there for ever
            new = new.clamp(min=1e-8)
            size, growth = new, new / size
        before, across_before = points, across
        length = torch.minimum(size, limit / pulled)
        points = space.settle(points - _wide(length, points) * across)
        points = torch.cat((space_ends[0].to(points), points[1:-1], space_ends[1].to(points)))
        points = _spaced(points, space, climber)
        step += 1
        if advance:
            advance(1)
        if keep and step % KEEP_EVERY == 0:
            told = {"step": torch.tensor(step), "climbing": torch.tensor(climbing), "points": points}
            told |= {"before": before, "across_before": across_before, "size": size, "growth": growth}
            keep({name: value.cpu() for name, value in told.items()})


def lengths(points: Tensor, space: Space) -> Tensor:
    """How far along the string each image (n, …) lies, from 0 (n,)."""
    gaps = space.distance(points[:-1], points[1:])
    return torch.cat((gaps.new_zeros(1), gaps.cumsum(0))).cpu()


def _spaced(points: Tensor, space: Space, climber: int | None) -> Tensor:
    """The images at equal distances along the string; those before and after the climber each on their own."""
    if climber is None:
        return _equal(points, space)
    return torch.cat((_equal(points[: climber + 1], space)[:-1], _equal(points[climber:], space)))


def _equal(points: Tensor, space: Space) -> Tensor:
    count = len(points)
    if count < 3:
        return points
    at = torch.cat((points.new_zeros(1), space.distance(points[:-1], points[1:]).to(points).cumsum(0)))
    wanted = torch.linspace(0, 1, count, dtype=at.dtype, device=at.device)[1:-1] * at[-1]
    left = (torch.searchsorted(at, wanted, right=True) - 1).clamp(0, count - 2)
    share = (wanted - at[left]) / (at[left + 1] - at[left]).clamp(min=1e-30)
    return torch.cat((points[:1], space.between(points[left], points[left + 1], share), points[-1:]))


def _tangents(points: Tensor, values: Tensor, space: Space) -> Tensor:
    """Unit tangents (n, …): towards the higher neighbour, weighted at extrema, so that no kinks grow."""
    forward = space.project(points[:-1], points[1:] - points[:-1])
    backward = space.project(points[1:], points[1:] - points[:-1])
    tangent = torch.zeros_like(points)
    tangent[0], tangent[-1] = forward[0], backward[-1]
    rise, fall = values[2:] - values[1:-1], values[1:-1] - values[:-2]  # to the next, from the one before
    large, small = torch.maximum(rise.abs(), fall.abs()), torch.minimum(rise.abs(), fall.abs())
    uphill = values[2:] > values[:-2]
    to_next = torch.where(uphill, large, small)
    to_last = torch.where(uphill, small, large)
    monotone = rise * fall > 0
    to_next = torch.where(monotone, (rise > 0).to(to_next), to_next)
    to_last = torch.where(monotone, (rise < 0).to(to_last), to_last)
    level = (to_next + to_last) == 0
    to_next, to_last = torch.where(level, 1.0, to_next), torch.where(level, 1.0, to_last)
    tangent[1:-1] = _wide(to_next, points) * forward[1:] + _wide(to_last, points) * backward[:-1]
    return tangent / _wide(_length(tangent).clamp(min=1e-30), points)


def _wide(numbers: Tensor, like: Tensor) -> Tensor:
    """Numbers (n,) that multiply (n, …)."""
    return numbers.to(like).reshape(-1, *(1,) * (like.ndim - 1))


def _dot(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).flatten(1).sum(1)


def _length(vectors: Tensor) -> Tensor:
    return vectors.flatten(1).norm(dim=1)


def _same(points: Tensor) -> Tensor:
    return points


def _keep_vectors(points: Tensor, vectors: Tensor) -> Tensor:
    return vectors


def _on_a_line(a: Tensor, b: Tensor, share: Tensor) -> Tensor:
    return a + _wide(share, a) * (b - a)


def _straight(a: Tensor, b: Tensor) -> Tensor:
    return _length(b - a)


FLAT = Space(_on_a_line, _straight, _keep_vectors, _same)
"""Latent space, or any other (n, d)."""


def _unit(spins: Tensor) -> Tensor:
    # sums of three planes: a reduction over so short an axis is slow on CPUs
    x, y, z = spins.unbind(1)
    return spins * (x * x + y * y + z * z).clamp(min=1e-24).rsqrt().unsqueeze(1)


def _angle(a: Tensor, b: Tensor) -> Tensor:
    """The angle (k, H, W) between unit spins, from their chord: exact for small ones too."""
    x, y, z = (a - b).unbind(1)
    return 2 * ((x * x + y * y + z * z).sqrt() / 2).clamp(max=1).asin()


def _on_great_circles(a: Tensor, b: Tensor, share: Tensor) -> Tensor:
    """Every spin on its great circle, at the share of its chord (for 30° that of the angle to half a percent);
    opposite spins, which have no such circle, by way of a fixed side."""
    share = _wide(share, a)
    mixed = a + share * (b - a)
    x, y, z = mixed.unbind(1)
    lost = (x * x + y * y + z * z < 1e-6).unsqueeze(1)
    if lost.any():
        side = torch.stack((a[:, 2] + 0.5, a[:, 0], a[:, 1]), 1)
        mixed = torch.where(lost, _tangential(a, side), mixed)
    return _unit(mixed)


def _geodesic(a: Tensor, b: Tensor) -> Tensor:
    return _length(_angle(a, b))


def _tangential(spins: Tensor, vectors: Tensor) -> Tensor:
    x, y, z = (vectors * spins).unbind(1)
    return vectors - (x + y + z).unsqueeze(1) * spins


SPHERES = Space(_on_great_circles, _geodesic, _tangential, _unit)
"""Textures (n, 3, H, W): a unit sphere a site, distances the root of the sum of squared angles."""
