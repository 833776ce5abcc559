"""Textures by simulated annealing, on all cores or a GPU: :func:`anneal` and, at T = 0, :func:`relax`."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from torch import Tensor

from spinloom.errors import BadInput
from spinloom.hamiltonian import Hamiltonian, as_size, as_spins
from spinloom.magnetisation import check_full
from spinloom.progress import progress
from spinloom.random import EXTRA
from spinloom.schedule import DEFAULT_SCHEDULE, Schedule, Step
from spinloom.sweep_cuda import Card, anneal_on, card
from spinloom.sweep_numba import Program

COUPLINGS = 1e6
"""Largest |D|/J, |B|/J, |K|/J in float32 sweeps: beyond, the exchange drowns in rounding."""

TEMPERATURES = (1e-9, 1e9)
"""Range of T/J in float32 sweeps."""

COLD = 1e-6
"""T/J that over-relaxation is given, which asks for one, where nothing else depends on it."""

CHECKED_AT_ONCE = 2**20
"""Sites of a start whose lengths are looked at together."""


def anneal(
    H: Hamiltonian,
    size: int | tuple[int, int] | None = None,
    samples: int | None = None,
    seed: int = 0,
    start: Any = None,
    schedule: Schedule = DEFAULT_SCHEDULE,
    first: int = 0,
    threads: int | None = None,
    device: str | torch.device = "cpu",
    show: bool = False,
) -> Tensor:
    """Spin textures (samples, 3, H, W), float32, after ``schedule``, from random or from given spins.

    Texture k of the answer has index ``first`` + k. Its bits depend on (seed, index, H, size, schedule), the kind of
    ``device`` and, if given, its start alone: not on the batch, the number of threads or the width of the machine's
    registers. ``device`` "cpu" or "cuda" does the sweeps and holds the answer; on both the random numbers are the
    same, and the arithmetic is to rounding (see docs/gpu.md).
    ``start`` (n, 3, H, W) goes on from n textures, (3, H, W) or n = 1 from ``samples`` copies of one. Give
    another ``seed`` than the run that made it, or the same random numbers come again.

    Raises:
        BadInput: a side is odd or under 4; a count, the seed, the start or the schedule is out of range; a device
            that is not there, or the textures do not fit on it.
    """
    H, schedule = _checked(H, schedule)
    spins = None if start is None else _checked_start(start)
    if spins is None:
        if size is None:
            raise BadInput("size=None: the lattice is unknown; give e.g. size=128, or start spins")
        sides = as_size(size)
    else:
        sides = (spins.shape[-2], spins.shape[-1])
        if size is not None and as_size(size) != sides:
            raise BadInput(f"size={size}: the start is {sides[0]} × {sides[1]}; leave size out")
    if sides[0] * sides[1] > EXTRA:
        raise BadInput(f"size={sides}: over 2³¹ sites; the random counter ends there, use fewer")
    many = _count(samples, spins)
    for name, value, end in (("seed", seed, 2**64), ("first", first, 2**64 - many)):
        if not isinstance(value, (int, np.integer)) or isinstance(value, bool) or not 0 <= value < end:
            raise BadInput(f"{name}={value}: must be a whole number from 0 to {end - 1}; use e.g. {name}=0")
    workers = _threads(threads, many)
    gpu = None if str(device) == "cpu" else card(device)

    program = Program(H, schedule)
    if gpu is not None:
        with progress("annealing", many, "textures", show) as advance:
            return anneal_on(gpu, program, sides, many, int(seed), int(first), spins, advance)
    try:
        out = torch.empty(many, 3, *sides)
    except RuntimeError as error:  # torch's word for a refused allocation
        need = f"{many * 12 * sides[0] * sides[1] / 2**30:.3g} GiB"
        raise BadInput(f"samples={many}: {need} of textures do not fit into memory; use simulate, or fewer") from error
    result = out.numpy()
    starts = None if spins is None else spins.cpu().numpy()

    def one(k: int, go_on: Callable[[], bool]) -> bool:
        begin = None if starts is None else starts[k if len(starts) > 1 else 0]
        return program.run(begin, result[k], int(seed), int(first) + k, go_on)

    _over_textures(one, many, workers, "annealing", show)
    return out


def relax(spins: Any, H: Hamiltonian, sweeps: int = 20, threads: int | None = None, over_relax: int = 0) -> Tensor:
    """Zero-temperature alignment of spins (…, 3, H, W), float32: every sweep lowers the energy or keeps it.

    Alignment alone creeps along soft modes. ``over_relax`` sweeps before each of the ``sweeps``, which turn every
    spin half around its field and keep the energy, carry textures along them: with four, 50 sweeps in all come as
    far as 500 of alignment (M_z and ε of a decoded texture, 128², D = 0.3 J), to another state at rest perhaps.

    The input is untouched; no randomness is involved. Spins on a GPU stay there if its compiler is installed.

    Raises:
        BadInput: spins that are not finite unit vectors, a side that is odd or under 4, or a negative count.
    """
    for name, count in (("sweeps", sweeps), ("over_relax", over_relax)):
        if not isinstance(count, int) or isinstance(count, bool) or count < 0:
            raise BadInput(f"{name}={count}: need a whole number of sweeps, 0 or more; use e.g. sweeps=20")
    tensor = as_spins(spins)
    flat = tensor.detach().reshape(-1, *tensor.shape[-3:])
    if not len(flat):
        return tensor.detach().float().clone()
    given = _checked_start(flat)
    if sweeps == 0:
        return tensor.detach().float().clone()
    steps = Schedule.relaxation(sweeps)
    if over_relax:
        steps = Schedule((Step(COLD * H.J, over_relax=over_relax, relax=1),) * sweeps)
    H, schedule = _checked(H, steps)
    program = Program(H, schedule)
    gpu = _gpu_of(given)
    if gpu is not None:
        sides = (given.shape[-2], given.shape[-1])
        return anneal_on(gpu, program, sides, len(given), 0, 0, given).reshape(tensor.shape)
    out = torch.empty(given.shape)
    result = out.numpy()
    starts = given.cpu().numpy()

    def one(k: int, go_on: Callable[[], bool]) -> bool:
        return program.run(starts[k], result[k], 0, 0, go_on)

    _over_textures(one, len(given), _threads(threads, len(given)), "relaxing", False)
    return out.reshape(tensor.shape).to(tensor.device)


def _gpu_of(spins: Tensor) -> Card | None:
    """The GPU that holds the spins, if it can sweep; without its compiler the CPU does."""
    if spins.device.type == "cpu":
        return None
    try:
        return card(spins.device)
    except BadInput:
        return None


def available_threads() -> int:
    """Cores this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)  # not on every system
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def _over_textures(
    one: Callable[[int, Callable[[], bool]], bool], many: int, workers: int, what: str, show: bool
) -> None:
    """``one(k, go_on)`` for all k on ``workers`` threads; an interrupt stops them in a fraction of a second."""
    stop = threading.Event()

    def go_on() -> bool:
        return not stop.is_set()

    with progress(what, many, "textures", show) as advance, ThreadPoolExecutor(workers) as pool:
        turn = iter(range(many))  # handed out one by one: no queue of 40,000 futures to cancel
        lock = threading.Lock()

        def work() -> None:
            try:
                while go_on():
                    with lock:
                        k = next(turn, None)
                    if k is None:
                        return
                    if one(k, go_on):
                        advance(1)
            except BaseException:
                stop.set()
                raise

        jobs = [pool.submit(work) for _ in range(workers)]
        try:
            for job in jobs:
                job.result()
        except BaseException:
            stop.set()
            raise


def _checked(H: Hamiltonian, schedule: Schedule) -> tuple[Hamiltonian, Schedule]:
    if not isinstance(H, Hamiltonian):
        raise BadInput(f"H={H!r}: need a Hamiltonian, e.g. Hamiltonian(J=1, D=0.3)")
    if not isinstance(schedule, Schedule):
        raise BadInput(f"schedule={schedule!r}: need a Schedule, e.g. Schedule.geometric(1, 0.01, steps=200)")
    for name in ("D", "B", "K"):
        if abs(getattr(H, name)) > COUPLINGS * H.J:
            raise BadInput(
                f"{name}={getattr(H, name)}: over {COUPLINGS:g} J float32 sweeps lose J; use less or raise J"
            )
    low, high = (bound * H.J for bound in TEMPERATURES)
    for step in schedule.steps:
        if step.temperature is not None and not low <= step.temperature <= high:
            raise BadInput(
                f"temperature={step.temperature}: float32 sweeps take {low:g} to {high:g} at J={H.J}; change it"
            )
        if step.field is not None and abs(step.field) > COUPLINGS * H.J:
            raise BadInput(f"field={step.field}: over {COUPLINGS:g} J float32 sweeps lose J; use less")
    return H, schedule


def _checked_start(start: Any) -> Tensor:
    """The start as a float32 tensor (n, 3, H, W), where it is and without a copy if it is float32 already."""
    tensor = as_spins(start).detach()
    if tensor.ndim not in (3, 4) or not tensor.numel():
        raise BadInput(f"start of shape {tuple(tensor.shape)}: no batch of textures; give (n, 3, H, W) or (3, H, W)")
    as_size((tensor.shape[-2], tensor.shape[-1]))
    tensor = tensor.float()
    tensor = tensor if tensor.ndim == 4 else tensor[None]
    some = max(1, CHECKED_AT_ONCE // (tensor.shape[-2] * tensor.shape[-1]))  # no second copy of a large batch
    for begin in range(0, len(tensor), some):
        square = tensor[begin : begin + some].square().sum(1).flatten(1)
        wrong = ~((square - 1).abs().amax(1) < 1e-3)  # "not <" so that NaN is caught too
        if wrong.any():
            k = int(wrong.nonzero()[0, 0])
            if (square[k] == 0).any():  # from a sample with an edge
                check_full(square[k].double().reshape(tensor.shape[-2:]), f"start, texture {begin + k}")
            found = f"|S|² from {float(square[k].min()):.4g} to {float(square[k].max()):.4g}"
            raise BadInput(f"start, texture {begin + k}: {found}, not unit vectors; normalise them")
    return tensor


def _count(samples: int | None, spins: Tensor | None) -> int:
    given = 1 if spins is None else len(spins)
    if samples is None:
        return given
    if not isinstance(samples, (int, np.integer)) or isinstance(samples, bool) or samples < 1:
        raise BadInput(f"samples={samples}: need a whole number of textures, at least 1; use e.g. samples=64")
    if given not in (1, samples):
        raise BadInput(f"samples={samples}: the start holds {given} textures; leave samples out")
    return int(samples)


def _threads(threads: int | None, many: int) -> int:
    if threads is None:
        threads = available_threads()
    elif not isinstance(threads, int) or isinstance(threads, bool) or threads < 1:
        raise BadInput(f"threads={threads}: need a whole number of threads, at least 1; use e.g. threads=2")
    return min(threads, many)
