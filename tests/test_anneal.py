"""What annealing promises: the same bits however the work is split, exact symmetries, the paper's energy."""

import math
import shutil
import threading

import numpy as np
import pytest
import torch

from spinloom import anneal as _verb  # noqa: F401  (the package's verb and its room share a name)
from spinloom.anneal import _over_textures, anneal, relax
from spinloom.bench import RACES, bench_anneal, print_anneal
from spinloom.errors import BadInput
from spinloom.hamiltonian import Hamiltonian
from spinloom.schedule import DEFAULT_SCHEDULE, Schedule, Step

SHORT = Schedule.geometric(1.5, 0.1, steps=6, heat_bath=1, over_relax=2).then_relax(7)
MODELS = [
    Hamiltonian(J=1, D=0.3),
    Hamiltonian(J=1.3, D=-0.5, dmi="bulk", B=0.2, K=0.4),
    Hamiltonian(J=1, D=0.3, B=0.1, K=-0.4),
]
models = pytest.mark.parametrize("H", MODELS, ids=str)


@models
@pytest.mark.parametrize("size", [(8, 36), 32], ids=str)
def test_a_textures_bits_are_its_own(H, size):
    """Not the threads, nor the batch, nor where the batch begins."""
    whole = anneal(H, size, 9, seed=3, schedule=SHORT, threads=1)
    assert torch.equal(whole, anneal(H, size, 9, seed=3, schedule=SHORT, threads=2))
    assert torch.equal(whole, anneal(H, size, 9, seed=3, schedule=SHORT, threads=5))
    parts = [anneal(H, size, many, seed=3, schedule=SHORT, first=first) for first, many in ((0, 2), (2, 1), (3, 6))]
    assert torch.equal(whole, torch.cat(parts))
    assert len({texture.numpy().tobytes() for texture in whole}) == 9
    assert not torch.equal(whole[0], anneal(H, size, seed=4, schedule=SHORT)[0])
    assert whole.dtype == torch.float32 and whole.shape[:2] == (9, 3)
    assert (whole.double().square().sum(1) - 1).abs().max() < 5e-7


def test_large_textures_are_the_same_in_one_call_or_many(monkeypatch):
    """A long schedule is cut so that an interrupt is heard; the cuts leave no trace."""
    H = MODELS[1]
    whole = anneal(H, 16, 2, seed=1, schedule=SHORT)
    monkeypatch.setattr("spinloom.sweep_numba.AT_ONCE", 1)
    assert torch.equal(whole, anneal(H, 16, 2, seed=1, schedule=SHORT))


def test_bulk_is_interfacial_turned_by_minus_90_degrees():
    neel, bloch = (Hamiltonian(J=1, D=0.4, dmi=dmi, B=0.1, K=0.2) for dmi in ("interfacial", "bulk"))
    a = anneal(neel, (16, 20), 3, seed=2, schedule=SHORT)
    b = anneal(bloch, (16, 20), 3, seed=2, schedule=SHORT)
    assert torch.equal(b, torch.stack((a[:, 1], -a[:, 0], a[:, 2]), 1))
    assert torch.allclose(neel.energy(a), bloch.energy(b), atol=1e-6)
    assert not torch.allclose(neel.energy(a), bloch.energy(a), atol=1e-3)


def test_units_of_energy_are_the_callers():
    """All coefficients and temperatures doubled: the same bits, as doubling is exact in floats."""
    once, twice = Hamiltonian(J=1, D=0.3, B=0.1, K=0.2), Hamiltonian(J=2, D=0.6, B=0.2, K=0.4)
    steps = [Step(0.8, 2, 2, field=0.05), Step(0.1, 1, 2), Step(relax=3)]
    doubled = [Step(1.6, 2, 2, field=0.1), Step(0.2, 1, 2), Step(relax=3)]
    a, b = (anneal(H, 12, 2, schedule=Schedule(tuple(s))) for H, s in ((once, steps), (twice, doubled)))
    assert torch.equal(a, b)


def test_a_steps_field_replaces_the_hamiltonians():
    plain, fielded = Hamiltonian(J=1, D=0.3), Hamiltonian(J=1, D=0.3, B=0.4)
    assert torch.equal(anneal(fielded, 16, schedule=SHORT), anneal(plain, 16, schedule=SHORT.with_field(0.4)))
    assert torch.equal(anneal(plain, 16, schedule=SHORT), anneal(fielded, 16, schedule=SHORT.with_field(0.0)))
    strong = anneal(plain, 16, schedule=Schedule.constant(0.05, 30).with_field(-20.0))
    assert strong[:, 2].max() < -0.95


def test_starts_are_taken_up_and_left_alone():
    H = MODELS[0]
    first = anneal(H, (8, 12), 3, seed=1, schedule=SHORT)
    kept = first.clone()
    on = anneal(H, start=first, schedule=SHORT, seed=2)
    assert torch.equal(first, kept)
    assert on.shape == first.shape and not torch.equal(on, first)
    assert torch.equal(on[1:2], anneal(H, start=first[1], schedule=SHORT, seed=2, first=1))
    copies = anneal(H, start=first[0], samples=3, schedule=SHORT, seed=2)
    assert torch.equal(copies[0], on[0]) and not torch.equal(copies[1], on[1])
    for same in (
        first.numpy(),
        first.double(),
        first.numpy().astype(np.float64),
        first.transpose(-1, -2).contiguous().mT,
    ):
        assert torch.equal(on, anneal(H, start=same, schedule=SHORT, seed=2))
    start = torch.zeros(3, 8, 12)
    start[2] = 1
    cold = anneal(H, start=start, schedule=Schedule.constant(1e-6, 1))
    assert cold[0, 2].min() > 0.999  # the ferromagnet at D < 2J, hardly disturbed


@models
def test_relax_takes_any_batch_and_matches_the_schedule(H):
    spins = anneal(H, (8, 12), 6, seed=1, schedule=Schedule.constant(1.0, 3))
    kept = spins.clone()
    flat = relax(spins, H, sweeps=20)
    assert torch.equal(spins, kept)
    assert torch.equal(flat, relax(spins, H, sweeps=20, threads=1))
    assert torch.equal(flat, anneal(H, start=spins, schedule=Schedule.relaxation(20)))
    assert torch.equal(flat.reshape(2, 3, 3, 8, 12), relax(spins.reshape(2, 3, 3, 8, 12), H, sweeps=20))
    assert torch.equal(flat[4], relax(spins[4].numpy(), H, sweeps=20))
    assert torch.equal(relax(spins, H, sweeps=0), spins)
    assert relax(spins[:0], H).shape == (0, 3, 8, 12)
    assert (H.energy(flat) < H.energy(spins)).all()
    assert relax(spins.requires_grad_(), H).requires_grad is False


def test_default_schedule_makes_the_papers_textures():
    """ε = −0.0423 (the paper; 128², D = 0.3), labyrinths without nodal points, both signs of M_z alike."""
    H = Hamiltonian(J=1, D=0.3)
    spins = anneal(H, 128, 16, seed=0)
    excess = H.energy_excess(spins).double()
    standard_error = float(excess.std()) / math.sqrt(16)
    assert standard_error < 1e-4
    assert abs(float(excess.mean()) + 0.04233) < 4 * standard_error
    assert excess.min() > -0.044362  # the exact ground state of this box
    bonds = [(spins * spins.roll(-1, axis)).sum(1) for axis in (-1, -2)]
    assert min(float(dots.min()) for dots in bonds) > 0
    assert spins[:, 2].mean((-2, -1)).abs().max() < 0.06
    again = relax(spins, H, sweeps=1)
    assert (again - spins).abs().max() < 0.01


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        ({}, "size=None"),
        ({"size": 33}, "size=33"),
        ({"size": 2}, "size=2"),
        ({"size": (8, 9)}, "size=9"),
        ({"size": (2**16, 2**16)}, "size=(65536, 65536)"),
        ({"size": 8, "samples": 0}, "samples=0"),
        ({"size": 8, "samples": 10**14}, "samples=100000000000000: "),
        ({"size": 8, "seed": -1}, "seed=-1"),
        ({"size": 8, "seed": 2**64}, "seed="),
        ({"size": 8, "first": -1}, "first=-1"),
        ({"size": 8, "samples": 2, "first": 2**64 - 1}, "first="),
        ({"size": 8, "threads": 0}, "threads=0"),
        ({"size": 8, "device": "cuda"}, "device='cuda'"),
        ({"size": 8, "schedule": Schedule.constant(1e10, 1)}, "temperature=1"),
        ({"size": 8, "schedule": Schedule.constant(1e-10, 1)}, "temperature=1e-10"),
        ({"size": 8, "schedule": Schedule.constant(1.0, 1).with_field(1e7)}, "field=1"),
        ({"start": torch.zeros(3, 8, 8)}, "start, texture 0"),
        ({"start": torch.full((2, 3, 8, 8), math.nan)}, "start, texture 0"),
        ({"start": torch.ones(2, 8, 8)}, "shape (2, 8, 8)"),
        ({"start": torch.ones(1, 2, 3, 8, 8)}, "start of shape (1, 2, 3, 8, 8)"),
        ({"start": torch.ones(3, 8, 7)}, "size=7"),
        ({"start": torch.ones(2, 3, 8, 8) / 3**0.5, "samples": 3}, "samples=3"),
        ({"start": torch.ones(2, 3, 8, 8) / 3**0.5, "size": 16}, "size=16"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_refusals_name_the_value(arguments, names):
    with pytest.raises(BadInput) as refusal:
        anneal(Hamiltonian(), **arguments)
    assert names in str(refusal.value)


def test_more_refusals():
    with pytest.raises(BadInput, match="D=3"):
        anneal(Hamiltonian(J=1, D=3e7), 8)
    spins = torch.ones(3, 8, 8) / 3**0.5
    with pytest.raises(BadInput, match="sweeps=-1"):
        relax(spins, Hamiltonian(), sweeps=-1)
    with pytest.raises(BadInput, match="unit vectors"):
        relax(spins * 2, Hamiltonian())
    one = spins.expand(4, 3, 8, 8).clone()
    one[2, 0, 3, 5] = math.inf
    with pytest.raises(BadInput, match="texture 2"):
        relax(one, Hamiltonian())


def test_what_stops_one_texture_stops_them_all():
    """As an interrupt does: no texture is begun after it, and those under way are told to end."""
    begun, told = [], threading.Event()

    def one(k, go_on):
        begun.append(k)
        if k == 3:
            raise KeyboardInterrupt
        if k == 2:
            while go_on():
                pass
            told.set()
        return True

    with pytest.raises(KeyboardInterrupt):
        _over_textures(one, 1000, 2, "testing", False)
    assert told.is_set()
    assert max(begun) < 10


def test_bench_races_the_c_program(capsys, monkeypatch):
    result = bench_anneal(size=16, rounds=1, threads=1)
    assert all(result["rates"][name] > 0 for name in RACES)
    if shutil.which("cc"):
        assert set(result["yardstick"]) == set(result["ratio"]) == set(RACES)
        assert result["ratio"]["align"] == pytest.approx(result["rates"]["align"] / result["yardstick"]["align"])
    monkeypatch.setattr("shutil.which", lambda name: None)
    without = bench_anneal(size=16, rounds=1, threads=1)
    assert without["ratio"] is None and "compiler" in without["note"]
    print_anneal(without)
    assert "heat bath" in capsys.readouterr().out
    with pytest.raises(BadInput, match="rounds=0"):
        bench_anneal(rounds=0)


def test_default_schedule_is_the_default():
    H = Hamiltonian()
    assert torch.equal(anneal(H, 8), anneal(H, 8, 1, 0, None, DEFAULT_SCHEDULE))
