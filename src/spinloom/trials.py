"""Repeated, independent trainings on one data set, and the table of their means and spreads (Fig. 2e)."""

from __future__ import annotations

import math
import multiprocessing
import os
import queue
import signal
import statistics
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, wait
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from spinloom import run as runs
from spinloom.anneal import available_threads
from spinloom.dataset import Dataset, simulate
from spinloom.errors import BadInput
from spinloom.files import read_json, read_lines, write_json
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
) -> dict[str, Any] | None:
    """Run or resume ``trials`` pipelines on one data set; returns what ``results.json`` holds.

    Trial t has the seed ``config.seed`` + t for its networks, their training and its samples; the data are those of
    ``config.seed``. The trials are independent folders ``trial-t/``: with ``only`` one of them is run, so that
    several machines may take one each, in any order; the table is made by the call that finds all of them there,
    and None is returned before.

    ``jobs`` trials run at a time, each a process with its share of the cores (or of one GPU). Several trainings of a
    thread each do more than one of several threads. A training's last bits depend on its number of threads, so the
    figures of ``jobs=2`` differ from those of ``jobs=1`` as much as another rounding does. A script that sets it
    needs ``if __name__ == "__main__":``.

    Raises:
        BadInput: fewer than one trial or job, ``only`` is none of them, or the folder holds something else.
    """
    from spinloom.report import write_trials_report

    out = Path(out)
    if trials < 1:
        raise BadInput(f"trials={trials}: need a whole number, at least 1; use e.g. trials=5")
    if only is not None and not 0 <= only < trials:
        raise BadInput(f"only={only}: the trials are 0 … {trials - 1}; use one of them")
    if jobs < 1:
        raise BadInput(f"jobs={jobs}: need a whole number, at least 1; use e.g. jobs={available_threads()}")
    _pin(out, config, trials)
    size = _size(config)
    say(f"annealing {config.samples} textures of {size[0]} × {size[1]}")
    data = simulate(out / "data", config.hamiltonian, size, config.samples, config.seed, show=show)
    wanted = range(trials) if only is None else (only,)
    missing = [trial for trial in wanted if not (trial_folder(out, trial) / RESULTS).is_file()]
    jobs = min(jobs, len(missing))
    if jobs > 1:
        _side_by_side(out, config, missing, jobs, preset, notes, show, say)
    else:
        for trial in missing:
            say(f"trial {trial + 1} of {trials}")
            _one(out, config, trial, preset, notes, show, say, data)
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
) -> None:
    run_pipeline(trial_folder(out, trial), replace(config, seed=config.seed + trial), preset, notes, show, say, data)


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
) -> None:
    """The trials ``missing``, ``jobs`` processes at a time; after an error in one all stop, to be gone on with."""
    context = multiprocessing.get_context("spawn")  # a fork would inherit torch's threads, and no GPU
    lines, stop = context.Queue(), context.Event()
    pool = ProcessPoolExecutor(
        jobs, context, initializer=_begin_job, initargs=(os.getpid(), threads_of_a_job(jobs), lines, stop)
    )
    steps = config.training.steps * len(OBJECTIVES)
    done = 0
    try:
        with progress("training", steps * len(missing), "steps", show) as advance:
            work: set[Future[None]] = {pool.submit(_job, out, config, trial, preset, notes) for trial in missing}
            while work:
                finished, work = wait(work, timeout=0.5, return_when="FIRST_COMPLETED")
                with suppress(queue.Empty):
                    while True:
                        say(lines.get_nowait())
                for one in finished:
                    one.result()
                now = sum(_steps_done(trial_folder(out, trial)) for trial in missing)
                advance(now - done)
                done = now
    except BaseException:
        stop.set()
        for process in multiprocessing.active_children():
            process.terminate()  # a training finishes its step and keeps it
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def threads_of_a_job(jobs: int) -> int:
    """Cores for each of ``jobs`` processes."""
    return max(1, available_threads() // jobs)


_lines: Any = None
"""In a process of :func:`_side_by_side`: where its lines go."""
_stop: Any = None
"""And whether to begin no more."""


def _begin_job(parent: int, threads: int, lines: Any, stop: Any) -> None:
    global _lines, _stop
    _lines, _stop = lines, stop
    torch.set_num_threads(threads)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent stops the others

    def leave() -> None:  # the parent was killed: nobody waits for this any more, and somebody may begin anew
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=leave, daemon=True).start()


def _job(out: Path, config: PipelineConfig, trial: int, preset: str | None, notes: tuple[str, ...]) -> None:
    if _stop.is_set():
        return
    data = simulate(out / "data", config.hamiltonian, _size(config), config.samples, config.seed, show=False)
    _one(out, config, trial, preset, notes, False, lambda line: _lines.put(f"trial {trial}: {line}"), data)


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
        values["seconds"] = [entry["seconds"] for entry in entries]
        spaces: Mapping[str, Any] = first["coverage"] or {}
        values |= {f"coverage_{space}": [entry["coverage"][space]["coverage"] for entry in entries] for space in spaces}
        rows.append(
            {
                **{key: first[key] for key in ("name", "folder", "source", "method", "relax", "samples")},
                "over_trials": {name: over for name, some in values.items() if (over := _over(some))},
                "broad": {space: [bool(entry["coverage"][space]["broad"]) for entry in entries] for space in spaces},
                "data_against_data": {space: spaces[space]["data_against_data"] for space in spaces},
                "informative": {space: bool(spaces[space]["informative"]) for space in spaces},
            }
        )
    return rows


def _quantity(entry: Mapping[str, Any], name: str) -> float | None:
    column, statistic = QUANTITIES[name]
    return (entry["measures"].get(column) or {}).get(statistic)


def _over(found: Sequence[float | None]) -> dict[str, Any] | None:
    values = [value for value in found if value is not None]
    if len(values) < len(found):
        return None
    spread = statistics.stdev(values) if len(values) > 1 else None
    return {"mean": math.fsum(values) / len(values), "std": spread, "values": values}


def _pin(out: Path, config: PipelineConfig, trials: int) -> None:
    asked = {"config": config.as_dict(), "trials": trials}
    path = out / STATE
    if path.is_file():
        there = read_json(path)
        changed = changes(there.get("config"), asked["config"])
        if there.get("trials") != trials:
            changed.append(f"trials: {there.get('trials')} there, {trials} asked")
        if changed:
            raise BadInput(f"{out}: holds trials with other settings ({'; '.join(changed)}); use another folder")
        return
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise BadInput(f"{out}: exists and is not a folder of trials; use another folder")
    out.mkdir(parents=True, exist_ok=True)
    write_json(path, asked)


def print_trials(results: Mapping[str, Any]) -> None:
    """The table of :func:`run_trials` on the terminal: mean ± standard deviation over the trials."""
    from rich.console import Console
    from rich.table import Table

    from spinloom.trials_page import COLUMNS, plain

    used = [name for name in COLUMNS if any(name in row["over_trials"] for row in results["rows"])]
    table = Table(title=f"{results['trials']} trials")
    for column in ("", *(COLUMNS[name][0].replace("<sub>", "_").replace("</sub>", "") for name in used)):
        table.add_column(column, justify="right" if column else "left")
    for row in results["rows"]:
        table.add_row(row["name"], *(plain(row, name) for name in used))
    Console().print(table)
