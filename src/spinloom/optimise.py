"""The loop of a search: a method asks for codes, a judge says what they are worth, a tape keeps what was said."""

from __future__ import annotations

import time
import zlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from spinloom.anneal import relax as align
from spinloom.errors import BadInput, whole
from spinloom.files import write_bytes
from spinloom.goals import Goal
from spinloom.hamiltonian import Hamiltonian
from spinloom.progress import progress
from spinloom.sample import CHUNK, Decode, prior_latents
from spinloom.search_methods import Cells, Method, covariance, genetic, genetic_with_head_start, gradient
from spinloom.topology import nodal_points
from spinloom.typing import Latents, Spins

SAVED_EVERY = 5.0
"""Seconds between two writings of a search's state."""

SPREAD_CODES = 64
"""Codes of the prior by which a goal's natural spread is known."""

ALIKE = 1e-6
"""Of the largest value: values of a goal that differ by less differ by rounding."""

STEP = 1.1
"""What a nodal point costs at least, in steps of the goal: more than the one step that it may come with."""


@dataclass(frozen=True)
class SearchConfig:
    """How latent space is searched; None takes the method's own.

    Attributes:
        method: ``ga``, a genetic algorithm (the paper's way); ``cma``, CMA-ES; ``gradient``, Adam through the decoder
            from many starts; ``nsga2``, for several goals.
        population: codes a generation: 64, for ``cma`` 12, for ``gradient`` 16.
        generations: 60; for ``cma`` and ``gradient`` as many as give as many decoder calls; twice as many for codes of
            more than :data:`SHORT` numbers.
        head_start: steps of Adam that an eighth of the genetic algorithm's first population takes before, where
            the goal has a gradient; 0 is the paper's way.
        inner_relax: alignment sweeps before a decoded texture is judged, four of over-relaxation before each, from a
            small kick: what is extreme only on its way down, or where nothing pushes it, must not win.
        relax: alignment sweeps of the answer.
        nodal_weight: what a nodal point costs, in standard deviations of the objective over the prior
            (:func:`spread_of`).
        norm_weight: what it costs to be one standard deviation of the prior's ‖z‖ off √n, in the same unit over 2;
            it grows with the square.
        bound: codes stay in [−bound, bound]ⁿ.
        seed: of the first codes and the method's random numbers.

    Raises:
        BadInput: a value outside its range.
    """

    method: Literal["ga", "cma", "gradient", "nsga2"] = "ga"
    population: int | None = None
    generations: int | None = None
    head_start: int | None = None
    inner_relax: int | None = None
    relax: int | None = None
    nodal_weight: float | int = 1.0
    norm_weight: float | int = 1.0
    bound: float | int = 4.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise BadInput(f"method={self.method!r}: unknown; use {', '.join(METHODS)}")
        for name, least in (("population", 4), ("generations", 1), ("head_start", 0), ("inner_relax", 0), ("relax", 0)):
            if getattr(self, name) is None:
                continue
            value = whole(name, getattr(self, name))
            object.__setattr__(self, name, value)
            if value < least:
                raise BadInput(f"{name}={value}: must be {least} or more")
        for name in ("nodal_weight", "norm_weight"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise BadInput(f"{name}={getattr(self, name)}: a weight is finite and not negative; use 0 for none")
        if not 0 < self.bound < float("inf"):
            raise BadInput(f"bound={self.bound}: must be positive and finite; the prior hardly leaves 4")
        object.__setattr__(self, "seed", whole("seed", self.seed))
        if not 0 <= self.seed < 2**64:
            raise BadInput(f"seed={self.seed}: use a whole number from 0 to 2⁶⁴ − 1")


METHODS = {"ga": (64, 60), "cma": (12, 320), "gradient": (16, 80), "nsga2": (64, 60)}
"""Population and generations of each."""

SHORT = 128
"""Numbers of a code from which on a search takes twice as long."""

HEAD_START, AHEAD = 120, 8
"""Steps of the head start, and one in how many codes gets it."""

INNER_SWEEPS, SWEEPS = 20, 2000
"""Of alignment, inside a search and of its answer."""

OVER_RELAX = 4
"""Sweeps of over-relaxation before each alignment sweep inside a search."""


KICK = 0.2
"""Noise of a component, before a texture is judged by anything but energy. Uniform spins are at rest and would win, but
fall to M_z < 0.05 from it in 20 such sweeps; annealed textures come back to 10⁻⁵ J (128², D = 0.3 J) or 4 · 10⁻⁵ J
(32², 0.6 J)."""


def resolved(
    config: SearchConfig, wanted: tuple[Goal, ...], decode: Decode, latent: int, H: Hamiltonian | None
) -> SearchConfig:
    """The config with all of the method's own values filled in.

    Raises:
        BadInput: a method that does not go with the goals; sweeps without a Hamiltonian.
    """
    name = wanted[0].name
    if len(wanted) > 1 and config.method != "nsga2":
        raise BadInput(f"method={config.method!r}: takes one objective, {len(wanted)} were given; use 'nsga2'")
    if len(wanted) == 1 and config.method == "nsga2":
        raise BadInput(f"method='nsga2': takes several objectives, one was given, {name}; use 'ga'")
    for what in ("relax", "inner_relax"):
        if getattr(config, what) and H is None:
            raise BadInput(f"{what}={getattr(config, what)}: the Hamiltonian is not known; give H, or use {what}=0")
    smooth = len(wanted) == 1 and has_gradient(wanted[0], decode, latent)
    if config.method == "gradient" and not smooth:
        raise BadInput(f"method='gradient': {name} has no gradient; use 'ga' or 'cma'")
    if config.head_start and (config.method != "ga" or not smooth):
        raise BadInput(f"head_start={config.head_start}: is for method 'ga' and a goal with a gradient; leave it out")
    as_decoded = H is None or any(goal.defects for goal in wanted)
    population, generations = METHODS[config.method]
    generations *= 2 if latent > SHORT else 1
    defaults = {
        "population": population,
        "generations": generations,
        "head_start": HEAD_START if config.method == "ga" and smooth else 0,
        "inner_relax": 0 if as_decoded else INNER_SWEEPS,
        "relax": 0 if as_decoded else SWEEPS,
    }
    return replace(config, **{key: value for key, value in defaults.items() if getattr(config, key) is None})


def has_gradient(goal: Goal, decode: Decode, latent: int) -> bool:
    """Whether autograd finds the goal's gradient in z: known for goals with a name, tried for callables."""
    with torch.enable_grad():
        try:
            spins = decode(prior_latents(0, 2, latent).requires_grad_())
            if goal.smooth is not None:
                return goal.smooth and spins.requires_grad
            return goal(spins).requires_grad
        except (RuntimeError, TypeError):  # as NumPy's functions say of such a tensor
            return False


class Tape:
    """What a method was told, generation by generation, and the file that keeps it.

    Told the same again, a method asks for the same codes (:mod:`spinloom.search_methods`); a check sum of the codes
    beside the values shows whether it does, since another version of a library may not.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self.tensors: dict[str, Tensor] = {}
        self._saved = time.monotonic()
        if path is not None and path.exists():
            from safetensors import SafetensorError
            from safetensors.torch import load

            try:
                self.tensors = load(path.read_bytes())
            except (OSError, SafetensorError) as error:
                raise BadInput(f"{path}: cannot be read ({error}); delete it to search anew") from error

    def told(self, generation: int, codes: np.ndarray) -> tuple[np.ndarray, np.ndarray | None] | None:
        """What came of this generation's codes before, if it did.

        Raises:
            BadInput: other codes were asked for then.
        """
        key = f"{generation:06d}"
        if f"values/{key}" not in self.tensors:
            return None
        if int(self.tensors[f"codes/{key}"]) != zlib.crc32(np.ascontiguousarray(codes).tobytes()):
            raise BadInput(f"{self.path}: was made with other versions of the libraries; delete it to search anew")
        slopes = self.tensors.get(f"slopes/{key}")
        return self.tensors[f"values/{key}"].numpy(), None if slopes is None else slopes.numpy()

    def keep(self, generation: int, codes: np.ndarray, values: np.ndarray, slopes: np.ndarray | None) -> None:
        """Note a generation, and write all to the file now and then."""
        if self.path is None:
            return
        key = f"{generation:06d}"
        self.tensors[f"codes/{key}"] = torch.tensor(zlib.crc32(np.ascontiguousarray(codes).tobytes()))
        self.tensors[f"values/{key}"] = torch.from_numpy(values)
        if slopes is not None:
            self.tensors[f"slopes/{key}"] = torch.from_numpy(slopes)
        if time.monotonic() - self._saved > SAVED_EVERY:
            self.write()

    def write(self) -> None:
        """Write everything to the file, if there is one."""
        if self.path is not None and self.tensors:
            from safetensors.torch import save

            write_bytes(self.path, save(self.tensors))
            self._saved = time.monotonic()


@dataclass(frozen=True)
class Judge:
    """What codes are worth: the goals of their textures, and penalties; all to be minimised."""

    decode: Decode
    goals: tuple[Goal, ...]
    config: SearchConfig
    H: Hamiltonian | None
    spread: Tensor

    def __call__(self, codes: np.ndarray, want_slopes: bool) -> tuple[np.ndarray, np.ndarray | None]:
        """Values (p, k) and, if wanted, the slope (p, n) of the first goal in z, before any sweeps."""
        values, slopes = [], []
        for z in torch.from_numpy(codes).float().split(CHUNK):
            if want_slopes:
                with torch.enable_grad():
                    z = z.requires_grad_()
                    spins = self.decode(z)
                    total = self.goals[0](spins).sum().cpu() + (self.spread[0] * self.of_norm(z)).sum()
                    slopes.append(torch.autograd.grad(total, z)[0].double())
                spins, z = spins.detach(), z.detach()
            else:
                with torch.no_grad():
                    spins = self.decode(z)
            values.append(self.of_spins(spins, self.config.inner_relax or 0) + self.of_norm(z)[:, None] * self.spread)
        return torch.cat(values).numpy(), torch.cat(slopes).numpy() if slopes else None

    def of_spins(self, spins: Spins, sweeps: int) -> Tensor:
        """The goals and the cost of nodal points (n, k) after so many sweeps."""
        if sweeps:
            assert self.H is not None
            if not all(goal.name.endswith("-energy") for goal in self.goals):
                spins = kicked(spins)
            spins = align(spins, self.H, sweeps, over_relax=OVER_RELAX)
        with torch.no_grad():
            values = torch.stack([goal(spins).double().cpu() for goal in self.goals], 1)
        if self.config.nodal_weight and not any(goal.defects for goal in self.goals):
            values = values + self.config.nodal_weight * nodal_points(spins).double().cpu()[:, None] * self.spread
        return values

    def of_norm(self, z: Latents) -> Tensor:
        r"""The cost of the norm (n,) in spreads: ½w(‖z‖ − √n)²/(½), as ‖z‖ has a variance of ½ under the prior."""
        return self.config.norm_weight * (z.double().norm(dim=1) - z.shape[1] ** 0.5).square()


def kicked(spins: Spins) -> Spins:
    """Textures (n, 3, H, W) with white noise of strength :data:`KICK`, the same for all, on them."""
    noise = torch.randn(spins.shape[1:], generator=torch.Generator().manual_seed(0))
    return torch.nn.functional.normalize(spins + KICK * noise.to(spins), dim=1)


Pool = tuple[np.ndarray, np.ndarray]
"""All codes (N, n) that were judged, and their values (N, k)."""


def optimise(
    decode: Decode,
    wanted: tuple[Goal, ...],
    config: SearchConfig,
    latent: int,
    H: Hamiltonian | None,
    tape: Tape,
    show: bool = False,
    cells: Cells | None = None,
) -> tuple[Pool, dict[str, np.ndarray]]:
    """Run a method to its end, going on from the tape; all codes with their values, and the history.

    ``config`` is a :func:`resolved` one; ``cells`` are the code's, where it is a grid.
    """
    judge = judge_of(decode, wanted, config, latent, H)
    method = _method(config, latent, len(wanted), cells)
    codes: list[np.ndarray] = []
    values: list[np.ndarray] = []
    asked, want_slopes = next(method)
    total = (config.generations or 0) + (config.head_start or 0)
    try:
        with progress(
            f"searching for {', '.join(goal.name for goal in wanted)}", total, "generations", show
        ) as advance:
            while True:
                told = tape.told(len(codes), asked)
                if told is None:
                    told = judge(asked, want_slopes)
                    tape.keep(len(codes), asked, *told)
                codes.append(asked)
                values.append(told[0])
                advance(1)
                try:
                    asked, want_slopes = method.send(told)
                except StopIteration:
                    break
    finally:
        tape.write()
    signs = np.array([goal.sign for goal in wanted])
    best = np.minimum.accumulate(np.stack([each.min(0) for each in values])) * signs
    mean = np.stack([each.mean(0) for each in values]) * signs
    one = len(wanted) == 1
    history = {
        "evaluations": np.cumsum([len(each) for each in codes]),
        "best": best[:, 0] if one else best,
        "mean": mean[:, 0] if one else mean,
    }
    return (np.concatenate(codes), np.concatenate(values)), history


def judge_of(
    decode: Decode, wanted: tuple[Goal, ...], config: SearchConfig, latent: int, H: Hamiltonian | None
) -> Judge:
    """The judge of a search, with the goals' spread over codes of the prior."""
    bare = Judge(decode, wanted, replace(config, nodal_weight=0, norm_weight=0), H, torch.zeros(len(wanted)))
    values, _ = bare(prior_latents(config.seed, SPREAD_CODES, latent).double().numpy(), False)
    return replace(bare, config=config, spread=torch.from_numpy(spread_of(values)))


def spread_of(values: np.ndarray) -> np.ndarray:
    """The units (k,) of the penalties of k goals: the standard deviation of values (n, k) over the prior.

    None is less than :data:`STEP` times the smallest step between two values: a goal that counts, or asks whether,
    moves in whole steps, however seldom it does so in the prior. Where all values are one, a step is not known; its
    place takes their size or 1, the larger, as too dear a nodal point is better than one that costs nothing.
    """
    size = np.abs(values).max(0)
    steps = np.diff(np.sort(values, 0), axis=0)
    least = np.where(steps > ALIKE * size, steps, np.inf).min(0)
    return np.maximum(values.std(0), STEP * np.where(np.isfinite(least), least, np.maximum(size, 1.0)))


def _method(config: SearchConfig, latent: int, goals: int, cells: Cells | None) -> Method:
    population, generations = config.population or 0, config.generations or 0
    # CMA-ES starts at the best of the prior, whatever its population
    count = METHODS["ga"][0] if config.method == "cma" else population
    start = prior_latents(config.seed, count, latent).double().numpy().clip(-config.bound, config.bound)
    if config.method == "gradient":
        return gradient(start, config.bound, generations)
    if config.method == "cma":
        return covariance(start, config.bound, config.seed, population, generations)
    if config.head_start:
        return genetic_with_head_start(
            start, max(1, population // AHEAD), config.head_start, config.bound, config.seed, generations, cells
        )
    return genetic(start, config.bound, config.seed, goals, generations, cells)
