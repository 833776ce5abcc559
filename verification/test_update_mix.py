"""One equilibrium, whatever the mix of updates and the start.

The same Hamiltonian and temperature, swept by heat bath alone, by heat bath with one and with four over-relaxation
sweeps, from random spins, from all spins along z, and from the spiral ground state of the box: the energy and M² have
to agree within errors, while τ, which is what over-relaxation is for, may and does differ. With K ≠ 0
over-relaxation is accepted or rejected; the control leaves that out.
"""

from dataclasses import replace

import numpy as np
import proofs
import pytest
import torch
from runs import Mix, Series, equilibrium, measure

from spinloom import Hamiltonian, Schedule, anneal, ground_state
from spinloom.chains import estimate
from spinloom.schedule import Step

SIZE, CHAINS, STEPS = 64, 6, 600
MODELS = {
    "D = 0.3, T = 0.5": (Hamiltonian(J=1, D=0.3), 0.5),
    "D = 0.3, B = 0.1, K = 0.6, T = 0.8": (Hamiltonian(J=1, D=0.3, B=0.1, K=0.6), 0.8),
    "D = 0.3, B = 0.1, K = −0.6, T = 1.1": (Hamiltonian(J=1, D=0.3, B=0.1, K=-0.6), 1.1),
}
RUNS = (
    # mix, start
    (Mix(1, 0, 4), "random"),
    (Mix(1, 0, 4), "spiral"),
    (Mix(1, 1, 2), "random"),
    (Mix(1, 4), "random"),
    (Mix(1, 4), "along z"),
    (Mix(1, 4), "spiral"),
)


def start(kind: str, H: Hamiltonian) -> torch.Tensor | None:
    if kind == "random":
        return None
    if kind == "spiral":
        return ground_state(replace(H, B=0, K=0), SIZE).spins.float()
    spins = torch.zeros(3, SIZE, SIZE)
    spins[2] = 1
    return spins


@pytest.fixture(scope="module")
def all_found():
    """name → [(mix, start, energy, M²)] for the figure."""
    return {}


@pytest.mark.parametrize("name", MODELS)
def test_the_equilibrium_is_one(proof, all_found, name):
    H, T = MODELS[name]
    found = all_found[name] = []
    for number, (mix, begin) in enumerate(RUNS):
        seed = 20_000 + 100 * list(MODELS).index(name) + number
        run = equilibrium(H, T, SIZE, CHAINS, STEPS, seed, mix, burn=150, start=start(begin, H), cool=False)
        found.append((mix, begin, estimate(run.energy), estimate(run.square)))
    for which, words in ((2, "E/N"), (3, "M²")):
        chi, freedom, p = proofs.same_mean([row[which] for row in found])
        for mix, begin, *values in found:
            proof.show(f"{name}: {words}, {mix}, from {begin}", values[which - 2])
        proof.test(f"{name}: {words} is one", p, f"χ² = {chi:.1f}/{freedom}")


def test_a_careless_mix_is_found_out(proof, all_found):
    name = list(MODELS)[1]
    H, T = MODELS[name]
    spins = anneal(H, SIZE, CHAINS, seed=2_900_000_000, schedule=Schedule.constant(T, 100))
    rows = []
    for number in range(400):
        seed = 2_900_000_001 + 2 * number
        spins = anneal(H, start=spins, seed=seed, schedule=Schedule((Step(T, 1),)))
        spins = anneal(replace(H, K=0), start=spins, seed=seed + 1, schedule=Schedule((Step(T, 0, 4),)))
        rows.append(measure(spins, H, T))
    wrong = Series(*torch.stack(rows[50:], 1).unbind(-1), spins)
    energy = estimate(wrong.energy)
    chi, freedom, p = proofs.same_mean([energy, *(row[2] for row in all_found[name])])
    proof.control(
        f"{name}: E/N with over-relaxation that accepts always", p, f"χ² = {chi:.0f}/{freedom}", proofs.value(energy)
    )


def test_the_figure(proof, all_found):
    figure, axes = proofs.canvas(3, height=2.5)
    for number, (axis, (name, found)) in enumerate(zip(axes, all_found.items(), strict=True)):
        means = np.array([row[2].mean for row in found])
        errors = np.array([row[2].error for row in found])
        centre = np.average(means, weights=errors**-2)
        places = np.arange(len(found))
        axis.errorbar(1e3 * (means - centre), places, xerr=1e3 * errors, fmt="o", color=proofs.MAIN)
        axis.axvline(0, color=proofs.INK, linewidth=0.8)
        labels = [f"{mix}, {begin}" for mix, begin, *_ in found]
        axis.set_yticks(places, labels if number == 0 else [""] * len(places))
        for place, row in zip(places, found, strict=True):
            sweeps = row[0].repeat * (row[0].heat_bath + row[0].over_relax)
            words = f"{row[2].tau * sweeps:.1f}; {row[3].tau * sweeps:.1f}"
            at = ("axes fraction", "data")
            axis.annotate(words, (1.0, place), xycoords=at, fontsize=6, ha="right", va="bottom")
        most = 1.35 * np.max(np.abs(1e3 * (means - centre)) + 1e3 * errors)
        axis.set(xlim=(-most, 1.3 * most), xlabel="(E − mean)/N, 10⁻³ J")
        axis.set_title(name.replace(", T", "\nT"), fontsize=7)
        axis.invert_yaxis()
    proof.figure(
        figure,
        """Energies by mix of updates (HB: heat bath, OR: over-relaxation) and start, less their weighted mean, with one
        standard error. At the right τ of the energy and of M², in sweeps of either kind: over-relaxation, which keeps
        the energy, shortens the memory of M².""",
    )
