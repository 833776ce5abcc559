"""The command line as a process: the whole pipeline, its resumption, and one clear line for bad input."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import spinloom as sl
from spinloom import cli, commands, commands_compare, commands_exchange
from spinloom.errors import BadInput
from spinloom.files import write_json
from spinloom.pipeline import owner
from spinloom.run import read_metrics
from spinloom.schedule import Schedule
from spinloom.train import train
from spinloom.training_config import TrainingConfig

TINY = [
    *("--size", "32", "--samples", "160", "--prior-samples", "40", "--ddls-samples", "40", "--ddls.steps", "2"),
    *("--networks.generator", "4", "--networks.discriminator", "4", "--networks.encoder", "4"),
    *("--networks.widest", "8", "--networks.latent", "8"),
    *("--training.steps", "6", "--training.batch", "20", "--quiet"),
]


def spinloom(*arguments, timeout: float = 300) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "spinloom", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.fixture(scope="module")
def quench(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("schedule") / "quench.json"
    write_json(path, Schedule.geometric(1.0, 0.05, steps=5, heat_bath=1, over_relax=1).then_relax(5).as_dict())
    return path


@pytest.fixture(scope="module")
def labyrinths(tmp_path_factory, quench) -> Path:
    out = tmp_path_factory.mktemp("sets") / "labyrinths"
    done = spinloom("simulate", out, "--samples", 100, "--size", 32, "--D", 0.6, "--schedule", quench, "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["samples"] == 100
    assert told["hamiltonian"]["D"] == 0.6
    return out


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("pipeline") / "run"
    done = spinloom("run", out, *TINY, timeout=500)
    assert done.returncode == 0, done.stderr
    assert "report.html" in done.stdout
    return out


def test_the_pipeline_leaves_every_row_every_picture_and_one_page(pipeline):
    results = json.loads((pipeline / "results.json").read_text())
    names = [row["name"] for row in results["rows"]]
    assert names[0] == "test data"
    assert {"untrained", "random + relax 20", "vae prior", "gan prior", "hybrid prior"} <= set(names)
    assert {"gan ddls", "hybrid ddls", "gan ddls + relax 20", "hybrid ddls + relax 20"} <= set(names)
    assert "vae ddls" not in names
    for row in results["rows"][1:]:
        assert row["samples"] == 40
        assert set(row["coverage"]) == {"features", "spins"}
        assert -0.2 < row["measures"]["energy_excess"]["mean"] < 2
        assert len(sl.open_dataset(pipeline / "samples" / row["folder"])) == 40
    by_name = {row["name"]: row["measures"]["energy_excess"]["mean"] for row in results["rows"]}
    assert by_name["hybrid prior + relax 20"] < by_name["hybrid prior"]
    assert results["ground_state"]["energy_excess"] == pytest.approx(-0.172477, abs=1e-6)
    for picture in ("textures.png", "coverage-energy.png", "losses.png", "histograms.png"):
        assert (pipeline / picture).read_bytes().startswith(b"\x89PNG")
    page = (pipeline / "report.html").read_text()
    assert all(name in page for name in ("hybrid ddls", "test data"))
    for objective in ("vae", "gan", "hybrid"):
        assert read_metrics(pipeline / objective)[-1]["step"] == 6


def test_the_same_command_again_changes_nothing(pipeline):
    before = contents(pipeline / "data") | contents(pipeline / "samples") | contents(pipeline / "hybrid")
    done = spinloom("run", pipeline, *TINY)
    assert done.returncode == 0, done.stderr
    after = contents(pipeline / "data") | contents(pipeline / "samples") | contents(pipeline / "hybrid")
    assert before == after


def test_a_pipeline_of_other_settings_is_not_touched(pipeline):
    before = contents(pipeline)
    done = spinloom("run", pipeline, *TINY, "--D", "0.5")
    assert done.returncode == 2
    assert "D: 0.6 there, 0.5 asked" in done.stderr
    assert contents(pipeline) == before


def test_a_pipelines_run_is_not_trained_on_but_begun_from_elsewhere(pipeline, tmp_path):
    before = contents(pipeline)
    asked = ["train", pipeline / "data", pipeline / "vae", "--objective", "vae", "--steps", 8]
    done = spinloom(*asked)
    assert (done.returncode, len(done.stderr.strip().splitlines())) == (2, 1)
    assert f"{pipeline / 'vae'}: belongs to the pipeline in {pipeline}" in done.stderr
    assert contents(pipeline) == before
    assert owner(pipeline / "data" / ".." / "vae").resolve() == pipeline.resolve()
    assert owner(pipeline / "my-own") is None
    _, _, *way = done.stderr.split("`")[1].split()
    way[1] = tmp_path / way[1]
    done = spinloom("train", *way, "--steps", 2, "--batch", 20)
    assert done.returncode == 0, done.stderr
    assert sl.load(way[1]).objective == "vae"


def test_a_pipeline_given_as_a_run_names_those_in_it(pipeline):
    with pytest.raises(BadInput, match=f"use {pipeline / 'gan'} or {pipeline / 'hybrid'} or {pipeline / 'vae'}"):
        sl.load(pipeline)


def test_a_pipeline_whose_run_was_trained_on_by_itself_says_how_it_goes_on(pipeline, tmp_path):
    broken = tmp_path / "broken"
    shutil.copytree(pipeline, broken)
    run, data = sl.load(broken / "gan"), sl.open_dataset(broken / "data")
    training = TrainingConfig(**{**run.config["training"], "steps": 8, "momentum": (0.0, 0.9)})
    train(data, broken / "gan", run.networks, training, show=False)
    done = spinloom("run", broken, *TINY)
    assert done.returncode == 2
    assert f"{broken / 'gan'}: has 8 steps, its pipeline 6" in done.stderr
    (broken / "gan").rename(tmp_path / "elsewhere")  # as it says
    done = spinloom("run", broken, *TINY)
    assert done.returncode == 0, done.stderr
    assert sl.load(broken / "gan").step == 6


def test_train_sample_measure_one_after_the_other(labyrinths, tmp_path):
    shapes = ["--networks.generator", 4, "--networks.discriminator", 4, "--networks.encoder", 4]
    shapes += ["--networks.widest", 8, "--networks.latent", 8]
    run = tmp_path / "run"
    done = spinloom("train", labyrinths, run, "--preset", "quick", "--steps", 4, "--batch", 10, *shapes)
    assert done.returncode == 0, done.stderr
    config = json.loads((run / "config.json").read_text())
    assert config["objective"] == "hybrid"
    assert config["training"]["steps"] == 4
    assert config["versions"][0]["torch"]

    done = spinloom("sample", run, tmp_path / "fakes", "-n", 45, "--method", "ddls", "--steps", 2, "--relax", 3)
    assert done.returncode == 0, done.stderr
    fakes = sl.open_dataset(tmp_path / "fakes")
    assert len(fakes) == 45
    assert fakes.info["origin"]["method"] == "ddls"

    arguments = ["--reference", labyrinths, "--held-out", 0.5, "--json"]
    done = spinloom("measure", tmp_path / "fakes", *arguments)
    assert done.returncode == 0, done.stderr
    (fake,) = json.loads(done.stdout)
    assert (
        fake["measures"]["energy_excess"]["mean"]
        > sl.open_dataset(labyrinths).info["statistics"]["energy_excess"]["mean"]
    )
    assert 0 <= fake["coverage"]["features"]["coverage"] <= 1
    table = spinloom("measure", tmp_path / "fakes")
    assert table.returncode == 0
    assert all(head in table.stdout for head in ("ε", "M_z std", "nodal"))


def test_ctrl_c_leaves_a_run_that_the_same_command_finishes(labyrinths, tmp_path):
    run = tmp_path / "run"
    arguments = ["train", labyrinths, run, "--preset", "quick", "--steps", 300, "--batch", 10]
    arguments += ["--networks.generator", 4, "--networks.widest", 8]
    child = subprocess.Popen(
        [sys.executable, "-m", "spinloom", *map(str, arguments)], stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 120
    while not any(m["step"] >= 10 for m in read_metrics(run)) and time.monotonic() < deadline:
        time.sleep(0.02)
    child.send_signal(signal.SIGINT)
    error = child.communicate(timeout=60)[1]
    assert child.returncode == 130
    assert "stopped at step" in error
    assert "Traceback" not in error
    step = sl.load(run).step
    assert 10 <= step < 300
    arguments[arguments.index(300)] = step + 5
    done = spinloom(*arguments)
    assert done.returncode == 0, done.stderr
    assert sl.load(run).step == step + 5


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["sample", "labyrinth-128", "fakes"], "nothing was written, the same command starts over"),
        (["export", "fakes", "files"], "nothing was written"),
        (["verify", "fakes"], "nothing was written"),
        (["verify", "fakes", "--repair"], "goes on from here"),
        (["run", "demo"], "goes on from here"),
    ],
)
def test_ctrl_c_says_whether_the_same_command_goes_on(arguments, says, monkeypatch, capsys):
    def stop(*_, **__):
        raise KeyboardInterrupt

    for place in ("sample_run", "load", "open_dataset", "verify_dataset", "repair_dataset", "run_pipeline"):
        for room in (commands, commands_compare, commands_exchange):
            if hasattr(room, place):
                monkeypatch.setattr(room, place, stop)
    with pytest.raises(SystemExit) as end:
        cli.main(arguments)
    assert end.value.code == 130
    assert says in capsys.readouterr().err


def test_a_toml_file_stands_for_options_and_the_command_line_wins(tmp_path, quench):
    toml = tmp_path / "data.toml"
    toml.write_text(f'samples = 7\nsize = [32, 40]\nD = 0.5\nschedule = "{quench}"\n')
    done = spinloom("simulate", tmp_path / "set", "--config", toml, "--samples", 5)
    assert done.returncode == 0, done.stderr
    data = sl.open_dataset(tmp_path / "set")
    assert (len(data), data.size, data.info["hamiltonian"]["D"]) == (5, (32, 40), 0.5)


def test_nested_options_can_come_from_a_toml_file(tmp_path):
    toml = tmp_path / "run.toml"
    toml.write_text("[training]\nsteps = -3\n")
    done = spinloom("run", tmp_path / "out", "--config", toml)
    assert done.returncode == 2
    assert "training.steps=-3" in done.stderr


def bad_inputs(tmp_path: Path, labyrinths: Path) -> dict[str, tuple[list, str]]:
    thesis = tmp_path / "thesis"
    thesis.mkdir()
    (thesis / "chapter1.tex").write_text("precious")
    torn = tmp_path / "torn"
    torn.mkdir()
    for file in labyrinths.iterdir():
        (torn / file.name).write_bytes(file.read_bytes())
    shard = next(torn.glob("*.safetensors"))
    shard.write_bytes(shard.read_bytes()[:-1000])
    toml = tmp_path / "typo.toml"
    toml.write_text("[training]\nstps = 3\n")
    return {
        "odd side": (["simulate", tmp_path / "a", "--size", 33], "--size 33:"),
        "side too small": (["run", tmp_path / "a", "--size", 24], "--size 24: too small for the networks"),
        "three sides": (["simulate", tmp_path / "a", "--size", 32, 32, 32], "--size 32 32 32"),
        "D is not a number": (["run", tmp_path / "a", "--D", "nan"], "--D nan:"),
        "a polish of nothing": (["train", labyrinths, tmp_path / "a", "--preset", "polish"], "--start RUN"),
        "D is a word": (["simulate", tmp_path / "a", "--D", "strong"], '"strong"'),
        "missing data": (["train", tmp_path / "nowhere", tmp_path / "a"], "nowhere"),
        "truncated data": (["train", torn, tmp_path / "a"], shard.name),
        "data are no data": (["measure", thesis], "thesis"),
        "lattice mismatch": (["run", tmp_path / "a", "--size", 36], "--size 36"),
        "out is not a run": (["train", labyrinths, thesis, "--preset", "quick"], "is not a run"),
        "out is no pipeline": (["run", thesis], "thesis"),
        "out is no data set": (["simulate", thesis, "--samples", 5], "thesis"),
        "out exists": (["sample", thesis, thesis], "exists"),
        "run is no run": (["sample", labyrinths, tmp_path / "a"], "is not a run"),
        "mistyped option": (["run", tmp_path / "a", "--trainig.steps", 5], "Did you mean --training.steps"),
        "mistyped preset": (["run", tmp_path / "a", "--preset", "qiuck"], "did you mean quick"),
        "mistyped command": (["rnu", tmp_path / "a"], "run"),
        "mistyped TOML key": (["run", tmp_path / "a", "--config", toml], "Did you mean --training.steps"),
        "missing TOML": (["run", tmp_path / "a", "--config", tmp_path / "no.toml"], "no.toml"),
        "a rule without ddls": (["sample", thesis, tmp_path / "a", "--rule", "langevin"], "--method ddls alone"),
        "a step size without ddls": (["sample", thesis, tmp_path / "a", "--step-size", 0.2], "--step-size 0.2: is of"),
        "a share of no reference": (["measure", labyrinths, "--held-out", 2], "--held-out 2: is a share of the ref"),
        "shard": (["simulate", tmp_path / "a", "--shard", "four"], "--shard four"),
        "shard beyond": (["simulate", tmp_path / "a", "--shard", "3/2"], "--shard 3/2: of i/N"),
        "one name too many": (["sample", labyrinths, tmp_path / "a", "extra"], "unexpected argument 'extra'"),
        "a file's name": (["export", labyrinths, tmp_path / "a.vti", "--format", "vtk"], "leave .vti out"),
        "shard of three": (["simulate", tmp_path / "a", "--shard", "1/2/3"], "--shard 1/2/3"),
        "half a texture": (["simulate", tmp_path / "a", "--samples", 2.5], "2.5 is not a whole number"),
        "half a step": (["run", tmp_path / "a", "--training.steps", 2.5], "2.5 is not a whole number"),
        "unknown device": (["train", labyrinths, tmp_path / "a", "--device", "abacus"], "abacus"),
        "no limit": (["measure", labyrinths, "--limit", 0], "--limit"),
        "against itself": (["measure", labyrinths, "--reference", labyrinths], "is the reference itself"),
        "broken TOML": (["run", tmp_path / "a", "--config", thesis / "chapter1.tex"], "chapter1.tex: is not TOML"),
        "too few samples": (["run", tmp_path / "a", "--samples", 50], "--samples 50"),
    }


ONE_BY_ONE = """
import json, os, sys, traceback
from spinloom import cli, commands, commands_compare, commands_exchange
answers = {}
for name, arguments in json.load(sys.stdin).items():
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.dup2(write, 2)
        sys.argv, code = ["spinloom", *arguments], 0
        try:
            cli.main()
        except SystemExit as end:
            code = end.code or 0
        except BaseException:
            traceback.print_exc()
            code = 1
        sys.stderr.flush()
        os._exit(code)
    os.close(write)
    with os.fdopen(read) as said:
        text = said.read()
    answers[name] = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), text
print(json.dumps(answers))
"""


def test_bad_input_is_one_clear_line_exit_code_2_and_nothing_written(tmp_path, labyrinths):
    """Each in a process of its own, which are forked from one that has imported the package already."""
    cases = bad_inputs(tmp_path, labyrinths)
    before = contents(tmp_path)
    asked = json.dumps({name: [str(a) for a in arguments] for name, (arguments, _) in cases.items()})
    done = subprocess.run([sys.executable, "-c", ONE_BY_ONE], input=asked, capture_output=True, text=True, check=True)
    answers = json.loads(done.stdout)
    wrong = {
        name: answers[name]
        for name, (_, says) in cases.items()
        if answers[name][0] != 2 or says not in answers[name][1] or len(answers[name][1].strip().splitlines()) != 1
    }
    assert not wrong
    assert contents(tmp_path) == before
    assert not (tmp_path / "a").exists()
    started = spinloom("simulate", tmp_path / "a", "--size", 33)  # and one from nothing
    assert (started.returncode, len(started.stderr.strip().splitlines())) == (2, 1)


def test_the_data_of_another_lattice_than_the_models_are_refused(labyrinths, tmp_path, quench):
    other = tmp_path / "other"
    assert spinloom("simulate", other, "--samples", 40, "--size", 40, "--schedule", quench).returncode == 0
    done = spinloom("measure", other, "--reference", labyrinths)
    assert done.returncode == 2
    assert "lattice (40, 40)" in done.stderr


def test_help_needs_no_torch():
    code = "import sys; sys.argv = ['spinloom', '--help']\nimport spinloom.cli as c\n"
    code += "try: c.main()\nexcept SystemExit: pass\nassert 'torch' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=dict(os.environ))
    assert done.returncode == 0, done.stderr
    assert "simulate" in done.stdout


def test_version():
    assert spinloom("--version").stdout.strip() == sl.__version__
