"""Repeated trainings: independent, resumable in any order, averaged as the formula says."""

import json
import os
import signal
import statistics
import subprocess
import sys
import time
from dataclasses import replace

import pytest
import torch

from spinloom.errors import BadInput
from spinloom.estimate import estimated_seconds
from spinloom.networks import NetworkConfig
from spinloom.pipeline import PipelineConfig
from spinloom.run import WEIGHTS, read_tensors
from spinloom.sample import DDLS
from spinloom.training_config import TrainingConfig
from spinloom.trials import combined, run_trials

TINY = PipelineConfig(
    D=0.6,
    size=(32, 32),
    samples=200,
    prior_samples=50,
    ddls_samples=40,
    networks=NetworkConfig(size=(32, 32), latent=8, generator=4, discriminator=4, encoder=4, widest=8, head=4, patch=4),
    training=TrainingConfig(steps=2, batch=8),
    ddls=DDLS(steps=1),
)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Two trials, the second made first and on its own."""
    out = tmp_path_factory.mktemp("trials") / "out"
    assert run_trials(out, TINY, 2, only=1, show=False) is None
    return out, run_trials(out, TINY, 2, show=False)


def test_trials_share_the_data_and_nothing_else(finished):
    out, _ = finished
    for player in ("hybrid", "vae", "gan", "untrained"):
        one, two = (read_tensors(out / f"trial-{t}" / player / WEIGHTS)[0] for t in (0, 1))
        assert one.keys() == two.keys()
        assert not all(torch.equal(one[name], two[name]) for name in one)
    configs = [json.loads((out / f"trial-{t}" / "hybrid" / "config.json").read_text()) for t in (0, 1)]
    assert configs[0]["data"] == configs[1]["data"]
    assert [c["training"]["seed"] for c in configs] == [0, 1]
    assert not (out / "trial-0" / "data").exists()


def test_means_and_spreads_are_those_of_the_single_trials(finished):
    out, results = finished
    single = [json.loads((out / f"trial-{t}" / "results.json").read_text())["rows"] for t in (0, 1)]
    assert len(results["rows"]) == len(single[0])
    for row, *entries in zip(results["rows"], *single, strict=True):
        values = [entry["measures"]["energy_excess"]["mean"] for entry in entries]
        over = row["over_trials"]["energy_excess"]
        assert over["values"] == values
        assert over["mean"] == pytest.approx(sum(values) / 2)
        assert over["std"] == pytest.approx(statistics.stdev(values))
        if row["source"] != "data":
            both = [entry["coverage"]["features"]["coverage"] for entry in entries]
            assert row["over_trials"]["coverage_features"]["mean"] == pytest.approx(sum(both) / 2)
    assert results["rows"][0]["over_trials"]["energy_excess"]["std"] == 0  # the data are the same in both


def test_a_finished_set_of_trials_is_read_again(finished):
    out, results = finished
    before = (out / "trial-1" / "hybrid" / WEIGHTS).stat().st_mtime_ns
    assert run_trials(out, TINY, 2, show=False)["rows"] == results["rows"]
    assert (out / "trial-1" / "hybrid" / WEIGHTS).stat().st_mtime_ns == before
    page = (out / "report.html").read_text()
    assert "2 trials" in page
    assert "hybrid prior" in page
    assert (out / "coverage-energy.png").read_bytes().startswith(b"\x89PNG")


@pytest.fixture
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def everything(out):
    """The weights of all trials, and their rows without the time they took."""
    weights = [
        read_tensors(out / f"trial-{t}" / name / WEIGHTS)[0] for t in (0, 1) for name in ("vae", "gan", "hybrid")
    ]
    rows = json.loads((out / "results.json").read_text())["rows"]
    for row in rows:
        row["over_trials"].pop("seconds", None)
    return weights, rows


def same(one, two):
    return one[1] == two[1] and all(
        torch.equal(a[name], b[name]) for a, b in zip(one[0], two[0], strict=True) for name in a
    )


def test_trials_side_by_side_are_those_one_after_the_other(one_thread, tmp_path, monkeypatch):
    monkeypatch.setattr(sys.modules["spinloom.trials"], "available_threads", lambda: 2)
    said = []
    run_trials(tmp_path / "both", TINY, 2, show=False, jobs=2, say=said.append)
    run_trials(tmp_path / "each", TINY, 2, show=False)
    assert same(everything(tmp_path / "both"), everything(tmp_path / "each"))
    assert {"trial 0: training hybrid for 2 steps", "trial 1: training hybrid for 2 steps"} <= set(said)


def test_killed_side_by_side_nobody_goes_on_and_the_same_command_does(tmp_path):
    changes = "--size 32 --samples 200 --prior-samples 50 --ddls-samples 0 --training.steps 40 --training.batch 8"
    shapes = "--networks.generator 4 --networks.discriminator 4 --networks.encoder 4 --networks.widest 8"
    command = [sys.executable, "-m", "spinloom", "trials", "OUT", "--trials", "2", "--jobs", "2", "--quiet"]
    command += [*changes.split(), *shapes.split(), "--training.checkpoint-every", "5"]
    outs = {name: [str(tmp_path / name) if word == "OUT" else word for word in command] for name in ("whole", "cut")}
    subprocess.run(outs["whole"], check=True, capture_output=True)
    for end in (signal.SIGKILL, signal.SIGINT):
        process = subprocess.Popen(outs["cut"], stderr=subprocess.PIPE, text=True, start_new_session=True)
        until = time.monotonic() + 120
        logs = [tmp_path / "cut" / f"trial-{t}" / name / "metrics.jsonl" for t in (0, 1) for name in ("vae", "gan")]
        begun = sum(log.exists() for log in logs)
        while sum(log.exists() for log in logs) <= begun and time.monotonic() < until:
            time.sleep(0.02)
        if end == signal.SIGKILL:
            process.kill()
        else:
            os.killpg(process.pid, end)
        _, said = process.communicate(timeout=120)  # its children hold the pipe's end
        assert process.returncode != 0
        assert "Traceback" not in said
    assert not (tmp_path / "cut" / "results.json").exists()
    subprocess.run(outs["cut"], check=True, capture_output=True)
    assert same(everything(tmp_path / "whole"), everything(tmp_path / "cut"))


def test_one_trial_has_no_spread():
    entry = {
        "name": "a", "folder": "a", "source": "vae", "method": "prior", "relax": 0, "samples": 3, "seconds": 2.0,
        "measures": {"energy_excess": {"mean": -0.1, "std": 0.01}}, "coverage": None,
    }  # fmt: skip
    (row,) = combined([{"rows": [entry]}])
    assert row["over_trials"]["energy_excess"] == {"mean": -0.1, "std": None, "values": [-0.1]}
    assert "nodal_points" not in row["over_trials"]


def test_the_estimate_grows_with_the_work():
    one, three = estimated_seconds(TINY, 1), estimated_seconds(replace(TINY, samples=2000), 3)
    assert set(one) >= {"simulate", "train hybrid", "train vae", "train gan", "sample by DDLS"}
    assert all(seconds > 0 for seconds in one.values())
    assert three["simulate"] > 3 * one["simulate"]


def test_what_does_not_fit_is_refused(finished, tmp_path):
    out, _ = finished
    with pytest.raises(BadInput, match="trials=0"):
        run_trials(tmp_path / "a", TINY, 0, show=False)
    with pytest.raises(BadInput, match="jobs=0"):
        run_trials(tmp_path / "a", TINY, 2, jobs=0, show=False)
    with pytest.raises(BadInput, match="only=2"):
        run_trials(tmp_path / "a", TINY, 2, only=2, show=False)
    with pytest.raises(BadInput, match="trials: 2 there, 3 asked"):
        run_trials(out, TINY, 3, show=False)
    assert not (tmp_path / "a").exists()
    done = subprocess.run(
        [sys.executable, "-m", "spinloom", "trials", str(out), "--preset", "quikc"], capture_output=True, text=True
    )
    assert done.returncode == 2
    assert "did you mean quick" in done.stderr
