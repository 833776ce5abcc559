"""How long trials and their figures will take on this machine: a little of everything is timed beforehand."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import torch
from torch import nn
from torch.nn import functional as F

from spinloom.anneal import anneal, available_threads, relax
from spinloom.errors import BadInput
from spinloom.figures.fig4 import rule_of
from spinloom.figures.fig5 import GOALS, WAYS, search_config
from spinloom.figures.settings import FigureSettings
from spinloom.findings import BLOCK, MOST_BLOCKS, OVER_RELAX
from spinloom.goals import goals
from spinloom.latent import Plane, latent_map
from spinloom.objectives import OBJECTIVES, EnergyLevel, Rest
from spinloom.optimise import AHEAD, SPREAD_CODES, judge_of, resolved
from spinloom.paths import BETWEEN
from spinloom.pipeline import PipelineConfig
from spinloom.processor import for_networks
from spinloom.run import build_networks
from spinloom.sample import CHUNK, Decode, drive, prior_latents
from spinloom.schedule import DEFAULT_SCHEDULE, Schedule
from spinloom.search import CANDIDATES
from spinloom.timing import timed
from spinloom.train import draw_latents, update
from spinloom.trials import cores_of_a_job

ANNEALING = "simulate"

SHARD = 500
"""Textures that a GPU is given at once, as a data set's shards are."""


@for_networks()
def estimated_seconds(
    config: PipelineConfig,
    trials: int = 1,
    jobs: int = 1,
    device: str = "cpu",
    figures: FigureSettings = FigureSettings(),  # noqa: B008
) -> dict[str, float]:
    """Seconds a stage of ``trials`` pipelines on one data set, ``jobs`` at a time, and of the figures, from a sample of
    each stage's work.

    What is left out :func:`in_words` says; nor is it known what else the machine will do: expect a tenth more, or twice
    as much on a shared one. One job is timed alone, although the others will share the memory with it. Searches are
    counted with the longest that their answers may take to come to rest.
    """
    found = {}
    try:
        found[ANNEALING] = _annealing(config, device)
    except BadInput:
        if device == "cpu":
            raise  # else no compiler for this GPU: no matter if the data are there already
    nets = build_networks(config.networks, ("discriminator", "encoder", "generator"), config.seed)
    for net in nets.values():
        net.to(device)
    before, jobs = torch.get_num_threads(), max(1, min(jobs, trials))
    rounds = -(-trials // jobs)
    if jobs > 1:
        torch.set_num_threads(len(cores_of_a_job(0, jobs)))
    try:
        found |= _training(config, nets, rounds, device)
        for net in nets.values():
            net.eval().requires_grad_(False)
        found |= _sampling(config, nets, rounds, device)
    finally:
        torch.set_num_threads(before)
    return found | _figures(config, nets, figures, device)


def in_words(stages: Mapping[str, float]) -> list[str]:
    """The estimate a line a stage, then the sum and what is not in it."""
    left_out = [] if ANNEALING in stages else ["annealing, for which this GPU has no compiler"]
    left_out += ["measuring", "writing files and drawing"]
    lines = [f"{stage}: about {seconds / 60:.1f} min" for stage, seconds in stages.items()]
    whole = sum(stages.values()) / 60
    words = f"{whole / 60:.1f} hours" if whole > 90 else f"{whole:.1f} min"
    lines.append(f"in all about {words} from the start")
    return [*lines, f"left out: {', '.join(left_out[:-1])}, {left_out[-1]}"]


def _annealing(config: PipelineConfig, device: str) -> float:
    """The data set.

    Raises:
        BadInput: a GPU without its compiler.
    """
    H, size = config.hamiltonian, (config.size[0], config.size[1])
    some = available_threads() if device == "cpu" else min(config.samples, SHARD)
    anneal(H, size, 1, schedule=Schedule.constant(1.0, 1), device=device)  # compiles
    few = Schedule(DEFAULT_SCHEDULE.steps[:20]).then_relax(50)
    sweep = _seconds(lambda: anneal(H, size, some, schedule=few, device=device)) / few.sweeps
    return sweep * DEFAULT_SCHEDULE.sweeps * config.samples / some


def _training(config: PipelineConfig, nets: Mapping[str, nn.Module], trials: int, device: str) -> dict[str, float]:
    """``trials`` trainings of each objective one after the other."""
    size, training = (config.size[0], config.size[1]), config.training
    spins = F.normalize(torch.randn(training.batch, 3, *size), dim=1).to(device)
    latents = draw_latents(0, 0, training.batch, config.networks.latent).to(device)
    above, still = EnergyLevel(config.hamiltonian, 0.0), Rest(config.hamiltonian, training.rest_sweeps)
    found = {}
    for name in OBJECTIVES:
        objective = replace(training, objective=name).losses(above, still)
        optimisers = {player: torch.optim.SGD(nets[player].parameters(), lr=0.0) for player in objective.players}
        own = {player: nets[player].train() for player in objective.players}

        def step(own=own, optimisers=optimisers, objective=objective) -> None:
            update(own, optimisers, objective, spins, latents)

        step()
        found[f"train {name}"] = trials * training.steps * _seconds(step)
    return found


def _sampling(config: PipelineConfig, nets: Mapping[str, nn.Module], trials: int, device: str) -> dict[str, float]:
    """The samples of ``trials`` pipelines one after the other."""
    decode = nets["generator"]
    z = prior_latents(0, CHUNK, config.networks.latent).to(device)
    chunks = -(-config.prior_samples // CHUNK)
    found = {"sample by the prior": 4 * trials * chunks * _seconds(lambda: decode(z))}
    if config.ddls_samples:
        chunks = -(-config.ddls_samples // CHUNK)
        found["sample by DDLS"] = 2 * trials * chunks * config.ddls.steps * _driving(config, nets, device)
    return found


def _driving(config: PipelineConfig, nets: Mapping[str, nn.Module], device: str) -> float:
    """A step of a chunk of codes."""
    z = prior_latents(0, CHUNK, config.networks.latent).to(device)
    one = replace(config.ddls, steps=1)
    return _seconds(lambda: drive(z, nets["generator"], nets["discriminator"], one))


def _figures(
    config: PipelineConfig, nets: Mapping[str, nn.Module], settings: FigureSettings, device: str
) -> dict[str, float]:
    """Maps, the driven path, the lines of Fig. 5 and its searches, once, on all cores."""
    latent, H = config.networks.latent, config.hamiltonian

    def decode(z: torch.Tensor) -> torch.Tensor:
        return nets["generator"](z.to(device))

    plane, score = Plane.along(latent), nets["discriminator"]

    def few() -> None:
        latent_map(decode, H, plane, resolution=8, score=score)

    few()  # compiles
    chunk = _seconds(few) / 2  # 64 codes are two
    steps = rule_of(settings.fig4, config.ddls).steps
    codes = len(OBJECTIVES) * settings.fig3.resolution**2 + settings.fig5.resolution**2
    codes += len(WAYS) * BETWEEN * settings.fig5.images + CHUNK * steps
    return {
        "the figures' maps and paths": codes / CHUNK * chunk + steps * _driving(config, nets, device),
        "the searches of Fig. 5": len(GOALS) * _search(config, decode, settings),
    }


def _search(config: PipelineConfig, decode: Decode, settings: FigureSettings) -> float:
    """One search, the rest of its candidates included."""
    latent, H = config.networks.latent, config.hamiltonian
    wanted = goals(GOALS["I"][0], None, H)
    asked = resolved(search_config(settings.fig5), wanted, decode, latent, H)
    judge = judge_of(decode, wanted, asked, latent, H)
    z = prior_latents(0, CHUNK, latent).double().numpy()
    population, steps = asked.population or 0, asked.head_start or 0
    # the goals' spread is asked for at both ends
    codes = population * (asked.generations or 0) + 2 * SPREAD_CODES
    found = codes / CHUNK * _seconds(lambda: judge(z, False))
    if steps:
        found += steps * max(1, population // AHEAD) / CHUNK * _seconds(lambda: judge(z, True))
    with torch.no_grad():
        spins = decode(prior_latents(0, CANDIDATES, latent))
    if asked.relax:
        found += asked.relax * _seconds(lambda: relax(spins, H, 10)) / 10
    return found + MOST_BLOCKS * BLOCK * _seconds(lambda: relax(spins, H, 5, over_relax=OVER_RELAX)) / 5


def _seconds(work: Callable[[], object]) -> float:
    """The shorter of two runs."""

    def whole() -> None:
        work()
        if torch.cuda.is_available():
            torch.cuda.synchronize()

    return min(timed(whole), timed(whole))
