"""Looking through latent space for the texture with the least or most of something (the paper's Fig. 5)."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from spinloom.anneal import relax as align
from spinloom.errors import BadInput
from spinloom.files import read_json, write_json
from spinloom.findings import Found, Front, reports, settle
from spinloom.goals import Goal, Measure, goals
from spinloom.hamiltonian import Hamiltonian, as_spins
from spinloom.optimise import Pool, SearchConfig, Tape, judge_of, optimise, resolved
from spinloom.processor import for_networks
from spinloom.run import Run, differences
from spinloom.sample import CHUNK, Decode
from spinloom.typing import Latents, PerTexture, Spins

FORMAT = 1
SEARCH, STATE = "search.json", "state.safetensors"
CANDIDATES = 10
"""Of the best codes that are relaxed at the end, of which the best then is the answer."""

COMPARED = 500
"""Textures of the reference the answer's value is compared with."""

MEMBERS = 24
"""Of a Pareto front that are relaxed at the end."""


def search(
    run: Run,
    H: Hamiltonian | None = None,
    objective: str | Measure | Sequence[str | Measure] = "min-energy",
    method: Literal["ga", "cma", "gradient", "nsga2"] = "ga",
    seed: int = 0,
    relax: int | None = None,
    population: int | None = None,
    generations: int | None = None,
    head_start: int | None = None,
    inner_relax: int | None = None,
    nodal_weight: float | int = 1.0,
    norm_weight: float | int = 1.0,
    bound: float | int = 4.0,
    reference: Any = None,
    out: Path | str | None = None,
    show: bool = False,
) -> Found | Front:
    """The texture of a run's generator with the least or most of ``objective``, and a report on it.

    A code is judged by the objective of its texture after ``inner_relax`` zero-temperature sweeps, with penalties
    for nodal points that are left and for a norm that the prior would hardly draw. At the end the ten
    best are relaxed by ``relax`` sweeps, and the best of them is the answer; it is also followed to where it comes
    to rest (:func:`spinloom.findings.settle`), since a texture may be far from that after a few sweeps.

    Args:
        H: None takes the run's. A field in it changes what ``energy`` means: minimising it is maximising M_z.
        objective: see :func:`spinloom.goals.goals`; a sequence is a search for the Pareto front, by ``nsga2``.
        method, population, generations, head_start, inner_relax, relax, nodal_weight, norm_weight, bound, seed: see
            :class:`~spinloom.optimise.SearchConfig`. By default the answer is relaxed by 2000 sweeps, by none where
            H is not known or the goal is about nodal points.
        reference: textures the answer is compared with, a data set or (n, 3, H, W), to say whether it is new.
        out: a folder that keeps the search: the same call again goes on from where it was stopped, to the same
            bits, or gives the finished answer again.
        show: a progress bar.

    Raises:
        BadInput: an unknown objective or method, one that does not go with the other, a Hamiltonian or
            discriminator that is needed and missing, a folder that keeps another search.
    """
    model = run.hamiltonian if H is None else H
    wanted = goals(objective, run, model)
    first = wanted[0]
    config = SearchConfig(
        method if len(wanted) == 1 or method != "ga" else "nsga2",
        population,
        generations,
        head_start,
        inner_relax,
        relax,
        nodal_weight,
        norm_weight,
        bound,
        seed,
    )
    device = next(run.generator.parameters()).device
    generator = run.generator

    def decode(z: Tensor) -> Tensor:
        return generator(z.to(device, torch.float32))

    with for_networks():
        config = resolved(config, wanted, decode, run.networks.latent, model)
        folder = None if out is None else Path(out)
        if folder is not None:
            settings = {
                "objective": [goal.name for goal in wanted],
                "hamiltonian": None if model is None else model.as_dict(),
                "weights": _weights(run),
                "step": run.step,
                **asdict(config),
            }
            _open(folder, settings)
        tape = Tape(None if folder is None else folder / STATE)
        cells = run.networks.bottom if run.networks.grid else None
        pool, history = optimise(decode, wanted, config, run.networks.latent, model, tape, show, cells)
        if len(wanted) > 1:
            found = _front(decode, wanted, config, model, pool, history, reference)
        else:
            found = _best(decode, first, config, model, pool, history, reference)
    if folder is not None:
        _write(folder, found)
    return found


# the end of a search


def _finish(decode: Decode, z: np.ndarray, config: SearchConfig, H: Hamiltonian | None) -> tuple[Latents, Spins, Spins]:
    """Codes in float32, their textures, and these relaxed, on the CPU."""
    codes = torch.from_numpy(z).float()
    with torch.no_grad():
        decoded = torch.cat([decode(part).float().cpu() for part in codes.split(CHUNK)])
    relaxed = align(decoded, H, config.relax) if config.relax and H is not None else decoded
    return codes, decoded, relaxed


def _best(
    decode: Decode,
    goal: Goal,
    config: SearchConfig,
    H: Hamiltonian | None,
    pool: Pool,
    history: dict[str, np.ndarray],
    reference: Any,
) -> Found:
    codes, values = pool
    _, first = np.unique(codes, axis=0, return_index=True)
    order = first[np.argsort(values[first, 0], kind="stable")][:CANDIDATES]
    z, decoded, relaxed = _finish(decode, codes[order], config, H)
    judge = judge_of(decode, (goal,), config, codes.shape[1], H)
    settled = relaxed if H is None else settle(relaxed, H)
    # the best where it comes to rest, if it is to be relaxed at all: not what is still on its way there
    cost = judge.of_spins(settled if config.relax else relaxed, 0)[:, 0] + judge.of_norm(z) * judge.spread[0]
    best = int(cost.argmin())
    k = slice(best, best + 1)
    settled = settled[k]
    (report,) = reports(z[k], decoded[k], relaxed[k], settled, H, config.relax or 0, reference)
    value = float(goal.of(relaxed[k]))
    data = None if reference is None else goal.of(as_spins(reference[:COMPARED]))
    if data is not None:
        _beside_data(report, goal, value, data)
    return Found(z[best], relaxed[best], value, history, decoded[best], settled[0], report, goal.name, data)


def _beside_data(report: dict[str, Any], goal: Goal, value: float, theirs: PerTexture) -> None:
    """Put into the report how the goal is spread over textures of the reference."""
    mean, std = float(theirs.mean()), float(theirs.std()) if len(theirs) > 1 else 0.0
    least, most = float(theirs.min()), float(theirs.max())
    report["data"] = {"mean": mean, "std": std, "least": least, "most": most, "textures": len(theirs)}
    place = [] if least <= value <= most else ["beyond them all"]
    place += [f"{abs(value - mean) / std:.1f} standard deviations from their mean"] if std > 0 else []
    report["words"].append(
        f"{goal.name} = {value:.6g}; {len(theirs)} training textures have {mean:.5g} ± {std:.2g}, "
        f"from {least:.6g} to {most:.6g}; it lies {', '.join(place) or 'at their value'}"
    )


def _front(
    decode: Decode,
    wanted: tuple[Goal, ...],
    config: SearchConfig,
    H: Hamiltonian | None,
    pool: Pool,
    history: dict[str, np.ndarray],
    reference: Any,
) -> Front:
    codes, values = pool
    picked = np.flatnonzero(unbeaten(values))
    picked = picked[np.argsort(values[picked, 0], kind="stable")]
    picked = picked[np.unique(np.linspace(0, len(picked) - 1, min(MEMBERS, len(picked))).round().astype(int))]
    z, decoded, relaxed = _finish(decode, codes[picked], config, H)
    judge = judge_of(decode, wanted, config, codes.shape[1], H)
    cost = judge.of_spins(relaxed, 0)
    kept = torch.from_numpy(np.flatnonzero(unbeaten(cost.numpy())))
    plain = torch.stack([goal.of(relaxed[kept]) for goal in wanted], 1)
    kept, plain = kept[plain[:, 0].argsort(stable=True)], plain[plain[:, 0].argsort(stable=True)]
    z, decoded, relaxed = z[kept], decoded[kept], relaxed[kept]
    settled = relaxed if H is None else settle(relaxed, H)
    said = reports(z, decoded, relaxed, settled, H, config.relax or 0, reference)
    names = tuple(goal.name for goal in wanted)
    data = None
    if reference is not None:
        theirs = as_spins(reference[:COMPARED])
        data = torch.stack([goal.of(theirs) for goal in wanted], 1)
    return Front(names, z, relaxed, plain, history, decoded, settled, tuple(said), data)


def unbeaten(values: np.ndarray) -> np.ndarray:
    """Which of the rows (n, k) no other row beats: is nowhere larger and somewhere smaller. The first of equal ones."""
    _, first = np.unique(values, axis=0, return_index=True)
    rows = values[first]
    beaten = np.zeros(len(rows), bool)
    for k, row in enumerate(rows):
        beaten[k] = ((rows <= row).all(1) & (rows < row).any(1)).any()
    answer = np.zeros(len(values), bool)
    answer[first[~beaten]] = True
    return answer


# the folder


def _open(folder: Path, settings: dict[str, Any]) -> None:
    file = folder / SEARCH
    if file.exists():
        there = read_json(file)
        if not isinstance(there, dict) or there.get("format") != FORMAT or "settings" not in there:
            raise BadInput(f"{file}: is not a search this version reads; use another folder")
        other = differences(there["settings"], settings)
        if other:
            raise BadInput(f"{folder}: keeps another search ({'; '.join(other)}); use another folder")
        return
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise BadInput(f"{folder}: exists and holds no search; nothing is overwritten, use another folder")
    folder.mkdir(parents=True, exist_ok=True)
    write_json(file, {"format": FORMAT, "settings": settings})


def _write(folder: Path, found: Found | Front) -> None:
    content = read_json(folder / SEARCH)
    content["history"] = {name: values.tolist() for name, values in found.history.items()}
    content["z"] = found.z.reshape(-1, found.z.shape[-1]).tolist()
    if isinstance(found, Found):
        content["found"] = [{"z": found.z.tolist(), "value": found.value, **found.report}]
    else:
        content["found"] = [
            {"z": z, "values": values, **report}
            for z, values, report in zip(found.z.tolist(), found.values.tolist(), found.reports, strict=True)
        ]
    write_json(folder / SEARCH, content)


def _weights(run: Run) -> str:
    """What tells a generator from another one."""
    total = hashlib.sha256()
    for name, tensor in sorted(run.generator.state_dict().items()):
        total.update(name.encode())
        total.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes() if tensor.ndim else b"")
    return total.hexdigest()[:16]
