"""Run by torchrun: a step's gradients of every objective, by each process for its share; the first writes them."""

import itertools
import sys

import torch
from safetensors.torch import save_file
from torch.nn import functional as F

from spinloom.hamiltonian import Hamiltonian
from spinloom.networks import NetworkConfig
from spinloom.objectives import OBJECTIVES, EnergyLevel, Rest
from spinloom.run import build_networks
from spinloom.torchrun import joined, synced
from spinloom.train import draw_latents

SHAPES = {"size": (32, 32), "latent": 16, "generator": 4, "discriminator": 4, "encoder": 4, "widest": 16}
NETWORKS = {"dense": NetworkConfig(**{**SHAPES, "latent": 6}), "grid": NetworkConfig(**SHAPES, grid=True, whiten=True)}
BATCH = 12
H = Hamiltonian(D=0.6)
PHYSICS = {"energy": 0.5, "above": EnergyLevel(H, -2.0, 0.16), "rest": 0.3, "still": Rest(H, 3), "spectrum": 0.4}


def main(out: str, precision: str = "float32") -> None:
    with joined("cpu") as (crew, _):
        found = {}
        for shapes, (name, kind) in itertools.product(NETWORKS, OBJECTIVES.items()):
            networks = NETWORKS[shapes]
            name = f"{shapes}/{name}"
            objective = kind(beta=0.03, gamma=0.2, instance_noise=0.1, r1=0.01, precision=precision, **PHYSICS)
            nets = build_networks(networks, objective.players, seed=3)
            for net in nets.values():
                synced(net, crew).train()
            spins = F.normalize(torch.randn(BATCH, 3, 32, 32, generator=torch.Generator().manual_seed(1)), dim=1)
            draw = draw_latents(5, 0, BATCH, networks.latent).part(crew.rank, crew.world)
            gradients, losses = objective.gradients(nets, crew.share(spins), draw)
            crew.average([g for grads in gradients.values() for g in grads] + list(losses.values()))
            for player, grads in gradients.items():
                found |= {f"{name}/{player}/{k}": g.contiguous() for k, g in enumerate(grads)}
            found |= {f"{name}/loss/{key}": value.clone().reshape(1) for key, value in losses.items()}
            buffers = {f"{name}/{p}/{k}": b for p, net in nets.items() for k, b in net.named_buffers()}
            found |= {
                k: b.float().reshape(-1).clone() for k, b in buffers.items() if "running" in k or "whitening" in k
            }
        stopped = crew.any(crew.rank == crew.world - 1)
        assert stopped and not crew.any(False)
        if crew.leads:
            save_file(found, out)


if __name__ == "__main__":
    main(*sys.argv[1:])
