"""Training resumes bit for bit, refuses what does not fit, and leaves loadable runs."""

import errno
import json
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import nullcontext
from dataclasses import replace
from hashlib import sha256

import numpy as np
import pytest
import torch

import spinloom as sl
from spinloom.cli import main
from spinloom.errors import BadInput
from spinloom.files import read_lines
from spinloom.interrupts import deferred_interrupt
from spinloom.networks import NetworkConfig
from spinloom.presets import TRAININGS
from spinloom.run import (
    CHECKPOINT,
    METRICS,
    WEIGHTS,
    build_networks,
    digest,
    locked,
    read_metrics,
    read_tensors,
    step_of,
)
from spinloom.train import draw_latents, objective_on, train
from spinloom.training_config import TrainingConfig

H = sl.Hamiltonian(D=0.6)
NETWORKS = NetworkConfig(size=(32, 32), latent=8, generator=4, discriminator=4, encoder=4, widest=8, head=2)
QUICK = sl.Schedule.geometric(1.0, 0.05, steps=10, heat_bath=1, over_relax=1).then_relax(10)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return sl.simulate(tmp_path_factory.mktemp("data") / "set", H, 32, 60, seed=1, schedule=QUICK, show=False)


def settings(**changes) -> TrainingConfig:
    return TrainingConfig(**{"steps": 12, "batch": 5, "checkpoint_every": 4, "log_every": 2, **changes})


def same_weights(one, other) -> bool:
    a, b = (read_tensors(folder / WEIGHTS)[0] for folder in (one, other))
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("objective", ["vae", "gan", "hybrid"])
def test_a_resumed_training_has_the_bits_of_one_never_stopped(data, tmp_path, objective):
    whole = train(data, tmp_path / "whole", NETWORKS, settings(objective=objective), show=False)
    train(data, tmp_path / "parts", NETWORKS, settings(objective=objective, steps=5), show=False)
    parts = train(data, tmp_path / "parts", NETWORKS, settings(objective=objective), show=False)
    assert whole.step == parts.step == 12
    assert same_weights(tmp_path / "whole", tmp_path / "parts")
    lines = [{k: v for k, v in m.items() if k != "seconds"} for m in read_metrics(tmp_path / "whole")]
    assert [m["step"] for m in lines] == [2, 4, 6, 8, 10, 12]
    resumed = {m["step"]: m for m in read_metrics(tmp_path / "parts")}
    assert all({k: v for k, v in resumed[m["step"]].items() if k != "seconds"} == m for m in lines)


EVERYTHING = replace(NETWORKS, latent=16, grid=True, whiten=True)
PHYSICS = {"energy": 0.5, "rest": 2.0, "rest_sweeps": 3, "spectrum": 0.5}


@pytest.mark.parametrize("objective", ["vae", "gan", "hybrid"])
def test_a_step_in_bfloat16_is_close_to_one_in_float32_and_all_it_keeps_is_float32(data, tmp_path, objective):
    lines = {}
    for precision in ("float32", "bfloat16"):
        more = {**PHYSICS, "r1": 0.01, "instance_noise": 0.1, "average": 0.9, "precision": precision}
        config = settings(objective=objective, steps=1, log_every=1, **more)
        run = train(data, tmp_path / precision, EVERYTHING, config, show=False)
        (lines[precision],) = read_metrics(tmp_path / precision)
        kept = read_tensors(tmp_path / precision / CHECKPOINT)[0]
        assert all(t.dtype == torch.float32 for t in kept.values() if t.is_floating_point())
        assert float((sl.sample(run, 5).norm(dim=1) - 1).abs().max()) < 1e-6
    one, other = ({k: v for k, v in line.items() if k != "seconds"} for line in lines.values())
    assert other == pytest.approx(one, rel=0.01, abs=0.01)
    assert other != one
    assert not same_weights(tmp_path / "float32", tmp_path / "bfloat16")


def test_a_training_in_bfloat16_learns_and_resumes_with_the_same_bits(data, tmp_path):
    config = settings(steps=40, rate=2e-3, log_every=1, precision="bfloat16", average=0.9, **PHYSICS)
    train(data, tmp_path / "whole", EVERYTHING, config, show=False)
    train(data, tmp_path / "parts", EVERYTHING, replace(config, steps=17), show=False)
    train(data, tmp_path / "parts", EVERYTHING, config, show=False)
    assert same_weights(tmp_path / "whole", tmp_path / "parts")
    errors = [line["reconstruction"] for line in read_metrics(tmp_path / "whole")]
    assert all(np.isfinite(errors))
    assert np.mean(errors[-5:]) < 0.9 * np.mean(errors[:5])
    with pytest.raises(BadInput, match=r"training\.precision: bfloat16 there, float32 asked"):
        train(data, tmp_path / "parts", EVERYTHING, replace(config, precision="float32"), show=False)


CHILD = """
import json, sys
from spinloom import open_dataset
from spinloom.networks import NetworkConfig
from spinloom.train import train
from spinloom.training_config import TrainingConfig
networks = NetworkConfig(**json.loads(sys.argv[3]))
config = TrainingConfig(steps=40, batch=5, log_every=1, **{"checkpoint_every": 4, **json.loads(sys.argv[4])})
train(open_dataset(sys.argv[1]), sys.argv[2], networks, config, show=False)
"""


def start(data, out, networks=NETWORKS, **changes) -> subprocess.Popen:
    env = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())}
    asked = [str(data.path), str(out), json.dumps(networks.as_dict()), json.dumps(changes)]
    return subprocess.Popen([sys.executable, "-c", CHILD, *asked], env=env, stderr=subprocess.PIPE)


def wait_for_step(child: subprocess.Popen, out, step: int) -> None:
    deadline = time.monotonic() + 120
    while child.poll() is None and time.monotonic() < deadline:
        if any(m["step"] >= step for m in read_metrics(out)):
            return
        time.sleep(0.005)


def test_killed_at_random_with_everything_on_it_ends_with_the_same_bits(data, tmp_path):
    """Codes on a grid and whitened, looks, an average, symmetries, falling rates, noise, penalties: all resume."""
    more = {
        "checkpoint_every": 3,
        "watch_every": 5,
        "average": 0.9,
        "augment": True,
        "halving": 20,
        "discriminator_rate": 0.5,
        "energy_rise": 15,
        **PHYSICS,
        "instance_noise": 0.1,
        "r1": 0.01,
    }
    whole = train(data, tmp_path / "whole", EVERYTHING, settings(steps=40, log_every=1, **more), show=False)
    assert not torch.equal(whole.encoder.whitening.covariance, torch.eye(EVERYTHING.latent))
    random = np.random.default_rng()  # any moment will do: the end is the same
    killed = 0
    for step in sorted(random.choice(np.arange(1, 39), 3, replace=False)):
        child = start(data, tmp_path / "killed", EVERYTHING, **more)
        wait_for_step(child, tmp_path / "killed", int(step))
        time.sleep(random.uniform(0, 0.05))
        if child.poll() is None:
            child.kill()
            killed += 1
        child.communicate()
    child = start(data, tmp_path / "killed", EVERYTHING, **more)
    assert child.wait(120) == 0, child.communicate()[1]
    assert killed
    assert same_weights(tmp_path / "whole", tmp_path / "killed")
    looks = [read_lines(tmp_path / name / "watch.jsonl") for name in ("whole", "killed")]
    assert looks[0] == looks[1] and [line["step"] for line in looks[0]] == list(range(5, 41, 5))
    assert [m["step"] for m in read_metrics(tmp_path / "killed")] == list(range(1, 41))
    left = {p.name for p in (tmp_path / "killed").iterdir() if not p.name.endswith(".partial")}
    assert left == {"config.json", METRICS, CHECKPOINT, WEIGHTS, "watch", "watch.jsonl"}


def test_the_hamiltonians_weights_rise():
    config = TrainingConfig(energy=30, rest=5, energy_rise=500)
    assert [config.losses(step=step).energy for step in (0, 100, 500, 900)] == [0, 6, 30, 30]
    assert [config.losses(step=step).rest for step in (0, 100, 500, 900)] == [0, 1, 5, 5]
    assert config.losses().energy == 30
    assert TrainingConfig(energy=2).losses(step=0).energy == 2


def test_rates_halve(data, tmp_path):
    config = TrainingConfig(rate=1e-3, halving=100, discriminator_rate=0.5)
    assert config.rate_of("generator") == 1e-3
    assert config.rate_of("generator", 100) == pytest.approx(5e-4)
    assert config.rate_of("discriminator", 250) == pytest.approx(5e-4 * 2**-2.5)
    assert TrainingConfig().rate_of("encoder", 5000) == 2e-4

    def moved(**changes) -> float:
        """The farthest any of the generator's parameters goes in step 11."""
        out = tmp_path / ("halving" if changes else "plain")
        before, after = (
            dict(
                train(data, out, NETWORKS, settings(steps=steps, **changes), show=False)
                .nets["generator"]
                .named_parameters()
            )
            for steps in (10, 11)
        )
        return max(float((after[name] - before[name]).abs().max()) for name in before)

    assert moved() > 1e-5
    assert 0 < moved(halving=1) <= 4 * 2e-4 * 2**-10  # Adam goes no farther than rate / √(1 − β₂)


def test_a_training_begins_with_another_runs_networks(data, tmp_path):
    old = train(data, tmp_path / "old", NETWORKS, settings(steps=3), show=False)
    new = train(data, tmp_path / "new", NETWORKS, settings(steps=0, average=0.9, seed=4), show=False, start=old)
    for player in ("generator", "encoder", "discriminator"):
        for a, b in zip(old.nets[player].parameters(), new.nets[player].parameters(), strict=True):
            assert torch.equal(a, b)
    for a, b in zip(old.generator.parameters(), new.generator.parameters(), strict=True):
        assert torch.equal(a, b)
    assert new.config["start"]["step"] == 3
    vae = train(data, tmp_path / "vae", NETWORKS, settings(steps=0, objective="vae"), show=False)
    both = train(data, tmp_path / "both", NETWORKS, settings(steps=0), show=False, start=vae)  # its judge is new
    fresh = build_networks(NETWORKS, ("discriminator",), 0)["discriminator"]
    for a, b in zip(fresh.parameters(), both.discriminator.parameters(), strict=True):
        assert torch.equal(a, b)

    # it resumes to the same bits, wherever the other run lies by then, and is refused with another start
    whole = train(data, tmp_path / "whole", NETWORKS, settings(steps=6), show=False, start=old)
    train(data, tmp_path / "parts", NETWORKS, settings(steps=2), show=False, start=old)
    (tmp_path / "old").rename(tmp_path / "moved")
    moved = sl.load(tmp_path / "moved")
    assert train(data, tmp_path / "parts", NETWORKS, settings(steps=6), show=False, start=moved).step == whole.step
    assert same_weights(tmp_path / "whole", tmp_path / "parts")
    for other in (vae, None):
        with pytest.raises(BadInput, match=r"start"):
            train(data, tmp_path / "parts", NETWORKS, settings(steps=8), show=False, start=other)
    wider = replace(NETWORKS, latent=9)
    with pytest.raises(BadInput, match=r"latent: 8 there, 9 asked"):
        train(data, tmp_path / "wider", wider, settings(steps=1), show=False, start=moved)
    assert not (tmp_path / "wider").exists()


def test_the_preset_polish_goes_on_from_a_small_run_with_that_ones_networks(data, tmp_path):
    first = train(data, tmp_path / "first", EVERYTHING, settings(steps=2, watch_every=0, average=0.9), show=False)
    few = ["--batch", "5", "--checkpoint-every", "2", "--log-every", "1", "--watch-every", "0", "--quiet"]
    for steps in ("2", "4"):
        asked = ["--preset", "polish", "--start", str(first.path), "--steps", steps, *few]
        with pytest.raises(SystemExit) as end:
            main(["train", str(data.path), str(tmp_path / "polished"), *asked])
        assert not end.value.code
    run = sl.load(tmp_path / "polished")
    polish = TRAININGS["polish"].training
    assert run.networks == EVERYTHING != TRAININGS["polish"].networks
    assert (run.step, run.config["start"]["weights"]) == (4, digest(first))
    assert [run.config["training"][name] for name in ("rest", "spectrum", "gamma")] == [
        polish.rest,
        polish.spectrum,
        polish.gamma,
    ]
    assert [line["step"] for line in read_metrics(run.path)] == [1, 2, 3, 4]
    for name, tensor in run.nets["generator"].named_parameters():
        assert tensor.isfinite().all(), name
    assert not same_weights(first.path, run.path)


def test_interrupted_it_leaves_a_run_that_loads_and_goes_on(data, tmp_path):
    out = tmp_path / "run"
    child = start(data, out)
    wait_for_step(child, out, 6)
    child.send_signal(signal.SIGINT)
    error = child.communicate(timeout=60)[1].decode()
    assert "stopped at step" in error
    run = sl.load(out)
    assert 6 <= run.step < 40
    assert sl.sample(run, 2).shape == (2, 3, 32, 32)
    child = start(data, out)
    assert child.wait(120) == 0
    train(data, tmp_path / "whole", NETWORKS, settings(steps=40, log_every=1), show=False)
    assert same_weights(tmp_path / "whole", out)


def test_a_shard_that_is_gone_is_named_although_it_is_read_ahead(tmp_path):
    data = sl.simulate(tmp_path / "data", H, 32, 60, schedule=QUICK, shard_size=15, show=False)
    (tmp_path / "data" / data.info["shards"][1]["name"]).unlink()
    with pytest.raises(BadInput, match=data.info["shards"][1]["name"]):
        train(data, tmp_path / "run", NETWORKS, settings(), show=False)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("ahead")]


def test_a_loaded_run_is_in_eval_mode_and_knows_its_settings(data, tmp_path):
    run = train(data, tmp_path / "run", NETWORKS, settings(objective="hybrid", gamma=0.3), show=False)
    assert run.hamiltonian == H
    assert run.config["training"]["gamma"] == 0.3
    assert run.networks == NETWORKS
    assert set(run.config["versions"][0]) >= {"spinloom", "torch", "numpy"}
    spins = data[:3]
    mu, logvar = run.encoder(spins)
    assert mu.shape == logvar.shape == (3, 8)
    assert run.discriminator(spins).shape == (3,)
    z = torch.randn(4, 8)
    assert torch.allclose(run.generator(z)[:1], run.generator(z[:1]), atol=1e-5)  # frozen batch statistics
    assert not any(p.requires_grad for net in run.nets.values() for p in net.parameters())


def test_the_latents_of_a_step_are_its_own():
    one, again, other = draw_latents(0, 5, 4, 8), draw_latents(0, 5, 4, 8), draw_latents(0, 6, 4, 8)
    assert torch.equal(one.prior, again.prior)
    assert not torch.equal(one.prior, other.prior)
    assert not torch.equal(one.prior, one.noise)
    many = torch.cat([draw_latents(1, step, 50, 16).prior for step in range(50)])
    assert abs(float(many.mean())) < 4 / many.numel() ** 0.5
    assert abs(float(many.std()) - 1) < 4 / (2 * many.numel()) ** 0.5


def test_untrained_runs_can_be_made(data, tmp_path):
    run = train(data, tmp_path / "run", NETWORKS, settings(steps=0), show=False)
    assert run.step == 0
    assert sl.sample(run, 2).shape == (2, 3, 32, 32)


def test_what_does_not_fit_is_refused_before_any_work(data, tmp_path):
    with pytest.raises(BadInput, match="its lattice is"):
        train(data, tmp_path / "a", NetworkConfig(size=(40, 32)), settings(), show=False)
    with pytest.raises(BadInput, match="smaller batch"):
        train(data, tmp_path / "b", NETWORKS, settings(batch=50), show=False)
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "thesis.txt").write_text("precious")
    with pytest.raises(BadInput, match="is not a run"):
        train(data, tmp_path / "c", NETWORKS, settings(), show=False)
    assert [p.name for p in (tmp_path / "c").iterdir()] == ["thesis.txt"]
    assert not (tmp_path / "a").exists()
    train(data, tmp_path / "d", NETWORKS, settings(steps=2), show=False)
    with pytest.raises(BadInput, match=r"training\.gamma: 0\.001 there, 0\.5 asked"):
        train(data, tmp_path / "d", NETWORKS, settings(steps=2, gamma=0.5), show=False)
    before = (tmp_path / "d" / "config.json").read_bytes()
    with pytest.raises(BadInput, match="already has 2"):
        train(data, tmp_path / "d", NETWORKS, settings(steps=1), show=False)
    with pytest.raises(BadInput, match="device='abacus'"):
        train(data, tmp_path / "e", NETWORKS, settings(), show=False, device="abacus")
    other = sl.simulate(tmp_path / "other", H, 32, 60, seed=2, schedule=QUICK, show=False)
    with pytest.raises(BadInput, match=r"data\.checksum"):
        train(other, tmp_path / "d", NETWORKS, settings(), show=False)
    assert (tmp_path / "d" / "config.json").read_bytes() == before
    assert not (tmp_path / "e").exists()


def test_weights_older_than_the_checkpoint_are_made_again(data, tmp_path):
    """As a kill between the two files leaves them."""
    out = tmp_path / "run"
    train(data, out, NETWORKS, settings(steps=2), show=False)
    old = (out / WEIGHTS).read_bytes()
    train(data, out, NETWORKS, settings(steps=4), show=False)
    new = (out / WEIGHTS).read_bytes()
    (out / WEIGHTS).write_bytes(old)
    assert train(data, out, NETWORKS, settings(steps=4), show=False).step == 4
    assert (out / WEIGHTS).read_bytes() == new


def test_stopped_before_its_first_step_it_leaves_weights_of_the_checkpoint(data, tmp_path, monkeypatch):
    """A kill came between the two files, and Ctrl-C right after the training was called again."""
    out = tmp_path / "run"
    train(data, out, NETWORKS, settings(steps=2), show=False)
    old = (out / WEIGHTS).read_bytes()
    train(data, out, NETWORKS, settings(steps=4), show=False)
    (out / WEIGHTS).write_bytes(old)
    monkeypatch.setattr(sys.modules["spinloom.train"], "deferred_interrupt", lambda: nullcontext([signal.SIGINT]))
    with pytest.raises(KeyboardInterrupt, match="stopped at step 4 of 6"):
        train(data, out, NETWORKS, settings(steps=6), show=False)
    assert step_of(out / CHECKPOINT) == step_of(out / WEIGHTS) == 4


def test_runs_of_a_version_without_a_setting_go_on(data, tmp_path):
    out = tmp_path / "run"
    train(data, out, NETWORKS, settings(steps=2), show=False)
    config = json.loads((out / "config.json").read_text())
    for name in (
        "r1",
        "instance_noise",
        "energy",
        "energy_rise",
        "rest",
        "rest_sweeps",
        "halving",
        "discriminator_rate",
        "watch_every",
        "tensorboard",
        "precision",
    ):
        del config["training"][name]
    for name in ("patch", "coarsest", "grid", "whiten"):
        del config["networks"][name]
    (out / "config.json").write_text(json.dumps(config))
    assert train(data, out, NETWORKS, settings(steps=3), show=False).step == 3
    with pytest.raises(BadInput, match=r"training\.r1: 0\.0 there, 1\.0 asked"):
        train(data, out, NETWORKS, settings(steps=4, r1=1.0), show=False)


def test_two_trainings_in_one_folder_are_refused(data, tmp_path):
    out = tmp_path / "run"
    train(data, out, NETWORKS, settings(steps=2), show=False)
    with locked(out), pytest.raises(BadInput, match="another process"):
        train(data, out, NETWORKS, settings(steps=4), show=False)


def test_a_run_that_is_being_resumed_cannot_be_taken_further_by_another_meanwhile(data, tmp_path, monkeypatch):
    """Else the slower of two calls would roll the run back to the checkpoint that it read."""
    out = tmp_path / "run"
    train(data, out, NETWORKS, settings(steps=2), show=False)
    genuine, refused = objective_on, []

    def meanwhile(*arguments):
        monkeypatch.undo()
        with pytest.raises(BadInput, match="another process is training there"):
            train(data, out, NETWORKS, settings(steps=6), show=False)
        refused.append(True)
        return genuine(*arguments)

    monkeypatch.setattr(sys.modules["spinloom.train"], "objective_on", meanwhile)
    assert train(data, out, NETWORKS, settings(steps=4), show=False).step == 4
    assert refused


def test_a_finished_run_is_loaded_whoever_holds_the_folder(data, tmp_path):
    out = tmp_path / "run"
    train(data, out, NETWORKS, settings(steps=2), show=False)
    with locked(out):
        assert train(data, out, NETWORKS, settings(steps=2), show=False).step == 2


def test_where_the_system_cannot_lock_it_trains_all_the_same(data, tmp_path, monkeypatch):
    def unable(*_):
        raise OSError(errno.EBADF, "Bad file descriptor")  # NFS, of a folder

    monkeypatch.setattr("spinloom.run.fcntl.flock", unable)
    assert train(data, tmp_path / "run", NETWORKS, settings(steps=2), show=False).step == 2


@pytest.mark.parametrize("file", ["weights.safetensors", "config.json"])
@pytest.mark.parametrize("damage", ["truncated", "missing"])
def test_damaged_runs_are_named(data, tmp_path, file, damage):
    out = tmp_path / "run"
    train(data, out, NETWORKS, settings(steps=1), show=False)
    path = out / file
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(BadInput, match=file):
        sl.load(out)


@pytest.mark.parametrize("change", [{"training": None}, {"training": ...}, {"data": None}, {"networks": {"size": 3}}])
def test_configs_that_lack_something_are_named(data, tmp_path, change):
    out = tmp_path / "run"
    train(data, out, NETWORKS, settings(steps=0), show=False)
    config = json.loads((out / "config.json").read_text()) | change
    (out / "config.json").write_text(json.dumps({name: value for name, value in config.items() if value is not ...}))
    with pytest.raises(BadInput, match=r"config\.json: "):
        sl.load(out)


def test_a_digest_is_of_the_weights_that_were_loaded(data, tmp_path):
    """Samples of a run that trains on meanwhile are told from those of its later weights."""
    out = tmp_path / "run"
    first = train(data, out, NETWORKS, settings(steps=1), show=False)
    known = digest(first)
    assert known == sha256((out / WEIGHTS).read_bytes()).hexdigest()
    later = train(data, out, NETWORKS, settings(steps=2), show=False)
    assert digest(later) == sha256((out / WEIGHTS).read_bytes()).hexdigest() != known
    assert digest(first) == known


def test_a_vae_says_which_weights_it_has_no_use_for(data, tmp_path):
    said = []
    config = settings(steps=1, watch_every=0, objective="vae")
    plain = train(data, tmp_path / "plain", NETWORKS, config, show=False, say=said.append)
    assert not said
    train(data, tmp_path / "lean", NETWORKS, replace(config, **PHYSICS, r1=0.1), show=False, say=said.append)
    (line,) = said
    assert "energy, rest, spectrum, r1 of the settings do nothing" in line
    assert same_weights(plain.path, tmp_path / "lean")
    train(data, tmp_path / "gan", NETWORKS, replace(config, objective="gan", r1=0.1), show=False, say=said.append)
    assert len(said) == 1


def test_a_loss_that_is_not_finite_stops_and_names_the_last_good_checkpoint(data, tmp_path):
    out = tmp_path / "run"
    train(data, out, NETWORKS, settings(steps=4), show=False)
    tensors, step = read_tensors(out / CHECKPOINT)
    with pytest.raises(FloatingPointError, match=r"step 5.*not finite.*checkpoint of step 4.*is good"):
        _train_on_broken(data, out)
    again, step_after = read_tensors(out / CHECKPOINT)
    assert step == step_after == 4
    assert all(torch.equal(tensors[name], again[name]) for name in tensors)


@pytest.mark.parametrize("player", ["encoder", "generator", "discriminator"])
def test_a_gradient_that_is_not_finite_stops_although_the_loss_is(data, tmp_path, monkeypatch, player):
    out = tmp_path / "run"
    train(data, out, NETWORKS, settings(steps=4), show=False)
    before = {name: (out / name).read_bytes() for name in (CHECKPOINT, WEIGHTS)}

    def sick(*arguments):
        nets = build_networks(*arguments)
        list(nets[player].parameters())[-1].register_hook(lambda slope: slope * float("inf"))
        return nets

    monkeypatch.setattr("spinloom.run.build_networks", sick)
    says = rf"step 5: the {player}'s loss is \d+\.\d+, its gradient not finite; the checkpoint of step 4, .*, is good"
    with pytest.raises(FloatingPointError, match=says) as error:
        train(data, out, NETWORKS, settings(), show=False)
    assert "\n" not in str(error.value)
    assert {name: (out / name).read_bytes() for name in before} == before
    monkeypatch.undo()
    train(data, out, NETWORKS, settings(), show=False)
    train(data, tmp_path / "whole", NETWORKS, settings(), show=False)
    assert same_weights(out, tmp_path / "whole")


def test_a_full_disk_stops_names_the_last_good_checkpoint_and_leaves_it(data, tmp_path, monkeypatch):
    out = tmp_path / "run"
    train(data, out, NETWORKS, settings(steps=4), show=False)
    before = {name: (out / name).read_bytes() for name in (CHECKPOINT, WEIGHTS)}
    genuine = os.fsync

    def full(handle):
        if os.fstat(handle).st_size > 10_000:
            raise OSError(errno.ENOSPC, "No space left on device")
        genuine(handle)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(BadInput, match=r"step 8: .*No space left.*checkpoint of step 4, .*is good") as error:
        train(data, out, NETWORKS, settings(), show=False)
    assert "\n" not in str(error.value)
    monkeypatch.undo()
    assert {name: (out / name).read_bytes() for name in before} == before
    assert not [file.name for file in out.iterdir() if "partial" in file.name]
    train(data, out, NETWORKS, settings(), show=False)
    train(data, tmp_path / "whole", NETWORKS, settings(), show=False)
    assert same_weights(out, tmp_path / "whole")


def _train_on_broken(data, out):
    """Goes on with data in which every spin is NaN."""

    class Broken(type(data)):
        def batches(self, batch, seed=0, start=0, augment=False):
            while True:
                yield torch.full((batch, 3, 32, 32), float("nan"))

        def split(self, fraction):
            first, rest = super().split(fraction)
            first.__class__ = Broken
            return first, rest

    broken = sl.open_dataset(data.path)
    broken.__class__ = Broken
    train(broken, out, NETWORKS, settings(steps=8), show=False)


def test_a_divergence_of_whitened_networks_ends_in_a_line_too(data, tmp_path):
    shapes = replace(NETWORKS, latent=16, grid=True, whiten=True)
    with pytest.raises(FloatingPointError, match=r"step \d+: .*not finite.*try a smaller rate"):
        train(data, tmp_path / "run", shapes, settings(steps=6, rate=1e30), show=False)


def test_an_interrupt_that_comes_too_late_is_not_swallowed():
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt), deferred_interrupt() as caught:
        os.kill(os.getpid(), signal.SIGINT)
        assert caught == [signal.SIGINT]
    with pytest.raises(ZeroDivisionError), deferred_interrupt() as caught:  # who has looked at it stops as it likes
        os.kill(os.getpid(), signal.SIGINT)
        raise ZeroDivisionError
    assert signal.getsignal(signal.SIGINT) is before


def test_metrics_are_json_lines_with_the_losses(data, tmp_path):
    train(data, tmp_path / "run", NETWORKS, settings(), show=False)
    lines = [json.loads(line) for line in (tmp_path / "run" / METRICS).read_text().splitlines()]
    assert {"step", "seconds", "discriminator", "encoder", "generator", "reconstruction", "kl"} <= lines[0].keys()


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"objective": "wgan"}, "objective='wgan'"),
        ({"steps": -1}, "steps=-1"),
        ({"batch": 1}, "batch=1"),
        ({"rate": float("nan")}, "rate=nan"),
        ({"momentum": (0.9, 1.0)}, "momentum"),
        ({"fraction": 1.0}, "fraction=1.0"),
        ({"average": 1.0}, "average=1.0"),
        ({"halving": -5}, "halving=-5"),
        ({"energy": -1.0}, "energy=-1.0"),
        ({"energy_rise": -1}, "energy_rise=-1"),
        ({"rest": -1.0}, "rest=-1.0"),
        ({"rest_sweeps": 0}, "rest_sweeps=0"),
        ({"beta": -0.1}, "beta=-0.1"),
        ({"precision": "half"}, "precision='half': unknown; use float32 or bfloat16"),
    ],
)
def test_settings_without_meaning_are_refused(wrong, says):
    with pytest.raises(BadInput, match=says):
        TrainingConfig(**wrong)


def test_the_averaged_generator_follows_and_is_the_one_that_is_sampled(data, tmp_path):
    """After one step the weight is min(decay, 1/10): averaged = 0.1 start + 0.9 trained."""
    settled = settings(steps=1, average=0.9)
    start = build_networks(NETWORKS, settled.kept, settled.seed)
    run = train(data, tmp_path / "run", NETWORKS, settled, show=False)
    for name, tensor in run.nets["averaged"].named_parameters():
        begun, trained = (dict(nets.named_parameters())[name] for nets in (start["averaged"], run.nets["generator"]))
        assert torch.allclose(tensor, 0.1 * begun + 0.9 * trained, atol=1e-6)
    assert run.generator is run.nets["averaged"]
    plain = train(data, tmp_path / "plain", NETWORKS, settings(steps=1), show=False)
    for name, tensor in plain.nets["generator"].named_parameters():  # the average has no say in the training
        assert torch.equal(tensor, dict(run.nets["generator"].named_parameters())[name])


def test_an_averaged_training_resumes_with_the_same_bits(data, tmp_path):
    train(data, tmp_path / "whole", NETWORKS, settings(average=0.99), show=False)
    for steps in (5, 12):
        train(data, tmp_path / "parts", NETWORKS, settings(average=0.99, steps=steps), show=False)
    assert same_weights(tmp_path / "whole", tmp_path / "parts")


def test_training_and_sampling_leave_denormal_numbers_as_they_were(data, tmp_path):
    tiny = torch.tensor(2.0**-149)
    run = train(data, tmp_path / "run", NETWORKS, settings(steps=1), show=False)
    sl.sample(run, 2)
    assert float(tiny * 1) == 2.0**-149
    torch.set_flush_denormal(True)
    try:
        sl.sample(run, 2)
        assert float(tiny * 1) == 0
    finally:
        torch.set_flush_denormal(False)
