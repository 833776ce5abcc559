"""Random numbers as a pure function of (seed, texture, sweep, site): Threefry-2x32, no state to carry along."""

from __future__ import annotations

from typing import Any

import numpy as np

ROUNDS = 13
"""Rounds in a sweep: the fewest at which Threefry-2x32 is Crush-resistant, by the paper and by the documentation
of Random123 ("no statistical flaws with ROUNDS=13 or more"). The keys, made once a texture, take the full 20."""

ROTATIONS = (13, 15, 26, 6, 17, 29, 16, 24)
PARITY = 0x1BD11BDA
EXTRA = 1 << 31
"""Set in the site's word of the counter for a site's second pair of words in a sweep, used by the K term; so sites
are at most as many."""


Words = tuple[np.ndarray, np.ndarray]


def threefry2x32(key: tuple[Any, Any], counter: tuple[Any, Any], rounds: int = 20) -> Words:
    """Two 32-bit words from two words of key and two of counter; arrays broadcast.

    A round is x0 += x1; x1 = rotate(x1) ^ x0; after every fourth the key is added again.

    Source: Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC'11,
    doi:10.1145/2063384.2063405, section 3.3.
    """
    k0, k1 = (np.asarray(word).astype(np.uint32) for word in key)
    schedule = (k0, k1, k0 ^ k1 ^ np.uint32(PARITY))
    x0, x1 = np.broadcast_arrays(*(np.atleast_1d(np.asarray(word).astype(np.uint32)) for word in counter))
    x0, x1 = x0 + schedule[0], x1 + schedule[1]  # arrays wrap around silently, as they must
    for number in range(rounds):
        turn = ROTATIONS[number % 8]
        x0 = x0 + x1
        x1 = (x1 << np.uint32(turn)) | (x1 >> np.uint32(32 - turn))
        x1 = x1 ^ x0
        if number % 4 == 3:
            again = number // 4 + 1
            x0 = x0 + schedule[again % 3]
            x1 = x1 + schedule[(again + 1) % 3] + np.uint32(again)
    return x0, x1


def texture_key(seed: int, index: int) -> tuple[int, int]:
    """The key of texture ``index`` of ``seed``, both under 2⁶⁴: the index enciphered by the seed, 20 rounds.

    For one seed this is a bijection, so no two textures share a stream.
    """
    low = 0xFFFFFFFF
    first, second = threefry2x32((seed & low, seed >> 32), (index & low, index >> 32))
    return int(first[0]), int(second[0])


def site_words(key: tuple[int, int], sweep: int, sites: Any, extra: bool = False) -> Words:
    """The two words of each site (r·W + c) in sweep number ``sweep``; ``extra`` gives the second pair."""
    sites = np.asarray(sites).astype(np.uint32)
    return threefry2x32(key, (np.uint32(sweep), sites | np.uint32(EXTRA) if extra else sites), ROUNDS)


def uniform(words: np.ndarray, dtype: Any = np.float32) -> np.ndarray:
    """Uniform in [0, 1) from a word's upper 24 bits: every value is exact in float32."""
    return (words >> np.uint32(8)).astype(dtype) * np.asarray(2.0**-24, dtype)
