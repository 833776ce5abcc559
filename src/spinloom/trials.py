"""Repeated, independent trainings on one data set, and the table of their means and spreads (Fig. 2e)."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from spinloom import run as runs
from spinloom.dataset import simulate
from spinloom.errors import BadInput
from spinloom.files import read_json, write_json
from spinloom.pipeline import PipelineConfig, changes, run_pipeline

STATE, RESULTS = "trials.json", "results.json"

QUANTITIES: dict[str, tuple[str, str]] = {
    "energy_excess": ("energy_excess", "mean"),
    "energy_excess_std": ("energy_excess", "std"),
    "nodal_points": ("nodal_points", "mean"),
    "bond_share": ("bond_share_90", "mean"),
    "mz_std": ("mz", "std"),
}
"""What is averaged over the trials, beside the coverages and the time: a column of the tables and its statistic."""


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
) -> dict[str, Any] | None:
    """Run or resume ``trials`` pipelines on one data set; returns what ``results.json`` holds.

    Trial t has the seed ``config.seed`` + t for its networks, their training and its samples; the data are those of
    ``config.seed``. The trials are independent folders ``trial-t/``: with ``only`` one of them is run, so that
    several machines may take one each, in any order; the table is made by the call that finds all of them there,
    and None is returned before.

    Raises:
        BadInput: fewer than one trial, ``only`` is none of them, or the folder holds something else.
    """
    from spinloom.report import write_trials_report

    out = Path(out)
    if trials < 1:
        raise BadInput(f"trials={trials}: need a whole number, at least 1; use e.g. trials=5")
    if only is not None and not 0 <= only < trials:
        raise BadInput(f"only={only}: the trials are 0 … {trials - 1}; use one of them")
    _pin(out, config, trials)
    size = (config.size[0], config.size[1])
    say(f"annealing {config.samples} textures of {size[0]} × {size[1]}")
    data = simulate(out / "data", config.hamiltonian, size, config.samples, config.seed, show=show)
    for trial in range(trials) if only is None else (only,):
        if (trial_folder(out, trial) / RESULTS).is_file():
            continue
        say(f"trial {trial + 1} of {trials}")
        own = replace(config, seed=config.seed + trial)
        run_pipeline(trial_folder(out, trial), own, preset, notes, show, say, data)
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
