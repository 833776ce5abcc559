"""The run folder: resolved config, metrics, checkpoint and weights of one training, and how to get them back.

Layout: ``config.json`` (what was asked, versions), ``metrics.jsonl`` (a line of losses every few steps),
``checkpoint.safetensors`` (networks and optimisers, to resume), ``weights.safetensors`` (networks alone, to
load).
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load as load_tensors
from safetensors.torch import save
from torch import Tensor, nn

from spinloom.errors import BadInput
from spinloom.files import read_json, read_lines, write_bytes, write_json
from spinloom.hamiltonian import Hamiltonian
from spinloom.networks import Discriminator, Encoder, Generator, NetworkConfig

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

FORMAT = 1
CONFIG, METRICS, CHECKPOINT, WEIGHTS = (
    "config.json",
    "metrics.jsonl",
    "checkpoint.safetensors",
    "weights.safetensors",
)


NEEDED = frozenset(("networks", "training", "objective", "data"))
"""What every run's config holds."""

MODELS = Path(__file__).with_name("models")
"""Runs that come with the package: config, weights in half precision and a card, a folder each."""


def versions() -> dict[str, str]:
    """Versions of what the numbers depend on."""
    import numba
    import numpy as np

    from spinloom.version import __version__

    return {
        "spinloom": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "numba": numba.__version__,
    }


def build_networks(config: NetworkConfig, players: tuple[str, ...], seed: int) -> dict[str, nn.Module]:
    """The players' networks with weights drawn from ``seed``, the same for a player whatever the others."""
    makers = {"discriminator": Discriminator, "encoder": Encoder, "generator": Generator, "averaged": Generator}
    nets = {}
    with torch.random.fork_rng(devices=[]):
        for player in players:
            torch.manual_seed(seed)
            nets[player] = makers[player](config)
    return nets


@dataclass(frozen=True)
class Run:
    """A trained (or half-trained) set of networks in eval mode.

    Attributes:
        path: its folder.
        step: training steps behind the weights.
        config: the resolved config, as in ``config.json``.
        networks: the networks' shapes.
        hamiltonian: the model its data were annealed with, or None if unknown.
        nets: the networks by player.
        weights: SHA-256 of the file that they were loaded from; "" for networks of another origin.

    Raises:
        BadInput: by :attr:`generator`, :attr:`discriminator`, :attr:`encoder`, a network that the objective has not.
    """

    path: Path
    step: int
    config: dict[str, Any]
    networks: NetworkConfig
    hamiltonian: Hamiltonian | None
    nets: Mapping[str, nn.Module]
    weights: str = ""

    def __repr__(self) -> str:
        height, width = self.size
        return f"Run({str(self.path)!r}: {self.objective}, step {self.step}, {height} × {width})"

    @property
    def objective(self) -> str:
        return self.config["objective"]

    @property
    def size(self) -> tuple[int, int]:
        return self.networks.size

    def _player(self, name: str) -> nn.Module:
        if name not in self.nets:
            has = ", ".join(self.nets)
            raise BadInput(f"{self.path}: a {self.objective} run has no {name} (it has {has}); use a run that has one")
        return self.nets[name]

    @property
    def generator(self) -> nn.Module:
        """z (n, latent) → spins (n, 3, H, W); the averaged generator where the training kept one."""
        return self._player("averaged" if "averaged" in self.nets else "generator")

    @property
    def discriminator(self) -> nn.Module:
        """Spins → logits (n,); positive means real.

        Raises:
            BadInput: the run is a VAE.
        """
        return self._player("discriminator")

    @property
    def encoder(self) -> nn.Module:
        """Spins → (mu, logvar), each (n, latent).

        Raises:
            BadInput: the run is a GAN.
        """
        return self._player("encoder")

    def decode(self, z: Tensor) -> Tensor:
        """G(z) (n, 3, H, W), where the generator is; the codes (n, latent) may be elsewhere. Differentiable."""
        generator = self.generator
        return generator(z.to(next(generator.parameters()).device))


def digest(run: Run) -> str:
    """SHA-256 of the file the run's weights came from, as it was when they were loaded.

    Raises:
        BadInput: they were not loaded from a file, and the run's folder has none.
    """
    if run.weights:
        return run.weights
    try:
        return hashlib.sha256((run.path / WEIGHTS).read_bytes()).hexdigest()
    except OSError as error:
        raise BadInput(f"{run.path / WEIGHTS}: cannot be read ({error.strerror or error}); give another run") from error


def untrained(run: Run, seed: int) -> Run:
    """The run as it was before its first step, for comparison."""
    nets = build_networks(run.networks, tuple(run.nets), seed)
    for net in nets.values():
        net.eval().requires_grad_(False)
    return replace(run, nets=nets, step=0, weights="")


def differences(old: Any, new: Any, where: str = "") -> list[str]:
    """What differs between two nested settings, a line "name old there, new asked" each."""
    if isinstance(old, dict) and isinstance(new, dict):
        names = sorted(old.keys() | new.keys())
        return [d for name in names for d in differences(old.get(name), new.get(name), f"{where}.{name}")]
    return [] if old == new else [f"{where[1:]}: {old} there, {new} asked"]


def completed(found: Any, defaults: Mapping[str, Any]) -> Any:
    """Nested settings with those filled in that came with a later version: they have had their defaults."""
    if not isinstance(found, Mapping):
        return found
    more = {
        name: completed(found[name], value)
        for name, value in defaults.items()
        if isinstance(value, Mapping) and name in found
    }
    return {**defaults, **found, **more}


def network_tensors(nets: Mapping[str, nn.Module]) -> dict[str, Tensor]:
    """Every parameter and buffer as "player/name", contiguous."""
    return {
        f"{player}/{name}": tensor.detach().cpu().contiguous()
        for player, net in nets.items()
        for name, tensor in net.state_dict().items()
    }


def write_weights(folder: Path, nets: Mapping[str, nn.Module], step: int) -> None:
    """Write ``weights.safetensors``: networks alone, the step in its metadata."""
    write_bytes(folder / WEIGHTS, save(network_tensors(nets), {"step": str(step)}))


def write_checkpoint(
    folder: Path, nets: Mapping[str, nn.Module], optimisers: Mapping[str, torch.optim.Optimizer], step: int
) -> None:
    """Write ``checkpoint.safetensors`` (all that a resumed training needs), then ``weights.safetensors``.

    With Adam's β₁ = 0 the first moment is the last gradient, which the next step does not look at: it is left out.
    """
    tensors = network_tensors(nets)
    for player, optimiser in optimisers.items():
        forgets = optimiser.param_groups[0].get("betas", (1, 1))[0] == 0
        for number, state in optimiser.state_dict()["state"].items():
            for name, value in state.items():
                if forgets and name == "exp_avg":
                    continue
                tensors[f"optimiser/{player}/{number}/{name}"] = value.detach().cpu().contiguous()
    write_bytes(folder / CHECKPOINT, save(tensors, {"step": str(step)}))
    write_weights(folder, nets, step)


def read_tensors(path: Path) -> tuple[dict[str, Tensor], int]:
    """Tensors and step of a checkpoint or weights file.

    Raises:
        BadInput: the file is missing, truncated or not one of ours.
    """
    with _told(path), safe_open(path, framework="pt") as handle:
        step = int((handle.metadata() or {})["step"])
        return {name: handle.get_tensor(name) for name in handle.keys()}, step  # noqa: SIM118


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """What goes wrong in reading a file of tensors is told with its name."""
    try:
        yield
    except OSError as error:
        raise BadInput(f"{path}: cannot be read ({error.strerror or error}); train the run again") from error
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise BadInput(f"{path}: is damaged ({error}); delete it and train again") from error


def _read_weights(path: Path) -> tuple[dict[str, Tensor], int, str]:
    """Tensors and step of a weights file, and its SHA-256: of the same bytes, while a training may replace the file.

    Raises:
        BadInput: the file is missing, truncated or not one of ours.
    """
    with _told(path):
        content = path.read_bytes()
        length = int.from_bytes(content[:8], "little")
        step = int(json.loads(content[8 : 8 + length])["__metadata__"]["step"])
        return load_tensors(content), step, hashlib.sha256(content).hexdigest()


def step_of(path: Path) -> int | None:
    """The step of a checkpoint or weights file, from its header; None if there is no good one."""
    try:
        with safe_open(path, framework="pt") as handle:
            return int((handle.metadata() or {})["step"])
    except (OSError, SafetensorError, KeyError, ValueError):
        return None


def restore(nets: Mapping[str, nn.Module], tensors: Mapping[str, Tensor], path: Path) -> None:
    """Load "player/name" tensors into the networks.

    Raises:
        BadInput: names or shapes do not fit the networks.
    """
    for player, net in nets.items():
        own = {name.removeprefix(f"{player}/"): t for name, t in tensors.items() if name.startswith(f"{player}/")}
        try:
            net.load_state_dict(own)
        except RuntimeError as error:
            reason = str(error).splitlines()[-1].strip()
            raise BadInput(f"{path}: does not fit the {player} in {CONFIG} ({reason}); train again") from error


def restore_optimisers(optimisers: Mapping[str, torch.optim.Optimizer], tensors: Mapping[str, Tensor]) -> None:
    """Load the moments that :func:`write_checkpoint` kept."""
    for player, optimiser in optimisers.items():
        state: dict[int, dict[str, Tensor]] = {}
        prefix = f"optimiser/{player}/"
        for name, tensor in tensors.items():
            if name.startswith(prefix):
                number, field = name.removeprefix(prefix).split("/")
                state.setdefault(int(number), {})[field] = tensor
        for moments in state.values():
            if "exp_avg_sq" in moments:
                moments.setdefault("exp_avg", torch.zeros_like(moments["exp_avg_sq"]))
        optimiser.load_state_dict({"state": state, "param_groups": optimiser.state_dict()["param_groups"]})


def is_run(folder: Path | str) -> bool:
    """Whether a folder holds a run's config."""
    return (Path(folder) / CONFIG).is_file()


def read_config(folder: Path) -> dict[str, Any]:
    """The run's ``config.json``.

    Raises:
        BadInput: the folder is no run, or a newer format.
    """
    if not folder.exists():
        known = "".join(f", or use {name}, which comes with the package" for name in shipped())
        raise BadInput(f"{folder}: no such folder; train one with `spinloom train DATA {folder}`{known}")
    if not is_run(folder):
        files = [*folder.glob(f"*/{CONFIG}"), *folder.glob(f"*/*/{CONFIG}")]
        inside = sorted(str(file.parent) for file in files if file.parent.name != "untrained")
        if inside:
            raise BadInput(f"{folder}: is not a run but holds some; use {' or '.join(inside[:4])}")
        raise BadInput(f"{folder}: is not a run (no {CONFIG}); give a folder that `spinloom train` made")
    config = read_json(folder / CONFIG)
    if not isinstance(config, dict) or not config.keys() >= NEEDED:
        raise BadInput(f"{folder / CONFIG}: is not a run's config; give a folder that `spinloom train` made")
    if config.get("format") != FORMAT:
        raise BadInput(
            f"{folder / CONFIG}: format={config.get('format')}, this version reads {FORMAT}; update spinloom"
        )
    return config


def write_config(folder: Path, config: Mapping[str, Any]) -> None:
    """Write ``config.json``, making the folder; the versions of all calls that trained are kept, in order."""
    folder.mkdir(parents=True, exist_ok=True)
    history = read_config(folder).get("versions", []) if is_run(folder) else []
    if versions() not in history:
        history = [*history, versions()]
    write_json(folder / CONFIG, {"format": FORMAT, **config, "versions": history})


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep a second process from training into the same folder at the same time (where the system can lock).

    Raises:
        BadInput: another process holds the folder.
    """
    if fcntl is None:
        yield
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(handle)
        raise BadInput(f"{folder}: another process is training there; wait for it or use another folder") from error
    except OSError:
        pass  # a file system without locks
    try:
        yield
    finally:
        os.close(handle)  # this, or dying, lets go


def shipped() -> list[str]:
    """The names of the models that come with the package."""
    return sorted(folder.parent.name for folder in MODELS.glob(f"*/{CONFIG}"))


def place_of(path: Path | str) -> Path:
    """A run's folder; of this name in the package if there is none here."""
    folder = Path(path)
    if not folder.exists() and str(path) in shipped():
        return MODELS / str(path)
    return folder


def check_device(device: str, precision: str = "float32") -> None:
    """Refuse a device that networks cannot be on, or whose layers cannot have this precision.

    Raises:
        BadInput: it is neither cpu nor cuda, there is no such GPU, or it has no bfloat16.
    """
    try:
        kind = torch.device(device).type
    except RuntimeError as error:
        raise BadInput(f"device={device!r}: unknown; use cpu or cuda") from error
    if kind not in ("cpu", "cuda"):
        raise BadInput(f"device={device!r}: unknown; use cpu or cuda")
    if kind == "cuda" and not torch.cuda.is_available():
        raise BadInput(f"device={device!r}: this torch sees no CUDA GPU; use cpu or install a CUDA build of torch")
    if kind == "cuda" and precision == "bfloat16" and not torch.cuda.is_bf16_supported():
        raise BadInput(f"precision={precision!r}: this GPU does not know it; use float32")


def load(path: Path | str, device: str = "cpu") -> Run:
    """A run's networks, in eval mode, with their settings; ``path`` is a folder, or a name in :data:`MODELS`.

    Raises:
        BadInput: the folder is missing, is no run, its weights are missing or damaged, or there is no GPU.
    """
    from spinloom.objectives import OBJECTIVES

    check_device(device)
    folder = place_of(path)
    config = read_config(folder)
    try:
        networks = NetworkConfig(**{**config["networks"], "size": tuple(config["networks"]["size"])})
        players = OBJECTIVES[config["objective"]]().players
        model = Hamiltonian(**config["data"]["hamiltonian"]) if config["data"]["hamiltonian"] else None
        averaged = bool(config["training"].get("average")) and not config.get("packed")
    except (TypeError, KeyError, AttributeError) as error:
        raise BadInput(f"{folder / CONFIG}: has settings this version does not know ({error}); train again") from error
    nets = build_networks(networks, (*players, "averaged") if averaged else players, seed=0)
    tensors, step, weights = _read_weights(folder / WEIGHTS)
    restore(nets, tensors, folder / WEIGHTS)
    for net in nets.values():
        net.eval().requires_grad_(False).to(device)
    stages = config.get("stages") or [{"step": step}]  # of a packed model: runs that went on from one another
    return Run(folder, sum(stage["step"] for stage in stages), config, networks, model, nets, weights)


def read_metrics(folder: Path | str) -> list[dict[str, Any]]:
    """The lines of a run's ``metrics.jsonl``; a last line cut short by a kill is left out."""
    return read_lines(Path(folder) / METRICS)
