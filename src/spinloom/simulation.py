"""A data set to be annealed: the request, any one of its shards, and what turns shards into a finished set.

The request is pinned in ``plan.json`` before the first texture. Every shard is a function of the request and
its number alone, so any process, anywhere, may make it, at any time, and twice does no harm; whoever finds all
of them writes ``dataset.json`` and takes the plan and the records away.
"""

from __future__ import annotations

import json
import operator
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from spinloom import version
from spinloom.errors import BadInput
from spinloom.files import read_json, write_json, write_new_json
from spinloom.hamiltonian import Hamiltonian, as_size
from spinloom.octahedral import Codes, encode
from spinloom.random import EXTRA
from spinloom.schedule import DEFAULT_SCHEDULE, Schedule
from spinloom.shards import (
    INFO,
    OWN_PARTIAL,
    PLAN,
    complete,
    header,
    pack,
    read_info,
    record_name,
    remove_abandoned,
    remove_partials,
    shard_name,
    write_shard,
)

SITES_AT_ONCE = 2**20
"""Sites annealed between two movements of the progress bar, at the least."""

MOST_SHARDS = 10**6
"""Files of a data set; each has its entry in ``dataset.json``."""


@dataclass(frozen=True)
class Simulation:
    """Everything the bytes of an annealed data set depend on.

    Raises:
        BadInput: a size that is not even, a number under 1, a seed that is negative or over 64 bits.
    """

    hamiltonian: Hamiltonian
    size: tuple[int, int]
    samples: int
    seed: int = 0
    schedule: Schedule = DEFAULT_SCHEDULE
    shard_size: int = 500
    device: str = "cpu"

    def __post_init__(self) -> None:
        if not isinstance(self.hamiltonian, Hamiltonian):
            raise BadInput(f"H={self.hamiltonian!r}: need a Hamiltonian, e.g. Hamiltonian(J=1, D=0.3)")
        if not isinstance(self.schedule, Schedule):
            raise BadInput(f"schedule={self.schedule!r}: need a Schedule, e.g. Schedule.geometric(1, 0.01, steps=200)")
        object.__setattr__(self, "size", as_size(self.size))
        for name, least in (("samples", 1), ("shard_size", 1), ("seed", 0)):
            value = getattr(self, name)
            try:
                number = operator.index(value)
            except TypeError:
                number = -1
            if not least <= number < 2**64:
                raise BadInput(f"{name}={value}: need a whole number from {least} on; use e.g. {name}={least}")
            object.__setattr__(self, name, number)
        sites = self.size[0] * self.size[1]
        if sites > EXTRA:
            raise BadInput(f"size={self.size[0]} × {self.size[1]}: over 2³¹ sites; the random counter ends there")
        files = -(-self.samples // self.shard_size)
        if files > MOST_SHARDS:
            raise BadInput(
                f"samples={self.samples}: {files} shards of {self.shard_size}; make several sets of other seeds, or "
                f"use a larger shard_size, for at most {MOST_SHARDS}"
            )

    @classmethod
    def from_info(cls, info: Mapping[str, Any]) -> Simulation:
        """The request behind a ``dataset.json``; without a schedule in it, of the default one."""
        return cls(
            Hamiltonian(**info["hamiltonian"]),
            (info["size"][0], info["size"][1]),
            info["samples"],
            info["seed"],
            Schedule.from_dict(info["schedule"]) if "schedule" in info else DEFAULT_SCHEDULE,
            info["shard_size"],
            info["origin"].get("device", "cpu"),
        )

    def command(self, out: str = "DATA") -> str:
        """The command that makes it; a schedule of its own is called SCHEDULE.json there."""
        height, width = self.size
        usual = Hamiltonian(D=self.hamiltonian.D).as_dict()
        given = {
            "samples": self.samples,
            "size": height if height == width else f"{height} {width}",
            **{
                name: value for name, value in self.hamiltonian.as_dict().items() if name == "D" or value != usual[name]
            },
            **({} if self.schedule == DEFAULT_SCHEDULE else {"schedule": "SCHEDULE.json"}),
            "seed": self.seed,
            **({} if self.shard_size == Simulation.shard_size else {"shard-size": self.shard_size}),
            **({} if self.device == Simulation.device else {"device": self.device}),
        }
        options = (f"--{name} {str(value).removesuffix('.0')}" for name, value in given.items())
        return " ".join((f"spinloom simulate {out}", *options))

    def count(self, number: int) -> int:
        """How many textures shard ``number`` holds."""
        return min(self.shard_size, self.samples - number * self.shard_size)

    @property
    def shards(self) -> int:
        """How many shards there are."""
        return -(-self.samples // self.shard_size)

    def as_dict(self) -> dict[str, Any]:
        """The header of the set's ``dataset.json``, in the types that JSON gives back."""
        # one kind of device may round differently from another; which card of a kind does not matter
        origin = {"kind": "annealed", "device": self.device.split(":")[0]}
        schedule = self.schedule.as_dict()
        head = header(origin, self.hamiltonian, self.size, self.samples, self.shard_size, self.seed, schedule)
        return json.loads(json.dumps(head))

    def anneal_shard(
        self, number: int, threads: int | None = None, advance: Callable[[int], None] = lambda n: None
    ) -> Codes:
        """The codes (n, 2, H, W) of shard ``number``; ``advance`` hears of every few textures."""
        from spinloom.anneal import anneal

        count, first = self.count(number), number * self.shard_size
        at_once = max(SITES_AT_ONCE // (self.size[0] * self.size[1]), 8 * (threads or os.cpu_count() or 1))
        if self.device != "cpu":
            at_once = count
        codes = torch.empty((count, 2, *self.size), dtype=torch.int16)
        for done in range(0, count, at_once):
            some = min(at_once, count - done)
            codes[done : done + some] = encode(
                anneal(
                    self.hamiltonian,
                    size=self.size,
                    samples=some,
                    seed=self.seed,
                    schedule=self.schedule,
                    first=first + done,
                    threads=threads,
                    device=self.device,
                    show=False,
                )
            )
            advance(some)
        return codes

    def pack_shard(
        self, number: int, threads: int | None = None, advance: Callable[[int], None] = lambda n: None
    ) -> tuple[bytes, dict[str, Any]]:
        """The bytes of shard ``number`` and its record, annealed as :meth:`anneal_shard` does."""
        return pack(number, self.anneal_shard(number, threads, advance), self.hamiltonian)


def request_behind(info: Mapping[str, Any]) -> Simulation | None:
    """The request behind a ``dataset.json``, or what the config of a shipped model keeps of one; None if there is none
    (textures that were not annealed) or it is not told."""
    return None if info.get("seed") is None else Simulation.from_info(info)


def begin(out: Path, simulation: Simulation) -> bool:
    """Pin the request in the folder ``out``, made if need be; True if this call was the first to do so.

    Raises:
        BadInput: the folder holds something else, or a data set of another request.
    """
    wanted = simulation.as_dict()
    if out.exists() and not out.is_dir():
        raise BadInput(f"{out}: exists and is not a folder; name another")
    while True:  # until a look at the folder fell between no two steps of another process
        found = _pinned(out)
        if found is not None:
            _refuse_others(out, found, wanted)
            return False
        try:
            out.mkdir(parents=True, exist_ok=True)
            strangers = sorted(file.name for file in out.iterdir() if not OWN_PARTIAL.fullmatch(file.name))
        except OSError as error:
            raise BadInput(f"{out}: cannot be used ({error.strerror}); name another folder") from error
        if (out / PLAN).exists() or (out / INFO).exists():
            continue
        if strangers:
            raise BadInput(f"{out}: holds {strangers[0]} and is not a data set; name a new or an empty folder")
        if write_new_json(out / PLAN, wanted):
            return True


def _pinned(out: Path) -> Any:
    """The request that the folder holds, finished or not; None if there is none."""
    if (out / INFO).exists():
        # what has been made is what was asked for, whichever version made it
        return {**read_info(out), "version": version.__version__}
    try:
        return read_json(out / PLAN)
    except BadInput as error:
        # nobody's when this looked, whatever is there by now; or finished, or taken back, since the line above
        if not isinstance(error.__cause__, FileNotFoundError):
            raise
        return {**read_info(out), "version": version.__version__} if (out / INFO).exists() else None


@contextmanager
def begun(out: Path, simulation: Simulation) -> Iterator[bool]:
    """:func:`begin`; if an error follows before any shard is there, what this call began is taken back."""
    new = not out.exists()
    first = begin(out, simulation)
    try:
        yield first
    except Exception:
        if first and not any((out / shard_name(number)).exists() for number in range(simulation.shards)):
            with suppress(OSError):  # a value that was refused must not bind the next call
                remove_partials(out)
                (out / PLAN).unlink()
                if new:
                    out.rmdir()
        raise


def _refuse_others(out: Path, found: Any, wanted: dict[str, Any]) -> None:
    found = found if isinstance(found, dict) else {}
    unlike = list(_differences({key: found.get(key) for key in wanted}, wanted))
    if unlike:
        more = f" and {len(unlike) - 3} more" if len(unlike) > 3 else ""
        raise BadInput(
            f"{out}: holds another data set: {', '.join(unlike[:3])}{more}; "
            "ask for the same again, or name another folder"
        )


def _differences(found: Any, wanted: Any, name: str = ""):
    """Lines such as ``hamiltonian.D=0.3 there, 0.6 asked``."""
    if isinstance(found, dict) and isinstance(wanted, dict):
        for key in [*wanted, *(key for key in found if key not in wanted)]:
            yield from _differences(found.get(key), wanted.get(key), f"{name}.{key}" if name else key)
    elif isinstance(found, list) and isinstance(wanted, list) and len(found) == len(wanted):
        for number, (one, other) in enumerate(zip(found, wanted, strict=True)):
            yield from _differences(one, other, f"{name}[{number}]")
    elif isinstance(found, list) and isinstance(wanted, list):
        yield f"{name} has {len(found)} entries there, {len(wanted)} asked"
    elif found != wanted:
        yield f"{name}={found} there, {wanted} asked"


def make_shard(
    out: Path,
    simulation: Simulation,
    number: int,
    threads: int | None = None,
    advance: Callable[[int], None] = lambda n: None,
) -> None:
    """Anneal one shard and write it; a reader, or a crash, sees it whole or not at all.

    Raises:
        BadInput: the disk is full, or the folder cannot be written, or it has become another request's.
    """
    store_shard(out, simulation, number, *simulation.pack_shard(number, threads, advance))


def store_shard(out: Path, simulation: Simulation, number: int, content: bytes, record: dict[str, Any]) -> None:
    """Write a shard and its record, unless somebody else has done so meanwhile.

    Raises:
        BadInput: as :func:`make_shard`.
    """
    remove_abandoned(out, {shard_name(number), record_name(number)})
    if has_shard(out, number) or not _still_wanted(out, simulation):
        return
    try:
        # the record first: whoever sees the last shard appear finds all the records there
        write_json(out / record_name(number), record)
        write_shard(out, number, content)
    except BadInput as error:
        if not (out / INFO).exists():  # else finished by somebody else, who took away what this had under way
            raise BadInput(f"{error}; finished shards are kept, the same call then goes on from them") from error
    if (out / INFO).exists():  # finished by somebody else while this wrote
        (out / record_name(number)).unlink(missing_ok=True)


def _still_wanted(out: Path, simulation: Simulation) -> bool:
    """Whether the folder, hours after :func:`begin`, still waits for the shards of this request."""
    if (out / INFO).exists():
        return False
    wanted = simulation.as_dict()
    try:
        write_new_json(out / PLAN, wanted)  # taken back by the call that began, whatever stopped that
        _refuse_others(out, read_json(out / PLAN), wanted)
    except BadInput:
        if (out / INFO).exists():  # finished between two of these lines
            return False
        raise
    return True


def has_shard(out: Path, number: int) -> bool:
    """Whether a shard of an unfinished set is there, as long as its record says."""
    try:
        return (out / shard_name(number)).stat().st_size == read_json(out / record_name(number))["bytes"]
    except (OSError, BadInput, KeyError, TypeError):
        return False


def missing_shards(out: Path, simulation: Simulation, numbers: Iterable[int]) -> list[int]:
    """Which of the shards ``numbers`` are not there yet; one listing, and a look at each that is in it."""
    if (out / INFO).exists():
        return []
    listed = {entry.name for entry in os.scandir(out)}
    return [number for number in numbers if shard_name(number) not in listed or not has_shard(out, number)]


def finish(out: Path, simulation: Simulation) -> bool:
    """Write ``dataset.json`` if every shard is there, and take plan and records away.

    Returns whether the set is finished.
    """
    numbers = range(simulation.shards)
    if not (out / INFO).exists():
        listed = sum(entry.name.endswith(".safetensors") for entry in os.scandir(out))
        if listed < len(numbers) or not all(has_shard(out, number) for number in numbers):
            return (out / INFO).exists()  # another job may just have finished it and taken the records away
        try:
            records = (read_json(out / record_name(number)) for number in numbers)
            write_json(out / INFO, complete(simulation.as_dict(), records))
        except BadInput:
            if not (out / INFO).exists():
                raise
    for number in numbers:
        (out / record_name(number)).unlink(missing_ok=True)
    (out / PLAN).unlink(missing_ok=True)
    remove_partials(out)
    return True
