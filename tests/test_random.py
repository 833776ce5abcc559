"""Threefry against published vectors, and the streams of textures, sweeps and sites against each other."""

import numpy as np
import pytest

from spinloom.random import ROUNDS, site_words, texture_key, threefry2x32, uniform

ONES = 0xFFFFFFFF


@pytest.mark.parametrize(
    ("rounds", "key", "counter", "expected"),
    [
        # the known-answer vectors of Random123
        (20, (0, 0), (0, 0), (0x6B200159, 0x99BA4EFE)),
        (20, (ONES, ONES), (ONES, ONES), (0x1CB996FC, 0xBB002BE7)),
        (20, (0x13198A2E, 0x03707344), (0x243F6A88, 0x85A308D3), (0xC4923A9C, 0x483DF7A0)),
        (13, (0, 0), (0, 0), (0x9D1C5EC6, 0x8BD50731)),
        (13, (ONES, ONES), (ONES, ONES), (0xFD36D048, 0x2D17272C)),
        (13, (0x13198A2E, 0x03707344), (0x243F6A88, 0x85A308D3), (0xBA3E4725, 0xF27D669E)),
    ],
)
def test_known_answers(rounds, key, counter, expected):
    assert tuple(int(word[0]) for word in threefry2x32(key, counter, rounds)) == expected


def test_arrays_are_many_single_calls():
    counters = np.arange(7), np.arange(7)[::-1] * 1_000_003
    first, second = threefry2x32((5, 6), counters)
    for i, (c0, c1) in enumerate(zip(*counters, strict=True)):
        one = threefry2x32((5, 6), (c0, c1))
        assert (first[i], second[i]) == (one[0][0], one[1][0])


def test_keys_of_textures_differ_and_use_all_64_bits():
    keys = [texture_key(seed, index) for seed in (0, 1, 2**32, 2**63) for index in [*range(1000), 2**32, 2**63]]
    assert len(set(keys)) == len(keys)
    assert texture_key(3, 4) != texture_key(4, 3)


def test_a_flipped_counter_bit_flips_half_of_all_bits():
    sweeps, sites = np.meshgrid(np.arange(1, 65), np.arange(256))
    key = texture_key(0, 0)
    plain = np.stack(threefry2x32(key, (sweeps, sites), ROUNDS))
    for flip in (1, 2, 1 << 7, 1 << 13, 1 << 31):
        for moved in ((sweeps ^ flip, sites), (sweeps, sites ^ flip)):
            changed = plain ^ np.stack(threefry2x32(key, moved, ROUNDS))
            for bit in range(32):
                share = ((changed >> np.uint32(bit)) & 1).mean()  # of 32,768 coins: sigma 0.0028
                assert abs(share - 0.5) < 5 * 0.0028, (flip, bit, share)


def words_by(kind: str) -> list[np.ndarray]:
    """Streams that must be independent of each other: 2¹⁶ words each."""
    sites = np.arange(1 << 16)
    key = texture_key(7, 0)
    if kind == "word":
        return list(site_words(key, 1, sites))
    if kind == "sweep":
        return [site_words(key, sweep, sites)[0] for sweep in (1, 2, 3)]
    if kind == "site":
        return [site_words(key, 1, sites + by)[0] for by in (0, 1, 128)]
    if kind == "texture":
        return [site_words(texture_key(7, k), 1, sites)[0] for k in (0, 1, 2)]
    if kind == "seed":
        return [site_words(texture_key(k, 0), 1, sites)[0] for k in (0, 1, 2)]
    return [site_words(key, 1, sites)[0], *site_words(key, 1, sites, extra=True)]


@pytest.mark.parametrize("kind", ["word", "sweep", "site", "texture", "seed", "extra"])
def test_streams_are_uniform_and_independent(kind):
    streams = [uniform(words, np.float64) for words in words_by(kind)]
    n = streams[0].size
    for i, u in enumerate(streams):
        assert u.min() >= 0 and u.max() < 1
        counts = np.bincount((u * 256).astype(int), minlength=256)
        chi2 = ((counts - n / 256) ** 2 / (n / 256)).sum()
        assert abs(chi2 - 255) < 4.5 * np.sqrt(2 * 255)
        for other in streams[:i]:
            joint = np.bincount((u * 16).astype(int) * 16 + (other * 16).astype(int), minlength=256)
            chi2 = ((joint - n / 256) ** 2 / (n / 256)).sum()
            assert abs(chi2 - 255) < 4.5 * np.sqrt(2 * 255)
            assert abs(np.corrcoef(u, other)[0, 1]) < 4.5 / np.sqrt(n)


def test_uniform_is_exact_in_float32():
    words = np.array([0, 255, 256, ONES], np.uint32)
    for dtype in (np.float32, np.float64):
        u = uniform(words, dtype)
        assert u.dtype == dtype
        assert u.tolist() == [0.0, 0.0, 2.0**-24, 1 - 2.0**-24]
