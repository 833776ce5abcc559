"""Spirals against the Hamiltonian itself, and the ground state against the Luttinger–Tisza bound."""

import math

import pytest
import torch

from spinloom.errors import BadInput
from spinloom.hamiltonian import Hamiltonian
from spinloom.spiral import ground_state, luttinger_tisza_bound, spiral, spiral_energy

both = pytest.mark.parametrize("dmi", ["interfacial", "bulk"])


@both
@pytest.mark.parametrize("D", [0.3, -0.8, 0.0])
@pytest.mark.parametrize("wave", [(1, 0), (0, 1), (2, 3), (-2, 3), (5, -1), (0, 0), (8, 0), (31, 17)])
def test_the_hamiltonian_gives_the_formula(dmi, D, wave):
    H = Hamiltonian(J=1.2, D=D, dmi=dmi)
    n, m = wave
    spins = spiral(H, (12, 16), n, m, phase=0.7)
    assert spins.dtype == torch.float64
    torch.testing.assert_close(spins.norm(dim=0), torch.ones(12, 16).double(), rtol=1e-14, atol=0)
    qx, qy = 2 * math.pi * n / 16, 2 * math.pi * m / 12
    expected = -1.2 * (math.cos(qx) + math.cos(qy)) - abs(D) * math.hypot(math.sin(qx), math.sin(qy))
    assert H.energy(spins).item() == pytest.approx(expected, abs=1e-12)
    assert spiral_energy(H, (12, 16), n, m) == pytest.approx(expected, abs=1e-12)


@both
def test_spirals_are_stationary(dmi):
    """No torque: every spin lies along its field."""
    H = Hamiltonian(D=0.6, dmi=dmi)
    spins = spiral(H, (16, 24), 3, 2)
    torque = torch.linalg.cross(spins, H.local_field(spins), dim=0)
    assert torque.abs().max() < 1e-12


def test_the_phase_slides_the_spiral():
    H = Hamiltonian(D=0.5)
    slid = spiral(H, (8, 12), 1, 0, phase=2 * math.pi / 12)
    torch.testing.assert_close(slid, spiral(H, (8, 12), 1, 0).roll(-1, -1), rtol=0, atol=1e-14)


@both
@pytest.mark.parametrize(
    ("size", "D", "excess", "q"),
    [
        (128, 0.3, -0.044362, (5, 3)),
        (64, 0.3, -0.044340, (2, 2)),
        (64, 0.6, -0.172477, (4, 4)),
        (32, 0.6, -0.172477, (2, 2)),
    ],
)
def test_known_ground_states(dmi, size, D, excess, q):
    H = Hamiltonian(D=D, dmi=dmi)
    found = ground_state(H, size)
    assert found.q == q
    assert found.energy_excess == pytest.approx(excess, abs=1e-6)
    assert found.energy == pytest.approx(found.energy_excess - 2, abs=1e-14)
    assert H.energy_excess(found.spins).item() == pytest.approx(found.energy_excess, abs=1e-12)


def test_the_next_states_of_the_papers_box():
    H = Hamiltonian(D=0.3)
    for (n, m), excess in {
        (4, 4): -0.044340,
        (5, 4): -0.044299,
        (6, 1): -0.044057,
        (6, 0): -0.044026,
    }.items():
        assert spiral_energy(H, 128, n, m) + 2 == pytest.approx(excess, abs=1e-6)


@both
@pytest.mark.parametrize("size", [(8, 8), (10, 16), (32, 14)])
@pytest.mark.parametrize("D", [0.3, 0.9, -1.7, 0.0])
def test_the_lowest_spiral_meets_the_bound(dmi, size, D):
    """The bound comes from eigenvalues, the spiral from a formula: equality proves the ground state."""
    H = Hamiltonian(J=0.9, D=D, dmi=dmi)
    found = ground_state(H, size)
    assert found.energy == pytest.approx(luttinger_tisza_bound(H, size), abs=1e-12)
    lowest = min(spiral_energy(H, size, n, m) for n in range(size[1]) for m in range(size[0]))
    assert found.energy == pytest.approx(lowest, abs=1e-12)


@both
def test_no_relaxed_texture_lies_below(dmi):
    H = Hamiltonian(D=0.8, dmi=dmi)
    spins = torch.randn(40, 3, 8, 12, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    spins /= spins.norm(dim=1, keepdim=True)
    row, column = torch.meshgrid(torch.arange(8), torch.arange(12), indexing="ij")
    for sweep in range(400):
        field = H.local_field(spins)
        spins = torch.where((row + column) % 2 == sweep % 2, field / field.norm(dim=1, keepdim=True), spins)
    lowest = ground_state(H, (8, 12)).energy
    energies = H.energy(spins)
    assert energies.min() >= lowest - 1e-12
    assert energies.min() < lowest + 0.05  # the bound is not idle: relaxation comes near it


def test_wave_numbers_follow_the_sides():
    """On a long box along x the spiral runs along x; on its transpose along y."""
    H = Hamiltonian(D=0.5)
    n, m = ground_state(H, (8, 64)).q
    assert (m, n) == ground_state(H, (64, 8)).q
    assert n > m


@pytest.mark.parametrize("name", ["B", "K"])
def test_field_and_anisotropy_are_refused(name):
    H = Hamiltonian(**{name: 0.1})
    for question in (lambda: ground_state(H, 8), lambda: luttinger_tisza_bound(H, 8)):
        with pytest.raises(BadInput, match=f"{name}=0.1"):
            question()


def test_odd_sizes_are_refused():
    with pytest.raises(BadInput, match="size=33"):
        ground_state(Hamiltonian(), 33)
