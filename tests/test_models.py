"""Models that come with the package: packed in half precision, loaded by name."""

import importlib.util
import json
import math
from pathlib import Path

import pytest
import torch

import spinloom as sl
from spinloom import run as runs
from spinloom.errors import BadInput
from spinloom.spectrum import wave_vectors
from spinloom.train import train
from test_train import NETWORKS, QUICK, H, settings

SHIP = Path(__file__).parents[1] / "benchmarks" / "ship.py"


@pytest.fixture
def ship():
    spec = importlib.util.spec_from_file_location("ship", SHIP)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def shelf(tmp_path, monkeypatch):
    monkeypatch.setattr(runs, "MODELS", tmp_path / "models")
    return tmp_path / "models"


def test_a_packed_run_draws_by_name_what_its_average_does(ship, shelf, tmp_path, monkeypatch):
    data = sl.simulate(tmp_path / "set", H, 32, 60, seed=1, schedule=QUICK, show=False)
    run = train(data, tmp_path / "run", NETWORKS, settings(average=0.9), show=False)
    config, weights = ship.packed(tmp_path / "run")
    (shelf / "little").mkdir(parents=True)
    (shelf / "little" / runs.CONFIG).write_text(json.dumps(config))
    (shelf / "little" / runs.WEIGHTS).write_bytes(weights)
    assert len(weights) < 0.5 * (tmp_path / "run" / runs.WEIGHTS).stat().st_size
    assert str(tmp_path) not in json.dumps(config)

    monkeypatch.chdir(tmp_path)
    model = sl.load("little")
    assert runs.shipped() == ["little"]
    assert set(model.nets) == {"discriminator", "encoder", "generator"}
    assert model.hamiltonian == H and model.step == 12
    for name, tensor in run.nets["averaged"].state_dict().items():
        assert torch.allclose(model.generator.state_dict()[name].float(), tensor.float(), rtol=1e-3, atol=1e-6)
    apart = sl.sample(model, 8, method="ddls", steps=2) - sl.sample(run, 8, method="ddls", steps=2)
    assert float(apart.abs().mean()) < 0.01
    with pytest.raises(BadInput, match=r"littel: no such folder; .* or use little, which comes with the package"):
        sl.load("littel")


def test_a_folder_here_comes_before_a_model_of_the_package(shelf, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (shelf / "little").mkdir(parents=True)
    (shelf / "little" / runs.CONFIG).write_text("{}")
    (tmp_path / "little").mkdir()
    with pytest.raises(BadInput, match=r"^little: is not a run"):
        sl.load("little")


def test_a_model_below_a_floor_is_told(ship):
    good = {"energy_excess": -0.0419, "nodal_points": 0.0}
    assert ship.missed({"prior": good, "prior + relax 20": good}) == []
    bad = {"energy_excess": -0.0385, "nodal_points": 1.2}
    assert len(ship.missed({"prior": bad, "prior + relax 20": bad})) == 4


def test_the_model_of_the_package_draws_labyrinths():
    """Its card's figures, on fewer samples: 0.95 nodal points a texture with a spread of about 1, none relaxed."""
    assert runs.shipped() == ["labyrinth-128"]
    folder = runs.MODELS / "labyrinth-128"
    assert (folder / runs.WEIGHTS).stat().st_size < 8_000_000 and "nodal points" in (folder / "card.md").read_text()
    run = sl.load("labyrinth-128")
    assert run.size == (128, 128) and run.hamiltonian == sl.Hamiltonian(D=0.3)
    spins = sl.sample(run, 100, seed=3)
    assert run.hamiltonian.energy_excess(spins).mean() < -0.039
    assert sl.nodal_points(spins).double().mean() < 1.4
    relaxed = sl.relax(spins, run.hamiltonian, 20)
    assert run.hamiltonian.energy_excess(relaxed).mean() < -0.0418
    assert not sl.nodal_points(relaxed).any()
    # labyrinths: of the spiral's period, pointing everywhere, as different as any
    assert sl.measure(relaxed)["wavelength"].median() == pytest.approx(2 * math.pi / math.atan(0.3), rel=0.1)
    power = torch.fft.fft2(relaxed[:, 2]).abs().square().flatten(1)[:, 1:]
    assert float((2 * power.amax(1) / power.sum(1)).mean()) < 0.3
    assert float((relaxed[1:] - relaxed[:-1]).square().mean()) == pytest.approx(2 / 3, abs=0.05)


def test_symmetrised_samples_have_the_symmetry_that_the_model_has_not():
    """⟨cos 2φ⟩, ⟨sin 2φ⟩ over the directions φ of q are 0 in every distribution with the Hamiltonian's symmetries."""
    run = sl.load("labyrinth-128")
    raw = sl.sample(run, 96, seed=3)
    turned = sl.sample(run, 96, seed=3, symmetrise=True)
    H = run.hamiltonian
    assert torch.allclose(H.energy_excess(raw.double()), H.energy_excess(turned.double()), atol=1e-6)
    assert torch.equal(turned[:4], sl.sample(run, 4, seed=3, symmetrise=True))  # texture k, whatever the count
    q_x, q_y = wave_vectors(128, 128)
    angle = torch.atan2(q_y, q_x)

    def quadrupole(spins):
        factor = sl.structure_factor(spins.double())
        factor[:, 0, 0] = 0
        share = factor / factor.sum((-2, -1), keepdim=True)
        return torch.stack([(share * wave(2 * angle)).sum((-2, -1)) for wave in (torch.cos, torch.sin)], -1)

    assert float(quadrupole(raw).mean(0).norm()) > 0.3
    each = quadrupole(turned)
    assert bool((each.mean(0).abs() < 4 * each.std(0) / len(each) ** 0.5).all())
