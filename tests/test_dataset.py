import json
import os
import random
import shutil
import subprocess
import sys
import threading
import time
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
import torch

from spinloom.anneal import anneal
from spinloom.dataset import open_dataset, repair_dataset, simulate, verify_dataset, write_dataset
from spinloom.errors import BadInput
from spinloom.fields import Fields
from spinloom.files import beside
from spinloom.hamiltonian import Hamiltonian
from spinloom.octahedral import decode, encode
from spinloom.schedule import Schedule
from spinloom.shards import remove_partials
from spinloom.simulation import Simulation, begin, make_shard

ANNEAL = sys.modules["spinloom.anneal"]  # the module; the package's attribute of that name is the function
H = Hamiltonian(D=0.6)
FAST = Schedule.geometric(1.0, 0.3, steps=3, heat_bath=1, over_relax=1).then_relax(3)
REQUEST = {"size": (8, 12), "samples": 22, "seed": 5, "schedule": FAST, "shard_size": 4, "show": False}


def make(out, **changes):
    return simulate(out, changes.pop("H", H), **{**REQUEST, "threads": 2, **changes})


def content(folder):
    """Every file of a folder, hidden ones too."""
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def one_line(error):
    """The message of a BadInput: one line that says why and names a way out."""
    line = str(error.value)
    assert "\n" not in line
    assert ";" in line
    return line


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    return make(tmp_path_factory.mktemp("finished") / "set").path


@pytest.fixture
def copied(finished, tmp_path):
    return shutil.copytree(finished, tmp_path / "set")


def left_behind(file):
    """The name of a partial file whose writer has ended."""
    ended = subprocess.Popen(["true"])
    ended.wait()
    partial = beside(file)
    return partial.with_name(partial.name.replace(f"-{os.getpid()}-", f"-{ended.pid}-"))


def random_spins(count, size=(6, 8), seed=0):
    spins = torch.randn(count, 3, *size, generator=torch.Generator().manual_seed(seed))
    return spins / spins.norm(dim=1, keepdim=True)


# ---------------------------------------------------------------- what is stored


def test_textures_are_those_of_anneal(finished):
    data = open_dataset(finished)
    spins = anneal(H, size=(8, 12), samples=22, seed=5, schedule=FAST)
    assert torch.equal(data[:], decode(encode(spins)))
    assert float((data[:] - spins).norm(dim=1).max()) < np.deg2rad(0.004)


def test_description(finished):
    data = open_dataset(finished)
    assert (len(data), data.size, data.hamiltonian, data.path) == (22, (8, 12), H, finished)
    assert data.info == json.loads((finished / "dataset.json").read_text())
    assert data.info["origin"] == {"kind": "annealed", "device": "cpu"}
    assert Schedule.from_dict(data.info["schedule"]) == FAST
    assert [shard["samples"] for shard in data.info["shards"]] == [4, 4, 4, 4, 4, 2]
    assert sorted(content(finished)) == ["dataset.json", *(f"shard-{k:06d}.safetensors" for k in range(6))]
    assert "22 textures of 8 × 12" in repr(data)


def test_statistics_are_those_of_the_stored_textures(finished):
    data = open_dataset(finished)
    columns = {"energy_excess": H.energy_excess(data[:].double()), "mz": data[:].double()[:, 2].mean((1, 2))}
    for name, values in columns.items():
        found = data.info["statistics"][name]
        assert found["mean"] == pytest.approx(float(values.mean()), abs=1e-8)
        assert found["std"] == pytest.approx(float(values.std(correction=1)), abs=1e-8)


@pytest.mark.parametrize("change", [{"threads": 1}, {"size": (8, 12), "H": Hamiltonian(D=0.6, J=1)}])
def test_the_same_request_gives_the_same_bytes(finished, tmp_path, change):
    assert content(make(tmp_path / "again", **change).path) == content(finished)


def test_shards_do_not_change_the_textures(finished, tmp_path):
    assert torch.equal(make(tmp_path / "one", shard_size=500)[:], open_dataset(finished)[:])


def test_one_shard_is_annealed_at_a_time(tmp_path, monkeypatch):
    asked = []

    def watched(*args, **kwargs):
        asked.append(kwargs["samples"])
        return anneal(*args, **kwargs)

    monkeypatch.setattr(ANNEAL, "anneal", watched)
    make(tmp_path / "set")
    assert sum(asked) == 22
    assert max(asked) <= 4


# ---------------------------------------------------------------- interruptions


SERVER = """
import json, os, pathlib, signal, sys, traceback
from spinloom.dataset import simulate
from spinloom.hamiltonian import Hamiltonian
from spinloom.schedule import Schedule
from spinloom.anneal import anneal
from spinloom.octahedral import encode

common = json.loads(sys.stdin.readline())
schedule = Schedule.from_dict(common.pop("schedule"))
common["size"] = tuple(common["size"])
H = Hamiltonian(**common.pop("H"))
encode(anneal(H, size=8, samples=1, schedule=schedule))  # compiled before the forks

def die_at(wanted):
    # before the wanted-th of the calls that change what is on the disk
    seen = 0
    def counting(call):
        def counted(*args, **kwargs):
            nonlocal seen
            seen += 1
            if seen == wanted:
                os.kill(os.getpid(), signal.SIGKILL)
            return call(*args, **kwargs)
        return counted
    os.fsync = counting(os.fsync)
    for name in ("mkdir", "hardlink_to", "replace", "unlink"):
        setattr(pathlib.Path, name, counting(getattr(pathlib.Path, name)))

def run(out, shard=None, die=None, **changes):
    if die is not None:
        die_at(die)
    simulate(out, H, schedule=schedule, shard=shard and tuple(shard), show=False, **{**common, **changes})

print("ready", flush=True)
for line in sys.stdin:
    children = []
    for job in json.loads(line):
        child = os.fork()
        if not child:
            status = 1
            try:
                run(**job)
                status = 0
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(status)
        children.append(child)
    print(*children, flush=True)
    print(*(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children), flush=True)
"""


class Server:
    """Processes that run ``simulate``, each to the end or until it is killed, without an import each."""

    def __init__(self):
        common = {**REQUEST, "schedule": FAST.as_dict(), "H": H.as_dict(), "threads": 1}
        del common["show"]
        self.process = subprocess.Popen(
            [sys.executable, "-c", SERVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._say(common)
        assert self._line() == "ready"

    def _say(self, value):
        self.process.stdin.write(json.dumps(value) + "\n")
        self.process.stdin.flush()

    def _line(self):
        return self.process.stdout.readline().strip()

    def run(self, *jobs, kill_after=None):
        """Exit codes of the jobs, run side by side."""
        self._say([{**job, "out": str(job["out"])} for job in jobs])
        children = [int(child) for child in self._line().split()]
        if kill_after is not None:
            time.sleep(kill_after)
            for child in children:
                subprocess.run(["kill", "-9", str(child)], check=False, stderr=subprocess.DEVNULL)
        return [int(code) for code in self._line().split()]

    def close(self):
        self.process.stdin.close()
        self.process.wait()


@pytest.fixture(scope="module")
def server():
    server = Server()
    yield server
    server.close()


def test_killed_before_any_change_on_disk(server, tmp_path):
    request = {"samples": 7}  # two shards
    assert server.run({**request, "out": tmp_path / "whole"}) == [0]
    expected = content(tmp_path / "whole")
    for step in range(1, 100):
        out = tmp_path / f"set{step}"
        (code,) = server.run({**request, "out": out, "die": step})
        assert code in (0, -9)
        if code == 0:
            break
        assert server.run({**request, "out": out}) == [0]
        assert content(out) == expected, f"killed before change {step}"
    # the folder; three for each of the plan, two records, two shards and dataset.json; the cleaning up
    assert step > 1 + 6 * 3 + 3


def test_killed_at_random_moments(server, tmp_path):
    request = {"samples": 60, "shard_size": 1}
    choose = random.Random(0)
    began = time.perf_counter()
    assert server.run({**request, "out": tmp_path / "whole"}) == [0]
    took = time.perf_counter() - began
    expected = content(tmp_path / "whole")
    kills, halfway, sets = 0, 0, 0
    while kills < 22:
        out = tmp_path / f"set{sets}"
        sets += 1
        while True:
            (code,) = server.run({**request, "out": out}, kill_after=choose.uniform(0, took / 6))
            if code == 0:
                break
            kills += 1
            halfway += out.exists() and 0 < len(list(out.glob("*.safetensors"))) < 60
        assert content(out) == expected
    assert halfway >= 10  # the kills did not all come before the work


def test_jobs_of_an_array_side_by_side(server, finished, tmp_path):
    out = tmp_path / "set"
    jobs = [{"out": out, "shard": (i, 3)} for i in range(3)]
    assert server.run(*jobs) == [0, 0, 0]
    make(out)
    assert content(out) == content(finished)


@pytest.mark.parametrize("kill", [False, True])
def test_the_same_command_several_times_at_once(server, tmp_path, kill):
    request = {"samples": 40, "shard_size": 2}
    assert server.run({**request, "out": tmp_path / "whole"}) == [0]
    expected = content(tmp_path / "whole")
    choose = random.Random(1)
    for attempt in range(3):
        out = tmp_path / f"set{attempt}"
        jobs = [{**request, "out": out}] * 3
        if kill:
            for _ in range(3):
                server.run(*jobs, kill_after=choose.uniform(0.005, 0.05))
        assert server.run(*jobs) == [0, 0, 0]
        assert content(out) == expected


def test_processes_that_share_a_folder_share_the_work(tmp_path, monkeypatch):
    made = []

    def counted(*args, **kwargs):
        made.append(kwargs["first"])
        time.sleep(0.01)
        return anneal(*args, **kwargs)

    monkeypatch.setattr(ANNEAL, "anneal", counted)
    request = {"samples": 60, "shard_size": 1, "threads": 1}
    crew = [threading.Thread(target=make, args=(tmp_path / "set",), kwargs=request) for _ in range(3)]
    for one in crew:
        one.start()
    for one in crew:
        one.join()
    assert set(made) == set(range(60))
    assert len(made) < 90  # 180 if each made all of them
    monkeypatch.undo()
    assert content(tmp_path / "set") == content(make(tmp_path / "alone", **request).path)


def test_of_two_requests_for_one_folder_at_once_one_is_refused(server, tmp_path):
    requests = [{"samples": 6, "seed": seed} for seed in (1, 2, 3)]
    expected = []
    for request in requests:
        assert server.run({**request, "out": tmp_path / f"whole{request['seed']}"}) == [0]
        expected.append(content(tmp_path / f"whole{request['seed']}"))
    for attempt in range(8):
        out = tmp_path / f"set{attempt}"
        codes = server.run(*({**request, "out": out} for request in requests))
        assert sorted(codes) == [0, 1, 1]
        assert content(out) == expected[codes.index(0)]


def test_where_there_are_no_hard_links(finished, tmp_path, monkeypatch):
    def refused(*arguments):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(Path, "hardlink_to", refused)
    out = tmp_path / "set"
    make(out, shard=(0, 2))
    make(out)
    assert content(out) == content(finished)


def test_a_write_whose_partial_file_is_taken_away(finished, tmp_path, monkeypatch):
    out = tmp_path / "set"
    real, seen = os.fsync, 0

    def thief(handle):  # takes every other one
        nonlocal seen
        real(handle)
        if any(out.glob(".*.partial")):
            seen += 1
            if seen % 2:
                remove_partials(out)

    monkeypatch.setattr(os, "fsync", thief)
    make(out)
    assert seen >= 2 * (1 + 6 + 6 + 1)  # plan, records, shards, dataset.json: each written twice
    assert content(out) == content(finished)


def test_partial_files_of_writers_that_are_alive_stay(copied, tmp_path):
    out = tmp_path / "begun"
    make(out, shard=(0, 2))
    shard = out / "shard-000001.safetensors"
    alive, dead = beside(shard), left_behind(shard)
    elsewhere, of_old = (shard.with_name(f".{shard.name}.00000000-1-0000000{k}.partial") for k in (0, 1))
    for partial in (alive, dead, elsewhere, of_old):
        partial.write_bytes(b"half")
    two_days_ago = time.time() - 2 * 24 * 3600
    os.utime(of_old, (two_days_ago, two_days_ago))
    make_shard(out, Simulation(H, (8, 12), 22, 5, FAST, 4), 1)
    assert set(out.glob(".*")) == {alive, elsewhere}
    make(out)  # all shards are there: nobody needs them any more
    assert content(out) == content(copied)


def test_a_job_that_starts_while_another_pins_the_request(finished, tmp_path, monkeypatch):
    out = tmp_path / "set"
    out.mkdir()
    simulation = Simulation(H, (8, 12), 22, 5, FAST, 4)
    real = Path.mkdir

    def late(folder, *args, **kwargs):
        real(folder, *args, **kwargs)
        monkeypatch.undo()
        begin(out, simulation)

    monkeypatch.setattr(Path, "mkdir", late)
    assert not begin(out, simulation)
    make(out)
    assert content(out) == content(finished)


def test_jobs_of_an_array_one_after_the_other(finished, tmp_path):
    out = tmp_path / "set"
    assert make(out, shard=(2, 3)) is None
    assert {"shard-000002.safetensors", "shard-000005.safetensors"} == {file.name for file in out.glob("*.safetensors")}
    with pytest.raises(BadInput) as error:
        open_dataset(out)
    assert "unfinished" in one_line(error)
    assert make(out, shard=(0, 3)) is None
    data = make(out, shard=(1, 3))
    assert data is not None
    assert len(data) == 22
    assert content(out) == content(finished)
    assert make(out, shard=(0, 3)) is not None  # a job that comes late finds it done


def test_last_call_finishes_what_others_made(finished, tmp_path, monkeypatch):
    out = tmp_path / "set"
    simulation = Simulation(H, (8, 12), 22, 5, FAST, 4)
    begin(out, simulation)
    for number in (3, 0, 5, 4, 1, 2):
        make_shard(out, simulation, number)
    monkeypatch.setattr(ANNEAL, "anneal", None)  # nothing is left to anneal
    make(out)
    assert content(out) == content(finished)


def test_a_damaged_shard_of_an_unfinished_set_is_made_again(finished, tmp_path):
    out = tmp_path / "set"
    make(out, shard=(0, 2))
    cut_off(out / "shard-000002.safetensors")
    (out / "shard-000004.json").write_text("{")
    make(out)
    assert content(out) == content(finished)


def test_full_disk(finished, tmp_path, monkeypatch):
    out = tmp_path / "set"
    real, writes = os.fsync, 0

    def full(handle):
        nonlocal writes
        writes += 1
        if writes > 12:
            raise OSError(28, "No space left on device")
        real(handle)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(BadInput) as error:
        make(out)
    assert "No space left on device" in one_line(error)
    monkeypatch.undo()
    kept = sorted(file.name for file in out.glob("shard-*.safetensors"))
    assert 0 < len(kept) < 6
    assert not list(out.glob(".*"))
    stamps = {name: (out / name).stat().st_mtime_ns for name in kept}
    make(out)
    assert content(out) == content(finished)
    assert {name: (out / name).stat().st_mtime_ns for name in kept} == stamps  # used, not made again


# ---------------------------------------------------------------- requests that do not fit


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"H": Hamiltonian(D=0.5)}, "hamiltonian.D=0.6 there, 0.5 asked"),
        ({"H": Hamiltonian(D=0.6, dmi="bulk")}, "hamiltonian.dmi=interfacial there, bulk asked"),
        ({"size": (12, 12)}, "size[0]=8 there, 12 asked"),
        ({"samples": 21}, "samples=22 there, 21 asked"),
        ({"seed": 6}, "seed=5 there, 6 asked"),
        ({"shard_size": 5}, "shard_size=4 there, 5 asked"),
        ({"schedule": FAST.then_relax(1)}, "schedule.steps has 4 entries there, 5 asked"),
        (
            {"schedule": Schedule.geometric(1.0, 0.3, 3, 1, 1).then_relax(4)},
            "schedule.steps[3].relax=3 there, 4 asked",
        ),
    ],
)
def test_another_request_for_the_same_folder(copied, tmp_path, change, named):
    begun = tmp_path / "begun"
    make(begun, shard=(0, 2))
    for out in (copied, begun):
        before = content(out)
        with pytest.raises(BadInput) as error:
            make(out, **change)
        assert named in one_line(error)
        assert content(out) == before


def test_the_same_request_again_changes_nothing(copied, monkeypatch):
    before = content(copied)
    monkeypatch.setattr(ANNEAL, "anneal", None)
    assert len(make(copied)) == 22
    assert content(copied) == before


def test_another_version_does_not_go_on(tmp_path, copied, monkeypatch):
    begun = tmp_path / "begun"
    make(begun, shard=(0, 2))
    monkeypatch.setattr("spinloom.version.__version__", "999")
    with pytest.raises(BadInput) as error:
        make(begun)
    assert "version=" in one_line(error)
    assert len(make(copied)) == 22  # a finished set is what was asked for


def test_folders_that_are_something_else(tmp_path):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.tex").write_text("mine")
    (tmp_path / "file").write_text("mine")
    for name in ("thesis", "file"):
        with pytest.raises(BadInput) as error:
            make(tmp_path / name)
        one_line(error)
        with pytest.raises(BadInput) as error:
            write_dataset(tmp_path / name, random_spins(2))
        one_line(error)
    assert content(tmp_path / "thesis") == {"chapter.tex": b"mine"}
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize(
    "change",
    [
        {"samples": 0},
        {"samples": 2.5},
        {"shard_size": 0},
        {"seed": -1},
        {"size": (7, 8)},
        {"shard": (2, 2)},
        {"shard": (0, 0)},
        {"device": torch.device("meta")},
        {"threads": 0},
        {"device": "abacus"},
    ],
)
def test_bad_values_leave_nothing_behind(tmp_path, change):
    def run():
        simulate(tmp_path / "set", H, **{**REQUEST, **change})

    # the test run's own type checks would object to samples=2.5 before we do
    with pytest.raises(BadInput if change != {"samples": 2.5} else Exception):
        run()
    assert not (tmp_path / "set").exists()


# ---------------------------------------------------------------- opening and reading


def test_indexing(finished):
    data = open_dataset(finished)
    every = data[:]
    assert every.shape == (22, 3, 8, 12)
    assert every.dtype == torch.float32
    assert float((every.double().norm(dim=1) - 1).abs().max()) < 1e-6
    assert torch.equal(data[7], every[7])
    assert torch.equal(data[-1], every[21])
    assert torch.equal(data[np.int32(3)], every[3])
    assert torch.equal(data[torch.tensor(3)], every[3])
    assert torch.equal(data[3:19:5], every[3:19:5])
    assert torch.equal(data[::-1], every.flip(0))
    for numbers in ([5, 0, 21, 5], np.array([4, -22]), torch.tensor([20, 1]), range(3)):
        assert torch.equal(data[numbers], every[np.asarray(numbers).tolist()])
    mask = every[:, 2].mean((1, 2)) > 0
    assert torch.equal(data[mask], every[mask])
    assert torch.equal(data[mask.numpy()], every[mask])
    assert data[[]].shape == data[3:3].shape == (0, 3, 8, 12)
    assert torch.equal(torch.stack(list(data)), every)


def test_bad_indices(finished):
    data = open_dataset(finished)
    for index in (22, -23, [0, 22]):
        with pytest.raises(IndexError):
            data[index]
    for index in (1.0, "a", [[1, 2]], np.ones(3, bool), None):
        with pytest.raises(BadInput):
            data[index]


def test_reading_gives_copies(finished):
    data = open_dataset(finished)
    data[2].zero_()
    assert float(data[2].norm()) > 0


def test_only_what_is_used_is_read(copied):
    data = open_dataset(copied)
    (copied / "shard-000003.safetensors").unlink()
    assert data[:12].shape[0] == 12
    with pytest.raises(BadInput, match=r"shard-000003.*verify"):
        data[12]


def test_split(finished):
    data = open_dataset(finished)
    train, test = data.split(0.75)
    assert (len(train), len(test)) == (16, 6)
    assert torch.equal(torch.cat((train[:], test[:])), data[:])
    assert torch.equal(test[-1], data[21])
    assert (test.size, test.hamiltonian, test.info) == (data.size, data.hamiltonian, data.info)
    halves = test.split(0.5)
    assert torch.equal(halves[1][:], data[19:])
    with pytest.raises(IndexError):
        train[16]
    for fraction in (0.0, 1.0, -0.5, 0.01, float("nan")):
        with pytest.raises(BadInput):
            data.split(fraction)


@pytest.mark.parametrize(
    ("spoil", "named"),
    [
        (lambda out: shutil.rmtree(out), "no such folder"),
        (lambda out: (out / "dataset.json").unlink(), "not a data set"),
        (lambda out: (out / "dataset.json").write_text("{"), "not JSON"),
        (lambda out: (out / "dataset.json").write_text("[1]"), "describes no data set"),
        (lambda out: (out / "shard-000001.safetensors").unlink(), "shard-000001.safetensors: missing"),
        (lambda out: cut_off(out / "shard-000005.safetensors"), "shard-000005.safetensors: damaged"),
        (lambda out: edit(out, format_version=2), "use the spinloom that made it"),
        (lambda out: edit(out, samples=23), "damaged"),
        (lambda out: edit(out, size=[8]), "damaged"),
        (lambda out: edit(out, size="8x"), "damaged"),
        (lambda out: edit(out, shard_size=0), "damaged"),
        (lambda out: edit(out, shards=[]), "damaged"),
        (lambda out: edit(out, hamiltonian={"J": -1}), "damaged"),
        (lambda out: edit(out, hamiltonian={"G": 1}), "damaged"),
        (lambda out: edit(out, origin=None), "damaged"),
        (lambda out: edit(out, hamiltonian=None), "damaged"),
    ],
)
def test_what_cannot_be_opened(copied, spoil, named):
    spoil(copied)
    with pytest.raises(BadInput) as error:
        open_dataset(copied)
    assert named in one_line(error)
    assert str(copied) in str(error.value)


def cut_off(file):
    file.write_bytes(file.read_bytes()[:-100])


def edit(folder, **changes):
    info = json.loads((folder / "dataset.json").read_text())
    (folder / "dataset.json").write_text(json.dumps({**info, **changes}))


# ---------------------------------------------------------------- batches


def numbers_of(batch, data):
    """Which textures of the set a batch holds."""
    same = batch[:, None, 2, 3, 4] == data[:][None, :, 2, 3, 4]  # no two textures agree at that site
    assert bool((same.sum(1) == 1).all())
    return same.int().argmax(1).tolist()


def take(batches, count):
    return [next(batches) for _ in range(count)]


def test_epochs(finished):
    data = open_dataset(finished)
    orders = [numbers_of(batch, data) for batch in take(data.batches(5, seed=1), 12)]
    epochs = [list(chain(*orders[k : k + 4])) for k in (0, 4, 8)]
    assert all(len(set(epoch)) == 20 for epoch in epochs)  # no texture twice, two sit out
    assert epochs[0] != epochs[1] != epochs[2]
    left_out = [set(range(22)) - set(epoch) for epoch in epochs]
    assert left_out[0] != left_out[1]


@pytest.mark.parametrize("augment", [False, True])
def test_a_batch_depends_on_seed_and_number_alone(finished, augment):
    whole = take(open_dataset(finished).batches(5, seed=1, augment=augment), 11)
    for start in (0, 1, 4, 7):
        again = take(open_dataset(finished).batches(5, seed=1, start=start, augment=augment), 11 - start)
        assert all(torch.equal(one, other) for one, other in zip(whole[start:], again, strict=True))
    other_seed = take(open_dataset(finished).batches(5, seed=2, augment=augment), 11)
    assert not any(torch.equal(one, other) for one, other in zip(whole, other_seed, strict=True))


def test_the_order_is_for_ever(finished):
    # a training that is resumed with other versions of NumPy or PyTorch goes on with the same batches
    data = open_dataset(finished)
    order = np.argsort(np.random.Philox(key=[7, 2], counter=0).random_raw(22), kind="stable")
    batch = next(data.batches(10, seed=7, start=5))  # the second of epoch 2
    assert numbers_of(batch, data) == order[10:20].tolist()


def test_batches_are_uniform(finished):
    data = open_dataset(finished)
    first = [numbers_of(batch, data)[0] for batch in take(data.batches(22, seed=3), 220)]
    counts = np.bincount(first, minlength=22)
    assert ((counts - 10) ** 2 / 10).sum() < 46.8  # chi-squared of 21 degrees of freedom, p = 0.001


def test_batches_of_a_part(finished):
    train, test = open_dataset(finished).split(0.5)
    seen = [number for batch in take(test.batches(3, seed=1), 3) for number in numbers_of(batch, test)]
    assert len(set(seen)) == 9
    assert not bool((next(train.batches(11))[:, None] == test[:][None]).flatten(2).all(-1).any())


def test_augmented_batches_have_the_same_energies(finished):
    data = open_dataset(finished)
    plain, augmented = (next(data.batches(22, seed=4, augment=augment)) for augment in (False, True))
    assert torch.allclose(H.energy(augmented.double()), H.energy(plain.double()), rtol=0, atol=1e-12)
    assert not bool((plain == augmented).flatten(1).all(-1).any())  # 192 or more elements: none is the identity here


def test_bad_batches(finished, tmp_path):
    data = open_dataset(finished)
    for arguments in ({"batch": 23}, {"batch": 0}, {"batch": 5, "start": -1}):
        with pytest.raises(BadInput) as error:
            data.batches(**arguments)  # at once, not at the first batch
        one_line(error)
    foreign = write_dataset(tmp_path / "foreign", random_spins(4))
    with pytest.raises(BadInput) as error:
        foreign.batches(2, augment=True)
    assert "Hamiltonian" in one_line(error)


def test_batches_are_fast(tmp_path):
    data = write_dataset(tmp_path / "set", random_spins(300, (128, 128)), shard_size=75)
    batches = data.batches(64, seed=0)
    take(batches, 4)
    times = []
    for _ in range(20):
        began = time.perf_counter()
        next(batches)
        times.append(time.perf_counter() - began)
    assert min(times) < 0.02  # measured 0.002 on idle cores; room for a busy machine


# ---------------------------------------------------------------- verify and repair


def flip(file, position=-7):
    content = bytearray(file.read_bytes())
    content[position] ^= 4
    file.write_bytes(bytes(content))


def test_verify_and_repair(copied, finished, monkeypatch):
    assert verify_dataset(copied) == []
    assert repair_dataset(copied, show=False) == []
    flip(copied / "shard-000000.safetensors")
    flip(copied / "shard-000002.safetensors", 20)  # in the header
    cut_off(copied / "shard-000004.safetensors")
    (copied / "shard-000005.safetensors").unlink()
    left_behind(copied / "shard-000005.safetensors").write_text("of a repair that was killed")
    bad = [f"shard-{number:06d}.safetensors" for number in (0, 2, 4, 5)]
    assert verify_dataset(copied) == bad
    asked = []

    def watched(*args, **kwargs):
        asked.append(kwargs["first"])
        return anneal(*args, **kwargs)

    monkeypatch.setattr(ANNEAL, "anneal", watched)
    assert repair_dataset(copied, show=False) == bad
    assert asked == [0, 8, 16, 20]  # exactly those
    assert content(copied) == content(finished)


def test_a_flip_in_a_header_is_refused_when_read(copied):
    flip(copied / "shard-000000.safetensors", 20)
    with pytest.raises(BadInput, match=r"shard-000000.safetensors.*verify"):
        open_dataset(copied)[0]


def test_repair_that_comes_out_otherwise(copied):
    flip(copied / "shard-000001.safetensors")
    edit(copied, seed=6)
    before = content(copied)
    with pytest.raises(BadInput) as error:
        repair_dataset(copied, show=False)
    assert "differs from the recorded checksum" in one_line(error)
    assert content(copied) == before


def test_imported_textures_cannot_be_repaired(tmp_path):
    data = write_dataset(tmp_path / "set", random_spins(7), origin={"kind": "generated"}, shard_size=3)
    assert repair_dataset(data.path) == []
    flip(data.path / "shard-000001.safetensors")
    assert verify_dataset(data.path) == ["shard-000001.safetensors"]
    with pytest.raises(BadInput) as error:
        repair_dataset(data.path)
    assert "generated" in one_line(error)
    assert "shard-000001.safetensors" in str(error.value)


# ---------------------------------------------------------------- textures from elsewhere


def test_write(tmp_path):
    spins = random_spins(7, (5, 9))  # any size: nothing here needs a checkerboard
    origin = {"kind": "imported", "files": ["a.ovf"]}
    data = write_dataset(tmp_path / "deep" / "set", spins, hamiltonian=H, origin=origin, shard_size=3)
    assert (len(data), data.size, data.hamiltonian, data.info["origin"]) == (7, (5, 9), H, origin)
    assert data.info["seed"] is data.info["schedule"] is None
    assert torch.equal(data[:], decode(encode(spins)))
    assert data.info["statistics"]["energy_excess"]["mean"] == pytest.approx(
        float(H.energy_excess(data[:]).mean()), abs=1e-5
    )


def test_write_without_a_hamiltonian(tmp_path):
    data = write_dataset(tmp_path / "set", random_spins(3))
    assert data.hamiltonian is None
    assert list(data.info["statistics"]) == ["mz"]
    assert data.info["origin"] == {"kind": "imported"}


def test_a_copy_is_exact(finished, tmp_path):
    data = open_dataset(finished)
    copy = write_dataset(tmp_path / "copy", data, hamiltonian=H, shard_size=4)  # a texture at a time
    assert [shard["sha256"] for shard in copy.info["shards"]] == [shard["sha256"] for shard in data.info["shards"]]
    assert copy.info["statistics"] == data.info["statistics"]


@pytest.mark.parametrize("shard_size", [1, 3, 4, 500])
def test_batches_are_regrouped(tmp_path, shard_size):
    spins = random_spins(11)
    pieces = (piece for piece in (spins[:0], spins[0], spins[1:8].numpy(), spins[8:]))
    data = write_dataset(tmp_path / "set", pieces, shard_size=shard_size)
    assert torch.equal(data[:], decode(encode(spins)))


@pytest.mark.parametrize(
    ("spins", "named"),
    [
        (random_spins(2) * 1.01, "normalise"),
        (random_spins(2) * float("nan"), "normalise"),
        (torch.zeros(0, 3, 6, 8), "at least one"),
        ([], "at least one"),
        ([random_spins(1), random_spins(1, (8, 6))], "one size"),
    ],
)
def test_textures_that_are_refused(tmp_path, spins, named):
    with pytest.raises(BadInput) as error:
        write_dataset(tmp_path / "set", spins)
    assert named in one_line(error)
    assert list(tmp_path.iterdir()) == []


def test_other_shapes_are_refused(tmp_path):
    with pytest.raises(BadInput, match="shape"):
        write_dataset(tmp_path / "set", torch.zeros(4, 6, 8))


def test_nothing_is_overwritten(copied):
    before = content(copied)
    with pytest.raises(BadInput) as error:
        write_dataset(copied, random_spins(2))
    assert "nothing is overwritten" in one_line(error)
    assert content(copied) == before


def test_two_that_write_one_folder_at_once(tmp_path):
    def slow():
        yield random_spins(2)
        write_dataset(tmp_path / "set", random_spins(3, seed=1))
        yield random_spins(2, seed=2)

    with pytest.raises(BadInput) as error:
        write_dataset(tmp_path / "set", slow(), shard_size=2)
    one_line(error)
    assert torch.equal(open_dataset(tmp_path / "set")[:], decode(encode(random_spins(3, seed=1))))
    assert [file.name for file in tmp_path.iterdir()] == ["set"]


def test_a_write_that_fails_leaves_nothing(tmp_path, monkeypatch):
    left_behind(tmp_path / "set").mkdir()  # of a call that was killed
    others = {left_behind(tmp_path / "set2"), beside(tmp_path / "set")}  # another set's; of a call that goes on
    for partial in others:
        partial.mkdir()

    def full(handle):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(BadInput) as error:
        write_dataset(tmp_path / "set", random_spins(2))
    assert "No space left on device" in one_line(error)
    assert set(tmp_path.iterdir()) == others


# ---------------------------------------------------------------- Ubermag


def test_fields(finished):
    data = open_dataset(finished)
    fields = Fields(data)
    every = data[:].numpy()
    assert fields.shape == (22, 12, 8, 1, 3)
    assert fields[:].shape == fields.shape
    for k, x, y, component in ((0, 11, 7, 2), (13, 2, 5, 0), (21, 9, 0, 1)):
        assert fields[k, x, y, 0, component] == every[k, component, y, x]
        assert fields[k : k + 1, x : x + 1, y : y + 1, :, component] == every[k, component, y, x]
    assert fields[3:5, 2:4, 1:7, 0:1, 0:3].shape == (2, 2, 6, 1, 3)


def test_xarray_is_missing(finished, monkeypatch):
    monkeypatch.setitem(sys.modules, "xarray", None)
    with pytest.raises(BadInput) as error:
        open_dataset(finished).to_xarray()
    assert "pip install xarray" in one_line(error)


@pytest.mark.parametrize("dask", [False, True])
def test_xarray(copied, monkeypatch, dask):
    pytest.importorskip("xarray")
    if dask:
        pytest.importorskip("dask")
    else:
        monkeypatch.setitem(sys.modules, "dask.array", None)
    data = open_dataset(copied).split(0.5)[1]
    array = data.to_xarray(cell=(2e-9, 3e-9, 1e-9), units="m")
    assert array.dims == ("texture", "x", "y", "z", "vdims")
    assert array.shape == (11, 12, 8, 1, 3)
    assert array.dtype == np.float32
    assert array.texture.values.tolist() == list(range(11, 22))
    assert (array.chunks is not None) == dask
    one = array.sel(texture=15, vdims="z").isel(x=4, y=6, z=0)
    assert float(one) == float(data[4][2, 6, 4])
    assert np.array_equal(array.transpose("texture", "vdims", "y", "x", "z").values[..., 0], data[:].numpy())
    assert set(array.attrs) == {"units", "cell", "pmin", "pmax", "nvdim", "tolerance_factor"}
    assert np.allclose(array.pmax, (24e-9, 24e-9, 1e-9))
    assert np.allclose(array.x, (np.arange(12) + 0.5) * 2e-9)
    assert np.allclose(array.y, (np.arange(8) + 0.5) * 3e-9)
    assert array.x.attrs["units"] == "m"
    assert array.vdims.values.tolist() == ["x", "y", "z"]
    if dask:
        (copied / "shard-000005.safetensors").unlink()
        fresh = open_dataset_without_checks(copied)
        assert fresh.to_xarray()[0].values.shape == (12, 8, 1, 3)  # nothing of the last shard is read


def open_dataset_without_checks(path):
    from spinloom.dataset import Dataset
    from spinloom.shards import read_info

    return Dataset(path, read_info(path))


def test_sets_too_large_to_list_are_refused_at_once(tmp_path):
    with pytest.raises(BadInput, match=r"samples=100000000000000: .* shards"):
        simulate(tmp_path / "many", Hamiltonian(), 32, 10**14, show=False)
    with pytest.raises(BadInput, match=r"size=.*over 2"):
        simulate(tmp_path / "wide", Hamiltonian(), 2_000_000_000, 1, show=False)
    assert not any(tmp_path.iterdir())
