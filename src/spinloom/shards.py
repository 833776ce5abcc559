"""The files of a data set: shards of coded textures, and the one description that makes them a set.

A finished folder holds ``dataset.json`` and ``shard-000000.safetensors``, ``shard-000001.safetensors``, … and
nothing else. Each shard has one array, ``spins``: int16 (n, 2, H, W), the octahedral codes of n textures.
``dataset.json`` is written last, so a folder that has it is finished. It holds no dates, host names or
durations: a set's bytes are a function of what was asked for.
"""

from __future__ import annotations

import ctypes
import hashlib
import math
import mmap
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from spinloom import version
from spinloom.errors import BadInput
from spinloom.files import abandoned, read_json, write_bytes
from spinloom.hamiltonian import Hamiltonian
from spinloom.octahedral import Codes, decode

FORMAT = "spinloom dataset"
FORMAT_VERSION = 1
ENCODING = "octahedral int16"
INFO = "dataset.json"
PLAN = "plan.json"

OWN_PARTIAL = re.compile(r"\.(dataset\.json|plan\.json|shard-\d+\.(?:json|safetensors))\.[\w-]+\.partial")
"""What a write that goes on, or was cut off, has under way (see ``spinloom.files``)."""

MEASURED_AT_ONCE = 2**16
"""Sites whose energy is taken in one go, to keep the float64 temporaries in the processor's cache."""


def shard_name(number: int) -> str:
    return f"shard-{number:06d}.safetensors"


def record_name(number: int) -> str:
    """The file beside a shard of an unfinished set: its entry in ``dataset.json``, and its measures."""
    return f"shard-{number:06d}.json"


def shard_samples(samples: int, shard_size: int) -> list[int]:
    """How many textures each shard holds: the last one the rest."""
    return [min(shard_size, samples - first) for first in range(0, samples, shard_size)]


def header(
    origin: dict[str, Any],
    hamiltonian: Hamiltonian | None,
    size: tuple[int, int],
    samples: int | None,
    shard_size: int,
    seed: int | None = None,
    schedule: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """What ``dataset.json`` says of the whole set, before its shards and statistics."""
    return {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "version": version.__version__,
        "origin": origin,
        "hamiltonian": None if hamiltonian is None else hamiltonian.as_dict(),
        "size": list(size),
        "samples": samples,
        "seed": seed,
        "schedule": schedule,
        "shard_size": shard_size,
        "encoding": ENCODING,
    }


def pack(number: int, codes: Codes, hamiltonian: Hamiltonian | None) -> tuple[bytes, dict[str, Any]]:
    """A shard's bytes, and its record: name, samples, bytes, sha256, and what its measures sum up to."""
    # one metadata key only: the library writes several in an arbitrary order
    content = save({"spins": codes.contiguous()}, metadata={"encoding": ENCODING})
    record = {
        "name": shard_name(number),
        "samples": codes.shape[0],
        "bytes": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
        "measures": {name: _spread(values) for name, values in measures(codes, hamiltonian).items()},
    }
    return content, record


def _spread(values: list[float]) -> dict[str, float]:
    """Mean, and sum of squared deviations from it: of a few, they combine to those of all."""
    mean = math.fsum(values) / len(values)
    return {"mean": mean, "squares": math.fsum((value - mean) ** 2 for value in values)}


def measures(codes: Codes, hamiltonian: Hamiltonian | None) -> dict[str, list[float]]:
    """M_z and, given a Hamiltonian, ε of each texture as it is stored, in float64."""
    columns: dict[str, list[float]] = {"mz": []} if hamiltonian is None else {"energy_excess": [], "mz": []}
    step = max(1, MEASURED_AT_ONCE // (codes.shape[-1] * codes.shape[-2]))
    for some in codes.split(step):
        spins = decode(some).double()
        columns["mz"] += spins[:, 2].mean((-2, -1)).tolist()
        if hamiltonian is not None:
            columns["energy_excess"] += hamiltonian.energy_excess(spins).tolist()
    return columns


def complete(head: dict[str, Any], records: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """The content of ``dataset.json``: header, shards, and mean and standard deviation of the measures.

    With n, m and s² the shards' counts, means and squared deviations, and M = Σ n m / Σ n, the variance is
    (Σ s² + Σ n (m − M)²) / (Σ n − 1).
    """
    shards: list[dict[str, Any]] = []
    columns: dict[str, list[tuple[float, float]]] = {}
    for record in records:
        shards.append({key: record[key] for key in ("name", "samples", "bytes", "sha256")})
        for name, found in record["measures"].items():
            columns.setdefault(name, []).append((found["mean"], found["squares"]))
    counts = [shard["samples"] for shard in shards]
    statistics = {}
    for name, parts in columns.items():
        mean = math.fsum(count * part for count, (part, _) in zip(counts, parts, strict=True)) / sum(counts)
        within = math.fsum(squares for _, squares in parts)
        between = math.fsum(count * (part - mean) ** 2 for count, (part, _) in zip(counts, parts, strict=True))
        std = math.sqrt((within + between) / max(1, sum(counts) - 1))
        statistics[name] = {"mean": _rounded(mean), "std": _rounded(std)}
    return {**head, "shards": shards, "statistics": statistics}


def _rounded(value: float) -> float:
    # the last bits of a float64 sum over sites may depend on the processor and the threads; these do not
    return round(float(f"{value:.9g}"), 10) + 0.0  # + 0.0 takes the sign off −0.0


def read_info(path: Path | str) -> dict[str, Any]:
    """``dataset.json`` of a finished set, every field checked.

    Raises:
        BadInput: no such folder, not a data set, an unfinished one, or a description that cannot be right.
    """
    path = Path(path)
    if not path.is_dir():
        if path.exists():
            raise BadInput(f"{path}: is a file; name the folder of a data set")
        raise BadInput(f"{path}: no such folder; make a data set there with simulate, or check the path")
    if not (path / INFO).exists():
        if (path / PLAN).exists():
            made = len(list(path.glob("shard-*.safetensors")))
            raise BadInput(
                f"{path}: an unfinished data set, {made} shards so far; call simulate as before to finish it"
            )
        raise BadInput(f"{path}: not a data set (no {INFO}); name a folder that simulate or import has made")
    info = read_json(path / INFO)
    if not isinstance(info, dict) or info.get("format") != FORMAT:
        raise BadInput(f"{path / INFO}: describes no data set; name a folder that simulate or import has made")
    if info.get("format_version") != FORMAT_VERSION or info.get("encoding") != ENCODING:
        raise BadInput(
            f"{path / INFO}: format {info.get('format_version')}, {info.get('encoding')}, is not known here; "
            "use the spinloom that made it, or a newer one"
        )
    try:
        counts = shard_samples(info["samples"], info["shard_size"])
        expected = [(shard_name(number), count) for number, count in enumerate(counts)]
        good = (
            len(info["size"]) == 2
            and all(isinstance(side, int) and side > 0 for side in info["size"])
            and [(shard["name"], shard["samples"]) for shard in info["shards"]] == expected
            and all(isinstance(shard["bytes"], int) for shard in info["shards"])
            and all(len(shard["sha256"]) == 64 for shard in info["shards"])
            and isinstance(info["origin"], dict)
            and isinstance(info["statistics"], dict)
            and {"seed", "schedule", "version"} <= info.keys()
            and (info["schedule"] is None or info["hamiltonian"] is not None)
        )
        if info["hamiltonian"] is not None:
            Hamiltonian(**info["hamiltonian"])
    except (KeyError, TypeError, ValueError) as error:
        raise BadInput(f"{path / INFO}: damaged ({error}); restore it, or make the data set again") from error
    if not good:
        raise BadInput(f"{path / INFO}: damaged, its fields disagree; restore it, or make the data set again")
    return info


def check_lengths(path: Path, info: dict[str, Any]) -> None:
    """Every shard is there and as long as recorded, without reading it.

    Raises:
        BadInput: a shard is missing, or shorter or longer than recorded.
    """
    for shard in info["shards"]:
        file = path / shard["name"]
        way_out = f"repair it with verify_dataset and repair_dataset (spinloom verify {path} --repair)"
        try:
            length = file.stat().st_size
        except OSError as error:
            raise BadInput(f"{file}: missing ({error.strerror}); {way_out}") from error
        if length != shard["bytes"]:
            raise BadInput(f"{file}: damaged, {length} bytes instead of {shard['bytes']}; {way_out}")


def bad_shards(path: Path, info: dict[str, Any]) -> Iterable[tuple[dict[str, Any], bool]]:
    """Each shard's entry, and whether its file differs from it: missing, another length, another checksum."""
    for shard in info["shards"]:
        file = path / shard["name"]
        try:
            bad = file.stat().st_size != shard["bytes"] or _sha256(file) != shard["sha256"]
        except OSError:
            bad = True
        yield shard, bad


def _sha256(file: Path) -> str:
    with file.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def read_codes(file: Path, shape: tuple[int, int, int, int]) -> Codes:
    """A shard's codes, mapped into memory: nothing is read before it is used.

    Raises:
        BadInput: the file is not a shard of this shape.
    """
    way_out = "check the data set with verify_dataset (spinloom verify)"
    try:
        with safe_open(file, framework="pt") as handle:
            codes = handle.get_tensor("spins")
    except (OSError, SafetensorError) as error:
        raise BadInput(f"{file}: damaged ({error}); {way_out}") from error
    if codes.dtype != torch.int16 or tuple(codes.shape) != shape:
        found = f"{codes.dtype} {tuple(codes.shape)}"
        raise BadInput(f"{file}: damaged, holds {found} instead of int16 {shape}; {way_out}")
    return codes


def _system_madvise() -> Any:
    try:
        call = ctypes.CDLL(None, use_errno=True).madvise
    except (OSError, AttributeError, TypeError):  # another kind of system: reading goes on without it
        return None
    call.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    return call


_madvise = _system_madvise() if hasattr(mmap, "MADV_WILLNEED") else None


def read_ahead(codes: np.ndarray, rows: np.ndarray) -> None:
    """Tell the system that these textures of a mapped shard are about to be read.

    Without that they come from the disk a page at a time, each when the one before has arrived.
    """
    if _madvise is None:
        return
    start, length = codes.ctypes.data, codes.strides[0]
    for row in rows.tolist():
        begin = start + row * length
        page = begin - begin % mmap.PAGESIZE
        _madvise(page, begin + length - page, mmap.MADV_WILLNEED)


def write_shard(path: Path, number: int, content: bytes) -> None:
    """The shard, whole or not at all."""
    write_bytes(path / shard_name(number), content)


def remove_partials(path: Path) -> None:
    """Take away everything a data set's writes have under way; who still writes then writes once more."""
    for file in path.iterdir():
        if OWN_PARTIAL.fullmatch(file.name):
            file.unlink(missing_ok=True)


def remove_abandoned(path: Path, names: set[str] | None = None) -> None:
    """Take away what killed writers left: of the files ``names``, or of all files of a data set."""
    for file in path.iterdir():
        match = OWN_PARTIAL.fullmatch(file.name)
        if match and (names is None or match[1] in names) and abandoned(file):
            file.unlink(missing_ok=True)
