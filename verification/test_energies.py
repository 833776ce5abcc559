"""Energies of the lattice: high and low temperature, the configurational temperature, an independent program.

High T, D = 0: the character expansion, of which the first term left out is of order (J/T)⁷. High T, D ≠ 0: the free
energy to fourth order in 1/T, exact in D. Low T, D = 0: spin waves to fourth order in T, with the box's exact
first order. Low T in a field that aligns the spins: M_z = 1 − T (1/N) Σ_q 1/ω_q. Low T of the spiral ground state:
E/N → e_0 + T (1 − 1/(2N)), as every mode but the slide of the spiral's phase has T/2. See verification/exact.py.

At any T, with any coupling: ⟨|S × H|²⟩ = T ⟨2 S·h − 2K (1 − 3 S_z²)⟩, an identity that needs no reference; it is exact
in equilibrium and tells T from the textures alone, see verification/runs.py. It is local, so it says nothing of
states that are metastable.

Reference energies of long runs of an independent C program, at L = 64, are the last comparison. All of them are met
but one that is no equilibrium: the program's −1.9386 at D = 0.3 J, T = 0.1 J was quenched from random. Both are
reported.
"""

import math

import exact
import numpy as np
import proofs
import pytest
from runs import Mix, Series, equilibrium

from spinloom import Hamiltonian, Schedule, anneal, ground_state
from spinloom.chains import Estimate, estimate

REFERENCES = (
    # D, T, E/N and one σ at L = 64: reference energies of long runs of an independent C program
    (0.0, 2.0, -0.3462, 0.0002),
    (0.0, 1.0, -0.7599, 0.0002),
    (0.0, 0.25, -1.7408, 0.0001),
    (0.3, 1.0, -0.8091, 0.0002),
    (0.3, 0.5, -1.4912, 0.0002),
)
QUENCHED = (-1.9386, 0.0002)
"""E/N of that program at D = 0.3, T = 0.1 after a quench from random spins: metastable, no equilibrium."""


def configurational(proof, label: str, run: Series) -> None:
    found = estimate(run.identity)
    z = found.mean / found.error
    proof.test(
        f"{label}: configurational temperature", proofs.normal_p(z), f"z = {z:+.2f}",
        proofs.value(found, 6), "0", round(found.effective), proofs.tau(found),
    )  # fmt: skip


# high temperature --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def high():
    """(D, T, energy, exact) for the figure."""
    return []


@pytest.mark.parametrize("T", [2.0, 3.0, 5.0, 20.0])
def test_high_temperature_without_dmi(proof, high, T):
    run = equilibrium(Hamiltonian(J=1, D=0), T, 128, 16, 300, round(1_000 + T), burn=20, cool=False)
    found = estimate(run.energy)
    known = exact.character_energy(1, T)
    proof.mean(f"D = 0, T = {T:g}, character expansion", found, known, abs(known) * 3 / T**6 * 3**-6)
    high.append((0.0, T, found, known))


@pytest.mark.parametrize(
    ("T", "dmi"), [(6.0, "interfacial"), (6.0, "bulk"), (10.0, "interfacial"), (20.0, "interfacial")]
)
def test_high_temperature_with_dmi(proof, high, T, dmi):
    D = 0.8
    seed = round(2_000 + T) + (500 if dmi == "bulk" else 0)
    run = equilibrium(Hamiltonian(J=1, D=D, dmi=dmi), T, 128, 16, 300, seed, burn=20, cool=False)
    found = estimate(run.energy)
    known = exact.high_temperature_energy(1, D, T)
    # the next order as it is at D = 0, for the bond strength √(J² + ⅔D²)
    left_out = exact.character_energy(1, T) - exact.high_temperature_energy(1, 0, T)
    known += left_out * (1 + 2 / 3 * D * D) ** 3
    proof.mean(f"D = {D:g} ({dmi}), T = {T:g}, fourth order", found, known, abs(left_out))
    configurational(proof, f"D = {D:g} ({dmi}), T = {T:g}", run)
    if dmi == "interfacial":
        high.append((D, T, found, known))
        if T == 6:
            z = (found.mean - exact.high_temperature_energy(1, 0, T)) / found.error
            proof.control("the same had D been 0", proofs.normal_p(z), f"z = {z:+.0f}")


# low temperature ---------------------------------------------------------------------------------------------------


SPIN_WAVES = 64
"""Side of the box."""


@pytest.fixture(scope="module")
def low():
    """(T, energy, exact) for the figure."""
    return []


@pytest.mark.parametrize("T", [0.02, 0.05, 0.1, 0.15])
def test_spin_waves_without_dmi(proof, low, T):
    H, L = Hamiltonian(J=1, D=0), SPIN_WAVES
    up = np.zeros((3, L, L), np.float32)
    up[2] = 1
    run = equilibrium(H, T, L, 16, 300, round(3_000 + 1000 * T), Mix(1, 4), burn=400, start=up)
    found = estimate(run.energy)
    known = exact.spin_wave_energy(1, T, L * L)
    proof.mean(f"D = 0, T = {T:g}, spin waves to T⁴", found, known, 0.2 * T**5, digits=6)
    low.append((T, found, known))
    if T == 0.15:
        z = (found.mean - (-2 + T + T * T / 8)) / found.error
        proof.control("the same without T³ and T⁴", proofs.normal_p(z), f"z = {z:+.0f}")


@pytest.mark.parametrize("D", [0.0, 0.3])
def test_magnons_of_the_polarised_state(proof, D):
    """Two temperatures, to take out the next order: 2 (1 − M)/T at T less that at 2T."""
    H, L = Hamiltonian(J=1, D=D, B=0.8), 64
    up = np.zeros((3, L, L), np.float32)
    up[2] = 1
    slopes = []
    for T in (0.02, 0.04):
        run = equilibrium(H, T, L, 8, 400, round(4_000 + 1000 * T + 300 * D), Mix(1, 2), burn=200, start=up)
        found = estimate(run.z)
        slopes.append(((1 - found.mean) / T, found.error / T, found))
        configurational(proof, f"D = {D:g}, B = 0.8, T = {T:g}", run)
    (one, e1, first), (two, e2, _) = slopes
    mean, error = 2 * one - two, math.hypot(2 * e1, e2)
    known = exact.polarised_magnon_sum(1, 0.8, L)
    z = (mean - known) / math.hypot(error, known * 0.02**2 * 10)
    proof.test(
        f"D = {D:g}, B = 0.8: (1 − M_z)/T as T → 0", proofs.normal_p(z), f"z = {z:+.2f}",
        f"{mean:.4f} ± {error:.4f}", f"{known:.4f}", round(first.effective), proofs.tau(first),
    )  # fmt: skip


def test_equipartition_about_the_spiral(proof, low):
    """(E/N − e_0)/T = c + a T + b T², fitted: c has to be 1 − 1/(2N)."""
    H, L = Hamiltonian(J=1, D=0.6), 64
    best = ground_state(H, L)
    T = np.array([0.005, 0.01, 0.02, 0.04, 0.06])
    found: list[Estimate] = []
    for number, at in enumerate(T):
        start = best.spins.float()
        run = equilibrium(H, float(at), L, 8, 400, 5_000 + number, Mix(1, 4), burn=400, start=start)
        found.append(estimate(run.energy))
        configurational(proof, f"spiral, D = 0.6, T = {at:g}", run)
    y = np.array([(f.mean - best.energy) / t for f, t in zip(found, T, strict=True)])
    weight = T / np.array([f.error for f in found])
    powers = np.stack((np.ones_like(T), T, T * T), 1)
    covariance = np.linalg.inv(powers.T @ (powers * weight[:, None] ** 2))
    fit = covariance @ (powers.T @ (weight**2 * y))
    known, error = 1 - 1 / (2 * L * L), math.sqrt(covariance[0, 0])
    z = (fit[0] - known) / error
    proof.test(
        "spiral, D = 0.6: dE/dT as T → 0", proofs.normal_p(z), f"z = {z:+.2f}",
        f"{fit[0]:.5f} ± {error:.5f}", f"{known:.5f}", round(found[0].effective), proofs.tau(found[0]),
    )  # fmt: skip
    chi = float((((y - powers @ fit) * weight) ** 2).sum())
    p = float(proofs.stats.chi2.sf(chi, len(T) - 3))
    proof.test("the fit's residuals", p, f"χ² = {chi:.1f}/{len(T) - 3}")
    z = (fit[0] - 0.5) / error
    proof.control("half of that, one mode a site", proofs.normal_p(z), f"z = {z:+.0f}")


# an independent program ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def referred():
    """(label, energy, reference, σ) for the figure."""
    return []


@pytest.mark.parametrize(("D", "T", "reference", "error"), REFERENCES)
def test_reference_energies(proof, referred, D, T, reference, error):
    seed = 6_000 + round(100 * T + 1000 * D)
    run = equilibrium(Hamiltonian(J=1, D=D), T, 64, 32, 300, seed, Mix(1, 2))
    found = estimate(run.energy)
    proof.mean(f"D = {D:g}, T = {T:g}, independent C program", found, reference, error)
    configurational(proof, f"D = {D:g}, T = {T:g}", run)
    referred.append((f"D = {D:g}, T = {T:g}", found, reference, error))


def test_the_cold_helix_and_the_quench(proof):
    """D = 0.3, T = 0.1, L = 64: from the helix the equilibrium, from random spins what a quench leaves."""
    H, T, L = Hamiltonian(J=1, D=0.3), 0.1, 64
    best = ground_state(H, L)
    run = equilibrium(H, T, L, 16, 500, 7_000, Mix(1, 4), burn=500, start=best.spins.float())
    helix = estimate(run.energy)
    proof.check(
        "D = 0.3, T = 0.1 from the helix: −1.9430 ± 0.0001", abs(helix.mean + 1.9430) < 2e-4, proofs.value(helix),
        "-1.9430", round(helix.effective), proofs.tau(helix),
    )  # fmt: skip
    configurational(proof, "the same", run)
    quick = anneal(H, L, 64, seed=7_100, schedule=Schedule.constant(T, 3000))
    after = equilibrium(H, T, L, 64, 20, 7_200, Mix(1, 0), burn=1, start=quick).energy.mean(1)
    mean, spread = float(after.mean()), float(after.std())
    error = spread / math.sqrt(len(after))
    value, sigma = QUENCHED
    proof.check(
        "from random spins, 3,000 heat-bath sweeps at T: above it, near the program's quench",
        helix.mean + 10 * helix.error < mean and abs(mean - value) < 4 * math.hypot(spread, sigma),
        f"{mean:.4f} ± {error:.4f} (a chain: ± {spread:.4f})", f"{value:.4f} ± {sigma:.4f}", len(after),
    )  # fmt: skip
    refused = ""
    try:
        estimate(equilibrium(H, T, L, 16, 200, 7_300, Mix(1, 0), burn=1, start=quick[:16]).energy)
    except ValueError as refusal:
        refused = str(refusal)
    proof.check("an estimate from those chains is refused", bool(refused), refused)


# figures -------------------------------------------------------------------------------------------------------------


def test_the_figures(proof, high, low, referred):
    figure, (left, right) = proofs.canvas()
    T = np.geomspace(2, 25, 200)
    left.plot(T, [-exact.character_energy(1, t) * t for t in T], color=proofs.MAIN, label="D = 0, characters")
    hot = T[T > 4]
    left.plot(
        hot, [-exact.high_temperature_energy(1, 0.8, t) * t for t in hot], color=proofs.SECOND,
        label="D = 0.8, fourth order",
    )  # fmt: skip
    for D, colour in ((0.0, proofs.MAIN), (0.8, proofs.SECOND)):
        seen = [(t, e) for d, t, e, _ in high if d == D]
        at = [t for t, _ in seen]
        left.errorbar(at, [-e.mean * t for t, e in seen], [e.error * t for t, e in seen], fmt="o", color=colour)
    left.set(xscale="log", xlabel="T/J", ylabel="−E T/(N J²)", title="High temperature")
    left.set_xticks((2, 3, 5, 10, 20), ("2", "3", "5", "10", "20"))
    left.minorticks_off()
    left.legend()
    t = np.linspace(0.005, 0.16, 100)
    sites = SPIN_WAVES**2
    for terms, colour, words in ((4, proofs.INK, "to T⁴"), (2, proofs.MUTE, "to T²")):
        curve = [exact.spin_wave_energy(1, x, sites) if terms == 4 else -2 + x * (1 - 1 / sites) + x * x / 8 for x in t]
        right.plot(
            t, [(c + 2) / x - 1 for c, x in zip(curve, t, strict=True)], color=colour, label=f"spin waves {words}"
        )
    right.errorbar(
        [x for x, _, _ in low], [(e.mean + 2) / x - 1 for x, e, _ in low], [e.error / x for x, e, _ in low],
        fmt="o", color=proofs.MAIN, label="the kernel, D = 0",
    )  # fmt: skip
    right.set(xlabel="T/J", ylabel="(E/N + 2J)/T − 1", title="Low temperature")
    right.legend()
    proof.figure(
        figure,
        """Energies of the lattice at both ends of the temperature axis, with everything that is trivial divided out;
        error bars of one standard error, mostly smaller than the dots. Lines are expansions, none is fitted.""",
    )
    figure, (axis,) = proofs.canvas(1, height=1.9)
    places = np.arange(len(referred))
    pulls = [(e.mean - r) / math.hypot(e.error, s) for _, e, r, s in referred]
    axis.errorbar(pulls, places, xerr=1, fmt="o", color=proofs.MAIN)
    for level in (-2, 0, 2):
        axis.axvline(level, color=proofs.INK, linewidth=0.8, linestyle="-" if not level else "--")
    axis.set_yticks(places, [label for label, *_ in referred])
    axis.set(xlim=(-4, 4), xlabel="(found − reference) / σ of both", title="Against an independent C program, L = 64")
    axis.invert_yaxis()
    proof.figure(figure, "Equilibrium energies minus the reference energies of long runs of an independent C program.")
