"""The open chain, against its exact solution.

Chains of 32 spins, swept by the compiled kernel itself: spins around each chain leave it the field of an open chain
and nothing else, see verification/small_systems.py.

At D = B = K = 0 the bonds are independent with P(c) ∝ exp(Jc/T), c = S_i·S_{i+1}: the energy a bond is
−J (coth(J/T) − T/J), and ⟨S_i·S_{i+r}⟩ = (coth(J/T) − T/J)^r (Fisher, Am. J. Phys. 32, 343 (1964)). With DMI, field and
anisotropy the energy, the magnetisation and ⟨S_i·S_{i+1}⟩ come from the transfer matrix, by quadrature on the sphere.

Errors from all measurements, with their autocorrelation; p-values from snapshots 30 sweeps apart are of the laws.
"""

import exact
import numpy as np
import proofs
import pytest
from scipy import stats
from small_systems import Chains

from spinloom import Hamiltonian
from spinloom.chains import Estimate, estimate

LENGTH = 32
RUNS = ((0.3, 0), (1.0, 0), (3.0, 0), (1.0, 1), (3.0, 1), (8.0, 1))
"""J/T and over-relaxation sweeps to a heat-bath sweep."""
FULL = {
    "D = 0.5": (Hamiltonian(J=1, D=0.5), 0.4),
    "D = 0.5, B = 0.2, K = 0.3": (Hamiltonian(J=1, D=0.5, B=0.2, K=0.3), 0.6),
    "D = −0.8, B = 0.4, K = −0.6": (Hamiltonian(J=1, D=-0.8, B=0.4, K=-0.6), 0.3),
}


def measured(system: Chains, steps: int, over_relax: int) -> tuple[np.ndarray, np.ndarray]:
    """Series (2 + FAR, textures, steps), see ``Chains.measure``; (snapshots, chains, bonds) cosines at every 30th."""
    for _ in range(60):
        system.sweep(1, over_relax)
    series, bonds = [], []
    for step in range(steps):
        system.sweep(1, over_relax)
        series.append(system.measure())
        if step % 30 == 0:
            s = system.values()
            bonds.append((s[..., 1:, :] * s[..., :-1, :]).sum(-1).flatten(0, 1).numpy())
    return np.stack(series, -1).transpose(1, 0, 2), np.stack(bonds)


@pytest.fixture(scope="module")
def curves():
    """(J/T, over-relaxation, energy, correlations) of the chains without DMI, for the figure drawn at the end."""
    return []


@pytest.mark.parametrize(("ratio", "over_relax"), RUNS)
def test_the_open_chain_without_dmi(proof, curves, ratio, over_relax):
    H = Hamiltonian(J=1, D=0)
    kind = "with over-relaxation" if over_relax else "heat bath alone"
    seed = 10_000_000 + 100_000 * RUNS.index((ratio, over_relax))
    system = Chains(LENGTH, textures=4, blocks=6, rows=64, seed=seed, H=H, T=1 / ratio, device="cpu")
    if not curves:
        proof.check("the lattice's field on a chain is its own", system.misfit() < 1e-6, f"{system.misfit():.0e}")
    series, bonds = measured(system, 400 if ratio > 1 else 250, over_relax)
    u = exact.langevin(ratio)
    energy, *far = (estimate(series[number]) for number in (0, *range(2, len(series))))
    proof.mean(f"energy a bond, J/T = {ratio:g}, {kind}", energy, -u)
    proof.mean("⟨S_i·S_{i+4}⟩", far[3], u**4)
    uniform = np.expm1(-ratio * (1 - bonds))  # the law of the bonds, made uniform
    uniform = (uniform - np.expm1(-2 * ratio)) / -np.expm1(-2 * ratio)
    ks = stats.kstest(uniform.ravel(), "uniform")
    proof.test("law of a bond, ∝ exp(Jc/T)", ks.pvalue, f"K–S {ks.statistic:.2e}", many=uniform.size)
    counts = np.histogram2d(uniform[..., :-1:2].ravel(), uniform[..., 1::2].ravel(), 8, [[0, 1], [0, 1]])[0]
    chi, freedom, p = proofs.goodness(counts, np.full(counts.shape, 1 / counts.size))
    proof.test(
        "neighbouring bonds are independent, 8 × 8 cells", p, f"χ² = {chi:.0f}/{freedom}", many=int(counts.sum())
    )
    curves.append((ratio, over_relax, energy, far))
    if (ratio, over_relax) == RUNS[2]:
        worse = np.expm1(-1.02 * ratio * (1 - bonds)) - np.expm1(-2.04 * ratio)
        ks = stats.kstest(worse.ravel() / -np.expm1(-2.04 * ratio), "uniform")
        proof.control("the law of a bond, had T been 2% lower", ks.pvalue, f"K–S {ks.statistic:.2e}")


@pytest.mark.parametrize("name", FULL)
def test_the_open_chain_with_everything(proof, name):
    H, T = FULL[name]
    seed = 12_000_000 + 100_000 * list(FULL).index(name)
    system = Chains(LENGTH, textures=4, blocks=6, rows=64, seed=seed, H=H, T=T, device="cpu")
    proof.check(f"{name}: the lattice's field on a chain", system.misfit() < 1e-6, f"{system.misfit():.0e}")
    series, _ = measured(system, 300, 1)
    known = exact.open_chain(LENGTH, H.J, H.D, H.B, H.K, T)
    proof.mean(f"{name}, T = {T:g}: energy a bond", estimate(series[0]), known.energy)
    proof.mean("⟨S_i·S_{i+1}⟩", estimate(series[2]), known.neighbours)
    proof.mean("⟨S_z⟩", estimate(series[1]), known.z)


def test_the_figure(proof, curves):
    figure, (left, right) = proofs.canvas()
    grid = np.geomspace(0.15, 10, 200)
    left.plot(grid, [-exact.langevin(x) for x in grid], color=proofs.INK, label="−J (coth(J/T) − T/J)")
    for over, colour, words in ((0, proofs.MAIN, "heat bath alone"), (1, proofs.SECOND, "with over-relaxation")):
        chosen = [(ratio, energy) for ratio, kind, energy, _ in curves if kind == over]
        left.plot([r for r, _ in chosen], [e.mean for _, e in chosen], "os"[over], color=colour, label=words)
    left.set(xscale="log", xlabel="J/T", ylabel="energy a bond / J", title="Open chain of 32 spins")
    left.set_xticks((0.3, 1, 3, 8), ("0.3", "1", "3", "8"))
    left.minorticks_off()
    left.legend()
    inset = left.inset_axes((0.1, 0.14, 0.36, 0.34))
    for over, colour in ((0, proofs.MAIN), (1, proofs.SECOND)):
        chosen = [(ratio, energy) for ratio, kind, energy, _ in curves if kind == over]
        pulls = [(e.mean + exact.langevin(r)) / e.error for r, e in chosen]
        at = [r * (1.06 if over else 1 / 1.06) for r, _ in chosen]
        inset.errorbar(at, pulls, 1, fmt="os"[over], color=colour, markersize=3)
    inset.axhline(0, color=proofs.INK, linewidth=0.8)
    inset.set(xscale="log", ylim=(-4, 4), xticks=[])
    inset.minorticks_off()
    inset.set_title("(found − exact)/σ", fontsize=7)
    inset.tick_params(labelsize=6)
    colours = {0.3: proofs.MUTE, 1.0: proofs.THIRD, 3.0: proofs.SECOND, 8.0: proofs.MAIN}
    for ratio, over, _, far in curves:
        if ratio < 1 or not over:
            continue
        r = np.arange(1, len(far) + 1)
        right.plot(r, exact.langevin(ratio) ** r, color=colours[ratio], linewidth=0.9)
        seen = [f for f in far if f.mean > 3 * f.error]
        right.errorbar(
            r[: len(seen)], [f.mean for f in seen], [f.error for f in seen], fmt="o", color=colours[ratio],
            label=f"J/T = {ratio:g}",
        )  # fmt: skip
    right.set(yscale="log", ylim=(3e-4, 1.3), xlabel="r", ylabel="⟨S$_i$·S$_{i+r}$⟩", title="Correlations")
    right.legend(loc="lower left")
    proof.figure(
        figure,
        """Energy a bond and correlations of open D = 0 chains; lines: exact. In the inset the error bars are one
        standard error; on the right points are drawn as far as they exceed three.""",
    )


def test_an_estimate_that_cannot_be_trusted_is_refused(proof):
    """At J/T = 8 the chain's total spin turns slowly: 60 sweeps are no measurement of it."""
    H = Hamiltonian(J=1, D=0)
    system = Chains(LENGTH, textures=2, blocks=1, rows=4, seed=13_000_000, H=H, T=1 / 8, device="cpu")
    z = []
    for _ in range(150):
        system.sweep(1)
        z.append(system.measure()[:, 1])
    try:
        found: Estimate | str = estimate(np.stack(z, 1))
    except ValueError as refusal:
        found = str(refusal)
    proof.check("⟨S_z⟩ of chains at J/T = 8 from 150 sweeps is refused", isinstance(found, str), str(found))
