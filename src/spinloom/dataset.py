"""Data sets of textures on disk: make them, open them, take batches, check and repair them."""

from __future__ import annotations

import hashlib
import operator
import random
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, final, overload

import numpy as np
import torch
from torch import Tensor

from spinloom.errors import BadInput, whole
from spinloom.fields import to_xarray
from spinloom.files import beside, sync_folder, tidy, write_json
from spinloom.hamiltonian import Hamiltonian, as_size, as_spins
from spinloom.octahedral import Codes, decode_picks, encode, length_error
from spinloom.progress import progress
from spinloom.schedule import DEFAULT_SCHEDULE, Schedule
from spinloom.shards import (
    INFO,
    bad_shards,
    check_lengths,
    complete,
    header,
    pack,
    read_ahead,
    read_codes,
    read_info,
    remove_abandoned,
    write_shard,
)
from spinloom.simulation import Simulation, begun, finish, has_shard, make_shard, missing_shards
from spinloom.typing import Spins

UNIT = 1e-3
"""How far from 1 the length of a spin may be that is handed over to be stored."""


@final
class Dataset:
    """Textures of one size on disk, or a contiguous part of them; shards are mapped into memory when used.

    ``len(data)``; ``data[i]`` is (3, H, W); ``data[a:b]``, ``data[[i, j]]`` and ``data[mask]`` are
    (n, 3, H, W): float32 unit vectors, within 0.004° of what was stored.

    Attributes:
        path: the folder.
        info: the content of ``dataset.json``, which describes the whole set: ``origin``, ``seed``,
            ``schedule``, ``statistics`` (mean and standard deviation of ε and M_z), …
        size: (H, W).
        hamiltonian: what ε is measured with; None for textures that came without one.
        part: the numbers of these textures in the whole set.
    """

    def __init__(self, path: Path, info: dict[str, Any], part: range | None = None, shards: list | None = None) -> None:
        self.path = path
        self.info = info
        self.size: tuple[int, int] = (info["size"][0], info["size"][1])
        self.hamiltonian = None if info["hamiltonian"] is None else Hamiltonian(**info["hamiltonian"])
        self.part = range(info["samples"]) if part is None else part
        self._shards: list[np.ndarray | None] = [None] * len(info["shards"]) if shards is None else shards

    @property
    def checksum(self) -> str:
        """SHA-256 over the shards' own checksums: equal for two sets only if all their textures are."""
        return hashlib.sha256("".join(entry["sha256"] for entry in self.info["shards"]).encode()).hexdigest()

    def __repr__(self) -> str:
        rows, columns = self.size
        return f"<Dataset {str(self.path)!r}: {len(self)} textures of {rows} × {columns}>"

    def __len__(self) -> int:
        return len(self.part)

    def __getitem__(self, index: Any) -> Spins:
        """Textures by number, slice, list or array of numbers, or mask.

        Raises:
            IndexError: a number beyond the set.
            BadInput: an index of another kind; a shard that is damaged.
        """
        if isinstance(index, slice):
            return self._take(np.arange(len(self))[index])
        numbers = np.asarray(index)
        if numbers.size == 0 and not isinstance(index, np.ndarray):
            numbers = numbers.astype(np.int64)  # an empty list has no type of its own
        if numbers.dtype == bool and numbers.shape == (len(self),):
            return self._take(np.flatnonzero(numbers))
        if not np.issubdtype(numbers.dtype, np.integer) or numbers.ndim > 1:
            raise BadInput(f"index={index!r}: use a number, a slice, whole numbers, or one boolean a texture")
        numbers = numbers.astype(np.int64)
        if numbers.size and not -len(self) <= numbers.min() <= numbers.max() < len(self):
            raise IndexError(f"index {index}: the set has {len(self)} textures")
        spins = self._take(np.atleast_1d(numbers % max(len(self), 1)))
        return spins if numbers.ndim else spins[0]

    def __iter__(self) -> Iterator[Tensor]:
        return (self[number] for number in range(len(self)))

    def _take(self, numbers: np.ndarray) -> Tensor:
        rows, columns = self.size
        shard, row = np.divmod(numbers + self.part.start, self.info["shard_size"])
        picks = [
            (self._codes(number), row[shard == number], np.flatnonzero(shard == number))
            for number in np.unique(shard).tolist()
        ]
        for codes, chosen, _ in picks:
            read_ahead(codes, chosen)
        return decode_picks(picks, len(numbers), rows * columns).reshape(len(numbers), 3, rows, columns)

    def _codes(self, number: int) -> np.ndarray:
        codes = self._shards[number]
        if codes is None:
            entry = self.info["shards"][number]
            mapped = read_codes(self.path / entry["name"], (entry["samples"], 2, *self.size))
            codes = self._shards[number] = mapped.flatten(2).numpy()
        return codes

    def split(self, fraction: float) -> tuple[Dataset, Dataset]:
        """The first ``fraction`` of the textures and the rest, as views of the same files.

        Raises:
            BadInput: a part would be empty.
        """
        cut = round(len(self) * fraction) if 0 < fraction < 1 else 0
        if not 0 < cut < len(self):
            raise BadInput(f"fraction={fraction}: one part of {len(self)} textures would be empty; use e.g. 0.75")
        first, rest = self.part[:cut], self.part[cut:]
        shared = (self.path, self.info)
        return Dataset(*shared, first, self._shards), Dataset(*shared, rest, self._shards)

    def window(self, first: int, number: int | None = None) -> Dataset:
        """Textures ``first`` to ``first + number`` − 1, or all from there on, as a view of the same files.

        Raises:
            BadInput: there are none, or fewer than ``number``.
        """
        first, count = whole("first", first), len(self)
        if not 0 <= first < count:
            raise BadInput(f"first={first}: {self.path} has {count} textures, counted from 0; use 0 to {count - 1}")
        number = count - first if number is None else whole("number", number)
        if not 1 <= number <= count - first:
            raise BadInput(
                f"first={first}, number={number}: {self.path} has {count} textures, counted from 0; use less"
            )
        return Dataset(self.path, self.info, self.part[first : first + number], self._shards)

    def batches(self, batch: int, seed: int = 0, start: int = 0, augment: bool = False) -> Iterator[Tensor]:
        """Batches (batch, 3, H, W) without end; the k-th to come has number ``start + k``.

        An epoch is a random order of all textures, cut into ⌊n / batch⌋ batches (what is left over sits that
        epoch out). A batch is a function of the data, ``seed`` and its number alone, so a training that goes
        on with ``start`` sees what it would have seen. ``augment`` applies random symmetries of the
        Hamiltonian, one a texture.

        Raises:
            BadInput: ``batch`` over the number of textures, or ``augment`` without a Hamiltonian.
        """
        if not 1 <= batch <= len(self):
            raise BadInput(f"batch={batch}: the set has {len(self)} textures; use 1 to {len(self)}")
        if start < 0:
            raise BadInput(f"start={start}: the number of a batch is 0 or more; use e.g. start=0")
        if augment and self.hamiltonian is None:
            raise BadInput(f"augment=True: {self.path} has no Hamiltonian to take symmetries from; use augment=False")
        return self._batches(batch, seed % 2**64, start, augment)

    def _batches(self, batch: int, seed: int, number: int, augment: bool) -> Iterator[Tensor]:
        from spinloom.symmetry import random_symmetry

        an_epoch = len(self) // batch
        of_epoch, order = -1, np.empty(0, np.int64)
        while True:
            epoch, position = divmod(number, an_epoch)
            if epoch != of_epoch:
                of_epoch, order = epoch, np.argsort(_words(seed, epoch, 0, len(self)), kind="stable")
            spins = self._take(order[position * batch : (position + 1) * batch])
            if augment:
                generator = torch.Generator().manual_seed(int(_words(seed, number, 1, 1)[0] >> np.uint64(1)))
                spins = random_symmetry(spins, self.hamiltonian, generator)
            yield spins
            number += 1

    def to_xarray(
        self, name: str = "field", cell: tuple[float, float, float] = (1.0, 1.0, 1.0), units: str = "sites"
    ) -> Any:
        """An ``xarray.DataArray`` (texture, x, y, z, vdims), each texture as Ubermag's ``Field.to_xarray``.

        ``discretisedfield.Field.from_xarray(array[i])`` takes it back. ``cell`` is the size of a site in
        ``units``, e.g. ``cell=(2e-9, 2e-9, 1e-9), units="m"``. With Dask installed nothing is decoded before
        it is used; without, everything at once.

        Raises:
            BadInput: xarray is not installed.

        Source: discretisedfield, ``Field.to_xarray``: dimensions x, y, z, vdims; coordinates of cell centres;
        attributes units, cell, pmin, pmax, nvdim, tolerance_factor.
        """
        return to_xarray(self, name, cell, units)


def _words(seed: int, number: int, use: Literal[0, 1], count: int) -> np.ndarray:
    """64-bit random words, a function of the arguments alone."""
    # NumPy promises these words for all its versions, which it does not for its shuffles
    return np.random.Philox(key=np.array([seed, number], np.uint64), counter=[0, 0, 0, use]).random_raw(count)


def open_dataset(path: Path | str) -> Dataset:
    """Open a finished data set; only ``dataset.json`` is read, and each shard's length compared with it.

    Raises:
        BadInput: no such folder, not a data set, an unfinished one, a shard missing or cut off.
    """
    path = Path(path)
    info = read_info(path)
    check_lengths(path, info)
    return Dataset(path, info)


@overload
def simulate(
    out: Path | str,
    H: Hamiltonian,
    size: int | tuple[int, int],
    samples: int,
    seed: int = 0,
    schedule: Schedule = DEFAULT_SCHEDULE,
    shard_size: int = 500,
    threads: int | None = None,
    show: bool = True,
    shard: None = None,
    device: str | torch.device = "cpu",
) -> Dataset: ...


@overload
def simulate(
    out: Path | str,
    H: Hamiltonian,
    size: int | tuple[int, int],
    samples: int,
    seed: int = 0,
    schedule: Schedule = DEFAULT_SCHEDULE,
    shard_size: int = 500,
    threads: int | None = None,
    show: bool = True,
    *,
    shard: tuple[int, int],
    device: str | torch.device = "cpu",
) -> Dataset | None: ...


def simulate(
    out: Path | str,
    H: Hamiltonian,
    size: int | tuple[int, int],
    samples: int,
    seed: int = 0,
    schedule: Schedule = DEFAULT_SCHEDULE,
    shard_size: int = 500,
    threads: int | None = None,
    show: bool = True,
    shard: tuple[int, int] | None = None,
    device: str | torch.device = "cpu",
) -> Dataset | None:
    """Anneal a data set into the folder ``out``, or go on with one that was interrupted.

    Killed at any moment and called again as before, it ends with the same bytes. Texture k depends on
    (H, size, seed, schedule, k) alone, not on threads or shards. One shard is held in memory at a time. Several
    processes that make the same set at once share the work.

    ``shard=(i, n)`` makes the i-th, (i+n)-th, (i+2n)-th … shard only (i from 0), for the jobs of an array;
    the job that finds every shard there finishes the set, and so does a call without ``shard``. None is
    returned while others are missing.

    Raises:
        BadInput: a bad value; a folder that holds something else, or a data set of another request (the line
            says what differs); a full disk (the finished shards stay, the same call goes on from them).
    """
    out = Path(out)
    simulation = Simulation(H, as_size(size), samples, seed, schedule, shard_size, str(device))
    place, step = (0, 1) if shard is None else _place(shard)
    if not 0 <= place < step:
        raise BadInput(f"shard=({place}, {step}): need 0 ≤ i < n, jobs count from 0; use e.g. shard=(0, 4)")
    with begun(out, simulation) as first:
        missing = missing_shards(out, simulation, range(simulation.shards)[place::step])
        if not first:
            # somebody else may be at it: processes that share a folder share the work too, if each goes through
            # it in an order of its own
            random.shuffle(missing)
        _make(out, simulation, missing, threads, show)
    return open_dataset(out) if finish(out, simulation) else None


def _place(shard: Any) -> tuple[int, int]:
    try:
        place, step = shard
        return operator.index(place), operator.index(step)
    except (TypeError, ValueError):
        raise BadInput(f"shard={shard!r}: need (i, n), the i-th of n jobs; use e.g. shard=(0, 4)") from None


def _make(out: Path, simulation: Simulation, missing: list[int], threads: int | None, show: bool) -> None:
    textures = sum(map(simulation.count, missing))
    with progress("simulating", textures, "textures", show and textures > 0) as advance:
        for number in missing:
            if (out / INFO).exists():
                return  # another process has finished it meanwhile
            if has_shard(out, number):
                advance(simulation.count(number))
            else:
                make_shard(out, simulation, number, threads, advance)


def write_dataset(
    out: Path | str,
    spins: Any,
    hamiltonian: Hamiltonian | None = None,
    origin: dict[str, Any] | Callable[[], dict[str, Any]] | None = None,
    shard_size: int = 500,
) -> Dataset:
    """Store generated or imported textures as a data set: the whole folder appears at once, or nothing.

    ``spins`` is (n, 3, H, W), or an iterable of such batches or of single textures, which are taken as they
    come, a shard at a time. ``origin`` says where they are from, in JSON values; a function is asked after the
    last texture. Without a Hamiltonian the set knows no energies and no symmetries but everything else.

    Raises:
        BadInput: the folder exists and is not empty; no textures; sizes that differ; spins that are not unit
            vectors to 1e-3; the disk is full.
    """
    out = Path(out)
    if shard_size < 1:
        raise BadInput(f"shard_size={shard_size}: a count of textures must be positive; use 1 or more")
    with new_folder(out) as partial:
        records = []
        size = (0, 0)
        for number, codes in enumerate(_regrouped(spins, shard_size)):
            size = (codes.shape[-2], codes.shape[-1])
            content, record = pack(number, codes, hamiltonian)
            write_shard(partial, number, content)
            records.append(record)
        if not records:
            raise BadInput("spins: no textures at all; give at least one")
        found = origin() if callable(origin) else origin
        head = header(
            {"kind": "imported"} if found is None else found,
            hamiltonian,
            size,
            sum(record["samples"] for record in records),
            shard_size,
        )
        write_json(partial / INFO, complete(head, records))
    return open_dataset(out)


@contextmanager
def new_folder(out: Path) -> Iterator[Path]:
    """An empty folder to fill; at the end it becomes ``out``, whole, and after an error nothing is left of it.

    Raises:
        BadInput: ``out`` exists and is not empty, or cannot be made; the disk is full.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise BadInput(f"{out}: exists and is not an empty folder; name another, nothing is overwritten")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        tidy(out)
        partial = beside(out)
        partial.mkdir()
    except OSError as error:
        raise BadInput(f"{out}: cannot be made ({error.strerror}); name another folder") from error
    try:
        yield partial
        partial.replace(out)
    except OSError as error:
        raise BadInput(f"{out}: cannot be made ({error.strerror}); name another folder") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    sync_folder(out.parent)


def _regrouped(spins: Any, shard_size: int) -> Iterator[Codes]:
    """Codes of exactly ``shard_size`` textures, the last time of the rest."""
    batches: Iterable[Any] = [spins] if isinstance(spins, (Tensor, np.ndarray)) else spins
    waiting: list[Tensor] = []
    for given in batches:
        some = as_spins(given)
        some = some.reshape(-1, *some.shape[-3:])
        for piece in some.split(shard_size):
            if waiting and piece.shape[1:] != (3, *waiting[0].shape[2:]):
                raise BadInput(
                    f"spins: textures of {tuple(piece.shape[-2:])} after {tuple(waiting[0].shape[2:])}; "
                    "a data set has one size, store them apart"
                )
            away = length_error(piece)
            empty = int((piece == 0).all(-3).sum()) if away >= 1 else 0
            if empty:
                raise BadInput(
                    f"spins: {empty} of {piece.numel() // 3} sites hold no spin (outside a sample?), but a lattice is "
                    "full; store a part without them, e.g. spins[..., y0:y1, x0:x1]"
                )
            if away > UNIT:
                raise BadInput(f"spins: a length differs from 1 by {away:.3g}; normalise them first")
            waiting.append(encode(piece))
            if sum(map(len, waiting)) >= shard_size:
                joined = torch.cat(waiting)
                yield joined[:shard_size]
                waiting = [joined[shard_size:]]
    rest = torch.cat(waiting) if waiting else torch.empty(0)
    if len(rest):
        yield rest


def verify_dataset(path: Path | str, show: bool = False) -> list[str]:
    """The names of the shards that are missing or differ from their checksum; all of them are read.

    Raises:
        BadInput: not a data set, or an unfinished one.
    """
    path = Path(path)
    info = read_info(path)
    bad = []
    with progress("verifying", info["samples"], "textures", show) as advance:
        for shard, differs in bad_shards(path, info):
            if differs:
                bad.append(shard["name"])
            advance(shard["samples"])
    return bad


def repair_dataset(path: Path | str, threads: int | None = None, show: bool = True) -> list[str]:
    """Anneal exactly the bad shards again, to the recorded checksums; their names.

    Raises:
        BadInput: not a data set; damaged textures that were generated or imported, which nothing here can
            make again; a shard that comes out otherwise than recorded (nothing is overwritten then).
    """
    path = Path(path)
    bad = verify_dataset(path, show)
    if not bad:
        return []
    info = read_info(path)
    if info["schedule"] is None:
        kind = info["origin"].get("kind", "generated")
        again = "import the files again, or " if kind == "imported" and "files" in info["origin"] else ""
        raise BadInput(f"{path}: {kind} textures cannot be made again; {again}restore {', '.join(bad)} from a copy")
    simulation = Simulation.from_info(info)
    numbers = [number for number, shard in enumerate(info["shards"]) if shard["name"] in bad]
    with progress("repairing", sum(map(simulation.count, numbers)), "textures", show) as advance:
        for number in numbers:
            codes = simulation.anneal_shard(number, threads, advance)
            content, record = pack(number, codes, None)
            if record["sha256"] != info["shards"][number]["sha256"]:
                raise BadInput(
                    f"{path / record['name']}: annealed again it differs from the recorded checksum; "
                    f"use spinloom {info['version']}, which made the set, or simulate it into another folder"
                )
            write_shard(path, number, content)
    remove_abandoned(path)
    return bad
