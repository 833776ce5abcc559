"""The commands that end in a table: measures of data sets, the pipeline, repeated trials."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter
from rich.console import Console
from rich.table import Table as Grid

from spinloom import presets
from spinloom.dataset import Dataset, open_dataset
from spinloom.errors import BadInput
from spinloom.figures.settings import FigureSettings
from spinloom.hamiltonian import Hamiltonian
from spinloom.options import (
    AsJson,
    Count,
    Device,
    Dzyaloshinskii,
    EasyAxis,
    Exchange,
    Field,
    PipelineChanges,
    Quiet,
    Walls,
    Whole,
    given_hamiltonian,
    listener,
    print_json,
)
from spinloom.pipeline import run_pipeline
from spinloom.run import check_device

HELD_OUT = 0.25
"""Share of a reference that stands for the data."""


def measure(
    *data: Annotated[Path, Parameter(name="DATA")],
    reference: Annotated[Path | None, Parameter(help="Data set that coverage is measured against.")] = None,
    held_out: Annotated[
        float | None,
        Parameter(help="Of the reference, from its end: the share that stands for the data. Default: 0.25."),
    ] = None,
    limit: Annotated[Count, Parameter(help="Textures used of each, from the front.")] = 10_000,
    seed: Annotated[Whole, Parameter(help="Of the coverage's splits.")] = 0,
    J: Exchange = None,
    D: Dzyaloshinskii = None,
    dmi: Walls = None,
    B: Field = None,
    K: EasyAxis = None,
    as_json: AsJson = False,
) -> None:
    """Energy, nodal points, charge, M_z and coverage of data sets, as a table.

    --J and --D (and --dmi, --B, --K) give the Hamiltonian of textures that came without one.

    Parameters
    ----------
    data
        Folders of data sets.
    """
    from spinloom.coverage import CoverageReference, Space
    from spinloom.measure import measure as measure_spins

    if not data:
        raise BadInput("measure: name at least one data set, e.g. `spinloom measure labyrinths`")
    if held_out is not None and reference is None:
        raise BadInput(f"--held-out {held_out:g}: is a share of the reference; add --reference DATA, or leave it out")
    share = HELD_OUT if held_out is None else held_out
    given = given_hamiltonian(J, D, dmi, B, K)
    sets = {str(path): open_dataset(path) for path in data}
    models = {name: _model(name, textures, given) for name, textures in sets.items()}
    judges = {}
    if reference is not None:
        real = open_dataset(reference)
        model = _model(str(reference), real, given)
        for name, textures in sets.items():
            if textures.size != real.size:
                raise BadInput(f"{name}: lattice {textures.size}, but the reference's is {real.size}; use one of that")
            if models[name] is not None and model is not None and models[name] != model:
                line = f"{name}: of {models[name]}, the reference of {model}; compared all the same"
                print(line, file=sys.stderr)
            if textures.path.resolve() == real.path.resolve():
                raise BadInput(f"{name}: is the reference itself and would be compared with itself; leave it out")
        if not (0 < share < 1 and 0 < round(share * len(real)) < len(real)):
            raise BadInput(f"--held-out {share:g}: a share of {reference}'s {len(real)} textures; use e.g. 0.25")
        front, tail = real.split(1 - share)
        spaces: tuple[Space, ...] = ("features", "spins")
        judges = {space: CoverageReference(tail[:limit], space, model, seed, second=front[:limit]) for space in spaces}
    rows = []
    for name, textures in sets.items():
        spins = textures[:limit]
        found = {space: judge(spins).as_dict() for space, judge in judges.items()}
        table = measure_spins(spins, models[name])
        rows.append({"name": name, "samples": len(spins), "measures": table.summary(), "coverage": found or None})
    if as_json:
        print_json(rows)
    else:
        _print_rows(rows, _short(list(sets)))
    unknown = [name for name, model in models.items() if model is None]
    if unknown:
        print(f"no energies of {', '.join(unknown)}: Hamiltonian unknown; give --J and --D", file=sys.stderr)


def _model(name: str, textures: Dataset, given: Hamiltonian | None) -> Hamiltonian | None:
    """The set's own Hamiltonian, or the one that was given for sets without."""
    own = textures.hamiltonian
    if own is not None and given is not None and own != given:
        raise BadInput(f"{name}: has a Hamiltonian of its own, {own}; leave --J and --D out, or measure it apart")
    return own or given


UNBOUNDED = 10_000
"""Characters, more than any table is wide."""


def _short(names: Sequence[str]) -> list[str]:
    """The names of several folders without the path they have in common."""
    parts = [Path(name).parts for name in names]
    if len(parts) > 1:
        while len({part[0] for part in parts}) == 1 and all(len(part) > 1 for part in parts):
            parts = [part[1:] for part in parts]
    return [str(Path(*part)) for part in parts]


def _print_rows(rows: list[dict[str, Any]], names: Sequence[str]) -> None:
    """The table of `measure` and `run`, in two parts where the terminal is too narrow for it: no number is cut short.

    report.html and JSON have the rest.
    """
    console = Console()
    measured, judged = _measured(rows), _judged(rows)
    whole = _grid(names, measured | judged)
    if judged and console.measure(whole, options=console.options.update(max_width=UNBOUNDED)).maximum > console.width:
        console.print(_grid(names, measured))
        console.print()
        whole = _grid(names, judged)
    console.print(whole)
    if judged:
        against = next(row["coverage"]["features"] for row in rows if row["coverage"])
        near = against["knn_data_against_data"]
        console.print(
            f"in the space of features; data against data: coverage {against['data_against_data']:.3f}, "
            f"k-NN precision {near['precision']:.2f}, coverage {near['coverage']:.2f}"
        )
    if any("†" in cell for cell in judged.get("coverage", ())):
        console.print("† no claim: samples off the data inflate it, or a control comes near data against data")


def _grid(names: Sequence[str], columns: Mapping[str, list[str]]) -> Grid:
    grid = Grid(box=None, padding=(0, 1), header_style="bold")
    grid.add_column("", overflow="fold")
    for head in columns:
        grid.add_column(head, justify="right", no_wrap=True)
    for name, cells in zip(names, zip(*columns.values(), strict=True), strict=True):
        if any(cells):
            grid.add_row(name, *cells)
    return grid


def _measured(rows: list[dict[str, Any]]) -> dict[str, list[str]]:
    """Heading → a cell a row: what is measured on textures alone."""
    found = [row["measures"] for row in rows]
    energies = [one.get("energy_excess") for one in found]
    return {
        "n": [str(row["samples"]) for row in rows],
        "ε": [f"{one['mean']:z.4f} ± {one['std']:.4f}" if one else "unknown H" for one in energies],
        "M_z std": [f"{one['mz']['std']:.4f}" for one in found],
        "Q": [f"{one['charge']['mean']:z.1f} ± {one['charge']['std']:.1f}" for one in found],
        "nodal": [f"{one['nodal_points']['mean']:.3f}" for one in found],
    }


def _judged(rows: list[dict[str, Any]]) -> dict[str, list[str]]:
    """Heading → a cell a row: what is measured against a reference; nothing where there is none."""
    found = [(row["coverage"] or {}).get("features") for row in rows]
    if not any(found):
        return {}
    marks = ["†" if one and (one["broad"] or not one["informative"]) else "" for one in found]
    return {
        "coverage": [f"{one['coverage']:.3f}{mark}" if one else "" for one, mark in zip(found, marks, strict=True)],
        "k-NN precision": [f"{one['knn']['precision']:.2f}" if one else "" for one in found],
        "k-NN coverage": [f"{one['knn']['coverage']:.2f}" if one else "" for one in found],
    }


Jobs = Annotated[Count, Parameter(help="Trials at a time, each a process with its share of the cores.")]


def run(
    out: Path,
    /,
    *,
    preset: Annotated[str, Parameter(help=f"One of {', '.join(presets.PIPELINES)}.")] = "quick",
    device: Device = "cpu",
    changes: Annotated[PipelineChanges, Parameter(name="*")] = PipelineChanges(),  # noqa: B008
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """The whole pipeline: anneal, train VAE, GAN and hybrid, sample, measure, draw; the same command resumes.

    Parameters
    ----------
    out
        Folder for data, runs, samples, pictures, results.json and report.html.
    """
    config = presets.overridden(presets.pick(presets.PIPELINES, preset), changes)
    say = listener(quiet or as_json)
    notes = presets.NOTES.get(preset, ())
    results = run_pipeline(out, config, preset, notes, not (quiet or as_json), say, device=device)
    if as_json:
        print_json(results)
    else:
        _print_rows(results["rows"], [row["name"] for row in results["rows"]])
        print(f"pictures and the whole table: {out / 'report.html'}")


def trials(
    out: Path,
    /,
    *,
    preset: Annotated[str, Parameter(help=f"One of {', '.join(presets.PIPELINES)}.")] = "quick",
    trials: Annotated[Count, Parameter(help="Independent trainings of each objective.")] = 5,
    only: Annotated[Whole | None, Parameter(help="This trial alone, from 0: several machines take one each.")] = None,
    jobs: Jobs = 1,
    device: Device = "cpu",
    changes: Annotated[PipelineChanges, Parameter(name="*")] = PipelineChanges(),  # noqa: B008
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Independent trainings of VAE, GAN and hybrid on one data set; means, spreads and Fig. 2e; resumes.

    Trial t has seed + t for networks, training and samples; the data are the same.

    Parameters
    ----------
    out
        Folder for data, a pipeline a trial, results.json and report.html.
    """
    from spinloom.trials import print_trials, run_trials

    config = presets.overridden(presets.pick(presets.PIPELINES, preset), changes)
    say = listener(quiet or as_json)
    notes = presets.NOTES.get(preset, ())
    results = run_trials(out, config, trials, only, preset, notes, not (quiet or as_json), say, jobs, device)
    if as_json:
        print_json(results)
    elif results is None:
        print(f"{out}: trial {only} is done; the call that finds all {trials} makes the table")
    else:
        print_trials(results)
        print(f"the table and Fig. 2e: {out / 'report.html'}")


def reproduce(
    out: Path,
    /,
    *,
    preset: Annotated[str, Parameter(help=f"One of {', '.join(presets.TRIALS)}.")] = "quick",
    count: Annotated[
        Count | None, Parameter(name="--trials", help="Independent trainings of each objective. Default: the preset's.")
    ] = None,
    jobs: Jobs = 1,
    device: Device = "cpu",
    changes: Annotated[PipelineChanges, Parameter(name="*")] = PipelineChanges(),  # noqa: B008
    settings: Annotated[FigureSettings, Parameter(name="*")] = FigureSettings(),  # noqa: B008
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """The paper's comparison in one command: data set, the preset's number of trials, tables, all figures; resumes.

    Says first how long it will take here, and what is not in that.

    Parameters
    ----------
    out
        Folder for data, a pipeline a trial, results.json and report.html.
    """
    from spinloom.estimate import estimated_seconds, in_words
    from spinloom.figures.every import check_settings, draw_figures
    from spinloom.trials import RESULTS, pin_trials

    count = presets.pick(presets.TRIALS, preset) if count is None else count
    config = presets.overridden(presets.pick(presets.PIPELINES, preset), changes)
    check_device(device)
    held_out = config.samples - round(config.samples * config.training.fraction)
    check_settings(settings, config.networks.latent, held_out)
    pin_trials(out, config, count)  # refuses another's folder before the machine is timed
    if not (quiet or as_json or (out / RESULTS).is_file()):
        told = in_words(estimated_seconds(config, count, jobs, device, settings))
        print(*told, sep="\n", file=sys.stderr, flush=True)
    trials(out, preset=preset, trials=count, jobs=jobs, device=device, changes=changes, quiet=quiet, as_json=as_json)
    silent = quiet or as_json
    draw_figures(out, settings=settings, show=not silent, say=listener(silent), device=device)


def figures(
    folder: Path,
    /,
    *,
    only: Annotated[
        tuple[int, ...], Parameter(consume_multiple=True, help="Numbers of the paper's figures. Default: all.")
    ] = (),
    out: Annotated[Path | None, Parameter(help="Where they go; else FOLDER/figures, and into its report.")] = None,
    device: Device = "cpu",
    settings: Annotated[FigureSettings, Parameter(name="*")] = FigureSettings(),  # noqa: B008
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """The paper's Figs. 1-6 from a finished folder of `run`, `trials` or `reproduce`, or 3-6 of a single run; resumes.

    A model that comes with the package needs --out. Maps, paths and searches are kept beside the figures, so that
    drawing one again takes no time.

    Parameters
    ----------
    folder
        Finished folder of `run`, `trials` or `reproduce`; a run's; or the name of a model that comes with the package.
    """
    from spinloom.figures.every import draw_figures

    silent = quiet or as_json
    written = draw_figures(folder, only, out, settings, not silent, listener(silent), device)
    if as_json:
        print_json([str(path) for path in written])
    else:
        print(*written, sep="\n")
