"""The bench of a training step counts the work of the step it times."""

import importlib.util
import math

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from spinloom.bench_train import PASSES, bare, bench_train, flops, pythae_step, recorded
from spinloom.errors import BadInput
from spinloom.networks import NetworkConfig
from spinloom.objectives import Hybrid
from spinloom.run import build_networks
from spinloom.train import draw_latents
from spinloom.training_config import TrainingConfig

PLAYERS = ("encoder", "decoder", "discriminator")
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


def test_the_bare_convolutions_are_those_of_a_step():
    """torch's own counter sees the same operations in a step's gradients and in the bare convolutions."""
    objective = Hybrid()
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


def test_a_step_is_no_faster_than_its_convolutions():
    found = bench_train(NETWORKS, TrainingConfig(batch=8), rounds=3)
    assert all(math.isfinite(value) and value > 0 for value in found["seconds"].values())
    assert found["ratio"] > 1
    with pytest.raises(BadInput, match="rounds=0"):
        bench_train(NETWORKS, TrainingConfig(batch=8), rounds=0)


@pytest.mark.skipif(importlib.util.find_spec("pythae") is None, reason="pythae is not installed")
def test_pythae_trains_copies_of_the_same_networks():
    config = TrainingConfig(batch=8)
    nets = build_networks(NETWORKS, Hybrid().players, seed=0)
    before = {name: tensor.clone() for name, tensor in nets["generator"].state_dict().items()}
    spins = torch.nn.functional.normalize(torch.randn(8, 3, 32, 32), dim=1)
    step = pythae_step(nets, config, NETWORKS, spins)
    model = step.__closure__[0].cell_contents
    own = [{k: v.clone() for k, v in getattr(model, p).state_dict().items()} for p in PLAYERS]
    step()
    for player, then in zip(PLAYERS, own, strict=True):  # all three move, ours do not
        now = getattr(model, player).state_dict()
        assert any(not torch.equal(now[name], then[name]) for name in then)
    assert all(torch.equal(before[name], tensor) for name, tensor in nets["generator"].state_dict().items())
    assert bench_train(NETWORKS, config, rounds=1, peers=True)["pythae"] > 0
