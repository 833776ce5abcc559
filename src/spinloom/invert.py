r"""Full spins from a picture of M_z alone (polar Kerr, XMCD, roughly magnetic force microscopy).

A picture is p = blur(S_z) + noise. What it does not show, the in-plane direction, the Dzyaloshinskii–Moriya
interaction gives away: at D > 0 Néel walls turn along −∇m_z. That is the analytic guess; a generator adds what
textures look like, the Hamiltonian which of them are at rest.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor

from spinloom.anneal import relax
from spinloom.errors import BadInput, whole
from spinloom.hamiltonian import Hamiltonian
from spinloom.pictures import analytic_guess, blurred, check_seed, checked_pictures, picture_of, relax_held
from spinloom.processor import for_networks
from spinloom.progress import progress
from spinloom.run import Run
from spinloom.sample import CHUNK, Decode, decoder_of, prior_latents
from spinloom.topology import charge
from spinloom.typing import Latents, SiteMap, Spins

Encode = Callable[[Tensor], Tensor]
"""Spins → codes (n, latent), the posterior's mean."""

NOISES = (0.0, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2)
"""Standard deviations of the noise that are compared, in units of the saturation magnetisation."""

METHODS = ("guess", "guess relaxed", "guess held", "network", "network relaxed", "network held")


@dataclass(frozen=True)
class Inversion:
    """How spins are sought behind a picture.

    Attributes:
        noise: standard deviation of the picture's noise, in units in which S_z runs from −1 to 1.
        blur: standard deviation of its Gaussian blur in sites.
        starts: codes the search starts from: the encoding of the guess, then draws from the prior.
        steps, rate: of Adam on z.
        energy: weight 1/T of the energy, per J, at the end of the search: without it, noise is drawn as texture.
        floor: what the best code of a generator misses in S_z, added to the noise in quadrature.
        relax: zero-temperature sweeps afterwards; annealed textures end with 500. Those held near the picture take
            twice as many gradient steps.

    Raises:
        BadInput: a value outside its range.
    """

    noise: float | int = 0.0
    blur: float | int = 0.0
    starts: int = 2
    steps: int = 100
    rate: float = 0.05
    energy: float | int = 10.0
    floor: float = 0.15
    relax: int = 500

    def __post_init__(self) -> None:
        for name in ("noise", "blur", "energy"):
            value = getattr(self, name)
            if not 0 <= value < 1e3:
                raise BadInput(f"{name}={value}: must be a number from 0 to 1000; use e.g. {name}=0")
        for name, least in (("starts", 1), ("steps", 1), ("relax", 0)):
            object.__setattr__(self, name, whole(name, getattr(self, name)))
            if not least <= getattr(self, name) < 10**6:
                raise BadInput(f"{name}={getattr(self, name)}: must be a whole number of at least {least}")
        for name in ("rate", "floor"):
            if not 0 < getattr(self, name) < 1e3:
                raise BadInput(f"{name}={getattr(self, name)}: must be positive and finite")


@dataclass(frozen=True)
class Recovered:
    """Textures (n, 3, H, W) found behind n pictures, by each of :data:`METHODS`, and what the search found.

    Attributes:
        spins: one batch a method.
        z: the codes that were found.
        start: which start led to each: 0 is the encoding of the guess.
        misfit: |picture − recovered picture|²/2(σ² + σ₀²) of the search's texture, one number a picture.
    """

    spins: dict[str, Spins]
    z: Latents
    start: tuple[int, ...]
    misfit: tuple[float, ...]


@dataclass(frozen=True)
class InPlaneError:
    """How far recovered spins are from the true ones; angles in degrees, in the plane.

    Attributes:
        rms, median: of the angle between the in-plane parts, weighted by the true in-plane length; NaN where all true
            spins stand along ±z and have no such part.
        reversed: the share of that weight where the in-plane part points away (by over 90°); NaN likewise.
        dot: the mean of S·S_true over sites.
        charge_right: the share of textures with the true topological charge.
    """

    rms: float
    median: float
    reversed: float
    dot: float
    charge_right: float


def search_codes(
    decode: Decode,
    start: Latents,
    picture: SiteMap,
    H: Hamiltonian,
    settings: Inversion,
) -> tuple[Latents, Spins, Tensor]:
    r"""From each ``start`` (n, latent) the code whose texture agrees with its picture (n, H, W), by Adam.

    .. math:: U(z) = \frac{|bG_z(z) - p|^2}{2(\sigma^2 + \sigma_0^2)} + \frac{|z|^2}{2} + \frac{E(G(z))}{T}

    The energy comes in with the square of the share of steps done: at full weight from the start it holds a code
    behind the domain wall that its start happened to be on. Returns codes, their textures and U's first term (n,),
    all where ``start`` is; ``decode`` may answer from a GPU, where then all that takes long is done.
    """
    z = start.detach().clone().requires_grad_()
    adam = torch.optim.Adam([z], lr=settings.rate)
    variance = settings.noise**2 + settings.floor**2
    sites = picture.shape[-2] * picture.shape[-1]

    def misfit(spins: Tensor) -> Tensor:
        away = blurred(spins[:, 2], settings.blur) - picture.to(spins.device)
        return away.square().sum((-2, -1)) / (2 * variance)

    with torch.enable_grad():
        for step in range(settings.steps):
            weight = settings.energy * (step / settings.steps) ** 2
            spins = decode(z)
            energy = (weight * sites * H.energy(spins) / H.J).to(z.device)
            value = misfit(spins).to(z.device) + z.square().sum(1) / 2 + energy
            (z.grad,) = torch.autograd.grad(value.sum(), z)
            adam.step()
    with torch.no_grad():
        spins = decode(z)
    return z.detach(), spins.to(z.device), misfit(spins).to(z.device)


def invert_pictures(
    decode: Decode,
    picture: SiteMap,
    H: Hamiltonian,
    latent: int,
    settings: Inversion,
    encode: Encode | None = None,
    seed: int = 0,
    advance: Callable[[int], None] | None = None,
) -> Recovered:
    """Spins behind pictures (n, H, W) by every one of :data:`METHODS`; picture k depends on (seed, k), to
    the rounding of batches of other sizes, which many sweeps may let grow.

    ``guess`` is :func:`analytic_guess`, ``guess relaxed`` after zero-temperature sweeps, ``guess held`` by
    :func:`relax_held`; ``network`` is what :func:`search_codes` finds, of several starts (without an encoder
    all of them prior draws) the one of least misfit, ``network relaxed`` and ``network held`` like the guess.

    Raises:
        BadInput: D = 0, or a seed that is none.
    """
    check_seed(seed)
    picture = picture.float()
    guess = analytic_guess(picture, H, settings.noise, settings.blur)
    calm = relax(guess, H, settings.relax)
    found = {"guess": guess, "guess relaxed": calm}
    found["guess held"] = relax_held(guess, picture, H, settings.noise, settings.blur, 2 * settings.relax)
    n, starts = len(picture), settings.starts
    begin = prior_latents(seed, n * starts, latent).reshape(n, starts, latent)
    if encode is not None:
        with torch.no_grad():
            begin[:, 0] = torch.cat([encode(part) for part in calm.split(CHUNK)])
    flat, wanted = begin.reshape(n * starts, latent), picture.repeat_interleave(starts, 0)
    codes, textures, values = [], [], []
    for first in range(0, len(flat), CHUNK):
        some = slice(first, first + CHUNK)
        z, spins, value = search_codes(decode, flat[some], wanted[some], H, settings)
        codes.append(z)
        textures.append(spins)
        values.append(value)
        if advance:
            advance(len(z))
    # by what the picture says alone: at strong noise U would prefer any texture of low energy
    value = torch.cat(values).reshape(n, starts)
    best = value.argmin(1)
    row = torch.arange(n) * starts + best
    found["network"] = torch.cat(textures)[row]
    found["network relaxed"] = relax(found["network"], H, settings.relax)
    found["network held"] = relax_held(found["network"], picture, H, settings.noise, settings.blur, 2 * settings.relax)
    # which of the starts a GAN's first one is has no meaning of its own: it is a draw like the others
    chosen = [int(k) + (encode is None) for k in best]
    lowest = value.min(1).values
    return Recovered(
        {name: found[name] for name in METHODS}, torch.cat(codes)[row], tuple(chosen), tuple(map(float, lowest))
    )


def invert(
    source: Run | Decode,
    mz: Any,
    noise: float | int | None = None,
    blur: float | int | None = None,
    seed: int = 0,
    settings: Inversion | None = None,
    show: bool = False,
    *,
    H: Hamiltonian | None = None,
    latent: int | None = None,
    encode: Encode | None = None,
) -> Recovered:
    """Full spins from pictures of M_z, (H, W) or (n, H, W) with values from −1 to 1, by a trained generator.

    The lattice is periodic: a part of a larger picture has a seam where its edges meet.

    Args:
        source: a run, or a callable, z (n, ``latent``) → spins (n, 3, H, W), differentiable. Codes are on the CPU;
            networks may be elsewhere. What is found is on the CPU.
        noise, blur: of the pictures, see :class:`Inversion`; None leaves what ``settings`` says.
        H: None takes the run's.
        latent: numbers of a code, where ``source`` is a callable.
        encode: spins → codes (n, ``latent``); None takes the mean of the run's encoder. Without one all starts are
            draws from the prior.

    Raises:
        BadInput: pictures of another lattice, NaN in them or values far from M_z, a seed that is none, no Hamiltonian,
            D = 0, a code length that is missing, callables that give something else or have no gradient.
    """
    settings = settings or Inversion()
    given = {"noise": noise, "blur": blur}
    settings = replace(settings, **{name: value for name, value in given.items() if value is not None})
    decode, length, size = decoder_of(source, latent)
    if encode is not None:
        _check_encoder(encode, decode, length)
    if isinstance(source, Run):
        H = known_hamiltonian(source) if H is None else H
        encode = callables(source)[1] if encode is None else encode
    else:
        _check_gradient(decode, length)
    if H is None:
        raise BadInput("H=None: a callable does not say what its spins interact by, and they are found by DMI; give H")
    picture = checked_pictures(mz, size)
    total = len(picture) * settings.starts
    with for_networks(), progress("inverting", total, "codes", show) as advance:
        return invert_pictures(decode, picture, H, length, settings, encode, seed, advance)


def _check_gradient(decode: Decode, latent: int) -> None:
    with torch.enable_grad():
        spins = decode(prior_latents(0, 2, latent).requires_grad_())
    if not spins.requires_grad:
        raise BadInput("source: has no gradient, and codes are found by it; give a decoder that torch differentiates")


def _check_encoder(encode: Encode, decode: Decode, latent: int) -> None:
    with torch.no_grad():
        codes = encode(decode(prior_latents(0, 2, latent)).cpu())
    if not isinstance(codes, Tensor) or codes.shape != (2, latent):
        found = tuple(codes.shape) if isinstance(codes, Tensor) else type(codes).__name__
        raise BadInput(f"encode: gave {found} for 2 textures; give codes, shape (n, {latent})")


def known_hamiltonian(run: Run) -> Hamiltonian:
    """The Hamiltonian of the run's data.

    Raises:
        BadInput: it is unknown.
    """
    if run.hamiltonian is None:
        raise BadInput(f"{run.path}: was trained on textures of unknown Hamiltonian; spins are found by its DMI")
    return run.hamiltonian


def callables(run: Run) -> tuple[Decode, Encode | None]:
    """The run's decoder, which answers where the networks are, and, if it has one, encoder, from and to the CPU."""
    if "encoder" not in run.nets:
        return run.decode, None
    encoder = run.encoder
    device = next(encoder.parameters()).device
    return run.decode, lambda spins: encoder(spins.to(device))[0].cpu()


def in_plane_error(spins: Spins, truth: Spins) -> InPlaneError:
    """How far textures (n, 3, H, W) are from the true ones.

    Angles are weighted by the true in-plane length; where that is 0 everywhere they are not defined, and NaN.
    """
    x, y, _ = spins.double().unbind(1)
    a, b, _ = truth.double().unbind(1)
    weight = torch.hypot(a, b).flatten()
    angle = torch.atan2(a * y - b * x, a * x + b * y).abs().rad2deg().flatten()
    order = angle.argsort()
    grown = weight[order].cumsum(0)
    total = float(grown[-1])
    middle = int((grown < total / 2).sum())
    right = charge(spins).round() == charge(truth).round()
    flat = total > 0
    return InPlaneError(
        rms=math.sqrt(float((weight * angle**2).sum()) / total) if flat else math.nan,
        median=float(angle[order[middle]]) if flat else math.nan,
        reversed=float(weight[angle > 90].sum()) / total if flat else math.nan,
        dot=float((spins.double() * truth.double()).sum(1).mean()),
        charge_right=float(right.double().mean()),
    )


@dataclass(frozen=True)
class Level:
    """One noise level of :func:`compare_inversions`.

    Attributes:
        noise: its standard deviation.
        errors: a method's name → its error over all pictures.
        best: of the guesses and of the network's textures those with the larger mean dot.
        gain: by how much the latter's dot is the larger: mean over textures, standard error, and the share of
            textures in which it is.
        from_guess: the share of pictures whose code came from the encoded guess.
        picture, example: the first picture (H, W), and what each method made of it, (3, H, W).
    """

    noise: float
    errors: dict[str, InPlaneError]
    best: tuple[str, str]
    gain: dict[str, float]
    from_guess: float
    picture: SiteMap
    example: dict[str, Spins]

    @property
    def outcome(self) -> Literal["ahead", "level", "behind"]:
        """Whether the network's textures are nearer to the truth than the guess's, by two standard errors."""
        if abs(self.gain["mean"]) <= 2 * self.gain["error"]:
            return "level"
        return "ahead" if self.gain["mean"] > 0 else "behind"

    def as_dict(self) -> dict[str, Any]:
        """Everything but the pictures as plain JSON values; None for NaN."""
        return {
            "noise": self.noise,
            "errors": {
                name: {key: None if math.isnan(value) else value for key, value in asdict(error).items()}
                for name, error in self.errors.items()
            },
            "best": list(self.best),
            "gain": self.gain,
            "outcome": self.outcome,
            "from_guess": self.from_guess,
        }

    @classmethod
    def of(cls, told: dict[str, Any], picture: SiteMap, example: dict[str, Spins]) -> Level:
        """What :meth:`as_dict` told, with its pictures."""
        errors = {
            name: InPlaneError(**{key: math.nan if value is None else value for key, value in error.items()})
            for name, error in told["errors"].items()
        }
        return cls(told["noise"], errors, tuple(told["best"]), told["gain"], told["from_guess"], picture, example)


def compare_inversions(
    decode: Decode,
    truth: Spins,
    H: Hamiltonian,
    latent: int,
    encode: Encode | None = None,
    noises: Sequence[float | int] = NOISES,
    settings: Inversion | None = None,
    seed: int = 0,
    known: dict[float, Level] | None = None,
    keep: Callable[[Level], None] | None = None,
    advance: Callable[[int], None] | None = None,
) -> list[Level]:
    """Each of :data:`METHODS` on the pictures of true textures (n, 3, H, W), a level of noise after the other.

    ``known`` levels of an earlier call are not made again; ``keep`` is told each new one.
    """
    settings = settings or Inversion()
    known = known or {}
    levels = []
    for noise in map(float, noises):
        level = known.get(noise)
        if level is None:
            picture = picture_of(truth, noise, settings.blur, seed)
            of_level = replace(settings, noise=noise)
            found = invert_pictures(decode, picture, H, latent, of_level, encode, seed, advance)
            level = Level(
                noise,
                {name: in_plane_error(spins, truth) for name, spins in found.spins.items()},
                *_contest(found.spins, truth),
                sum(start == 0 for start in found.start) / len(truth),
                picture[0].clone(),
                {name: spins[0].clone() for name, spins in found.spins.items()},
            )
            if keep:
                keep(level)
        elif advance:
            advance(len(truth) * settings.starts)
        levels.append(level)
    return levels


def _contest(spins: dict[str, Spins], truth: Spins) -> tuple[tuple[str, str], dict[str, float]]:
    """The best of the guesses against the best of the network's, texture by texture."""
    dots = {name: (some.double() * truth.double()).sum(1).mean((-2, -1)) for name, some in spins.items()}
    guess, network = (
        max((name for name in dots if name.startswith(kind)), key=lambda name: float(dots[name].mean()))
        for kind in ("guess", "network")
    )
    ahead = dots[network] - dots[guess]
    error = float(ahead.std()) / math.sqrt(len(ahead)) if len(ahead) > 1 else 0.0
    gain = {"mean": float(ahead.mean()), "error": error, "share": float((ahead > 0).double().mean())}
    return (guess, network), gain


def verdict(levels: Sequence[Level]) -> str:
    """One line: at which noise the network's textures are nearer to the truth than the guess's.

    First the best of each, which are relaxed ones but at the strongest noise; then, by the in-plane angle, the
    generator's own textures against the bare guess.
    """
    says = {
        "ahead": "the network wins at noise {}",
        "level": "no difference beyond two standard errors at {}",
        "behind": "the analytic guess, relaxed, wins at {}",
    }
    found = {kind: [f"{level.noise:g}" for level in levels if level.outcome == kind] for kind in says}
    lines = [line.format(", ".join(found[kind])) for kind, line in says.items() if found[kind]]
    bare = [f"{level.noise:g}" for level in levels if level.errors["network"].rms < level.errors["guess"].rms]
    where = f"at {', '.join(bare)}" if bare else "nowhere"
    return "; ".join([*lines, f"unrelaxed, the network's angle is the smaller one {where}"])
