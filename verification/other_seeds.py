"""``SPINLOOM_VERIFY_SEEDS=1`` (2, 3, …) runs every proof with other random numbers: no verdict may hang on the seeds.

Imported before anything that sweeps, since the sweeps take the function by name.
"""

import os

from spinloom import random

OTHER_SEEDS = int(os.environ.get("SPINLOOM_VERIFY_SEEDS", "0"))

_own_key = random.texture_key


def _another_key(seed: int, index: int) -> tuple[int, int]:
    return _own_key((seed + (OTHER_SEEDS << 44)) % 2**64, index)


if OTHER_SEEDS:
    random.texture_key = _another_key
