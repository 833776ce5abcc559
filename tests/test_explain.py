"""Driven paths and rules on targets whose paths are known, and the command."""

import json
from pathlib import Path

import pytest
import torch

from spinloom.commands_latent import held_out
from spinloom.commands_map import _judge
from spinloom.coverage import CoverageReference
from spinloom.dataset import write_dataset
from spinloom.errors import BadInput
from spinloom.explain import Box, compare_rules, nodal_box, settings_for, steps_shown, watch_paths
from spinloom.hamiltonian import Hamiltonian
from spinloom.run import load
from spinloom.sample import CHUNK, DDLS, prior_latents, sample_latents
from spinloom.topology import nodal_centres
from test_latent import spinloom, write_run

H = Hamiltonian(D=0.6, B=0.5)
PEAK = torch.tensor([0.5, -0.25, 0.125])


def decode(z: torch.Tensor) -> torch.Tensor:
    """Uniform textures at the angle |z − peak| to the field: ε = B(1 − cos); a flipped spin beyond 1 radian."""
    angle = (z - PEAK).norm(dim=1)[:, None, None].expand(-1, 8, 8)
    spins = torch.stack(
        (
            angle.sin(),
            torch.zeros_like(angle),
            angle.cos(),
        ),
        1,
    )
    flip = torch.ones(1, 1, 8, 8)
    flip[..., 3, 5] = -1
    return torch.where((angle[:, None] > 1) & (flip < 0), -spins, spins)


def score(spins: torch.Tensor) -> torch.Tensor:
    """2 cos of the angle at a site that is not flipped: the slope in z is −2 sin|z − peak|."""
    return 2 * spins[:, 2, 0, 0]


def test_paths_are_those_of_the_recursion():
    settings = DDLS("ascent", 30, 0.1)
    found = watch_paths(decode, score, H, 3, settings, count=60, seed=4)
    start = prior_latents(4, 60, 3)
    angle = (start - PEAK).norm(dim=1)
    direction = (start - PEAK) / angle[:, None]
    for step in range(31):
        z = PEAK + direction * angle[:, None]
        assert torch.allclose(found.logits[step], 2 * angle.cos(), atol=1e-4)
        assert torch.allclose(found.norm[step], z.norm(dim=1), atol=1e-4)
        if step in found.at:
            assert torch.allclose(found.codes[found.at.index(step)], z, atol=1e-4)
        smooth = angle < 0.99
        assert torch.allclose(found.energy_excess[step][smooth], H.B * (1 - angle[smooth].double().cos()), atol=1e-4)
        assert torch.equal(
            found.nodal_points[step][(angle - 1).abs() > 1e-3], (angle > 1).long()[(angle - 1).abs() > 1e-3]
        )
        angle = angle - 0.1 * 2 * angle.sin()
    assert found.at == (0, 1, 2, 5, 10, 20, 30)
    assert found.nodal_points.shape == (31, 60)
    _, codes = sample_latents(decode, score, 60, 3, settings, seed=4)
    assert torch.equal(found.codes[-1], codes)  # the same textures that sampling gives


@pytest.mark.parametrize("rule", ["langevin", "dot", "dgflow"])
def test_every_rule_can_be_watched_to_the_end_that_sampling_has(rule):
    settings = DDLS(rule, 7, 0.05)
    found = watch_paths(decode, score, H, 3, settings, count=10, seed=1)
    _, codes = sample_latents(decode, score, 10, 3, settings, seed=1)
    assert torch.equal(found.codes[-1], codes)
    assert torch.equal(found.codes[0], prior_latents(1, 10, 3))


def test_curves_story_and_the_code_that_is_shown():
    found = watch_paths(decode, score, H, 3, DDLS("ascent", 12, 0.1), count=40)
    curves = found.curves()
    assert curves["energy_excess"]["mean"] == pytest.approx(found.energy_excess.mean(1).tolist())
    assert all(low <= high for low, high in zip(curves["norm"]["low"], curves["norm"]["high"], strict=True))
    assert curves["norm"]["mean"][0] == pytest.approx(1, abs=0.2)
    story = found.story()
    assert [line["step"] for line in story] == [0, 1, 2, 5, 10, 12]
    assert story[0]["nodal_points"] == 1
    assert found.shown == int((found.nodal_points[0] > 0).nonzero()[0, 0])
    assert steps_shown(100) == (0, 1, 2, 5, 10, 20, 50, 100)
    with pytest.raises(BadInput, match="textures=0"):
        watch_paths(decode, score, H, 3, DDLS(), count=0)


def test_paths_that_were_stopped_go_on(tmp_path):
    whole = watch_paths(decode, score, H, 3, DDLS("langevin", 5, 0.1), count=70)
    calls = 0

    def stopping(z):
        nonlocal calls
        calls += 1
        if calls == 20:
            raise KeyboardInterrupt
        return decode(z)

    with pytest.raises(KeyboardInterrupt):
        watch_paths(stopping, score, H, 3, DDLS("langevin", 5, 0.1), count=70, keep=tmp_path / "p", label="a")
    resumed = watch_paths(stopping, score, H, 3, DDLS("langevin", 5, 0.1), count=70, keep=tmp_path / "p", label="a")
    assert calls < 35  # a chunk is 13
    for name in ("energy_excess", "logits", "nodal_points", "norm", "codes"):
        assert torch.equal(getattr(whole, name), getattr(resumed, name))
    with pytest.raises(BadInput, match="other settings"):
        watch_paths(decode, score, H, 3, DDLS("langevin", 5, 0.2), count=70, keep=tmp_path / "p", label="a")


@pytest.mark.parametrize("rule", ["ascent", "dgflow"])
def test_codes_that_run_away_are_refused_at_once(rule, tmp_path):
    calls = 0

    def counting(z):
        nonlocal calls
        calls += 1
        return decode(z)

    with pytest.raises(BadInput, match=r"step_size=1e\+38: .* at step [12]; use less, e.g. 1e\+37"):
        watch_paths(counting, score, H, 3, DDLS(rule, 100, 1e38), count=60, keep=tmp_path / "p")
    assert calls < 8
    assert not list(tmp_path.iterdir())
    with pytest.raises(BadInput, match="before any step"):
        watch_paths(decode, lambda spins: score(spins) * torch.inf, H, 3, DDLS(rule, 3), count=1)


def test_rules_leave_out_step_sizes_at_which_codes_run_away():
    rows = compare_rules(decode, score, H, 3, CHUNK, 12, step_sizes=(0.1, 1e38), relax=0)
    by_name = {row.name: row for row in rows}
    assert by_name["ascent"].step_size == 0.1
    assert by_name["ascent"].pilot is not None
    assert list(by_name["ascent"].pilot) == ["0.1"]
    with pytest.raises(BadInput, match="ascent are not finite"):
        compare_rules(decode, score, H, 3, CHUNK, 12, step_sizes=(1e38,), relax=0)


def test_a_box_is_cut_across_the_boundary_around_most_nodal_points():
    spins = torch.zeros(3, 32, 32)
    spins[2] = 1
    for row, column in ((30, 1), (1, 31), (15, 15)):
        spins[2, row, column] = -1
    box = nodal_box(spins)
    assert box.side >= 8
    inside = nodal_centres(box.cut(spins)[None])[0]
    assert len(inside) == 2
    site = torch.arange(64).reshape(8, 8)
    assert Box(6, 7, 3).cut(site).tolist() == [[55, 48, 49], [63, 56, 57], [7, 0, 1]]
    plain = nodal_box(torch.tensor([0.0, 0, 1])[:, None, None].expand(3, 32, 32))
    assert plain.row + plain.side // 2 == 16


def test_rules_are_compared_at_equal_decoder_calls():
    decoded = {"codes": 0}

    def counting(z):
        decoded["codes"] += len(z)
        return decode(z)

    rows = compare_rules(counting, score, H, 3, count=CHUNK, calls=13, step_sizes=(0.1,), relax=0)
    # a pilot and a judged chunk a rule, and the prior's one call
    assert decoded["codes"] == CHUNK * (1 + 4 * 2 * 13)
    assert [row.name for row in rows] == ["prior", "ascent", "langevin", "dot", "dgflow"]
    assert [row.calls for row in rows] == [1, 13, 13, 13, 13]
    by_name = {row.name: row for row in rows}
    assert by_name["ascent"].measures["energy_excess"]["mean"] < by_name["prior"].measures["energy_excess"]["mean"]
    assert by_name["ascent"].measures["nodal_points"]["mean"] < by_name["prior"].measures["nodal_points"]["mean"]
    assert by_name["dot"].norm == pytest.approx(by_name["prior"].norm, rel=1e-5)  # it stays on its sphere
    for rule in ("ascent", "langevin", "dot", "dgflow"):
        steps = settings_for(rule, 13, 0.1).steps
        assert steps == {"langevin": 11, "dot": 8}.get(rule, 12)
    with pytest.raises(BadInput, match="too few decoder calls"):
        compare_rules(decode, score, H, 3, calls=5)


def test_the_step_size_is_the_one_with_the_fewest_nodal_points_then_the_lowest_energy(tmp_path):
    keep = tmp_path / "rule"
    rows = compare_rules(decode, score, H, 3, CHUNK, 12, step_sizes=(0.001, 0.2), relax=3, keep=keep, label="a")
    by_name = {row.name: row for row in rows}
    assert by_name["ascent"].step_size == 0.2
    pilot = by_name["ascent"].pilot
    assert pilot is not None
    assert pilot["0.2"]["energy_excess"] < pilot["0.001"]["energy_excess"]
    relaxed, plain = by_name["prior + relax 3"], by_name["prior"]
    assert relaxed.measures["energy_excess"]["mean"] < plain.measures["energy_excess"]["mean"]
    again = compare_rules(decode, score, H, 3, CHUNK, 12, step_sizes=(0.001, 0.2), relax=3, keep=keep, label="a")
    assert again == rows
    with pytest.raises(BadInput, match="another run"):
        compare_rules(decode, score, H, 3, CHUNK, 12, step_sizes=(0.001,), relax=0, keep=keep, label="b")


def test_rules_are_judged_by_a_reference():
    draw = torch.Generator().manual_seed(0)
    spins = torch.randn(60, 3, 8, 8, generator=draw)
    reference = CoverageReference(spins / spins.norm(dim=1, keepdim=True), "features", H)
    rows = compare_rules(decode, score, H, 3, 40, 10, reference, step_sizes=(0.1,), relax=0)
    for row in rows:
        assert row.coverage is not None
        assert row.coverage["counts"]["fakes"] == 40
        assert row.coverage["knn"]["coverage"] == 0  # uniform textures are no noise


# the command


def test_explain_on_the_command_line(tmp_path, capsys):
    run, out = write_run(tmp_path / "g", "gan"), tmp_path / "out"
    noise = torch.randn(160, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    data = tmp_path / "data"
    write_dataset(data, noise / noise.norm(dim=1, keepdim=True), hamiltonian=H)
    asked = [run, "--out", out, "--steps", 6, "--textures", 40, "--rules", "--reference", data, "--json"]
    assert spinloom("explain", *asked) == 0
    told = json.loads(capsys.readouterr().out)
    assert [line["step"] for line in told["story"]] == [0, 1, 2, 5, 6]
    assert len(told["curves"]["logits"]["mean"]) == 7
    assert len(told["rules"]) == 10
    assert {row["textures"] for row in told["overlap"]} == {"before", "after"}
    assert len(told["highlight"]["Grad-CAM"]) == 5
    for picture in ("path.png", "curves.png", "rules.png"):
        assert (out / picture).read_bytes().startswith(b"\x89PNG")
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    assert spinloom("explain", *asked) == 0
    assert json.loads(capsys.readouterr().out) == told
    assert {path: path.read_bytes() for path in before} == before
    assert spinloom("explain", *asked, "--step-size", 0.3) == 2
    assert "step_size: 0.1 there, 0.3 asked" in capsys.readouterr().err


def random_textures(count: int, seed: int = 1) -> torch.Tensor:
    noise = torch.randn(count, 3, 32, 32, generator=torch.Generator().manual_seed(seed))
    return noise / noise.norm(dim=1, keepdim=True)


def test_coverage_is_measured_against_textures_that_were_not_trained_on(tmp_path):
    data = write_dataset(tmp_path / "data", random_textures(200), H)
    own = load(write_run(tmp_path / "own", "gan", checksum=data.checksum))
    other = load(write_run(tmp_path / "other", "gan"))
    held, trained = held_out(own, data.path)
    assert (held.part, trained and trained.part) == (range(150, 200), range(150))  # the default fraction
    judge, told = _judge(H, held, trained, 60, 0)
    assert told["energy_excess"] == pytest.approx(float(H.energy_excess(data[150:].double()).mean()))
    assert judge(data[:60]).counts == {**judge(data[:60]).counts, "real": 50, "data_as_model": 60}
    everything, trained = held_out(other, data.path)
    assert (len(everything), trained) == (200, None)
    judge, told = _judge(H, everything, None, 60, 0)
    assert told["energy_excess"] == pytest.approx(float(H.energy_excess(data[60:].double()).mean()))
    assert judge(data[:60]).counts["data_as_model"] == 60


def test_a_refused_reference_or_step_leaves_no_folder(tmp_path, capsys):
    few = write_dataset(tmp_path / "few", random_textures(70), H)
    wrong = write_dataset(tmp_path / "wrong", random_textures(90), Hamiltonian(D=0.5, B=0.5)).path
    unknown = write_dataset(tmp_path / "unknown", random_textures(90)).path
    run, out = write_run(tmp_path / "g", "gan"), tmp_path / "out"
    own = write_run(tmp_path / "own", "gan", checksum=few.checksum)
    for arguments, says in (
        ([run, "--rules", "--reference", few.path, "--textures", 40], "70 textures that the run was not trained on"),
        ([own, "--rules", "--reference", few.path, "--textures", 40], "18 textures that the run was not trained on"),
        ([run, "--rules", "--reference", wrong, "--textures", 40], "D=0.5"),
        ([run, "--rules", "--reference", unknown, "--textures", 40], "its Hamiltonian is unknown"),
        ([run, "--step-size", 1e38, "--textures", 2], "use less, e.g. 1e+37"),
        ([run, "--seed", -1], "from 0 to 2⁶⁴ − 1"),
    ):
        assert spinloom("explain", *arguments, "--steps", 12, "--out", out, "--quiet") == 2
        line = capsys.readouterr().err.strip()
        assert says in line
        assert len(line.splitlines()) == 1
        assert not out.exists()


def test_what_explain_refuses(tmp_path, capsys):
    gan, out = write_run(tmp_path / "g", "gan"), tmp_path / "out"
    vae: Path = write_run(tmp_path / "v", "vae")
    for arguments, says in (
        ([vae], "a vae run has no discriminator"),
        ([gan, "--step-size", "nan"], "--step-size nan"),
        ([gan, "--reference", gan], "give --rules too"),
        ([gan, "--rules", "--steps", 3], "too few decoder calls"),
        ([write_run(tmp_path / "u", "gan", None)], "unknown Hamiltonian"),
    ):
        assert spinloom("explain", *arguments, "--out", out) == 2
        line = capsys.readouterr().err.strip()
        assert says in line
        assert len(line.splitlines()) == 1
        assert not out.exists()
