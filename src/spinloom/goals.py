"""What a search looks for: a number a texture, to be made as small or as large as can be."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from spinloom.errors import BadInput
from spinloom.hamiltonian import Hamiltonian
from spinloom.measure import wavelength
from spinloom.run import Run
from spinloom.sample import CHUNK, Score
from spinloom.topology import charge, nodal_points

Measure = Callable[[Tensor], Tensor]

QUANTITIES = ("energy", "mz", "charge", "skyrmions", "wavelength", "logit", "nodal")
NAMES = tuple(f"{way}-{quantity}" for quantity in QUANTITIES for way in ("min", "max"))

ROUNDING = 1e-6
"""Of their size: by how much values differ that float32 hardly tells apart."""


@dataclass(frozen=True)
class Goal:
    """One objective of a search.

    Attributes:
        name: e.g. ``max-mz``; of a callable, its own name.
        measure: spins (n, 3, H, W) → (n,).
        sign: +1 if the measure is to be small, −1 if large: ``sign`` times the measure is minimised.
        smooth: whether autograd finds its gradient; None where only trying tells.
        defects: whether it is about nodal points themselves, which relaxing would take away: such a goal is
            judged on textures as they are decoded.
        named: whether its name and the run say what it is; a callable's name does not.
    """

    name: str
    measure: Measure
    sign: int = 1
    smooth: bool | None = None
    defects: bool = False
    named: bool = True

    def __call__(self, spins: Tensor) -> Tensor:
        """sign · measure (n,), which is minimised.

        Raises:
            BadInput: the measure does not give one finite number a texture.
        """
        values = self.measure(spins)
        if not isinstance(values, Tensor):
            values = torch.as_tensor(values)
        if values.shape != spins.shape[:1]:
            raise BadInput(
                f"objective={self.name}: gave shape {tuple(values.shape)} for {len(spins)} textures; "
                "give one number a texture, shape (n,)"
            )
        if not values.isfinite().all():
            raise BadInput(f"objective={self.name}: gave NaN or infinity; give finite numbers")
        return self.sign * values

    def of(self, spins: Tensor) -> Tensor:
        """The measure itself (n,), in float64: of energies to more digits than a search needs, and, where whole numbers
        mean something, whole up to rounding."""
        spins = spins.double() if self.energy else spins
        with torch.no_grad():
            values = torch.cat([(self.sign * self(part)).double().cpu() for part in spins.split(CHUNK)])
        whole = values.round() + 0.0  # without −0
        return torch.where((values - whole).abs() < self.unit * ROUNDING, whole, values)

    @property
    def energy(self) -> bool:
        return self.name in ("min-energy", "max-energy")

    @property
    def unit(self) -> float:
        """1 for what is counted or averaged over unit spins, 0 for what has a unit or scale of its own."""
        return 1.0 if self.named and not self.energy else 0.0

    def rounding(self, *values: float) -> float:
        """By how much values like these may differ and be the same: a mean over unit spins is rounded as 1 is, however
        small it comes out."""
        return ROUNDING * max(self.unit, *map(abs, values))


def goals(
    objective: str | Measure | Sequence[str | Measure],
    run: Run | None,
    H: Hamiltonian | None,
    score: Score | None = None,
) -> tuple[Goal, ...]:
    """The goals that ``objective`` names: ``min-`` or ``max-`` of the following, callables, or a sequence of both.

    - ``energy``: ε in the unit of J; ``mz``: the mean S_z; ``charge``: Q; ``skyrmions``: |Q|;
    - ``wavelength``: the period in sites; ``nodal``: the number of nodal points;
    - ``logit``: what ``score`` says, by default the run's discriminator.

    A callable, spins (n, 3, H, W) → (n,), is minimised. Of several with one name, as lambdas have, the second is
    named ``<lambda> 2``, and so on.

    Raises:
        BadInput: an unknown name, an energy without a Hamiltonian, a logit without a discriminator, one objective
            twice.
    """
    several = not (isinstance(objective, str) or callable(objective))
    wanted: list[str | Measure] = list(objective) if several else [objective]  # type: ignore[arg-type, list-item]
    if not wanted:
        raise BadInput("objective=(): nothing to search for; use e.g. 'min-energy'")
    found: list[Goal] = []
    for number, one in enumerate(wanted):
        goal = _goal(one, run, H, score)
        if one in wanted[:number]:
            raise BadInput(f"objective={[each.name for each in (*found, goal)]}: one is named twice; name each once")
        alike = sum(_name(other) == goal.name for other in wanted[:number])
        found.append(replace(goal, name=f"{goal.name} {alike + 1}") if alike else goal)
    return tuple(found)


def _name(objective: str | Measure) -> str:
    return objective if isinstance(objective, str) else getattr(objective, "__name__", type(objective).__name__)


def _goal(objective: str | Measure, run: Run | None, H: Hamiltonian | None, score: Score | None) -> Goal:
    if not isinstance(objective, str):
        return Goal(_name(objective), objective, named=False)
    way, _, quantity = objective.partition("-")
    if objective not in NAMES:
        raise BadInput(f"objective={objective!r}: unknown; use min- or max- of {', '.join(QUANTITIES)}")
    sign = 1 if way == "min" else -1
    if quantity == "energy":
        if H is None:
            who = "a callable" if run is None else run.path
            raise BadInput(f"objective={objective!r}: {who} has no Hamiltonian to take energies from; give H")
        return Goal(objective, H.energy_excess, sign, smooth=True)
    if quantity == "logit":
        if score is not None:
            return Goal(objective, score, sign, named=False)
        if run is None:
            raise BadInput(f"objective={objective!r}: a callable has no discriminator; give score")
        discriminator = run.discriminator
        device = next(discriminator.parameters()).device
        return Goal(objective, lambda spins: discriminator(spins.to(device)), sign, smooth=True)
    if quantity == "mz":
        return Goal(objective, lambda spins: spins[:, 2].mean((-2, -1)), sign, smooth=True)
    if quantity == "wavelength":
        return Goal(objective, wavelength, sign, smooth=False)
    if quantity == "nodal":
        return Goal(objective, lambda spins: nodal_points(spins).double(), sign, smooth=False, defects=True)
    if quantity == "charge":
        return Goal(objective, charge, sign, smooth=False)
    return Goal(objective, lambda spins: charge(spins).abs(), sign, smooth=False)
