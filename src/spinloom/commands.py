"""The commands, a function each: read the options, call the package, print what came out."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import field, fields, is_dataclass, make_dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias, get_type_hints

import docstring_parser
from cyclopts import Parameter, Token, validators
from rich.console import Console
from rich.table import Table as Grid

from spinloom import presets
from spinloom.dataset import Dataset, open_dataset, repair_dataset, verify_dataset, write_dataset
from spinloom.dataset import simulate as simulate_dataset
from spinloom.errors import BadInput
from spinloom.files import read_json
from spinloom.hamiltonian import Hamiltonian
from spinloom.interchange import Format, export_dataset, import_dataset
from spinloom.networks import NetworkConfig
from spinloom.ovf import Mode
from spinloom.pipeline import PipelineConfig, run_pipeline
from spinloom.run import load
from spinloom.sample import DDLS
from spinloom.sample import sample as sample_run
from spinloom.schedule import DEFAULT_SCHEDULE, Schedule
from spinloom.shards import read_info
from spinloom.train import TrainingConfig
from spinloom.train import train as train_run


def _whole(kind: Any, tokens: Sequence[Token]) -> int:
    """A whole number as written: the parser's own reading takes 2.5 for 2."""
    try:
        return int(tokens[0].value)
    except ValueError:
        raise ValueError(f"{tokens[0].value} is not a whole number") from None


def _changes(config: type, without: Mapping[str, tuple[str, ...]], prefix: str = "") -> type:
    """A twin of a config class in which every field is optional: what a user may override, None = left alone.

    ``without`` names, for every nested class, fields that are set elsewhere.
    """
    hints = get_type_hints(config)
    help_of = {p.arg_name: p.description for p in docstring_parser.parse(config.__doc__ or "").params}
    for names in list(help_of):  # "beta, gamma: the weights" documents both
        for name in names.split(","):
            help_of[name.strip()] = help_of[names]
    options = []
    for item in fields(config):
        if item.name in without.get(config.__name__, ()):
            continue
        kind = hints[item.name]
        if is_dataclass(kind):
            kind = _changes(kind, without)  # type: ignore[arg-type]
        elif item.name == "size":
            kind = Annotated[tuple[int, ...], Parameter(consume_multiple=True)]
        text = " ".join((help_of.get(item.name) or "").replace("``", "").split())
        convert: dict[str, Any] = {"converter": _whole} if kind is int else {}
        options.append((item.name, Annotated[kind | None, Parameter(help=text, **convert)], field(default=None)))
    twin = make_dataclass(f"{config.__name__}Changes", options, frozen=True)
    twin.__module__ = __name__  # else the parser takes it for a type of the standard library
    return twin


if TYPE_CHECKING:  # what they look like to a reader; every field of the real ones may be None
    PipelineChanges: TypeAlias = PipelineConfig
    TrainingChanges: TypeAlias = TrainingConfig
    NetworkChanges: TypeAlias = NetworkConfig
else:
    PipelineChanges = _changes(PipelineConfig, {"NetworkConfig": ("size",), "TrainingConfig": ("objective", "seed")})
    TrainingChanges = _changes(TrainingConfig, {"TrainingConfig": ("objective",)})
    NetworkChanges = _changes(NetworkConfig, {"NetworkConfig": ("size",)})

Quiet = Annotated[bool, Parameter(name="--quiet", negative=(), help="No progress bars.")]
AsJson = Annotated[bool, Parameter(name="--json", negative=(), help="Print JSON, nothing else, on standard output.")]
Size = Annotated[tuple[int, ...], Parameter(consume_multiple=True, help="Lattice sides: one number, or H W.")]
Whole = Annotated[int, Parameter(converter=_whole)]
Count = Annotated[int, Parameter(converter=_whole, validator=validators.Number(gte=1))]


def _sides(size: tuple[int, ...]) -> tuple[int, int]:
    sides = tuple(size) * (2 if len(size) == 1 else 1)
    if len(sides) != 2:
        raise BadInput(f"size={size}: give one side or two, H W")
    return sides[0], sides[1]


def _print_json(content: Any) -> None:
    print(json.dumps(content, indent=1))


def simulate(
    out: Path,
    /,
    *,
    samples: Annotated[Whole, Parameter(help="How many textures.")] = 1000,
    size: Size = (128,),
    J: Annotated[float, Parameter(help="Exchange; the unit of energy.")] = 1.0,
    D: Annotated[float, Parameter(help="Dzyaloshinskii–Moriya interaction.")] = 0.3,
    dmi: Annotated[Literal["interfacial", "bulk"], Parameter(help="Néel or Bloch walls.")] = "interfacial",
    B: Annotated[float, Parameter(help="Field along z.")] = 0.0,
    K: Annotated[float, Parameter(help="Easy axis along z (negative: easy plane).")] = 0.0,
    schedule: Annotated[Path | None, Parameter(help="JSON file of a Schedule; default: the calibrated one.")] = None,
    seed: Annotated[Whole, Parameter(help="Texture k is a function of (seed, k).")] = 0,
    shard_size: Annotated[Whole, Parameter(help="Textures a file.")] = 500,
    shard: Annotated[str | None, Parameter(help="i/N: make every N-th shard from the i-th (from 0) only.")] = None,
    dask: Annotated[str | None, Parameter(help="Scheduler's address or file: its workers make the shards.")] = None,
    workers: Annotated[Count | None, Parameter(help="Make the shards in this many processes.")] = None,
    threads: Annotated[Whole | None, Parameter(help="Default: all cores.")] = None,
    device: Annotated[Literal["cpu", "cuda"], Parameter(help="Where the sweeps run.")] = "cpu",
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Anneal a data set of textures; the same command again resumes.

    Parameters
    ----------
    out
        Folder of the data set to make.
    """
    H = Hamiltonian(J, D, dmi, B, K)
    plan = DEFAULT_SCHEDULE if schedule is None else Schedule.from_dict(read_json(schedule))
    part = None
    if shard is not None:
        try:
            first, every = (int(number) for number in shard.split("/"))
        except ValueError as error:
            raise BadInput(f"--shard {shard}: write i/N, e.g. --shard 0/4") from error
        part = (first, every)
    ways = {"--shard": shard, "--dask": dask, "--workers": workers}
    given = [name for name, value in ways.items() if value is not None]
    if len(given) > 1:
        raise BadInput(f"{' and '.join(given)}: each divides the shards in a way of its own; use one of them")
    if dask is not None and threads is not None:
        raise BadInput(
            f"--threads {threads} with --dask: each worker has the threads it was started with; leave it out"
        )
    settings: dict[str, Any] = {
        "schedule": plan,
        "shard_size": shard_size,
        "threads": threads,
        "device": device,
    }
    if device != "cpu":
        from spinloom.sweep_cuda import card

        card(device)  # refuses a GPU that is not there before the folder is touched
    sides = _sides(size)
    show = not (quiet or as_json)
    cluster = workers if dask is None else dask
    if cluster is not None:
        from spinloom.scaleout import simulate_on

        def say(line: str) -> None:
            print(line, file=sys.stderr)

        data: Dataset | None = simulate_on(cluster, out, H, sides, samples, seed, show=show, say=say, **settings)
    elif part is None:
        data = simulate_dataset(out, H, sides, samples, seed, show=show, **settings)
    else:
        data = simulate_dataset(out, H, sides, samples, seed, show=show, shard=part, **settings)
    if data is None:
        print(f"{out}: all that falls to job {shard} is there; shards of other jobs are missing", file=sys.stderr)
    elif as_json:
        _print_json({"path": str(out), **data.info})
    else:
        found = data.info["statistics"]
        print(f"{out}: {len(data)} textures, {_statistics(found)}")


def _statistics(found: Mapping[str, Any]) -> str:
    names = {"energy_excess": "ε", "mz": "M_z"}
    return ", ".join(
        f"{names.get(name, name)} = {value['mean']:.5f} ± {value['std']:.5f}"
        for name, value in found.items()
        if isinstance(value, Mapping) and "mean" in value
    )


def train(
    data: Path,
    out: Path,
    /,
    *,
    objective: Annotated[Literal["hybrid", "vae", "gan"], Parameter(help="Eq. (3), (1) or (2).")] = "hybrid",
    preset: Annotated[str, Parameter(help="A row of the trainings' table: paper, lean, quick.")] = "paper",
    changes: Annotated[TrainingChanges, Parameter(name="*")] = TrainingChanges(),  # noqa: B008
    networks: Annotated[NetworkChanges, Parameter(name="networks")] = NetworkChanges(),  # noqa: B008
    device: Annotated[Literal["cpu", "cuda"], Parameter(help="Where the networks are trained.")] = "cpu",
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Train a VAE, GAN or hybrid on a data set; the same command again resumes.

    Parameters
    ----------
    data
        Folder of a data set.
    out
        Folder of the run to make.
    """
    recipe = presets.pick(presets.TRAININGS, preset)
    training = replace(presets.overridden(recipe.training, changes), objective=objective)
    shapes = presets.overridden(recipe.networks, networks)
    textures = open_dataset(data)
    run = train_run(textures, out, replace(shapes, size=textures.size), training, not (quiet or as_json), device)
    if as_json:
        _print_json({"path": str(run.path), "step": run.step, "objective": run.objective})
    else:
        print(f"{out}: {run.objective} of {run.step} steps; draw from it with `spinloom sample {out} OUT -n 1000`")


def sample(
    run: Path,
    out: Path,
    /,
    *,
    number: Annotated[Count, Parameter(name=("-n", "--number"), help="How many textures.")] = 1000,
    method: Annotated[Literal["prior", "ddls"], Parameter(help="z from the prior, or driven from there.")] = "prior",
    rule: Annotated[Literal["ascent", "langevin"], Parameter(help="How the discriminator drives.")] = "ascent",
    steps: Annotated[Whole, Parameter(help="Updates of a code.")] = DDLS.steps,
    step_size: Annotated[float, Parameter(help="Step size α.")] = DDLS.step_size,
    relax: Annotated[Whole, Parameter(help="Zero-temperature sweeps afterwards.")] = 0,
    seed: Annotated[Whole, Parameter(help="Texture k is a function of (seed, k).")] = 0,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Draw textures from a trained generator into a data set.

    Parameters
    ----------
    run
        Folder of a run.
    out
        Folder of the data set to make.
    """
    if out.exists():
        raise BadInput(f"{out}: exists; nothing is overwritten, use another folder")
    trained = load(run)
    show = not (quiet or as_json)
    spins = sample_run(trained, number, method, rule, steps, step_size, seed, relax, show)
    origin: dict[str, Any] = {"source": trained.objective, "step": trained.step, "method": method}
    if method == "ddls":
        origin["ddls"] = {"rule": rule, "steps": steps, "step_size": step_size}
    origin |= {"relax": relax, "seed": seed}
    data = write_dataset(out, spins, hamiltonian=trained.hamiltonian, origin=origin)
    if as_json:
        _print_json({"path": str(out), **data.info})
    else:
        print(f"{out}: {len(data)} textures, {_statistics(data.info['statistics'])}")


# couplings of textures that came without: None = not given
Exchange = Annotated[float | None, Parameter(name="--J", help="Exchange, if known: with --D.")]
Dzyaloshinskii = Annotated[float | None, Parameter(name="--D", help="Dzyaloshinskii–Moriya interaction, with --J.")]
Walls = Annotated[Literal["interfacial", "bulk"] | None, Parameter(help="Néel (default) or Bloch walls.")]
Field = Annotated[float | None, Parameter(name="--B", help="Field along z.")]
EasyAxis = Annotated[float | None, Parameter(name="--K", help="Easy axis along z (negative: easy plane).")]


def _couplings(
    J: float | None, D: float | None, dmi: Literal["interfacial", "bulk"] | None, B: float | None, K: float | None
) -> Hamiltonian | None:
    """The Hamiltonian that was given, or None; nothing of it is guessed."""
    given = {"J": J, "D": D, "dmi": dmi, "B": B, "K": K}
    known = {name: value for name, value in given.items() if value is not None}
    if not known:
        return None
    if J is None or D is None:
        raise BadInput(
            f"--{next(iter(known))}: a Hamiltonian needs exchange and DMI; give --J and --D, e.g. --J 1 --D 0"
        )
    return Hamiltonian(**known)


def export(
    data: Path,
    out: Path,
    /,
    *,
    format: Annotated[Format, Parameter(help="ovf, vtk: a file a texture; netcdf, npy: one file.")] = "ovf",
    number: Annotated[Count | None, Parameter(name=("-n", "--number"), help="How many textures; default: all.")] = None,
    first: Annotated[Whole, Parameter(help="The first one, from 0.")] = 0,
    cell: Annotated[
        tuple[float, float, float] | None, Parameter(help="x y z in m; default: as imported, or 2 × 2 × 1 nm.")
    ] = None,
    mode: Annotated[Mode | None, Parameter(help="Numbers of an ovf; default: bin4.")] = None,
    magnitude: Annotated[float | None, Parameter(help="Ms in A/m; default: unit vectors.")] = None,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Write textures as files of other programs: OVF for mumax³, OOMMF and Ubermag, VTK, netCDF, NumPy.

    Parameters
    ----------
    data
        Folder of a data set.
    out
        Folder to make; for netcdf and npy also a file, FILE.nc or FILE.npy.
    """
    textures = open_dataset(data)
    show = not (quiet or as_json)
    made = export_dataset(textures, out, format, cell, mode, magnitude, first, number, show)
    if as_json:
        _print_json({"path": str(out), "format": format, "files": [str(file) for file in made]})
    else:
        kept = textures.info["origin"].get("magnitude")
        came = kept is not None and kept != 1 and magnitude is None
        names = made[0].name if len(made) == 1 else f"{len(made)} files, {made[0].name} to {made[-1].name}"
        print(f"{out}: {names}")
        if came:
            print(f"unit vectors; the textures came with magnitude {_magnitude(textures.info['origin'])}")


def import_(
    *paths: Annotated[Path, Parameter(name="FILES… OUT")],
    layer: Annotated[Whole | None, Parameter(help="Of several layers, from 0.")] = None,
    crop: Annotated[
        tuple[Whole, Whole, Whole, Whole] | None,
        Parameter(help="x0 x1 y0 y1: columns x0 to x1 − 1, rows y0 to y1 − 1 of every field."),
    ] = None,
    segment: Annotated[Whole | None, Parameter(help="Of an OVF file that holds several fields, from 0.")] = None,
    cell: Annotated[tuple[float, float, float] | None, Parameter(help="Cell x y z in m, if files do not say.")] = None,
    J: Exchange = None,
    D: Dzyaloshinskii = None,
    dmi: Walls = None,
    B: Field = None,
    K: EasyAxis = None,
    shard_size: Annotated[Count, Parameter(help="Textures a file of the set.")] = 500,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Make a data set from OVF (.ovf, .omf, .ohf), NumPy (.npy, .npz) or netCDF files.

    Parameters
    ----------
    paths
        Files, or folders of OVF files; the last name is the folder of the data set to make.
    """
    if len(paths) < 2:
        raise BadInput("import: name files and, last, the folder to make, e.g. `spinloom import m*.ovf labyrinths`")
    *files, out = paths
    if out.is_file():
        raise BadInput(f"{out}: is a file; the last name is that of the folder to make, add it")
    model = _couplings(J, D, dmi, B, K)
    data = import_dataset(files, out, layer, crop, model, cell, segment, shard_size, not (quiet or as_json))
    if as_json:
        _print_json({"path": str(out), **data.info})
        return
    rows, columns = data.size
    print(f"{out}: {len(data)} textures of {rows} × {columns}, {_statistics(data.info['statistics'])}")
    origin = data.info["origin"]
    varies = "; it varies, directions alone are stored" if isinstance(origin["magnitude"], dict) else ""
    print(f"magnitude {_magnitude(origin)}{varies}")
    if model is None:
        print("Hamiltonian unknown: no energies; give --J and --D here, or to `spinloom measure`")


def _magnitude(origin: Mapping[str, Any]) -> str:
    kept, unit = origin["magnitude"], origin.get("unit") or ""
    if isinstance(kept, Mapping):
        return f"{kept['mean']:.6g} ± {kept['std']:.3g} ({kept['min']:.6g} to {kept['max']:.6g}) {unit}".rstrip()
    return f"{kept:.9g} {unit}".rstrip()


def measure(
    *data: Annotated[Path, Parameter(name="DATA")],
    reference: Annotated[Path | None, Parameter(help="Data set that coverage is measured against.")] = None,
    held_out: Annotated[
        float, Parameter(help="Share of the reference, from its end, that stands for the data (not trained on).")
    ] = 0.25,
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
    given = _couplings(J, D, dmi, B, K)
    sets = {str(path): open_dataset(path) for path in data}
    models = {name: _model(name, textures, given) for name, textures in sets.items()}
    judges = {}
    if reference is not None:
        real = open_dataset(reference)
        model = _model(str(reference), real, given)
        for name, textures in sets.items():
            if textures.size != real.size:
                raise BadInput(f"{name}: lattice {textures.size}, but the reference's is {real.size}; use one of that")
            if textures.path.resolve() == real.path.resolve():
                raise BadInput(f"{name}: is the reference itself and would be compared with itself; leave it out")
        front, tail = real.split(1 - held_out)
        spaces: tuple[Space, ...] = ("features", "spins")
        judges = {space: CoverageReference(tail[:limit], space, model, seed, second=front[:limit]) for space in spaces}
    rows = []
    for name, textures in sets.items():
        spins = textures[:limit]
        found = {space: judge(spins).as_dict() for space, judge in judges.items()}
        table = measure_spins(spins, models[name])
        rows.append({"name": name, "samples": len(spins), "measures": table.summary(), "coverage": found or None})
    if as_json:
        _print_json(rows)
    else:
        _print_rows(rows)
    unknown = [name for name, model in models.items() if model is None]
    if unknown:
        print(f"no energies of {', '.join(unknown)}: Hamiltonian unknown; give --J and --D", file=sys.stderr)


def _model(name: str, textures: Dataset, given: Hamiltonian | None) -> Hamiltonian | None:
    """The set's own Hamiltonian, or the one that was given for sets without."""
    own = textures.hamiltonian
    if own is not None and given is not None and own != given:
        raise BadInput(f"{name}: has a Hamiltonian of its own, {own}; leave --J and --D out, or measure it apart")
    return own or given


def _print_rows(rows: list[dict[str, Any]]) -> None:
    """The table of `measure` and `run` on a terminal of 80 columns; report.html and JSON have the rest."""
    grid = Grid(box=None, padding=(0, 1), header_style="bold")
    grid.add_column("", overflow="fold", max_width=30)
    for head in ("n", "ε", "M_z std", "nodal", "coverage"):
        grid.add_column(head, justify="right", no_wrap=True)
    marked = False
    for row in rows:
        found = row["measures"]
        energy = found.get("energy_excess")
        coverage = (row["coverage"] or {}).get("features")
        cover = "" if coverage is None else f"{coverage['coverage']:.3f}"
        if coverage is not None and (not coverage["informative"] or coverage["broad"]):
            cover, marked = f"{cover}†", True
        grid.add_row(
            row["name"],
            str(row["samples"]),
            f"{energy['mean']:.4f} ± {energy['std']:.4f}" if energy else "unknown H",
            f"{found['mz']['std']:.4f}",
            f"{found['nodal_points']['mean']:.3f}",
            cover,
        )
    console = Console()
    console.print(grid)
    if any(row["coverage"] for row in rows):
        control = next(row["coverage"]["features"] for row in rows if row["coverage"])
        console.print(f"coverage in the space of features; data against data: {control['data_against_data']:.3f}")
    if marked:
        console.print("† no claim: samples off the data inflate it, or a control comes near data against data")


def run(
    out: Path,
    /,
    *,
    preset: Annotated[str, Parameter(help="A row of the pipelines' table: quick, paper.")] = "quick",
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
    say = (lambda line: None) if quiet or as_json else (lambda line: print(line, file=sys.stderr))
    notes = presets.NOTES.get(preset, ())
    results = run_pipeline(out, config, preset, notes, not (quiet or as_json), say)
    if as_json:
        _print_json(results)
    else:
        _print_rows(results["rows"])
        print(f"pictures and the whole table: {out / 'report.html'}")


def trials(
    out: Path,
    /,
    *,
    preset: Annotated[str, Parameter(help=f"One of {', '.join(presets.PIPELINES)}.")] = "quick",
    trials: Annotated[Count, Parameter(help="Independent trainings of each objective.")] = 5,
    only: Annotated[Whole | None, Parameter(help="This trial alone, from 0: several machines take one each.")] = None,
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
    say = (lambda line: None) if quiet or as_json else (lambda line: print(line, file=sys.stderr))
    notes = presets.NOTES.get(preset, ())
    results = run_trials(out, config, trials, only, preset, notes, not (quiet or as_json), say)
    if as_json:
        _print_json(results)
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
    changes: Annotated[PipelineChanges, Parameter(name="*")] = PipelineChanges(),  # noqa: B008
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """The paper's comparison in one command: data set, the preset's number of trials, tables, Fig. 2e; resumes.

    Says first how long it will take here.

    Parameters
    ----------
    out
        Folder for data, a pipeline a trial, results.json and report.html.
    """
    from spinloom.estimate import estimated_seconds

    count = presets.pick(presets.TRIALS, preset)
    config = presets.overridden(presets.pick(presets.PIPELINES, preset), changes)
    if not (quiet or as_json):
        stages = estimated_seconds(config, count)
        for stage, seconds in stages.items():
            print(f"{stage}: about {seconds / 60:.1f} min", file=sys.stderr)
        print(f"in all about {sum(stages.values()) / 3600:.1f} hours from the start", file=sys.stderr)
    trials(out, preset=preset, trials=count, changes=changes, quiet=quiet, as_json=as_json)


def verify(
    data: Path,
    /,
    *,
    repair: Annotated[bool, Parameter(negative=(), help="Make damaged shards again (annealed sets).")] = False,
    quiet: Quiet = False,
) -> int:
    """Check every shard of a data set against its checksum; exit code 1 if one is damaged.

    Parameters
    ----------
    data
        Folder of a data set.
    """
    if repair:
        made = repair_dataset(data, show=not quiet)
        print(f"{data}: made again: {', '.join(made)}" if made else f"{data}: all shards are whole")
        return 0
    bad = verify_dataset(data, show=not quiet)
    again = f"`spinloom verify {data} --repair` makes it again"
    if bad and read_info(data)["schedule"] is None:
        again = "it was not annealed here and cannot be made again, restore it from a copy"
    for name in bad:
        print(f"{data}/{name}: damaged; {again}")
    if not bad:
        print(f"{data}: all shards are whole")
    return 1 if bad else 0


def bench(
    what: Literal["anneal"],
    /,
    *,
    yardstick: Annotated[bool, Parameter(negative=(), help="Compile and race the plain C twin.")] = False,
    peers: Annotated[bool, Parameter(negative=(), help="Race Spirit, spinmc, magnum.np where installed.")] = False,
    as_json: AsJson = False,
) -> None:
    """Time the package, as ratios measured in one run.

    Parameters
    ----------
    what
        anneal: the sweeps and the default schedule.
    """
    from spinloom.bench import bench_anneal, print_anneal

    found = bench_anneal(yardstick=yardstick, peers=peers, show=not as_json)
    if as_json:
        _print_json(found)
    else:
        print_anneal(found)
