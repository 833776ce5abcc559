"""The contract against exact laws of one spin and of the lattice; the compiled kernel against the contract."""

import math

import numpy as np
import pytest
import torch

from spinloom.anneal import anneal, relax
from spinloom.hamiltonian import Hamiltonian
from spinloom.random import texture_key
from spinloom.schedule import Schedule, Step
from spinloom.sweep import align, heat_bath, linear_field, over_relax, random_start, turn, turn_back

MODELS = {
    "exchange": Hamiltonian(J=1, D=0),
    "interfacial": Hamiltonian(J=1, D=0.3),
    "bulk": Hamiltonian(J=2, D=-0.6, dmi="bulk", B=0.1),
    "easy axis": Hamiltonian(J=1, D=0.4, B=-0.2, K=0.5),
    "easy plane": Hamiltonian(J=1, D=0.4, dmi="bulk", B=0.1, K=-0.5),
}
SIZES = [(4, 4), (8, 36), (6, 64), (128, 10)]
LIMIT = 2.2
models = pytest.mark.parametrize("H", MODELS.values(), ids=MODELS)


def energy(H: Hamiltonian, spins) -> np.ndarray:
    """E/N in float64, whatever the spins' dtype."""
    return H.energy(torch.as_tensor(spins, dtype=torch.float64)).numpy()


def even_sites(spins):
    """The sites updated first, a column each: (3, n)."""
    rows, columns = np.indices(spins.shape[-2:])
    return np.asarray(spins)[..., (rows + columns) % 2 == 0]


def kolmogorov(values, cdf) -> float:
    """√n·sup|F_n − F|, which is above LIMIT once in 8,000 cases."""
    values = np.sort(np.asarray(values, np.float64))
    steps = np.arange(len(values) + 1) / len(values)
    F = cdf(values)
    return math.sqrt(len(values)) * max(np.abs(F - steps[1:]).max(), np.abs(F - steps[:-1]).max())


# the contract ----------------------------------------------------------------------------------------------------


@models
def test_field_is_the_energys_derivative(H):
    spins = random_start((6, 8), texture_key(1, 0), dtype=np.float64)
    local = H.bond_field(torch.as_tensor(spins)).numpy()
    local[2] += H.B
    mine = linear_field(spins, H) if H.dmi == "interfacial" else turn_back(linear_field(turn(spins), H))
    np.testing.assert_allclose(mine, local, atol=1e-14)


def test_random_start_is_uniform_on_the_sphere():
    spins = np.concatenate([random_start((64, 64), texture_key(1, k)).reshape(3, -1) for k in range(4)], 1)
    np.testing.assert_allclose((spins**2).sum(0), 1, atol=1e-6)
    for component in spins:  # Archimedes: uniform along every axis
        assert kolmogorov(component, lambda z: (z + 1) / 2) < LIMIT
    assert kolmogorov(np.arctan2(spins[1], spins[0]), lambda a: a / (2 * np.pi) + 0.5) < LIMIT
    assert np.abs(np.corrcoef(spins) - np.eye(3)).max() < 4.5 / math.sqrt(spins.shape[1])


@models
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_over_relaxation_conserves_energy(H, dtype):
    H = Hamiltonian(J=H.J, D=H.D, dmi=H.dmi, B=H.B)  # with K it has to choose
    spins = random_start((8, 10), texture_key(2, 0), H.dmi, dtype)
    moved = over_relax(spins, H, 1.0, texture_key(2, 0), 1)
    eps = float(np.finfo(dtype).eps)
    assert np.abs(moved - spins).max() > 0.5
    assert energy(H, moved) == pytest.approx(energy(H, spins), abs=20 * eps)
    np.testing.assert_allclose((moved**2).sum(0), 1, atol=30 * eps)


@models
def test_alignment_never_raises_the_energy(H):
    spins = random_start((12, 14), texture_key(3, 1), H.dmi, np.float64)
    before = energy(H, spins)
    for _ in range(40):
        spins = align(spins, H)
        after = energy(H, spins)
        assert after <= before + 1e-14
        before = after


@models
def test_long_relaxation_ends_without_torque(H):
    spins = relax(random_start((12, 14), texture_key(3, 1), H.dmi), H, sweeps=3000).double()
    torque = torch.linalg.cross(spins, H.local_field(spins), dim=0)
    assert torque.abs().max() < 3e-5


@pytest.mark.parametrize("axis", [(0, 0, 1), (0, 0, -1), (1, 0, 0), (0.6, 0, -0.8), (0.48, -0.64, 0.6), (1e-4, 0, -1)])
@pytest.mark.parametrize("T", [1e4, 4.0, 0.5, 0.01])
def test_heat_bath_of_a_spin_in_a_tilted_field(axis, T):
    """In a ferromagnet along n the even sites are independent spins in the field 4n: P(c) ∝ exp(4c/T)."""
    n = np.array(axis) / np.linalg.norm(axis)
    start = np.broadcast_to(n.astype(np.float32)[:, None, None], (3, 128, 128))
    drawn = even_sites(heat_bath(start, Hamiltonian(J=1, D=0), T, texture_key(4, 2), 1)).astype(np.float64)
    x = 4 / T
    np.testing.assert_allclose((drawn**2).sum(0), 1, atol=2e-6)
    # 1 − c from the part across n where c is near 1: float32 does not hold it otherwise
    along = n @ drawn
    across = drawn - np.outer(n, along)
    fall = np.where(along > 0.5, (across**2).sum(0) / (1 + along), 1 - along)
    assert kolmogorov(fall, lambda d: -np.expm1(-x * d) / -np.expm1(-2 * x)) < LIMIT
    langevin = 1 / math.tanh(x) - 1 / x if x > 1e-2 else x / 3
    spread = math.sqrt(max(1 - langevin**2 - 2 * langevin / x, 1e-12)) if x > 1e-2 else 1 / math.sqrt(3)
    assert abs(along.mean() - langevin) < 4.5 * spread / math.sqrt(len(along)) + 1e-6
    e = np.linalg.svd(n[None])[2][1:]  # two directions across n
    azimuth = np.arctan2(e[1] @ drawn, e[0] @ drawn)
    assert kolmogorov(azimuth, lambda a: a / (2 * np.pi) + 0.5) < LIMIT
    assert abs(np.corrcoef(np.cos(azimuth), fall)[0, 1]) < 4.5 / math.sqrt(len(fall))


@pytest.mark.parametrize(
    "step", [Step(0.1, 1), Step(0.1, 0, 1), Step(relax=1)], ids=["heat bath", "over-relax", "align"]
)
def test_a_field_that_vanishes_is_harmless(step):
    """Rows and columns of + + − −: left and right, up and down cancel, h = 0 on every site at first."""
    rows, columns = np.indices((64, 64))
    spins = np.zeros((3, 64, 64), np.float32)
    spins[0] = np.where(columns // 2 % 2, 1, -1) * np.where(rows // 2 % 2, 1, -1)
    H = Hamiltonian(J=1, D=0)
    assert np.abs(linear_field(spins, H)).max() < 1e-14
    expected = by_contract(H, Schedule((step,)), texture_key(0, 0), spins)
    np.testing.assert_allclose((expected**2).sum(0), 1, atol=2e-6)
    np.testing.assert_allclose(anneal(H, start=spins, schedule=Schedule((step,)))[0], expected, atol=1e-5)
    if step.heat_bath:  # without a field, uniform on the sphere
        assert kolmogorov(even_sites(expected)[2], lambda z: (z + 1) / 2) < LIMIT


# the kernel against the contract -------------------------------------------------------------------------------


def by_contract(H: Hamiltonian, schedule: Schedule, key, spins: np.ndarray) -> np.ndarray:
    sweep = 0
    for step in schedule.steps:
        model = H if step.field is None else Hamiltonian(J=H.J, D=H.D, dmi=H.dmi, B=step.field, K=H.K)
        T = step.temperature
        for kind, count in ((heat_bath, step.heat_bath), (over_relax, step.over_relax), (align, step.relax)):
            for _ in range(count):
                sweep += 1
                spins = kind(spins, model) if kind is align else kind(spins, model, T, key, sweep)
    return spins


@models
@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize(
    ("schedule", "tolerance"),
    [
        (Schedule((Step(1e9, 1),)), 3e-5),
        (Schedule((Step(0.7, 1),)), 3e-4),
        (Schedule((Step(0.02, 1),)), 3e-4),
        (Schedule((Step(0.7, 0, 1),)), 3e-5),
        (Schedule((Step(relax=1),)), 3e-5),
        # more sweeps than one wave holds, and than rows of the smallest lattice; errors grow from sweep to sweep
        (Schedule((Step(2.0, 2, 1), Step(0.5, 2, 2, field=0.3), Step(0.05, 1, 1, 3))), 2e-3),
    ],
    ids=["hot", "heat bath", "cold", "over-relax", "align", "all"],
)
def test_kernel_is_the_contract(H, size, schedule, tolerance):
    mine = anneal(H, size, 2, seed=5, first=8, schedule=schedule)[1].numpy()
    key = texture_key(5, 9)
    for dtype in (np.float32, np.float64):
        expected = by_contract(H, schedule, key, random_start(size, key, H.dmi, dtype))
        assert np.abs(mine - expected).max() < tolerance
        assert np.median(np.abs(mine - expected)) < max(1e-6, tolerance / 400)


# equilibrium -----------------------------------------------------------------------------------------------------


def lone_spins(H: Hamiltonian, T: float, schedule: Schedule, samples: int = 8) -> np.ndarray:
    """Spins with next to no bonds: J is 10⁻⁵ of everything else. All sites of all textures, (3, n)."""
    spins = anneal(Hamiltonian(J=1e-5, D=0, B=H.B, K=H.K, dmi=H.dmi), 64, samples, seed=12, schedule=schedule)
    return spins.numpy().transpose(1, 0, 2, 3).reshape(3, -1)


@pytest.mark.parametrize(
    ("B", "K", "T"),
    [(1.0, 0.0, 0.5), (0.0, 1.0, 0.3), (0.4, 1.5, 0.6), (0.3, -1.0, 0.2), (-1.0, -2.0, 1.0), (0.0, -3.0, 0.5)],
)
@pytest.mark.parametrize("kind", ["heat bath", "with over-relaxation"])
def test_law_of_a_spin_with_anisotropy(B, K, T, kind):
    """S_z follows ∝ exp((B z + K z²)/T), by direct integration."""
    over = 0 if kind == "heat bath" else 2
    spins = lone_spins(Hamiltonian(B=B, K=K), T, Schedule.constant(T, 60, over_relax=over))
    z = np.linspace(-1, 1, 20001)
    weight = np.exp((B * z + K * z * z - max(abs(B) + K, 0)) / T)
    below = np.concatenate(([0], np.cumsum((weight[1:] + weight[:-1]) / 2)))
    assert kolmogorov(spins[2], lambda v: np.interp(v, z, below / below[-1])) < LIMIT
    assert kolmogorov(np.arctan2(spins[1], spins[0]), lambda a: a / (2 * np.pi) + 0.5) < LIMIT


def mean_energy(H: Hamiltonian, T: float, over_relax: int, size: int = 64, chains: int = 24, rounds: int = 30):
    """⟨E/N⟩ and its standard error from independent chains, so that autocorrelation cannot flatter it."""
    cool = Schedule.geometric(max(2.0, 2 * T), T, steps=40, heat_bath=1, over_relax=over_relax)
    spins = anneal(H, size, chains, seed=21, schedule=cool.then(Schedule.constant(T, 100, over_relax)))
    means = torch.zeros(chains, dtype=torch.float64)
    for number in range(rounds):
        spins = anneal(H, start=spins, seed=22 + number, schedule=Schedule.constant(T, 6, over_relax))
        means += H.energy(spins).double() / rounds
    return float(means.mean()), float(means.std() / math.sqrt(chains))


@pytest.mark.parametrize(
    ("D", "T", "reference", "error"),
    [
        # an independent heat-bath program at L = 64, one σ
        (0.0, 2.0, -0.3462, 0.0002),
        (0.0, 1.0, -0.7599, 0.0002),
        (0.0, 0.25, -1.7408, 0.0001),
        (0.3, 1.0, -0.8091, 0.0002),
        (0.3, 0.5, -1.4912, 0.0002),
    ],
)
def test_equilibrium_energies(D, T, reference, error):
    found, mine = mean_energy(Hamiltonian(J=1, D=D), T, over_relax=4)
    assert mine < 0.0015
    assert abs(found - reference) < 4 * math.hypot(mine, error)


def test_high_temperature_limit():
    """E/N → −2 (3J² + 2D²)/(9T), from the second moment of a bond; the next order is 10⁻³ of it here."""
    J, D, T = 1.0, 0.8, 40.0
    found, mine = mean_energy(Hamiltonian(J=J, D=D), T, over_relax=0, rounds=100)
    expected = -2 * (3 * J**2 + 2 * D**2) / (9 * T)
    assert mine < 0.03 * abs(expected)
    assert abs(found - expected) < 4 * mine + 2e-3 * abs(expected)


@pytest.mark.parametrize("K", [0.6, -0.6])
def test_over_relaxation_with_anisotropy_keeps_the_equilibrium(K):
    H = Hamiltonian(J=1, D=0.3, B=0.1, K=K)
    (alone, a), (mixed, b) = (mean_energy(H, 0.7, over_relax=n, size=32, rounds=60) for n in (0, 4))
    assert max(a, b) < 0.003
    assert abs(alone - mixed) < 4 * math.hypot(a, b)


@models
def test_relax_lowers_the_energy_sweep_by_sweep(H):
    spins = anneal(H, (16, 20), 3, seed=1, schedule=Schedule.constant(1.0, 5))
    before = energy(H, spins)
    for _ in range(30):
        spins = relax(spins, H, sweeps=1)
        after = energy(H, spins)
        assert (after <= before + 1e-7).all()
        before = after
