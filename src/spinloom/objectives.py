"""The three objectives of the paper, Eqs. (1)–(3): what each player minimises.

Reductions, pinned because the paper leaves them open: the squared error is summed over the N = 3HW features
and divided by N; the KL divergence is summed over the latent dimensions; both are averaged over the batch. All
losses of a step are taken from one state of the networks.
"""

from __future__ import annotations

import abc
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from spinloom.errors import BadInput
from spinloom.typing import Latents, Logits, Spins

Networks = Mapping[str, nn.Module]
"""Players by name: "encoder", "generator", "discriminator"."""


class Draw(NamedTuple):
    """The random numbers of one step, both standard normal of shape (n, latent)."""

    prior: Tensor
    """z_p, the codes of the prior samples."""
    noise: Tensor
    """What the encoder's z = mu + exp(logvar/2)·noise is made with."""


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


@dataclass(frozen=True)
class Objective(abc.ABC):
    """What every player of a training minimises.

    Attributes:
        beta: weight of the KL divergence, Eq. (1).
        gamma: weight of the adversarial term in the hybrid's generator, Eq. (3).
    """

    beta: float = 0.001
    gamma: float = 0.001

    def __post_init__(self) -> None:
        for name in ("beta", "gamma"):
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


@dataclass(frozen=True)
class VAE(Objective):
    """Eq. (1): encoder and generator both minimise ℒ^VAE."""

    @property
    def players(self) -> tuple[str, ...]:
        return ("encoder", "generator")

    def losses(self, nets: Networks, spins: Spins, latents: Draw) -> dict[str, Tensor]:
        mu, logvar = nets["encoder"](spins)
        reconstructed = nets["generator"](mu + (0.5 * logvar).exp() * latents.noise)
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
        fakes = nets["generator"](latents.prior)
        real, fake = nets["discriminator"](torch.cat((spins, fakes))).split(len(spins))
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
        n = len(spins)
        mu, logvar = nets["encoder"](spins)
        z = mu + (0.5 * logvar).exp() * latents.noise
        fakes = nets["generator"](torch.cat((z, latents.prior)))
        error, kl = reconstruction_error(spins, fakes[:n]), kl_divergence(mu, logvar)
        vae = error + self.beta * kl
        real, rebuilt, prior = nets["discriminator"](torch.cat((spins, fakes))).split(n)
        return {
            "discriminator": real_loss(real) + 0.5 * fake_loss(prior) + 0.5 * fake_loss(rebuilt),
            "encoder": vae,
            "generator": vae + self.gamma * (0.5 * real_loss(prior) + 0.5 * real_loss(rebuilt)),
            "reconstruction": error.detach(),
            "kl": kl.detach(),
            "logit_real": real.detach().mean(),
            "logit_prior": prior.detach().mean(),
            "logit_reconstruction": rebuilt.detach().mean(),
        }


OBJECTIVES: dict[str, type[Objective]] = {"vae": VAE, "gan": GAN, "hybrid": Hybrid}
"""The objectives by the names the command line knows."""
