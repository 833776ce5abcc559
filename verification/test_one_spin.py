"""One spin in a field and on an axis, against its exact law.

The exchange is made a millionth of the field, so every site is a spin on its own. Its law is
P(S_z) ∝ exp((B S_z + K S_z²)/T) with a uniform azimuth. A Kolmogorov–Smirnov test compares all sites with it, and
the mean with Langevin's coth x − 1/x, x = B/T, at K = 0.

At K = 0 a heat bath draws from that law in one sweep, from any start. With K it is a proposal that is accepted or
not, so 80 sweeps are made, with and without over-relaxation; a control takes the law of half the anisotropy.

The draw itself is then tested in the full model: after one sweep of an equilibrium state at D = 0.5 J, B = 0.2 J,
T = 0.4 J every spin was drawn in the field h its neighbours made. With c = S·h/|h|, x = |h|/T, the numbers
U = (e^{xc} − e^{−x})/(e^x − e^{−x}) and the azimuth about h have to be uniform, independent of each other, of the
spin's previous direction and of the neighbours' numbers.
"""

import math

import exact
import numpy as np
import proofs
import pytest
import torch
from scipy import stats

from spinloom import Hamiltonian, Schedule, anneal

FIELDS = (0.1, 1.0, 4.0, 20.0, 200.0)
AXES = ((0.0, 1.0, 0.3), (0.4, 1.5, 0.6), (0.3, -1.0, 0.2), (-1.0, -2.0, 1.0))


def lone_spins(B: float, K: float, T: float, schedule: Schedule, seed: int, device: str) -> np.ndarray:
    """Spins (3, 2²⁰) without neighbours to speak of."""
    small = 1e-6 * max(abs(B), abs(K))
    spins = anneal(Hamiltonian(J=small, D=0, B=B, K=K), 128, 64, seed=seed, schedule=schedule, device=device)
    return spins.cpu().double().numpy().transpose(1, 0, 2, 3).reshape(3, -1)


def deviation(values: np.ndarray, cdf) -> tuple[np.ndarray, np.ndarray]:
    """√n(F_n − F) at 400 places along F."""
    u = np.sort(cdf(values))
    places = np.linspace(0, 1, 402)[1:-1]
    return places, math.sqrt(len(u)) * (np.searchsorted(u, places) / len(u) - places)


def test_laws_of_one_spin(proof, device_names):
    figure, (laws, bands) = proofs.canvas()
    colours = [proofs.MAIN, proofs.SECOND, proofs.THIRD, proofs.FOURTH, proofs.MUTE]
    for device in device_names:
        for number, x in enumerate(FIELDS):
            cdf = exact.one_spin_cdf(1.0, 0.0, 1 / x)
            spins = lone_spins(1.0, 0.0, 1 / x, Schedule.constant(1 / x, 1), 100 + number, device)
            z = spins[2] / np.linalg.norm(spins, axis=0)
            label = f"S_z in a field, B/T = {x:g}" + (f", {device}" if device != "cpu" else "")
            found = stats.kstest(z, cdf)
            proof.test(label, found.pvalue, f"K–S {found.statistic:.2e}", many=z.size)
            mean, error = float(z.mean()), float(z.std() / math.sqrt(z.size))
            pull = (mean - exact.langevin(x)) / error
            proof.test(
                "its mean, coth x − 1/x", proofs.normal_p(pull), f"z = {pull:+.2f}",
                f"{mean:.6f} ± {error:.6f}", f"{exact.langevin(x):.6f}", z.size,
            )  # fmt: skip
            if device == "cpu":
                bands.plot(*deviation(z, cdf), color=colours[number], label=f"B/T = {x:g}")
        for number, (B, K, T) in enumerate(AXES):
            cdf = exact.one_spin_cdf(B, K, T)
            for over in (0, 2):
                schedule = Schedule.constant(T, 80, over_relax=over)
                spins = lone_spins(B, K, T, schedule, 200 + 2 * number + over // 2, device)
                z = spins[2] / np.linalg.norm(spins, axis=0)
                found = stats.kstest(z, cdf)
                kind = "heat bath alone" if not over else "with over-relaxation"
                label = f"S_z at B = {B:g}, K = {K:g}, T = {T:g}, {kind}" + (f", {device}" if device != "cpu" else "")
                proof.test(label, found.pvalue, f"K–S {found.statistic:.2e}", many=z.size)
            azimuth = np.arctan2(spins[1], spins[0]) / (2 * math.pi) + 0.5
            found = stats.kstest(azimuth, "uniform")
            proof.test("its azimuth", found.pvalue, f"K–S {found.statistic:.2e}", many=z.size)
            if device == "cpu":
                colour = colours[number]
                laws.hist(z, np.linspace(-1, 1, 81), density=True, color=colour, alpha=0.35)
                grid = np.linspace(-1, 1, 4001)
                density = np.gradient(cdf(grid), grid)
                laws.plot(grid[2:-2], density[2:-2], color=colour, label=f"B = {B:g}, K = {K:g}, T = {T:g}")
                bands.plot(*deviation(z, cdf), color=colour, linestyle=":")
    B, K, T = AXES[1]
    wrong = stats.kstest(lone_spins(B, K, T, Schedule.constant(T, 80), 202, "cpu")[2], exact.one_spin_cdf(B, K / 2, T))
    proof.control("the law of half the anisotropy", wrong.pvalue, f"K–S {wrong.statistic:.2e}")
    laws.set(
        xlabel="$S_z$",
        ylabel="density",
        title="Spins on an axis or in a plane, and exact laws",
        ylim=(0, 3.2),
        xticks=(-1, -0.5, 0, 0.5, 1),
    )
    laws.legend(loc="upper left")
    for level, words in ((1.358, "5%"), (1.949, "0.1%")):
        for sign in (-1, 1):
            bands.axhline(sign * level, color=proofs.INK, linewidth=0.7, linestyle="--")
        bands.annotate(words, (1.0, level), ha="right", va="bottom", fontsize=7)
    bands.set(xlabel="$F$", ylabel=r"$\sqrt{n}\,(F_n-F)$", ylim=(-3.4, 2.6), title="Distance from the law")
    bands.legend(ncols=3, loc="lower center")
    proof.figure(
        figure,
        """Left: histograms of S_z of a million spins with anisotropy, and the exact densities (lines). Right: √n times
        the distance of the empirical from the exact distribution, against the latter; fields are solid, anisotropies
        dotted, in the colours on the left. One curve in twenty leaves the inner dashed lines anywhere, one in a
        thousand the outer.""",
    )


def drawn(H: Hamiltonian, T: float, seed: int, device: str, wrong: float = 1.0) -> tuple[np.ndarray, ...]:
    """(U, azimuth/2π, the previous spin's U) as arrays (2, textures, H, W/2): even sites, then odd ones.

    The even ones were drawn in the field of the old odd ones, the odd ones in that of the new even ones.
    """
    cool = Schedule.geometric(2.0, T, 60, 1, 2).then(Schedule.constant(T, 100, over_relax=2))
    before = anneal(H, 128, 32, seed=seed, schedule=cool, device=device)
    after = anneal(H, start=before, seed=seed + 1, schedule=Schedule.constant(T, 1), device=device).cpu().double()
    before = before.cpu().double()
    before, after = (s / s.norm(dim=1, keepdim=True) for s in (before, after))
    rows, columns = np.indices(before.shape[-2:])
    even = torch.from_numpy((rows + columns) % 2 == 0)
    answer = []
    for mine, world in ((even, before), (~even, torch.where(even, after, before))):
        h = H.bond_field(world)
        h[:, 2] += H.B
        h, old, new = (f[:, :, mine].numpy() for f in (h, before, after))  # (n, 3, sites of one colour)
        length = np.linalg.norm(h, axis=1)
        x = length / (wrong * T)
        across = np.stack((-h[:, 1], h[:, 0], np.zeros_like(length)), 1)
        across /= np.linalg.norm(across, axis=1, keepdims=True)
        third = np.cross(h, across, axis=1) / length[:, None]
        azimuth = np.arctan2((new * third).sum(1), (new * across).sum(1)) / (2 * math.pi) + 0.5
        below = [np.expm1(-x * (1 - (s * h).sum(1) / length)) for s in (new, old)]
        u = [(b - np.expm1(-2 * x)) / -np.expm1(-2 * x) for b in below]
        answer.append([v.reshape(len(v), rows.shape[0], -1) for v in (u[0], azimuth, u[1])])
    return tuple(np.stack(parts) for parts in zip(*answer, strict=True))


@pytest.mark.parametrize("dmi", ["interfacial", "bulk"])
def test_every_draw_of_the_full_model(proof, device_names, dmi):
    H, T = Hamiltonian(J=1, D=0.5, dmi=dmi, B=0.2), 0.4
    for device in device_names:
        where = f"{dmi} DMI" + (f", {device}" if device != "cpu" else "")
        u, azimuth, previous = drawn(H, T, 300 if dmi == "bulk" else 310, device)
        for name, values in (("U", u), ("azimuth", azimuth)):
            found = stats.kstest(values.ravel(), "uniform")
            proof.test(f"{name} of every drawn spin, {where}", found.pvalue, f"K–S {found.statistic:.2e}", many=u.size)
        pairs = {  # no number in two pairs of one table: χ² counts on that
            "U and azimuth": (u, azimuth),
            "U and the spin's previous U": (u, previous),
            "U of neighbours in a row": (u[..., ::2], u[..., 1::2]),
            "U of neighbours in a column": (u[..., ::2, :], u[..., 1::2, :]),
            "U of the two colours": (u[0], u[1]),
            "U of two textures": (u[:, ::2], u[:, 1::2]),
        }
        for name, (a, b) in pairs.items():
            counts = np.histogram2d(a.ravel(), b.ravel(), 16, [[0, 1], [0, 1]])[0]
            chi, freedom, p = proofs.goodness(counts, np.full(counts.shape, 1 / counts.size))
            proof.test(f"{name}, 16 × 16 cells", p, f"χ² = {chi:.0f}/{freedom}", many=a.size)
    if dmi == "interfacial":
        wrong = stats.kstest(drawn(H, T, 310, "cpu", wrong=1.01)[0].ravel(), "uniform")
        proof.control("U, had the temperature been one percent higher", wrong.pvalue, f"K–S {wrong.statistic:.2e}")
