"""The bench of a training step times the training's own step, and counts the work of the plain one."""

import importlib.util
import json
import math
from dataclasses import replace

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from spinloom import bench_train as bench
from spinloom.bench_train import PASSES, bare, bench_train, flops, print_train, recorded
from spinloom.cli import main
from spinloom.errors import BadInput
from spinloom.networks import NetworkConfig
from spinloom.objectives import Hybrid
from spinloom.presets import TRAININGS, Recipe
from spinloom.run import build_networks
from spinloom.train import draw_latents, take_step
from spinloom.training_config import TrainingConfig
from spinloom.vaegan import vaegan_step

NETWORKS = NetworkConfig(size=(32, 32), latent=8, generator=4, discriminator=4, encoder=4, widest=8, head=4, patch=4)


class Counter(TorchDispatchMode):
    """Operations of the convolutions that torch runs meanwhile, by torch's own formulas."""

    total = 0.0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        if "convolution" in str(func):
            self.total += flop_registry[func.overloadpacket](*args, **(kwargs or {}), out_val=out)
        return out


def counted(work) -> float:
    with Counter() as counter:
        work()
    return counter.total


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_the_bare_convolutions_are_those_of_a_plain_step(precision):
    """torch's own counter sees the same operations in a step's gradients and in the bare convolutions."""
    objective = Hybrid(precision=precision)
    nets = build_networks(NETWORKS, objective.players, seed=0)
    spins, latents = torch.randn(4, 3, 32, 32), draw_latents(0, 0, 4, 8)
    with recorded(nets) as calls:
        objective.losses(nets, spins, latents)
    step = counted(lambda: objective.gradients(nets, spins, latents))
    assert counted(bare(calls, PASSES)) == pytest.approx(step, rel=1e-9)
    assert flops(calls) == pytest.approx(step, rel=1e-9)
    assert {player: layers[0][0][0] for player, layers in calls.items()} == {
        "discriminator": 12, "encoder": 4, "generator": 8,
    }  # fmt: skip
    assert {call[2] for layers in calls.values() for call in layers} == {getattr(torch, precision)}


ROWS = {"step", "plain step", "convolutions", "encoder", "generator", "discriminator", "optimisers"}


def test_a_plain_step_is_no_faster_than_its_convolutions():
    found = bench_train(NETWORKS, TrainingConfig(batch=8), rounds=3)
    assert found["seconds"].keys() == ROWS
    assert all(math.isfinite(value) and value > 0 for value in found["seconds"].values())
    assert found["ratio"] > 1
    assert found["eager"] is None
    assert found["pythae"] is None
    with pytest.raises(BadInput, match="rounds=0"):
        bench_train(NETWORKS, TrainingConfig(batch=8), rounds=0)
    with pytest.raises(BadInput, match="no CUDA GPU"):
        bench_train(NETWORKS, TrainingConfig(batch=8), rounds=1, device="cuda")


def test_the_step_that_is_timed_is_the_trainings_own(monkeypatch):
    """All its losses at full weight, its average, whitening, and new batches of a data set; a long rest is felt."""
    taken = []

    def noted(nets, optimisers, objective, config, spins, latent, step, *more):
        taken.append((spins, step, config.losses(objective.above, objective.still, step)))
        before = nets["averaged"].last.weight.clone()
        losses = take_step(nets, optimisers, objective, config, spins, latent, step, *more)
        assert not torch.equal(nets["averaged"].last.weight, before)
        return losses

    monkeypatch.setattr(bench, "take_step", noted)
    weights = {"rest": 2.0, "spectrum": 0.5, "energy": 0.3, "energy_rise": 40, "average": 0.9, "augment": True}
    config = TrainingConfig(batch=8, rest_sweeps=1000, **weights)
    shapes = replace(NETWORKS, latent=16, grid=True, whiten=True)
    found = bench_train(shapes, config, rounds=2)
    assert [step for _, step, _ in taken] == [40, 41, 42]
    assert not torch.equal(taken[0][0], taken[1][0])
    assert all((spins.norm(dim=1) - 1).abs().max() < 1e-6 for spins, *_ in taken)
    for _, _, objective in taken:
        assert (objective.rest, objective.spectrum, objective.energy) == (2.0, 0.5, 0.3)
        assert objective.still.sweeps == 1000
        assert objective.above is not None
    assert found["over_plain"] > 1.2
    assert (found["networks"]["whiten"], found["training"]["rest"]) == (True, 2.0)


def test_the_command_says_it_all(monkeypatch, capsys):
    tiny = Recipe(NETWORKS, TrainingConfig(batch=4))
    monkeypatch.setitem(TRAININGS, "lean", tiny)
    whole = bench_train
    monkeypatch.setattr(bench, "bench_train", lambda *a, **more: whole(*a, rounds=1, **more))
    with pytest.raises(SystemExit, match="0"):
        main(["bench", "train", "--precision", "bfloat16", "--json"])
    found = json.loads(capsys.readouterr().out)
    assert (found["precision"], found["training"]["precision"], found["device"]) == ("bfloat16", "bfloat16", "cpu")
    assert found["seconds"].keys() == ROWS | {"eager float32"}
    assert found["eager"] == pytest.approx(found["seconds"]["eager float32"] / found["seconds"]["step"])
    assert found["over_plain"] == pytest.approx(found["seconds"]["step"] / found["seconds"]["plain step"])
    print_train(found)
    shown = capsys.readouterr().out
    assert all(name in shown for name in found["seconds"])


@pytest.mark.skipif(importlib.util.find_spec("pythae") is None, reason="pythae is not installed")
@pytest.mark.parametrize("grid", [False, True])
def test_pythae_trains_the_same_networks(grid):
    shapes = replace(NETWORKS, latent=16, grid=grid, whiten=grid)
    nets = build_networks(shapes, Hybrid().players, seed=0)
    spins = torch.nn.functional.normalize(torch.randn(8, 3, 32, 32), dim=1)
    step = vaegan_step(nets, TrainingConfig(batch=8), shapes, spins)
    before = {player: [weights.clone() for weights in net.parameters()] for player, net in nets.items()}
    step()
    for player, net in nets.items():  # all three move
        assert any(not torch.equal(now, then) for now, then in zip(net.parameters(), before[player], strict=True))


@pytest.mark.skipif(importlib.util.find_spec("pythae") is None, reason="pythae is not installed")
def test_pythae_is_raced_in_a_process_of_its_own(monkeypatch):
    found = bench_train(NETWORKS, TrainingConfig(batch=8), rounds=1, peers=True)
    assert found["pythae"] == pytest.approx(found["seconds"]["pythae"] / found["seconds"]["plain step"])
    asked = bench._asked
    monkeypatch.setattr(bench, "_asked", lambda *a: {**asked(*a), "textures": "none.npy"})
    with pytest.raises(BadInput, match=r"pythae has failed \(FileNotFoundError"):
        bench_train(NETWORKS, TrainingConfig(batch=8), rounds=1, peers=True)
