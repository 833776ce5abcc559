"""A generator is raced against an annealing that ends as low, and against none where nothing ends as low."""

from dataclasses import replace

import pytest
import torch

import spinloom as sl
from spinloom import bench_sample as room
from spinloom.bench_sample import bench_sample, cooling, print_sample, shortest
from spinloom.errors import BadInput
from spinloom.schedule import DEFAULT_SCHEDULE
from spinloom.train import train
from test_train import NETWORKS, QUICK, H, settings


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("race")
    data = sl.simulate(folder / "set", H, 32, 60, seed=1, schedule=QUICK, show=False)
    return train(data, folder / "run", NETWORKS, settings(steps=2, watch_every=0), show=False)


def test_cooling_is_the_default_schedule_scaled():
    assert cooling(200) == DEFAULT_SCHEDULE
    assert cooling(1).sweeps == 5 + 3


def energy(temperatures):
    return float(H.energy_excess(sl.anneal(H, 32, 100, seed=0, schedule=cooling(temperatures))).mean())


def test_the_shortest_cooling_that_gets_there_is_found():
    goal = energy(12)
    found, textures = shortest(H, (32, 32), 100, goal)
    assert found <= 12
    assert float(H.energy_excess(textures).mean()) == pytest.approx(energy(found))
    assert energy(found) <= goal
    assert energy(found - 1) > goal


def test_what_no_cooling_reaches_is_given_up_at_once(monkeypatch):
    tried = []
    genuine = room.cooling

    def counted(temperatures):
        tried.append(temperatures)
        return genuine(temperatures)

    monkeypatch.setattr(room, "cooling", counted)
    monkeypatch.setattr(room, "SLOWEST", 6)
    assert shortest(H, (32, 32), 2, -1.0)[0] == 6
    assert tried == [1, 2, 4, 6]


def test_both_are_timed_and_measured(run, capsys):
    result = bench_sample(run, count=4, relax=20, rounds=1)
    drawn = sl.sample(run, 4, relax=20)
    assert result["energy_excess"]["generator"] == pytest.approx(float(H.energy_excess(drawn).mean()))
    assert result["schedule"]["reached"]
    assert result["energy_excess"]["annealing"] <= result["energy_excess"]["generator"]
    assert result["ratio"] == pytest.approx(result["rates"]["generator"] / result["rates"]["annealing"])
    assert result["network_threads"] == torch.get_num_threads()
    print_sample({**result, "threads": 4, "network_threads": 2})
    told = capsys.readouterr().out
    assert "times as fast" in told
    assert "4 threads (2 for networks)" in " ".join(told.split())
    print_sample({**result, "schedule": {**result["schedule"], "reached": False}})
    assert "times as fast" not in capsys.readouterr().out
    with pytest.raises(BadInput, match="unknown Hamiltonian"):
        bench_sample(replace(run, hamiltonian=None))
