"""The paper's figures: every one from a tiny pipeline, and what they say checked."""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import struct
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from pretend_gpu import OnGpu, pretend_gpu
from spinloom.draw import new_figure, png_bytes
from spinloom.errors import BadInput
from spinloom.figures import fig1, fig2, fig6
from spinloom.figures.every import DRAWN, draw_figures
from spinloom.figures.folder import Folder
from spinloom.figures.settings import Fig1, Fig3, Fig4, Fig5, FigureSettings
from spinloom.files import write_json
from spinloom.networks import NetworkConfig
from spinloom.report import read_rows, write_report, write_trials_report
from spinloom.run import MODELS, build_networks
from spinloom.sample import DDLS
from spinloom.trials import run_trials
from test_trials import TINY as TRIAL

FIGURES = tuple(f"fig{number}" for number in DRAWN)
QUICK = FigureSettings(
    fig3=Fig3(resolution=8),
    fig4=Fig4(steps=2),
    fig5=Fig5(resolution=8, images=3, population=4, generations=1, inner_relax=0, relax=0),
)
TINY = replace(TRIAL, ddls=DDLS(steps=2))


def figures(*arguments):
    threads = {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "spinloom", "figures", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, env=os.environ | threads)


def caption_of(path):
    with Image.open(path) as image:
        return image.info["Description"]


def png_size(content):
    assert content.startswith(b"\x89PNG\r\n")
    return struct.unpack(">II", content[16:24])


@pytest.fixture(scope="module")
def trials(tmp_path_factory):
    """A folder of one trial, its data beside it, and so a pipeline's folder within."""
    out = tmp_path_factory.mktemp("trials") / "out"
    run_trials(out, TINY, 1, show=False)
    return out


@pytest.fixture(scope="module")
def drawn(trials):
    """All six figures of it."""
    written = draw_figures(trials, settings=QUICK, show=False)
    assert written == [*(trials / "figures" / f"{name}.png" for name in FIGURES), trials / "report.html"]
    return trials / "figures"


@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_is_a_page_wide_and_carries_its_caption(drawn, name):
    path = drawn / f"{name}.png"
    width, height = png_size(path.read_bytes())
    assert width == 1540 and 700 < height < 2100  # 7 inches at 220 dots, no taller than a page
    with Image.open(path) as image:
        caption = image.info["Description"]
        colours = image.convert("RGB").getcolors(width * height)
    assert caption.startswith(f"The paper’s Fig. {name[3]}") and "  " not in caption
    assert colours is not None and len(colours) > 200  # not an empty sheet


def test_the_command_draws_the_same_bytes(drawn, trials, tmp_path):
    done = figures(trials, "--only", 6, "--out", tmp_path / "there", "--quiet")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.strip() == str(tmp_path / "there" / "fig6.png")
    assert (tmp_path / "there" / "fig6.png").read_bytes() == (drawn / "fig6.png").read_bytes()


def test_what_took_long_is_kept(drawn, trials):
    kept = {path.name for path in (drawn / "kept").iterdir()}
    assert {f"map-{objective}-0-1-0-8.safetensors" for objective in ("vae", "gan", "hybrid")} <= kept
    times = {path: path.stat().st_mtime_ns for path in (drawn / "kept").glob("map-*")}
    before = (drawn / "fig3.png").read_bytes()
    draw_figures(trials, [3], settings=QUICK, show=False)
    assert (drawn / "fig3.png").read_bytes() == before
    assert times == {path: path.stat().st_mtime_ns for path in times}


def test_networks_may_be_on_a_gpu(drawn, trials, tmp_path):
    done = figures(trials, "--device", "cuda", "--out", tmp_path / "there")
    assert (done.returncode, done.stdout) == (2, "") and "no CUDA GPU" in done.stderr
    assert not (tmp_path / "there").exists()
    with pretend_gpu():
        generator = Folder.open(trials, device="cuda").run("hybrid").generator
        assert all(isinstance(one, OnGpu) for one in generator.parameters())
        draw_figures(trials, [1, 3, 4, 5, 6], tmp_path / "there", QUICK, show=False, device="cuda")
    here, there = ({path.name: path for path in (out / "kept").iterdir()} for out in (drawn, tmp_path / "there"))
    assert here.keys() == there.keys()  # names hold what was found too, to six digits
    for name, path in here.items():
        if path.is_file():
            ours, theirs = load_file(path), load_file(there[name])
            assert all(torch.allclose(theirs[key].double(), ours[key].double(), atol=1e-4) for key in ours)
    for number in (1, 3, 4, 5, 6):
        assert png_size((tmp_path / "there" / f"fig{number}.png").read_bytes())[0] == 1540


@pytest.mark.parametrize("objective", ["hybrid", "gan", "vae"])
def test_of_a_single_run_there_are_the_figures_that_need_its_networks_alone(trials, tmp_path, objective):
    there = [3, 5, 6] if objective == "vae" else [3, 4, 5, 6]
    run = trials / "trial-0" / objective
    written = draw_figures(run, out=tmp_path / "out", settings=QUICK, show=False)
    assert written == [tmp_path / "out" / f"fig{number}.png" for number in there]
    for path in written:
        caption = caption_of(path)
        width, height = png_size(path.read_bytes())
        assert width == 1540 or (path.name == "fig3.png" and width > 500)
        assert caption.startswith(f"The paper’s Fig. {path.stem[3]}") and 300 < height < 2100
        assert "test data" not in caption and "folder" not in caption
    name = {"hybrid": "hybrid", "gan": "GAN", "vae": "VAE"}[objective]
    absent = {"hybrid": None, "gan": "encoder", "vae": "discriminator"}[objective]
    assert ("This run has no" in caption_of(written[-1])) == (absent is not None)
    assert absent is None or f"no {absent}:" in caption_of(written[-1])
    assert f"Codes of the {name} found" in caption_of(written[there.index(5)])
    assert not (run / "figures").exists()
    for number in {1, 2, 3, 4, 5, 6} - set(there):
        with pytest.raises(BadInput, match=rf"only={number}: needs .*there are {', '.join(map(str, there))}"):
            draw_figures(run, [6, number], tmp_path / "not", show=False)
        assert not (tmp_path / "not").exists()


def test_a_run_has_figures_of_its_own_and_a_model_of_the_package_none(trials, tmp_path):
    run = trials / "trial-0" / "hybrid"
    done = figures(run, "--only", 4, 6, "--fig4.steps", 3, "--fig4.step-size", 0.05, "--quiet")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.split() == [str(run / "figures" / f"fig{number}.png") for number in (4, 6)]
    assert "(ascent, α = 0.05)" in caption_of(run / "figures" / "fig4.png")
    before = sorted(MODELS.rglob("*"))
    for path in ("labyrinth-128", MODELS / "labyrinth-128"):
        done = figures(path, "--only", 6)
        assert (done.returncode, done.stdout) == (2, "")
        assert "--out" in done.stderr and len(done.stderr.splitlines()) == 1
    (written,) = draw_figures("labyrinth-128", [6], tmp_path / "out", show=False)
    assert "128 × 128 sites" in caption_of(written) and sorted(MODELS.rglob("*")) == before
    with pytest.raises(BadInput, match="only=2: needs the data and all models"):
        draw_figures("labyrinth-128", [2], tmp_path / "not")


def test_of_a_run_of_unknown_hamiltonian_there_is_its_architecture(trials, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(trials / "trial-0" / "hybrid", run, ignore=shutil.ignore_patterns("figures"))
    config = json.loads((run / "config.json").read_text())
    write_json(run / "config.json", config | {"data": config["data"] | {"hamiltonian": None}})
    with pytest.raises(BadInput, match=r"only=5: needs a Hamiltonian.*there are 6"):
        draw_figures(run, [5], show=False)
    assert draw_figures(run, show=False) == [run / "figures" / "fig6.png"]


def test_a_bad_folder_is_one_line_and_exit_code_2(tmp_path):
    done = figures(tmp_path / "nowhere")
    assert done.returncode == 2 and done.stdout == ""
    assert len(done.stderr.splitlines()) == 1 and "nowhere" in done.stderr and "spinloom run" in done.stderr
    write_json(tmp_path / "results.json", {"rows": []})
    with pytest.raises(BadInput, match="is not a pipeline"):
        draw_figures(tmp_path, [2])
    assert not (tmp_path / "figures").exists()


def test_bad_options_are_refused(trials, tmp_path):
    for number, settings, words in (
        (1, {"fig1": Fig1(texture=50)}, "texture=50"),
        (3, {"fig3": Fig3(resolution=4)}, "resolution=4"),
        (3, {"fig3": Fig3(axes=(0, 8), resolution=8)}, "axes=0 8"),
        (7, {}, "only=7"),
    ):
        with pytest.raises(BadInput, match=words):
            draw_figures(trials, [number], tmp_path / "out", FigureSettings(**settings), show=False)
    with pytest.raises(BadInput, match=r"fig4\.seed=-1"):
        Fig4(seed=-1)
    done = figures(trials, "--fig4.seed", "-1")
    assert done.returncode == 2 and "-1" in done.stderr and "Traceback" not in done.stderr


def test_reports_show_the_figures_that_are_there(drawn, trials):
    def inside(text):
        return {base64.b64decode(found) for found in re.findall(r"base64,([A-Za-z0-9+/=]+)", text)}

    figures = {path.read_bytes() for path in drawn.glob("fig*.png")}
    assert len(figures) == 6
    text = write_trials_report(trials).read_text()
    assert figures <= inside(text) and "The paper’s Fig. 4" in text
    own = trials / "trial-0" / "figures" / "fig3.png"
    own.parent.mkdir()
    own.write_bytes(png_bytes(new_figure(2, 1), "A <caption>."))
    page = write_report(trials / "trial-0").read_text()
    assert "A &lt;caption&gt;." in page and own.read_bytes() in inside(page) and not figures & inside(page)
    (drawn / "fig9.png").write_bytes(b"\x89PNG\r\n")
    with pytest.raises(BadInput, match=r"fig9\.png: is no picture"):
        write_trials_report(trials)
    (drawn / "fig9.png").unlink()


def test_rows_are_read_of_pipelines_and_of_trials(trials):
    rows, spaces = read_rows(trials)
    single, same = read_rows(trials / "trial-0")
    assert [(row.name, row.coverage) for row in rows] == [(row.name, row.coverage) for row in single]
    assert spaces == same and set(spaces) == {"features", "spins"}


def test_the_texture_shown_is_the_first_with_the_median_of_nodal_points(trials):
    folder = Folder.open(trials)
    shown = fig2.typical(folder, "vae-prior")
    counts = folder.measured("vae-prior")["nodal_points"]
    first = int((counts == counts.double().median().floor()).nonzero()[0, 0])
    half = sorted(counts.tolist())[len(counts) // 2 - 1 : len(counts) // 2 + 1]
    if half[0] == half[1]:  # torch's median is the lower of two
        assert torch.equal(shown, folder.samples("vae-prior")[first])
    assert fig2.typical(folder, "nobody") is None


CONFIGS = {
    "paper": NetworkConfig(),
    "quick": NetworkConfig(size=(32, 32), latent=64, generator=16, discriminator=8, encoder=8, widest=128, head=2),
    "oblong": NetworkConfig(size=(40, 48), latent=16, generator=4, discriminator=4, encoder=8, widest=16),
    "lean": NetworkConfig(
        size=(64, 64), latent=64, generator=4, discriminator=4, encoder=4, widest=16, head=4, patch=4, coarsest=8,
        grid=True,
    ),
}  # fmt: skip
CONFIGS["white"] = replace(CONFIGS["lean"], latent=128, whiten=True)


@pytest.mark.parametrize("name", CONFIGS)
def test_layers_are_those_of_the_modules(name):
    config = CONFIGS[name]
    found = fig6.network_layers(config)
    nets: dict[str, Any] = dict(build_networks(config, ("generator", "discriminator", "encoder"), seed=1))
    for player, net in nets.items():
        assert sum(layer.parameters for layer in found[player]) == sum(p.numel() for p in net.parameters())
    shapes = {player: [layer.shape for layer in layers] for player, layers in found.items()}
    kinds = {player: [layer.kind for layer in layers] for player, layers in found.items()}
    spins = torch.randn(2, 3, *config.size)
    with torch.no_grad():
        generator = nets["generator"].eval()
        z = torch.randn(2, config.latent)
        x = generator.first(z.unflatten(1, (-1, *config.bottom)) if config.grid else z).unflatten(-1, (-1,))
        x = x if config.grid else x.flatten(1).unflatten(1, (-1, *config.bottom))
        expected = []
        for block in generator.blocks:
            x = block(x)
            expected.append(tuple(x.shape[1:]))
        blocks = [shape for shape, kind in zip(shapes["generator"], kinds["generator"], strict=True) if kind == "block"]
        assert blocks == expected
        assert shapes["generator"][0] == (config.latent,)
        assert shapes["generator"][-1] == tuple(generator(z).shape[1:]) == (3, *config.size)
        for player in ("discriminator", "encoder"):
            net, x, expected = nets[player].eval(), spins, []
            for layer in net.blocks:
                x = layer(x)
                expected.append(tuple(x.shape[1:]))
            assert shapes[player][: len(expected) + 1] == [(3, *config.size), *expected]
        assert shapes["discriminator"][-1] == tuple(nets["discriminator"](spins).shape[1:]) == ()
        assert shapes["encoder"][-1] == tuple(nets["encoder"](spins)[0].shape[1:]) == (config.latent,)
    words = [layer.words for layers in found.values() for layer in layers]
    assert ("whiten the means" in words) == config.whiten
    assert any("stride 4" in text for text in words) == (config.patch == 4)
    assert any("B-spline" in text for text in words) == (config.head > 1)
    assert ("dense" in words) != config.grid


def test_shapes_in_words():
    words = fig6.shape_words
    assert [words(shape) for shape in ((128, 4, 4), (16, 4, 5), (64,), ())] == ["128 × 4²", "16×4×5", "64", "1"]


def test_the_workflows_caption_gives_further_losses_to_those_that_have_them():
    """A VAE is Eq. (1) alone, whatever weights the settings have."""
    training = {"energy": 0, "rest": 60.0, "spectrum": 0.5, "r1": 0}
    here = Path()
    folder = Folder(here, here, {"config": {"training": training}, "size": [128, 128]}, here)
    words = " ".join(fig1.caption(folder, DDLS(), 64).split())
    assert "The losses of GAN and hybrid here also hold their distance from rest (weight 60) and that of" in words
    training |= {"rest": 0, "spectrum": 0}
    assert "also hold" not in fig1.caption(folder, DDLS(), 64)
