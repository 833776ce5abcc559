"""Strings on landscapes whose saddles are known, paths through an analytic decoder, the command line."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor

from spinloom import paths
from spinloom.anneal import anneal
from spinloom.dataset import write_dataset
from spinloom.draw import spin_colours
from spinloom.errors import BadInput
from spinloom.files import write_json
from spinloom.hamiltonian import Hamiltonian
from spinloom.measure import measure
from spinloom.networks import NetworkConfig
from spinloom.objectives import OBJECTIVES
from spinloom.paths import aligned, interpolate, latent_energy, linear, relax_path, spherical, spin_energy
from spinloom.run import build_networks, write_config, write_weights
from spinloom.sample import prior_latents
from spinloom.schedule import Schedule
from spinloom.string_method import FLAT, SPHERES, StringConfig, relax_string

MINIMA = torch.tensor([[-0.55822363, 1.44172584], [0.62349940, 0.02803776]], dtype=torch.float64)
SADDLE = -40.66484351
"""The higher of the Müller–Brown surface's two saddles on the way between its outer minima."""


def muller_brown(points: Tensor) -> tuple[Tensor, Tensor]:
    """Müller & Brown, Theor. Chim. Acta 53, 75 (1979)."""
    depth = torch.tensor([-200.0, -100.0, -170.0, 15.0], dtype=torch.float64)
    a, b, c = torch.tensor([[-1, -1, -6.5, 0.7], [0, 0, 11, 0.6], [-10, -10, -6.5, 0.7]], dtype=torch.float64)
    at_x, at_y = torch.tensor([[1, 0, -0.5, -1], [0, 0.5, 1.5, 1]], dtype=torch.float64)
    points = points.detach().requires_grad_()
    x, y = points[:, :1] - at_x, points[:, 1:] - at_y
    value = (depth * torch.exp(a * x**2 + b * x * y + c * y**2)).sum(1)
    (slope,) = torch.autograd.grad(value.sum(), points)
    return value.detach(), slope


def straight(images: int) -> Tensor:
    return MINIMA[0] + torch.linspace(0, 1, images, dtype=torch.float64)[:, None] * (MINIMA[1] - MINIMA[0])


@pytest.mark.parametrize("images", [9, 17, 33, 65])
def test_a_string_finds_the_saddle_of_the_muller_brown_surface(images):
    done = relax_string(muller_brown, straight(images), FLAT, StringConfig(tolerance=0.5, steps=600))
    assert done.converged
    assert done.force < 0.5
    top = int(done.energies.argmax())
    assert float(done.energies[top]) == pytest.approx(SADDLE, abs=1e-3)
    assert float(muller_brown(straight(images))[0].max()) > SADDLE + 10  # the straight line goes over the hill
    _, slope = muller_brown(done.points[top : top + 1])
    assert float(slope.norm()) < 0.5  # a rest point it is
    assert torch.equal(done.points[[0, -1]], straight(images)[[0, -1]])


def test_without_climbing_the_images_are_equally_far_apart_and_the_saddle_lies_between_two():
    done = relax_string(muller_brown, straight(17), FLAT, StringConfig(tolerance=0.5, climb=False))
    gaps = FLAT.distance(done.points[:-1], done.points[1:])
    assert float(gaps.max() / gaps.min()) < 1.02
    assert SADDLE - 3 < float(done.energies.max()) <= SADDLE + 1e-6


def test_a_string_that_did_not_converge_says_so():
    done = relax_string(muller_brown, straight(17), FLAT, StringConfig(tolerance=1e-3, steps=5))
    assert not done.converged
    assert (done.steps, done.force > 1e-3) == (5, True)


def test_a_string_that_is_stopped_goes_on_to_the_same_bits():
    kept = []
    config = StringConfig(tolerance=1e-30, steps=110)
    whole = relax_string(muller_brown, straight(17), FLAT, config, keep=kept.append)
    assert [int(state["step"]) for state in kept] == [100]
    again = relax_string(muller_brown, straight(17), FLAT, config, kept[0])
    assert torch.equal(again.points, whole.points)
    assert again.steps == whole.steps


def turned(polar: Tensor, azimuth: Tensor | float = 0.0, side: int = 4) -> Tensor:
    """Uniform textures."""
    azimuth = torch.as_tensor(azimuth).expand(polar.shape)
    spins = torch.stack((polar.sin() * azimuth.cos(), polar.sin() * azimuth.sin(), polar.cos()), 1)
    return spins[:, :, None, None].expand(-1, -1, side, side).contiguous()


def shaken(spins: Tensor, by: float) -> Tensor:
    noise = torch.randn(spins.shape, generator=torch.Generator().manual_seed(0))
    spins = spins + by * noise
    return spins / spins.norm(dim=1, keepdim=True)


@pytest.mark.parametrize("B", [0.0, 0.1])
def test_the_barrier_of_coherent_rotation_is_known(B):
    """E/N = −B cos θ − K cos² θ: its top is at cos θ = −B/2K, (B ± 2K)²/4K above the two ends."""
    K, sites = 0.3, 16
    H = Hamiltonian(D=0.0, K=K, B=B)
    start = turned(torch.linspace(0, math.pi, 17))
    start[1:-1] = shaken(start[1:-1], 0.3)
    path = relax_path(start, H, StringConfig(tolerance=0.02, steps=2000))
    assert path.converged
    forth, back = path.barriers
    assert forth == pytest.approx(sites * (2 * K + B) ** 2 / (4 * K), rel=1e-3)
    assert back == pytest.approx(sites * (2 * K - B) ** 2 / (4 * K), rel=1e-3)
    assert torch.allclose(path.spins.norm(dim=1), torch.ones(17, 4, 4), atol=1e-5)
    assert path.z is None
    assert float(path.length[-1]) == pytest.approx(math.pi * sites**0.5, rel=1e-3)  # π at each site


def test_an_easy_plane_lets_a_spin_turn_for_nothing():
    """From +x to −x over the pole costs |K|; the string finds the way within the plane."""
    H = Hamiltonian(D=0.0, K=-0.5)
    angle = torch.linspace(0, math.pi, 17)
    over_the_pole = torch.stack((angle.cos(), torch.full_like(angle, 1e-3), angle.sin()), 1)
    start = (over_the_pole / over_the_pole.norm(dim=1, keepdim=True))[:, :, None, None].expand(-1, -1, 4, 4)
    before = 16 * float(H.energy(start).max() - H.energy(start)[0])
    path = relax_path(start.contiguous(), H, StringConfig(tolerance=0.01, steps=2000))
    assert before == pytest.approx(8, rel=1e-2)
    assert path.barriers[0] < 0.02


def test_the_spins_gradient_is_the_energys():
    H = Hamiltonian(D=0.4, B=0.2, K=0.1)
    spins = SPHERES.settle(shaken(turned(torch.rand(2, generator=torch.Generator().manual_seed(1))), 0.5).double())
    value, slope = spin_energy(H)(spins)
    assert float((slope * spins).sum(1).abs().max()) < 1e-12
    direction = SPHERES.project(spins, spins.roll(1, 1))
    step = 1e-5
    up, down = (SPHERES.settle(spins + sign * step * direction) for sign in (1, -1))
    measured = (spin_energy(H)(up)[0] - spin_energy(H)(down)[0]) / (2 * step)
    assert torch.allclose(measured, (slope * direction).flatten(1).sum(1), atol=1e-6)
    assert torch.allclose(value, 16 * H.energy(spins))


def test_distances_and_points_between_on_spheres():
    a, b = turned(torch.tensor([0.1])), turned(torch.tensor([0.5]))
    assert float(SPHERES.distance(a, b)[0]) == pytest.approx(0.4 * 4, rel=1e-5)
    middle = SPHERES.between(a, b, torch.tensor([0.5]))
    assert torch.allclose(middle, turned(torch.tensor([0.3])), atol=1e-6)
    opposite = SPHERES.between(a, -a, torch.tensor([0.5]))
    assert torch.allclose(opposite.norm(dim=1), torch.ones(1, 4, 4), atol=1e-5)
    assert float((opposite * a).sum(1).abs().max()) < 1e-5


# latent space


def gate(z: Tensor) -> Tensor:
    """Uniform textures whose E/N at B = 1 is a wall along z₀ = 0 that is open at z₁ = 2, 1.5 high elsewhere."""
    wall = torch.exp(-((z[:, 0] / 0.4) ** 2)) * (1 - torch.exp(-(((z[:, 1] - 2) / 0.8) ** 2)))
    angle = torch.acos(1 - 1.5 * wall.clamp(max=1 - 1e-6) - 1e-6)[:, None, None].expand(-1, 4, 4)
    return torch.stack((angle.sin(), torch.zeros_like(angle), angle.cos()), 1)


FIELD = Hamiltonian(D=0.0, B=1.0)


def test_a_string_bends_through_the_gate_of_a_wall_and_a_line_does_not():
    a, b = torch.tensor([-1.5, 0.3]), torch.tensor([1.5, 0.3])
    line = interpolate(gate, a, b, FIELD, 17)
    string = interpolate(gate, a, b, FIELD, 17, "string", StringConfig(tolerance=0.05, steps=2000))
    assert line.barriers[0] == pytest.approx(16 * 1.5, rel=0.02)
    assert string.converged
    assert string.z is not None
    assert string.barriers[0] < 0.1
    middle = string.z[string.z[:, 0].abs().argmin()]
    assert float(middle[1]) == pytest.approx(2, abs=0.1)
    assert torch.equal(string.z[[0, -1]], torch.stack((a, b)))


def test_the_fine_path_sees_a_wall_between_two_images():
    """Three images, of which none is on the wall at z₀ = 0.75."""
    a, b = torch.tensor([-2.25, 0.0]), torch.tensor([0.75, 0.0])
    path = interpolate(lambda z: gate(z * torch.tensor([1.0, 0.0])), a, b, FIELD, 3)
    assert 16 * float(path.table["energy_excess"].max()) < 16
    assert path.barriers[0] > 16
    assert len(path.fine_energy) == 2 * 9 + 1
    assert torch.allclose(path.fine_energy[::9], path.table["energy_excess"].to(path.fine_energy), atol=1e-6)


def test_barriers_and_climbs():
    path = interpolate(gate, torch.tensor([-1.5, 0.0]), torch.tensor([-0.2, 0.0]), FIELD, 9)
    forth, back = path.barriers
    assert forth > 0
    assert back == 0  # it ends on the slope
    assert path.ascents[0] == pytest.approx(forth)
    assert path.ascents[1] == pytest.approx(0, abs=1e-6)
    assert path.saddles == (0, 0)
    assert path.top == 8


@pytest.mark.parametrize(
    ("energy", "barriers", "ascents", "saddles"),
    [
        ([0, 3, 1], (3, 2), (3, 2), (3, 2)),
        ([5, 1, 3, 0, 4], (0, 1), (4, 5), (2, 3)),  # from slope to slope: over 3, between 1 and 0
        ([5, 1, 3, 0, 2, 1, 4], (0, 1), (4, 5), (2, 3)),
        ([0, 2, 1, 4, 3, 5, 0], (5, 5), (5, 5), (5, 5)),
        ([5, 1, 4], (0, 1), (3, 4), (0, 0)),  # one valley
        ([0, 1, 2], (2, 0), (2, 0), (0, 0)),
        ([1, 1, 1], (0, 0), (0, 0), (0, 0)),
    ],
)
def test_what_counts_as_climbing_on_a_path(energy, barriers, ascents, saddles):
    spins = turned(torch.zeros(len(energy)), side=2)
    profile = torch.tensor(energy, dtype=torch.float64) / 4
    path = paths.Path(spins, None, measure(spins, FIELD), profile, profile, profile)
    assert path.barriers == barriers
    assert path.ascents == ascents
    assert path.saddles == saddles


def test_a_model_and_its_multiple_have_one_path_and_its_barriers_in_j():
    """Tolerances, forces and barriers are in J; a factor of two is exact in floating point."""
    double = Hamiltonian(J=2 * FIELD.J, D=2 * FIELD.D, B=2 * FIELD.B, K=2 * FIELD.K)
    a, b = torch.tensor([-1.5, 0.0]), torch.tensor([1.5, 0.4])
    one, other = (interpolate(gate, a, b, H, 9, "string", StringConfig(steps=40), 0.5) for H in (FIELD, double))
    assert torch.equal(one.z, other.z)
    assert torch.equal(2 * one.fine_energy - 2 * one.fine_energy[0], other.fine_energy - other.fine_energy[0])
    assert (one.force, one.steps) == (other.force, other.steps)
    assert one.saddles == pytest.approx(other.saddles)
    assert one.barriers == pytest.approx(other.barriers)
    assert one.ascents == pytest.approx(other.ascents)
    start = shaken(turned(torch.linspace(0, math.pi, 7)), 0.05)
    model = Hamiltonian(D=0.0, K=0.2)
    double = Hamiltonian(J=2.0, D=0.0, K=0.4)
    still, twice = (relax_path(start, H, StringConfig(0.05, 50), 20) for H in (model, double))
    assert torch.equal(still.spins, twice.spins)
    assert still.barriers == pytest.approx(twice.barriers)


def test_linear_and_spherical_codes():
    a, b = torch.tensor([3.0, 0.0, 0.0]), torch.tensor([0.0, 1.0, 0.0])
    line = linear(a, b, 5)
    assert torch.allclose(line[2], torch.tensor([1.5, 0.5, 0.0]))
    ball = spherical(a, b, 5)
    assert torch.allclose(ball.norm(dim=1), torch.linspace(3, 1, 5))
    assert torch.allclose(ball[2], 2 * torch.tensor([0.5, 0.5, 0.0]).sqrt())
    assert torch.allclose(ball[[0, -1]], torch.stack((a, b)), atol=1e-6)
    assert torch.allclose(spherical(a, 2 * a, 3)[1], 1.5 * a)
    for bad, says in ((-a, "opposite"), (0 * a, "no direction")):
        with pytest.raises(BadInput, match=says):
            spherical(a, bad)
    z = prior_latents(0, 2, 128)
    assert float(linear(z[0], z[1], 3)[1].norm()) < 0.8 * float(spherical(z[0], z[1], 3)[1].norm())


def test_the_latent_gradient_is_that_of_the_energy_and_the_prior():
    z = torch.tensor([[0.2, 0.4], [-0.3, 1.0]], dtype=torch.float64)
    value, slope = latent_energy(gate, FIELD, prior=2.0)(z)
    assert torch.allclose(value, 16 * FIELD.energy(gate(z)) + z.square().sum(1))
    for k in range(2):
        step = torch.zeros(2, dtype=torch.float64)
        step[k] = 1e-5
        up, down = (latent_energy(gate, FIELD, 2.0)(z + sign * step)[0] for sign in (1, -1))
        assert torch.allclose(slope[:, k], (up - down) / 2e-5, atol=1e-4)


def test_aligning_undoes_a_translation_and_nothing_else():
    spins = anneal(Hamiltonian(D=0.6), 16, 2, schedule=Schedule.geometric(1.0, 0.05, steps=5).then_relax(5))
    moved = spins[0].roll((5, 11), (-2, -1))
    back, shift = aligned(moved, spins[0])
    assert torch.equal(back, spins[0])
    assert shift == (11, 5)
    assert aligned(spins[0], spins[0])[1] == (0, 0)
    other, shift = aligned(spins[1], spins[0])
    assert torch.equal(other, spins[1].roll(shift, (-2, -1)))
    assert float((other * spins[0]).sum()) >= float((spins[1] * spins[0]).sum())
    with pytest.raises(BadInput, match="one lattice"):
        aligned(spins[0], torch.zeros(3, 8, 8))


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: linear(torch.zeros(3), torch.ones(4)), "3 and 4 numbers"),
        (lambda: linear(torch.zeros(3), torch.ones(3), 2), "images=2"),
        (lambda: linear(torch.zeros(3), torch.full((3,), math.nan)), "NaN"),
        (lambda: StringConfig(tolerance=0), "tolerance=0"),
        (lambda: StringConfig(steps=0), "steps=0"),
        (lambda: relax_path(turned(torch.linspace(0, 0.2, 5)), FIELD), "relax to one texture"),
    ],
)
def test_paths_without_meaning_are_refused(make, says):
    with pytest.raises(BadInput, match=says):
        make()


# the command

NETWORKS = NetworkConfig(size=(32, 32), latent=8, generator=4, discriminator=4, encoder=4, widest=8)
GRID = NetworkConfig(size=(32, 32), latent=32, generator=4, discriminator=4, encoder=4, widest=8, grid=True)
MODEL = Hamiltonian(D=0.6)


def write_run(
    folder: Path,
    objective: str,
    networks: NetworkConfig = NETWORKS,
    model: Hamiltonian = MODEL,
    checksum: str | None = None,
) -> Path:
    """A run's folder with untrained networks."""
    data = {"hamiltonian": model.as_dict(), "checksum": checksum}
    write_config(folder, {"objective": objective, "networks": networks.as_dict(), "training": {}, "data": data})
    write_weights(folder, build_networks(networks, OBJECTIVES[objective]().players, seed=5), 3)
    return folder


def spinloom(*arguments) -> int:
    from spinloom.cli import main

    with pytest.raises(SystemExit) as end:
        main([str(a) for a in arguments])
    return end.value.code or 0  # type: ignore[return-value]


def test_paths_of_two_runs_on_the_command_line(tmp_path, capsys):
    hybrid, vae = write_run(tmp_path / "h", "hybrid"), write_run(tmp_path / "v", "vae")
    out = tmp_path / "out"
    asked = [hybrid, vae, "--out", out, "--from", "seed:3", "--images", 5, "--json"]
    assert spinloom("interpolate", *asked) == 0
    told = json.loads(capsys.readouterr().out)
    assert set(told["paths"]) == {"hybrid", "VAE"}
    path = told["paths"]["hybrid"]["latent"]
    assert len(path["energy_excess"]) == len(path["charge"]) == len(path["z_norm"]) == 5
    assert path["barrier_forth"] >= 1024 * (max(path["energy_excess"]) - path["energy_excess"][0]) - 1e-3
    tensors = load_file(out / "hybrid.safetensors")
    assert torch.equal(tensors["z"][0], prior_latents(3, 1, 8)[0])
    assert torch.equal(tensors["z"][-1], prior_latents(0, 2, 8)[1])
    assert tensors["spins"].shape == (5, 3, 32, 32)
    assert not torch.equal(load_file(out / "vae.safetensors")["z"][0], tensors["z"][0])  # encoded by its own encoder
    assert (out / "path.png").read_bytes().startswith(b"\x89PNG")
    with Image.open(out / "path.gif") as film:
        assert (film.format, film.info["loop"]) == ("GIF", 0)
        assert film.size == (2 * 256 + 8, 36 + 256 + 8 + 64)
        assert film.n_frames == 2 * 5 - 2  # type: ignore[attr-defined]  # forth and back
        times, pixels = [], []
        for k in range(8):
            film.seek(k)
            times.append(film.info["duration"])
            pixels.append(np.asarray(film.convert("RGB"), float)[36 : 36 + 256, :256])
        assert times == [600, 90, 90, 90, 600, 90, 90, 90]
    for k, image in enumerate((0, 1, 2, 3, 4, 3, 2, 1)):
        shown = 255 * spin_colours(tensors["spins"][image])[::-1].repeat(8, 0).repeat(8, 1)
        assert np.abs(pixels[k] - shown).mean() < 6  # of 255: a GIF has 256 colours
    before = {file: file.read_bytes() for file in out.iterdir()}
    (out / "vae.safetensors").unlink()  # as if stopped after the first run
    first = {"asked": told["asked"], "paths": {"hybrid": told["paths"]["hybrid"]}}
    write_json(out / "path.json", first)
    assert spinloom("interpolate", *asked) == 0
    assert {file: file.read_bytes() for file in before} == before
    capsys.readouterr()
    assert spinloom("interpolate", *asked, "--mode", "spherical") == 2
    assert "mode: linear there, spherical asked" in capsys.readouterr().err


def test_a_string_from_a_searchs_code_relaxed_in_spins_too(tmp_path, capsys):
    run = write_run(tmp_path / "h", "hybrid")
    (tmp_path / "found").mkdir()
    z = prior_latents(9, 2, 8)
    write_json(tmp_path / "found" / "search.json", {"z": z.tolist()})
    out = tmp_path / "out"
    asked = [run, "--out", out, "--from", f"{tmp_path / 'found'}#1", "--mode", "string", "--steps", 3, "--real"]
    assert spinloom("interpolate", *asked, "--images", 4) == 0
    assert "not converged" in capsys.readouterr().out
    told = json.loads((out / "path.json").read_text())["paths"]["hybrid"]
    assert told["latent"]["steps"] == told["real"]["steps"] == 3
    tensors = load_file(out / "hybrid.safetensors")
    assert torch.equal(tensors["z"][0], z[1])
    assert (MODEL.energy(tensors["real_spins"]) < MODEL.energy(tensors["spins"])).all()
    assert not list(out.glob("*.partial"))
    write_json(tmp_path / "found" / "search.json", {"z": (-z).tolist()})  # another search in that folder
    assert spinloom("interpolate", *asked, "--images", 4) == 2
    assert "checksums" in capsys.readouterr().err


def test_textures_are_ends_too_and_can_be_aligned(tmp_path, capsys):
    spins = anneal(MODEL, 32, 1, schedule=Schedule.geometric(1.0, 0.05, steps=3).then_relax(3))
    both = torch.cat((spins, spins.roll((8, 16), (-2, -1))))
    data = write_dataset(tmp_path / "data", both, MODEL).path
    ends = ["--from", f"{data}:0", "--to", f"{data}:1", "--images", 3]
    run = write_run(tmp_path / "v", "vae")
    assert spinloom("interpolate", run, "--out", tmp_path / "apart", *ends) == 0
    length = load_file(tmp_path / "apart" / "vae.safetensors")["z"]
    assert float((length[0] - length[-1]).norm()) > 1e-3
    assert spinloom("interpolate", run, "--out", tmp_path / "one", *ends, "--align") == 2
    assert "are one code" in capsys.readouterr().err  # the translate is the texture itself
    grid = write_run(tmp_path / "g", "gan", GRID)
    codes = prior_latents(0, 1, 32)
    moved = codes.reshape(-1, 4, 4).roll((1, 3), (1, 2)).reshape(1, -1)
    write_json(tmp_path / "codes.json", {"z": torch.cat((codes, moved)).tolist()})
    ends = ["--from", f"{tmp_path / 'codes.json'}#0", "--to", f"{tmp_path / 'codes.json'}#1", "--images", 3]
    assert spinloom("interpolate", grid, "--out", tmp_path / "two", *ends) == 0
    capsys.readouterr()
    assert spinloom("interpolate", grid, "--out", tmp_path / "three", *ends, "--align") == 2
    assert "are one code" in capsys.readouterr().err  # a GAN's, moved by cells


def test_what_interpolate_refuses_on_the_command_line(tmp_path, capsys):
    hybrid, gan, vae = (write_run(tmp_path / name, name) for name in ("hybrid", "gan", "vae"))
    (tmp_path / "empty").mkdir()
    calm = write_run(tmp_path / "calm", "vae", model=Hamiltonian(D=0.1, B=0.5))
    uniform = write_dataset(tmp_path / "uniform", turned(torch.tensor([0.0, 0.1]), side=32), MODEL).path
    out = tmp_path / "out"
    for arguments, says in (
        ([], "name at least one run"),
        ([hybrid, gan], "has no encoder"),
        ([gan, "--align"], "has no encoder"),
        ([hybrid, "--images", 2], "--images 2"),
        ([hybrid, "--from", "seed:x"], "after seed:"),
        ([hybrid, "--from", tmp_path / "empty"], "no search.json"),
        ([hybrid, "--from", f"{tmp_path / 'empty'}:3"], "no data set"),
        ([hybrid, "--from", "seed:1", "--to", "seed:1"], "are one code"),
        ([vae, "--prior", -1, "--mode", "string"], "--prior -1"),
        ([vae, vae], "named twice"),
        ([hybrid, "--images", 10_001], "--images 10001"),
        ([hybrid, "--seed", -1], "from 0 to 2⁶⁴ − 1"),
        ([hybrid, "--device", "cuda"], "no CUDA GPU"),
        ([calm, "--from", f"{uniform}:0", "--to", f"{uniform}:1", "--real"], "both ends relax to one texture"),
    ):
        assert spinloom("interpolate", *arguments, "--out", out) == 2
        line = capsys.readouterr().err.strip()
        assert says in line
        assert len(line.splitlines()) == 1
        assert not out.exists()
