"""SI units against the micromagnetic energy itself, and published materials against the formulas of their films."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

import spinloom as sl
from spinloom.errors import BadInput
from spinloom.hamiltonian import Hamiltonian
from spinloom.micromagnetic import Micromagnetic
from spinloom.spiral import ground_state

# FeGe: Beg et al., Sci. Rep. 5, 17137 (2015)
FEGE = Micromagnetic(A=8.78e-12, D=1.58e-3, Ms=3.84e5, cell=2e-9, thickness=10e-9, dmi="bulk")
# Co/Pt: Rohart & Thiaville, Phys. Rev. B 88, 184422 (2013); their D is varied, this one is below the critical
COPT = Micromagnetic(A=16e-12, D=2e-3, Ms=1.1e6, Ku=510e3, cell=1e-9, thickness=0.6e-9)
# PdFe/Ir(111): Romming et al., Phys. Rev. Lett. 114, 177203 (2015)
PDFE = Micromagnetic(A=2e-12, D=3.9e-3, Ms=1.1e6, Ku=2.5e6, B=1.5, cell=0.3e-9, thickness=0.4e-9)

both = pytest.mark.parametrize("dmi", ["interfacial", "bulk"])


def film(dmi: str = "interfacial", **changes) -> Micromagnetic:
    side = 100e-9
    values = {"A": 1e-11, "D": 2e-3, "Ms": 8e5, "Ku": 3e5, "B": 0.4, "cell": side / 64, "thickness": 2e-9}
    return Micromagnetic(**(values | changes), dmi=dmi)


def smooth(n: int) -> Tensor:
    """A smooth field of unit vectors on n × n points, the same function whatever n is."""
    y, x = torch.meshgrid(*[2 * math.pi * torch.arange(n, dtype=torch.float64) / n] * 2, indexing="ij")
    polar = 1.1 + 0.8 * torch.sin(x) + 0.5 * torch.cos(y - x)
    azimuth = 0.7 + 0.9 * torch.cos(y) - 0.6 * torch.sin(x + y)
    return torch.stack((polar.sin() * azimuth.cos(), polar.sin() * azimuth.sin(), polar.cos()))


def gradients(m: Tensor, side: float) -> tuple[Tensor, Tensor]:
    """∂m/∂x and ∂m/∂y by Fourier: exact for what the grid resolves."""
    q = 2j * math.pi * torch.fft.fftfreq(m.shape[-1], dtype=torch.float64) * m.shape[-1] / side
    transform = torch.fft.fft2(m)
    return torch.fft.ifft2(q * transform).real, torch.fft.ifft2(q[:, None] * transform).real


def continuum(given: Micromagnetic, side: float) -> float:
    """The energy per volume of :func:`smooth`, in J/m³, term by term as the class states it."""
    m = smooth(256)
    by_x, by_y = gradients(m, side)
    exchange = given.A * (by_x.square() + by_y.square()).sum(0)
    if given.dmi == "interfacial":
        dmi = (m[0] * by_x[2] + m[1] * by_y[2]) - m[2] * (by_x[0] + by_y[1])
    else:  # m · (∇ × m), nothing depends on z
        dmi = m[0] * by_y[2] - m[1] * by_x[2] + m[2] * (by_x[1] - by_y[0])
    local = -given.Ku * m[2].square() - given.Ms * given.B * m[2]
    return (exchange + given.D * dmi + local).mean().item()


def lattice(given: Micromagnetic, n: int) -> float:
    H = Hamiltonian(**given.couplings)
    energy = given.joule(H.energy(smooth(n)).item() + 2 * H.J)  # −2J is the exchange energy of the uniform state
    return energy / (given.cell**2 * given.thickness)


@both
@pytest.mark.parametrize(
    "without", [("D", "Ku", "B"), ("Ku", "B"), ("D", "B"), ("D", "Ku"), ()], ids=["A", "D", "Ku", "B", "all"]
)
def test_the_lattice_has_the_energy_of_the_film(dmi, without):
    """In joule, for a field of spins that is no special state, and with an error that goes as the cell squared."""
    side = 100e-9
    errors = []
    for n in (64, 128):
        given = film(dmi, cell=side / n, **dict.fromkeys(without, 0.0))
        exact = continuum(given, side)
        errors.append(lattice(given, n) / exact - 1)
    assert abs(errors[1]) < 2e-3
    assert errors[0] / errors[1] == pytest.approx(4, rel=0.1)


@both
def test_the_dmi_field_is_that_of_the_programs(dmi):
    """Ubermag's D; mumax³'s Dbulk is D, its Dind is −D, in the effective fields that its article gives."""
    side, n = 100e-9, 256
    given = film(dmi, cell=side / n)
    spins = smooth(n)
    H = Hamiltonian(**given.couplings)
    found = given.tesla(H.bond_field(spins) - replace(H, D=0.0).bond_field(spins))
    by_x, by_y = gradients(spins, side)
    if dmi == "interfacial":
        dind = -given.D
        expected = 2 * dind / given.Ms * torch.stack((by_x[2], by_y[2], -by_x[0] - by_y[1]))
    else:
        dbulk = given.D
        expected = -2 * dbulk / given.Ms * torch.stack((by_y[2], -by_x[2], by_x[1] - by_y[0]))
    assert (found - expected).abs().max() < 0.02 * expected.abs().max()


@both
def test_films_come_back_from_the_lattice(dmi):
    given = film(dmi, D=-1.3e-3, Ku=-2e5, B=-0.7)
    H = Hamiltonian.from_micromagnetic(**given.as_dict())
    assert pytest.approx(1) == H.J
    back = H.to_micromagnetic(given.cell, given.thickness, J=given.J, Ms=given.Ms)
    assert back.dmi == dmi
    assert back.as_dict() | {"dmi": 0} == pytest.approx(given.as_dict() | {"dmi": 0}, rel=1e-14)
    # and the other way round, from a lattice whose unit is not J
    H = Hamiltonian(J=2.5, D=0.7, dmi=dmi, B=0.1, K=-0.3)
    there = H.to_micromagnetic(cell=1e-9, thickness=5e-10, J=3e-21, Ms=5e5)
    again = Hamiltonian(**there.couplings)
    for name in ("D", "B", "K"):
        assert getattr(again, name) == pytest.approx(getattr(H, name) / H.J, rel=1e-14)


def test_arguments_may_come_in_the_fields_order():
    given = film(D=1e-3, B=0.1)
    values = (given.A, given.D, given.Ms, given.Ku, given.B, given.cell, given.thickness)
    assert Hamiltonian.from_micromagnetic(*values) == Hamiltonian(**given.couplings)


def test_units_and_their_inverses():
    given = film()
    assert given.joule(1.0) == given.J == pytest.approx(2 * 1e-11 * 2e-9)
    assert given.kelvin(1.0) == pytest.approx(4e-20 / 1.380649e-23)
    assert given.tesla(1.0) * given.moment == pytest.approx(given.J)
    assert given.metres(64) == pytest.approx(100e-9)
    values = np.array([0.0, 0.3, -2.0])
    np.testing.assert_allclose(given.temperature(given.kelvin(values)), values, rtol=1e-14)
    np.testing.assert_allclose(given.field(given.tesla(values)), values, rtol=1e-14)
    np.testing.assert_allclose(given.sites(given.metres(values)), values, rtol=1e-14)
    # a moment in a field: the same energy in joule by either way
    up = torch.zeros(3, 4, 4, dtype=torch.float64)
    up[2] = 1
    bare, filmed = Hamiltonian(**replace(given, B=0.0).couplings), Hamiltonian(**given.couplings)
    zeeman = given.joule((filmed.energy(up) - bare.energy(up)).item())
    assert zeeman == pytest.approx(-given.moment * given.B)


def test_the_thickness_sets_the_unit_and_nothing_else():
    thin, thick = film(), film(thickness=4e-9)
    assert thick.couplings == thin.couplings
    assert pytest.approx(2 * thin.J) == thick.J
    assert thick.tesla(0.1) == pytest.approx(thin.tesla(0.1))


def relaxed_pair_of_walls(given: Micromagnetic, sites: int) -> tuple[float, float, Tensor]:
    """(energy of a wall per area in J/m², its width π/max|θ′| in m, spins) from two walls in a periodic strip."""
    H = Hamiltonian(**given.couplings)
    width = math.sqrt(given.A / given.Ku) / given.cell
    x = torch.arange(sites, dtype=torch.float64) + 0.5
    angle = sum(2 * torch.atan(torch.exp((x - centre) / width)) for centre in (sites / 4, 3 * sites / 4))
    start = torch.stack((angle.sin(), 0 * angle, angle.cos()))[:, None].expand(3, 4, sites)
    spins = sl.relax(start.float(), H, sweeps=500).double()
    energy = given.joule(H.energy_excess(spins).item() * sites) / 2 / (given.cell * given.thickness)
    turned = np.unwrap(torch.atan2(spins[0, 0], spins[2, 0]).numpy())
    return energy, math.pi / np.abs(np.gradient(turned, given.cell)).max(), spins


def test_walls_of_a_cobalt_film():
    """σ = 4√(A K) − πD and π√(A/K), the error going as the cell squared; spins along −∇m_z for D > 0."""
    sigma = 4 * math.sqrt(COPT.A * COPT.Ku) - math.pi * COPT.D
    width = math.pi * math.sqrt(COPT.A / COPT.Ku)
    off_energy, off_width = [], []
    for cell in (2e-9, 1e-9):
        found, wide, spins = relaxed_pair_of_walls(replace(COPT, cell=cell), round(128e-9 / cell))
        off_energy.append(found / sigma - 1)
        off_width.append(wide / width - 1)
    assert abs(off_energy[1]) < 1e-3
    assert off_energy[0] / off_energy[1] == pytest.approx(4, rel=0.15)
    assert abs(off_width[1]) < 0.01
    assert off_width[0] / off_width[1] == pytest.approx(4, rel=0.15)
    slope = spins[2].roll(-1, -1) - spins[2].roll(1, -1)
    steep = slope.abs() > 0.05
    assert steep.any()
    assert (spins[0][steep] * slope[steep] < 0).all()
    # with the other sign of D these walls turn the wrong way, and cost what the right ones gain
    H = Hamiltonian(**replace(COPT, D=-COPT.D).couplings)
    wrong = COPT.joule(H.energy_excess(spins).item() * 128) / 2 / (COPT.cell * COPT.thickness)
    assert wrong == pytest.approx(sigma + 2 * math.pi * COPT.D, rel=2e-3)


def test_feges_period_is_70_nanometres():
    """4πA/D = 69.8 nm in the continuum, on the lattice a little more, as the ground state of long boxes shows."""
    assert 4 * math.pi * FEGE.A / FEGE.D == pytest.approx(69.8e-9, abs=1e-10)
    fine = replace(FEGE, cell=1e-9)
    H = Hamiltonian(**fine.couplings)
    energies = {width: ground_state(H, (4, width)).energy_excess for width in range(60, 82, 2)}
    best = min(energies, key=lambda width: energies[width])
    assert fine.metres(best) == pytest.approx(70e-9)
    assert fine.period == pytest.approx(70e-9, rel=0.01)
    # −D²/4A, the energy of the continuum's spiral per volume
    density = fine.joule(energies[best]) / (fine.cell**2 * fine.thickness)
    assert density == pytest.approx(-(FEGE.D**2) / (4 * FEGE.A), rel=5e-3)
    # the period's error in n cells a period is (2π/n)²/3, to the next order
    for cells in (36, 20, 10):
        coarse = replace(FEGE, cell=4 * math.pi * FEGE.A / FEGE.D / cells)
        share = coarse.period / (4 * math.pi * FEGE.A / FEGE.D) - 1
        assert share == pytest.approx((2 * math.pi / cells) ** 2 / 3, rel=0.1)
    assert replace(FEGE, D=0.0).period == math.inf


def spiral(sites: int, dmi: str) -> Tensor:
    angle = 2 * math.pi * torch.arange(sites, dtype=torch.float64) / sites
    across = torch.stack((angle.sin(), 0 * angle, angle.cos()))
    return turned(across, dmi)[:, None].expand(3, 4, sites)


def turned(neel: Tensor, dmi: str) -> Tensor:
    """Néel spins for the interfacial model; by −90° about z for the bulk one."""
    return neel if dmi == "interfacial" else torch.stack((neel[1], -neel[0], neel[2]))


def skyrmions(width: int, height: int, radius: float, dmi: str) -> Tensor:
    """Two cores, at a quarter and at three quarters of the box's diagonal: with height = √3 width, hexagonal."""
    y, x = torch.meshgrid(
        torch.arange(height, dtype=torch.float64), torch.arange(width, dtype=torch.float64), indexing="ij"
    )
    away = torch.full_like(x, math.inf)
    across, along = torch.zeros_like(x), torch.zeros_like(y)
    for part in (0.25, 0.75):
        to_x = (x / width - part + 0.5) % 1 * width - width / 2
        to_y = (y / height - part + 0.5) % 1 * height - height / 2
        nearer = torch.hypot(to_x, to_y) < away
        away = torch.where(nearer, torch.hypot(to_x, to_y), away)
        across, along = torch.where(nearer, to_x, across), torch.where(nearer, to_y, along)
    angle = math.pi * (1 - (away / radius).clamp(max=1))
    inward = -angle.sin() / away.clamp(min=1e-9)
    return turned(torch.stack((inward * across, inward * along, angle.cos())), dmi)


@both
def test_feges_phases_follow_each_other_as_the_field_rises(dmi):
    """Spiral → skyrmion lattice → uniform at 0.22 and 0.80 of D²/(2A M_s), 370 mT, by energies at T = 0.

    Source: Bogdanov & Hubert, J. Magn. Magn. Mater. 138, 255 (1994), for the sequence.
    """
    given = replace(FEGE, cell=2.2e-9, dmi=dmi)
    scale = given.D**2 / (2 * given.A * given.Ms)
    assert scale == pytest.approx(0.370, abs=1e-3)

    def lowest(tesla: float, starts: list[Tensor]) -> tuple[float, Tensor]:
        H = Hamiltonian(**replace(given, B=tesla).couplings)
        ends = [sl.relax(start.float(), H, sweeps=1000) for start in starts]
        return min(((H.energy_excess(end.double()).item(), end) for end in ends), key=lambda pair: pair[0])

    spirals = [spiral(sites, dmi) for sites in (30, 32, 34)]
    hexagons = [skyrmions(width, height, width / 2, dmi) for width, height in ((36, 64), (38, 66), (40, 70))]
    wide = [skyrmions(width, height, 20, dmi) for width, height in ((52, 90), (60, 104), (92, 160))]

    gain = []
    for share in (0.18, 0.26):
        (of_spiral, _), (of_lattice, spins) = lowest(share * scale, spirals), lowest(share * scale, hexagons)
        assert sl.charge(spins).item() == pytest.approx(-2)
        gain.append(of_spiral - of_lattice)
    assert gain[0] < 0 < gain[1]
    crossing = 0.18 + 0.08 * gain[0] / (gain[0] - gain[1])
    assert crossing == pytest.approx(0.22, abs=0.01)
    for share in (0.4, 0.6):  # far below both neighbours
        lattice_energy, _ = lowest(share * scale, hexagons)
        spiral_energy, _ = lowest(share * scale, spirals)
        assert lattice_energy < min(0.0, spiral_energy)
    assert lowest(0.77 * scale, wide)[0] < 0 < lowest(0.83 * scale, wide)[0]


def profile(given: Micromagnetic, reach: float, nodes: int) -> tuple[float, float]:
    """(energy per thickness in J/m, radius in m) of the continuum's isolated skyrmion, by its radial equation's
    energy 2π∫r dr [A(θ′² + sin²θ/r²) + D(θ′ + sinθ cosθ/r) + Ku sin²θ + M_s B(1 − cosθ)] brought to rest."""
    r = torch.linspace(0, reach, nodes + 1, dtype=torch.float64)
    middle, step = (r[1:] + r[:-1]) / 2, reach / nodes
    ends = torch.tensor([math.pi], dtype=torch.float64), torch.zeros(1, dtype=torch.float64)

    def energy(inner: Tensor) -> Tensor:
        angle = torch.cat((ends[0], inner, ends[1]))
        slope, mean = (angle[1:] - angle[:-1]) / step, (angle[1:] + angle[:-1]) / 2
        density = given.A * (slope**2 + (mean.sin() / middle) ** 2) + given.Ku * mean.sin() ** 2
        density = density + given.D * (slope + mean.sin() * mean.cos() / middle)
        return 2 * math.pi * step * (middle * (density + given.Ms * given.B * (1 - mean.cos()))).sum() / given.A

    angle = 2 * torch.atan(torch.exp(-(r[1:-1] - 1.5e-9) / math.sqrt(given.A / given.Ku)))
    for _ in range(60):  # Newton's method, in steps of at most 0.3 rad
        slope = torch.autograd.functional.jacobian(energy, angle)
        curved = torch.autograd.functional.hessian(energy, angle, vectorize=True)
        move = torch.linalg.solve(curved, -slope)
        angle = angle + move * min(1.0, 0.3 / move.abs().max().item())
        if move.abs().max() < 1e-10:
            break
    assert torch.linalg.eigvalsh(curved).min() > 0  # a minimum
    last = int((angle > math.pi / 2).nonzero().max())
    part = (angle[last] - math.pi / 2) / (angle[last] - angle[last + 1])
    return energy(angle).item() * given.A, (r[last + 1] + part * step).item()


def test_an_isolated_skyrmion_of_pdfe_has_the_continuums_radius():
    """A, D, Ku and B together, against the radial equation: 1.4 nm at 1.5 T, Q = −1, spins inward."""
    energy, radius = profile(PDFE, reach=8e-9, nodes=500)
    off_radius, off_energy = [], []
    for cell in (0.4e-9, 0.2e-9):
        given = replace(PDFE, cell=cell)
        H = Hamiltonian(**given.couplings)
        n = round(16e-9 / cell)
        place = (torch.arange(n, dtype=torch.float64) - (n - 1) / 2) * cell
        y, x = torch.meshgrid(place, place, indexing="ij")
        away = torch.hypot(x, y)
        angle = 2 * torch.atan(torch.exp(-(away - 1.5e-9) / math.sqrt(given.A / given.Ku)))
        start = torch.stack((-angle.sin() * x / away, -angle.sin() * y / away, angle.cos()))
        spins = sl.relax(start.float(), H, sweeps=2000).double()
        assert sl.charge(spins).item() == pytest.approx(-1)
        assert (spins[0] * x + spins[1] * y)[(away < 3e-9) & (spins[2].abs() < 0.9)].max() < 0
        # the radius from where m_z changes sign along the row next to the centre
        along_x, along_z = away[n // 2, n // 2 :], spins[2, n // 2, n // 2 :]
        k = int((along_z > 0).nonzero().min())
        part = along_z[k - 1] / (along_z[k - 1] - along_z[k])
        off_radius.append((along_x[k - 1] + part * (along_x[k] - along_x[k - 1])).item() / radius - 1)
        off_energy.append(given.joule(H.energy_excess(spins).item() * n * n) / given.thickness - energy)
    assert radius == pytest.approx(1.41e-9, rel=0.01)
    assert abs(off_radius[1]) < 0.003
    assert abs(off_radius[0]) > 2 * abs(off_radius[1])
    assert off_energy[0] / off_energy[1] == pytest.approx(4, rel=0.15)


@both
@pytest.mark.parametrize("K", [0.4, 0.0, -0.4])
@pytest.mark.parametrize("B", [0.3, -0.3])
def test_relaxing_never_raises_the_energy(dmi, B, K):
    H = Hamiltonian(D=0.5, dmi=dmi, B=B, K=K)
    spins = sl.anneal(H, 16, 2, seed=3, schedule=sl.Schedule.constant(1.0, 3))
    energies = [H.energy(spins.double())]
    for _ in range(40):
        spins = sl.relax(spins, H, sweeps=1)
        energies.append(H.energy(spins.double()))
    falls = torch.stack(energies).diff(dim=0)
    assert falls.max() < 1e-7  # float32's rounding of 256 spins
    assert falls.sum() < -0.1


def test_a_ramp_in_one_schedule_ends_where_its_steps_do():
    """A field for every step is what the same steps do one by one, up to the random numbers."""
    H = Hamiltonian(D=0.5)
    start = sl.anneal(H, 32, 8, seed=0)
    fields = [0.05, 0.1, 0.15]
    hold = sl.Schedule.constant(0.4, 150, over_relax=2)
    whole = hold.then(hold).then(hold).with_field([b for b in fields for _ in range(150)])
    at_once = sl.anneal(H, start=start, schedule=whole, seed=1)
    spins = start
    for seed, b in enumerate(fields, start=2):
        spins = sl.anneal(replace(H, B=b), start=spins, schedule=hold, seed=seed)
    end = replace(H, B=fields[-1])
    one, other = (sl.relax(s, end, 100) for s in (at_once, spins))
    spread = math.hypot(*(s[:, 2].mean((-2, -1)).std().item() / math.sqrt(8) for s in (one, other)))
    assert abs((one[:, 2].mean() - other[:, 2].mean()).item()) < 4 * spread
    assert one[:, 2].mean() > start[:, 2].mean() + 0.2


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        ({"A": 0}, "A=0"),
        ({"A": -1e-11}, "A=-1e-11"),
        ({"Ms": 0.0}, "Ms=0"),
        ({"cell": -2e-9}, "cell=-2e-09"),
        ({"thickness": 0}, "thickness=0"),
        ({"D": math.nan}, "D=nan"),
        ({"Ku": math.inf}, "Ku=inf"),
        ({"B": -math.inf}, "B=-inf"),
    ],
)
def test_refusals_name_the_value(changes, names):
    values = FEGE.as_dict() | changes
    for make in (lambda: Micromagnetic(**values), lambda: Hamiltonian.from_micromagnetic(**values)):
        with pytest.raises(ValueError, match=names.replace("+", r"\+")):
            make()


def test_more_refusals():
    with pytest.raises(BadInput, match="cell=None"):
        Hamiltonian.from_micromagnetic(1e-11, 1e-3, 1e6, thickness=1e-9)
    with pytest.raises(BadInput, match="thickness=None"):
        Hamiltonian.from_micromagnetic(1e-11, 1e-3, 1e6, cell=1e-9)
    right = {"cell": 1e-9, "thickness": 1e-9, "J": 1e-20, "Ms": 1e6}
    for name in right:
        for value in (0, -1.0, math.nan, math.inf):
            with pytest.raises(BadInput, match=f"{name}="):
                Hamiltonian().to_micromagnetic(**(right | {name: value}))
