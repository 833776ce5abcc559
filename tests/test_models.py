"""Models that come with the package: packed in half precision, loaded by name."""

import importlib.util
import json
import math
import re
import tomllib
from fnmatch import fnmatch
from pathlib import Path

import pytest
import torch

import spinloom as sl
from spinloom import run as runs
from spinloom.cli import app
from spinloom.errors import BadInput
from spinloom.presets import TRAININGS, Recipe
from spinloom.simulation import Simulation
from spinloom.spectrum import wave_vectors
from spinloom.train import train
from spinloom.training_config import QUIET, TrainingConfig
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
    assert Simulation.from_info(config["data"]) == Simulation(H, (32, 32), 60, 1, QUICK)

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


FIGURES = {
    "samples": 10,
    **{"energy_excess": -0.04, "energy_std": 1e-4, "nodal_points": 0.5, "mz_std": 0.01, "strongest_q": 0.1},
    **{"cos_2phi": 0.1, "sin_2phi": 0.0, "coverage": 0.9},
}
UNLIKE = {
    "precision": "bfloat16",
    **{"objective": "gan", "steps": 7, "batch": 32, "rate": 3e-4, "halving": 700, "momentum": (0.1, 0.8)},
    **{"beta": 2e-3, "gamma": 3e-3, "r1": 1.5, "instance_noise": 0.05, "energy": 3, "rest": 7, "rest_sweeps": 15},
    **{"spectrum": 0.5, "energy_rise": 600, "discriminator_rate": 0.25, "fraction": 0.5, "average": 0.99},
    **{"augment": True, "seed": 4},
}
"""Every field of a training with a value that is not its default."""


def shipped_config(*trainings: dict, networks=TRAININGS["lean"].networks, **data) -> dict:
    stages = [{"step": 100 + k, "training": training} for k, training in enumerate(trainings)]
    data = {"samples": 20_000, "checksum": "0a", "hamiltonian": sl.Hamiltonian(D=0.3).as_dict(), **data}
    last = {"objective": trainings[-1]["objective"], "networks": networks.as_dict(), "training": trainings[-1]}
    return {**last, "data": data, "stages": stages}


def table_of(card: str) -> list[dict[str, str]]:
    """The rows of a card's table of stages, by column."""
    rows = [line[2:-2].split(" | ") for line in card.splitlines() if re.match(r"\| (steps|\d+) \|", line)]
    return [dict(zip(rows[0], row, strict=True)) for row in rows[1:]]


def test_a_card_tells_every_field_that_is_not_the_default(ship):
    default = TrainingConfig()
    told = {name for name in default.as_dict() if f"training.{name}" not in QUIET}
    assert set(UNLIKE) == told
    unlike = TrainingConfig(**UNLIKE)
    assert all(getattr(unlike, name) != getattr(default, name) for name in told)
    card = ship.card("model", shipped_config(unlike.as_dict()), {"prior": FIGURES, "test data": FIGURES})
    (row,) = table_of(card)
    assert set(row) == told and row["steps"] == "100"
    assert (row["spectrum"], row["augment"], row["momentum"], row["objective"]) == ("0.5", "yes", "0.1 0.8", "gan")
    assert row["precision"] == "bfloat16"
    for name in told - {"objective", "steps", "momentum", "augment", "precision"}:
        assert float(row[name]) == UNLIKE[name], name
    assert "turned by exact symmetries" in card and "Every row" not in card


def test_a_field_of_one_stage_is_a_column_of_all(ship):
    early = {name: value for name, value in TrainingConfig(energy=30).as_dict().items() if name != "spectrum"}
    config = shipped_config(early, TrainingConfig(spectrum=0.5, checkpoint_every=25).as_dict())
    card = ship.card("model", config, {"prior": FIGURES, "test data": FIGURES})
    assert table_of(card) == [
        {"steps": "100", "energy": "30", "spectrum": "0"},
        {"steps": "101", "energy": "0", "spectrum": "0.5"},
    ]
    assert "of 201 steps of batch 50 on 15,000 annealed textures" in card
    assert "Every row went on with" in card and "exact symmetries" not in card and "```" not in card


def test_a_card_of_one_stage_has_the_commands(ship):
    lean = TRAININGS["lean"]
    made = {"seed": 7, "size": [128, 128], "shard_size": 500, "origin": {"kind": "annealed", "device": "cpu"}}
    figures = {"prior": FIGURES, "test data": FIGURES}
    config = shipped_config(lean.training.as_dict(), **made)
    config["stages"][0]["step"] = lean.training.steps
    card = ship.card("model", config, figures)
    data = "spinloom simulate DATA --samples 20000 --size 128 --D 0.3 --seed 7"
    assert f"```console\n{data}\nspinloom train DATA RUN --preset lean\n```" in card
    several = ship.card("model", shipped_config(*[lean.training.as_dict()] * 2, **made), figures)
    assert f"```console\n{data}\n```" in several
    # whatever the settings, the command has them again
    strange = TrainingConfig(**UNLIKE)
    config = shipped_config(
        strange.as_dict(), networks=sl.NetworkConfig(size=(128, 128), grid=True, latent=192), **made
    )
    _, called, _ = app.parse_args(ship.trained_by(config).split()[1:], exit_on_error=False, print_error=False)
    asked = called.arguments
    recipe: Recipe = TRAININGS[asked["preset"]]
    for changes, kept, wanted in (
        (asked["changes"], recipe.training, {**UNLIKE, "steps": 100, "objective": recipe.training.objective}),
        (asked["networks"], recipe.networks, config["networks"]),
    ):
        for name, value in wanted.items():
            given = getattr(changes, name, None)
            value = tuple(value) if isinstance(value, list) else value
            assert name == "size" or (getattr(kept, name) if given is None else given) == value, name
    assert asked["objective"] == "gan"


def test_the_command_that_makes_a_set_makes_the_same_request():
    H = sl.Hamiltonian(J=2.0, D=-0.123456789, dmi="bulk", B=0.01, K=-0.1)
    request = Simulation(H, (32, 64), 30, 2**64 - 1, shard_size=20, device="cuda")
    _, called, _ = app.parse_args(request.command("OUT").split()[1:], exit_on_error=False, print_error=False)
    asked = called.arguments
    assert sl.Hamiltonian(**{name: asked[name] for name in ("J", "D", "dmi", "B", "K") if name in asked}) == H
    assert (asked["size"], asked["samples"], asked["seed"]) == ((32, 64), 30, 2**64 - 1)
    assert (asked["shard_size"], asked["device"], "schedule" in asked) == (20, "cuda", False)
    assert "--schedule SCHEDULE.json" in Simulation(H, (32, 32), 30, schedule=QUICK).command()


def test_the_model_of_the_package_reaches_the_floors_and_draws_labyrinths():
    """The floors of shipping, on as many samples as they are asked for: those of the card."""
    assert runs.shipped() == ["labyrinth-128"]
    folder = runs.MODELS / "labyrinth-128"
    assert (folder / runs.WEIGHTS).stat().st_size < 8_000_000 and "nodal points" in (folder / "card.md").read_text()
    run = sl.load("labyrinth-128")
    assert run.size == (128, 128) and run.hamiltonian == sl.Hamiltonian(D=0.3)
    spins = sl.sample(run, 1000)
    assert run.hamiltonian.energy_excess(spins).double().mean() <= -0.039
    assert sl.nodal_points(spins).double().mean() <= 1.0
    relaxed = sl.relax(spins, run.hamiltonian, 20)
    assert run.hamiltonian.energy_excess(relaxed).double().mean() <= -0.0418
    assert not sl.nodal_points(relaxed).any()
    # labyrinths: of the spiral's period, pointing everywhere, as different as any
    relaxed = relaxed[:100]
    assert sl.measure(relaxed)["wavelength"].median() == pytest.approx(2 * math.pi / math.atan(0.3), rel=0.1)
    power = torch.fft.fft2(relaxed[:, 2]).abs().square().flatten(1)[:, 1:]
    assert float((2 * power.amax(1) / power.sum(1)).mean()) < 0.3
    assert float((relaxed[1:] - relaxed[:-1]).square().mean()) == pytest.approx(2 / 3, abs=0.05)


def test_a_search_of_the_model_ends_below_the_papers_lowest_energy():
    """With an eighth of the usual candidates; the exact ground state has ε = −0.044362, the paper's search −0.0442."""
    found = sl.search(sl.load("labyrinth-128"), population=32, generations=30, relax=1000)
    assert sl.ground_state(sl.Hamiltonian(D=0.3), 128).energy_excess - 1e-9 <= found.value <= -0.0442
    assert found.report["pattern"]["kind"] == "stripes" and found.report["plain"]


def test_the_wheel_has_the_models():
    """hatchling takes all of the package but what git ignores, unless told otherwise."""
    root = SHIP.parents[1]
    build = tomllib.loads((root / "pyproject.toml").read_text())
    assert build["build-system"]["build-backend"] == "hatchling.build"
    assert (
        build["tool"]["hatch"]["build"].keys() == {"targets"}
        and "wheel" not in build["tool"]["hatch"]["build"]["targets"]
    )
    assert build["project"]["name"] == "spinloom" and (root / "src" / "spinloom" / "__init__.py").is_file()
    ignored = [line.strip("/") for line in (root / ".gitignore").read_text().split()]
    for name in runs.shipped():
        for file in (runs.CONFIG, runs.WEIGHTS, "card.md"):
            path = Path("src", "spinloom", "models", name, file)
            assert (root / path).stat().st_size
            parts = [*path.parts, *(str(path.parents[k]) for k in range(len(path.parents))), str(path)]
            assert not [pattern for pattern in ignored for part in parts if fnmatch(part, pattern)]


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

    error = quadrupole(raw).std(0) / len(raw) ** 0.5
    assert bool((quadrupole(raw).mean(0).abs() > 4 * error).any())  # else there is nothing to undo
    assert bool((quadrupole(turned).mean(0).abs() < 4 * error).all())
