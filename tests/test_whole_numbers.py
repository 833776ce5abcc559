"""Numbers that count something are whole: others are refused by name."""

import subprocess
import sys

import pytest

PLACES = {
    "DDLS(steps=2.5)": "steps=2.5",
    "StringConfig(steps=2.5)": "steps=2.5",
    "Inversion(starts=2.5)": "starts=2.5",
    "Inversion(steps=2.5)": "steps=2.5",
    "Inversion(relax=2.5)": "relax=2.5",
    "SearchConfig(population=6.5)": "population=6.5",
    "SearchConfig(generations=2.5)": "generations=2.5",
    "SearchConfig(relax=2.5)": "relax=2.5",
    "SearchConfig(seed=2.5)": "seed=2.5",
    "sample(None, 2.5)": "count=2.5",
    "sample(None, 2, relax=2.5)": "relax=2.5",
    "sample(None, 2, seed=2.5)": "seed=2.5",
}

SCRIPT = """
import sys
import numpy as np
from spinloom.errors import BadInput
from spinloom.invert import Inversion
from spinloom.optimise import SearchConfig
from spinloom.sample import DDLS, sample
from spinloom.string_method import StringConfig
assert type(DDLS(steps=np.int64(6)).steps) is int and SearchConfig().population is None
for call in sys.argv[1:]:
    try:
        eval(call)
        print("taken")
    except BadInput as error:
        print(error)
"""


@pytest.fixture(scope="module")
def said():
    """In a process of its own: the test run's type checks would object before the package does."""
    done = subprocess.run([sys.executable, "-c", SCRIPT, *PLACES], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return dict(zip(PLACES, done.stdout.splitlines(), strict=True))


@pytest.mark.parametrize("call", PLACES)
def test_a_count_is_a_whole_number(said, call):
    assert said[call].startswith(f"{PLACES[call]}: must be a whole number")
