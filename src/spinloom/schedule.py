"""Annealing schedules: what temperature, for how many sweeps of which kind, in what field."""

from __future__ import annotations

import math
import numbers
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from spinloom.errors import BadInput, real
from spinloom.typing import Number, WholeNumber

MOST_SWEEPS = 2**31 - 1
"""A sweep's number is one 32-bit word of the random counter; number 0 makes the random start."""


MOST_STEPS = 10**6
"""Of a schedule made by one call: each is an object of its own."""


@dataclass(frozen=True)
class Step:
    """Sweeps of heat bath, then of over-relaxation, at one temperature, then zero-temperature alignment.

    ``temperature`` (k_B T, in the Hamiltonian's units of energy) may be None where only ``relax`` sweeps are
    asked for; ``field`` replaces the Hamiltonian's B during this step, None keeps it.

    Raises:
        BadInput: a temperature that is missing, not positive or not finite; a count that is not a whole number
            ≥ 0; a field that is not finite.
    """

    temperature: Number | None = None
    heat_bath: WholeNumber = 0
    over_relax: WholeNumber = 0
    relax: WholeNumber = 0
    field: Number | None = None

    def __post_init__(self) -> None:
        for name in ("heat_bath", "over_relax", "relax"):
            count = getattr(self, name)
            if not _whole(count) or count < 0:
                raise BadInput(f"{name}={count}: a number of sweeps is whole and not negative; use e.g. {name}=1")
            object.__setattr__(self, name, int(count))
        if self.temperature is not None:
            object.__setattr__(self, "temperature", _temperature("temperature", self.temperature))
        elif self.heat_bath or self.over_relax:
            raise BadInput("temperature=None: heat bath and over-relaxation need one; give it or use relax sweeps")
        if self.field is not None:
            value = real(self.field)
            if math.isnan(value):
                raise BadInput(
                    f"field={str(self.field)[:24]}: must be a finite number, or None for the Hamiltonian's B"
                )
            object.__setattr__(self, "field", value)

    @property
    def sweeps(self) -> int:
        return self.heat_bath + self.over_relax + self.relax


@dataclass(frozen=True)
class Schedule:
    """The steps of an annealing, a value: build one from :meth:`geometric`, :meth:`then_relax`, :meth:`then`.

    >>> Schedule.geometric(1.0, 0.01, steps=200, heat_bath=1, over_relax=4).then_relax(500).sweeps
    1500

    Raises:
        BadInput: no steps, no sweeps, or more than 2³¹ − 1 sweeps.
    """

    steps: tuple[Step, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "steps", tuple(self.steps))
        for step in self.steps:
            if not isinstance(step, Step):
                raise BadInput(f"steps={step!r}: a schedule is made of Step values; use Step(temperature, …)")
        if not 0 < self.sweeps <= MOST_SWEEPS:
            raise BadInput(f"schedule of {self.sweeps} sweeps: need 1 to {MOST_SWEEPS}; change the counts")

    @classmethod
    def geometric(
        cls,
        T0: Number,
        T1: Number,
        steps: WholeNumber,
        heat_bath: WholeNumber = 1,
        over_relax: WholeNumber = 4,
        relax: WholeNumber = 0,
    ) -> Schedule:
        """Temperatures T0·(T1/T0)^(i/(steps−1)), i = 0 … steps−1, each with the same sweeps."""
        T0, T1 = _temperature("T0", T0), _temperature("T1", T1)
        if not _whole(steps) or not 1 <= steps <= MOST_STEPS:
            raise BadInput(
                f"steps={steps}: need a whole number of temperatures, 1 to {MOST_STEPS}; use e.g. steps=200, and more "
                "sweeps a step"
            )
        over = max(steps - 1, 1)
        temperatures = (T0 * (T1 / T0) ** (i / over) for i in range(steps))
        return cls(tuple(Step(t, heat_bath, over_relax, relax) for t in temperatures))

    @classmethod
    def constant(cls, T: Number, sweeps: WholeNumber, over_relax: WholeNumber = 0) -> Schedule:
        """``sweeps`` times one heat-bath sweep and ``over_relax`` over-relaxation sweeps at one temperature."""
        return cls.geometric(T, T, sweeps, 1, over_relax)

    @classmethod
    def relaxation(cls, sweeps: WholeNumber) -> Schedule:
        """Zero-temperature alignment alone."""
        return cls((Step(relax=sweeps),))

    def then(self, other: Schedule) -> Schedule:
        """This schedule followed by another."""
        return Schedule(self.steps + other.steps)

    def then_relax(self, sweeps: WholeNumber) -> Schedule:
        """This schedule followed by zero-temperature alignment sweeps."""
        return self.then(Schedule.relaxation(sweeps))

    def with_field(self, values: Number | Iterable[Number | None] | None) -> Schedule:
        """The same sweeps in the field ``values``: one number for all steps, or one a step (a field cooling)."""
        each = list(values) if isinstance(values, Iterable) else [values] * len(self.steps)
        if len(each) != len(self.steps):
            raise BadInput(f"{len(each)} field values: the schedule has {len(self.steps)} steps; give one or that many")
        return Schedule(tuple(replace(step, field=value) for step, value in zip(self.steps, each, strict=True)))

    @property
    def sweeps(self) -> int:
        """All sweeps of all steps."""
        return sum(step.sweeps for step in self.steps)

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON values: one object a step, what is as in ``Step()`` left out."""
        nothing = asdict(Step())
        return {"steps": [{k: v for k, v in asdict(step).items() if v != nothing[k]} for step in self.steps]}

    @classmethod
    def from_dict(cls, values: Any) -> Schedule:
        """The inverse of :meth:`as_dict`.

        Raises:
            BadInput: not ``{"steps": [{…}, …]}``, an unknown key, or a value :class:`Step` refuses.
        """
        steps = values.get("steps") if isinstance(values, dict) else None
        if not isinstance(steps, list) or len(values) != 1:
            raise BadInput('schedule: need {"steps": [{"temperature": 1.0, "heat_bath": 1}, …]}, one object a step')
        known = {field.name for field in fields(Step)}
        for number, step in enumerate(steps):
            if not isinstance(step, dict) or not known.issuperset(step):
                raise BadInput(f"schedule step {number}={step!r}: unknown; use the keys {', '.join(sorted(known))}")
        return cls(tuple(Step(**step) for step in steps))


def _whole(value: Any) -> bool:
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)


def _temperature(name: str, given: Any) -> float:
    value = real(given)
    if not value > 0:
        raise BadInput(f"{name}={str(given)[:24]}: a temperature is a finite number > 0; for T = 0 use relax sweeps")
    return value


DEFAULT_SCHEDULE = Schedule.geometric(1.0, 0.01, steps=200, heat_bath=1, over_relax=4).then_relax(500)
"""Reproduces the paper's ε = −0.0423 at J = 1, D = 0.3 on 128²; slower cooling goes lower."""
