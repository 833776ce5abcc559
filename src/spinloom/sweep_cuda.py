"""The sweep of :mod:`spinloom.sweep` on a CUDA GPU: ``sweep.cu``, compiled at run time for one lattice, and launched.

A lattice that fits into a multiprocessor's shared memory (128² does on an A100, H100 or H200) is one block, which
keeps it there for the whole schedule and writes out the result alone. Larger ones stay in the GPU's memory and take
one launch for each half of a sweep. Both run the same functions of ``sweep.cu`` and give the same bits.

NVIDIA's ``cuda.bindings`` bring the compiler (NVRTC) and the driver; CUDA builds of torch depend on them.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from spinloom.errors import BadInput
from spinloom.hamiltonian import Hamiltonian
from spinloom.random import threefry2x32
from spinloom.schedule import Schedule, Step
from spinloom.sweep import HOT
from spinloom.sweep_numba import ANISOTROPIC, Program

SOURCE = Path(__file__).with_name("sweep.cu")

OPTIONS = ("--std=c++17", "--fmad=false", "--ftz=true", "--prec-div=false", "--prec-sqrt=false")
"""How ``sweep.cu`` is compiled: fused operations where it says so alone; approximate roots and reciprocals."""

TURN, TURN_BACK, NORMALISE = 1, 2, 4
"""Flags of ``sweep.cu``."""

MOST_THREADS = 1024
"""Threads of a block: with all of them each may have 64 registers."""

LAUNCH = 200_000_000
"""Site updates of one multiprocessor in one launch, seconds on a slow one: a display's watchdog, which ends a kernel
after some seconds, is not woken, and an interrupt is heard."""

WAYS_OUT = "use device='cpu'"


# a GPU and a lattice -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Card:
    """What has to be known of a GPU: its architecture (90 for 9.0), multiprocessors and memory sizes in bytes."""

    device: torch.device
    architecture: int
    processors: int
    shared: int
    shared_a_processor: int
    threads_a_processor: int


def card(device: str | torch.device) -> Card:
    """The GPU that ``device`` names, once the compiler has been found too.

    Raises:
        BadInput: no such device, no CUDA GPU, or no compiler for it.
    """
    try:
        wanted = torch.device(device)
    except RuntimeError as error:
        raise BadInput(f"device={str(device)!r}: unknown; use cpu or cuda") from error
    if wanted.type != "cuda":
        raise BadInput(f"device={str(device)!r}: textures are annealed on cpu or cuda; use one of them")
    if not torch.cuda.is_available() or torch.version.hip:
        raise BadInput(f"device={str(device)!r}: this torch sees no CUDA GPU; {WAYS_OUT} or install a CUDA build of it")
    index = torch.cuda.current_device() if wanted.index is None else wanted.index
    if index >= torch.cuda.device_count():
        raise BadInput(
            f"device={str(device)!r}: there are {torch.cuda.device_count()} GPUs, counted from 0; use cuda:0"
        )
    _nvrtc()
    has = torch.cuda.get_device_properties(index)
    return Card(
        torch.device("cuda", index),
        10 * has.major + has.minor,
        has.multi_processor_count,
        getattr(has, "shared_memory_per_block_optin", 49152),
        getattr(has, "shared_memory_per_multiprocessor", 49152),
        getattr(has, "max_threads_per_multi_processor", MOST_THREADS),
    )


@dataclass(frozen=True)
class Layout:
    """A lattice as ``sweep.cu`` is compiled for it; its constants, in lower case."""

    height: int
    width: int
    rows: int
    threads: int
    anisotropic: bool
    resident: bool

    @classmethod
    def of(cls, size: tuple[int, int], anisotropic: bool, shared: int) -> Layout:
        """The layout for a GPU whose blocks may have ``shared`` bytes of shared memory.

        The more rows a thread walks, the fewer spins are read twice; but a small lattice has to feed two warps.
        """
        height, width = size
        columns = width // 2
        rows = max(r for r in (2, 4, 6, 8) if height % r == 0 and (r == 2 or columns * (height // r) >= 64))
        items = columns * (height // rows)
        resident = 12 * height * width <= shared
        # blocks of a size that keeps the threads evenly busy, in whole warps
        turns = -(-items // MOST_THREADS)
        threads = -(-items // (32 * turns)) * 32 if resident else 256
        return cls(height, width, rows, threads, anisotropic, resident)

    @property
    def sites(self) -> int:
        return self.height * self.width

    @property
    def items(self) -> int:
        """Walks up ``rows`` rows of one colour in half a sweep."""
        return self.sites // (2 * self.rows)

    @property
    def shared(self) -> int:
        """Bytes of shared memory a block takes."""
        return 12 * self.sites if self.resident else 0

    def blocks_a_processor(self, card: Card) -> int:
        """Resident textures that a multiprocessor works on at a time; it keeps 1 KiB a block for itself."""
        return max(
            1, min(card.shared_a_processor // (self.shared + 1024), card.threads_a_processor // self.threads, 32)
        )

    @property
    def macros(self) -> list[str]:
        values = {name: int(getattr(self, name)) for name in self.__dataclass_fields__}
        return [f"-D{name.upper()}={value}" for name, value in values.items()]


# the compiler --------------------------------------------------------------------------------------------------------


def _nvrtc() -> Any:
    """The bindings of NVRTC, with the library loaded."""
    try:
        nvrtc = import_module("cuda.bindings.nvrtc")
        _check(nvrtc.nvrtcVersion())
    except (ImportError, RuntimeError, OSError, BadInput) as error:
        why = (str(error).splitlines() or [type(error).__name__])[0]
        raise BadInput(
            f"device='cuda': no run-time compiler ({why}); pip install 'spinloom[cuda]' or {WAYS_OUT}"
        ) from error
    return nvrtc


def _driver() -> Any:
    return import_module("cuda.bindings.driver")


def _check(result: tuple[Any, ...]) -> Any:
    """The values a CUDA function returned after its error code; what went wrong on the GPU is one line too."""
    code, *values = result
    if int(code):
        raise BadInput(f"device='cuda': the GPU or its compiler failed ({code.name}); try again, or {WAYS_OUT}")
    return values[0] if values else None


def compiled(layout: Layout, target: str, *options: str) -> tuple[bytes, str]:
    """``sweep.cu`` for ``layout``, and the compiler's log: PTX for ``compute_90``, machine code for ``sm_90``.

    Needs NVRTC, but no GPU.

    Raises:
        BadInput: no compiler, or one that does not know the target.
    """
    nvrtc = _nvrtc()
    program = _check(nvrtc.nvrtcCreateProgram(SOURCE.read_bytes(), SOURCE.name.encode(), 0, [], []))
    try:
        flags = [f"--gpu-architecture={target}", *OPTIONS, *layout.macros, *options]
        (code,) = nvrtc.nvrtcCompileProgram(program, len(flags), [flag.encode() for flag in flags])
        log = b" " * _check(nvrtc.nvrtcGetProgramLogSize(program))
        _check(nvrtc.nvrtcGetProgramLog(program, log))
        text = log.rstrip(b"\0").decode(errors="replace").strip()
        if int(code):
            why = next((line for line in text.splitlines() if "error" in line), code.name)
            raise BadInput(f"device='cuda': sweep.cu does not compile for {target} ({why}); {WAYS_OUT}")
        ptx = target.startswith("compute_")
        size = (nvrtc.nvrtcGetPTXSize if ptx else nvrtc.nvrtcGetCUBINSize)(program)
        image = b" " * _check(size)
        _check((nvrtc.nvrtcGetPTX if ptx else nvrtc.nvrtcGetCUBIN)(program, image))
    finally:
        nvrtc.nvrtcDestroyProgram(program)
    return image, text


def _target(architecture: int) -> str:
    """Machine code where the compiler knows the GPU; else, for a newer one, PTX that its driver goes on from."""
    known = _check(_nvrtc().nvrtcGetSupportedArchs())
    return f"compute_{max(known)}" if architecture > max(known) else f"sm_{architecture}"


# launches ------------------------------------------------------------------------------------------------------------


@functools.cache
def _kernels(layout: Layout, card: Card) -> dict[str, Any]:
    """The functions of ``sweep.cu`` on the current GPU, by name."""
    driver = _driver()
    image, _ = compiled(layout, _target(card.architecture))
    code, module = driver.cuModuleLoadData(image)
    if int(code):
        raise BadInput(
            f"{str(card.device)!r}: its driver refuses the code of this NVRTC ({code.name}); update the driver, "
            f"install cuda-bindings of the CUDA version torch was built for, or {WAYS_OUT}"
        )
    names = ("resident",) if layout.resident else ("pack_all", "half_sweep", "unpack_all")
    kernels = {name: _check(driver.cuModuleGetFunction(module, name.encode())) for name in names}
    if layout.resident:
        most = driver.CUfunction_attribute.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
        _check(driver.cuFuncSetAttribute(kernels["resident"], most, layout.shared))
    return kernels


@contextmanager
def _stream(device: torch.device) -> Iterator[int]:
    """The handle of torch's current stream, with the GPU made torch's current one."""
    with torch.cuda.device(device):
        yield torch.cuda.current_stream(device).cuda_stream


def _launch(kernel: Any, grid: tuple[int, int], layout: Layout, stream: int, *arguments: Tensor | int) -> None:
    driver = _driver()
    values = tuple(a.data_ptr() if isinstance(a, Tensor) else a for a in arguments)
    types = tuple(ctypes.c_void_p if isinstance(a, Tensor) else ctypes.c_int for a in arguments)
    x, y = grid
    _check(driver.cuLaunchKernel(kernel, x, y, 1, layout.threads, 1, 1, layout.shared, stream, (values, types), 0))


def _wait(stream: int) -> None:
    _check(_driver().cuStreamSynchronize(stream))


# textures ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Plan:
    """A program on the GPU. Stage i, of one kind of sweep, ends before sweep ``stages[i, 0]``; stage 0 is the heat
    bath that makes a random start, sweep number −1."""

    stages: np.ndarray
    numbers: np.ndarray
    bulk: bool
    anisotropic: bool

    @classmethod
    def of(cls, program: Program) -> Plan:
        hot = Program(Hamiltonian(J=1, D=0), Schedule((Step(HOT, heat_bath=1),)))
        ends = np.concatenate(([0], program.ends))
        kinds = np.concatenate((hot.kinds[:1], program.kinds % ANISOTROPIC))
        return cls(
            np.ascontiguousarray(np.stack((ends, kinds), 1), np.int32),
            np.concatenate((hot.numbers[:1], program.numbers)),
            program.bulk,
            bool((program.kinds >= ANISOTROPIC).any()),
        )

    @property
    def sweeps(self) -> int:
        return int(self.stages[-1, 0])

    def stage(self, sweep: int) -> int:
        return int(np.searchsorted(self.stages[:, 0], sweep, side="right"))


def texture_keys(seed: int, first: int, count: int) -> np.ndarray:
    """:func:`spinloom.random.texture_key` of ``count`` textures from ``first`` on, int32 (count, 2)."""
    low = np.uint64(0xFFFFFFFF)
    index = np.uint64(first) + np.arange(count, dtype=np.uint64)
    words = threefry2x32((seed & int(low), seed >> 32), (index & low, index >> np.uint64(32)))
    return np.stack(words, 1).view(np.int32)


def anneal_on(
    card: Card,
    program: Program,
    size: tuple[int, int],
    count: int,
    seed: int,
    first: int,
    start: Tensor | None = None,
    advance: Callable[[int], None] = lambda n: None,
    layout: Layout | None = None,
) -> Tensor:
    """``count`` textures (count, 3, H, W), float32, on the GPU; from ``start``, (count, 3, H, W) or (1, 3, H, W).

    ``layout`` is the card's own unless given; the answer does not depend on it.

    Raises:
        BadInput: they do not fit into the GPU's memory, or ``sweep.cu`` does not compile.
    """
    plan = Plan.of(program)
    layout = layout or Layout.of(size, plan.anisotropic, card.shared)
    try:
        with _stream(card.device) as stream:
            # torch first: its first kernel makes the GPU's context current in this thread, for the driver's calls
            textures = torch.zeros(count, 3, *size, dtype=torch.float32, device=card.device)
            kernels = _kernels(layout, card)
            if start is None:
                textures[:, 2] = 1
            else:
                textures.copy_(start)
            keys = torch.from_numpy(texture_keys(seed, first, count)).to(card.device)
            run = _run_resident if layout.resident else _run_in_memory
            run(card, plan, layout, kernels, stream, textures, keys, -1 if start is None else 0, advance)
    except torch.OutOfMemoryError as error:
        size_in_words = f"{count * 12 * layout.sites / 2**30:.2g} GiB"
        raise BadInput(
            f"samples={count}: {size_in_words} of textures do not fit on {card.device}; anneal fewer at a time"
        ) from error
    return textures


def _run_resident(
    card: Card,
    plan: Plan,
    layout: Layout,
    kernels: dict[str, Any],
    stream: int,
    textures: Tensor,
    keys: Tensor,
    begin: int,
    advance: Callable[[int], None],
) -> None:
    """Whole waves of blocks a launch; a schedule too long for one launch is cut, the spins then wait as they are."""
    numbers, stages = (torch.from_numpy(a).to(card.device) for a in (plan.numbers, plan.stages))
    blocks = layout.blocks_a_processor(card)
    waves = max(1, LAUNCH // (blocks * layout.sites * (plan.sweeps - begin)))
    sweeps = max(1, LAUNCH // (blocks * layout.sites))
    together = waves * blocks * card.processors
    for textures_now, keys_now in zip(textures.split(together), keys.split(together), strict=True):
        for at in range(begin, plan.sweeps, sweeps):
            end = min(at + sweeps, plan.sweeps)
            flags = _flags(plan, at == begin == 0, end == plan.sweeps)
            grid = (len(textures_now), 1)
            _launch(kernels["resident"], grid, layout, stream, textures_now, keys_now, numbers, stages, at, end, flags)
            _wait(stream)
        advance(len(textures_now))


def _run_in_memory(
    card: Card,
    plan: Plan,
    layout: Layout,
    kernels: dict[str, Any],
    stream: int,
    textures: Tensor,
    keys: Tensor,
    begin: int,
    advance: Callable[[int], None],
) -> None:
    """As many textures at a time as fill the multiprocessors' registers: the fewer, the more the cache holds."""
    numbers = torch.from_numpy(plan.numbers).to(card.device)
    together = -(-card.processors * MOST_THREADS // layout.items)
    together = min(together, len(textures), 65535)  # the y side of a grid ends there
    lattices = torch.empty(together * 3 * layout.sites, dtype=torch.float32, device=card.device)
    by_sites, by_items = (-(-n // layout.threads) for n in (layout.sites, layout.items))
    sweeps = max(1, LAUNCH * card.processors // (together * layout.sites))
    for textures_now, keys_now in zip(textures.split(together), keys.split(together), strict=True):
        many = len(textures_now)
        flags = _flags(plan, begin == 0, False)
        _launch(kernels["pack_all"], (by_sites, many), layout, stream, textures_now, lattices, flags)
        for sweep in range(begin, plan.sweeps):
            stage = plan.stage(sweep)
            kind, row = int(plan.stages[stage, 1]), numbers[stage]
            for colour in (0, 1):
                what = (lattices, keys_now, row, kind, sweep + 1, colour)
                _launch(kernels["half_sweep"], (by_items, many), layout, stream, *what)
            if (sweep - begin) % sweeps == sweeps - 1:
                _wait(stream)  # that an interrupt finds no long queue
        flags = _flags(plan, False, True)
        _launch(kernels["unpack_all"], (by_sites, many), layout, stream, textures_now, lattices, flags)
        _wait(stream)
        advance(many)


def _flags(plan: Plan, given: bool, last: bool) -> int:
    """Given spins of bulk DMI are turned to interfacial; the result is turned back and normalised."""
    return (TURN if plan.bulk and given else 0) | ((TURN_BACK if plan.bulk else 0) | NORMALISE if last else 0)
