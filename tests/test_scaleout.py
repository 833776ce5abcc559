"""A data set on a cluster of separate processes: the bytes of one process, whoever dies."""

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from spinloom import scaleout, version
from spinloom.cli import main
from spinloom.dataset import open_dataset, simulate, verify_dataset
from spinloom.errors import BadInput
from spinloom.hamiltonian import Hamiltonian
from spinloom.schedule import Schedule
from spinloom.simulation import Simulation, begin

distributed = pytest.importorskip("distributed")
pytest.importorskip("cryptography")

H = Hamiltonian(D=0.6)
SIZE, SAMPLES, SHARD_SIZE, SEED = (40, 48), 238, 4, 3
SHARDS = 60
HOW = {"shard_size": SHARD_SIZE, "show": False}
OPTIONS = [
    *("--size", "40", "48", "--samples", "238", "--shard-size", "4", "--seed", "3", "--D", "0.6", "--quiet"),
]
FAST = Schedule.geometric(1.0, 0.3, steps=3, heat_bath=1, over_relax=1).then_relax(3)


def content(folder):
    """Every file of a folder, hidden ones too."""
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def shards(folder):
    return sorted(folder.glob("shard-*.safetensors"))


def one_line(error):
    line = str(error.value)
    assert "\n" not in line
    assert ";" in line
    return line


def until(condition, seconds=60.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.002)


def start(*arguments, **options):
    return subprocess.Popen([sys.executable, "-m", *map(str, arguments)], **options)


class Cluster:
    """``dask scheduler`` and ``dask worker`` as processes of their own, on the loopback interface."""

    def __init__(self, folder, workers):
        self.file = folder / "scheduler.json"
        self.log = (folder / "log").open("w")
        self.folder = folder
        local = ("--host", "127.0.0.1", "--dashboard-address", "127.0.0.1:0", "--no-dashboard")
        self.scheduler = self._start("scheduler", *local, "--port", 0, "--scheduler-file", self.file)
        until(self.file.exists)
        self.workers = [
            self._start("worker", *local, "--no-nanny", "--nthreads", 1, "--scheduler-file", self.file)
            for _ in range(workers)
        ]

    def _start(self, *arguments):
        return start("dask", *arguments, cwd=self.folder, stdout=self.log, stderr=self.log)

    def close(self):
        for process in (*self.workers, self.scheduler):
            process.kill()
            process.wait()
        self.log.close()


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    cluster = Cluster(tmp_path_factory.mktemp("cluster"), 2)
    yield cluster
    cluster.close()


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    """The set as one process makes it."""
    path = tmp_path_factory.mktemp("expected") / "set"
    simulate(path, H, SIZE, SAMPLES, SEED, threads=1, **HOW)
    return content(path)


def on(cluster, out, **options):
    return start("spinloom", "simulate", out, *OPTIONS, "--dask", cluster.file, **options)


# ---------------------------------------------------------------- a real cluster


def test_a_worker_killed_in_mid_run(cluster, expected, tmp_path):
    out = tmp_path / "set"
    command = on(cluster, out, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    until(lambda: len(shards(out)) >= 5)
    cluster.workers[0].kill()
    at_the_kill = len(shards(out))
    told, error = command.communicate(timeout=120)
    assert (command.returncode, error) == (0, "")
    assert "238 textures" in told
    assert at_the_kill < SHARDS
    assert content(out) == expected  # nothing lost, nothing double, no partial files
    assert cluster.workers[1].poll() is None
    data = open_dataset(out)
    assert len(data) == SAMPLES
    assert len({texture.numpy().tobytes() for texture in data}) == SAMPLES
    assert verify_dataset(out) == []


def test_commands_stopped_in_mid_run_and_given_again(cluster, expected, tmp_path):
    interrupted, killed = tmp_path / "interrupted", tmp_path / "killed"
    commands = {out: on(cluster, out, stderr=subprocess.PIPE, text=True) for out in (interrupted, killed)}
    for out, how in ((interrupted, signal.SIGINT), (killed, signal.SIGKILL)):
        until(lambda out=out: len(shards(out)) >= 3)
        commands[out].send_signal(how)
    error = commands[interrupted].communicate(timeout=60)[1]
    assert commands[interrupted].returncode == 130
    assert "shards made; the same command goes on from there" in error
    assert len(error.splitlines()) == 1
    commands[killed].communicate(timeout=60)
    time.sleep(0.5)  # what a worker was at, it may finish
    kept = {file: file.stat().st_mtime_ns for out in commands for file in shards(out)}
    time.sleep(0.5)
    for out in commands:
        assert sum(file.parent == out for file in kept) == len(shards(out)) < SHARDS  # nobody works for the gone
        scaleout.simulate_on(str(cluster.file), out, H, SIZE, SAMPLES, SEED, **HOW)
        assert content(out) == expected
    assert {file: file.stat().st_mtime_ns for file in kept} == kept  # skipped, not made again


def test_a_cluster_and_a_job_of_an_array_share_a_folder(cluster, expected, tmp_path):
    out = tmp_path / "set"
    job = threading.Thread(target=simulate, args=(out, H, SIZE, SAMPLES, SEED), kwargs={**HOW, "shard": (1, 3)})
    job.start()
    until(lambda: len(shards(out)) >= 1)
    scaleout.simulate_on(str(cluster.file), out, H, SIZE, SAMPLES, SEED, **HOW)
    job.join()
    assert content(out) == expected


def test_another_request_for_the_folder(cluster, tmp_path):
    out = tmp_path / "set"
    begin(out, Simulation(H, SIZE, SAMPLES, SEED + 1, shard_size=SHARD_SIZE))
    before = content(out)
    with pytest.raises(BadInput) as error:
        scaleout.simulate_on(str(cluster.file), out, H, SIZE, SAMPLES, SEED, **HOW)
    assert "seed=4 there, 3 asked" in one_line(error)
    assert content(out) == before


def test_a_scheduler_that_dies(cluster, expected, tmp_path):  # the last of this cluster
    out = tmp_path / "set"

    def kill():
        until(lambda: len(shards(out)) >= 3)
        cluster.scheduler.kill()

    killer = threading.Thread(target=kill)
    killer.start()
    with pytest.raises(BadInput) as error:
        scaleout.simulate_on(str(cluster.file), out, H, SIZE, SAMPLES, SEED, **HOW)
    killer.join()
    assert "the scheduler is gone" in one_line(error)
    assert 3 <= len(shards(out)) < SHARDS
    simulate(out, H, SIZE, SAMPLES, SEED, threads=2, **HOW)
    assert content(out) == expected


# ---------------------------------------------------------------- processes of this machine


def test_two_workers_of_this_machine(expected, tmp_path):
    out = tmp_path / "set"
    before = dict(os.environ)
    scaleout.simulate_on(2, out, H, SIZE, SAMPLES, SEED, **HOW)
    assert content(out) == expected
    assert dict(os.environ) == before  # Dask's "one thread for MKL" would change the bits of later trainings


def test_ctrl_c_with_workers_of_this_machine(expected, tmp_path):
    out = tmp_path / "set"
    command = start(
        *("spinloom", "simulate", out, *OPTIONS, "--workers", 2),
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    until(lambda: len(shards(out)) >= 3)
    os.killpg(command.pid, signal.SIGINT)  # as a terminal does: to the workers too
    error = command.communicate(timeout=60)[1]
    assert command.returncode == 130
    assert "shards made; the same command goes on from there" in error
    assert len(error.splitlines()) == 1
    simulate(out, H, SIZE, SAMPLES, SEED, **HOW)
    assert content(out) == expected


# ---------------------------------------------------------------- workers that see another disk, or none


REQUEST = {"size": (8, 12), "samples": 22, "seed": 5, "schedule": FAST, "shard_size": 4, "show": False}


@pytest.fixture(scope="module")
def client():
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=False, dashboard_address="127.0.0.1:0"
        ) as local,
        distributed.Client(local, set_as_default=False) as client,
    ):
        yield client


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return content(simulate(tmp_path_factory.mktemp("small") / "set", H, **REQUEST).path)


def test_a_client_of_ones_own(client, small, tmp_path):
    assert len(scaleout.simulate_on(client, tmp_path / "set", H, **REQUEST)) == 22
    assert content(tmp_path / "set") == small
    assert client.status == "running"  # it is not ours to close


@pytest.mark.parametrize(("shard_size", "each"), [(4, {1}), (12, {2}), (22, {4})])
def test_threads_are_neither_idle_nor_shared(small, tmp_path, monkeypatch, shard_size, each):
    real, asked = Simulation.pack_shard, set()

    def watched(simulation, number, threads):
        asked.add(threads)
        return real(simulation, number, threads)

    monkeypatch.setattr(Simulation, "pack_shard", watched)
    local = distributed.LocalCluster(
        n_workers=1, threads_per_worker=4, processes=False, dashboard_address="127.0.0.1:0"
    )
    with local, distributed.Client(local, set_as_default=False) as client:
        scaleout.simulate_on(client, tmp_path / "set", H, **{**REQUEST, "shard_size": shard_size})
    assert asked == each  # of 4: six shards, two shards, one


def test_workers_that_do_not_see_the_folder_send_their_shards(client, small, tmp_path, monkeypatch):
    monkeypatch.setattr(scaleout, "_sees", lambda probe: False)
    monkeypatch.setattr("spinloom.simulation.make_shard", None)
    said = []
    scaleout.simulate_on(client, tmp_path / "set", H, **REQUEST, say=said.append)
    assert content(tmp_path / "set") == small
    assert said == [f"2 of 2 workers do not see {tmp_path / 'set'}: they send their shards here"]


def test_a_folder_of_that_name_elsewhere_is_not_taken_for_it(small, tmp_path):
    simulate(tmp_path / "set", H, **REQUEST, shard=(0, 2))
    with scaleout._probe(tmp_path / "set") as probe:
        assert scaleout._sees(str(probe))
        shutil.copytree(tmp_path / "set", tmp_path / "other", ignore=shutil.ignore_patterns(".*"))
        assert not scaleout._sees(str(tmp_path / "other" / probe.name))
    assert not probe.exists()


def test_workers_that_cannot_write_send_their_shards(client, small, tmp_path, monkeypatch):
    real, calls = scaleout.store_shard, []

    def on_the_client_only(*arguments):
        if threading.current_thread() is not threading.main_thread():
            raise BadInput("shard: read-only file system; no way out")
        calls.append(arguments)
        real(*arguments)

    monkeypatch.setattr(scaleout, "store_shard", on_the_client_only)
    scaleout.simulate_on(client, tmp_path / "set", H, **REQUEST)
    assert len(calls) == 6
    assert content(tmp_path / "set") == small


def test_a_full_disk(client, small, tmp_path, monkeypatch):
    real, writes = os.fsync, 0

    def full(handle):
        nonlocal writes
        writes += 1
        if writes > 12:
            raise OSError(28, "No space left on device")
        real(handle)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(BadInput) as error:
        scaleout.simulate_on(client, tmp_path / "set", H, **REQUEST)
    assert "No space left on device" in one_line(error)
    monkeypatch.undo()
    assert 0 < len(shards(tmp_path / "set")) < 6
    scaleout.simulate_on(client, tmp_path / "set", H, **REQUEST)
    assert content(tmp_path / "set") == small


# ---------------------------------------------------------------- refusals


def refused(cluster, out, **changes):
    with pytest.raises(BadInput) as error:
        scaleout.simulate_on(cluster, out, H, **{**REQUEST, **changes})
    assert not out.exists()
    return one_line(error)


def test_without_dask(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    assert "pip install 'spinloom[dask]'" in refused(2, tmp_path / "set")


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:1", "127.0.0.1:1", "nowhere", "ftp://127.0.0.1:1", "none.json"])
def test_no_scheduler_there(tmp_path, monkeypatch, address):
    monkeypatch.setattr(scaleout, "ANSWER", 0.3)
    assert address in refused(address, tmp_path / "set")


def test_a_cluster_without_workers(tmp_path, monkeypatch):
    monkeypatch.setattr(scaleout, "FIRST_WORKER", 0.2)
    with (
        distributed.LocalCluster(
            n_workers=0, processes=False, dashboard_address="127.0.0.1:0", protocol="tcp://", host="127.0.0.1"
        ) as local,
        distributed.Client(local, set_as_default=False) as client,
    ):
        assert "has no workers" in refused(client, tmp_path / "set")


def test_workers_of_another_version(client, tmp_path, monkeypatch):
    monkeypatch.setattr(scaleout, "_ask", lambda probe: ("0.0", True))
    line = refused(client, tmp_path / "set")
    assert "has spinloom 0.0" in line
    assert version.__version__ in line


def test_workers_without_spinloom(client, tmp_path, monkeypatch):
    def missing(probe):
        raise ModuleNotFoundError("No module named 'spinloom'")

    monkeypatch.setattr(scaleout, "_ask", missing)
    line = refused(client, tmp_path / "set")
    assert "No module named 'spinloom'" in line
    assert "install" in line


def test_a_worker_that_fails(client, tmp_path, monkeypatch):
    def broken(*arguments):
        raise RuntimeError("lost\nmarbles")

    monkeypatch.setattr(Simulation, "pack_shard", broken)
    assert "RuntimeError: lost marbles" in refused(client, tmp_path / "set")


def test_values_that_the_annealer_refuses(client, tmp_path):
    hot = Schedule.geometric(1e12, 0.3, steps=3, heat_bath=1, over_relax=1)
    assert "temperature=" in refused(client, tmp_path / "set", schedule=hot)


@pytest.mark.parametrize("change", [{"samples": 0}, {"size": (7, 8)}, {"seed": -1}])
def test_bad_values_are_refused_before_any_worker_is_asked(tmp_path, change):
    refused(object(), tmp_path / "set", **change)


def test_numbers_of_workers(tmp_path):
    for workers in (0, -1, True):
        assert "workers=" in refused(workers, tmp_path / "set")
    assert "share one card" in refused(2, tmp_path / "set", device="cuda")


def test_the_slurm_script_of_the_documentation(tmp_path, capsys):
    # what it would call on a cluster, with less of everything
    bin_ = tmp_path / "bin"
    bin_.mkdir()
    for name, line in (("srun", 'exec "$@"'), ("spinloom", 'printf "%s\\n" "$@"')):
        (bin_ / name).write_text(f"#!/bin/sh\n{line}\n")
        (bin_ / name).chmod(0o755)
    script = Path(__file__).parents[1] / "docs" / "examples" / "slurm.sh"
    out = tmp_path / "set"
    for job in range(3):
        environment = {"SLURM_ARRAY_TASK_ID": str(job), "SLURM_CPUS_PER_TASK": "1", "JOBS": "3", "SAMPLES": "9"}
        environment |= {"OUT": str(out), "PATH": f"{bin_}:{os.environ['PATH']}"}
        words = subprocess.run(["bash", script], env=environment, capture_output=True, text=True, check=True).stdout
        less = words.splitlines()
        for option, value in (("--size", "8"), ("--shard-size", "2")):
            less[less.index(option) + 1] = value
        with pytest.raises(SystemExit) as stop:
            main(less)
        assert stop.value.code == 0
        assert len(shards(out)) == (2, 4, 5)[job]
    assert "9 textures" in capsys.readouterr().out
    assert content(out) == content(simulate(tmp_path / "one", Hamiltonian(), 8, 9, shard_size=2, show=False).path)


@pytest.mark.parametrize(
    ("says", "options"),
    [
        ("--dask and --workers", ["--dask", "127.0.0.1:1", "--workers", "2"]),
        ("--shard and --workers", ["--shard", "0/2", "--workers", "2"]),
        ("--threads 2 with --dask", ["--dask", "127.0.0.1:1", "--threads", "2"]),
        ("--workers", ["--workers", "0"]),
        ("nowhere: no Dask scheduler", ["--dask", "nowhere"]),
    ],
)
def test_the_command_line_refuses_in_one_line(tmp_path, capsys, says, options):
    with pytest.raises(SystemExit) as stop:
        main(["simulate", str(tmp_path / "set"), *options])
    error = capsys.readouterr().err
    assert stop.value.code == 2
    assert says in error
    assert len(error.splitlines()) == 1
    assert not (tmp_path / "set").exists()
