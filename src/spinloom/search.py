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
from spinloom.dataset import Dataset
from spinloom.errors import BadInput
from spinloom.files import read_json, write_json
from spinloom.findings import UNCOMPARED, Found, Front, reports, settle
from spinloom.goals import Goal, Measure, goals
from spinloom.hamiltonian import Hamiltonian, as_spins
from spinloom.novelty import comparable
from spinloom.optimise import SPREAD_CODES, Pool, SearchConfig, Tape, judge_of, optimise, resolved
from spinloom.processor import for_networks
from spinloom.run import Run, differences
from spinloom.sample import CHUNK, Decode, Score, decoder_of, prior_latents
from spinloom.simulation import request_behind
from spinloom.typing import Latents, PerTexture, Spins

FORMAT = 1
SEARCH, STATE = "search.json", "state.safetensors"
CANDIDATES = 10
"""Of the best codes that are relaxed at the end, of which the best then is the answer."""

BESIDE = 500
"""Textures of the reference the answer's value is compared with."""

MEMBERS = 24
"""Of a Pareto front that are relaxed at the end."""

SAME = 1e-4
"""Of their spread: how far what a callable gives may be from what it gave before."""

DECODER = "z → spins"
"""A decoder's name among callables: one that no function can have."""


def search(
    source: Run | Decode,
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
    *,
    latent: int | None = None,
    score: Score | None = None,
    compared: int | None = None,
) -> Found | Front:
    """The texture of a generator with the least or most of ``objective``, and a report on it.

    A code is judged by the objective of its texture after ``inner_relax`` zero-temperature sweeps, with penalties
    for nodal points that are left and for a norm that the prior would hardly draw. At the end the ten
    best are relaxed by ``relax`` sweeps, and the best of them is the answer; it is also followed to where it comes
    to rest (:func:`spinloom.findings.settle`), since a texture may be far from that after a few sweeps.

    Args:
        source: a run, or a callable, z (n, ``latent``) → spins (n, 3, H, W). Codes are on the CPU; networks may be
            elsewhere, and objectives see textures where these are. What is found is on the CPU.
        H: None takes the run's. A field in it changes what ``energy`` means: minimising it is maximising M_z.
        objective: see :func:`spinloom.goals.goals`; a sequence is a search for the Pareto front, by ``nsga2``.
        method, population, generations, head_start, inner_relax, relax, nodal_weight, norm_weight, bound, seed: see
            :class:`~spinloom.optimise.SearchConfig`. By default the answer is relaxed by 2000 sweeps, by none where
            H is not known or the goal is about nodal points.
        reference: textures the answer is compared with, a data set or (n, 3, H, W), to say whether it is new: those
            the generator was trained on. ``compared``: the first so many of them; None: all.
        out: a folder that keeps the search: the same call again goes on from where it was stopped, to the same
            bits, or gives the finished answer again.
        show: a progress bar.
        latent: numbers of a code, where ``source`` is a callable.
        score: spins → logits (n,), for ``logit``; None takes the run's discriminator.

    Raises:
        BadInput: an unknown objective or method, one that does not go with the other, a Hamiltonian, discriminator
            or code length that is needed and missing, a folder that keeps another search.
    """
    run = source if isinstance(source, Run) else None
    decode, length, size = decoder_of(source, latent)
    cells = run.networks.bottom if run is not None and run.networks.grid else None
    model = run.hamiltonian if run is not None and H is None else H
    if compared is not None and compared < 2:
        raise BadInput(f"compared={compared}: distances of the reference's own need at least 2; give more")
    if reference is not None:
        comparable(reference, size, compared)
    wanted = goals(objective, run, model, score)
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
    with for_networks():
        config = resolved(config, wanted, decode, length, model)
        folder = None if out is None else Path(out)
        if folder is not None:
            settings = {
                "objective": [goal.name for goal in wanted],
                "hamiltonian": None if model is None else model.as_dict(),
                **({"latent": length} if run is None else {"weights": _weights(run), "step": run.step}),
                **asdict(config),
            }
            _open(folder, settings, _fingerprints(decode, run is None, wanted, seed, length))
        tape = Tape(None if folder is None else folder / STATE)
        pool, history = optimise(decode, wanted, config, length, model, tape, show, cells)
        beside = (reference, compared, show, _uncompared(run))
        if len(wanted) > 1:
            found = _front(decode, wanted, config, model, pool, history, beside)
        else:
            found = _best(decode, first, config, model, pool, history, beside)
    if folder is not None:
        _write(folder, found, reference)
    return found


# the end of a search

Beside = tuple[Any, int | None, bool, str]
"""The reference, how many of it are compared with the answer, whether to show progress, and why there is none."""


def _uncompared(run: Run | None) -> str:
    """Why nothing is known of novelty without a reference, and how it can be."""
    request = None if run is None else request_behind(run.config.get("data", {}))
    make = "" if request is None else f"make them with `{request.command()}` and "
    return UNCOMPARED if run is None else f"{UNCOMPARED}; {make}name them by --reference"


def _finish(decode: Decode, z: np.ndarray, config: SearchConfig, H: Hamiltonian | None) -> tuple[Latents, Spins, Spins]:
    """Codes in float32, their textures, and these relaxed, where the decoder leaves them."""
    codes = torch.from_numpy(z).float()
    with torch.no_grad():
        decoded = torch.cat([decode(part).float() for part in codes.split(CHUNK)])
    relaxed = align(decoded, H, config.relax) if config.relax and H is not None else decoded
    return codes, decoded, relaxed


def _best(
    decode: Decode,
    goal: Goal,
    config: SearchConfig,
    H: Hamiltonian | None,
    pool: Pool,
    history: dict[str, np.ndarray],
    beside: Beside,
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
    value = float(goal.of(relaxed[k]))
    data = _values((goal,), beside[0], relaxed.device)
    decoded, relaxed, settled = (spins[k].cpu() for spins in (decoded, relaxed, settled))
    (report,) = reports(z[k], decoded, relaxed, settled, H, config.relax or 0, *beside)
    data = None if data is None else data[:, 0]
    if data is not None:
        _beside_data(report, goal, value, data)
    return Found(z[best], relaxed[0], value, history, decoded[0], settled[0], report, goal.name, data)


def _values(wanted: tuple[Goal, ...], reference: Any, device: torch.device) -> Tensor | None:
    """The goals (m, k) of the reference's first textures, seen on ``device``."""
    if reference is None:
        return None
    theirs = as_spins(reference[:BESIDE]).to(device)
    return torch.stack([goal.of(theirs) for goal in wanted], 1)


def _beside_data(report: dict[str, Any], goal: Goal, value: float, theirs: PerTexture) -> None:
    """Put into the report how the goal is spread over textures of the reference."""
    mean, std = float(theirs.mean()), float(theirs.std()) if len(theirs) > 1 else 0.0
    least, most = float(theirs.min()), float(theirs.max())
    report["data"] = {"mean": mean, "std": std, "least": least, "most": most, "textures": len(theirs)}
    near = goal.rounding(least, most)
    place = _place(value, least, most, near)
    place += [f"{abs(value - mean) / std:.1f} standard deviations from their mean"] if std > near else []
    report["words"].append(
        f"{goal.name} = {value:.6g}; {len(theirs)} training textures have {mean:.5g} ± {std:.2g}, "
        f"from {least:.6g} to {most:.6g}; it lies {', '.join(place) or 'at their value'}"
    )


def _place(value: float, least: float, most: float, near: float) -> list[str]:
    """In words where a value stands beside others; what differs by ``near`` or less is the same."""
    if most - least <= near:
        return [] if least - near <= value <= most + near else ["beyond them all"]
    if abs(value - least) <= near:
        return ["as low as the lowest of them"]
    if abs(value - most) <= near:
        return ["as high as the highest of them"]
    return [] if least < value < most else ["beyond them all"]


def _front(
    decode: Decode,
    wanted: tuple[Goal, ...],
    config: SearchConfig,
    H: Hamiltonian | None,
    pool: Pool,
    history: dict[str, np.ndarray],
    beside: Beside,
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
    data = _values(wanted, beside[0], relaxed.device)
    decoded, relaxed, settled = decoded.cpu(), relaxed.cpu(), settled.cpu()
    said = reports(z, decoded, relaxed, settled, H, config.relax or 0, *beside)
    names = tuple(goal.name for goal in wanted)
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


def _fingerprints(
    decode: Decode, strange: bool, wanted: tuple[Goal, ...], seed: int, latent: int
) -> dict[str, list[float]]:
    """What callables give on codes of the prior, by their names: to know them again, since names do not tell them.

    Of a decoder that is one (``strange``) it is the mean of S·R, with R noise that is the same for all textures.
    """
    codes = prior_latents(seed, SPREAD_CODES, latent)
    with torch.no_grad():
        spins = torch.cat([decode(part).float() for part in codes.split(CHUNK)])
    told = {goal.name: goal.of(spins) for goal in wanted if not goal.named}
    if strange:
        noise = torch.randn(spins.shape[1:], generator=torch.Generator().manual_seed(0))
        told = {DECODER: (spins.cpu() * noise).mean((1, 2, 3)), **told}
    return {name: values.double().tolist() for name, values in told.items()}


def _open(folder: Path, settings: dict[str, Any], told: dict[str, list[float]]) -> None:
    file = folder / SEARCH
    if file.exists():
        there = read_json(file)
        if not isinstance(there, dict) or there.get("format") != FORMAT or "settings" not in there:
            raise BadInput(f"{file}: is not a search this version reads; use another folder")
        other = differences(there["settings"], settings)
        if other:
            raise BadInput(f"{folder}: keeps another search ({'; '.join(other)}); use another folder")
        for name, values in told.items():
            _recognise(folder, name, there.get("callables", {}).get(name), values)
        return
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise BadInput(f"{folder}: exists and holds no search; nothing is overwritten, use another folder")
    folder.mkdir(parents=True, exist_ok=True)
    write_json(file, {"format": FORMAT, "settings": settings, **({"callables": told} if told else {})})


def _recognise(folder: Path, name: str, before: list[float] | None, now: list[float]) -> None:
    """Refuse a callable that gives other values than the one of this name that a folder's search began with.

    Raises:
        BadInput: it does, or what that one gave was not noted.
    """
    if before is None:
        raise BadInput(f"{folder}: does not say what its {name} was; use another folder")
    old, new = np.array(before), np.array(now)
    near = SAME * old.std() + SAME / 10 * np.abs(old).max()
    wrong = np.flatnonzero(np.abs(old - new) > near)
    if len(wrong):
        k = int(wrong[0])
        raise BadInput(
            f"{folder}: keeps a search with another {name} (it gave {old[k]:.6g} where this one gives {new[k]:.6g}); "
            "use another folder"
        )


def _write(folder: Path, found: Found | Front, reference: Any) -> None:
    content = read_json(folder / SEARCH)
    content["reference"] = None if reference is None else _origin(reference)
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


def _origin(reference: Any) -> dict[str, Any]:
    """What tells textures from others: how many, from which on, and the check sum of the set they are of."""
    if isinstance(reference, Dataset):
        return {"textures": len(reference), "first": reference.part.start, "checksum": reference.checksum}
    total = hashlib.sha256()
    for first in range(0, len(reference), BESIDE):
        total.update(as_spins(reference[first : first + BESIDE]).detach().cpu().float().contiguous().numpy().tobytes())
    return {"textures": len(reference), "first": 0, "checksum": total.hexdigest()}


def _weights(run: Run) -> str:
    """What tells a generator from another one."""
    total = hashlib.sha256()
    for name, tensor in sorted(run.generator.state_dict().items()):
        total.update(name.encode())
        total.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes() if tensor.ndim else b"")
    return total.hexdigest()[:16]
