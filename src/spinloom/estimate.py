"""How long trials will take on this machine: a little of everything is timed beforehand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch.nn import functional as F

from spinloom.anneal import anneal, available_threads
from spinloom.objectives import OBJECTIVES
from spinloom.pipeline import PipelineConfig
from spinloom.processor import for_networks
from spinloom.run import build_networks
from spinloom.sample import CHUNK, DDLS, drive, prior_latents
from spinloom.schedule import DEFAULT_SCHEDULE, Schedule
from spinloom.timing import timed
from spinloom.train import draw_latents, update
from spinloom.trials import threads_of_a_job


@for_networks()
def estimated_seconds(config: PipelineConfig, trials: int = 1, jobs: int = 1) -> dict[str, float]:
    """Seconds a stage of ``trials`` pipelines on one data set, ``jobs`` at a time, from a sample of each stage's work.

    Left out: measuring, drawing, and what else the machine does meanwhile; expect a tenth more, or twice as much
    on a shared machine.
    """
    H, size = config.hamiltonian, (config.size[0], config.size[1])
    anneal(H, 4, 1, schedule=Schedule.constant(1.0, 1))  # compiles
    threads = available_threads()
    few = Schedule(DEFAULT_SCHEDULE.steps[:20]).then_relax(50)
    part = _seconds(lambda: anneal(H, size, threads, schedule=few)) / few.sweeps * DEFAULT_SCHEDULE.sweeps / threads
    found = {"simulate": config.samples * part}
    before, jobs = torch.get_num_threads(), max(1, min(jobs, trials))
    rounds = -(-trials // jobs)
    if jobs > 1:
        torch.set_num_threads(threads_of_a_job(jobs))
    try:
        return found | _networks(config, rounds)
    finally:
        torch.set_num_threads(before)


def _networks(config: PipelineConfig, trials: int) -> dict[str, float]:
    """What is done with networks, ``trials`` times one after the other."""
    size = (config.size[0], config.size[1])
    found = {}
    nets = build_networks(config.networks, ("discriminator", "encoder", "generator"), config.seed)
    spins = F.normalize(torch.randn(config.training.batch, 3, *size), dim=1)
    latents = draw_latents(0, 0, config.training.batch, config.networks.latent)
    for name in OBJECTIVES:
        objective = replace(config.training, objective=name).losses()
        optimisers = {player: torch.optim.SGD(nets[player].parameters(), lr=0.0) for player in objective.players}
        own = {player: nets[player].train() for player in objective.players}

        def step(own=own, optimisers=optimisers, objective=objective) -> None:
            update(own, optimisers, objective, spins, latents)

        step()
        found[f"train {name}"] = trials * config.training.steps * _seconds(step)
    for net in nets.values():
        net.eval().requires_grad_(False)
    z = prior_latents(0, CHUNK, config.networks.latent)
    decode = nets["generator"]
    chunks = -(-config.prior_samples // CHUNK)
    found["sample by the prior"] = 4 * trials * chunks * _seconds(lambda: decode(z))
    if config.ddls_samples:
        one = DDLS(config.ddls.rule, 1, config.ddls.step_size)
        cost = _seconds(lambda: drive(z, decode, nets["discriminator"], one))
        found["sample by DDLS"] = 2 * trials * -(-config.ddls_samples // CHUNK) * config.ddls.steps * cost
    return found


def _seconds(work: Callable[[], object]) -> float:
    """The shorter of two runs."""
    return min(timed(work), timed(work))
