"""Planes, maps and codes on a decoder that is known exactly; maps that are stopped and go on."""

import json
import math
import re
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from spinloom.commands_latent import file_name, named_runs
from spinloom.commands_map import _print_map
from spinloom.errors import BadInput
from spinloom.files import write_json
from spinloom.hamiltonian import Hamiltonian
from spinloom.latent import Plane, latent_map, read_code
from spinloom.networks import NetworkConfig
from spinloom.objectives import OBJECTIVES
from spinloom.run import Run, build_networks, write_config, write_weights
from spinloom.sample import prior_latents

H = Hamiltonian(D=0.6, B=0.5)


def tilted(z: torch.Tensor) -> torch.Tensor:
    """Uniform textures whose angle to the field is z₀ + 2 z₁ radian, so that ε = B(1 − cos)."""
    angle = (z[:, 0] + 2 * z[:, 1])[:, None, None].expand(-1, 8, 8)
    return torch.stack((angle.sin(), torch.zeros_like(angle), angle.cos()), 1)


def test_a_plane_along_axes_goes_through_the_prior_draw_but_for_those_axes():
    plane = Plane.along(6, (4, 1), seed=3, draw=2)
    z = plane.codes(torch.tensor([0.5, -1.0]), torch.tensor([2.0, 0.25]))
    expected = prior_latents(3, 3, 6)[[2, 2]].clone()
    expected[:, 4], expected[:, 1] = torch.tensor([0.5, -1.0]), torch.tensor([2.0, 0.25])
    assert torch.equal(z, expected)
    assert plane.unit == 1
    assert plane.names == ("z₄", "z₁")


def test_a_plane_through_three_codes_holds_them():
    codes = prior_latents(0, 3, 20)
    plane = Plane.through(*codes)
    for code, (u, v) in zip(codes, plane.marks.values(), strict=True):
        assert torch.allclose(plane.codes(torch.tensor([u]), torch.tensor([v]))[0], code, atol=1e-5)
    assert max(math.hypot(*at) for at in plane.marks.values()) == pytest.approx(1.5)
    assert plane.unit == pytest.approx(float(plane.second.norm()), rel=1e-6)
    assert float(plane.first @ plane.second) == pytest.approx(0, abs=1e-4)
    assert plane.marks["A"][1] == pytest.approx(plane.marks["B"][1])  # the first axis runs along B − A


def test_a_map_is_what_its_codes_decode_to():
    plane = Plane.along(3, (0, 1), seed=1)
    found = latent_map(tilted, H, plane, (-1, 2), 9, score=lambda spins: spins[:, 0].mean((1, 2)))
    ticks = torch.linspace(-1, 2, 9, dtype=torch.float64)
    angle = ticks[None, :] + 2 * ticks[:, None]  # a column is the first axis, a row the second
    assert torch.allclose(found.energy_excess, H.B * (1 - angle.cos()), atol=1e-5)
    assert found.logits is not None
    assert torch.allclose(found.logits.double(), angle.sin(), atol=1e-5)
    assert not found.nodal_points.any()
    assert found.pixel == pytest.approx(3 / 8)
    assert found.sites == 64
    assert torch.allclose(found.code(2, 7)[0, :2].double(), torch.stack((ticks[7], ticks[2])))
    assert latent_map(tilted, H, plane, (-1, 2), 9).logits is None


def test_a_map_that_was_stopped_goes_on_to_the_same_bits(tmp_path):
    plane = Plane.along(4, (0, 2), seed=5)
    whole = latent_map(tilted, H, plane, resolution=70)
    calls = 0

    def stopping(z):
        nonlocal calls
        calls += 1
        if calls == 61:
            raise KeyboardInterrupt
        return tilted(z)

    file = tmp_path / "map.safetensors"
    with pytest.raises(KeyboardInterrupt):
        latent_map(stopping, H, plane, resolution=70, keep=file, label="x")
    begun = calls
    resumed = latent_map(stopping, H, plane, resolution=70, keep=file, label="x")
    assert 40 < begun < 98
    assert calls - begun < 70  # of 98 chunks
    for name, values in whole.tensors().items():
        assert torch.equal(values, resumed.tensors()[name])
    last = calls
    latent_map(stopping, H, plane, resolution=70, keep=file, label="x")
    assert calls == last
    for other in ({"label": "y"}, {"span": (-2, 1)}, {"score": lambda s: s.sum((1, 2, 3))}):
        with pytest.raises(BadInput, match="another plane"):
            latent_map(tilted, H, plane, resolution=70, keep=file, **{"label": "x", **other})
    file.write_bytes(b"torn")
    with pytest.raises(BadInput, match="delete it"):
        latent_map(tilted, H, plane, resolution=70, keep=file, label="x")


def test_codes_come_from_seeds_and_files(tmp_path):
    z = prior_latents(9, 3, 5)
    save_file({"z": z}, tmp_path / "found.safetensors")
    write_json(tmp_path / "found.json", {"z": z[1].tolist()})
    assert torch.equal(read_code("9", 5), z[0])
    assert torch.equal(read_code(f"{tmp_path}/found.safetensors#2", 5), z[2])
    assert torch.equal(read_code(str(tmp_path / "found.json"), 5), z[1])
    save_file({"spins": z}, tmp_path / "other.safetensors")
    for text, says in (
        (f"{tmp_path}/found.safetensors#3", "has 3 codes"),
        (f"{tmp_path}/found.safetensors#a", "number of the code"),
        (f"{tmp_path}/nowhere.safetensors", "neither a seed nor a file"),
        (f"{tmp_path}/other.safetensors", "key z"),
    ):
        with pytest.raises(BadInput, match=says):
            read_code(text, 5)
    with pytest.raises(BadInput, match="has 6"):
        read_code(str(tmp_path / "found.json"), 6)
    assert read_code(str(2**64 - 1), 5).isfinite().all()
    with pytest.raises(BadInput, match="from 0 to 2⁶⁴ − 1"):
        read_code(str(2**64), 5)
    for nothing in ([], [[]], {}, [[1, 2], [3]], "abc", None, 10**400):
        write_json(tmp_path / "empty.json", {"z": nothing})
        with pytest.raises(BadInput, match="under the key z"):
            read_code(str(tmp_path / "empty.json"), 5)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Plane.along(4, (0, 4)), "axes 0 to 3"),
        (lambda: Plane.along(4, (2, 2)), "two different axes"),
        (lambda: Plane.through(torch.zeros(3), torch.ones(3), 2 * torch.ones(3)), "on one line"),
        (lambda: Plane.through(torch.zeros(3), torch.zeros(3), torch.ones(3)), "on one line"),
        (lambda: latent_map(tilted, H, Plane.along(4), (2, -2)), "smaller to a larger"),
        (lambda: latent_map(tilted, H, Plane.along(4), resolution=4), "resolution=4"),
    ],
)
def test_planes_and_maps_without_meaning_are_refused(make, says):
    with pytest.raises(BadInput, match=says):
        make()


# the command

NETWORKS = NetworkConfig(size=(32, 32), latent=8, generator=4, discriminator=4, encoder=4, widest=8)


def write_run(
    folder: Path, objective: str, hamiltonian: Hamiltonian | None = H, seed: int = 5, checksum: str | None = None
) -> Path:
    """A run's folder with untrained networks."""
    data = {"hamiltonian": hamiltonian.as_dict() if hamiltonian else None, "checksum": checksum}
    config = {"objective": objective, "networks": NETWORKS.as_dict(), "training": {}, "data": data}
    write_config(folder, config)
    write_weights(folder, build_networks(NETWORKS, OBJECTIVES[objective]().players, seed=seed), 3)
    return folder


def spinloom(*arguments) -> int:
    from spinloom.cli import main

    with pytest.raises(SystemExit) as end:
        main([str(a) for a in arguments])
    return end.value.code or 0  # type: ignore[return-value]


def test_map_of_several_runs_on_the_command_line(tmp_path, capsys):
    vae, gan = write_run(tmp_path / "v", "vae"), write_run(tmp_path / "g", "gan")
    asked = [vae, gan, "--out", tmp_path / "out", "--resolution", 10, "--range", "-1", "2", "--axes", 3, 1]
    asked += ["--planes", 4, "--planes-resolution", 8, "--json"]
    assert spinloom("map", *asked) == 0
    told = json.loads(capsys.readouterr().out)
    assert set(told["runs"]) == {"VAE", "GAN"}
    many = told["runs"]["GAN"]["survey"]
    assert (len(many["pairs"]), many["draws"], len(many["rows"])) == (2, 2, 4)
    assert told["comparison"]["flat_share"]["GAN - VAE"]["planes"] == 4
    assert told["objectives"]["gan"]["flat_share"]["mean"] == many["summary"]["flat_share"]["mean"]
    assert (tmp_path / "out" / "map.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "out" / "survey.png").exists()
    before = {path: path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert spinloom("map", *asked) == 0
    assert json.loads(capsys.readouterr().out) == told
    (tmp_path / "out" / "map.json").write_text(json.dumps({"asked": told["asked"]}))  # as if stopped at the end
    assert spinloom("map", *asked) == 0
    assert {path: path.read_bytes() for path in before} == before
    assert spinloom("map", *asked, "--seed", 1) == 2
    assert "seed: 0 there, 1 asked" in capsys.readouterr().err


def test_a_map_through_codes_of_a_file_that_was_written_anew_is_another_one(tmp_path, capsys):
    run, file = write_run(tmp_path / "v", "vae"), tmp_path / "z.safetensors"
    asked = [run, "--out", tmp_path / "out", "--resolution", 8, "--through", *(f"{file}#{k}" for k in range(3))]
    save_file({"z": prior_latents(0, 3, NETWORKS.latent)}, file)
    assert spinloom("map", *asked, "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert spinloom("map", *asked, "--json") == 0
    assert json.loads(capsys.readouterr().out) == told
    save_file({"z": prior_latents(1, 3, NETWORKS.latent)}, file)
    assert spinloom("map", *asked, "--json") == 2
    assert "checksums" in capsys.readouterr().err


def test_runs_of_one_objective_are_told_apart_by_the_least_of_their_paths():
    def names(*paths: str) -> list[str]:
        runs = [Run(Path(path), 0, {"objective": Path(path).name[:3]}, NETWORKS, H, {}) for path in paths]
        return list(named_runs(runs))

    assert names("/t/vae", "/t/gan") == ["VAE", "GAN"]
    assert names("/t/trial-0/gan", "/t/trial-1/gan", "/t/trial-0/vae") == ["GAN trial-0", "GAN trial-1", "VAE"]
    assert names("/t/gan-a", "/t/gan-b") == ["gan-a", "gan-b"]
    assert names("/t/gan", "/t/gans", "/t/gan b") == ["GAN", "GAN gans", "GAN gan b"]
    assert names("/a/0/gan", "/a/1/gan", "/b/0/gan") == ["GAN a/0", "GAN a/1", "GAN b/0"]
    assert names("/x/gan", "/x/t/gan", "/gan") == ["GAN x", "GAN t", "GAN /"]
    with pytest.raises(BadInput, match="named twice"):
        names("/t/gan", "/t/u/../gan")


def test_files_of_different_runs_have_different_names():
    names = ["hybrid", "VAE", "GAN", "GAN a", "GAN A", "GAN a b", "GAN a-b", "GAN a/b", "GAN A/b", "GAN ä", "GAN a.klm"]
    names += ["gan-a", "gan-A", "gan2", "gan-/a", "gan-.a"]
    files = [file_name(name) for name in names]
    assert files[:4] == ["hybrid", "vae", "gan", "gan-a"]
    assert len(set(files)) == len(files)
    assert all(re.fullmatch(r"[a-z0-9_-]+", file) for file in files)  # also where case does not count


def test_a_map_of_trials_sums_up_each_objective(tmp_path, capsys):
    runs = [write_run(tmp_path / f"trial-{t}" / name, name, seed=t) for name in ("hybrid", "vae") for t in (0, 1)]
    for planes in ([], ["--planes", 2, "--planes-resolution", 8]):
        out = tmp_path / f"out{len(planes)}"
        assert spinloom("map", *runs, "--out", out, "--resolution", 9, *planes, "--json") == 0
        told = json.loads(capsys.readouterr().out)
        assert list(told["runs"]) == ["hybrid trial-0", "hybrid trial-1", "VAE trial-0", "VAE trial-1"]
        for objective, name in (("hybrid", "hybrid"), ("vae", "VAE")):
            kin = [told["runs"][f"{name} trial-{t}"] for t in (0, 1)]
            one, other = (
                run["survey"]["summary"]["sharpness"]["mean"] if planes else run["numbers"]["sharpness"] for run in kin
            )
            found = told["objectives"][objective]["sharpness"]
            assert found["runs"] == 2
            assert one != other
            assert found["mean"] == pytest.approx((one + other) / 2)
            assert found["std"] == pytest.approx(abs(one - other) / 2**0.5)
        labels = load_file(out / "maps" / "vae-trial-1.domains.safetensors")["labels"]
        domains = told["runs"]["VAE trial-1"]["domains"]
        assert labels.shape == (9, 9)
        assert [int(labels[row, column]) for row, column in domains["lowest"]] == list(range(int(labels.max()) + 1))
        assert all(int(labels[tuple(wall["pass"])]) in wall["between"] for wall in domains["walls"])
        assert spinloom("map", *runs, "--out", out, "--resolution", 9, *planes) == 0
        assert "VAE, 2 runs" in capsys.readouterr().out


def test_runs_of_several_models_have_no_mean(tmp_path, capsys):
    runs = [write_run(tmp_path / "a", "vae"), write_run(tmp_path / "b", "vae", Hamiltonian(D=0.6))]
    runs += [write_run(tmp_path / name, "gan", seed=seed) for name, seed in (("gan", 1), ("gan-2", 2))]
    asked = [*runs, "--out", tmp_path / "out", "--resolution", 9]
    assert spinloom("map", *asked, "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert list(told["runs"]) == ["VAE a", "VAE b", "GAN", "gan-2"]
    assert told["objectives"].keys() == {"gan"}
    assert "one Hamiltonian and lattice" in Image.open(tmp_path / "out" / "map.png").info["Description"]
    assert spinloom("map", *asked) == 0
    printed = capsys.readouterr().out
    assert "VAE: runs of several Hamiltonians or lattices, no mean over them" in printed
    assert "VAE, 2 runs" not in printed
    assert "GAN, 2 runs" in printed


def test_the_table_of_maps_fits_80_columns_with_every_number_whole(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    numbers = {"flat_share": 0.344, "wall_width": 12.197, "sharpness": 0.194, "blur_sharpness": 0.175, "domains": 14}
    crossing = {"nodal_points": [14, 25, 13], "charge_difference": -12, "depth": 0.5}
    names = ["VAE", "hybrid a-run-with-quite-a-long-name/and-more"]
    runs = {name: {"numbers": numbers, "crossing": crossing, "objective": "vae"} for name in names}
    runs["VAE"] = {**runs["VAE"], "crossing": {**crossing, "depth": 1.0}}
    _print_map({"runs": runs})
    *lines, note = capsys.readouterr().out.splitlines()
    table = "\n".join(lines)
    assert max(map(len, lines)) <= 80
    assert "…" not in table
    assert table.count("12.197") == table.count("14, 25, 13") == table.count("−12") == 2
    assert table.count("†") == 1
    assert note == f"† no wall of 1 J in the map; k, l, m are at one of a smaller depth: {names[1]} 0.5 J"


def test_what_map_refuses_on_the_command_line(tmp_path, capsys):
    run = write_run(tmp_path / "g", "gan")
    unknown = write_run(tmp_path / "u", "gan", None)
    write_json(tmp_path / "empty.json", {"z": []})
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").write_text("precious")
    out = tmp_path / "out"
    for arguments, says in (
        ([], "name at least one run"),
        ([run, run], "named twice"),
        ([run, "--axes", 0, 9], "axes 0 to 7"),
        ([run, "--axes", 0, 1, "--through", 1, 2, 3], "each is a plane of its own"),
        ([run, "--through", 1, 2, 2], "on one line"),
        ([unknown], "unknown Hamiltonian"),
        ([run, "--range", 1, 1], "smaller to a larger"),
        ([run, "--resolution", 5], "--resolution 5"),
        ([run, "--seed", -1], "from 0 to 2⁶⁴ − 1"),
        ([run, "--seed", 2**64], "from 0 to 2⁶⁴ − 1"),
        ([run, "--seed", 0.5], "not a whole number"),
        ([run, "--through", tmp_path / "empty.json", 1, 2], "holds no codes"),
        ([run, "--device", "cuda"], "no CUDA GPU"),
    ):
        assert spinloom("map", *arguments, "--out", out) == 2
        line = capsys.readouterr().err.strip()
        assert says in line
        assert len(line.splitlines()) == 1
        assert not out.exists()
    assert spinloom("map", run, "--out", tmp_path / "full") == 2
    assert "nothing is overwritten" in capsys.readouterr().err
