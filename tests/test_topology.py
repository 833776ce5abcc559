"""Charges of built skyrmions, whole numbers on smooth textures, nodal points against a flood fill."""

import itertools
import math

import numpy as np
import pytest
import torch

from spinloom.errors import BadInput
from spinloom.topology import bond_share, charge, nodal_centres, nodal_points

NEEL, BLOCH = 0.0, math.pi / 2


def skyrmions(size, *cores, background=1):
    """A uniform background with wrapped skyrmions (row, column, radius, vorticity, helicity)."""
    height, width = size
    polar = torch.zeros(height, width, dtype=torch.float64)
    azimuth = torch.zeros_like(polar)
    for row, column, radius, vorticity, helicity in cores:
        dy = torch.remainder(torch.arange(height).double()[:, None] - row + height / 2, height) - height / 2
        dx = torch.remainder(torch.arange(width).double()[None] - column + width / 2, width) - width / 2
        r = torch.hypot(dx, dy)
        inside = r < radius
        polar = torch.where(inside, math.pi * (1 - r / radius), polar)
        azimuth = torch.where(inside, vorticity * torch.atan2(dy, dx) + helicity, azimuth)
    planar = polar.sin()
    return torch.stack((planar * azimuth.cos(), planar * azimuth.sin(), background * polar.cos()))


def smooth_textures(count, size, modes=2, seed=0):
    """Random periodic textures of long waves, unit length."""
    height, width = size
    generator = torch.Generator().manual_seed(seed)
    spectrum = torch.zeros(count, 3, height, width, dtype=torch.complex128)
    for n, m in itertools.product(range(-modes, modes + 1), repeat=2):
        spectrum[:, :, m, n] = torch.complex(*(torch.randn(2, count, 3, generator=generator, dtype=torch.float64)))
    spins = torch.fft.ifft2(spectrum).real
    return spins / spins.norm(dim=1, keepdim=True)


def noise(*shape, seed=0):
    spins = torch.randn(*shape, generator=torch.Generator().manual_seed(seed))
    return spins / spins.norm(dim=-3, keepdim=True)


def uniform(height, width, **turned):
    """All up, with the named sites (r{row}c{column}) down."""
    spins = torch.zeros(3, height, width)
    spins[2] = 1
    for row, column in turned.get("down", ()):
        spins[2, row, column] = -1
    return spins


@pytest.mark.parametrize("helicity", [NEEL, math.pi, BLOCH, -BLOCH, 0.4])
@pytest.mark.parametrize(
    ("vorticity", "background", "Q"), [(1, 1, -1), (-1, 1, 1), (1, -1, 1), (-1, -1, -1), (2, 1, -2)]
)
def test_one_skyrmion(helicity, vorticity, background, Q):
    spins = skyrmions((32, 40), (15.3, 19.6, 12, vorticity, helicity), background=background)
    assert charge(spins).item() == pytest.approx(Q, abs=1e-9)


def test_pairs_add_up():
    left, right = (16, 16, 12, 1, NEEL), (16, 48, 12, 1, NEEL)
    anti = (16, 48, 12, -1, NEEL)
    assert charge(skyrmions((32, 64), left, right)).item() == pytest.approx(-2, abs=1e-9)
    assert charge(skyrmions((32, 64), left, anti)).item() == pytest.approx(0, abs=1e-9)


def test_the_edges_are_wrapped():
    inside, across = (16, 16, 12, 1, BLOCH), (0.2, 31.7, 12, 1, BLOCH)
    for core in (inside, across):
        assert charge(skyrmions((32, 32), core)).item() == pytest.approx(-1, abs=1e-9)


def test_whole_numbers_on_smooth_periodic_textures():
    spins = smooth_textures(60, (32, 24))
    Q = charge(spins)
    assert (Q - Q.round()).abs().max() < 1e-6
    assert Q.round().unique().numel() >= 4
    single = charge(spins.float())
    assert (single - Q).abs().max() < 1e-6


def test_whole_numbers_even_on_noise():
    Q = charge(noise(20, 3, 16, 16))
    assert (Q - Q.round()).abs().max() < 1e-6


def test_both_diagonals_agree_where_neighbours_turn_by_under_90_degrees():
    """Mirroring the columns swaps the diagonal and, by itself, the sign of Q."""
    spins = smooth_textures(60, (64, 64), modes=1, seed=3)
    dots = torch.stack([(spins * spins.roll(-1, axis)).sum(1).amin((-2, -1)) for axis in (-1, -2)]).amin(0)
    spins = spins[dots > 0]
    assert len(spins) > 20
    assert charge(spins).abs().max() > 0.5
    torch.testing.assert_close(charge(spins.flip(-1)), -charge(spins), rtol=0, atol=1e-9)


def test_the_solid_angles_against_girards_theorem():
    """The area of a spherical triangle is its angles' sum less π."""

    def area(a, b, c):
        total = -math.pi
        for p, q, r in ((a, b, c), (b, c, a), (c, a, b)):
            one, other = np.cross(p, q), np.cross(p, r)
            total += math.acos(np.clip(one @ other / np.linalg.norm(one) / np.linalg.norm(other), -1, 1))
        return math.copysign(total, a @ np.cross(b, c))

    spins = noise(3, 4, 6, seed=8).double()
    unit = (spins / spins.norm(dim=0)).numpy()
    total = 0.0
    for row, column in itertools.product(range(4), range(6)):
        here, right = unit[:, row, column], unit[:, row, (column + 1) % 6]
        up, corner = unit[:, (row + 1) % 4, column], unit[:, (row + 1) % 4, (column + 1) % 6]
        total += area(here, right, corner) + area(here, corner, up)
    assert charge(spins).item() == pytest.approx(total / (4 * math.pi), abs=1e-9)


def test_charge_takes_any_batch_and_is_odd_under_reversal():
    spins = smooth_textures(6, (16, 20), seed=5)
    Q = charge(spins.reshape(2, 3, 3, 16, 20))
    assert Q.shape == (2, 3)
    torch.testing.assert_close(Q.flatten(), charge(spins))
    torch.testing.assert_close(charge(-spins), -charge(spins), rtol=0, atol=1e-9)
    torch.testing.assert_close(charge(spins.numpy()), charge(spins))
    assert charge(spins[0]).shape == ()


def test_flipped_spins_are_nodal_points():
    spins = torch.stack(
        [
            uniform(16, 20),
            uniform(16, 20, down=[(4, 7)]),
            uniform(16, 20, down=[(4, 7), (11, 15)]),
            uniform(16, 20, down=[(4, 7), (4, 8), (5, 8)]),
            uniform(16, 20, down=[(0, 0)]),
            uniform(16, 20, down=[(0, 4), (15, 4)]),
        ]
    )
    assert nodal_points(spins).tolist() == [0, 1, 2, 1, 1, 1]
    centres = [found.tolist() for found in nodal_centres(spins)]
    assert centres[0] == []
    assert centres[1] == [[4, 7]]
    assert sorted(centres[2]) == [[4, 7], [11, 15]]
    assert centres[4] == [[0, 0]]
    assert centres[5] == [[15.5, 4]]


def test_a_vortex_pair_is_two_nodal_points_at_the_cores():
    """Around a planar vortex's core the four bonds turn by 90° each, farther out by less."""
    row, column = torch.meshgrid(torch.arange(32).double(), torch.arange(32).double(), indexing="ij")
    angle = torch.atan2(row - 15.5, column - 7.5) - torch.atan2(row - 15.5, column - 23.5)
    # leaves the plane near the edges, where the pair's field does not close on itself
    lift = torch.clamp((torch.hypot(row - 15.5, column - 15.5) - 11) / 4, 0, 1) * math.pi / 2
    spins = torch.stack((lift.cos() * angle.cos(), lift.cos() * angle.sin(), lift.sin()))
    assert nodal_points(spins, 89).item() == 2
    found = sorted(nodal_centres(spins, 89)[0].tolist())
    for centre, expected in zip(found, ([15.5, 7.5], [15.5, 23.5]), strict=True):
        assert centre == pytest.approx(expected, abs=0.6)


def plaquettes_by_hand(spins, angle):
    _, height, width = spins.shape
    cosine = math.cos(math.radians(angle))

    def broken(a, b):
        return float(spins[:, a[0] % height, a[1] % width] @ spins[:, b[0] % height, b[1] % width]) <= cosine

    return {
        (r, c)
        for r, c in itertools.product(range(height), range(width))
        if broken((r, c), (r, c + 1))
        or broken((r + 1, c), (r + 1, c + 1))
        or broken((r, c), (r + 1, c))
        or broken((r, c + 1), (r + 1, c + 1))
    }


def clusters_by_hand(plaquettes, height, width):
    left, count = set(plaquettes), 0
    while left:
        count += 1
        front = [left.pop()]
        while front:
            r, c = front.pop()
            for near in (
                ((r + 1) % height, c),
                ((r - 1) % height, c),
                (r, (c + 1) % width),
                (r, (c - 1) % width),
            ):
                if near in left:
                    left.remove(near)
                    front.append(near)
    return count


@pytest.mark.parametrize("angle", [60, 90, 120, 150])
def test_counts_against_a_flood_fill(angle):
    generator = torch.Generator().manual_seed(angle)
    spins = smooth_textures(12, (14, 18), modes=4, seed=angle) + 0.3 * torch.randn(12, 3, 14, 18, generator=generator)
    spins /= spins.norm(dim=1, keepdim=True)
    expected = [clusters_by_hand(plaquettes_by_hand(texture, angle), 14, 18) for texture in spins.double().numpy()]
    assert nodal_points(spins, angle).tolist() == expected
    assert len(set(expected)) > 1 or angle == 60


def test_a_cluster_on_a_spiral_of_plaquettes_is_one():
    """A long thin cluster whose scan-order pieces meet late: union–find has to join their labels."""
    spins = uniform(24, 24)
    path = [(2, c) for c in range(2, 22)] + [(r, 21) for r in range(2, 22)] + [(21, c) for c in range(2, 22)]
    path += [(r, 2) for r in range(6, 22)] + [(6, c) for c in range(2, 18)]
    for row, column in path:
        spins[:, row, column] = torch.tensor([1.0, 0.0, 0.0])
    assert nodal_points(spins).item() == 1
    assert clusters_by_hand(plaquettes_by_hand(spins.double().numpy(), 90), 24, 24) == 1


def test_one_bond_of_exactly_the_angle_is_one_nodal_point():
    spins = uniform(8, 8)
    spins[:, 3, 4] = torch.tensor([1.0, 0.0, 0.0])
    assert nodal_points(spins, 90).item() == 1
    assert bond_share(spins, 90).item() == pytest.approx(4 / 128)
    assert nodal_points(spins, 91).item() == 0


def test_shares_of_noise_are_those_of_random_directions():
    """P(angle ≥ α) = (1 + cos α)/2 for two independent directions."""
    spins = noise(30, 3, 64, 64)
    shares = {angle: bond_share(spins, angle) for angle in (60, 75, 90)}
    for angle, share in shares.items():
        expected = (1 + math.cos(math.radians(angle))) / 2
        assert share.mean().item() == pytest.approx(expected, abs=0.005)
    assert (shares[60] > shares[75]).all() and (shares[75] > shares[90]).all()


def test_noise_is_one_huge_cluster():
    """Half of all bonds are broken, yet the clusters number one, with a rare islet beside it."""
    spins = noise(8, 3, 64, 64)
    assert nodal_points(spins).min() == 1 and nodal_points(spins).max() <= 3
    assert bond_share(spins).min() > 0.4


def test_counts_do_not_depend_on_where_the_edges_are():
    spins = smooth_textures(10, (16, 20), modes=5, seed=2)
    rolled = spins.roll((5, 13), (-2, -1))
    assert nodal_points(rolled).tolist() == nodal_points(spins).tolist()
    for before, after in zip(nodal_centres(spins), nodal_centres(rolled), strict=True):
        moved = torch.remainder(before + torch.tensor([5.0, 13.0]), torch.tensor([16.0, 20.0]))
        apart = torch.remainder(moved[:, None] - after[None] + 0.25, torch.tensor([16.0, 20.0])) - 0.25
        assert (apart.abs().amax(-1).amin(1) < 1e-6).all()


def test_centres_match_the_counts_and_lie_in_the_box():
    spins = smooth_textures(12, (16, 20), modes=6, seed=4).reshape(3, 4, 3, 16, 20)
    counts, centres = nodal_points(spins), nodal_centres(spins)
    assert counts.shape == (3, 4) and counts.dtype == torch.int64
    assert [len(found) for found in centres] == counts.flatten().tolist()
    found = torch.cat(centres)
    assert (found >= 0).all() and (found < torch.tensor([16.0, 20.0])).all()


def test_a_spin_that_is_not_a_number_is_broken():
    spins = uniform(8, 8)
    spins[:, 2, 2] = math.nan
    assert nodal_points(spins).item() == 1
    assert charge(spins).isnan().item()


@pytest.mark.parametrize("angle", [0, -10, 181, math.nan])
def test_angles_no_bond_has_are_refused(angle):
    for quantity in (nodal_points, nodal_centres, bond_share):
        with pytest.raises(BadInput, match="angle="):
            quantity(uniform(4, 4), angle)
