"""Repeated trainings: independent, resumable in any order, averaged as the formula says."""

import json
import os
import signal
import statistics
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from pretend_gpu import pretend_gpu
from spinloom.commands_compare import reproduce
from spinloom.dataset import open_dataset
from spinloom.errors import BadInput
from spinloom.estimate import estimated_seconds, in_words
from spinloom.figures.settings import Fig1, Fig3, Fig5, FigureSettings
from spinloom.files import read_lines
from spinloom.networks import NetworkConfig
from spinloom.pipeline import PipelineConfig, run_pipeline
from spinloom.run import CHECKPOINT, WEIGHTS, read_tensors, step_of
from spinloom.sample import DDLS
from spinloom.training_config import TrainingConfig
from spinloom.trials import ENDS, _Job, combined, end_of, pin_trials, run_trials

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
        read_tensors(folder / name / WEIGHTS)[0]
        for folder in sorted(out.glob("trial-*"))
        for name in ("vae", "gan", "hybrid")
    ]
    rows = json.loads((out / "results.json").read_text())["rows"]
    for row in rows:
        for name in ("seconds", "train_seconds"):
            row["over_trials"].pop(name, None)
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


def test_a_page_that_a_kill_left_out_is_drawn_by_the_next_call(finished):
    out, results = finished
    page = out / "trial-0" / "report.html"
    page.unlink()
    assert run_trials(out, TINY, 2, show=False)["rows"] == results["rows"]
    assert page.is_file()


def test_the_time_of_a_stage_is_that_of_its_work(finished):
    """A call that finds all of it there adds nothing; measuring is done again, and has the time of the last call."""
    out, _ = finished
    folder = out / "trial-0"
    first = json.loads((folder / "results.json").read_text())["seconds"]
    state = json.loads((folder / "pipeline.json").read_text())
    (folder / "pipeline.json").write_text(json.dumps(state | {"seconds": {**first, "measure": 1e6}}))
    again = run_pipeline(folder, TINY, show=False, data=open_dataset(out / "data"))["seconds"]
    assert {"train hybrid", "sample vae-prior"} < first.keys() == again.keys()
    assert {name: seconds for name, seconds in again.items() if name != "measure"} == {
        name: seconds for name, seconds in first.items() if name != "measure"
    }
    assert 0 < again["measure"] < 1e4


@pytest.mark.parametrize(
    ("error", "raised"),
    [
        (BadInput("size=3: too small; use 4"), BadInput),
        (FloatingPointError("step 3: not finite"), FloatingPointError),
        (PermissionError(13, "Permission denied", "/data"), OSError),
        (MemoryError("Unable to allocate 3 TiB"), MemoryError),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes"), RuntimeError),
    ],
)
def test_what_stops_a_trial_of_several_is_told_in_its_own_line(error, raised):
    kind = end_of(error)
    assert kind is not None
    with pytest.raises(raised) as told:
        raise ENDS[kind](str(error))
    assert str(told.value) == str(error)
    assert end_of(RuntimeError("a bug")) is None


def test_a_trial_that_cannot_read_its_folder_ends_alike_on_its_own_and_beside_others(tmp_path):
    """A file where a folder has to be: what the system says of it is a line, not a traceback."""
    pin_trials(tmp_path, TINY, 2)
    for trial in (0, 1):
        folder = tmp_path / f"trial-{trial}"
        pinned = {"preset": None, "config": replace(TINY, seed=trial).as_dict(), "seconds": {}}
        folder.mkdir()
        (folder / "pipeline.json").write_text(json.dumps(pinned))
        (folder / "samples").touch()
    told = []
    for jobs in (1, 2):
        with pytest.raises(OSError, match="samples") as error:
            run_trials(tmp_path, TINY, 2, show=False, jobs=jobs)
        told.append(str(error.value).replace("trial-1", "trial-0"))
    assert told[0] == told[1]


class Sick(PipelineConfig):
    """One that no other process can read."""

    def __setstate__(self, state):
        raise RuntimeError("a bug")


def test_a_trial_that_ends_by_a_bug_is_a_line_beside_its_traceback(tmp_path, capfd):
    with pytest.raises(BadInput, match=r"trial 1: its process ended with code 1; what it printed says why"):
        run_job(_Job.begin(0, 1, (tmp_path, Sick(**vars(TINY)), 1, None, (), "cpu")))
    assert "Traceback" in capfd.readouterr().err


def run_job(job: _Job) -> None:
    while not job.heard(print):
        time.sleep(0.05)


TRIALS = [0, 1, 2]


def test_stopped_side_by_side_nobody_goes_on_and_the_same_command_does(tmp_path):
    """Three trials, two at a time, ended in every way there is; each time what was in hand is kept or made again."""
    changes = "--size 32 --samples 200 --prior-samples 50 --ddls-samples 0 --training.steps 40 --training.batch 8"
    shapes = "--networks.generator 4 --networks.discriminator 4 --networks.encoder 4 --networks.widest 8"
    command = [sys.executable, "-m", "spinloom", "trials", "OUT", "--trials", "3", "--jobs", "2", "--quiet"]
    command += [*changes.split(), *shapes.split(), "--training.checkpoint-every", "5", "--training.log-every", "1"]
    outs = {name: [str(tmp_path / name) if word == "OUT" else word for word in command] for name in ("whole", "cut")}
    subprocess.run(outs["whole"], check=True, capture_output=True)
    runs = [tmp_path / "cut" / f"trial-{t}" / name for t in TRIALS for name in ("vae", "gan", "hybrid")]
    for end in ("parent killed", "Ctrl-C", "terminated", "trial killed"):
        begun = sum((run / "metrics.jsonl").exists() for run in runs)
        process = subprocess.Popen(outs["cut"], stderr=subprocess.PIPE, text=True, start_new_session=True)
        until = time.monotonic() + 120
        while sum((run / "metrics.jsonl").exists() for run in runs) <= begun and time.monotonic() < until:
            time.sleep(0.02)
        if end == "parent killed":
            process.kill()
        elif end == "Ctrl-C":
            os.killpg(process.pid, signal.SIGINT)
        elif end == "terminated":
            process.terminate()
        else:
            children = subprocess.run(["pgrep", "-P", str(process.pid)], capture_output=True, text=True).stdout.split()
            command_lines = {c: Path(f"/proc/{c}/cmdline").read_bytes() for c in children}
            trial = next(c for c, line in command_lines.items() if b"resource_tracker" not in line)
            os.kill(int(trial), signal.SIGKILL)
        _, said = process.communicate(timeout=180)  # its children hold the pipe's end
        assert process.returncode != 0, end
        assert "Traceback" not in said, said
        if end == "trial killed":
            assert process.returncode == 2 and "use fewer jobs" in said
        for run in runs:  # a step that has been logged is kept, or made again by who goes on
            if end in ("Ctrl-C", "terminated") and (logged := read_lines(run / "metrics.jsonl")):
                assert step_of(run / CHECKPOINT) >= logged[-1]["step"]
    assert not (tmp_path / "cut" / "results.json").exists()
    subprocess.run(outs["cut"], check=True, capture_output=True)
    assert same(everything(tmp_path / "whole"), everything(tmp_path / "cut"))


def test_many_calls_may_begin_at_once(tmp_path):
    """As the jobs of an array do, each with a trial of its own."""
    for attempt in range(30):
        out, refused = tmp_path / f"out-{attempt}", []

        def begin(out=out, refused=refused):
            try:
                pin_trials(out, TINY, 3)
            except BadInput as error:
                refused.append(error)

        crew = [threading.Thread(target=begin) for _ in range(6)]
        for one in crew:
            one.start()
        for one in crew:
            one.join()
        assert not refused and [file.name for file in out.iterdir()] == ["trials.json"]
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.txt").touch()
    with pytest.raises(BadInput, match=r"thesis\.txt"):
        pin_trials(tmp_path / "other", TINY, 3)


def test_reproduce_refuses_a_folder_before_it_times_the_machine(tmp_path, monkeypatch):
    (tmp_path / "thesis.txt").touch()
    monkeypatch.setattr("spinloom.estimate.estimated_seconds", lambda *_: pytest.fail("timed"))
    with pytest.raises(BadInput, match=r"thesis\.txt"):
        reproduce(tmp_path)


def test_reproduce_refuses_a_gpu_that_is_not_there_before_it_leaves_anything(tmp_path):
    with pytest.raises(BadInput, match="no CUDA GPU"):
        reproduce(tmp_path / "out", device="cuda")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "settings",
    [
        {"fig1": Fig1(texture=1000)},
        {"fig3": Fig3(axes=(0, 64))},
        {"fig3": Fig3(resolution=7)},
        {"fig5": Fig5(resolution=7)},
        {"fig5": Fig5(images=2)},
        {"fig5": Fig5(population=3)},
        {"fig5": Fig5(seed=2**64 - 2)},
    ],
)
def test_reproduce_refuses_figures_that_cannot_be_before_it_leaves_anything(tmp_path, settings):
    with pytest.raises(BadInput):
        reproduce(tmp_path / "out", settings=FigureSettings(**settings))
    assert not (tmp_path / "out").exists()


def test_a_full_disk_does_not_hide_what_a_training_says_of_it(tmp_path, monkeypatch):
    real = sys.modules["spinloom.files"]._write

    def full(path, *rest):
        if path.name == "checkpoint.safetensors" and path.parent.name == "gan":
            monkeypatch.setattr(sys.modules["spinloom.files"], "_write", refuse)
            refuse(path)
        real(path, *rest)

    def refuse(path, *_):
        raise BadInput(f"{path}: cannot be written (No space left on device); free the disk")

    monkeypatch.setattr(sys.modules["spinloom.files"], "_write", full)
    config = replace(TINY, training=replace(TINY.training, steps=4, checkpoint_every=2, watch_every=0))
    with pytest.raises(BadInput, match=r"gan.*No space left.*there is no checkpoint yet"):
        run_pipeline(tmp_path / "out", config, show=False)


def test_one_trial_has_no_spread():
    entry = {
        "name": "a", "folder": "a", "source": "vae", "method": "prior", "relax": 0, "samples": 3, "seconds": 2.0,
        "measures": {"energy_excess": {"mean": -0.1, "std": 0.01}}, "coverage": None,
    }  # fmt: skip
    (row,) = combined([{"rows": [entry], "seconds": {}}])
    assert row["over_trials"]["energy_excess"] == {"mean": -0.1, "std": None, "values": [-0.1]}
    after = entry | {"folder": "a-relaxed", "relax": 20, "seconds": 0.5}
    rows = combined([{"rows": [entry, after], "seconds": {"train vae": 7.0}}])
    assert [row["over_trials"]["seconds"]["mean"] for row in rows] == [2.0, 2.5]  # with what is relaxed
    assert rows[1]["over_trials"]["train_seconds"]["mean"] == 7.0
    assert "nodal_points" not in row["over_trials"]


def test_a_space_is_informative_if_it_is_in_every_trial():
    def results(informative):
        space = {"coverage": 0.5, "data_against_data": 0.9, "informative": informative, "broad": False, "controls": {}}
        entry = {
            "name": "a",
            "folder": "a",
            "source": "vae",
            "method": "prior",
            "relax": 0,
            "samples": 3,
            "seconds": 2.0,
        }
        return {"rows": [entry | {"measures": {}, "coverage": {"spins": space}}], "seconds": {}}

    for verdicts in ((True, False), (False, True), (True, True)):
        (row,) = combined([results(verdict) for verdict in verdicts])
        assert row["informative"] == {"spins": all(verdicts)}


def test_the_estimate_grows_with_the_work():
    few = FigureSettings(fig3=Fig3(resolution=8), fig5=Fig5(resolution=8, population=4, generations=1, relax=0))
    factors = {"simulate": 3, "the figures' maps and paths": 2, "the searches of Fig. 5": 2}
    grown = []
    while not any(grown) and len(grown) < 4:  # what is timed takes milliseconds; other work may fall into it
        one, three = estimated_seconds(TINY, 1, figures=few), estimated_seconds(replace(TINY, samples=2000), 3)
        assert set(one) >= {"simulate", "train hybrid", "train vae", "train gan", "sample by DDLS"}
        assert all(seconds > 0 for seconds in one.values())
        grown.append(all(three[stage] > factor * one[stage] for stage, factor in factors.items()))
    assert any(grown)


def test_the_estimate_for_a_gpu_says_when_annealing_is_left_out(monkeypatch):
    known = []

    def annealed(*_, device, **__):
        known.append(device)
        raise BadInput("device='cuda': no run-time compiler")

    monkeypatch.setattr("spinloom.estimate.anneal", annealed)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    few = FigureSettings(fig3=Fig3(resolution=8), fig5=Fig5(resolution=8, population=4, generations=1, relax=0))
    with pretend_gpu():
        stages = estimated_seconds(TINY, 2, device="cuda", figures=few)
    assert known == ["cuda"] and all(seconds > 0 for seconds in stages.values())
    assert {"train hybrid", "sample by DDLS", "the searches of Fig. 5"} <= set(stages)
    *_, whole, left_out = in_words(stages)
    assert "min from the start" in whole
    assert left_out.startswith("left out: annealing") and "measuring" in left_out
    assert in_words({**stages, "simulate": 3600.0})[-1] == "left out: measuring, writing files and drawing"
    with pytest.raises(BadInput, match="no run-time compiler"):
        estimated_seconds(TINY)


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
