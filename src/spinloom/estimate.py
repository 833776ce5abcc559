"""How long trials will take on this machine: a little of everything is timed beforehand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch.nn import functional as F

from spinloom.anneal import anneal, available_threads
from spinloom.figures.settings import FigureSettings
from spinloom.objectives import OBJECTIVES, EnergyLevel, Rest
from spinloom.pipeline import PipelineConfig
from spinloom.processor import for_networks
from spinloom.run import build_networks
from spinloom.sample import CHUNK, DDLS, drive, prior_latents
from spinloom.schedule import DEFAULT_SCHEDULE, Schedule
from spinloom.timing import timed
from spinloom.train import draw_latents, update
from spinloom.trials import cores_of_a_job


@for_networks()
def estimated_seconds(config: PipelineConfig, trials: int = 1, jobs: int = 1, device: str = "cpu") -> dict[str, float]:
    """Seconds a stage of ``trials`` pipelines on one data set, ``jobs`` at a time, from a sample of each stage's work.

    Left out: measuring, and what else the machine does meanwhile; expect a tenth more, or twice as much on a shared
    machine. One job is timed alone, although the others will share the memory with it.
    """
    H, size = config.hamiltonian, (config.size[0], config.size[1])
    anneal(H, 4, 1, schedule=Schedule.constant(1.0, 1))  # compiles
    threads = available_threads()
    few = Schedule(DEFAULT_SCHEDULE.steps[:20]).then_relax(50)
    part = _seconds(lambda: anneal(H, size, threads, schedule=few)) / few.sweeps * DEFAULT_SCHEDULE.sweeps / threads
    found = {"simulate": config.samples * part} if device == "cpu" else {}
    before, jobs = torch.get_num_threads(), max(1, min(jobs, trials))
    rounds = -(-trials // jobs)
    if jobs > 1:
        torch.set_num_threads(len(cores_of_a_job(0, jobs)))
    try:
        return found | _networks(config, rounds, device)
    finally:
        torch.set_num_threads(before)


def _networks(config: PipelineConfig, trials: int, device: str) -> dict[str, float]:
    """What is done with networks, ``trials`` times one after the other."""
    size = (config.size[0], config.size[1])
    found = {}
    H, training = config.hamiltonian, config.training
    nets = build_networks(config.networks, ("discriminator", "encoder", "generator"), config.seed)
    for net in nets.values():
        net.to(device)
    spins = F.normalize(torch.randn(training.batch, 3, *size), dim=1).to(device)
    latents = draw_latents(0, 0, training.batch, config.networks.latent).to(device)
    above, still = EnergyLevel(H, 0.0), Rest(H, training.rest_sweeps)
    for name in OBJECTIVES:
        objective = replace(training, objective=name).losses(above, still)
        optimisers = {player: torch.optim.SGD(nets[player].parameters(), lr=0.0) for player in objective.players}
        own = {player: nets[player].train() for player in objective.players}

        def step(own=own, optimisers=optimisers, objective=objective) -> None:
            update(own, optimisers, objective, spins, latents)

        step()
        found[f"train {name}"] = trials * training.steps * _seconds(step)
    for net in nets.values():
        net.eval().requires_grad_(False)
    z = prior_latents(0, CHUNK, config.networks.latent).to(device)
    decode = nets["generator"]
    chunks = -(-config.prior_samples // CHUNK)
    found["sample by the prior"] = 4 * trials * chunks * _seconds(lambda: decode(z))
    if config.ddls_samples:
        one = DDLS(config.ddls.rule, 1, config.ddls.step_size)
        cost = _seconds(lambda: drive(z, decode, nets["discriminator"], one))
        found["sample by DDLS"] = 2 * trials * -(-config.ddls_samples // CHUNK) * config.ddls.steps * cost
    maps = FigureSettings()
    codes = len(OBJECTIVES) * maps.fig3.resolution**2 + maps.fig5.resolution**2
    found["the figures' maps"] = codes / CHUNK * _seconds(lambda: H.energy_excess(decode(z)))
    return found


def _seconds(work: Callable[[], object]) -> float:
    """The shorter of two runs."""

    def whole() -> None:
        work()
        if torch.cuda.is_available():
            torch.cuda.synchronize()

    return min(timed(whole), timed(whole))
