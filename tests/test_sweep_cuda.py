"""The GPU sweep without a GPU: compiled to PTX, and, as C++ behind a driver made for it, held to the contract.

Everything but torch's own calls and the GPU's arithmetic is the real thing: ``cuda.bindings`` load
``cuda_driver.cpp`` as the driver, NVRTC is replaced by the C++ compiler, memory is the CPU's.
"""

import contextlib
import ctypes
import importlib.util
import inspect
import json
import math
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import spinloom.sweep_cuda as sweep_cuda
from spinloom.anneal import anneal, relax
from spinloom.errors import BadInput
from spinloom.hamiltonian import Hamiltonian
from spinloom.random import texture_key
from spinloom.schedule import DEFAULT_SCHEDULE, Schedule, Step
from spinloom.sweep import align, heat_bath, over_relax, random_start
from spinloom.sweep_cuda import Card, Layout, Plan, compiled, texture_keys
from spinloom.sweep_numba import Program

HERE = Path(__file__).parent
ROOM = sys.modules["spinloom.anneal"]  # the package's verb and its room share a name
KERNELS = inspect.unwrap(sweep_cuda._kernels)  # loaded anew for every imagined GPU
H100 = 232_448
"""Bytes of shared memory a block may have on an H100 or H200."""

MODELS = {
    "interfacial": Hamiltonian(J=1, D=0.3),
    "bulk": Hamiltonian(J=2, D=-0.6, dmi="bulk", B=0.1),
    "easy axis": Hamiltonian(J=1, D=0.4, B=-0.2, K=0.5),
    "easy plane": Hamiltonian(J=1, D=0.4, dmi="bulk", B=0.1, K=-0.5),
}
models = pytest.mark.parametrize("H", MODELS.values(), ids=MODELS)
SHORT = Schedule((Step(2.0, 1, 1), Step(0.5, 1, 2, field=0.3), Step(0.05, 1, 1, 2)))

COMPILER = next((found for name in ("g++", "clang++", "c++") if (found := shutil.which(name))), None)
without_a_gpu = pytest.mark.skipif(
    COMPILER is None or torch.cuda.is_available(),
    reason="needs a C++ compiler" if COMPILER is None else "a GPU is here: benchmarks/gpu.py checks the real thing",
)


@pytest.fixture(scope="session")
def build(tmp_path_factory):
    """``build(source, *flags)``: the path of a shared library, compiled once a session."""
    folder, made = tmp_path_factory.mktemp("cuda"), {}

    def build(source: str, *flags: str, name: str = "") -> Path:
        if (source, flags) not in made:
            out = folder / (name or f"{len(made)}.so")
            common = ["-std=c++17", "-O1", "-march=native", "-ffp-contract=off", "-Wno-unknown-pragmas"]
            command = [COMPILER, *common, "-shared", "-fPIC", *flags, str(HERE / source), "-o", str(out), "-ldl"]
            subprocess.run(command, check=True)
            made[source, flags] = out
        return made[source, flags]

    return build


@pytest.fixture
def gpu(build, monkeypatch):
    """A GPU that is none: ``gpu(shared=…, ulps=…, order=…)`` makes device "cuda" this process and its memory."""
    ctypes.CDLL(str(build("cuda_driver.cpp", "-Wl,-soname,libcuda.so.1", name="libcuda.so.1")), ctypes.RTLD_GLOBAL)

    def settle(shared: int = H100, ulps: int = 0, order: int = 0, processors: int = 3, threads: int = 2048) -> Card:
        mine = Card(torch.device("cpu"), 90, processors, shared, shared + 1024, threads)

        def compile_for_cpu(layout: Layout, target: str) -> tuple[bytes, str]:
            source = f'-DSOURCE="{sweep_cuda.SOURCE}"'
            path = build("cuda_shim.cpp", source, f"-DULPS={ulps}", *layout.macros)
            ctypes.CDLL(str(path)).set_order(order)
            return str(path).encode() + b"\0", ""

        monkeypatch.setattr(sweep_cuda, "_kernels", KERNELS)
        monkeypatch.setattr(sweep_cuda, "compiled", compile_for_cpu)
        monkeypatch.setattr(sweep_cuda, "_target", lambda architecture: f"sm_{architecture}")
        monkeypatch.setattr(sweep_cuda, "_stream", lambda device: contextlib.nullcontext(0))
        monkeypatch.setattr(ROOM, "card", lambda device: mine)
        return mine

    return settle


def by_contract(H: Hamiltonian, schedule: Schedule, key, spins) -> np.ndarray:
    """The schedule through :mod:`spinloom.sweep`, in the spins' own dtype."""
    sweep = 0
    for step in schedule.steps:
        field = H.B if step.field is None else step.field
        model = Hamiltonian(J=H.J, D=H.D, dmi=H.dmi, B=field, K=H.K)
        for kind, count in ((heat_bath, step.heat_bath), (over_relax, step.over_relax), (align, step.relax)):
            for _ in range(count):
                sweep += 1
                spins = kind(spins, model) if kind is align else kind(spins, model, step.temperature, key, sweep)
    return spins


# the compiler ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", ["compute_80", "compute_90"])
@pytest.mark.parametrize("size", [(128, 128), (256, 200)], ids=str)
def test_compiles_to_ptx_on_any_machine(target, size):
    layout = Layout.of(size, True, H100)
    assert layout.resident == (size == (128, 128))
    ptx, log = compiled(layout, target)
    text = ptx.decode()
    assert f".target {target.replace('compute', 'sm')}" in text
    kernels = {"resident"} if layout.resident else {"pack_all", "half_sweep", "unpack_all"}
    assert all(f".entry {name}" in text for name in kernels)
    assert text.count(".entry") == len(kernels)
    assert log == ""  # not one warning
    assert ".f64" not in text and "call" not in text  # no double precision by accident, everything inlined


@pytest.mark.parametrize("anisotropic", [False, True])
def test_registers_of_a_full_block(anisotropic):
    """1,024 threads share 65,536 registers; spilling any to memory would cost more than all the rest."""
    layout = Layout.of((128, 128), anisotropic, H100)
    assert layout.threads == 1024
    image, log = compiled(layout, "sm_90", "--ptxas-options=-v")
    assert image[:4] == b"\x7fELF"
    assert "0 bytes spill stores, 0 bytes spill loads" in log
    assert "0 bytes stack frame" in log
    assert int(log.split("Used ")[1].split()[0]) <= 64


def test_newer_gpus_than_the_compiler_knows_get_ptx():
    assert sweep_cuda._target(90) == "sm_90"
    newest = sweep_cuda._target(9999)
    assert compiled(Layout.of((8, 8), False, H100), newest)[0].decode().count(".entry") == 1


def test_what_the_compiler_says_is_one_line():
    with pytest.raises(BadInput) as refusal:
        compiled(Layout.of((8, 8), False, H100), "sm_90", "-DHEIGHT=oops")
    assert "\n" not in str(refusal.value) and "sweep.cu" in str(refusal.value)


# layouts ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(4, 4), (6, 64), (8, 36), (10, 10), (64, 64), (128, 128), (138, 138), (64, 300)])
def test_threads_and_memory_of_resident_lattices(size):
    layout = Layout.of(size, False, H100)
    height, width = size
    assert layout.resident
    assert layout.shared == 3 * 4 * height * width <= H100
    assert height % layout.rows == layout.rows % 2 == 0
    assert layout.items * layout.rows * 2 == height * width
    assert layout.threads % 32 == 0 and layout.threads <= 1024
    turns = -(-layout.items // layout.threads)
    assert layout.threads * turns - layout.items < 32 * turns  # less than a warp a turn is idle
    card = Card(torch.device("cpu"), 90, 132, H100, H100 + 1024, 2048)
    blocks = layout.blocks_a_processor(card)
    assert blocks * layout.threads <= 2048
    assert blocks * (layout.shared + 1024) <= H100 + 1024


def test_which_lattices_fit():
    assert Layout.of((128, 128), False, H100).shared == 196_608
    assert Layout.of((138, 138), False, H100).resident
    assert not Layout.of((140, 140), False, H100).resident
    assert Layout.of((128, 128), False, 166_912).resident is False  # an A100: 163 KiB
    assert Layout.of((116, 116), False, 166_912).resident
    assert Layout.of((64, 64), False, 49_152).resident  # the 48 KiB of any GPU


# the contract, on the CPU ----------------------------------------------------------------------------------------


@without_a_gpu
@pytest.mark.parametrize("shared", [H100, 0], ids=["resident", "in memory"])
@models
@pytest.mark.parametrize(
    ("schedule", "tolerance"),
    [
        (Schedule((Step(1e9, 1),)), 3e-5),
        (Schedule((Step(0.7, 1),)), 3e-4),
        (Schedule((Step(0.02, 1),)), 3e-4),
        (Schedule((Step(0.7, 0, 1),)), 3e-5),
        (Schedule((Step(relax=1),)), 3e-5),
        (SHORT, 2e-3),
    ],
    ids=["hot", "heat bath", "cold", "over-relax", "align", "all"],
)
def test_kernel_is_the_contract(gpu, H, schedule, tolerance, shared):
    gpu(shared)
    size = (8, 36)
    mine = anneal(H, size, 5, seed=5, first=8, schedule=schedule, device="cuda")[4].numpy()
    key = texture_key(5, 12)
    for dtype in (np.float32, np.float64):
        expected = by_contract(H, schedule, key, random_start(size, key, H.dmi, dtype))
        assert np.abs(mine - expected).max() < tolerance
        assert np.median(np.abs(mine - expected)) < max(1e-6, tolerance / 400)


@without_a_gpu
@pytest.mark.parametrize("size", [(4, 4), (10, 6), (6, 64), (128, 10), (138, 138)], ids=str)
def test_every_shape(gpu, size):
    """The smallest, odd halves, the largest that fits: its items take two turns, its threads are not all busy."""
    gpu()
    H = MODELS["easy axis"]
    mine = anneal(H, size, 1, seed=1, schedule=SHORT, device="cuda")[0].numpy()
    key = texture_key(1, 0)
    expected = by_contract(H, SHORT, key, random_start(size, key))
    # a spin on the verge of acceptance may differ between two roundings, and then its surroundings
    assert np.quantile(np.abs(mine - expected), 0.999) < 2e-3
    assert np.median(np.abs(mine - expected)) < 5e-6


@without_a_gpu
def test_kernel_is_the_cpus_to_rounding_at_128(gpu):
    gpu()
    H = MODELS["interfacial"]
    a, b = (anneal(H, 128, 2, seed=2, schedule=SHORT, device=device) for device in ("cuda", "cpu"))
    assert (a - b).abs().max() < 2e-3
    assert (a - b).abs().median() < 2e-6
    assert torch.allclose(H.energy(a), H.energy(b), atol=2e-6)


@without_a_gpu
@models
def test_bits_do_not_depend_on_threads_batches_cuts_or_the_kernel(gpu, H, monkeypatch):
    """An order of threads that changed the answer would be a race."""
    size, many = (8, 36), 9

    def textures(first=0, count=many, **settings):
        gpu(**settings)
        return anneal(H, size, count, seed=3, first=first, schedule=SHORT, device="cuda")

    whole = textures()
    assert len({texture.numpy().tobytes() for texture in whole}) == many
    assert (whole.double().square().sum(1) - 1).abs().max() < 5e-7
    for order in (1, 2):
        assert torch.equal(whole, textures(order=order))
        assert torch.equal(whole, textures(shared=0, order=order))
    assert torch.equal(whole, torch.cat([textures(0, 4), textures(4, 1), textures(5, 4)]))
    monkeypatch.setattr(sweep_cuda, "LAUNCH", 1)  # a sweep a launch, a wave of textures at a time
    assert torch.equal(whole, textures(processors=1, threads=32))
    monkeypatch.setattr(sweep_cuda, "MOST_THREADS", 128)  # 2 textures at a time
    assert torch.equal(whole, textures(shared=0, processors=1))
    monkeypatch.setattr(sweep_cuda, "MOST_THREADS", 1024)
    start = whole[0]
    on = anneal(H, start=start, samples=2, seed=4, schedule=SHORT, device="cuda")
    monkeypatch.undo()
    gpu()
    assert torch.equal(on, anneal(H, start=start, samples=2, seed=4, schedule=SHORT, device="cuda"))


@without_a_gpu
@pytest.mark.parametrize("shared", [H100, 0], ids=["resident", "in memory"])
@models
def test_starts_are_taken_up(gpu, H, shared):
    gpu(shared)
    first = anneal(H, (8, 12), 3, seed=1, schedule=SHORT)
    kept = first.clone()
    there, here = (anneal(H, start=first, seed=2, schedule=SHORT, device=device) for device in ("cuda", "cpu"))
    assert torch.equal(first, kept)
    assert (there - here).abs().quantile(0.995) < 2e-3
    assert (there - first).abs().max() > 0.1
    copies = anneal(H, start=first[0], samples=2, seed=2, schedule=SHORT, device="cuda")
    assert torch.equal(copies[0], there[0]) and not torch.equal(copies[1], there[1])


@without_a_gpu
def test_bulk_is_interfacial_turned_by_minus_90_degrees(gpu):
    gpu()
    neel, bloch = (Hamiltonian(J=1, D=0.4, dmi=dmi, B=0.1, K=0.2) for dmi in ("interfacial", "bulk"))
    a, b = (anneal(H, (16, 20), 2, seed=2, schedule=SHORT, device="cuda") for H in (neel, bloch))
    assert torch.equal(b, torch.stack((a[:, 1], -a[:, 0], a[:, 2]), 1))


@without_a_gpu
@pytest.mark.parametrize("ulps", [0, 2])
def test_approximate_reciprocals_do_not_add_up(gpu, ulps):
    """The GPU's roots and reciprocals err by 2 ulp at the most; here all of them do, and to the same side."""
    gpu(ulps=ulps)
    H = Hamiltonian(J=1, D=0.3, B=0.1)
    start = anneal(H, 32, 2, seed=1, schedule=Schedule.constant(0.5, 10))
    many = Schedule((Step(0.5, over_relax=400),))
    moved = anneal(H, start=start, schedule=many, device="cuda")
    assert (moved - start).abs().max() > 0.5
    # each sweep rounds the energy by some 1e-8 of it, at random
    assert torch.allclose(H.energy(moved.double()), H.energy(start.double()), atol=3e-6)


@without_a_gpu
@pytest.mark.parametrize("ulps", [0, 2])
def test_energies_are_the_cpus(gpu, ulps):
    """Cooled, then relaxed, by either: the same mean energy, within its error, whatever the rounding."""
    gpu(ulps=ulps)
    H = Hamiltonian(J=1, D=0.6)
    cool = Schedule.geometric(1.5, 0.05, steps=40, heat_bath=1, over_relax=2).then_relax(40)
    there, here = (
        H.energy(anneal(H, 32, 24, seed=seed, schedule=cool, device=device)).double()
        for seed, device in ((1, "cuda"), (2, "cpu"))
    )
    error = math.sqrt(float(there.var() + here.var()) / 24)
    assert error < 2e-3
    assert abs(float(there.mean() - here.mean())) < 4 * error


@without_a_gpu
@models
def test_relax_on_the_gpu_lowers_the_energy(gpu, H, monkeypatch):
    mine = gpu()
    spins = anneal(H, (8, 12), 4, seed=1, schedule=Schedule.constant(1.0, 3))
    on_cpu = relax(spins, H, sweeps=20)
    monkeypatch.setattr(ROOM, "_gpu_of", lambda spins: mine)
    kept = spins.clone()
    there = relax(spins.reshape(2, 2, 3, 8, 12), H, sweeps=20)
    assert torch.equal(spins, kept)
    assert there.shape == (2, 2, 3, 8, 12)
    assert (there.reshape(4, 3, 8, 12) - on_cpu).abs().max() < 1e-4
    assert (H.energy(there).flatten() < H.energy(spins)).all()


@without_a_gpu
def test_progress_and_interrupts_between_launches(gpu, monkeypatch):
    mine = gpu(processors=1)
    monkeypatch.setattr(sweep_cuda, "LAUNCH", 1)
    program, heard = Program(MODELS["bulk"], SHORT), []
    sweep_cuda.anneal_on(mine, program, (64, 64), 7, 0, 0, advance=heard.append)
    wave = Layout.of((64, 64), False, H100).blocks_a_processor(mine)
    assert 1 < wave < 7 and sum(heard) == 7 and max(heard) == wave

    def interrupt(stream):
        raise KeyboardInterrupt

    monkeypatch.setattr(sweep_cuda, "_wait", interrupt)
    with pytest.raises(KeyboardInterrupt):
        sweep_cuda.anneal_on(mine, program, (64, 64), 7, 0, 0)


@without_a_gpu
def test_a_launch_the_driver_refuses_is_an_error(gpu):
    mine = gpu()
    layout = Layout.of((8, 36), False, H100)
    kernel = sweep_cuda._kernels(layout, mine)["resident"]
    wrong = Layout(8, 36, layout.rows, 2 * layout.threads, False, True)
    nothing = torch.zeros(1, 3, 8, 36)
    with pytest.raises(BadInput, match="CUDA_ERROR_INVALID_VALUE"):
        sweep_cuda._launch(kernel, (1, 1), wrong, 0, nothing, nothing, nothing, nothing, 0, 0, 0)


@without_a_gpu
def test_code_the_driver_refuses_is_bad_input(gpu, monkeypatch):
    mine = gpu()
    monkeypatch.setattr(sweep_cuda, "compiled", lambda layout, target: (b"nothing there\0", ""))
    with pytest.raises(BadInput, match="driver refuses") as refusal:
        sweep_cuda._kernels(Layout.of((8, 8), False, H100), mine)
    assert "\n" not in str(refusal.value)


# plans and keys --------------------------------------------------------------------------------------------------


def test_plan_finds_the_stage_of_every_sweep():
    schedule = Schedule((Step(2.0, 2, 0), Step(0.5, 0, 3, field=0.3), Step(relax=2)))
    plan = Plan.of(Program(Hamiltonian(J=1, D=0.3, K=0.1), schedule))
    assert plan.anisotropic and plan.sweeps == 7
    kinds = [int(plan.stages[plan.stage(sweep), 1]) for sweep in range(-1, 7)]
    assert kinds == [0, 0, 0, 1, 1, 1, 2, 2]
    numbers = [plan.numbers[plan.stage(sweep)] for sweep in range(-1, 7)]
    assert [float(row[2]) for row in numbers[:6]] == [1e9, 2, 2, 0.5, 0.5, 0.5]
    assert [round(float(row[1]), 6) for row in numbers[:6]] == [0, 0, 0, 0.3, 0.3, 0.3]
    assert Plan.of(Program(Hamiltonian(), DEFAULT_SCHEDULE)).anisotropic is False


@pytest.mark.parametrize(("seed", "first"), [(0, 0), (5, 2**32 - 2), (2**64 - 1, 2**64 - 4), (2**40, 7)])
def test_keys_are_the_textures_own(seed, first):
    keys = texture_keys(seed, first, 4).view(np.uint32)
    assert [tuple(map(int, key)) for key in keys] == [texture_key(seed, first + k) for k in range(4)]


# refusals --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("device", "names"),
    [("gpu", "unknown"), ("mps", "cpu or cuda"), ("cuda", "no CUDA GPU"), ("cuda:3", "device='cuda:3'"), ("", "")],
)
@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is here")
def test_refusals_name_the_device(device, names):
    with pytest.raises(BadInput) as refusal:
        anneal(Hamiltonian(), 8, device=device)
    assert names in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_a_missing_compiler_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "cuda.bindings.nvrtc", None)  # as if it were not installed
    with pytest.raises(BadInput, match=r"spinloom\[cuda\]") as refusal:
        compiled(Layout.of((8, 8), False, H100), "compute_90")
    assert "\n" not in str(refusal.value)


def test_textures_that_do_not_fit_are_counted(monkeypatch):
    def full(*arguments, **settings):
        raise torch.OutOfMemoryError("CUDA out of memory")

    mine = Card(torch.device("cpu"), 90, 132, H100, H100 + 1024, 2048)
    monkeypatch.setattr(sweep_cuda, "_stream", lambda device: contextlib.nullcontext(0))
    monkeypatch.setattr(sweep_cuda, "_kernels", full)
    with pytest.raises(BadInput, match=r"samples=1000: 0\.18 GiB") as refusal:
        sweep_cuda.anneal_on(mine, Program(Hamiltonian(), SHORT), (128, 128), 1000, 0, 0)
    assert "\n" not in str(refusal.value)


# the benchmark ---------------------------------------------------------------------------------------------------


@without_a_gpu
def test_benchmark_runs_and_tells_right_from_wrong(gpu, monkeypatch, tmp_path, capsys):
    """Every part of it, small, on the GPU that is none; then with a temperature that is off."""
    spec = importlib.util.spec_from_file_location("gpu_benchmark", HERE.parent / "benchmarks" / "gpu.py")
    bench = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(bench)
    mine = gpu(processors=1, threads=64)
    monkeypatch.setattr(sweep_cuda, "card", lambda device: mine)
    monkeypatch.setattr(bench, "MODELS", {name: bench.MODELS[name] for name in ("exchange", "easy plane, bulk")})
    monkeypatch.setattr(bench, "DEFAULT_SCHEDULE", SHORT)
    monkeypatch.setattr(bench, "REFERENCES", bench.REFERENCES[3:4])
    small = ["--quick", "--size", "16", "--samples", "100", "--textures", "400", "--out", str(tmp_path / "gpu.json")]
    assert bench.main(small) == 0
    result = json.loads(capsys.readouterr().out)
    assert result == json.loads((tmp_path / "gpu.json").read_text())
    assert result["parity"]["largest"] < 1e-2 and len(result["parity"]["rows"]) == 2 * 2 * 6
    assert result["labyrinths"]["textures"] == {"cuda": 40, "cpu": 40}
    assert all(rate > 0 for rate in result["rates"]["kinds"].values())
    assert result["rates"]["job"]["textures"] == 10

    def warmer(program, *rest, original=sweep_cuda.Plan.of):
        plan = original(program, *rest)
        plan.numbers[1:, 2:4] *= np.float32([1.1, 1 / 1.1])
        return plan

    monkeypatch.setattr(sweep_cuda.Plan, "of", warmer)
    for part in ("parity", "energies"):
        assert bench.main(["--only", part, *small]) == 1
