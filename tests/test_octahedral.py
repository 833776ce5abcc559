import threading

import numpy as np
import pytest
import torch

from spinloom.errors import BadInput
from spinloom.octahedral import decode, encode, length_error

LARGEST_ERROR = 0.004  # degrees


def random_spins(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    spins = torch.randn(*shape, generator=generator)
    return spins / spins.norm(dim=-3, keepdim=True)


def columns(vectors):
    """(n, 3) vectors as one texture (3, n, 1)."""
    return torch.as_tensor(vectors, dtype=torch.float32).T[:, :, None]


def degrees(one, other):
    one, other = one.double(), other.double()
    crossed = torch.linalg.cross(one, other, dim=-3).norm(dim=-3)
    return torch.rad2deg(torch.atan2(crossed, (one * other).sum(-3)))


def some_codes(seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(-32767, 32768, (16, 2, 128, 128), dtype=torch.int16, generator=generator)


def test_error_of_random_vectors():
    spins = random_spins(64, 3, 128, 128)
    error = degrees(decode(encode(spins)), spins)
    assert float(error.max()) <= LARGEST_ERROR
    assert float(error.max()) > LARGEST_ERROR / 4  # 16 bits cannot do better: the measure of the error measures


@pytest.mark.parametrize("tilt", [0.0, 1e-7, 1e-4, 1e-2])
def test_error_near_axes_edges_and_faces(tilt):
    corners = torch.tensor(
        [[a, b, c] for a in (-1, 0, 1) for b in (-1, 0, 1) for c in (-1, 0, 1) if (a, b, c) != (0, 0, 0)]
    )
    vectors = corners.double().repeat(500, 1)
    vectors = vectors + tilt * torch.randn(vectors.shape, generator=torch.Generator().manual_seed(1)).double()
    spins = columns(vectors / vectors.norm(dim=1, keepdim=True))
    assert float(degrees(decode(encode(spins)), spins).max()) <= LARGEST_ERROR


def test_axes_are_exact():
    axes = columns(torch.cat((torch.eye(3), -torch.eye(3))))
    assert torch.equal(decode(encode(axes)), axes)


def test_decoded_lengths_are_one():
    assert float((decode(some_codes()).double().norm(dim=1) - 1).abs().max()) < 1e-6


def test_codes_come_back():
    codes = encode(random_spins(64, 3, 128, 128, seed=2))
    assert torch.equal(encode(decode(codes)), codes)
    inner = some_codes().clamp(-32766, 32766)  # off the edges every code has a vector of its own
    assert torch.equal(encode(decode(inner)), inner)


@pytest.mark.parametrize("fixed", [0, 1])
@pytest.mark.parametrize("edge", [-32767, 32767])
def test_every_code_of_the_edges(fixed, edge):
    codes = torch.empty(2, 65535, 1, dtype=torch.int16)
    codes[fixed] = edge
    codes[1 - fixed, :, 0] = torch.arange(-32767, 32768)
    again = encode(decode(codes))
    assert torch.equal(encode(decode(again)), again)
    assert torch.equal(decode(again), decode(codes))  # another name of the same point
    assert bool((again[1 - fixed] == codes[1 - fixed].abs()).all())


def test_quarter_turns_and_mirrors_are_exact():
    x, y, z = random_spins(4, 3, 64, 64, seed=3).unbind(1)
    kept = decode(encode(torch.stack((x, y, z), 1)))
    kept_x, kept_y, kept_z = kept.unbind(1)
    turned = decode(encode(torch.stack((-y, x, z), 1)))
    mirrored = decode(encode(torch.stack((-x, y, z), 1)))
    assert torch.equal(turned, torch.stack((-kept_y, kept_x, kept_z), 1))
    assert torch.equal(mirrored, torch.stack((-kept_x, kept_y, kept_z), 1))


def test_length_is_ignored():
    spins = random_spins(3, 32, 32, seed=4)
    assert torch.equal(encode(spins * 4), encode(spins))


def test_shapes_types_and_threads():
    spins = random_spins(2, 16, 3, 128, 66, seed=5)
    codes = encode(spins)
    assert codes.shape == (2, 16, 2, 128, 66)
    assert codes.dtype == torch.int16
    assert torch.equal(encode(spins.numpy()), codes)
    assert torch.equal(encode(spins.transpose(-1, -2)), codes.transpose(-1, -2))
    decoded = decode(codes, threads=1)
    assert decoded.shape == spins.shape
    for threads in (2, 3, 5):
        assert torch.equal(decode(codes, threads=threads), decoded)
    assert torch.equal(decode(codes[1, 3]), decoded[1, 3])
    assert decode(codes[:, :0]).shape == (2, 0, 3, 128, 66)


def test_several_threads_decode_at_once():
    codes = some_codes()
    expected = decode(codes, threads=1)
    found = [None] * 4

    def work(number):
        found[number] = decode(codes, threads=2)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(torch.equal(one, expected) for one in found)


@pytest.mark.parametrize("value", [0.0, np.nan, np.inf])
def test_refuses_what_has_no_direction(value):
    spins = random_spins(3, 8, 8)
    spins[:, 2, 5] = value
    with pytest.raises(BadInput, match="1 of them"):
        encode(spins)


def test_refuses_other_shapes():
    with pytest.raises(BadInput, match="shape"):
        encode(torch.zeros(2, 8, 8))


def test_length_error():
    spins = random_spins(3, 3, 8, 8)
    assert length_error(spins) < 1e-6
    spins[1, :, 2, 3] *= 1.25
    assert length_error(spins) == pytest.approx(0.25, abs=1e-6)
    spins[2, :, 0, 0] = 0
    assert length_error(spins.numpy()) == 1
    spins[0, 1, 7, 7] = np.nan
    assert length_error(spins) == np.inf
    assert length_error(spins[:0]) == 0
