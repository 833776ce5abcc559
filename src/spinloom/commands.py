"""The commands that make and keep data sets and runs: read the options, call the package, print what came out."""

from __future__ import annotations

import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from spinloom import presets
from spinloom.dataset import Dataset, open_dataset, repair_dataset, verify_dataset, write_dataset
from spinloom.dataset import simulate as simulate_dataset
from spinloom.errors import BadInput
from spinloom.files import read_json, read_lines
from spinloom.hamiltonian import Hamiltonian
from spinloom.options import (
    AsJson,
    Count,
    Device,
    NetworkChanges,
    Quiet,
    Size,
    TrainingChanges,
    Whole,
    listener,
    print_json,
    sides_of,
    statistics_line,
)
from spinloom.pipeline import owner
from spinloom.run import digest, is_run, load
from spinloom.sample import DDLS, Rule
from spinloom.sample import sample as sample_run
from spinloom.schedule import DEFAULT_SCHEDULE, Schedule
from spinloom.shards import read_info
from spinloom.torchrun import speaks
from spinloom.train import train as train_run
from spinloom.watch import FILE as WATCHED

MODEL = "labyrinth-128"
"""The model of the package that is raced if none is named."""


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
        if not 0 <= first < every:
            raise BadInput(f"--shard {shard}: of i/N, i is from 0 to N − 1; use e.g. --shard 0/4")
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
    sides = sides_of(size)
    show = not (quiet or as_json)
    cluster = workers if dask is None else dask
    if cluster is not None:
        from spinloom.scaleout import simulate_on

        settings["say"] = listener(False)
        data: Dataset | None = simulate_on(cluster, out, H, sides, samples, seed, show=show, **settings)
    elif part is None:
        data = simulate_dataset(out, H, sides, samples, seed, show=show, **settings)
    else:
        data = simulate_dataset(out, H, sides, samples, seed, show=show, shard=part, **settings)
    if data is None:
        print(f"{out}: all that falls to job {shard} is there; shards of other jobs are missing", file=sys.stderr)
        if as_json:
            print_json({"path": str(out), "complete": False})
    elif as_json:
        print_json({"path": str(out), **data.info})
    else:
        found = data.info["statistics"]
        print(f"{out}: {len(data)} textures, {statistics_line(found)}")


def train(
    data: Path,
    out: Path,
    /,
    *,
    objective: Annotated[Literal["hybrid", "vae", "gan"], Parameter(help="Eq. (3), (1) or (2).")] = "hybrid",
    preset: Annotated[str, Parameter(help=f"One of {', '.join(presets.TRAININGS)}.")] = "quick",
    start: Annotated[Path | None, Parameter(help="A run to begin with: its networks, of its shapes.")] = None,
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
    _check_free(data, out)
    recipe = presets.pick(presets.TRAININGS, preset)
    training = replace(presets.overridden(recipe.training, changes), objective=objective)
    if recipe.goes_on and start is None:
        raise BadInput(f"preset {preset!r}: goes on from a trained run; add --start RUN")
    begin = None if start is None else load(start)
    shapes = presets.overridden(begin.networks if begin else recipe.networks, networks)
    textures = open_dataset(data)
    silent = quiet or as_json
    shapes = replace(shapes, size=textures.size)
    run = train_run(textures, out, shapes, training, not silent, device, listener(silent), begin)
    if not speaks():
        return
    if as_json:
        seen = [line["step"] for line in read_lines(run.path / WATCHED) if "collapse" in line]
        print_json({"path": str(run.path), "step": run.step, "objective": run.objective, "collapse": seen})
    else:
        print(f"{out}: {run.objective} of {run.step} steps; draw from it with `spinloom sample {out} OUT -n 1000`")


def _check_free(data: Path, out: Path) -> None:
    """Refuse a run of a pipeline: its samples and tables are of the steps it had."""
    whole = owner(out)
    if whole is None:
        return
    way = "use another folder"
    if is_run(out):
        name = out.resolve().name
        objective = f" --objective {name}" if name in ("vae", "gan") else ""
        way += f", e.g. `spinloom train {data} {whole.resolve().name}-{name} --start {out}{objective}`"
    raise BadInput(f"{out}: belongs to the pipeline in {whole}, which more steps would break; {way}")


def sample(
    run: Path,
    out: Path,
    /,
    *,
    number: Annotated[Count, Parameter(name=("-n", "--number"), help="How many textures.")] = 1000,
    method: Annotated[Literal["prior", "ddls"], Parameter(help="z from the prior, or driven from there.")] = "prior",
    rule: Annotated[
        Rule | None, Parameter(help=f"Of ddls: how the discriminator drives. Default: {DDLS.rule}.")
    ] = None,
    steps: Annotated[Whole | None, Parameter(help=f"Of ddls: updates of a code. Default: {DDLS.steps}.")] = None,
    step_size: Annotated[float | None, Parameter(help=f"Of ddls: step size α. Default: {DDLS.step_size}.")] = None,
    relax: Annotated[Whole, Parameter(help="Zero-temperature sweeps afterwards.")] = 0,
    symmetrise: Annotated[bool, Parameter(negative=(), help="Turn each by a random exact symmetry.")] = False,
    seed: Annotated[Whole, Parameter(help="Texture k is a function of (seed, k).")] = 0,
    device: Device = "cpu",
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Draw textures from a trained generator into a data set.

    Parameters
    ----------
    run
        Folder of a run, or the name of a model that comes with the package.
    out
        Folder of the data set to make.
    """
    driven: dict[str, Any] = {"rule": rule, "steps": steps, "step_size": step_size}
    given = {name: value for name, value in driven.items() if value is not None}
    if given and method != "ddls":
        name, value = next(iter(given.items()))
        raise BadInput(f"--{name.replace('_', '-')} {value}: is of --method ddls alone; add that, or leave it out")
    if out.exists():
        raise BadInput(f"{out}: exists; nothing is overwritten, use another folder")
    rules = DDLS(**given)
    trained = load(run, device)
    show = not (quiet or as_json)
    drive = (method, rules.rule, rules.steps, rules.step_size)
    spins = sample_run(trained, number, *drive, seed, relax, show, symmetrise)
    origin: dict[str, Any] = {"source": trained.objective, "model": trained.path.name, "step": trained.step}
    origin |= {"weights": digest(trained), "method": method}
    if method == "ddls":
        origin["ddls"] = asdict(rules)
    origin |= {"relax": relax, "symmetrise": symmetrise, "seed": seed, "device": device}
    data = write_dataset(out, spins, hamiltonian=trained.hamiltonian, origin=origin)
    if as_json:
        print_json({"path": str(out), **data.info})
    else:
        print(f"{out}: {len(data)} textures, {statistics_line(data.info['statistics'])}")


def verify(
    data: Path,
    /,
    *,
    repair: Annotated[bool, Parameter(negative=(), help="Make damaged shards again (annealed sets).")] = False,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> int:
    """Check every shard of a data set against its checksum; exit code 1 if one is damaged.

    Parameters
    ----------
    data
        Folder of a data set.
    """
    found: dict[str, Any] = {"path": str(data)}
    show = not (quiet or as_json)
    if repair:
        made = repair_dataset(data, show=show)
        found |= {"repaired": made, "damaged": []}
        lines = [f"{data}: made again: {', '.join(made)}"] if made else []
    else:
        bad = verify_dataset(data, show=show)
        found |= {"damaged": bad}
        again = f"`spinloom verify {data} --repair` makes it again"
        if bad and read_info(data)["schedule"] is None:
            again = "it was not annealed here and cannot be made again, restore it from a copy"
        lines = [f"{data}/{name}: damaged; {again}" for name in bad]
    if as_json:
        print_json(found)
    else:
        print("\n".join(lines or [f"{data}: all shards are whole"]))
    return 1 if found["damaged"] else 0


def bench(
    what: Literal["anneal", "train", "sample", "search"],
    /,
    *,
    yardstick: Annotated[bool, Parameter(negative=(), help="Compile and race the plain C twin.")] = False,
    peers: Annotated[bool, Parameter(negative=(), help="Race other programs, where installed.")] = False,
    preset: Annotated[str, Parameter(help=f"Of train: one of {', '.join(presets.TRAININGS)}.")] = "lean",
    device: Annotated[Literal["cpu", "cuda"], Parameter(help="Of train: where the networks are.")] = "cpu",
    precision: Annotated[
        Literal["float32", "bfloat16"] | None, Parameter(help="Of train: of the networks' layers; else the preset's.")
    ] = None,
    run: Annotated[Path, Parameter(help="Of sample and search: folder of a run, or a model of the package.")] = Path(
        MODEL
    ),
    objective: Annotated[str, Parameter(help="Of search: what is looked for.")] = "min-energy",
    seeds: Annotated[Count, Parameter(help="Of search: how often everyone tries.")] = 3,
    as_json: AsJson = False,
) -> None:
    """Time the package, as ratios measured in one run.

    Parameters
    ----------
    what
        anneal: the sweeps and the default schedule. train: a preset's step, and a plain one beside its bare
        convolutions. sample: a generator against annealing to the same energy. search: a search in latent space
        against others and annealing in the same time.
    """
    if what == "sample":
        from spinloom.bench_sample import bench_sample, print_sample

        found, show = bench_sample(load(run)), print_sample
    elif what == "search":
        from spinloom.bench_search import bench_search, print_search

        found, show = bench_search(load(run), objective, seeds), print_search
    elif what == "train":
        from spinloom.bench_train import bench_train, print_train

        recipe = presets.pick(presets.TRAININGS, preset)
        training = replace(recipe.training, precision=precision or recipe.training.precision)
        found, show = bench_train(recipe.networks, training, device=device, peers=peers), print_train
    else:
        from spinloom.bench import bench_anneal, print_anneal

        found, show = bench_anneal(yardstick=yardstick, peers=peers, show=not as_json), print_anneal
    if as_json:
        print_json(found)
    else:
        show(found)
