"""NumPy, Numba and CUDA make the same sweep.

``sweep.py``, in plain NumPy, is the specification of a sweep. The compiled kernels get the same state and the same
random numbers, and after every sweep all spins are compared: with the specification in float32 and in float64. Each
sweep starts from the kernel's own last state, so errors do not add up; a second run lets both go their own way and
shows how fast rounding grows.

A spin differs by more than rounding in two cases: its field almost vanishes, so that rounding turns it, or the
acceptance for K falls on the other side of a threshold that its random number meets to seven digits. Such spins are
counted.

Last, long runs of the specification and of the kernels with random numbers of their own agree in energy and
magnetisation. Of the other sections the laws of one spin are tested on both kernels; the rest is of the CPU's.
"""

import math

import numpy as np
import proofs
import pytest
import torch
import writeup
from runs import Mix, equilibrium, measure

from spinloom import Hamiltonian, Schedule, anneal
from spinloom.chains import estimate
from spinloom.random import texture_key
from spinloom.schedule import Step
from spinloom.sweep import align, heat_bath, over_relax, random_start

MODELS = {
    "exchange": Hamiltonian(J=1, D=0),
    "interfacial": Hamiltonian(J=1, D=0.3),
    "bulk, field": Hamiltonian(J=2, D=-0.6, dmi="bulk", B=0.1),
    "easy axis": Hamiltonian(J=1, D=0.4, B=-0.2, K=0.5),
    "easy plane": Hamiltonian(J=1, D=0.4, dmi="bulk", B=0.1, K=-0.5),
}
SIZE = (48, 72)
PLAN = [(kind, T) for T in (10.0, 2.0, 1.0, 0.5, 0.2, 0.05, 0.01) for kind in ("heat_bath", "over_relax")] * 3
PLAN += [("relax", None)] * 6
KINDS = {"heat_bath": "heat bath", "over_relax": "over-relaxation", "relax": "alignment"}


def contract(spins: np.ndarray, H: Hamiltonian, kind: str, T: float | None, seed: int) -> np.ndarray:
    key = texture_key(seed, 0)
    if kind == "relax":
        return align(spins, H)
    return {"heat_bath": heat_bath, "over_relax": over_relax}[kind](spins, H, T, key, 1)


def kernel(spins: np.ndarray, H: Hamiltonian, kind: str, T: float | None, seed: int, device: str) -> np.ndarray:
    step = Step(T, **{kind: 1})
    return anneal(H, start=spins, schedule=Schedule((step,)), seed=seed, device=device)[0].cpu().numpy()


def distance(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.sqrt(((a.astype(np.float64) - b) ** 2).sum(0)).ravel()


@pytest.fixture(scope="module")
def series():
    """device → model → (median difference a sweep, the same running free)."""
    return {}


def test_sweep_by_sweep(proof, device_names, series):
    if "cuda" not in device_names:
        proof.notes.append(writeup.devices()[1] + ".")
    for device in device_names:
        words = {"cpu": "Numba", "cuda": "CUDA"}[device]
        for number, (name, H) in enumerate(MODELS.items()):
            now = random_start(SIZE, texture_key(30, number), H.dmi)
            free = now
            apart = {kind: [] for kind in KINDS}
            single, running = [], []
            for sweep, (kind, T) in enumerate(PLAN):
                seed = 31_000 + 1000 * number + sweep
                T = None if T is None else T * H.J
                after = kernel(now, H, kind, T, seed, device)
                double = distance(after, contract(now.astype(np.float64), H, kind, T, seed))
                plain = distance(after, contract(now, H, kind, T, seed))
                free = contract(free, H, kind, T, seed)
                apart[kind].append(np.stack((plain, double)))
                single.append(float(np.quantile(double, 0.999)))
                running.append(float(np.median(distance(after, free))))
                now = after
            series.setdefault(device, {})[name] = (single, running)
            for kind, found in apart.items():
                both = np.concatenate(found, 1)
                medians, most = np.median(both, 1), np.quantile(both, 0.9999, 1)
                far = int((both[1] > 1e-3).sum())
                proof.check(
                    f"{words}, {name}, {KINDS[kind]}: |ΔS| from NumPy in float32; in float64",
                    bool((medians < 1e-6).all() and (most < 1e-4).all()) and far <= 2e-5 * both[1].size,
                    "; ".join(f"median {m:.0e}, 99.99% {q:.0e}" for m, q in zip(medians, most, strict=True))
                    + f", over 10⁻³: {far}",
                    "< 10⁻⁶, < 10⁻⁴; 2 in 10⁵", both[1].size,
                )  # fmt: skip


def test_a_wrong_sweep_would_be_seen(proof):
    """What the comparison says of a kernel whose DMI is off by one part in a thousand."""
    H = MODELS["interfacial"]
    spins = random_start(SIZE, texture_key(30, 1), H.dmi)
    after = kernel(spins, Hamiltonian(J=1, D=0.3003), "heat_bath", 0.5, 32_000, "cpu")
    median = float(np.median(distance(after, contract(spins.astype(np.float64), H, "heat_bath", 0.5, 32_000))))
    proof.check("control: D one in a thousand too large", median > 1e-5, f"median {median:.0e}", "> 10⁻⁵")


def test_long_runs(proof, device_names):
    H, T, L, chains = Hamiltonian(J=1, D=0.5, B=0.1, K=0.3), 1.0, 48, 4
    by_contract = []
    for chain in range(chains):
        spins, key, sweep, rows = random_start((L, L), texture_key(40, chain)), texture_key(41, chain), 0, []
        for step in range(450):
            for update in (heat_bath, over_relax):
                sweep += 1
                spins = update(spins, H, T, key, sweep)
            if step >= 50:
                rows.append(measure(torch.from_numpy(spins)[None].float(), H, T)[0])
        by_contract.append(torch.stack(rows))
    numpy_run = torch.stack(by_contract).unbind(-1)
    for device in device_names:
        run = equilibrium(H, T, L, 16, 400, 42, Mix(1, 1), burn=100, device=device)
        words = {"cpu": "Numba", "cuda": "CUDA"}[device]
        for name, a, b in (("E/N", numpy_run[0], run.energy), ("M_z", numpy_run[2], run.z)):
            first, second = estimate(a), estimate(b)
            z = (first.mean - second.mean) / math.hypot(first.error, second.error)
            proof.test(
                f"{name} of long runs, NumPy and {words}", proofs.normal_p(z), f"z = {z:+.2f}",
                proofs.value(second), proofs.value(first), round(first.effective), proofs.tau(first),
            )  # fmt: skip


def test_the_figure(proof, series):
    figure, axes = proofs.canvas()
    colours = [proofs.MAIN, proofs.SECOND, proofs.THIRD, proofs.FOURTH, proofs.INK]
    for device, models in series.items():
        for (name, (single, running)), colour in zip(models.items(), colours, strict=True):
            line = {"cpu": "-", "cuda": ":"}[device]
            label = f"{name}" + (" (CUDA)" if device == "cuda" else "")
            axes[0].plot(np.arange(1, len(single) + 1), single, line, color=colour, label=label)
            axes[1].plot(np.arange(1, len(running) + 1), running, line, color=colour, label=label)
    for axis, title in zip(axes, ("One sweep at a time: 99.9% quantile", "Running free: median"), strict=True):
        axis.set(yscale="log", ylim=(1e-8, 3), xlabel="sweep", title=title)
        axis.axhline(2**-23, color=proofs.MUTE, linestyle="--", linewidth=0.8)
    axes[0].set_ylabel("|ΔS|, kernel − NumPy")
    axes[0].annotate("2⁻²³", (1, 2**-23), fontsize=7, va="bottom")
    axes[0].legend(ncols=2, loc="upper left")
    proof.figure(
        figure,
        """Left: distance of a spin from the specification in float64 after one sweep from a common state; the
        temperature falls from 10 J to 0.01 J three times, heat bath and over-relaxation in turn, then alignment. A
        spike is one spin whose field almost vanished, with its neighbours. Right: the kernel and the specification in
        float32, each from its own last state with common random numbers. The dashed line is one unit of rounding.""",
    )
