"""``spinloom bench train``: a training's step beside its parts, the networks' bare convolutions, and pythae."""

from __future__ import annotations

import importlib.util
import itertools
import statistics
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from spinloom.ahead import ahead
from spinloom.dataset import Dataset, simulate
from spinloom.errors import BadInput
from spinloom.hamiltonian import Hamiltonian
from spinloom.networks import NetworkConfig, PeriodicConv2d, layers_in
from spinloom.objectives import Hybrid
from spinloom.peers import Worker
from spinloom.processor import for_networks
from spinloom.run import build_networks, check_device
from spinloom.schedule import Schedule
from spinloom.timing import median_ratio, timed
from spinloom.train import ALONE, draw_latents, objective_on, optimisers_of, shares, take_step, update
from spinloom.training_config import TrainingConfig

PASSES = {"discriminator": ("all",), "encoder": ("all",), "generator": ("input", "all")}
"""Backward passes a hybrid step makes through each network: the encoder's gradient crosses the generator to the
codes, the generator's own needs its parameters too."""

TEXTURES = Schedule.geometric(1.0, 0.1, steps=20)
"""How the textures of the bench are annealed: what a step does with them does not depend on how well."""


@for_networks()
def bench_train(
    networks: NetworkConfig, config: TrainingConfig, rounds: int = 7, device: str = "cpu", peers: bool = False
) -> dict[str, Any]:
    """Seconds of a training's hybrid step, of its parts, and of bare convolutions, in turn in one run.

    ``step`` is what the training does once its weights have risen: a batch of a data set on disk, decoded ahead and
    turned if ``config.augment``, all losses of ``config``, every player's move, the average. ``eager float32`` (on
    GPUs, or where ``config.precision`` is another) is the same in float32, its batch decoded and copied when wanted.

    ``plain step`` has Eq. (3) alone, β and γ, on a batch that is there: what is compared with the bare convolutions and
    with pythae. These are the step's convolutions, of the same shapes and precision on inputs already wrapped around,
    forward once and backward as often and for the same gradients (:data:`PASSES`). ``peers`` has pythae's VAEGAN, in
    a process of its own, make its step in float32 with the same networks on the same batch.

    The ratios, medians over the rounds: ``ratio`` plain step over bare convolutions, 1 if it did nothing else;
    ``over_plain`` step over plain step; ``eager`` eager float32 over step; ``pythae`` pythae over plain step.

    Raises:
        BadInput: no rounds, no such GPU or precision there, pythae is asked for and not installed or fails.
    """
    if rounds < 1:
        raise BadInput(f"rounds={rounds}: need a whole number, at least 1; use e.g. rounds=7")
    if peers and importlib.util.find_spec("pythae") is None:
        raise BadInput("--peers: pythae is not installed; pip install 'spinloom[peers]'")
    check_device(device, config.precision)
    config = replace(config, objective="hybrid")
    with ExitStack() as stack:
        room = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        data = simulate(
            room / "data", Hamiltonian(D=0.3), networks.size, 2 * config.batch, config.seed, TEXTURES, show=False
        )
        spins = next(data.batches(config.batch, config.seed)).to(device)
        parts, calls = _parts(networks, config, spins)
        parts = {"step": stack.enter_context(_step(data, networks, config, device))} | parts
        cuda = spins.device.type == "cuda"
        if cuda or config.precision != "float32":
            full = replace(config, precision="float32")
            parts["eager float32"] = stack.enter_context(_step(data, networks, full, device, eager=True))
        times: dict[str, Callable[[], float]] = {name: _timer(work, device) for name, work in parts.items()}
        if peers:
            worker = stack.enter_context(Worker("pythae", torch.get_num_threads(), **_asked(networks, config, device)))
            worker.save(spins.cpu())
            times["pythae"] = _asker(worker)
        for time in times.values():
            time()
        seconds: dict[str, list[float]] = {name: [] for name in times}
        for _ in range(rounds):
            for name, time in times.items():
                seconds[name].append(time())

    def ratio(one: str, other: str) -> float | None:
        return median_ratio(seconds[one], seconds[other]) if one in seconds else None

    return {
        "unit": "seconds",
        "size": list(networks.size),
        "batch": config.batch,
        "device": device,
        "precision": config.precision,
        "tf32": torch.backends.cudnn.allow_tf32 if cuda else None,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "networks": networks.as_dict(),
        "training": config.as_dict(),
        "rounds": rounds,
        "seconds": {name: statistics.median(values) for name, values in seconds.items()},
        "ratio": ratio("plain step", "convolutions"),
        "over_plain": ratio("step", "plain step"),
        "eager": ratio("eager float32", "step"),
        "pythae": ratio("pythae", "plain step"),
        "convolution_gflop": flops(calls) * 1e-9,
    }


@contextmanager
def _step(
    data: Dataset, networks: NetworkConfig, config: TrainingConfig, device: str, eager: bool = False
) -> Iterator[Callable[[], Any]]:
    """The next step of a training on ``data``, every time it is called; ``eager`` decodes when it is called."""
    objective = objective_on(data, config)
    nets = build_networks(networks, config.kept, config.seed)
    for net in nets.values():
        net.to(device).train()
    optimisers = optimisers_of(nets, objective.players, config)
    steps = itertools.count(config.energy_rise)
    batches = data.batches(config.batch, config.seed, augment=config.augment)
    with ahead(shares(batches, ALONE, device)) as coming:

        def step() -> None:
            spins = next(batches).to(device) if eager else next(coming).to(device, non_blocking=True)
            take_step(nets, optimisers, objective, config, spins, networks.latent, next(steps))

        yield step


def _parts(
    networks: NetworkConfig, config: TrainingConfig, spins: Tensor
) -> tuple[dict[str, Callable[[], Any]], dict[str, list[Call]]]:
    """A plain step, its bare convolutions, its players there and back; and the convolutions that it calls."""
    objective = Hybrid(config.beta, config.gamma, precision=config.precision)
    nets = build_networks(networks, objective.players, config.seed)
    for net in nets.values():
        net.to(spins.device).train()
    optimisers = optimisers_of(nets, objective.players, config)
    latents = draw_latents(config.seed, 0, config.batch, networks.latent).to(spins.device)
    with recorded(nets) as calls:
        objective.losses(nets, spins, latents)
    both = torch.cat((latents.prior, latents.noise))
    shown = torch.cat((spins, spins.roll(1, 0), spins.roll(2, 0)))
    parts: dict[str, Callable[[], Any]] = {
        "plain step": lambda: update(nets, optimisers, objective, spins, latents),
        "convolutions": bare(calls, PASSES),
        "encoder": lambda: _there_and_back(nets["encoder"], spins, config.precision),
        "generator": lambda: _there_and_back(nets["generator"], both, config.precision),
        "discriminator": lambda: _there_and_back(nets["discriminator"], shown, config.precision),
        "optimisers": lambda: _move(nets, optimisers),
    }
    return parts, calls


def _timer(work: Callable[[], Any], device: str) -> Callable[[], float]:
    return lambda: timed(work, device)


def _asked(networks: NetworkConfig, config: TrainingConfig, device: str) -> dict[str, Any]:
    """What pythae's process is to be made with."""
    return {
        "networks": networks.as_dict(),
        "training": config.as_dict(),
        "device": device,
        "textures": "texture.npy",
    }


def _asker(worker: Worker) -> Callable[[], float]:
    def ask() -> float:
        try:
            return worker.ask("seconds")
        except RuntimeError as error:
            raise BadInput(f"--peers: pythae has failed ({error}); leave --peers out") from error

    return ask


Call = tuple[tuple[int, ...], PeriodicConv2d, torch.dtype]
"""The shape of a convolution's input, before it is wrapped around, the layer, and the precision that it has there."""


@contextmanager
def recorded(nets: Mapping[str, nn.Module]) -> Iterator[dict[str, list[Call]]]:
    """The convolutions that the networks call meanwhile, by player."""
    calls: dict[str, list[Call]] = {player: [] for player in nets}
    hooks = []
    for player, net in nets.items():

        def note(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor, player: str = player) -> None:
            assert isinstance(layer, PeriodicConv2d)
            calls[player].append((tuple(inputs[0].shape), layer, output.dtype))

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
        for number, ((n, _, height, width), layer, _) in enumerate(layers):
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
        for number, ((n, channels, height, width), layer, dtype) in enumerate(layers):
            w = layer.wrap
            x = torch.randn(n, channels, height + 2 * w, width + 2 * w, dtype=dtype, device=layer.weight.device)
            weight, bias = layer.weight.detach().to(dtype, copy=True), layer.bias
            bias = None if bias is None else bias.detach().to(dtype, copy=True)
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


def _move(nets: Mapping[str, nn.Module], optimisers: Mapping[str, torch.optim.Optimizer]) -> None:
    """The optimisers' part of a step; an update has left them no gradients."""
    for player, optimiser in optimisers.items():
        for parameter in nets[player].parameters():
            parameter.grad = torch.zeros_like(parameter)
        optimiser.step()
        optimiser.zero_grad()


def _there_and_back(net: nn.Module, inputs: Tensor, precision: str) -> None:
    """Forward and backward for parameters and input."""
    x = inputs.detach().requires_grad_()
    with layers_in(precision, x):
        out = net(x)
    total = torch.stack([part.sum() for part in (out if isinstance(out, tuple) else (out,))]).sum()
    torch.autograd.grad(total, [x, *net.parameters()])


def print_train(result: dict[str, Any]) -> None:
    """The numbers of :func:`bench_train` as a table."""
    from rich.console import Console
    from rich.table import Table

    height, width = result["size"]
    where = f"{result['device']}, {result['precision']}"
    title = f"hybrid step at {height} × {width}, batch {result['batch']}, {where}"
    table = Table(title=f"{title}: seconds, median of {result['rounds']}")
    table.add_column("")
    table.add_column("seconds", justify="right")
    for name, seconds in result["seconds"].items():
        table.add_row(name, f"{seconds:.4f}")
    console = Console()
    console.print(table)
    rate = result["convolution_gflop"] / result["seconds"]["convolutions"]
    console.print(f"the step takes {result['over_plain']:.2f} times the plain step, which has β and γ alone")
    console.print(
        f"the plain step takes {result['ratio']:.2f} times its bare convolutions, which run at {rate:.0f} GFLOP/s"
    )
    if result["pythae"]:
        console.print(f"and makes {result['pythae']:.2f} times the steps a second of pythae's VAEGAN in float32")
    if result["eager"]:
        console.print(f"the step makes {result['eager']:.2f} times the steps a second of itself in eager float32")
