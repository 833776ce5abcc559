"""Energies, their maps and fields, against loops over bonds, derivatives and exact states."""

import itertools
import math
import warnings

import numpy as np
import pytest
import torch

from spinloom.errors import BadInput
from spinloom.hamiltonian import Hamiltonian, as_size, as_spins

MODELS = [
    Hamiltonian(J=J, D=D, dmi=dmi, B=B, K=K)
    for dmi in ("interfacial", "bulk")
    for J, D, B, K in ((1, 0.3, 0, 0), (1.3, -0.7, 0.2, 0.4), (0.8, 0.6, -0.3, -0.25), (1, 0, 0.1, 0))
]
models = pytest.mark.parametrize("H", MODELS, ids=str)


def random_spins(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    spins = torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return (spins / spins.norm(dim=-3, keepdim=True)).to(dtype)


def loop_energy(H: Hamiltonian, spins: np.ndarray) -> float:
    """E/N by the definition: every bond once, vectors written out."""
    _, height, width = spins.shape
    along_x, along_y = {
        "interfacial": (np.array([0, H.D, 0]), np.array([-H.D, 0, 0])),
        "bulk": (np.array([H.D, 0, 0]), np.array([0, H.D, 0])),
    }[H.dmi]
    energy = 0.0
    for row, column in itertools.product(range(height), range(width)):
        here = spins[:, row, column]
        for there, dm in (
            (spins[:, row, (column + 1) % width], along_x),
            (spins[:, (row + 1) % height, column], along_y),
        ):
            energy -= H.J * here @ there + dm @ np.cross(here, there)
        energy -= H.B * here[2] + H.K * here[2] ** 2
    return energy / (height * width)


@models
def test_energy_is_the_sum_over_bonds(H):
    spins = random_spins(3, 3, 6, 8)
    expected = [loop_energy(H, texture) for texture in spins.numpy()]
    np.testing.assert_allclose(H.energy(spins).numpy(), expected, rtol=1e-12)


@models
def test_local_field_is_minus_the_gradient(H):
    spins = random_spins(2, 3, 6, 8).requires_grad_()
    (gradient,) = torch.autograd.grad(H.energy(spins).sum() * 48, spins)
    torch.testing.assert_close(H.local_field(spins), -gradient, rtol=1e-12, atol=1e-13)


@models
def test_energy_density_averages_to_the_energy(H):
    spins = random_spins(2, 2, 3, 6, 8)
    assert H.energy_density(spins).shape == (2, 2, 6, 8)
    torch.testing.assert_close(H.energy_density(spins).mean((-2, -1)), H.energy(spins), rtol=1e-12, atol=0)


@models
def test_the_density_shares_a_bond_between_its_ends(H):
    """Turning one spin changes the density there and at its four neighbours, and nowhere else."""
    spins = random_spins(3, 8, 8)
    turned = spins.clone()
    turned[:, 2, 5] = torch.tensor([0.6, 0.0, -0.8])
    changed = (H.energy_density(turned) - H.energy_density(spins)).abs() > 1e-14
    assert sorted(map(tuple, changed.nonzero().tolist())) == [(1, 5), (2, 4), (2, 5), (2, 6), (3, 5)]


@pytest.mark.parametrize("dmi", ["interfacial", "bulk"])
@pytest.mark.parametrize(
    ("B", "K", "direction"),
    [(0, 0, (0.36, 0.48, 0.8)), (0.2, 0, (0, 0, 1)), (-0.2, 0.3, (0, 0, -1)), (0, -0.4, (0.6, 0.8, 0))],
)
def test_the_uniform_state_has_no_excess(dmi, B, K, direction):
    H = Hamiltonian(J=1.1, D=0.5, dmi=dmi, B=B, K=K)
    spins = torch.tensor(direction, dtype=torch.float64)[:, None, None].expand(3, 6, 4)
    assert H.energy_excess(spins).item() == pytest.approx(0, abs=1e-14)


@pytest.mark.parametrize("dmi", ["interfacial", "bulk"])
@pytest.mark.parametrize("handed", [1, -1])
def test_spirals_of_both_hands(dmi, handed):
    """A cycloid (helix) along x with D > 0: E/N = −J(cos q + 1) ∓ D sin q, minus for the favoured hand."""
    H = Hamiltonian(J=1, D=0.6, dmi=dmi)
    q = 2 * math.pi / 12
    angle = handed * q * torch.arange(12, dtype=torch.float64).expand(6, 12)
    still = torch.zeros_like(angle)
    # S_i × S_{i+x} ∥ +ŷ for the cycloid z → x, and ∥ +x̂ for the helix y → z
    turning = (angle.sin(), still, angle.cos()) if dmi == "interfacial" else (still, angle.cos(), angle.sin())
    expected = -(math.cos(q) + 1) - handed * 0.6 * math.sin(q)
    assert H.energy(torch.stack(turning)).item() == pytest.approx(expected, abs=1e-14)


def test_rotating_all_spins_turns_neel_into_bloch():
    spins = random_spins(5, 3, 6, 8)
    x, y, z = spins.unbind(-3)
    rotated = torch.stack((y, -x, z), -3)  # by −90° about z
    for B, K in ((0, 0), (0.3, -0.2)):
        neel, bloch = Hamiltonian(D=0.4, B=B, K=K), Hamiltonian(D=0.4, dmi="bulk", B=B, K=K)
        torch.testing.assert_close(neel.energy(spins), bloch.energy(rotated), rtol=1e-12, atol=1e-14)
        assert (neel.energy(spins) - neel.energy(rotated)).abs().max() > 0.01


def test_reversed_spins_have_the_same_energy_bit_for_bit():
    for dtype in (torch.float32, torch.float64):
        spins = random_spins(4, 3, 6, 8, dtype=dtype)
        for H in (Hamiltonian(D=0.37), Hamiltonian(D=0.37, dmi="bulk", K=0.11)):
            assert torch.equal(H.energy(spins), H.energy(-spins))
            assert torch.equal(H.local_field(spins), -H.local_field(-spins))


def test_numpy_arrays_of_any_layout_are_accepted():
    H = Hamiltonian(D=0.5)
    spins = random_spins(2, 3, 6, 8).numpy()
    expected = H.energy(torch.from_numpy(spins))
    read_only = spins.copy()
    read_only.flags.writeable = False
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for array in (spins, read_only, spins.astype(">f8"), spins[::-1].copy()[::-1]):
            torch.testing.assert_close(H.energy(array), expected, rtol=1e-12, atol=0)
        assert H.energy(spins.astype(np.float32)).dtype == torch.float32
        up = np.zeros((3, 4, 4), int)
        up[2] = 1
        assert H.energy_excess(up).item() == 0
        assert H.energy_excess(up.tolist()).item() == 0


def test_as_spins_shares_memory_where_it_can():
    spins = random_spins(3, 4, 4)
    assert as_spins(spins) is spins
    array = spins.numpy()
    assert as_spins(array).data_ptr() == spins.data_ptr()


@pytest.mark.parametrize("shape", [(4, 4), (2, 4, 4), (4, 4, 3), (3, 3)])
def test_wrong_shapes_are_refused(shape):
    with pytest.raises(BadInput, match="need"):
        Hamiltonian().energy(np.zeros(shape))


@pytest.mark.parametrize("name", ["J", "D", "B", "K"])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_coefficients_must_be_finite(name, value):
    with pytest.raises(BadInput, match=f"{name}="):
        Hamiltonian(**{name: value})


@pytest.mark.parametrize("J", [0, -1, 0.0])
def test_the_exchange_must_be_ferromagnetic(J):
    with pytest.raises(BadInput, match="J="):
        Hamiltonian(J=J)


def test_coefficients_are_floats_and_round_trip():
    H = Hamiltonian(J=1, D=1, dmi="bulk", B=0, K=2)
    assert Hamiltonian(**H.as_dict()) == H
    assert all(isinstance(H.as_dict()[name], float) for name in ("J", "D", "B", "K"))


@pytest.mark.parametrize("size", [33, (32, 31), 2, 0, -4])
def test_sizes_that_have_no_checkerboard_are_refused(size):
    with pytest.raises(BadInput, match="size="):
        as_size(size)


def test_sizes_are_one_side_or_two():
    assert as_size(32) == (32, 32)
    assert as_size((16, 32)) == (16, 32)


@pytest.mark.parametrize("value", [1e101, -1e101, 10**400, float("nan"), float("inf"), True])
def test_couplings_whose_energies_would_overflow_are_refused(value):
    with pytest.raises(BadInput, match="D="):
        Hamiltonian(D=value)
