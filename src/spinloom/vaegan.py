"""pythae's VAEGAN around this package's networks, for races: its model and its trainer's own code."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from spinloom.networks import Discriminator, NetworkConfig
from spinloom.run import build_networks
from spinloom.timing import timed
from spinloom.training_config import TrainingConfig


class Pythae:
    """A process of pythae's, asked for steps: freed memory and denormal numbers are as torch has them by itself."""

    def __init__(self, networks: Mapping[str, Any], training: Mapping[str, Any], device: str, textures: str) -> None:
        shapes, config = NetworkConfig(**networks), TrainingConfig(**training)
        nets = build_networks(shapes, ("discriminator", "encoder", "generator"), config.seed)
        spins = torch.from_numpy(np.load(textures)).to(device)
        self._step, self._device = vaegan_step(nets, config, shapes, spins), device

    def seconds(self) -> float:
        """Of one training step."""
        return timed(self._step, self._device)


def vaegan_step(
    nets: Mapping[str, nn.Module], config: TrainingConfig, networks: NetworkConfig, spins: Tensor
) -> Callable[[], Any]:
    """A training step of pythae's VAEGAN with these networks, in float32.

    Its reconstruction error is taken in the discriminator's last features, and its prior samples are the only fakes.
    Its margins, which leave out a player's update at times, are set so wide that all three players always move.
    """
    models = importlib.import_module("pythae.models")
    bases = importlib.import_module("pythae.models.nn")
    output = importlib.import_module("pythae.models.base.base_utils").ModelOutput
    trainer_class = importlib.import_module("pythae.trainers").CoupledOptimizerAdversarialTrainer
    discriminator = cast(Discriminator, nets["discriminator"])

    class Encoder(bases.BaseEncoder):
        def __init__(self) -> None:
            super().__init__()
            self.net = nets["encoder"]

        def forward(self, x: Tensor) -> Any:
            mu, logvar = self.net(x)
            return output(embedding=mu, log_covariance=logvar)

    class Decoder(bases.BaseDecoder):
        def __init__(self) -> None:
            super().__init__()
            self.net = nets["generator"]

        def forward(self, z: Tensor) -> Any:
            return output(reconstruction=self.net(z))

    class Judge(bases.BaseDiscriminator):
        def __init__(self) -> None:
            super().__init__()
            self.judge, self.depth = discriminator, 1

        def forward(self, x: Tensor, output_layer_levels: list[int] | None = None) -> Any:
            with parametrize.cached():
                features = discriminator.features(x)
                if output_layer_levels is not None:
                    return output(embedding_layer_1=features.flatten(1))
                return output(embedding=torch.sigmoid(discriminator.verdict(features)))

    shape = models.VAEGANConfig(input_dim=(3, *networks.size), latent_dim=networks.latent, margin=1e6)
    model = models.VAEGAN(shape, Encoder(), Decoder(), Judge()).to(spins.device).train()
    trainer = trainer_class.__new__(trainer_class)  # its constructor wants a data set and a folder
    for player in ("encoder", "decoder", "discriminator"):
        parameters = getattr(model, player).parameters()
        optimiser = torch.optim.Adam(parameters, lr=config.rate, betas=config.momentum)
        setattr(trainer, f"{player}_optimizer", optimiser)
    return lambda: trainer._optimizers_step(model({"data": spins}))
