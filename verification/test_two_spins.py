"""Two spins: the equilibrium cell by cell, and detailed balance by histogram.

Pairs joined by one bond (J = 1, D = 0.6, B = 0.3, K = 0.5, T = 0.7 and others) are swept by the compiled kernel itself:
around each pair stand spins whose fields cancel, see verification/small_systems.py. The state of a spin is cut into
six cells (three of S_z, two of azimuth), so a pair has 36 states; their exact probabilities are integrals over both
spheres.

Detailed balance says that in equilibrium the moves a → b are as many as b → a, for every two states. It is a
property of one colour's update, that is of every move the kernel makes: there each pair of counts n(a → b), n(b → a)
is tested (Bowker's χ²). A sweep of both colours, one after the other, leaves the equilibrium alone but is not
reversible; run backwards it is a sweep with the colours exchanged. So its counts are tested against those of the
reversed sweep, transposed.

Controls: over-relaxation that leaves out the acceptance for K, and the probabilities of a DMI of the other sign.

The same is then asked of the full lattice (48 × 48, D = 0.5 J, B = 0.2 J, K = ±0.4 J, T = 0.6 J): a spin's state is its
S_z and its cosine to the field of its neighbours, four cells each. Given the neighbours, and so their field, the
pairs (before, after) of one colour's spins are independent, and under detailed balance either order is equally
likely.
"""

import math
from dataclasses import replace

import exact
import numpy as np
import proofs
import pytest
import torch
from small_systems import Chains, half_sweep

from spinloom import Hamiltonian, Schedule, anneal

Z_EDGES = np.array([-1.0, -0.2, 0.5, 1.0])
PHI_EDGES = np.array([-math.pi / 2, math.pi / 2, 3 * math.pi / 2])  # S_x > 0, S_x < 0
CELLS = (len(Z_EDGES) - 1) * (len(PHI_EDGES) - 1)
MODELS = {
    "exchange and DMI": (Hamiltonian(J=1, D=0.6), 0.7),
    "with field and easy axis": (Hamiltonian(J=1, D=0.6, B=0.3, K=0.5), 0.7),
    "with field and easy plane": (Hamiltonian(J=1, D=-0.8, B=-0.3, K=-0.7), 0.5),
}
SNAPSHOTS, APART = 4, 4
HB, OR = "heat_bath", "over_relax"
MOVES = {
    "heat bath of the first spin": [(HB, 0)],
    "heat bath of the second spin": [(HB, 1)],
    "over-relaxation of the first spin": [(OR, 0)],
    "over-relaxation of the second spin": [(OR, 1)],
    "whole sweep": [(HB, 0), (HB, 1)],
    "reversed sweep": [(HB, 1), (HB, 0)],
}
CARELESS = "over-relaxation that accepts always"


def states(values: torch.Tensor) -> np.ndarray:
    """The state, 0 … 35, of pairs (…, 2, 3)."""
    cell = np.digitize(values[..., 2].numpy(), Z_EDGES[1:-1]) * 2 + (values[..., 0].numpy() < 0)
    return (cell[..., 0] * CELLS + cell[..., 1]).ravel()


def transitions(system: Chains) -> dict[str, np.ndarray]:
    """n(a → b) of every kind of move from the same equilibrium states, ``SNAPSHOTS`` of them ``APART`` sweeps apart."""
    counts = {name: np.zeros((CELLS**2, CELLS**2), np.int64) for name in (*MOVES, CARELESS)}
    model = system.H
    for _ in range(20):
        system.sweep(1, 1)
    for _ in range(SNAPSHOTS):
        for _ in range(APART):  # leaves less than one percent of correlation
            system.sweep(1, 1)
        before, kept = states(system.values()), system.spins
        for name in counts:
            system.spins, system.H = kept, replace(model, K=0) if name == CARELESS else model
            for kind, colour in MOVES.get(name, [(OR, 0)]):
                system.move(kind, colour)
            np.add.at(counts[name], (before, states(system.values())), 1)
        system.spins, system.H = kept, model
    return counts


@pytest.mark.parametrize("name", MODELS)
def test_pairs(proof, name):
    H, T = MODELS[name]
    seed = 100_000 * (1 + list(MODELS).index(name))
    system = Chains(2, textures=64, blocks=16, rows=256, seed=seed, H=H, T=T, device="cpu")  # 2¹⁷ pairs
    proof.check(f"{name}: the lattice's field on a pair is its own", system.misfit() < 1e-6, f"{system.misfit():.0e}")
    law = exact.pair_cells(H.J, H.D, H.B, H.K, T, Z_EDGES, PHI_EDGES)
    counts = transitions(system)
    many = int(counts["whole sweep"].sum())
    pulls = []
    for move in list(MOVES)[:4]:
        moved = 1 - np.trace(counts[move]) / many
        chi, freedom, p, pull = proofs.symmetry(counts[move])
        found = f"{100 * moved:.0f}% change state"
        proof.test(f"{move}: n(a → b) = n(b → a)", p, f"χ² = {chi:.0f}/{freedom}", found, "", many)
        pulls.append(pull)
    chi, freedom, p, _ = proofs.symmetry(counts["whole sweep"], counts["reversed sweep"])
    proof.test("whole sweep against the reversed sweep", p, f"χ² = {chi:.0f}/{freedom}", many=many)
    occupied = counts["whole sweep"].sum(0).reshape(CELLS, CELLS)
    chi, freedom, p = proofs.goodness(occupied, law)
    proof.test("all 36 states have their exact probabilities", p, f"χ² = {chi:.0f}/{freedom}", many=many)
    if H.K:
        wrong = exact.pair_cells(H.J, -H.D, H.B, H.K, T, Z_EDGES, PHI_EDGES)
        chi, freedom, p = proofs.goodness(occupied, wrong)
        proof.control("the probabilities at −D", p, f"χ² = {chi:.0f}/{freedom}")
        chi, freedom, p, wrong_pull = proofs.symmetry(counts[CARELESS])
        proof.control(CARELESS, p, f"χ² = {chi:.0f}/{freedom}")
        if H.K > 0:
            _draw(proof, occupied / occupied.sum(), law, np.concatenate(pulls), wrong_pull, many)


def _draw(proof, found, law, pulls, wrong, many) -> None:
    figure, (left, right) = proofs.canvas()
    error = np.sqrt(law * (1 - law) / many)
    left.plot(law.ravel(), ((found - law) / error).ravel(), "o", color=proofs.MAIN)
    for level in (-2, 2):
        left.axhline(level, color=proofs.INK, linewidth=0.7, linestyle="--")
    left.axhline(0, color=proofs.INK, linewidth=0.8)
    left.set(xlabel="exact probability of a state", ylabel="(found − exact)/σ", ylim=(-4, 4), xscale="log")
    left.set_xticks((0.01, 0.02, 0.05, 0.1), ("0.01", "0.02", "0.05", "0.1"))
    left.minorticks_off()
    left.set_title("36 states of a pair")
    edges = np.linspace(-8, 8, 65)
    right.hist(np.clip(wrong, -8, 8), edges, density=True, color=proofs.SECOND, alpha=0.5, label="control: K ignored")
    right.hist(pulls, edges, density=True, color=proofs.MAIN, alpha=0.7, label="the kernel's moves")
    grid = np.linspace(-8, 8, 400)
    right.plot(grid, np.exp(-grid * grid / 2) / math.sqrt(2 * math.pi), color=proofs.INK, label="normal law")
    right.set(xlabel=r"[n(a→b) − n(b→a)] / $\sqrt{n(a→b) + n(b→a)}$", ylabel="density")
    right.set_title("Detailed balance, over pairs of states")
    right.legend(loc="upper left")
    proof.figure(
        figure,
        """The pair with field and easy axis. Left: how far the 36 states' frequencies lie from their exact
        probabilities, in standard errors. Right: forward minus backward counts over their standard error, for all pairs
        of states and the four moves; they follow the normal law. Over-relaxation without the acceptance step for
        K does not (beyond ±8: counted at the edge).""",
    )


@pytest.mark.parametrize("K", [0.0, 0.4, -0.4])
def test_detailed_balance_of_the_lattice(proof, K):
    H, T = Hamiltonian(J=1, D=0.5, B=0.2, K=K), 0.6
    cool = Schedule.geometric(2.0, T, 60, 1, 2).then(Schedule.constant(T, 150, over_relax=2))
    seed = 5_000_000 + 1000 * round(10 * K)
    spins = anneal(H, 48, 256, seed=seed, schedule=cool)
    rows, columns = np.indices(spins.shape[-2:])
    even = torch.from_numpy((rows + columns) % 2 == 0)
    for kind, words in (("heat_bath", "heat bath"), ("over_relax", "over-relaxation")):
        if kind == "over_relax" and not K:
            continue  # it keeps S·h of every spin, and with it detailed balance, to rounding
        counts = np.zeros((16, 16), np.int64)
        for _number in range(4):
            seed += 2
            spins = anneal(H, start=spins, seed=seed, schedule=Schedule.constant(T, 20, over_relax=1))
            after = half_sweep(spins, H, T, kind, seed + 1)
            h = H.bond_field(spins.double())
            h[:, 2] += H.B
            h = (h / h.norm(dim=1, keepdim=True))[:, :, even]
            before, after = (s.double()[:, :, even] for s in (spins, after))
            cells = [
                4 * np.digitize((s * h).sum(1), (0.5, 0.8, 0.93)) + np.digitize(s[:, 2], (-0.5, 0.2, 0.7))
                for s in (before, after)
            ]
            np.add.at(counts, (cells[0].ravel(), cells[1].ravel()), 1)
        chi, freedom, p, _ = proofs.symmetry(counts)
        moved = 1 - np.trace(counts) / counts.sum()
        proof.test(
            f"lattice, K = {K:g}, {words}: n(a → b) = n(b → a)", p, f"χ² = {chi:.0f}/{freedom}",
            f"{100 * moved:.0f}% change state", "", int(counts.sum()),
        )  # fmt: skip
