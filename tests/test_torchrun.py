"""Two processes of one training have the gradients, the statistics and the files of one."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from safetensors.torch import load_file

from spinloom.dataset import open_dataset, simulate
from spinloom.errors import BadInput
from spinloom.hamiltonian import Hamiltonian
from spinloom.presets import TRAININGS
from spinloom.run import locked, read_metrics
from spinloom.schedule import Schedule
from spinloom.torchrun import joined, speaks
from spinloom.train import train

WORKER = Path(__file__).with_name("torchrun_gradients.py")
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]


def run(*command, fine=True):
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=240, check=False)
    if fine:
        assert done.returncode == 0, done.stderr
    return done


@pytest.mark.parametrize(("precision", "apart"), [("float32", 1e-5), ("bfloat16", 0.05)])
def test_two_processes_have_the_gradients_of_one(tmp_path, precision, apart):
    run(sys.executable, WORKER, tmp_path / "one", precision)
    run(*TORCHRUN, WORKER, tmp_path / "two", precision)
    one, two = load_file(tmp_path / "one"), load_file(tmp_path / "two")
    assert one.keys() == two.keys() and len(one) > 100
    largest = {}  # of a player's gradients; a bias in front of a batch normalisation has none but rounding
    for name, tensor in one.items():
        player = name.rsplit("/", 1)[0]
        largest[player] = max(largest.get(player, 0.0), float(tensor.abs().max()))
    assert min(largest.values()) > 1e-4
    for name, tensor in one.items():
        assert float((tensor - two[name]).abs().max()) <= apart * largest[name.rsplit("/", 1)[0]], name


@pytest.fixture(scope="module")
def textures(tmp_path_factory):
    out = tmp_path_factory.mktemp("torchrun") / "data"
    simulate(out, Hamiltonian(D=0.6), 32, 40, schedule=Schedule.geometric(1, 0.1, steps=5).then_relax(5), show=False)
    return out


RECIPE = TRAININGS["quick"]
NARROW = replace(RECIPE.networks, generator=4, discriminator=4, encoder=4)
OPTIONS = [
    "--preset",
    "quick",
    "--steps",
    "3",
    "--batch",
    "10",
    "--log-every",
    "1",
    "--networks.generator",
    "4",
    "--networks.discriminator",
    "4",
]
OPTIONS += ["--networks.encoder", "4", "--quiet", "--json"]


def test_a_training_of_two_processes_is_that_of_one(textures, tmp_path):
    config = replace(RECIPE.training, steps=3, batch=10, log_every=1)
    train(open_dataset(textures), tmp_path / "one", NARROW, config, show=False)
    two = run(*TORCHRUN, "-m", "spinloom", "train", textures, tmp_path / "two", *OPTIONS)
    assert json.loads(two.stdout)["step"] == 3  # said once
    one, other = read_metrics(tmp_path / "one"), read_metrics(tmp_path / "two")
    assert [line["step"] for line in other] == [1, 2, 3]
    for name in ("reconstruction", "kl", "discriminator", "generator"):
        assert other[0][name] == pytest.approx(one[0][name], rel=1e-4, abs=2e-6)
    weights = [load_file(tmp_path / name / "weights.safetensors") for name in ("one", "two")]
    moved = 0.0
    for name, tensor in weights[0].items():  # Adam's steps are of one size; almost all go one way
        if tensor.is_floating_point():
            moved = max(moved, float((tensor - weights[1][name]).abs().mean()))
    assert moved < 2e-4
    # and it goes on alone from what two have left
    again = train(open_dataset(textures), tmp_path / "two", NARROW, replace(config, steps=4), show=False)
    assert again.step == 4
    # two have it loaded, and are refused together while another trains there
    options = ["4" if option == "3" else option for option in OPTIONS]
    two = run(*TORCHRUN, "-m", "spinloom", "train", textures, tmp_path / "two", *options)
    assert json.loads(two.stdout)["step"] == 4
    options = ["5" if option == "3" else option for option in OPTIONS]
    with locked(tmp_path / "two"):
        two = run(*TORCHRUN, "-m", "spinloom", "train", textures, tmp_path / "two", *options, fine=False)
    assert two.returncode != 0
    assert "another process is training there" in two.stderr and "Traceback" not in two.stderr.split("torch/")[0]


@pytest.mark.parametrize(
    ("variables", "says"),
    [
        ({"RANK": "0", "WORLD_SIZE": "2"}, "MASTER_ADDR=None"),
        ({"RANK": "0", "WORLD_SIZE": "two", "MASTER_ADDR": "localhost", "MASTER_PORT": "1"}, "WORLD_SIZE=two"),
    ],
)
def test_variables_that_torchrun_has_not_set_are_named(monkeypatch, variables, says):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(BadInput, match=says), joined("cpu"):
        pass


def test_a_launchers_rank_alone_is_not_torchrun(monkeypatch):
    monkeypatch.setenv("RANK", "1")
    with joined("cpu") as (crew, device):
        assert (crew.rank, crew.world, device) == (0, 1, "cpu")
    assert speaks()


def test_a_batch_that_cannot_be_shared_is_refused(textures, tmp_path):
    options = ["--preset", "quick", "--batch", "9", "--steps", "1", "--quiet"]
    done = run(*TORCHRUN, "-m", "spinloom", "train", textures, tmp_path / "odd", *options, fine=False)
    assert done.returncode != 0
    assert "--batch 9: 2 processes cannot share it evenly" in done.stderr
    assert not (tmp_path / "odd").exists()
