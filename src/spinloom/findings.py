"""What a search found, and what there is to say about it: is it physical, what is it, is it new."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from torch import Tensor

from spinloom.anneal import relax
from spinloom.errors import BadInput
from spinloom.hamiltonian import Hamiltonian
from spinloom.measure import measure
from spinloom.novelty import Novelty, novelty
from spinloom.pattern import Pattern, pattern
from spinloom.spiral import GroundState, ground_state
from spinloom.topology import whole_charge
from spinloom.typing import Latents, Spins

UNCOMPARED = "not compared with training data"

BLOCK, MOST_BLOCKS, OVER_RELAX = 100, 20, 8
"""Steps of :func:`settle` between two looks at the energy, how many such blocks there are at most, and the sweeps of
over-relaxation in a step."""

STILL = 1e-8
"""Fall of ε in a block, in units of J, under which a texture has settled."""


@dataclass(frozen=True)
class Found:
    """The best code of a search for one goal.

    Attributes:
        z: the code (n,).
        spins: G(z) after the alignment sweeps that were asked for, float32 (3, H, W): what ``value`` is of.
        value: the objective, without penalties.
        history: arrays by generation: ``evaluations`` so far, ``best`` so far and ``mean`` of the generation, both of
            the objective as judged (after ``inner_relax`` sweeps, penalties included, its sign as in the objective).
        decoded: G(z) itself.
        settled: where zero temperature leads from ``spins`` (:func:`settle`); ``spins`` without a Hamiltonian.
        report: plain JSON values, see :func:`reports`.
        goal: the objective's name.
        data: the objective of the reference's first textures (m,), None without a reference.
    """

    z: Tensor
    spins: Spins
    value: float
    history: dict[str, np.ndarray]
    decoded: Spins
    settled: Spins
    report: dict[str, Any]
    goal: str
    data: Tensor | None = None

    def __repr__(self) -> str:
        return f"Found({self.goal} = {self.value:.6g}: {_kind(self.report)})"


@dataclass(frozen=True)
class Front:
    """The Pareto front of a search for several goals: no member is beaten in all of them by another.

    As :class:`Found`, with m members along the first axis, in ascending order of the first goal: ``z`` (m, n),
    ``spins``, ``decoded`` and ``settled`` (m, 3, H, W), ``values`` (m, k), a column for each of ``goals``, a report
    each, ``history`` with arrays (generations, k), and ``data`` (references, k).
    """

    goals: tuple[str, ...]
    z: Latents
    spins: Spins
    values: Tensor
    history: dict[str, np.ndarray]
    decoded: Spins
    settled: Spins
    reports: tuple[dict[str, Any], ...]
    data: Tensor | None = None

    def __repr__(self) -> str:
        kinds = ", ".join(dict.fromkeys(map(_kind, self.reports)))
        return f"Front({', '.join(self.goals)}, {len(self.z)} textures: {kinds})"


def _kind(report: dict[str, Any]) -> str:
    return report.get("pattern", {}).get("kind", "without a report")


def settle(spins: Spins, H: Hamiltonian) -> Spins:
    """Zero temperature to the end: where textures (n, 3, H, W) come to rest, float32.

    Alignment alone creeps along soft modes (500 sweeps leave a bent stripe at 128² 4·10⁻⁴ J above where it goes).
    Eight over-relaxation sweeps, which turn every spin half around its field and keep the energy, before each
    alignment sweep carry them several times as far; no sweep raises the energy. Done when ε falls by less than
    :data:`STILL` in a block of 900 sweeps, after 18,000 at the latest. Textures on a GPU stay there.
    """
    spins = spins.float()
    energy = H.energy(spins.double())
    for _ in range(MOST_BLOCKS):
        spins = relax(spins, H, BLOCK, over_relax=OVER_RELAX)
        before, energy = energy, H.energy(spins.double())
        if (before - energy).max() < STILL * H.J:
            break
    return spins


def stages(decoded: Spins, relaxed: Spins, settled: Spins, H: Hamiltonian | None) -> list[dict[str, dict[str, float]]]:
    """ε, M_z, Q, nodal points and wavelength of each texture (n, 3, H, W) as decoded, relaxed and settled."""
    tables = {"decoded": measure(decoded, H), "relaxed": measure(relaxed, H), "settled": measure(settled, H)}
    return [
        {stage: {name: _number(name, float(table[name][k])) for name in table.names} for stage, table in tables.items()}
        for k in range(len(decoded))
    ]


def _number(name: str, value: float) -> float:
    return whole_charge(value) if name == "charge" else value


def reports(
    z: Latents,
    decoded: Spins,
    relaxed: Spins,
    settled: Spins,
    H: Hamiltonian | None,
    sweeps: int,
    reference: Any,
    compared: int | None = None,
    show: bool = False,
    why: str = UNCOMPARED,
) -> list[dict[str, Any]]:
    """For each of the codes (m, n) and their textures (m, 3, H, W), as plain JSON values:

    - ``stages``: what :func:`stages` measures; ``sweeps`` between decoded and relaxed;
    - ``plain``: whether the relaxed texture is without nodal points;
    - ``norm``: ‖z‖, its ratio to √n, and by how many standard deviations of the prior it is off (‖z‖ has √n and ½
      to leading order);
    - ``pattern`` of the relaxed and ``settled_pattern`` of the settled texture;
    - ``ground_state``: the exact one's ε and wave vector and how far above it each stage is; None in a field or with
      an easy axis, where none is known;
    - ``novelty`` against ``reference``, or the first ``compared`` of it, with the symmetries of the Hamiltonian that
      these textures are known to have, if there is one, else of ``H``; without, ``new`` is None and ``why`` its
      ``reason``;
    - ``words``: all that in sentences.
    """
    theirs = getattr(reference, "hamiltonian", None) or H
    new = [None] * len(z) if reference is None else novelty(relaxed, reference, theirs, compared, show=show)
    exact = _exact(H, (relaxed.shape[-2], relaxed.shape[-1]))
    measured = stages(decoded, relaxed, settled, H)
    return [
        _report(z[k], measured[k], pattern(relaxed[k]), pattern(settled[k]), exact, sweeps, new[k] or why)
        for k in range(len(z))
    ]


def _exact(H: Hamiltonian | None, size: tuple[int, int]) -> GroundState | None:
    if H is None:
        return None
    try:
        return ground_state(H, size)
    except BadInput:  # a field or an easy axis
        return None


def _report(
    z: Tensor,
    measured: dict[str, dict[str, float]],
    relaxed: Pattern,
    settled: Pattern,
    exact: GroundState | None,
    sweeps: int,
    new: Novelty | str,
) -> dict[str, Any]:
    length, root = float(z.double().norm()), math.sqrt(z.numel())
    norm = {"norm": length, "ratio": length / root, "deviations": (length - root) * math.sqrt(2)}
    nodal = {stage: int(values["nodal_points"]) for stage, values in measured.items()}
    words = [
        f"as decoded {_line(measured['decoded'])}; after {sweeps} sweeps {_line(measured['relaxed'])}; "
        f"settled {_line(measured['settled'])}",
        relaxed.words + ("" if settled.words == relaxed.words else f"; settled: {settled.words}"),
        _norm_words(norm["ratio"], norm["deviations"]),
    ]
    state = None
    if exact is not None:
        above = {stage: values["energy_excess"] - exact.energy_excess for stage, values in measured.items()}
        state = {"energy_excess": exact.energy_excess, "wave_vector": list(exact.q), "above": above}
        relaxed_by, settled_by = (f"{max(above[stage], 0.0):.6f}" for stage in ("relaxed", "settled"))
        words.append(
            f"above the exact ground state, ε = {exact.energy_excess:.6f} with the wave vector {exact.q}: "
            f"{relaxed_by} relaxed, {settled_by} settled"
        )
        n, m = settled.wave_vector
        if settled.kind == "stripes":
            height, width = exact.spins.shape[-2:]
            mine, its = ((abs(n), abs(m)), exact.q)
            same = sorted(mine) == sorted(its) if height == width else mine == its
            words.append(f"its stripes are ({n}, {m}), {'the' if same else 'not the'} ground state's up to symmetry")
    words.append(new if isinstance(new, str) else new.words)
    return {
        "stages": measured,
        "sweeps": sweeps,
        "plain": nodal["relaxed"] == 0,
        "norm": norm,
        "pattern": relaxed.as_dict(),
        "settled_pattern": settled.as_dict(),
        "ground_state": state,
        "novelty": {"new": None, "reason": new} if isinstance(new, str) else _plain(new),
        "words": words,
    }


def _norm_words(ratio: float, deviations: float) -> str:
    off = f"{abs(deviations):.1f}"
    if off == "0.0":
        return f"‖z‖ = {ratio:.2f} √n, as long as the prior's"
    way = "above" if deviations > 0 else "below"
    return f"‖z‖ = {ratio:.2f} √n, {off} standard deviations of the prior {way}"


def _plain(new: Novelty) -> dict[str, Any]:
    return {**asdict(new), "new": new.new}


def _line(values: dict[str, float]) -> str:
    energy = f"ε = {values['energy_excess']:z.6f}, " if "energy_excess" in values else ""
    nodal = int(values["nodal_points"])
    points = "no nodal points" if nodal == 0 else f"{nodal} nodal point{'s' if nodal > 1 else ''}"
    return f"{energy}M_z = {_signed(values['mz'])}, Q = {round(values['charge'])}, {points}"


def _signed(value: float) -> str:
    text = f"{value:+z.4f}"
    return "0" if float(text) == 0 else text
