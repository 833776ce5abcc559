"""Networks on a GPU and codes on the CPU: trainings and every look at latent space run, to the CPU's numbers."""

import json
from pathlib import Path
from typing import get_args
from unittest import mock

import pytest
import torch
from torch import Tensor

from pretend_gpu import OnGpu, pretend_gpu
from spinloom.anneal import anneal
from spinloom.dataset import open_dataset, simulate, write_dataset
from spinloom.domains import find_crossing, survey
from spinloom.explain import watch_paths
from spinloom.gradcam import fake_map
from spinloom.invert import Inversion, invert
from spinloom.latent import Plane, latent_map
from spinloom.networks import NetworkConfig
from spinloom.paths import interpolate, spin_energy
from spinloom.pictures import picture_of
from spinloom.run import Run, load
from spinloom.sample import DDLS, Rule, drive, prior_latents
from spinloom.schedule import Schedule
from spinloom.string_method import SPHERES, StringConfig, relax_string
from spinloom.train import train
from spinloom.training_config import TrainingConfig
from test_paths import MODEL, spinloom, write_run


@pytest.fixture(scope="module")
def hybrid(tmp_path_factory) -> Path:
    return write_run(tmp_path_factory.mktemp("runs") / "hybrid", "hybrid")


def both(work, path: Path):
    """What ``work(run)`` gives on the CPU and with the networks on a GPU."""
    here = work(load(path))
    with pretend_gpu():
        run = load(path, "cuda")
        assert all(isinstance(one, OnGpu) for net in run.nets.values() for one in net.parameters())
        return here, work(run)


def test_what_stands_in_for_a_gpu_refuses_what_a_gpu_would():
    with pretend_gpu():
        there = torch.ones(2, 3).to("cuda")
        assert there.device.type == "cuda"
        assert torch.linspace(0, 1, 3, device=there.device).device.type == "cuda"
        assert torch.equal((2 * there)[0].cpu(), torch.full((3,), 2.0))
        for wrong in (
            lambda: there + torch.ones(3),
            lambda: torch.cat((there, torch.ones(1, 3))),
            lambda: there.numpy(),
        ):
            with pytest.raises(RuntimeError):
                wrong()


def test_a_training_with_all_of_its_losses(tmp_path, monkeypatch):
    """Every batch comes through pinned memory; Adam in its plain form, which the stand-in knows."""
    adam, pinned = torch.optim.Adam, []
    monkeypatch.setattr(torch.optim, "Adam", lambda p, fused, **more: adam(p, foreach=False, **more))
    shapes = {"latent": 16, "generator": 4, "discriminator": 4, "encoder": 4, "widest": 8, "grid": True, "whiten": True}
    networks = NetworkConfig(size=(32, 32), head=2, **shapes)
    weights = {"energy": 0.5, "rest": 2.0, "rest_sweeps": 3, "spectrum": 0.5, "r1": 0.01}
    config = TrainingConfig(steps=2, batch=5, log_every=1, watch_every=0, average=0.9, augment=True, **weights)
    data = simulate(tmp_path / "data", MODEL, 32, 40, schedule=Schedule.geometric(1, 0.1, steps=5), show=False)
    here = train(data, tmp_path / "here", networks, config, show=False)
    with mock.patch.object(torch.Tensor, "pin_memory", lambda own: pinned.append(own) or own), pretend_gpu():
        train(data, tmp_path / "there", networks, config, show=False, device="cuda")
    assert [batch.shape for batch in pinned] == 3 * [(5, 3, 32, 32)]  # one more than was used
    there = load(tmp_path / "there")
    for player, net in here.nets.items():
        for name, tensor in net.state_dict().items():
            assert torch.allclose(there.nets[player].state_dict()[name], tensor, atol=1e-4), (player, name)


@pytest.mark.parametrize("rule", get_args(Rule))
def test_codes_are_driven_by_networks_that_are_elsewhere(hybrid, rule):
    settings = DDLS(rule, 3, 0.1)

    def work(run: Run) -> tuple[Tensor, Tensor]:
        z = drive(prior_latents(2, 10, 8), run.decode, run.discriminator, settings, seed=2)
        found = watch_paths(run.decode, run.discriminator, MODEL, 8, settings, 5, seed=2)
        return z, found.logits

    (z, logits), (there, logits_there) = both(work, hybrid)
    assert torch.allclose(there, z, atol=1e-5)
    assert torch.allclose(logits_there, logits, atol=1e-4)


def test_maps_walls_and_surveys(hybrid):
    def work(run: Run):
        found = latent_map(run.decode, MODEL, Plane.along(8), resolution=10, score=run.discriminator)
        many = survey(run.decode, MODEL, 8, planes=2, resolution=8)
        return found, find_crossing(run.decode, MODEL, found), many

    (here, crossing, many), (there, crossing_there, many_there) = both(work, hybrid)
    for name, values in here.tensors().items():
        assert torch.allclose(there.tensors()[name].double(), values.double(), atol=1e-5)
    assert crossing is not None
    assert crossing_there is not None
    assert torch.allclose(crossing_there.spins, crossing.spins, atol=1e-5)
    assert many_there.rows[0]["flat_share"] == many.rows[0]["flat_share"]


@pytest.mark.parametrize("mode", ["linear", "spherical", "string"])
def test_paths_through_latent_space(hybrid, mode):
    a, b = prior_latents(3, 2, 8)

    def work(run: Run):
        return interpolate(run.decode, a, b, MODEL, 4, mode, StringConfig(steps=3))

    here, there = both(work, hybrid)
    assert torch.allclose(there.spins, here.spins, atol=1e-4)
    assert there.as_dict()["saddle_forth"] == pytest.approx(here.as_dict()["saddle_forth"], abs=1e-2)


def test_a_string_that_lies_on_a_gpu_goes_on_from_what_was_kept_on_the_cpu():
    ends = anneal(MODEL, 8, 2, schedule=Schedule.geometric(1.0, 0.05, steps=3).then_relax(3))
    start = SPHERES.between(ends[:1].expand(5, -1, -1, -1), ends[1:].expand(5, -1, -1, -1), torch.linspace(0, 1, 5))
    config, kept = StringConfig(tolerance=1e-30, steps=102), []
    whole = relax_string(spin_energy(MODEL), start, SPHERES, config, keep=kept.append)
    with pretend_gpu():
        resumed = relax_string(spin_energy(MODEL), start.to("cuda"), SPHERES, config, kept[0])
        points = resumed.points.cpu()
    assert resumed.steps == whole.steps == 102
    assert torch.allclose(points, whole.points, atol=1e-5)


def test_attention_and_spins_behind_a_picture(hybrid):
    z = prior_latents(5, 2, 8)

    def work(run: Run):
        with torch.no_grad():
            spins = run.decode(z).cpu()
        found = invert(run, picture_of(spins, 0.1), settings=Inversion(noise=0.1, steps=3, relax=2))
        return spins, fake_map(run.discriminator, spins), found

    (spins, map_, found), (spins_there, map_there, found_there) = both(work, hybrid)
    assert torch.allclose(spins_there, spins, atol=1e-5)
    assert torch.allclose(map_there, map_, atol=1e-5)
    assert torch.allclose(found_there.z, found.z, atol=1e-4)
    for name, textures in found.spins.items():
        assert torch.allclose(found_there.spins[name], textures, atol=1e-3)


def test_the_commands_take_a_device(hybrid, tmp_path, capsys):
    noise = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    data = write_dataset(tmp_path / "data", noise / noise.norm(dim=1, keepdim=True), MODEL).path
    commands = {
        "map": ["--resolution", 8],
        "explain": ["--steps", 2, "--textures", 3],
        "interpolate": ["--images", 4, "--mode", "string", "--steps", 2, "--real", "--to", f"{data}:1"],
        "invert": ["--reference", data, "--textures", 2, "--noise", 0.1, "--steps", 2, "--relax", 2],
    }
    for name, options in commands.items():
        where = {"out": tmp_path / name} if name == "invert" else {}
        asked = [name, hybrid, *where.values(), *options, "--quiet"]
        asked += [] if where else ["--out", tmp_path / name]
        assert spinloom(*asked, "--device", "cuda") == 2
        assert "no CUDA GPU" in capsys.readouterr().err
        assert not (tmp_path / name).exists()
        with pretend_gpu():
            assert spinloom(*asked, "--device", "cuda", "--json") == 0
        told = json.loads(capsys.readouterr().out)
        assert spinloom(*asked, "--json") == 0  # the device is no part of what was asked
        assert json.loads(capsys.readouterr().out) == told


def test_a_pipeline_for_a_gpu_that_is_not_there_begins_nothing(tmp_path, capsys):
    for name in ("run", "trials", "reproduce"):
        assert spinloom(name, tmp_path / name, "--device", "cuda", "--quiet") == 2
        assert "no CUDA GPU" in capsys.readouterr().err
        assert not (tmp_path / name).exists()


def test_sampling_takes_a_device(hybrid, tmp_path, capsys):
    asked = ["-n", 3, "--method", "ddls", "--steps", 2, "--relax", 2, "--quiet"]
    assert spinloom("sample", hybrid, tmp_path / "there", *asked, "--device", "cuda") == 2
    assert "no CUDA GPU" in capsys.readouterr().err
    with pretend_gpu():
        assert spinloom("sample", hybrid, tmp_path / "there", *asked, "--device", "cuda") == 0
    assert spinloom("sample", hybrid, tmp_path / "here", *asked) == 0
    there, here = open_dataset(tmp_path / "there"), open_dataset(tmp_path / "here")
    assert torch.allclose(there[:], here[:], atol=1e-4)
    assert (there.info["origin"]["device"], here.info["origin"]["device"]) == ("cuda", "cpu")
