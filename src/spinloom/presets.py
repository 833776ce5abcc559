"""Two tables of settings by name: trainings for ``train``, pipelines for ``run``."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from spinloom.errors import BadInput
from spinloom.networks import NetworkConfig
from spinloom.pipeline import PipelineConfig
from spinloom.sample import DDLS
from spinloom.training_config import TrainingConfig

T = TypeVar("T")


@dataclass(frozen=True)
class Recipe:
    """Networks and how they are trained; whether that needs a trained run to begin with."""

    networks: NetworkConfig
    training: TrainingConfig
    goes_on: bool = False


# blocks up to half resolution and a fixed periodic up-sampling behind them: a step of batch 50 at 32² takes a
# fraction of a second on two cores
_QUICK_NETWORKS = NetworkConfig(size=(32, 32), latent=64, generator=16, discriminator=8, encoder=8, widest=128, head=2)
_HALF_NETWORKS = NetworkConfig(
    size=(64, 64), latent=128, generator=16, discriminator=8, encoder=4, widest=128, head=2, patch=4
)
# the same thought at 128²: blocks up to a quarter of the resolution, in the generator and in its judges; a cell of the
# code is two thirds of a period wide, as in the quick networks, and holds as many numbers
_LEAN_NETWORKS = NetworkConfig(
    size=(128, 128),
    latent=256,
    generator=8,
    discriminator=6,
    encoder=4,
    widest=128,
    head=4,
    patch=4,
    coarsest=8,
    grid=True,
    whiten=True,
)
_LEAN_TRAINING = TrainingConfig(
    steps=3000,
    rate=1e-3,
    halving=750,
    discriminator_rate=0.25,
    beta=2.5e-4,
    gamma=3e-4,
    rest=60.0,
    spectrum=0.5,
    energy_rise=600,
    augment=True,
    average=0.99,
)
# what a generator that holds its data already bears: far stronger rest, at a rate that begins anew and falls fast
_POLISH_TRAINING = replace(
    _LEAN_TRAINING, steps=300, rate=8e-4, halving=90, gamma=1e-4, rest=260.0, spectrum=1.2, energy_rise=0, average=0.98
)
_BEST_NETWORKS = replace(_QUICK_NETWORKS, grid=True, whiten=True)
_BEST_TRAINING = TrainingConfig(steps=600, rate=5e-4, halving=300, gamma=0.1, rest=3.0, spectrum=3.0, energy_rise=300)

TRAININGS: dict[str, Recipe] = {
    # the paper's text to the letter; widths are assumptions; not run at full length yet
    "paper": Recipe(NetworkConfig(), TrainingConfig()),
    # 128² on CPUs: what labyrinth-128 came to at the end of its stages, in one go; prior ε −0.0408 (data −0.0423),
    # 1.3 nodal points; relaxed −0.0422, none
    "lean": Recipe(_LEAN_NETWORKS, _LEAN_TRAINING),
    # after lean: --start its run; −0.0412 and 1.04 nodal points, a second time −0.0414 and 0.98, labyrinths straighter
    "polish": Recipe(_LEAN_NETWORKS, _POLISH_TRAINING, goes_on=True),
    # 32², minutes: the hybrid's held-out reconstruction error 0.0203 (untrained 0.6670)
    "quick": Recipe(_QUICK_NETWORKS, TrainingConfig(steps=600, gamma=0.1)),
    # the quick one's budget with what helped in benchmarks/ablation.py; hybrid, three trials: prior ε −0.1481 ± 0.0008
    # (data −0.1639), 1.5 nodal points; DDLS −0.1638 ± 0.0011, 0.03
    "best": Recipe(_BEST_NETWORKS, _BEST_TRAINING),
}

_QUICK = PipelineConfig(
    D=0.6,
    size=(32, 32),
    samples=4000,
    prior_samples=1000,
    ddls_samples=500,
    networks=_QUICK_NETWORKS,
    training=TRAININGS["quick"].training,
    ddls=DDLS(steps=100, step_size=0.1),
)

PIPELINES: dict[str, PipelineConfig] = {
    # hybrid, five trials: prior ε −0.1345 ± 0.0067 (data −0.1639), 2.6 nodal points; DDLS −0.1536, 0.86; relaxed, none
    "quick": _QUICK,
    "best": replace(_QUICK, networks=_BEST_NETWORKS, training=_BEST_TRAINING),
    # a quarter of the paper's sites, as many periods, an hour a trial; hybrid, three trials: prior ε −0.1402 ± 0.0074
    # (data −0.1647), 8 nodal points, reconstruction error 0.27; DDLS −0.1564, 1.9; relaxed, none
    "half": PipelineConfig(
        D=0.6,
        size=(64, 64),
        samples=8000,
        prior_samples=2000,
        ddls_samples=500,
        networks=_HALF_NETWORKS,
        training=TrainingConfig(steps=1000, gamma=0.1),
        ddls=DDLS(steps=100, step_size=0.1),
    ),
    # the paper's size; needs a GPU (--device cuda) to be finished in a sitting; not run yet
    "paper": PipelineConfig(),
}

TRIALS: dict[str, int] = {"quick": 5, "best": 3, "half": 3, "paper": 5}
"""How often ``reproduce`` repeats a pipeline."""

NOTES: dict[str, tuple[str, ...]] = {
    "quick": (
        "γ = 0.1 in the hybrid's generator loss, a hundred times the paper's: in 600 steps at this size the paper's "
        "0.001 ends a little higher in energy (prior ε −0.127 against −0.131), and DDLS then leaves 2.5 nodal points "
        "a texture instead of 0.8.",
    ),
    "half": ("γ = 0.1 in the hybrid's generator loss, a hundred times the paper's, as in the quick preset.",),
}


def pick(table: Mapping[str, T], name: str) -> T:
    """A row of one of the tables.

    Raises:
        BadInput: no such row; the line suggests the nearest.
    """
    if name not in table:
        near = difflib.get_close_matches(name, table, n=1)
        hint = f"did you mean {near[0]}? there are" if near else "there are"
        raise BadInput(f"preset={name!r}: no such preset; {hint} {', '.join(table)}")
    return table[name]


def overridden(config: T, changes: Any) -> T:
    """``config`` with the fields of ``changes`` (a value of the same nested shape) that are not None."""
    new: dict[str, Any] = {}
    for field in dataclasses.fields(changes):
        value = getattr(changes, field.name)
        if value is None:
            continue
        if dataclasses.is_dataclass(value):
            value = overridden(getattr(config, field.name), value)
        new[field.name] = value
    return replace(config, **new)  # type: ignore[type-var]
