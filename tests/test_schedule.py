"""Schedules as values: what they contain, what they refuse, and the way to JSON and back."""

import itertools
import json
import math
import subprocess
import sys

import numpy as np
import pytest

from spinloom.errors import BadInput
from spinloom.schedule import DEFAULT_SCHEDULE, Schedule, Step


def test_geometric_has_constant_ratio_and_exact_ends():
    schedule = Schedule.geometric(2.0, 0.5, steps=5, heat_bath=2, over_relax=3)
    temperatures = [step.temperature for step in schedule.steps]
    assert temperatures[0] == 2.0
    assert temperatures[-1] == pytest.approx(0.5, rel=1e-15)
    ratios = [b / a for a, b in itertools.pairwise(temperatures)]
    assert ratios == pytest.approx([0.25**0.25] * 4, rel=1e-14)
    assert all((step.heat_bath, step.over_relax, step.relax) == (2, 3, 0) for step in schedule.steps)
    assert schedule.sweeps == 25
    assert Schedule.geometric(2.0, 0.5, steps=1).steps[0].temperature == 2.0


def test_default_is_the_documented_one():
    assert Schedule.geometric(1.0, 0.01, steps=200, heat_bath=1, over_relax=4).then_relax(500) == DEFAULT_SCHEDULE
    assert DEFAULT_SCHEDULE.sweeps == 200 * 5 + 500
    assert DEFAULT_SCHEDULE.steps[-1] == Step(relax=500)


def test_then_keeps_order_and_leaves_both_alone():
    hot, cold = Schedule.constant(1.0, 3), Schedule.constant(0.1, 2, over_relax=1)
    both = hot.then(cold)
    assert both.steps == hot.steps + cold.steps
    assert both.sweeps == 3 + 4
    assert hot.sweeps == 3 and cold.sweeps == 4
    assert all(step.temperature == 0.1 for step in cold.steps)


def test_with_field_for_all_or_each():
    schedule = Schedule.constant(1.0, 3)
    assert [step.field for step in schedule.with_field(0.2).steps] == [0.2] * 3
    assert [step.field for step in schedule.with_field([0.0, None, -0.1]).steps] == [0.0, None, -0.1]
    assert schedule.with_field(None) == schedule
    with pytest.raises(BadInput, match="3 steps"):
        schedule.with_field([0.1, 0.2])


@pytest.mark.parametrize(
    "schedule",
    [
        DEFAULT_SCHEDULE,
        Schedule.geometric(1 / 3, 1e-7, steps=7, relax=2).with_field([0.0, None, 1 / 7, -2.0, 0.0, None, 3.0]),
        Schedule.relaxation(1),
    ],
)
def test_json_round_trip(schedule):
    assert Schedule.from_dict(json.loads(json.dumps(schedule.as_dict(), allow_nan=False))) == schedule


def test_values_are_frozen_and_hashable():
    assert len({Schedule.relaxation(3), Schedule.relaxation(3), Schedule.relaxation(4)}) == 2
    with pytest.raises(AttributeError):
        DEFAULT_SCHEDULE.steps = ()  # type: ignore[misc]


@pytest.mark.parametrize(
    ("make", "names"),
    [
        (lambda: Step(math.nan, 1), "temperature=nan"),
        (lambda: Step(0.0, 1), "temperature=0.0"),
        (lambda: Step(-1.0, 1), "temperature=-1.0"),
        (lambda: Step(math.inf, 1), "temperature=inf"),
        (lambda: Step(None, 1), "temperature=None"),
        (lambda: Step(None, 0, 1), "temperature=None"),
        (lambda: Step(1.0, -1), "heat_bath=-1"),
        (lambda: Step(1.0, 1, relax=True), "relax=True"),
        (lambda: Step(1.0, 1, field=math.nan), "field=nan"),
        (lambda: Schedule(()), "0 sweeps"),
        (lambda: Schedule((Step(1.0),)), "0 sweeps"),
        (lambda: Schedule((Step(1.0, 2**31),)), "sweeps"),
        (lambda: Schedule.geometric(0, 1, steps=3), "T0=0"),
        (lambda: Schedule.geometric(1, math.nan, steps=3), "T1=nan"),
        (lambda: Schedule.geometric(1, 1, steps=0), "steps=0"),
        (lambda: Schedule.constant(1, 10**12), "steps=1000000000000"),
        (lambda: Schedule.relaxation(0), "0 sweeps"),
        (lambda: Schedule.from_dict([]), "steps"),
        (lambda: Schedule.from_dict({"steps": []}), "0 sweeps"),
        (lambda: Schedule.from_dict({"steps": [], "more": 1}), "one object a step"),
        (lambda: Schedule.from_dict({"steps": [{"T": 1.0}]}), "step 0"),
        (lambda: Schedule.from_dict({"steps": [{"temperature": -1.0, "heat_bath": 1}]}), "temperature=-1.0"),
    ],
)
def test_refusals_name_the_value(make, names):
    with pytest.raises(BadInput) as refusal:
        make()
    assert names in str(refusal.value)


def test_wrong_types_from_a_file_are_refused_too():
    """In a process of its own: here the type checker of the test run would speak first."""
    child = """
import json, sys
from spinloom.errors import BadInput
from spinloom.schedule import Schedule
for step in json.loads(sys.argv[1]):
    try:
        Schedule.from_dict({"steps": [step]})
    except BadInput as refusal:
        print(refusal)
"""
    steps = [{"temperature": "1", "heat_bath": 1}, {"relax": 0.5}, {"relax": 1, "field": "x"}, 3]
    run = subprocess.run([sys.executable, "-c", child, json.dumps(steps)], capture_output=True, text=True, check=True)
    for line, start in zip(
        run.stdout.splitlines(), ("temperature=1", "relax=0.5", "field=x", "schedule step 0=3"), strict=True
    ):
        assert line.startswith(start)


def test_numpy_numbers_are_numbers():
    values = np.linspace(0, 0.1, 3, dtype=np.float32)
    steps = Schedule.constant(np.float32(0.5), 3).with_field(values).steps
    assert [step.field for step in steps] == values.tolist()
    assert Schedule.geometric(1.0, 0.1, steps=np.int64(3)) == Schedule.geometric(1.0, 0.1, steps=3)
    assert Schedule.from_dict(json.loads(json.dumps(Schedule.relaxation(np.int64(4)).as_dict()))).sweeps == 4


@pytest.mark.parametrize("value", [10**400, float("inf"), float("nan"), True])
def test_numbers_beyond_floats_are_refused(value):
    with pytest.raises(BadInput, match="temperature="):
        Step(value, heat_bath=1)
    with pytest.raises(BadInput, match="field="):
        Step(1.0, heat_bath=1, field=value)
