"""No texture the package makes lies below the ground state: a property of every texture, whoever made it.

At B = K = 0 the floor is ``ground_state``, which the Luttinger–Tisza argument proves. With a field or an
anisotropy the package names no ground state; the same argument still gives a floor, :func:`floor` below.
"""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from spinloom.anneal import anneal, relax
from spinloom.hamiltonian import Hamiltonian
from spinloom.networks import NetworkConfig
from spinloom.objectives import OBJECTIVES
from spinloom.octahedral import decode, encode
from spinloom.run import Run, build_networks
from spinloom.sample import sample
from spinloom.schedule import Schedule
from spinloom.spiral import ground_state, spiral, spiral_energy
from spinloom.symmetry import random_symmetry

SIZES = [(4, 4), (4, 6), (6, 6), (8, 4), (8, 8), (4, 16), (10, 12), (16, 16)]
ROUNDING = 1e-12

quick = settings(max_examples=100, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
couplings = st.floats(0.2, 3), st.floats(-2, 2), st.sampled_from(["interfacial", "bulk"])
makers = st.sampled_from(["random", "annealed", "relaxed", "spiral", "disturbed spiral", "stored", "moved"])


def make(kind: str, H: Hamiltonian, size: tuple[int, int], draw: np.random.Generator) -> torch.Tensor:
    """Textures (n, 3, H, W) of one kind, as the package gives them."""
    seed = int(draw.integers(2**32))
    hot = Schedule.constant(10.0 ** draw.uniform(-3, 1) * H.J, 3, over_relax=1)
    if kind == "random":
        return anneal(H, size, 4, seed, schedule=hot)
    cool = Schedule.geometric(2 * H.J, 0.01 * H.J, steps=20, over_relax=2)
    if kind == "annealed":
        return anneal(H, size, 4, seed, schedule=cool)
    n, m = (int(draw.integers(side)) for side in (size[1], size[0]))
    if kind == "spiral":
        return spiral(H, size, n, m, float(draw.uniform(0, 7)))[None]
    if kind == "disturbed spiral":
        best = ground_state(Hamiltonian(J=H.J, D=H.D, dmi=H.dmi), size).spins
        noisy = best + 10.0 ** draw.uniform(-4, 0) * torch.from_numpy(draw.standard_normal((3, 3, *size)))
        return relax(noisy / noisy.norm(dim=1, keepdim=True), H, sweeps=int(draw.integers(200)))
    deep = anneal(H, size, 4, seed, schedule=cool.then_relax(int(draw.integers(1, 300))))
    if kind == "stored":
        return decode(encode(deep))
    return random_symmetry(deep, H, draw) if kind == "moved" else deep


def exactly(spins: torch.Tensor) -> torch.Tensor:
    """The same directions with lengths 1 in float64, so that rounding of the lengths cannot lower the energy."""
    spins = spins.double()
    return spins / spins.norm(dim=-3, keepdim=True)


def floor(H: Hamiltonian, size: tuple[int, int]) -> float:
    """A lower bound on E/N for any B and K: all that is asked of the Fourier components S_q is Σ|S_q|² = 1.

    With s the z component at q = 0 and λ the lowest eigenvalue of all M(q) − K ẑẑᵀ, the energy is at least
    −(2J + K) s² − |B| |s| + λ (1 − s²); the floor is the least of that over |s| ≤ 1. M(q) is read off the field
    that one spin makes around it, so it shares no formula with ``ground_state``.
    """
    impulse = torch.zeros(3, 3, *size, dtype=torch.float64)
    for component in range(3):
        impulse[component, component, 0, 0] = 1
    response = -0.5 * torch.fft.fft2(H.bond_field(impulse)).permute(2, 3, 1, 0)  # (q_y, q_x, field, spin)
    response[..., 2, 2] -= H.K
    lowest = torch.linalg.eigvalsh(response).min().item()
    bend, B = lowest + 2 * H.J + H.K, abs(H.B)  # never positive: λ is at most the eigenvalue at q = 0
    s = min(1.0, B / (-2 * bend)) if bend < 0 else 1.0
    return lowest - bend * s * s - B * s


@quick
@given(*couplings, st.sampled_from(SIZES), makers, st.integers(0, 2**32 - 1))
def test_no_texture_lies_below_the_ground_state(J, D, dmi, size, kind, seed):
    H = Hamiltonian(J=J, D=D * J, dmi=dmi)
    lowest = ground_state(H, size).energy_excess
    spins = make(kind, H, size, np.random.default_rng(seed))
    scale = J + abs(H.D)
    assert H.energy_excess(exactly(spins)).min() >= lowest - ROUNDING * scale
    assert H.energy_excess(spins).double().min() >= lowest - 3e-6 * scale  # as users see it, in float32


@quick
@given(*couplings, st.floats(-3, 3), st.floats(-2, 2), st.sampled_from(SIZES), makers, st.integers(0, 2**32 - 1))
def test_nor_below_the_floor_with_field_and_anisotropy(J, D, dmi, B, K, size, kind, seed):
    H = Hamiltonian(J=J, D=D * J, dmi=dmi, B=B * J, K=K * J)
    spins = make(kind, H, size, np.random.default_rng(seed))
    assert H.energy(exactly(spins)).min() >= floor(H, size) - ROUNDING * (J + abs(H.D) + abs(H.B) + abs(H.K))


@pytest.mark.parametrize("dmi", ["interfacial", "bulk"])
def test_the_floor_is_sharp_where_the_answer_is_known(dmi):
    for size in SIZES:
        for D in (0.0, 0.7, -1.6):
            H = Hamiltonian(J=1.3, D=D, dmi=dmi)
            assert floor(H, size) == pytest.approx(ground_state(H, size).energy, abs=1e-12)
        field = Hamiltonian(J=1.3, D=0.4, dmi=dmi, B=-9, K=0.3)  # aligned by the field
        assert floor(field, size) == pytest.approx(-2 * 1.3 - 9 - 0.3, abs=1e-12)
    plane = Hamiltonian(J=1, D=0, dmi=dmi, B=0.5, K=-0.8)  # tilted out of the plane: −2 − B²/(4|K|)
    assert floor(plane, (8, 8)) == pytest.approx(-2 - 0.5**2 / 3.2, abs=1e-12)


@pytest.mark.parametrize(("B", "K"), [(0.05, 0.0), (0.3, 0.0), (0.0, 0.3), (0.0, -0.4), (0.2, -0.5), (0.1, 0.2)])
def test_the_floor_is_not_idle(B, K):
    """Cold textures come to within a few percent of J of it, so a wrong sign of B or K would be caught."""
    H = Hamiltonian(J=1, D=0.8, B=B, K=K)
    cool = Schedule.geometric(1.0, 0.01, steps=200, over_relax=4).then_relax(300)
    energies = H.energy(exactly(anneal(H, 16, 8, seed=3, schedule=cool)))
    assert floor(H, (16, 16)) - ROUNDING < energies.min() < floor(H, (16, 16)) + 0.08


@pytest.mark.parametrize("D", [0.3, 0.6, -1.2])
def test_relaxation_returns_to_the_ground_state_and_stops_there(D):
    """From a disturbed ground state, 2,000 sweeps end on it to float32's rounding: the bound is attained."""
    H = Hamiltonian(J=1, D=D)
    best = ground_state(H, 32)
    noise = torch.randn(4, 3, 32, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(5))
    start = best.spins + 0.05 * noise
    excess = H.energy_excess(exactly(relax(start / start.norm(dim=1, keepdim=True), H, sweeps=2000)))
    assert excess.min() >= best.energy_excess - ROUNDING
    assert excess.max() < best.energy_excess + 1e-6


@pytest.mark.parametrize("relaxed", [0, 1, 100])
@pytest.mark.parametrize("method", ["prior", "ddls"])
def test_generated_textures_lie_above_too(method, relaxed):
    """A generator out of the box, its samples, and what discriminator-driven steps and relaxation make of them."""
    H = Hamiltonian(J=1, D=0.3)
    config = NetworkConfig(size=(32, 32), latent=8, generator=4, discriminator=4, encoder=4, widest=8)
    nets = build_networks(config, OBJECTIVES["hybrid"]().players, seed=5)
    for net in nets.values():
        net.eval().requires_grad_(False)
    run = Run(Path("nowhere"), 0, {"objective": "hybrid"}, config, H, nets)
    spins = sample(run, 8, method=method, steps=3, seed=1, relax=relaxed)
    assert H.energy_excess(exactly(spins)).min() >= ground_state(H, 32).energy_excess - ROUNDING


# the table -------------------------------------------------------------------------------------------------------


def test_the_table_of_exact_minima():
    """ε and q of the lowest spirals of some boxes, and of the infinite lattice."""
    table = {
        (128, 0.3): [
            ((5, 3), -0.044362),
            ((4, 4), -0.044340),
            ((5, 4), -0.044299),
            ((6, 1), -0.044057),
            ((6, 0), -0.044026),
        ],
        (64, 0.3): [((2, 2), -0.044340)],
        (64, 0.6): [((4, 4), -0.172477)],
        (32, 0.6): [((2, 2), -0.172477)],
    }
    for (side, D), spirals in table.items():
        H = Hamiltonian(J=1, D=D)
        found = ground_state(H, side)
        assert found.q == spirals[0][0]
        assert found.energy_excess == pytest.approx(spirals[0][1], abs=5e-7)
        for (n, m), excess in spirals:
            assert spiral_energy(H, side, n, m) + 2 == pytest.approx(excess, abs=5e-7)
    assert ground_state(Hamiltonian(J=1, D=0.3), 2048).energy_excess == pytest.approx(-0.044505, abs=1e-6)


@pytest.mark.parametrize("D", [0.1, 0.3, 0.9, 2.5])
def test_boxes_do_not_go_below_the_infinite_lattice(D):
    """There q is free and the best lies on a diagonal: tan q = D/(√2 J), ε = 2J − √(4J² + 2D²)."""
    H = Hamiltonian(J=1, D=D)
    infinite = 2 - math.sqrt(4 + 2 * D**2)
    for side in (4, 6, 14, 50, 128):
        assert ground_state(H, side).energy_excess >= infinite - ROUNDING
    assert ground_state(H, 1024).energy_excess == pytest.approx(infinite, abs=2e-5)
