"""The programs that ``spinloom bench anneal --peers`` races: the same model, and honest ends of the races."""

import json

import pytest

from spinloom import bench, peers
from spinloom.anneal import anneal, relax
from spinloom.bench import bench_anneal, print_anneal, race_peers
from spinloom.hamiltonian import Hamiltonian
from spinloom.peers import PEERS, Worker, version

SIZE = (12, 16)  # not a square: a swap of rows and columns would show
H = Hamiltonian(J=1.3, D=0.4)


def needs(name):
    return pytest.mark.skipif(version(name) is None, reason=f"{name} is not installed")


@pytest.fixture(scope="module")
def texture():
    return anneal(H, SIZE, 1, seed=3)[0]


@pytest.fixture(scope="module")
def magnumnp():
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TORCHDYNAMO_DISABLE", "1")  # it compiles for half a minute otherwise
        with Worker("magnumnp", J=H.J, D=H.D, size=SIZE) as worker:
            yield worker


@needs("spirit")
def test_spirit_has_our_energy(texture):
    """A chiral texture's DMI energy has a sign: that of D, of the axes and of their order."""
    with Worker("spirit", J=H.J, D=H.D, size=SIZE) as worker:
        assert worker.ask("energy", texture=worker.save(texture)) == pytest.approx(float(H.energy(texture)), abs=1e-5)
        mirrored = texture.flip(-1)
        assert worker.ask("energy", texture=worker.save(mirrored)) == pytest.approx(float(H.energy(mirrored)), abs=1e-5)
        assert abs(H.energy(mirrored) - H.energy(texture)) > 0.01


@needs("magnumnp")
def test_magnumnp_has_our_energy(texture, magnumnp):
    for spins in (texture, texture.flip(-1)):
        found = magnumnp.ask("energy", texture=magnumnp.save(spins))
        assert found == pytest.approx(float(H.energy(spins)), abs=1e-5)


@needs("magnumnp")
def test_magnumnp_relaxes_to_the_goal_it_is_timed_for(magnumnp):
    spins = anneal(H, SIZE, 1, seed=4, schedule=bench.Schedule.geometric(1, 0.01, steps=50))[0]
    file = magnumnp.save(spins)
    goals = [float(H.energy(relax(spins, H, sweeps))) for sweeps in (3, 10)]
    plan = magnumnp.ask("plan", texture=file, goals=goals)
    for method in ("llg", "minimiser"):
        assert plan[method][0] <= plan[method][1]
        for goal, amount in zip(goals, plan[method], strict=True):
            end = magnumnp.ask("relax", texture=file, method=method, amount=amount)
            assert end["energy"] <= goal + 2e-6
            assert end["seconds"] > 0


@needs("spinmc")
def test_spinmc_has_our_exchange_and_temperature():
    """−2J in the uniform state; at T = 2J the mean energy of our heat bath: J, k_B and the lattice agree."""
    plain = Hamiltonian(J=1.3, D=0)
    with Worker("spinmc", J=plain.J, D=0.0, size=SIZE) as worker:
        assert worker.ask("energies", temperature=1e-9, settle=1, blocks=1, sweeps=1, start="x") == [-2.6]
        theirs = worker.ask("energies", temperature=2.6, settle=200, blocks=1, sweeps=20000)[0]
    ours = anneal(plain, SIZE, 400, seed=5, schedule=bench.Schedule.constant(2.6, 30, over_relax=4))
    error = float(plain.energy(ours).std()) / 20
    assert theirs == pytest.approx(float(plain.energy(ours).mean()), abs=4 * error)


@needs("spinmc")
def test_a_peer_that_fails_is_a_line():
    with Worker("spinmc", J=1.0, D=0.3, size=SIZE) as worker:
        with pytest.raises(RuntimeError, match=r"D=0\.3: spinmc has no DMI"):
            worker.ask("rate", temperature=1.0, sweeps=10)
        worker._process.kill()
        with pytest.raises(RuntimeError, match="ended with code"):
            worker.ask("rate", temperature=1.0, sweeps=10)


@needs("spirit")
@needs("spinmc")
def test_a_race_says_who_is_faster(monkeypatch):
    monkeypatch.setattr(bench, "PEERS", {name: PEERS[name] for name in ("spirit", "spinmc")})
    for peer in race_peers(size=16, rounds=1):
        assert len(peer["races"]) == 2, peer["note"]
        rate, energy = peer["races"]
        assert rate["ratio"] == pytest.approx(rate["ours"] / rate["theirs"]) and rate["theirs"] > 0
        assert energy["ratio"] is None and energy["ours"][0] == pytest.approx(energy["theirs"][0], abs=0.15)


def test_peers_that_are_not_installed_are_a_line_each(monkeypatch, capsys):
    monkeypatch.setattr(peers.importlib.metadata, "version", _none)
    result = bench_anneal(yardstick=False, size=16, rounds=1, threads=1, peers=True)
    assert [peer["note"] for peer in result["peers"]] == [f"not installed; pip install {name}" for name in PEERS]
    assert json.loads(json.dumps(result)) == result
    print_anneal(result)
    shown = capsys.readouterr().out
    assert all(f"{program}: not installed; pip install {name}" in shown for name, program in PEERS.items())


def _none(name):
    raise peers.importlib.metadata.PackageNotFoundError(name)
