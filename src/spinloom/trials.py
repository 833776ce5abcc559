"""Repeated, independent trainings on one data set, and the table of their means and spreads (Fig. 2e)."""

from __future__ import annotations

import math
import multiprocessing
import os
import signal
import statistics
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from multiprocessing import connection
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any

import torch

from spinloom import run as runs
from spinloom.anneal import available_threads
from spinloom.dataset import Dataset, simulate
from spinloom.errors import BadInput
from spinloom.files import pinned, read_json, read_lines, write_json
from spinloom.interrupts import deferred_interrupt
from spinloom.objectives import OBJECTIVES
from spinloom.pipeline import PipelineConfig, changes, run_pipeline
from spinloom.progress import progress

STATE, RESULTS = "trials.json", "results.json"

QUANTITIES: dict[str, tuple[str, str]] = {
    "energy_excess": ("energy_excess", "mean"),
    "energy_excess_std": ("energy_excess", "std"),
    "nodal_points": ("nodal_points", "mean"),
    "bond_share": ("bond_share_90", "mean"),
    "mz_std": ("mz", "std"),
}
"""What is averaged over the trials, beside the coverages and the time: a column of the tables and its statistic."""


TOLD = ("energy_excess", "nodal_points", "coverage_features")
"""Of these what a terminal shows; the page has them all."""


def _size(config: PipelineConfig) -> tuple[int, int]:
    return config.size[0], config.size[1]


def trial_folder(out: Path, trial: int) -> Path:
    """Where trial number ``trial`` lies."""
    return out / f"trial-{trial}"


def run_trials(
    out: Path | str,
    config: PipelineConfig,
    trials: int = 5,
    only: int | None = None,
    preset: str | None = None,
    notes: tuple[str, ...] = (),
    show: bool = True,
    say: Callable[[str], None] = lambda line: None,
    jobs: int = 1,
    device: str = "cpu",
) -> dict[str, Any] | None:
    """Run or resume ``trials`` pipelines on one data set; returns what ``results.json`` holds.

    Trial t has the seed ``config.seed`` + t for its networks, their training and its samples; the data are those of
    ``config.seed``. The trials are independent folders ``trial-t/``: with ``only`` one of them is run, so that
    several machines may take one each, in any order; the table is made by the call that finds all of them there,
    and None is returned before.

    ``device`` is where textures are annealed and networks trained and sampled. ``jobs`` trials run at a time, each a
    process with its share of the cores (or of one GPU). Several trainings of a
    thread each do more than one of several threads. A training's last bits depend on its number of threads, so the
    figures of ``jobs=2`` differ from those of ``jobs=1`` as much as another rounding does. A script that sets it
    needs ``if __name__ == "__main__":``.

    Raises:
        BadInput: fewer than one trial or job, ``only`` is none of them, the folder holds something else, or there is no
            such device.
    """
    from spinloom.report import write_report, write_trials_report

    out = Path(out)
    if trials < 1:
        raise BadInput(f"trials={trials}: need a whole number, at least 1; use e.g. trials=5")
    if only is not None and not 0 <= only < trials:
        raise BadInput(f"only={only}: the trials are 0 … {trials - 1}; use one of them")
    if jobs < 1:
        raise BadInput(f"jobs={jobs}: need a whole number, at least 1; use e.g. jobs={available_threads()}")
    runs.check_device(device)
    pin_trials(out, config, trials)
    size = _size(config)
    say(f"annealing {config.samples} textures of {size[0]} × {size[1]}")
    data = simulate(out / "data", config.hamiltonian, size, config.samples, config.seed, show=show, device=device)
    wanted = range(trials) if only is None else (only,)
    missing = [trial for trial in wanted if not (trial_folder(out, trial) / RESULTS).is_file()]
    jobs = min(jobs, len(missing))
    if jobs > 1:
        _side_by_side(out, config, missing, jobs, preset, notes, show, say, device)
    else:
        for trial in missing:
            say(f"trial {trial + 1} of {trials}")
            _one(out, config, trial, preset, notes, show, say, data, device)
    for trial in wanted:  # a kill may have come between a trial's results and its page
        if not (trial_folder(out, trial) / "report.html").is_file():
            write_report(trial_folder(out, trial))
    found = [trial_folder(out, trial) / RESULTS for trial in range(trials)]
    if not all(path.is_file() for path in found):
        return None
    single = [read_json(path) for path in found]
    results = {
        "preset": preset,
        "notes": list(notes),
        "versions": runs.versions(),
        "trials": trials,
        "config": config.as_dict(),
        "hamiltonian": config.hamiltonian.as_dict(),
        "size": list(size),
        "ground_state": single[0]["ground_state"],
        "rows": combined(single),
    }
    write_json(out / RESULTS, results)
    write_trials_report(out)
    return results


def _one(
    out: Path,
    config: PipelineConfig,
    trial: int,
    preset: str | None,
    notes: tuple[str, ...],
    show: bool,
    say: Callable[[str], None],
    data: Dataset,
    device: str,
) -> None:
    own = replace(config, seed=config.seed + trial)
    run_pipeline(trial_folder(out, trial), own, preset, notes, show, say, data, device)


# ---------------------------------------------------------------- several at once


def _side_by_side(
    out: Path,
    config: PipelineConfig,
    missing: Sequence[int],
    jobs: int,
    preset: str | None,
    notes: tuple[str, ...],
    show: bool,
    say: Callable[[str], None],
    device: str,
) -> None:
    """The trials ``missing``, ``jobs`` processes at a time; when one cannot go on, or on Ctrl-C, all stop."""
    waiting, running = list(missing), dict[int, _Job]()
    steps, done = config.training.steps * len(OBJECTIVES), 0
    with (
        deferred_interrupt() as caught,
        progress("training", steps * len(missing), "steps", show) as advance,
    ):
        try:
            while (waiting or running) and not caught:
                while waiting and len(running) < jobs:
                    free = next(slot for slot in range(jobs) if all(job.slot != slot for job in running.values()))
                    trial = waiting.pop(0)
                    running[trial] = _Job.begin(free, jobs, (out, config, trial, preset, notes, device))
                connection.wait([job.messages for job in running.values()], timeout=0.5)
                for trial, job in list(running.items()):
                    if job.heard(lambda line, trial=trial: say(f"trial {trial}: {line}")):
                        del running[trial]
                now = sum(_steps_done(trial_folder(out, trial)) for trial in missing)
                advance(now - done)
                done = now
        finally:
            for job in running.values():
                job.process.terminate()  # a training finishes its step and keeps it
            for job in running.values():
                job.process.join(PATIENCE)
                job.process.kill()
                job.process.join()
        if caught:
            raise KeyboardInterrupt("stopped; the same command goes on from there")


PATIENCE = 120.0
"""Seconds a trial that is asked to stop has for the step in hand."""


Work = tuple[Path, PipelineConfig, int, str | None, tuple[str, ...], str]
"""Folder, config, number, preset, notes and device of a trial."""


@dataclass
class _Job:
    """A trial in a process of its own, and what it says: lines, and in the end what became of it."""

    slot: int
    trial: int
    process: SpawnProcess
    messages: connection.Connection

    @classmethod
    def begin(cls, slot: int, jobs: int, work: Work) -> _Job:
        context = multiprocessing.get_context("spawn")  # a fork would inherit torch's threads, and no GPU
        ours, theirs = context.Pipe(duplex=False)
        process = context.Process(target=_work, args=(theirs, os.getpid(), slot, jobs, *work), daemon=True)
        process.start()
        theirs.close()  # so that its end is an end of file here
        return cls(slot, work[2], process, ours)

    def heard(self, say: Callable[[str], None]) -> bool:
        """Pass on what it has said; whether it is done.

        Raises:
            BadInput: what stopped it, with its line; or it has died.
            FloatingPointError, KeyboardInterrupt, OSError, MemoryError, RuntimeError: what stopped it, with its line;
                the last is torch's for want of memory.
        """
        while self.messages.poll():
            try:
                kind, line = self.messages.recv()
            except EOFError:
                break
            if kind == "done":
                self.process.join()
                return True
            if kind in ENDS:
                raise ENDS[kind](line)
            say(line)
        else:
            return False
        self.process.join()
        code = self.process.exitcode or 0
        if code < 0:
            raise BadInput(
                f"trial {self.trial}: its process was killed ({signal.Signals(-code).name}), perhaps for want of "
                "memory; use fewer jobs, the same command goes on from there"
            )
        raise BadInput(
            f"trial {self.trial}: its process ended with code {code}; what it printed says why, the same command goes "
            "on from there"
        )


ENDS: dict[str, type[BaseException]] = {
    "refused": BadInput,
    "not finite": FloatingPointError,
    "stopped": KeyboardInterrupt,
    "system": OSError,
    "memory": MemoryError,
    "allocation": RuntimeError,
}
"""What may stop a trial, by the word its process sends: all that the command line has a line for."""


def end_of(error: BaseException) -> str | None:
    """The word for what has stopped a trial; None for a bug, whose traceback is to be seen."""
    if isinstance(error, RuntimeError) and "allocate" not in str(error):  # torch's way to say that memory is short
        return None
    return next((kind for kind, end in ENDS.items() if isinstance(error, end)), None)


def cores_of_a_job(slot: int, jobs: int) -> range:
    """Which of the cores that this process may use are those of the job in ``slot``, of ``jobs``."""
    each = max(1, available_threads() // jobs)
    first = slot * each % available_threads()
    return range(first, first + each)


def _work(
    messages: connection.Connection,
    parent: int,
    slot: int,
    jobs: int,
    out: Path,
    config: PipelineConfig,
    trial: int,
    preset: str | None,
    notes: tuple[str, ...],
    device: str,
) -> None:
    """The body of a job's process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent stops the others
    cores = cores_of_a_job(slot, jobs)
    if hasattr(os, "sched_setaffinity"):
        mine = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {mine[number] for number in cores})
    torch.set_num_threads(len(cores))

    def leave() -> None:  # the parent was killed: nobody waits for this any more, and somebody may begin anew
        while os.getppid() == parent:
            time.sleep(1)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(PATIENCE)
        os._exit(1)

    threading.Thread(target=leave, daemon=True).start()

    def send(kind: str, line: str = "") -> None:
        with suppress(OSError):  # nobody listens any more
            messages.send((kind, line))

    try:
        data = simulate(
            out / "data", config.hamiltonian, _size(config), config.samples, config.seed, show=False, device=device
        )
        _one(out, config, trial, preset, notes, False, lambda line: send("said", line), data, device)
    except tuple(ENDS.values()) as error:
        kind = end_of(error)
        if kind is None:
            raise
        send(kind, str(error))
    else:
        send("done")


def _steps_done(folder: Path) -> int:
    """Training steps of a trial so far, by the logs."""
    return sum(lines[-1]["step"] for name in OBJECTIVES if (lines := read_lines(folder / name / "metrics.jsonl")))


def combined(results: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """A row for every row of the trials: each quantity's mean, its spread over the trials and the single values.

    ``std`` is the sample standard deviation over trials (None for one trial).
    """
    rows = []
    for entries in zip(*(result["rows"] for result in results), strict=True):
        first = entries[0]
        values = {name: [_quantity(entry, name) for entry in entries] for name in QUANTITIES}
        values["seconds"] = [_seconds(entry, result["rows"]) for entry, result in zip(entries, results, strict=True)]
        values["train_seconds"] = [result["seconds"].get(f"train {first['source']}") for result in results]
        spaces: Mapping[str, Any] = first["coverage"] or {}
        values |= {f"coverage_{space}": [entry["coverage"][space]["coverage"] for entry in entries] for space in spaces}
        if "features" in spaces:
            for name in ("precision", "coverage"):
                values[f"knn_{name}"] = [entry["coverage"]["features"]["knn"][name] for entry in entries]
            values["distinctness"] = [entry["coverage"]["features"].get("distinctness") for entry in entries]
        rows.append(
            {
                **{key: first[key] for key in ("name", "folder", "source", "method", "relax", "samples")},
                "over_trials": {name: over for name, some in values.items() if (over := _over(some))},
                "broad": {space: [bool(entry["coverage"][space]["broad"]) for entry in entries] for space in spaces},
                "data_against_data": {
                    space: statistics.fmean(entry["coverage"][space]["data_against_data"] for entry in entries)
                    for space in spaces
                },
                "controls": {
                    space: {
                        control: statistics.fmean(entry["coverage"][space]["controls"][control] for entry in entries)
                        for control in value["controls"]
                    }
                    for space, value in spaces.items()
                },
                "informative": {
                    space: all(entry["coverage"][space]["informative"] for entry in entries) for space in spaces
                },
            }
        )
    return rows


def _seconds(entry: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> float | None:
    """What sampling a row took, for a relaxed one with the samples that are relaxed."""
    before = [row for row in rows if entry["relax"] and entry["folder"] == f"{row['folder']}-relaxed"]
    found = [row["seconds"] for row in (entry, *before)]
    return None if None in found else math.fsum(found)


def _quantity(entry: Mapping[str, Any], name: str) -> float | None:
    column, statistic = QUANTITIES[name]
    return (entry["measures"].get(column) or {}).get(statistic)


def _over(found: Sequence[float | None]) -> dict[str, Any] | None:
    values = [value for value in found if value is not None]
    if len(values) < len(found):
        return None
    spread = statistics.stdev(values) if len(values) > 1 else None
    return {"mean": math.fsum(values) / len(values), "std": spread, "values": values}


def pin_trials(out: Path, config: PipelineConfig, trials: int) -> None:
    """Fix in the folder ``out``, made if need be, what is repeated there and how often; any number of calls at once.

    Raises:
        BadInput: the folder holds something else, or trials with other settings.
    """
    asked = {"config": config.as_dict(), "trials": trials}
    there = pinned(out / STATE, asked, "a folder of trials")
    if not isinstance(there, dict):
        raise BadInput(f"{out / STATE}: is not of trials; use another folder")
    changed = changes(there.get("config"), asked["config"])
    if there.get("trials") != trials:
        changed.append(f"trials: {there.get('trials')} there, {trials} asked")
    if changed:
        raise BadInput(f"{out}: holds trials with other settings ({'; '.join(changed)}); use another folder")


def print_trials(results: Mapping[str, Any]) -> None:
    """The table of :func:`run_trials` on a terminal of 80 columns: mean ± standard deviation over the trials."""
    from rich.console import Console
    from rich.table import Table

    from spinloom.trials_page import COLUMNS, plain

    used = [name for name in TOLD if any(name in row["over_trials"] for row in results["rows"])]
    table = Table(title=f"{results['trials']} trials", box=None, padding=(0, 1), header_style="bold")
    table.add_column("", overflow="fold", max_width=24)
    for name in used:
        table.add_column(COLUMNS[name][0], justify="right", no_wrap=True)
    for row in results["rows"]:
        table.add_row(row["name"], *(plain(row, name) for name in used))
    console = Console()
    console.print(table)
    if any(plain(row, name)[-1] in "†‡" for row in results["rows"] for name in used):
        console.print("†, ‡ no claim: outliers inflate it, a control comes near data against data")
