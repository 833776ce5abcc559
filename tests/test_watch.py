"""Looks at a training: what they find, that they disturb nothing, and that a collapse is noticed."""

import importlib.util

import pytest
import torch

import spinloom as sl
from spinloom.coverage import CoverageReference
from spinloom.errors import BadInput
from spinloom.files import read_lines
from spinloom.run import read_metrics
from spinloom.sample import prior_latents
from spinloom.train import train
from spinloom.watch import FILE, Watch, collapsed, said
from test_train import NETWORKS, QUICK, H, same_weights, settings


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return sl.simulate(tmp_path_factory.mktemp("watch") / "set", H, 32, 200, seed=1, schedule=QUICK, show=False)


def test_a_watched_run_has_the_bits_of_one_that_is_not_and_says_what_it_draws(data, tmp_path):
    heard = []
    config = settings(watch_every=5)
    train(data, tmp_path / "seen", NETWORKS, config, show=False, say=heard.append)
    train(data, tmp_path / "alone", NETWORKS, settings(watch_every=0), show=False)
    assert same_weights(tmp_path / "seen", tmp_path / "alone")
    assert not (tmp_path / "alone" / FILE).exists()
    lines = read_lines(tmp_path / "seen" / FILE)
    assert [line["step"] for line in lines] == [5, 10]
    assert len(heard) == 2 and heard[0].startswith("step 5: ε = ")
    for line in lines:
        picture = tmp_path / "seen" / "watch" / f"step-{line['step']:06d}.png"
        assert picture.read_bytes().startswith(b"\x89PNG")
        assert line["data_energy_excess"] == pytest.approx(data.info["statistics"]["energy_excess"]["mean"], abs=1e-5)

    # and goes on without repeating itself
    train(data, tmp_path / "parts", NETWORKS, settings(steps=7, watch_every=5), show=False)
    train(data, tmp_path / "parts", NETWORKS, config, show=False)
    assert read_lines(tmp_path / "parts" / FILE) == lines


def test_a_look_measures_what_the_generator_draws(data, tmp_path):
    run = train(data, tmp_path / "run", NETWORKS, settings(steps=0), show=False)
    watch = Watch(tmp_path, data, NETWORKS.latent, seed=3)
    line = watch.look(0, run.generator)
    with torch.no_grad():
        spins = torch.cat([run.generator(z) for z in prior_latents(3, 200, NETWORKS.latent).split(50)])
    (found,) = read_lines(tmp_path / FILE)
    assert found["energy_excess"]["mean"] == pytest.approx(float(H.energy_excess(spins).mean()), abs=1e-4)
    assert found["nodal_points"] == pytest.approx(float(sl.nodal_points(spins).float().mean()), abs=1e-3)
    assert f"{found['nodal_points']:.2f} nodal points" in line
    assert found["coverage"] < 0.2 < found["data_against_data"]


def test_a_look_that_fails_is_said_and_stops_nothing(data, tmp_path, monkeypatch):
    heard = []

    def fails(*arguments):
        raise BadInput("a picture: cannot be drawn")

    monkeypatch.setattr("spinloom.watch.Watch._draw", fails)
    run = train(data, tmp_path / "run", NETWORKS, settings(watch_every=5), show=False, say=heard.append)
    assert run.step == 12
    assert heard[0] == "step 5: no look at the generator (a picture: cannot be drawn); the training goes on"


def test_users_settings_for_saving_pictures_do_not_matter(data, tmp_path):
    import matplotlib

    run = train(data, tmp_path / "run", NETWORKS, settings(steps=0), show=False)
    with matplotlib.rc_context({"savefig.bbox": "tight", "savefig.dpi": 33}):
        watch = Watch(tmp_path, data, NETWORKS.latent, seed=3)
        assert "nodal points" in watch.look(4, run.generator)
    assert (tmp_path / "watch" / "step-000004.png").read_bytes().startswith(b"\x89PNG")


def test_few_held_out_textures_give_no_coverage_and_say_so(data, tmp_path):
    run = train(data, tmp_path / "run", NETWORKS, settings(steps=0), show=False)
    line = Watch(tmp_path, data.window(0, 39), NETWORKS.latent, seed=3).look(0, run.generator)
    assert "no coverage (it needs 40 held-out textures)" in line


def test_spread_is_one_for_the_data_and_none_for_copies(data):
    reference = CoverageReference(data[:100], H=H)
    assert reference.spread(data[100:]) == pytest.approx(1, abs=0.15)
    assert reference.spread(data[:1].expand(40, -1, -1, -1)) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("modes", [1, 3, 20])
def test_few_modes_are_noticed_behind_a_generators_defects(data, tmp_path, modes):
    """Copies of a few textures, each with noise on its spins, as raw samples have defects of their own."""

    class Copies(torch.nn.Module):
        def __init__(self, count):
            super().__init__()
            self.anything = torch.nn.Linear(1, 1)
            self.textures, self.drawn = data[:count], 0

        def forward(self, z):
            chosen = self.textures[(self.drawn + torch.arange(len(z))) % len(self.textures)]
            self.drawn += len(z)
            seeds = (z[:, 1] * 1e6).long().tolist()
            noise = [torch.randn(chosen[0].shape, generator=torch.Generator().manual_seed(abs(s))) for s in seeds]
            return torch.nn.functional.normalize(chosen + 0.1 * torch.stack(noise), dim=1)

    held_out = data[100:]
    watch = Watch(tmp_path, data.window(100, 100), 4, seed=3)
    watch.look(1, Copies(modes))
    assert watch.lines[-1]["collapse"] == "distinctness"
    watch.lines.clear()
    watch.look(1, Copies(100))
    assert "collapse" not in watch.lines[-1]
    assert CoverageReference(held_out, H=H).distinctness(data[:100]) == pytest.approx(1, abs=0.3)


def look(step, coverage=0.5, spread=1.0, broad=False):
    return {"step": step, "coverage": coverage, "spread": spread, "broad": broad}


@pytest.mark.parametrize(
    ("lines", "name"),
    [
        ([look(1, 0.0), look(2, 0.1), look(3, 0.01)], None),  # it was never good
        ([look(1, 0.6), look(2, 0.4)], None),
        ([look(1, 0.6), look(2, 0.5), look(3, 0.2)], "coverage"),
        ([look(1, 0.9, broad=True), look(2, 0.3)], None),  # the high one meant nothing
        ([look(1), look(2, spread=0.4)], "spread"),
        ([look(1, spread=0.2), look(2, spread=0.05)], None),
        ([look(1), look(2, spread=0.4), look(3, spread=0.9)], None),  # it came back
        ([], None),
        ([look(1) | {"distinctness": 0.1}], "distinctness"),  # at the first look already
        ([look(1) | {"distinctness": 0.9}], None),
        # a generator that learns: fewer and fewer of its samples lie far off the data
        ([look(1, 1.0, 33.8, True), look(2, 1.0, 13.6), look(3, 1.0, 2.4), look(4, 0.94, 0.98)], None),
        ([look(1, 0.0, 50.0, True), look(2, 0.0, 0.4, True)], "spread"),  # all alike, wherever that is
    ],
)
def test_a_collapse_is_noticed(lines, name):
    assert collapsed(lines) == name


def test_a_collapse_is_said():
    alike = {"step": 9, "nodal_points": 1.0, "collapse": "distinctness", "distinctness": 0.1, "coverage": 0.9}
    alike |= {"broad": False, "data_against_data": 0.95}
    assert "near copies (distinctness 0.10)" in said(alike)
    found = {"step": 9, "nodal_points": 1.0, "collapse": "coverage"}
    assert "its coverage has fallen" in said(found) and "mode collapse" in said(found)


@pytest.mark.skipif(importlib.util.find_spec("tensorboard") is None, reason="tensorboard is not installed")
def test_tensorboard_shows_the_same_numbers(data, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    train(data, tmp_path / "run", NETWORKS, settings(watch_every=5, steps=7, tensorboard=True), show=False)
    train(data, tmp_path / "run", NETWORKS, settings(watch_every=5, tensorboard=True), show=False)
    board = EventAccumulator(str(tmp_path / "run" / "tensorboard")).Reload()
    shown = {event.step: event.value for event in board.Scalars("training/reconstruction")}
    logged = {line["step"]: line["reconstruction"] for line in read_metrics(tmp_path / "run")}
    assert shown == pytest.approx(logged, abs=1e-6)
    looks = {event.step: event.value for event in board.Scalars("prior samples/nodal_points")}
    assert looks == pytest.approx({line["step"]: line["nodal_points"] for line in read_lines(tmp_path / "run" / FILE)})
    assert [event.step for event in board.Images("prior samples")] == [5, 10]
    assert same_weights(tmp_path / "run", _plain(data, tmp_path))


def _plain(data, folder):
    train(data, folder / "plain", NETWORKS, settings(watch_every=0), show=False)
    return folder / "plain"


def test_without_tensorboard_it_is_refused_before_any_work(data, tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(BadInput, match=r"training.tensorboard=True: .*pip install"):
        train(data, tmp_path / "run", NETWORKS, settings(tensorboard=True), show=False)
    assert not (tmp_path / "run").exists()
