"""The three objectives of the paper, Eqs. (1)–(3): what each player minimises.

Reductions, pinned because the paper leaves them open: the squared error is summed over the N = 3HW features
and divided by N; the KL divergence is summed over the latent dimensions; both are averaged over the batch. All
losses of a step are taken from one state of the networks.
"""

from __future__ import annotations

import abc
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from spinloom.anneal import relax
from spinloom.errors import BadInput
from spinloom.hamiltonian import Hamiltonian
from spinloom.networks import PRECISIONS, layers_in
from spinloom.spectrum import structure_factor
from spinloom.torchrun import gathered
from spinloom.typing import Latents, Logits, Spins

Networks = Mapping[str, nn.Module]
"""Players by name: "encoder", "generator", "discriminator"."""

Gradients = dict[str, tuple[Tensor, ...]]
"""A tensor a parameter, in the order of ``parameters()``, by player."""


class Draw(NamedTuple):
    """The random numbers of one step; the codes are standard normal of shape (n, latent)."""

    prior: Tensor
    """z_p, the codes of the prior samples."""
    noise: Tensor
    """What the encoder's z = mu + exp(logvar/2)·noise is made with."""
    seed: int = 0
    """Of the discriminator's instance noise."""
    share: tuple[int, int] = (0, 1)
    """Which part of the step's whole batch this is, of how many."""

    def part(self, number: int, parts: int) -> Draw:
        """What falls to one of several processes."""
        prior, noise = (codes.chunk(parts)[number] for codes in (self.prior, self.noise))
        return Draw(prior, noise, self.seed, (number, parts))

    def to(self, device: str | torch.device) -> Draw:
        """The same numbers on a device."""
        return self._replace(prior=self.prior.to(device), noise=self.noise.to(device))


def reconstruction_error(spins: Spins, reconstructed: Spins) -> Tensor:
    """(1/N) E[(x_d − x̃)²], the first term of Eq. (1): N = 3HW features, batch mean; 2/3 for unrelated spins."""
    return (spins - reconstructed).square().mean()


def kl_divergence(mu: Latents, logvar: Latents) -> Tensor:
    """D_KL(N(mu, e^logvar) ‖ N(0, 1)) = ½ Σ(mu² + e^logvar − 1 − logvar), summed over z, batch mean (Eq. (1))."""
    return 0.5 * (mu.square() + logvar.exp() - 1 - logvar).sum(1).mean()


def real_loss(logits: Logits) -> Tensor:
    """−E[log D(x)] with D = sigmoid(logit), as softplus(−logit): finite at any finite logit."""
    return F.softplus(-logits).mean()


def fake_loss(logits: Logits) -> Tensor:
    """−E[log(1 − D(x))], as softplus(logit)."""
    return F.softplus(logits).mean()


def r1_penalty(discriminator: Callable[[Tensor], Tensor], spins: Spins) -> Tensor:
    """E[‖∂(logit)/∂x‖²] over real textures, to be differentiated once more (Mescheder, Geiger & Nowozin 2018)."""
    shown = spins.detach().requires_grad_()
    (slopes,) = torch.autograd.grad(discriminator(shown).sum(), shown, create_graph=True)
    return slopes.square().sum((1, 2, 3)).mean()


@dataclass(frozen=True)
class EnergyLevel:
    """The highest energy of a site in the data: what is above it is a defect that they do not have.

    A texture may bend as the data do; it is singular points, the nodal points among them, that stand out.

    Attributes:
        hamiltonian: of the data.
        level: the data's highest energy of a site, as :meth:`Hamiltonian.energy_density` gives it.
        scale: what the energies above it are measured in.
    """

    hamiltonian: Hamiltonian
    level: float
    scale: float = 1.0

    def excess(self, spins: Spins) -> Tensor:
        """E[max(0, e_i(x) − level)] / scale over sites i and textures x."""
        return F.relu(self.hamiltonian.energy_density(spins) - self.level).mean() / self.scale


@dataclass(frozen=True)
class Rest:
    """Where zero temperature leads textures: annealed data stay where they are, a generator's should too.

    A texture between two others, as a continuous generator has to have them, is led to either side, so that a
    generator that follows has narrow walls between them. No gradient goes through the sweeps.

    Attributes:
        hamiltonian: of the data.
        sweeps: of zero-temperature alignment.
    """

    hamiltonian: Hamiltonian
    sweeps: int = 20

    def distance(self, spins: Spins) -> Tensor:
        """E[(x − R(x))²]/N, N = 3HW, with R(x) where ``sweeps`` sweeps lead; it is differentiated for x alone."""
        fixed = spins.detach()
        if fixed.isfinite().all():  # else the loss is not finite either, and the training says so
            fixed = relax(fixed, self.hamiltonian, self.sweeps).to(spins)
        return reconstruction_error(fixed, spins)


def spectrum(spins: Spins) -> Tensor:
    r"""√(S(q)/Σ_q S), (…, H·W): a unit vector a texture, the same wherever the texture stands on the lattice.

    The distance of two is √2 times Hellinger's between their structure factors as distributions over q.
    """
    factor = structure_factor(spins.float() if spins.dtype == torch.bfloat16 else spins).flatten(-2)
    return (factor / factor.sum(-1, keepdim=True) + 1e-12).sqrt()


def spectral_distance(fakes: Tensor, spins: Tensor, share: tuple[int, int] = (0, 1)) -> Tensor:
    r"""The energy distance of two distributions of textures, each seen by its :func:`spectrum` alone.

    .. math:: 2\,E|f - g| - E|f - f'| - E|g - g'|

    with f of the fakes, g of the data, estimated from all pairs of different textures (Székely & Rizzo 2013); 0 for
    one and the same distribution, positive for any other. The data's pairs with themselves are counted too, at what
    the root's floor and rounding make of their distance of 0: some 10⁻⁴ in float32, which lowers the value by as
    much over the batch and, since the data have no slope, leaves every gradient as it is. A sum over pairs does not
    fall apart into shares of a batch: with ``share`` (number, parts) every process has its fakes' pairs with the whole
    batch's, and its value is so scaled that the processes' slopes average to those of the whole.

    Args:
        fakes: (n, 3, H, W), those that the slope is for.
        spins: (m, 3, H, W) real textures.
        share: which part of the batch these are, of how many.
    """
    own, real = spectrum(fakes), spectrum(spins)
    number, parts = share
    fake, data = (gathered(own), gathered(real)) if parts > 1 else (own.detach(), real)
    n = len(fake)
    mine = slice(number * len(own), (number + 1) * len(own))
    apart = torch.ones(len(own), n, dtype=own.dtype, device=own.device)
    apart[:, mine].fill_diagonal_(0)
    to_data = 2 * _distances(own, data.detach()).mean()
    # a pair's slope is in either of its two rows, its distance in both
    between = _distances(own, fake)
    among = parts * (between * apart).sum() / (n * (n - 1))
    within = _distances(data, data).sum() / (len(data) * (len(data) - 1))
    return to_data - 2 * among + (among - within).detach()


def _distances(one: Tensor, two: Tensor) -> Tensor:
    """|a − b| of every two unit vectors, (n, m), with a slope where they coincide."""
    return (2 - 2 * one @ two.mT).clamp(min=1e-12).sqrt()


def separate_gradients(nets: Networks, players: tuple[str, ...], losses: Mapping[str, Tensor]) -> Gradients:
    """Every player's gradient by differentiating its own loss; players of one loss go together."""
    together: dict[int, list[str]] = {}
    for player in players:
        together.setdefault(id(losses[player]), []).append(player)
    found: Gradients = {}
    for number, group in enumerate(together.values()):
        parameters = [p for player in group for p in nets[player].parameters()]
        flat = iter(torch.autograd.grad(losses[group[0]], parameters, retain_graph=number + 1 < len(together)))
        for player in group:
            found[player] = tuple(next(flat) for _ in nets[player].parameters())
    return found


FAINTEST = 1e-12
"""Least weight of a fake's logit in the pass of :func:`one_pass`; beside 1/batch it is nothing in float32."""


def one_pass(
    discriminator: nn.Module, logits: Tensor, fakes: Tensor, own: Tensor, other: Tensor
) -> tuple[tuple[Tensor, ...], Tensor]:
    r"""The discriminator's gradient and ∂(the generator's adversarial loss)/∂(fakes) from one backward pass.

    Without batch normalisation a texture's logit :math:`l_i` depends on that texture alone, so of both losses
    :math:`\partial\mathcal L/\partial x_i = (\partial\mathcal L/\partial l_i)\,\partial l_i/\partial x_i`: they
    differ by a factor a texture, and the second pass through the discriminator is spared.

    Args:
        logits: of the real textures, then of the fakes.
        fakes: the leaf (n, 3, H, W) that the last n of ``logits`` were computed from.
        own, other: the discriminator's loss and the generator's adversarial loss, functions of ``logits``.
    """
    n = len(fakes)
    (weights,) = torch.autograd.grad(own, logits, retain_graph=True)
    (wanted,) = torch.autograd.grad(other, logits, retain_graph=True)
    weights[-n:].clamp_(min=FAINTEST)  # σ(l)/n > 0, but it underflows for a fake found out beyond doubt
    *found, slopes = torch.autograd.grad(logits, [*discriminator.parameters(), fakes], weights)
    return tuple(found), slopes * (wanted / weights)[-n:, None, None, None]


@dataclass(frozen=True)
class Objective(abc.ABC):
    """What every player of a training minimises.

    :meth:`losses` is the specification; :meth:`gradients` is what the training loop calls, and where the players
    share work it saves some.

    Attributes:
        beta: weight of the KL divergence, Eq. (1).
        gamma: weight of the adversarial term in the hybrid's generator, Eq. (3).
        r1: the discriminator's loss has r1/2 times :func:`r1_penalty`; 0 (the paper) leaves it out.
        instance_noise: standard deviation of the Gaussian noise added to every vector that the discriminator sees
            in training; 0 (the paper) adds none (Sønderby et al. 2017).
        energy: the loss of a generator that has a discriminator has energy times :meth:`EnergyLevel.excess` of its
            fakes more; 0 (the paper) leaves the physics to the discriminator.
        above: the level for that.
        rest: the same loss has rest times :meth:`Rest.distance` of its fakes more; 0 (the paper) has none.
        still: what leads there.
        spectrum: the same loss has spectrum times :func:`spectral_distance` of its prior samples from the batch's
            real textures more; 0 (the paper) has none.
        precision: of the networks' layers, "float32" or "bfloat16" (torch's autocast). Weights, their gradients, what
            comes out of a network and all losses are float32 either way.
    """

    beta: float | int = 0.001
    gamma: float | int = 0.001
    r1: float | int = 0.0
    instance_noise: float | int = 0.0
    energy: float | int = 0.0
    above: EnergyLevel | None = None
    rest: float | int = 0.0
    still: Rest | None = None
    spectrum: float | int = 0.0
    precision: str = "float32"

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            raise BadInput(f"precision={self.precision!r}: unknown; use {' or '.join(PRECISIONS)}")
        for name in ("beta", "gamma", "r1", "instance_noise", "energy", "rest", "spectrum"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise BadInput(f"{name}={getattr(self, name)}: a loss weight is finite and not negative, e.g. 0.001")

    @property
    @abc.abstractmethod
    def players(self) -> tuple[str, ...]:
        """The networks that are trained."""

    @abc.abstractmethod
    def losses(self, nets: Networks, spins: Spins, latents: Draw) -> dict[str, Tensor]:
        """Each player's own loss under the player's name, and, detached, the parts worth recording.

        A loss is to be differentiated for its own player's parameters alone; its graph reaches the others'.
        """

    def gradients(self, nets: Networks, spins: Spins, latents: Draw) -> tuple[Gradients, dict[str, Tensor]]:
        """∂(a player's own loss)/∂(that player's parameters) for every player; and what is worth recording."""
        losses = self.losses(nets, spins, latents)
        return separate_gradients(nets, self.players, losses), {name: v.detach() for name, v in losses.items()}

    def _pass(self, network: nn.Module, inputs: Tensor) -> Any:
        """What a network makes of its inputs, its layers in :attr:`precision`."""
        with layers_in(self.precision, inputs):
            return network(inputs)

    def _logits(self, nets: Networks, spins: Tensor, fakes: Tensor, draw: Draw) -> Tensor:
        """Of the real textures, then of the fakes."""
        shown = torch.cat((spins, fakes))
        if self.instance_noise:
            generator = torch.Generator(shown.device).manual_seed(draw.seed)
            number, parts = draw.share
            n = len(spins)
            whole = (len(shown) // n, parts, n, *shown.shape[1:])  # as all processes together would draw it
            blur = torch.randn(whole, generator=generator, dtype=shown.dtype, device=shown.device)[:, number]
            shown = shown + self.instance_noise * blur.flatten(0, 1)
        return self._pass(nets["discriminator"], shown)

    def _physics(self, fakes: Tensor, prior: Tensor, spins: Tensor, draw: Draw) -> Tensor:
        """What the Hamiltonian and the structure factor have to say in the generator's loss."""
        loss = self.energy * self.above.excess(fakes) if self.energy and self.above else fakes.new_zeros(())
        if self.rest and self.still:
            loss = loss + self.rest * self.still.distance(fakes)
        return loss + self.spectrum * spectral_distance(prior, spins, draw.share) if self.spectrum else loss

    def _penalty(self, nets: Networks, spins: Spins) -> Tensor:
        """R1's part of the discriminator's loss."""
        if not self.r1:
            return spins.new_zeros(())
        return 0.5 * self.r1 * r1_penalty(lambda shown: self._pass(nets["discriminator"], shown), spins)

    def _penalised(self, nets: Networks, spins: Spins, own: tuple[Tensor, ...]) -> tuple[tuple[Tensor, ...], Tensor]:
        """The discriminator's gradient with R1's, which :func:`one_pass` cannot give, and R1's part of its loss."""
        penalty = self._penalty(nets, spins)
        if not self.r1:
            return own, penalty
        parameters = list(nets["discriminator"].parameters())
        more = torch.autograd.grad(penalty, parameters, allow_unused=True)  # the last bias has no say in it
        return tuple(one if two is None else one + two for one, two in zip(own, more, strict=True)), penalty


def _pulled(generator: nn.Module, loss: Tensor, fakes: Tensor, pull: Tensor) -> tuple[Tensor, ...]:
    """The gradient of a loss, and of another that is known by its slope at the fakes."""
    parameters = list(generator.parameters())
    if not loss.requires_grad:
        return torch.autograd.grad(fakes, parameters, pull)
    return torch.autograd.grad([loss, fakes], parameters, [torch.ones_like(loss), pull])


@dataclass(frozen=True)
class VAE(Objective):
    """Eq. (1): encoder and generator both minimise ℒ^VAE. Of the weights it uses ``beta`` alone."""

    @property
    def players(self) -> tuple[str, ...]:
        return ("encoder", "generator")

    def losses(self, nets: Networks, spins: Spins, latents: Draw) -> dict[str, Tensor]:
        mu, logvar = self._pass(nets["encoder"], spins)
        reconstructed = self._pass(nets["generator"], mu + (0.5 * logvar).exp() * latents.noise)
        error, kl = reconstruction_error(spins, reconstructed), kl_divergence(mu, logvar)
        loss = error + self.beta * kl
        return {"encoder": loss, "generator": loss, "reconstruction": error.detach(), "kl": kl.detach()}


@dataclass(frozen=True)
class GAN(Objective):
    """Eq. (2), the non-saturating losses of Goodfellow et al. (2014)."""

    @property
    def players(self) -> tuple[str, ...]:
        return ("discriminator", "generator")

    def losses(self, nets: Networks, spins: Spins, latents: Draw) -> dict[str, Tensor]:
        fakes = self._pass(nets["generator"], latents.prior)
        judged = self._judged(self._logits(nets, spins, fakes, latents), len(spins))
        judged["generator"] = judged["generator"] + self._physics(fakes, fakes, spins, latents)
        return judged | {"discriminator": judged["discriminator"] + self._penalty(nets, spins)}

    def gradients(self, nets: Networks, spins: Spins, latents: Draw) -> tuple[Gradients, dict[str, Tensor]]:
        fakes = self._pass(nets["generator"], latents.prior)
        leaf = fakes.detach().requires_grad_()
        logits = self._logits(nets, spins, leaf, latents)
        losses = self._judged(logits, len(spins))
        own, pull = one_pass(nets["discriminator"], logits, leaf, losses["discriminator"], losses["generator"])
        own, penalty = self._penalised(nets, spins, own)
        losses["discriminator"] = losses["discriminator"] + penalty
        physics = self._physics(fakes, fakes, spins, latents)
        losses["generator"] = losses["generator"] + physics
        generator = _pulled(nets["generator"], physics, fakes, pull)
        return {"discriminator": own, "generator": generator}, {name: v.detach() for name, v in losses.items()}

    def _judged(self, logits: Tensor, n: int) -> dict[str, Tensor]:
        real, fake = logits.split(n)
        return {
            "discriminator": real_loss(real) + fake_loss(fake),
            "generator": real_loss(fake),
            "logit_real": real.detach().mean(),
            "logit_prior": fake.detach().mean(),
        }


@dataclass(frozen=True)
class Hybrid(Objective):
    """Eq. (3): the encoder sees ℒ^VAE alone; prior samples and reconstructions are fakes at half weight each.

    The generator decodes prior codes and the encoder's in one call, so its batch statistics are those of both.
    """

    @property
    def players(self) -> tuple[str, ...]:
        return ("discriminator", "encoder", "generator")

    def losses(self, nets: Networks, spins: Spins, latents: Draw) -> dict[str, Tensor]:
        fakes, record = self._made(nets, spins, latents)
        vae = record.pop("vae")
        judged = self._judged(self._logits(nets, spins, fakes, latents), len(spins))
        adversarial = judged.pop("adversarial")
        judged["discriminator"] = judged["discriminator"] + self._penalty(nets, spins)
        physics = self._physics(fakes, fakes[len(spins) :], spins, latents)
        return {"encoder": vae, "generator": vae + self.gamma * adversarial + physics, **judged, **record}

    def gradients(self, nets: Networks, spins: Spins, latents: Draw) -> tuple[Gradients, dict[str, Tensor]]:
        fakes, record = self._made(nets, spins, latents)
        vae = record.pop("vae")
        leaf = fakes.detach().requires_grad_()
        logits = self._logits(nets, spins, leaf, latents)
        judged = self._judged(logits, len(spins))
        adversarial = judged.pop("adversarial")
        own, pull = one_pass(nets["discriminator"], logits, leaf, judged["discriminator"], self.gamma * adversarial)
        own, penalty = self._penalised(nets, spins, own)
        judged["discriminator"] = judged["discriminator"] + penalty
        encoder = torch.autograd.grad(vae, list(nets["encoder"].parameters()), retain_graph=True)
        physics = self._physics(fakes, fakes[len(spins) :], spins, latents)
        generator = _pulled(nets["generator"], vae + physics, fakes, pull)
        losses = {"encoder": vae, "generator": vae + self.gamma * adversarial + physics, **judged, **record}
        return (
            {"discriminator": own, "encoder": encoder, "generator": generator},
            {name: value.detach() for name, value in losses.items()},
        )

    def _made(self, nets: Networks, spins: Spins, latents: Draw) -> tuple[Tensor, dict[str, Tensor]]:
        """Reconstructions, then prior samples; and ℒ^VAE with its two parts."""
        mu, logvar = self._pass(nets["encoder"], spins)
        z = mu + (0.5 * logvar).exp() * latents.noise
        fakes = self._pass(nets["generator"], torch.cat((z, latents.prior)))
        error, kl = reconstruction_error(spins, fakes[: len(spins)]), kl_divergence(mu, logvar)
        return fakes, {"vae": error + self.beta * kl, "reconstruction": error.detach(), "kl": kl.detach()}

    def _judged(self, logits: Tensor, n: int) -> dict[str, Tensor]:
        real, rebuilt, prior = logits.split(n)
        return {
            "discriminator": real_loss(real) + 0.5 * fake_loss(prior) + 0.5 * fake_loss(rebuilt),
            "adversarial": 0.5 * real_loss(prior) + 0.5 * real_loss(rebuilt),
            "logit_real": real.detach().mean(),
            "logit_prior": prior.detach().mean(),
            "logit_reconstruction": rebuilt.detach().mean(),
        }


OBJECTIVES: dict[str, type[Objective]] = {"vae": VAE, "gan": GAN, "hybrid": Hybrid}
"""The objectives by the names the command line knows."""
