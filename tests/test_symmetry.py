"""Group, energies and charges under the exact symmetries, and the random ones among them."""

import itertools

import numpy as np
import pytest
import torch

from spinloom.errors import BadInput
from spinloom.hamiltonian import Hamiltonian
from spinloom.symmetry import Symmetry, random_symmetry, symmetries
from spinloom.topology import charge

MODELS = [
    Hamiltonian(J=1.1, D=0.7, dmi=dmi, B=B, K=K)
    for dmi in ("interfacial", "bulk")
    for B, K in ((0, 0), (0, 0.3), (0.25, -0.2))
]
models = pytest.mark.parametrize("H", MODELS, ids=str)


def noise(*shape, seed=0, dtype=torch.float64):
    spins = torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return (spins / spins.norm(dim=-3, keepdim=True)).to(dtype)


@models
@pytest.mark.parametrize("size", [(12, 12), (8, 12)])
def test_energies_do_not_change(H, size):
    spins = noise(5, 3, *size)
    energy = H.energy(spins)
    for element in symmetries(H, size):
        torch.testing.assert_close(H.energy(element(spins)), energy, rtol=1e-12, atol=1e-15)
        moved = element(spins).roll((3, 5), (-2, -1))
        torch.testing.assert_close(H.energy(moved), energy, rtol=1e-12, atol=1e-15)


@models
def test_the_energy_map_moves_along(H):
    """Not only its mean: the density of the turned texture is the turned density."""
    spins = noise(3, 8, 8)
    for element in symmetries(H, 8):
        density = H.energy_density(spins).expand(3, 8, 8)
        carried = Symmetry(element.lattice, ((1, 0, 0), (0, 1, 0), (0, 0, 1)))(density)[0]
        torch.testing.assert_close(H.energy_density(element(spins)), carried, rtol=1e-12, atol=1e-13)


@models
def test_the_number_of_elements(H):
    halves = 2 if H.B else 1
    assert len(symmetries(H, 12)) == 16 // halves
    assert len(symmetries(H, (8, 12))) == 8 // halves


@models
@pytest.mark.parametrize("size", [(6, 6), (4, 6)])
def test_they_form_a_group(H, size):
    group = symmetries(H, size)
    spins = noise(3, *size)
    assert len(set(group)) == len(group)
    assert torch.equal(group[0](spins), spins)
    for a, b in itertools.product(group, repeat=2):
        assert a @ b in group
        assert torch.equal((a @ b)(spins), a(b(spins)))
    for a in group:
        assert a.inverse() in group
        assert torch.equal(a.inverse()(a(spins)), spins)
    images = {a(spins).numpy().tobytes() for a in group}
    assert len(images) == len(group)


@models
def test_charge_and_magnetisation_follow_their_signs(H):
    row, column = torch.meshgrid(*[torch.arange(24).double() * 2 * np.pi / 24] * 2, indexing="ij")
    spins = torch.stack((column.sin(), row.sin(), 0.8 + column.cos() + row.cos()))
    spins = spins / spins.norm(dim=0)
    Q, mz = charge(spins), spins[2].mean()
    assert abs(Q.item()) == pytest.approx(1, abs=1e-9)
    signs = set()
    for element in symmetries(H, 24):
        assert charge(element(spins)).item() == pytest.approx(element.charge_sign * Q.item(), abs=1e-9)
        assert element(spins)[2].mean().item() == pytest.approx(element.mz_sign * mz.item(), abs=1e-12)
        signs.add((element.charge_sign, element.mz_sign))
    # reversal turns both, the rest neither: the sign of Q is tied to that of M_z
    assert signs == ({(1, 1)} if H.B else {(1, 1), (-1, -1)})


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_reversal_is_exact_to_the_bit(dtype):
    H = Hamiltonian(D=0.3)
    spins = noise(4, 3, 8, 8, dtype=dtype)
    reverse = next(e for e in symmetries(H, 8) if e.lattice == ((1, 0), (0, 1)) and e.mz_sign < 0)
    assert torch.equal(reverse(spins), -spins)
    assert torch.equal(H.energy(reverse(spins)), H.energy(spins))


def test_neel_and_bloch_mirrors_differ_and_do_not_serve_each_other():
    neel, bloch = Hamiltonian(D=0.6), Hamiltonian(D=0.6, dmi="bulk")
    spins = noise(6, 3, 8, 8)
    mirror = ((-1, 0), (0, 1))
    mine = {e.spin for e in symmetries(neel, 8) if e.lattice == mirror}
    others = {e.spin for e in symmetries(bloch, 8) if e.lattice == mirror}
    assert mine == {((-1, 0, 0), (0, 1, 0), (0, 0, 1)), ((1, 0, 0), (0, -1, 0), (0, 0, -1))}
    assert others == {((1, 0, 0), (0, -1, 0), (0, 0, 1)), ((-1, 0, 0), (0, 1, 0), (0, 0, -1))}
    for spin in others:
        assert (neel.energy(Symmetry(mirror, spin)(spins)) - neel.energy(spins)).abs().min() > 1e-4


def test_a_quarter_turn_moves_plus_x_to_plus_y():
    """The site east of the middle goes north, and a spin along +x turns to +y."""
    H = Hamiltonian(D=0.5)
    spins = torch.zeros(3, 4, 4)
    spins[0, 1, 3] = 1  # row 1, column 3
    turn = next(e for e in symmetries(H, 4) if e.lattice == ((0, -1), (1, 0)) and e.mz_sign > 0)
    turned = turn(spins)
    # about the middle (1.5, 1.5): (x, y) = (1.5, −0.5) → (0.5, 1.5), that is row 3, column 2
    assert turned.nonzero().tolist() == [[1, 3, 2]]
    assert turned[1, 3, 2] == 1


def candidates(H, spins):
    """Every image of one texture under the whole group, translations included."""
    height, width = spins.shape[-2:]
    return {
        element(spins).roll((dy, dx), (-2, -1)).numpy().tobytes(): element
        for element in symmetries(H, (height, width))
        for dy in range(height)
        for dx in range(width)
    }


@pytest.mark.parametrize("size", [(4, 4), (4, 6)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_random_ones_are_uniform_over_the_group(size, dtype):
    H = Hamiltonian(D=0.4)
    texture = noise(3, *size, dtype=dtype)
    known = candidates(H, texture)
    draws = 40 * len(known)
    before = texture.clone()
    moved = random_symmetry(texture.expand(draws, *texture.shape), H, np.random.default_rng(3))
    assert moved.dtype == dtype and torch.equal(texture, before)
    counts = dict.fromkeys(known, 0)
    for image in moved:
        counts[image.numpy().tobytes()] += 1  # a KeyError is an image outside the group
    chi_squared = sum((count - 40) ** 2 / 40 for count in counts.values())
    freedom = len(known) - 1
    assert abs(chi_squared - freedom) < 5 * (2 * freedom) ** 0.5


@models
def test_random_ones_keep_the_energy(H):
    spins = noise(2, 5, 3, 8, 8)
    moved = random_symmetry(spins, H, np.random.default_rng(0))
    assert moved.shape == spins.shape and not torch.equal(moved, spins)
    torch.testing.assert_close(H.energy(moved), H.energy(spins), rtol=1e-12, atol=1e-15)


def test_the_generator_alone_decides():
    H = Hamiltonian()
    spins = noise(6, 3, 8, 8)
    for make in (np.random.default_rng, lambda seed: torch.Generator().manual_seed(seed)):
        first, again, other = (random_symmetry(spins, H, make(seed)) for seed in (7, 7, 8))
        assert torch.equal(first, again) and not torch.equal(first, other)


def test_without_a_hamiltonian_textures_are_only_translated():
    spins = noise(3, 4, 6)
    translations = {spins.roll((dy, dx), (-2, -1)).numpy().tobytes() for dy in range(4) for dx in range(6)}
    moved = random_symmetry(spins.expand(300, 3, 4, 6), None, np.random.default_rng(1))
    assert {image.numpy().tobytes() for image in moved} == translations


def test_odd_sizes_are_refused():
    with pytest.raises(BadInput, match="size=5"):
        symmetries(Hamiltonian(), (4, 5))
