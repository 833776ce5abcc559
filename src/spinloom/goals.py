"""What a search looks for: a number a texture, to be made as small or as large as can be."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from spinloom.errors import BadInput
from spinloom.hamiltonian import Hamiltonian
from spinloom.measure import wavelength
from spinloom.run import Run
from spinloom.sample import CHUNK
from spinloom.topology import charge, nodal_points

Measure = Callable[[Tensor], Tensor]

QUANTITIES = ("energy", "mz", "charge", "skyrmions", "wavelength", "logit", "nodal")
NAMES = tuple(f"{way}-{quantity}" for quantity in QUANTITIES for way in ("min", "max"))


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
    """

    name: str
    measure: Measure
    sign: int = 1
    smooth: bool | None = None
    defects: bool = False

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
        """The measure itself (n,), in float64: of energies to more digits than a search needs."""
        spins = spins.double() if self.name in ("min-energy", "max-energy") else spins
        with torch.no_grad():
            return torch.cat([(self.sign * self(part)).double().cpu() for part in spins.split(CHUNK)])


def goals(objective: str | Measure | Sequence[str | Measure], run: Run, H: Hamiltonian | None) -> tuple[Goal, ...]:
    """The goals that ``objective`` names: ``min-`` or ``max-`` of the following, callables, or a sequence of both.

    - ``energy``: ε in the unit of J; ``mz``: the mean S_z; ``charge``: Q; ``skyrmions``: |Q|;
    - ``wavelength``: the period in sites; ``nodal``: the number of nodal points;
    - ``logit``: what the run's discriminator says.

    A callable, spins (n, 3, H, W) → (n,), is minimised.

    Raises:
        BadInput: an unknown name, an energy without a Hamiltonian, a logit without a discriminator.
    """
    if isinstance(objective, str) or callable(objective):
        return (_goal(objective, run, H),)
    found = tuple(_goal(one, run, H) for one in objective)
    if not found:
        raise BadInput("objective=(): nothing to search for; use e.g. 'min-energy'")
    names = [goal.name for goal in found]
    if len(set(names)) < len(names):
        raise BadInput(f"objective={names}: one is named twice; name each once")
    return found


def _goal(objective: str | Measure, run: Run, H: Hamiltonian | None) -> Goal:
    if not isinstance(objective, str):
        return Goal(getattr(objective, "__name__", type(objective).__name__), objective)
    way, _, quantity = objective.partition("-")
    if objective not in NAMES:
        raise BadInput(f"objective={objective!r}: unknown; use min- or max- of {', '.join(QUANTITIES)}")
    sign = 1 if way == "min" else -1
    if quantity == "energy":
        if H is None:
            raise BadInput(f"objective={objective!r}: {run.path} has no Hamiltonian to take energies from; give H")
        return Goal(objective, H.energy_excess, sign, smooth=True)
    if quantity == "logit":
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
