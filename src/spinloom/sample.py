"""Textures from a generator: by the prior, or driven through latent space by the discriminator (DDLS).

The functions below :func:`sample` take callables, ``decode``: z (n, latent) → spins and ``score``: spins →
logits (n,), so an analytic model can stand in for the networks.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

import numpy as np
import torch
from torch import Tensor

from spinloom.errors import BadInput, whole
from spinloom.processor import for_networks
from spinloom.progress import progress
from spinloom.random import threefry2x32
from spinloom.run import Run
from spinloom.symmetry import random_symmetry
from spinloom.typing import Latents, Spins

Decode = Callable[[Tensor], Tensor]
Score = Callable[[Tensor], Tensor]

CHUNK = 50
"""Codes decoded at once, always: the last chunk is filled up, so a texture's bits do not depend on how many
are asked for."""

Rule: TypeAlias = Literal["ascent", "langevin", "dot", "dgflow"]

TEMPERATURE = 0.01
"""γ of ``dgflow``, as its article uses it."""

PAIRS = 100
"""Pairs of prior codes that :func:`effective_slope` looks at."""

_LATENT, _NOISE, _ACCEPT, _PAIR = 1, 2, 3, 4  # what a stream of random words is for


def _keys(seed: int, first: int, count: int) -> np.ndarray:
    """A key (count, 2) a code: :func:`spinloom.random.texture_key` of (seed, first + k), all at once."""
    low = 0xFFFFFFFF
    index = np.arange(first, first + count, dtype=np.uint64)
    words = threefry2x32((seed & low, seed >> 32), (index & np.uint64(low), index >> np.uint64(32)))
    return np.stack(words, -1)


def _normal(keys: np.ndarray, latent: int, purpose: int, step: int) -> np.ndarray:
    """Standard normal numbers (n, latent), a function of (key, purpose, step, dimension), by Box–Muller."""
    pairs = (latent + 1) // 2
    counter = (np.uint32(purpose << 24 | step), np.arange(pairs, dtype=np.uint32)[None, :])
    u, v = threefry2x32((keys[:, :1], keys[:, 1:]), counter)
    radius = np.sqrt(-2 * np.log((u + 0.5) * 2.0**-32))
    angle = 2 * np.pi * (v * 2.0**-32)
    both = np.stack((radius * np.cos(angle), radius * np.sin(angle)), -1).reshape(len(keys), -1)
    return both[:, :latent]


def _uniform(keys: np.ndarray, step: int) -> np.ndarray:
    """Uniform numbers in (0, 1), shape (n,), one a key and step."""
    words, _ = threefry2x32((keys[:, 0], keys[:, 1]), (np.uint32(_ACCEPT << 24 | step), np.uint32(0)))
    return (words + 0.5) * 2.0**-32


def prior_latents(seed: int, count: int, latent: int, first: int = 0) -> Latents:
    """Codes z ~ N(0, 1): code k belongs to (seed, first + k), whatever the count."""
    return torch.from_numpy(_normal(_keys(seed, first, count), latent, _LATENT, 0)).float()


def decoder_of(source: Run | Decode, latent: int | None) -> tuple[Decode, int, tuple[int, int]]:
    """The decoder of a run, or one that is a callable; its codes' length, which a callable needs ``latent`` for; its
    lattice.

    Raises:
        BadInput: ``latent`` is missing, or given for a run; the callable does not make spins.
    """
    if isinstance(source, Run):
        if latent is not None:
            raise BadInput(f"latent={latent}: a run says how long its codes are; leave it out")
        return source.decode, source.networks.latent, source.size
    if latent is None or latent < 1:
        raise BadInput(f"latent={latent}: a callable does not say how long its codes are; give latent, 1 or more")
    with torch.no_grad():
        spins = source(prior_latents(0, 2, latent))
    if spins.ndim != 4 or spins.shape[:2] != (2, 3):
        raise BadInput(f"source: gave shape {tuple(spins.shape)} for 2 codes; give spins, shape (n, 3, H, W)")
    return source, latent, (spins.shape[-2], spins.shape[-1])


@dataclass(frozen=True)
class DDLS:
    """Discriminator-driven latent sampling.

    Attributes:
        rule: ``ascent`` (the paper, Fig. 1e): z ← z + α ∇_z logit D(G(z)); the logit, since the sigmoid
            saturates. ``langevin`` (Che et al. 2020, arXiv:2003.06060): a chain on the energy
            U(z) = |z|²/2 − logit D(G(z)), z ← z − α ∇U + √(2α) ξ, each proposal accepted with the
            Metropolis–Hastings probability (MALA), so its target holds at any step size.
            ``dot`` (Tanaka 2019, arXiv:1910.06832, in latent space): from z₀ down
            |z − z₀| − logit D(G(z)) / K_eff, with K_eff of :func:`effective_slope`; for a normal prior its
            gradient is taken along the sphere |z| = |z₀|, and z is put back on it after every step.
            ``dgflow`` (Ansari et al. 2021, arXiv:2012.00780, the KL divergence's flow):
            z ← z + α ∇ logit D(G(z)) + √(2γα) ξ with γ = 0.01 and no accept step.
        steps: updates a code; the paper shows 100 (``dgflow``'s article 15 to 25).
        step_size: α. The paper does not give one (``dgflow``'s article 0.05 to 0.1).

    Raises:
        BadInput: a value outside its range.
    """

    rule: Rule = "ascent"
    steps: int = 100
    step_size: float = 0.1

    def __post_init__(self) -> None:
        if self.rule not in get_args(Rule):
            raise BadInput(f"rule={self.rule!r}: unknown; use one of {', '.join(get_args(Rule))}")
        object.__setattr__(self, "steps", whole("steps", self.steps))
        if not 1 <= self.steps < 2**24:
            raise BadInput(f"steps={self.steps}: use from 1 to {2**24 - 1}")
        if not 0 < self.step_size < float("inf"):
            raise BadInput(f"step_size={self.step_size}: must be positive and finite, e.g. 0.1")


def _logits_and_slope(z: Tensor, decode: Decode, score: Score) -> tuple[Tensor, Tensor]:
    """The logits and their gradient in z, both where the codes are; the networks may be elsewhere."""
    with torch.enable_grad():
        z = z.detach().requires_grad_()
        logits = score(decode(z))
        (slope,) = torch.autograd.grad(logits.sum(), z)
    return logits.detach().to(z.device), slope


def drive(
    z: Latents,
    decode: Decode,
    score: Score,
    settings: DDLS,
    seed: int = 0,
    first: int = 0,
    watch: Callable[[int, Tensor, Tensor], None] | None = None,
) -> Latents:
    """Move latent codes by the discriminator's gradient; code k uses the random numbers of (seed, first + k).

    Args:
        watch: called with (step, codes, logits) before every update and, in the ``langevin`` rule, with the
            state the chain is in.
    """
    if settings.rule == "ascent":
        return _ascend(z, decode, score, settings, watch)
    if settings.rule == "dot":
        return _transport(z, decode, score, settings, seed, watch)
    if settings.rule == "dgflow":
        return _flow(z, decode, score, settings, seed, first, watch)
    return _langevin(z, decode, score, settings, seed, first, watch)


def _ascend(z: Tensor, decode: Decode, score: Score, settings: DDLS, watch) -> Tensor:
    for step in range(settings.steps):
        logits, slope = _logits_and_slope(z, decode, score)
        if watch:
            watch(step, z, logits)
        z = z + settings.step_size * slope
    return z


def _langevin(z: Tensor, decode: Decode, score: Score, settings: DDLS, seed: int, first: int, watch) -> Tensor:
    alpha = settings.step_size
    latent = z.shape[1]
    keys = _keys(seed, first, len(z))

    def state(z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """log target density, its gradient, the logits."""
        logits, slope = _logits_and_slope(z, decode, score)
        return logits - 0.5 * z.square().sum(1), slope - z, logits

    log_p, drift, logits = state(z)
    for step in range(settings.steps):
        if watch:
            watch(step, z, logits)
        noise = torch.from_numpy(_normal(keys, latent, _NOISE, step)).to(z)
        proposal = z + alpha * drift + (2 * alpha) ** 0.5 * noise
        new_log_p, new_drift, new_logits = state(proposal)
        forth = -noise.square().sum(1) / 2
        back = -(z - proposal - alpha * new_drift).square().sum(1) / (4 * alpha)
        chance = torch.from_numpy(_uniform(keys, step)).to(z).log()
        accept = chance < new_log_p - log_p + back - forth
        z = torch.where(accept[:, None], proposal, z)
        drift = torch.where(accept[:, None], new_drift, drift)
        log_p, logits = torch.where(accept, new_log_p, log_p), torch.where(accept, new_logits, logits)
    return z


def effective_slope(decode: Decode, score: Score, latent: int, seed: int = 0) -> float:
    r"""K_eff, how steeply the logit changes with the latent code between far codes, the largest of 100 pairs.

    .. math:: K_\mathrm{eff} = \max_{z, z' \sim p_0} \frac{|d(G(z)) - d(G(z'))|}{|z - z'|}

    Source: Tanaka 2019 (arXiv:1910.06832), section 3.
    """
    keys = _keys(seed, 0, PAIRS)
    both = np.stack([_normal(keys, latent, _PAIR, end) for end in (0, 1)])
    z = torch.from_numpy(both).float()
    with torch.no_grad():
        logits = torch.stack([torch.cat([score(decode(part)).cpu() for part in end.split(CHUNK)]) for end in z])
    return float(((logits[0] - logits[1]).abs() / (z[0] - z[1]).norm(dim=1)).max())


def _transport(z: Tensor, decode: Decode, score: Score, settings: DDLS, seed: int, watch) -> Tensor:
    # a discriminator that tells no code from another has a slope of 0, and then nothing moves
    steepest = max(effective_slope(decode, score, z.shape[1], seed), 1e-12)
    start, radius = z, z.norm(dim=1, keepdim=True)
    curved = z.shape[1] > 1  # in one dimension the sphere is two points
    for step in range(settings.steps):
        logits, slope = _logits_and_slope(z, decode, score)
        if watch:
            watch(step, z, logits)
        away = z - start
        # at the start the distance has no gradient; 0 is one of its subgradients
        force = slope / steepest - away / away.norm(dim=1, keepdim=True).clamp(min=1e-12)
        if curved:
            force = force - z * (force * z).sum(1, keepdim=True) / radius.square()
        z = z + settings.step_size * force
        if curved:
            z = z * (radius / z.norm(dim=1, keepdim=True))
    return z


def _flow(z: Tensor, decode: Decode, score: Score, settings: DDLS, seed: int, first: int, watch) -> Tensor:
    keys = _keys(seed, first, len(z))
    spread = (2 * TEMPERATURE * settings.step_size) ** 0.5
    for step in range(settings.steps):
        logits, slope = _logits_and_slope(z, decode, score)
        if watch:
            watch(step, z, logits)
        noise = torch.from_numpy(_normal(keys, z.shape[1], _NOISE, step)).to(z)
        z = z + settings.step_size * slope + spread * noise
    return z


def sample_latents(
    decode: Decode,
    score: Score | None,
    count: int,
    latent: int,
    settings: DDLS | None,
    seed: int,
    advance=None,
) -> tuple[Spins, Latents]:
    """``count`` textures, float32 on the CPU, and their codes, in chunks; ``settings`` None is the prior."""
    spins, codes = [], []
    for first in range(0, count, CHUNK):
        z = prior_latents(seed, CHUNK, latent, first)
        if settings is not None:
            assert score is not None
            z = drive(z, decode, score, settings, seed, first)
        with torch.no_grad():
            decoded = decode(z)
        keep = min(CHUNK, count - first)
        spins.append(decoded[:keep].float().cpu())  # a GPU holds one chunk of them
        codes.append(z[:keep])
        if advance:
            advance(keep)
    return torch.cat(spins), torch.cat(codes)


def sample(
    run: Run,
    count: int,
    method: Literal["prior", "ddls"] = "prior",
    rule: Rule = "ascent",
    steps: int = 100,
    step_size: float = DDLS.step_size,
    seed: int = 0,
    relax: int = 0,
    show: bool = False,
    symmetrise: bool = False,
) -> Spins:
    """Textures G(z) from a run's generator, batch statistics frozen, float32 unit spins (count, 3, H, W) on the CPU.

    Source: the paper's Fig. 1d for the prior, z ~ N(0, 1), and Fig. 1e for codes that the discriminator drives.

    Texture k is a function of (run, method, seed, k) at one device and thread count, whatever ``count`` is.

    Args:
        method: ``prior``: G(z) with z ~ N(0, 1) (Fig. 1d); ``ddls``: z driven by the discriminator (Fig. 1e).
        rule, steps, step_size: see :class:`DDLS`.
        relax: zero-temperature alignment sweeps afterwards, with the Hamiltonian of the run's data.
        symmetrise: whether each texture is moved by a random exact symmetry of that Hamiltonian
            (:func:`~spinloom.symmetry.random_symmetry`): the distribution then has them, whatever the generator has.

    Raises:
        BadInput: a count that is no whole number or below 1, an unknown method, DDLS of a VAE, or relaxing with an
            unknown Hamiltonian.
    """
    count, relax, seed = whole("count", count), whole("relax", relax), whole("seed", seed)
    if count < 1:
        raise BadInput(f"count={count}: ask for at least 1 texture")
    if method not in ("prior", "ddls"):
        raise BadInput(f"method={method!r}: unknown; use 'prior' or 'ddls'")
    if relax < 0:
        raise BadInput(f"relax={relax}: a number of sweeps is not negative; use 0 for none")
    if relax and run.hamiltonian is None:
        raise BadInput(f"relax={relax}: {run.path} was trained on textures of unknown Hamiltonian; use relax=0")
    if not 0 <= seed < 2**64:
        raise BadInput(f"seed={seed}: use a whole number from 0 to 2⁶⁴ − 1")
    settings = DDLS(rule, steps, step_size) if method == "ddls" else None
    score = run.discriminator if settings else None
    with for_networks(), progress(f"sampling {run.objective} by {method}", count, "textures", show) as advance:
        spins, _ = sample_latents(run.decode, score, count, run.networks.latent, settings, seed, advance)
    if symmetrise:
        # a generator a texture, so that texture k does not depend on the count
        draws = (np.random.default_rng((seed, number)) for number in range(count))
        moved = (random_symmetry(x[None], run.hamiltonian, draw) for x, draw in zip(spins, draws, strict=True))
        spins = torch.cat(list(moved))
    if relax:
        from spinloom.anneal import relax as align

        assert run.hamiltonian is not None
        spins = align(spins, run.hamiltonian, sweeps=relax)
    return spins


def decoded(decode: Decode, codes: Latents) -> Spins:
    """What codes (n, latent) decode to, float32 (n, 3, H, W) on the CPU, :data:`CHUNK` at a time."""
    with torch.no_grad():
        return torch.cat([decode(part).float().cpu() for part in codes.split(CHUNK)])


def reconstruct(run: Run, spins: Spins) -> Spins:
    """G(mu(x)): what a VAE or hybrid keeps of a texture, decoded from the posterior mean.

    Raises:
        BadInput: a GAN, or textures of another lattice.
    """
    encoder = run.encoder
    if tuple(spins.shape[-2:]) != run.size:
        raise BadInput(
            f"spins of lattice {tuple(spins.shape[-2:])}: the run's is {run.size}; use textures of that size"
        )
    device = next(encoder.parameters()).device
    with torch.no_grad():
        return torch.cat([run.generator(encoder(part.to(device))[0]).to(spins.device) for part in spins.split(CHUNK)])
