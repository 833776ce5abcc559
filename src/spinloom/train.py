"""One training loop for all three objectives."""

from __future__ import annotations

import importlib.util
import json
import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from spinloom import run as runs
from spinloom.ahead import ahead
from spinloom.dataset import Dataset
from spinloom.errors import BadInput
from spinloom.files import write_lines
from spinloom.interrupts import deferred_interrupt
from spinloom.networks import NetworkConfig
from spinloom.objectives import Draw, EnergyLevel, Objective, Rest
from spinloom.processor import for_networks
from spinloom.progress import progress
from spinloom.random import threefry2x32
from spinloom.torchrun import Crew, joined, synced
from spinloom.training_config import QUIET, TrainingConfig
from spinloom.watch import Watch

ALONE = Crew()


def draw_latents(seed: int, step: int, batch: int, latent: int) -> Draw:
    """The latent codes of a step, a function of (seed, step) alone: a resumed run draws what it would have."""
    low, high = threefry2x32((seed & 0xFFFFFFFF, seed >> 32), (step, 0x7A5A))
    number = int(low[0]) << 31 | int(high[0]) >> 1
    prior, noise = torch.randn(2, batch, latent, generator=torch.Generator().manual_seed(number))
    return Draw(prior, noise, number ^ 0x5A)  # which seeds other numbers


def update(
    nets: Mapping[str, nn.Module],
    optimisers: Mapping[str, torch.optim.Optimizer],
    objective: Objective,
    spins: Tensor,
    latents: Draw,
    crew: Crew = ALONE,
) -> dict[str, Tensor]:
    """One step: all losses from one state of the networks, then every player moves.

    ``spins`` and ``latents`` are this process's share of the batch; what comes of them is averaged over ``crew``.

    Raises:
        FloatingPointError: a loss or gradient is not finite; no parameter has moved.
    """
    found, losses = objective.gradients(nets, spins, latents)
    crew.average([gradient for grads in found.values() for gradient in grads] + list(losses.values()))
    for player, grads in found.items():
        if not math.isfinite(nn.utils.get_total_norm(grads) + losses[player]):
            raise FloatingPointError(f"the {player}'s loss is {float(losses[player])}, its gradient not finite")
    for player, grads in found.items():
        for parameter, gradient in zip(nets[player].parameters(), grads, strict=True):
            parameter.grad = gradient
        optimisers[player].step()
        optimisers[player].zero_grad()
    return losses


def take_step(
    nets: Mapping[str, nn.Module],
    optimisers: Mapping[str, torch.optim.Optimizer],
    objective: Objective,
    config: TrainingConfig,
    spins: Tensor,
    latent: int,
    step: int,
    crew: Crew = ALONE,
) -> dict[str, Tensor]:
    """What a training does with its batch after ``step`` steps: codes, rates, weights, :func:`update`, the average.

    Raises:
        FloatingPointError: a loss or gradient is not finite; no parameter has moved.
    """
    draw = draw_latents(config.seed, step, config.batch, latent).part(crew.rank, crew.world).to(spins.device)
    for player, optimiser in optimisers.items():
        optimiser.param_groups[0]["lr"] = config.rate_of(player, step)
    losses = update(nets, optimisers, config.losses(objective.above, objective.still, step), spins, draw, crew)
    if config.average:
        follow(nets["averaged"], nets["generator"], min(config.average, (step + 1) / (step + 10)))
    return losses


@torch.no_grad()
def follow(averaged: nn.Module, network: nn.Module, decay: float) -> None:
    """averaged ← decay·averaged + (1 − decay)·network, for parameters and batch statistics alike."""
    own, new = averaged.state_dict(), network.state_dict()
    for name, tensor in own.items():
        if tensor.is_floating_point():
            tensor.lerp_(new[name], 1 - decay)


def _resolved(data: Dataset, networks: NetworkConfig, config: TrainingConfig, start: runs.Run | None) -> dict[str, Any]:
    model = data.hamiltonian
    return {
        "start": start and {"path": str(start.path), "step": start.step, "weights": runs.digest(start)},
        "objective": config.objective,
        "networks": networks.as_dict(),
        "training": config.as_dict(),
        "data": {
            "path": str(data.path.resolve()),
            "samples": len(data),
            "checksum": data.checksum,
            "hamiltonian": model.as_dict() if model else None,
        },
    }


# settings that may change when a run goes on: they do not change a step
_FREE = QUIET | {"training.steps", "data.path", "start.path"}


def _check_same(out: Path, asked: dict[str, Any]) -> None:
    there = runs.read_config(out)
    there = runs.completed(there, {"training": TrainingConfig().as_dict(), "networks": NetworkConfig().as_dict()})
    found = {key: there.get(key) for key in asked}
    differ = [d for d in runs.differences(found, asked) if d.split(":")[0] not in _FREE]
    if differ:
        raise BadInput(f"{out}: holds a run with other settings ({'; '.join(differ)}); use another folder")


def train(
    data: Dataset,
    out: Path | str,
    networks: NetworkConfig | None = None,
    config: TrainingConfig | None = None,
    show: bool = True,
    device: str = "cpu",
    say: Callable[[str], Any] = lambda line: None,
    start: runs.Run | None = None,
) -> runs.Run:
    """Train one objective on a data set into a run folder; the same call again resumes or just loads it.

    Every step is a function of the networks and (seed, step), so a run that was killed and resumed has the
    same bits as one that was not, on the same device and thread count. ``say`` hears a line every
    ``config.watch_every`` steps about what the generator draws, and before, which weights a VAE has no use for.
    Processes that ``torchrun`` started share
    every batch; one of them writes. ``start`` gives the networks to begin with, those of another run of the same
    shapes (its optimisers' moments and step are left behind): to go on with other settings, or to learn other data.

    Raises:
        BadInput: the data set's lattice is not the networks', its training share is smaller than a batch, it
            has no Hamiltonian to augment by, the folder holds something else or a run with other settings, the
            disk is full (the last checkpoint is kept and named), the batch cannot be shared evenly, ``start`` has
            other networks, or the GPU has no bfloat16.
        FloatingPointError: a loss or gradient is not finite; the last checkpoint is kept and named.
        KeyboardInterrupt: after Ctrl-C, once the step in hand is in the checkpoint.
    """
    out = Path(out)
    config = config or TrainingConfig()
    networks = networks or NetworkConfig(size=data.size)
    if tuple(data.size) != networks.size:
        raise BadInput(
            f"{data.path}: its lattice is {data.size}, the networks' {networks.size}; set networks.size to it"
        )
    if start is not None and start.networks != networks:
        differ = runs.differences(start.networks.as_dict(), networks.as_dict())
        raise BadInput(f"{start.path}: its networks differ ({'; '.join(differ)}); ask for those, or start afresh")
    held_in, held_out = data.split(config.fraction)
    if len(held_in) < config.batch:
        raise BadInput(
            f"training.batch={config.batch}: the training share has {len(held_in)} textures; use a smaller batch"
        )
    if config.augment and data.hamiltonian is None:
        raise BadInput(
            f"training.augment=True: {data.path} has no Hamiltonian to take symmetries from; use training.augment=False"
        )
    for name in ("energy", "rest"):
        if getattr(config, name) and data.hamiltonian is None:
            weight = getattr(config, name)
            raise BadInput(f"training.{name}={weight}: {data.path} has no Hamiltonian; use training.{name}=0")
    runs.check_device(device, config.precision)
    if config.tensorboard and importlib.util.find_spec("tensorboard") is None:
        raise BadInput("training.tensorboard=True: it is not installed; pip install 'spinloom[tensorboard]'")
    with joined(device) as (crew, own):
        if config.batch % crew.world:
            raise BadInput(
                f"training.batch={config.batch}: {crew.world} processes cannot share it evenly; use a multiple of that"
            )
        if config.idle and crew.leads:
            say(f"a VAE is trained by Eq. (1) alone: {', '.join(config.idle)} of the settings do nothing to it")
        watch = Watch(out, held_out, networks.latent, config.seed) if crew.leads and config.watch_every else None
        return _train(data, held_in, out, networks, config, crew, own, watch, show and crew.leads, say, start)


def _train(
    data: Dataset,
    held_in: Dataset,
    out: Path,
    networks: NetworkConfig,
    config: TrainingConfig,
    crew: Crew,
    device: str,
    watch: Watch | None,
    show: bool,
    say: Callable[[str], Any],
    start: runs.Run | None,
) -> runs.Run:
    asked = _resolved(data, networks, config, start)
    if not crew.any(not _finished(out, asked, config.steps), device):
        return runs.load(out)
    with _held(out, crew):
        tensors, step = _there(out, asked, config.steps)
        if not crew.agree(step, device):  # and so all have read what is there before anything is written
            raise BadInput(
                f"{out}: its checkpoint is of step {step} here, but not for every process; use a shared folder"
            )
        if tensors and step == config.steps:
            if crew.leads:
                _finish_weights(out, networks, config, tensors, step)
            crew.meet()
            return runs.load(out)
        objective = objective_on(held_in, config)
        nets = runs.build_networks(networks, config.kept, config.seed)
        if start is not None:
            _begin_with(nets, start)
        for net in nets.values():
            synced(net, crew).to(device).train()
        optimisers = optimisers_of(nets, objective.players, config)
        if tensors:
            runs.restore(nets, tensors, out / runs.CHECKPOINT)
            runs.restore_optimisers(optimisers, tensors)
        if crew.leads:
            runs.write_config(out, asked)
        latent = networks.latent
        _go_on(held_in, out, nets, optimisers, objective, config, latent, step, crew, device, watch, show, say)
        crew.meet()
        return runs.load(out)


def _finished(out: Path, asked: dict[str, Any], steps: int) -> bool:
    """Whether the folder holds just what is asked for: then it is read, whoever else reads it."""
    if not runs.is_run(out):
        return False
    _check_same(out, asked)
    return runs.step_of(out / runs.CHECKPOINT) == runs.step_of(out / runs.WEIGHTS) == steps


@contextmanager
def _held(out: Path, crew: Crew) -> Iterator[None]:
    """The folder, made if need be, for this training alone; no process of the crew reads it before it is held."""
    if out.exists() and not out.is_dir():
        raise BadInput(f"{out}: exists and is not a run; use another folder")
    if not crew.leads:
        crew.meet()
        yield
        return
    out.mkdir(parents=True, exist_ok=True)
    with runs.locked(out):
        crew.meet()
        yield


def _there(out: Path, asked: dict[str, Any], steps: int) -> tuple[dict[str, Tensor], int]:
    """Tensors and step of the folder's checkpoint; none and 0 if there is none yet."""
    if not runs.is_run(out):
        if out.exists() and any(out.iterdir()):
            raise BadInput(f"{out}: exists and is not a run; use another folder")
        return {}, 0
    _check_same(out, asked)
    if not (out / runs.CHECKPOINT).exists():
        return {}, 0
    tensors, step = runs.read_tensors(out / runs.CHECKPOINT)
    if step > steps:
        raise BadInput(f"training.steps={steps}: {out} already has {step}; ask for at least as many")
    return tensors, step


def _begin_with(nets: Mapping[str, nn.Module], start: runs.Run) -> None:
    """Take over the weights of the players that ``start`` has; an average begins as its generator."""
    for player, net in nets.items():
        known = start.generator if player == "averaged" else start.nets.get(player)
        if known is not None:
            net.load_state_dict(known.state_dict())


LEVEL_FROM = 1000
"""Training textures whose energies set the level."""

LEAST_SCALE = 1e-3
"""Of energies in units of J, for data whose ε is next to nothing."""


def objective_on(data: Dataset, config: TrainingConfig) -> Objective:
    """The objective with what its Hamiltonian's losses refer to."""
    H = data.hamiltonian
    return config.losses(_level(data) if config.energy else None, Rest(H, config.rest_sweeps) if H else None)


def optimisers_of(
    nets: Mapping[str, nn.Module], players: tuple[str, ...], config: TrainingConfig
) -> dict[str, torch.optim.Adam]:
    """An Adam for every player's parameters."""
    return {
        player: torch.optim.Adam(net.parameters(), lr=config.rate_of(player), betas=config.momentum, fused=True)
        for player, net in nets.items()
        if player in players
    }


def _level(data: Dataset) -> EnergyLevel:
    H = data.hamiltonian
    assert H is not None
    density = H.energy_density(data[:LEVEL_FROM])
    excess = float(H.energy_excess(data[:LEVEL_FROM]).double().mean())
    return EnergyLevel(H, float(density.max()), max(abs(excess), LEAST_SCALE * H.J))


def _finish_weights(
    out: Path, networks: NetworkConfig, config: TrainingConfig, tensors: dict[str, Tensor], step: int
) -> None:
    """Write the weights of the last checkpoint if a kill came between the two files."""
    if runs.step_of(out / runs.WEIGHTS) == step:
        return
    nets = runs.build_networks(networks, config.kept, config.seed)
    runs.restore(nets, tensors, out / runs.CHECKPOINT)
    runs.write_weights(out, nets, step)


def _go_on(
    data: Dataset,
    out: Path,
    nets: dict[str, nn.Module],
    optimisers: dict[str, torch.optim.Adam],
    objective: Objective,
    config: TrainingConfig,
    latent: int,
    step: int,
    crew: Crew,
    device: str,
    watch: Watch | None,
    show: bool,
    say: Callable[[str], Any],
) -> None:
    """Steps ``step`` + 1 … ``config.steps``, with metrics and checkpoints."""
    metrics = _Metrics(out, step, config.tensorboard) if crew.leads else None
    seen = "averaged" if config.average else "generator"
    if watch is not None:
        watch.resume(step)
        if step and step % config.watch_every == 0 and not watch.has(step):  # killed between checkpoint and look
            say(watch.look(step, nets[seen]))
    batches = data.batches(config.batch, seed=config.seed, start=step, augment=config.augment)
    with (
        for_networks(),
        deferred_interrupt() as caught,
        metrics or nullcontext(),
        progress(f"training {config.objective}", config.steps, "steps", show) as advance,
        ahead(shares(batches, crew, device)) as coming,
    ):
        advance(step)
        while step < config.steps and not crew.any(bool(caught), device):
            spins = next(coming).to(device, non_blocking=True)
            try:
                losses = take_step(nets, optimisers, objective, config, spins, latent, step, crew)
            except FloatingPointError as error:
                good = _kept(out)
                raise FloatingPointError(f"step {step + 1}: {error}; {good}; try a smaller rate or gamma") from error
            step += 1
            advance(1)
            if metrics is None:
                continue
            with _named(out, step):
                if step % config.log_every == 0 or step == config.steps:
                    metrics.write(step, losses)
                if step % config.checkpoint_every == 0:
                    runs.write_checkpoint(out, nets, optimisers, step)
            if watch is not None and step % config.watch_every == 0:
                say(watch.look(step, nets[seen]))
                metrics.show(step, watch)
        files = (out / runs.CHECKPOINT, out / runs.WEIGHTS)  # a kill may have come between the two
        if metrics is not None and any(runs.step_of(file) != step for file in files):
            with _named(out, step):
                runs.write_checkpoint(out, nets, optimisers, step)
        if step < config.steps:
            raise KeyboardInterrupt(f"stopped at step {step} of {config.steps}; the same command goes on from there")


def shares(batches: Iterator[Tensor], crew: Crew, device: str) -> Iterator[Tensor]:
    """This process's part of every batch, for a GPU in memory that it fetches from by itself."""
    pinned = torch.device(device).type == "cuda"
    for batch in batches:
        own = crew.share(batch)
        yield own.pin_memory() if pinned else own


def _kept(out: Path) -> str:
    step = runs.step_of(out / runs.CHECKPOINT)
    if step is None:
        return "there is no checkpoint yet"
    return f"the checkpoint of step {step}, {out / runs.CHECKPOINT}, is good"


@contextmanager
def _named(out: Path, step: int) -> Iterator[None]:
    """What goes wrong in writing is told with the checkpoint that is still good."""
    try:
        yield
    except (BadInput, OSError) as error:
        why = str(error) if isinstance(error, BadInput) else error.strerror or str(error)
        raise BadInput(f"step {step}: {why}; {_kept(out)}, the same call goes on from it") from error


class _Metrics:
    """The lines of metrics.jsonl: those up to ``step`` are kept, others follow; and the same for TensorBoard."""

    def __init__(self, out: Path, step: int, board: bool) -> None:
        kept = [line for line in runs.read_metrics(out) if line["step"] <= step]
        write_lines(out / runs.METRICS, kept)
        self._before = kept[-1]["seconds"] if kept else 0.0
        self._began = time.monotonic()
        self._file = (out / runs.METRICS).open("a")
        self._board: Any = None
        if board:
            from torch.utils.tensorboard import SummaryWriter

            self._board = SummaryWriter(str(out / "tensorboard"), purge_step=step + 1)

    def __enter__(self) -> _Metrics:
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):  # the disk is full, and somebody has been told
            self._file.close()
            if self._board:
                self._board.close()

    def write(self, step: int, losses: Mapping[str, Tensor]) -> None:
        values = {name: round(float(value), 6) for name, value in losses.items()}
        spent = round(self._before + time.monotonic() - self._began, 3)
        self._file.write(json.dumps({"step": step, "seconds": spent, **values}) + "\n")
        self._file.flush()
        if self._board:
            for name, value in values.items():
                self._board.add_scalar(f"training/{name}", value, step)

    def show(self, step: int, watch: Watch) -> None:
        """What a look has found, on the board alone: ``watch.jsonl`` has it."""
        if not self._board or not watch.has(step):
            return
        for name, value in watch.lines[-1].items():
            number = value["mean"] if isinstance(value, Mapping) else value
            if name != "step" and isinstance(number, (int, float)):
                self._board.add_scalar(f"prior samples/{name}", number, step)
        if watch.picture is not None:
            self._board.add_figure("prior samples", watch.picture, step)
