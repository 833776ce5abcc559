"""``spinloom bench train``: a hybrid step beside its parts, the same networks' bare convolutions, and pythae."""

from __future__ import annotations

import copy
import importlib
import importlib.util
import statistics
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrize

from spinloom.errors import BadInput
from spinloom.networks import Discriminator, NetworkConfig, PeriodicConv2d
from spinloom.objectives import Hybrid
from spinloom.processor import for_networks
from spinloom.run import build_networks
from spinloom.timing import median_ratio, timed
from spinloom.train import draw_latents, update
from spinloom.training_config import TrainingConfig

PASSES = {"discriminator": ("all",), "encoder": ("all",), "generator": ("input", "all")}
"""Backward passes a hybrid step makes through each network: the encoder's gradient crosses the generator to the
codes, the generator's own needs its parameters too."""


@for_networks()
def bench_train(
    networks: NetworkConfig, config: TrainingConfig, rounds: int = 7, device: str = "cpu", peers: bool = False
) -> dict[str, Any]:
    """Seconds of a hybrid step, of its networks alone, and of their bare convolutions, in turn in one run.

    The bare convolutions are those of the step: the same shapes on inputs already wrapped around, forward once and
    backward as often and for the same gradients as the step needs (:data:`PASSES`). ``ratio`` is the median over
    the rounds of step over bare convolutions: 1 would be a step that did nothing else. ``peers`` has pythae's VAEGAN
    make its step with copies of the same networks on the same batch too.

    Raises:
        BadInput: no rounds, or pythae is asked for and not installed.
    """
    if rounds < 1:
        raise BadInput(f"rounds={rounds}: need a whole number, at least 1; use e.g. rounds=7")
    objective = Hybrid(config.beta, config.gamma)
    nets = build_networks(networks, objective.players, config.seed)
    for net in nets.values():
        net.to(device).train()
    optimisers = {
        player: torch.optim.Adam(net.parameters(), lr=config.rate_of(player), betas=config.momentum, fused=True)
        for player, net in nets.items()
    }
    generator = torch.Generator().manual_seed(config.seed)
    spins = F.normalize(torch.randn(config.batch, 3, *networks.size, generator=generator), dim=1).to(device)
    latents = draw_latents(config.seed, 0, config.batch, networks.latent).to(device)
    with recorded(nets) as calls:
        objective.losses(nets, spins, latents)
    parts: dict[str, Callable[[], Any]] = {
        "step": lambda: update(nets, optimisers, objective, spins, latents),
        "convolutions": bare(calls, PASSES),
    }
    both = torch.cat((latents.prior, latents.noise))
    shown = torch.cat((spins, spins.roll(1, 0), spins.roll(2, 0)))
    parts |= {
        "encoder": lambda: _there_and_back(nets["encoder"], spins),
        "generator": lambda: _there_and_back(nets["generator"], both),
        "discriminator": lambda: _there_and_back(nets["discriminator"], shown),
        "optimisers": lambda: [optimiser.step() for optimiser in optimisers.values()],
    }
    if peers:
        parts["pythae"] = pythae_step(nets, config, networks, spins)
    seconds: dict[str, list[float]] = {name: [] for name in parts}
    for work in parts.values():
        work()
    for _ in range(rounds):
        for name, work in parts.items():
            seconds[name].append(timed(work, device))
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    return {
        "unit": "seconds",
        "size": list(networks.size),
        "batch": config.batch,
        "device": device,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "rounds": rounds,
        "seconds": medians,
        "ratio": median_ratio(seconds["step"], seconds["convolutions"]),
        "convolution_gflop": flops(calls) * 1e-9,
        "pythae": median_ratio(seconds["pythae"], seconds["step"]) if peers else None,
    }


def pythae_step(
    nets: Mapping[str, nn.Module], config: TrainingConfig, networks: NetworkConfig, spins: Tensor
) -> Callable[[], Any]:
    """A training step of pythae's VAEGAN, its model and its trainer's own code around copies of the networks.

    Its reconstruction error is taken in the discriminator's last features, and its prior samples are the only fakes.
    Its margins, which leave out a player's update at times, are set so wide that all three players always move.

    Raises:
        BadInput: pythae is not installed.
    """
    if importlib.util.find_spec("pythae") is None:
        raise BadInput("--peers: pythae is not installed; pip install 'spinloom[peers]'")
    models = importlib.import_module("pythae.models")
    bases = importlib.import_module("pythae.models.nn")
    output = importlib.import_module("pythae.models.base.base_utils").ModelOutput
    trainer_class = importlib.import_module("pythae.trainers").CoupledOptimizerAdversarialTrainer
    encoder, generator = (copy.deepcopy(nets[player]) for player in ("encoder", "generator"))
    discriminator = cast(Discriminator, copy.deepcopy(nets["discriminator"]))

    class Encoder(bases.BaseEncoder):
        def __init__(self) -> None:
            super().__init__()
            self.net = encoder

        def forward(self, x: Tensor) -> Any:
            mu, logvar = self.net(x)
            return output(embedding=mu, log_covariance=logvar)

    class Decoder(bases.BaseDecoder):
        def __init__(self) -> None:
            super().__init__()
            self.net = generator

        def forward(self, z: Tensor) -> Any:
            return output(reconstruction=self.net(z))

    class Judge(bases.BaseDiscriminator):
        def __init__(self) -> None:
            super().__init__()
            self.judge, self.depth = discriminator, 1

        def forward(self, x: Tensor, output_layer_levels: list[int] | None = None) -> Any:
            with parametrize.cached():
                features = F.leaky_relu(discriminator.blocks(x), discriminator.slope).flatten(1)
                if output_layer_levels is not None:
                    return output(embedding_layer_1=features)
                return output(embedding=torch.sigmoid(discriminator.last(features)))

    shape = models.VAEGANConfig(input_dim=(3, *networks.size), latent_dim=networks.latent, margin=1e6)
    model = models.VAEGAN(shape, Encoder(), Decoder(), Judge()).to(spins.device).train()
    trainer = trainer_class.__new__(trainer_class)  # its constructor wants a data set and a folder
    for player in ("encoder", "decoder", "discriminator"):
        parameters = getattr(model, player).parameters()
        optimiser = torch.optim.Adam(parameters, lr=config.rate, betas=config.momentum)
        setattr(trainer, f"{player}_optimizer", optimiser)
    return lambda: trainer._optimizers_step(model({"data": spins}))


Call = tuple[tuple[int, ...], PeriodicConv2d]
"""The shape of a convolution's input, before it is wrapped around, and the layer."""


@contextmanager
def recorded(nets: Mapping[str, nn.Module]) -> Iterator[dict[str, list[Call]]]:
    """The convolutions that the networks call meanwhile, by player."""
    calls: dict[str, list[Call]] = {player: [] for player in nets}
    hooks = []
    for player, net in nets.items():

        def note(layer: nn.Module, inputs: tuple[Tensor, ...], _: Any, player: str = player) -> None:
            assert isinstance(layer, PeriodicConv2d)
            calls[player].append((tuple(inputs[0].shape), layer))

        hooks += [m.register_forward_hook(note) for m in net.modules() if isinstance(m, PeriodicConv2d)]
    try:
        yield calls
    finally:
        for hook in hooks:
            hook.remove()


def flops(calls: Mapping[str, list[Call]]) -> float:
    """Operations, two a multiply and add, of the convolutions forward and backward as in a hybrid step.

    The gradient for a layer's input and that for its weights cost as much as the layer's forward pass each.
    """
    total = 0.0
    for player, layers in calls.items():
        for number, ((n, _, height, width), layer) in enumerate(layers):
            sites = height // layer.stride[0] * (width // layer.stride[1])
            once = 2.0 * n * sites * layer.weight.numel()
            first = number == 0 and player == "encoder"
            backward = {"all": 1 if first else 2, "input": 1}
            total += once * (1 + sum(backward[which] for which in PASSES[player]))
    return total


def bare(calls: Mapping[str, list[Call]], passes: Mapping[str, tuple[str, ...]]) -> Callable[[], None]:
    """The recorded convolutions, each on its own: forward, then backward for what the step needs."""
    jobs = []
    for player, layers in calls.items():
        for number, ((n, channels, height, width), layer) in enumerate(layers):
            w = layer.wrap
            x = torch.randn(n, channels, height + 2 * w, width + 2 * w, device=layer.weight.device)
            weight, bias = layer.weight.detach().clone(), layer.bias
            bias = None if bias is None else bias.detach().clone()
            images = number == 0 and player == "encoder"  # nobody asks for the gradient of the data
            jobs.append((x, weight, bias, layer.stride, passes[player], images))

    def run() -> None:
        for x, weight, bias, stride, which, images in jobs:
            leaves = [leaf for leaf in (weight, bias) if leaf is not None]
            for leaf in (x, *leaves):
                leaf.requires_grad_(True)
            y = F.conv2d(x, weight, bias, stride)
            push = torch.ones_like(y)
            for number, wanted in enumerate(which):
                inputs = [x] if wanted == "input" else leaves if images else [x, *leaves]
                torch.autograd.grad(y, inputs, push, retain_graph=number + 1 < len(which))

    return run


def _there_and_back(net: nn.Module, inputs: Tensor) -> None:
    """Forward and backward for parameters and input."""
    x = inputs.detach().requires_grad_()
    out = net(x)
    total = torch.stack([part.sum() for part in (out if isinstance(out, tuple) else (out,))]).sum()
    torch.autograd.grad(total, [x, *net.parameters()])


def print_train(result: dict[str, Any]) -> None:
    """The numbers of :func:`bench_train` as a table."""
    from rich.console import Console
    from rich.table import Table

    height, width = result["size"]
    title = f"hybrid step at {height} × {width}, batch {result['batch']}, {result['device']}"
    table = Table(title=f"{title}: seconds, median of {result['rounds']}")
    table.add_column("")
    table.add_column("seconds", justify="right")
    for name, seconds in result["seconds"].items():
        table.add_row(name, f"{seconds:.3f}")
    console = Console()
    console.print(table)
    rate = result["convolution_gflop"] / result["seconds"]["convolutions"]
    console.print(f"the step is {result['ratio']:.2f} times its bare convolutions, which run at {rate:.0f} GFLOP/s")
    if result["pythae"]:
        console.print(f"and makes {result['pythae']:.2f} times the steps a second of pythae's VAEGAN")
