"""The paper's system end to end: anneal a data set, train, sample, measure, draw; every stage resumes."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from spinloom import run as runs
from spinloom.anneal import anneal
from spinloom.coverage import FEWEST, Coverage, CoverageReference, Space
from spinloom.dataset import Dataset, open_dataset, simulate, write_dataset
from spinloom.errors import BadInput
from spinloom.files import pinned, read_lines, write_json
from spinloom.hamiltonian import Dmi, Hamiltonian
from spinloom.measure import Table, measure
from spinloom.networks import NetworkConfig
from spinloom.objectives import OBJECTIVES, reconstruction_error
from spinloom.sample import DDLS, reconstruct, sample
from spinloom.schedule import Schedule, Step
from spinloom.shards import INFO
from spinloom.spiral import ground_state
from spinloom.train import train
from spinloom.training_config import QUIET, TrainingConfig
from spinloom.watch import FILE as WATCHED

try:
    import resource
except ImportError:  # Windows
    resource = None

STATE, RESULTS = "pipeline.json", "results.json"
UNTRAINED = "untrained"


@dataclass(frozen=True)
class PipelineConfig:
    """Everything one pipeline depends on.

    Attributes:
        J: exchange.
        D: Dzyaloshinskii–Moriya interaction.
        dmi: interfacial (Néel walls) or bulk (Bloch walls).
        B: field along z.
        K: easy axis along z; negative: easy plane.
        size: the lattice (H, W).
        samples: textures annealed; ``training.fraction`` of them are trained on, the rest is the test set.
        seed: of the data, the networks, the training and the samples.
        prior_samples: textures drawn from each generator by the prior.
        ddls_samples: textures drawn from GAN and hybrid by discriminator-driven latent sampling; 0 for none.
        relax: zero-temperature sweeps behind the rows that are also shown relaxed.
        networks: the networks' shapes; their ``size`` follows this one.
        training: the training of all three objectives; its ``objective`` and ``seed`` are set here.
        ddls: the discriminator-driven rule.

    Raises:
        BadInput: any value that one of the stages would refuse.
    """

    J: float = 1.0
    D: float = 0.3
    dmi: Dmi = "interfacial"
    B: float = 0.0
    K: float = 0.0
    size: tuple[int, ...] = (128, 128)
    samples: int = 40_000
    seed: int = 0
    prior_samples: int = 10_000
    ddls_samples: int = 500
    relax: int = 20
    networks: NetworkConfig = field(default_factory=NetworkConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    ddls: DDLS = field(default_factory=DDLS)

    def __post_init__(self) -> None:
        size = tuple(self.size) * (2 if len(self.size) == 1 else 1)
        if len(size) != 2:
            raise BadInput(f"size={self.size}: give one side or two, (H, W)")
        object.__setattr__(self, "size", size)
        object.__setattr__(self, "networks", replace(self.networks, size=size))
        object.__setattr__(self, "training", replace(self.training, seed=self.seed))
        _ = self.hamiltonian  # refuses what cannot be
        for name, least in (("samples", 1), ("prior_samples", FEWEST), ("ddls_samples", 0), ("relax", 1)):
            if getattr(self, name) < least:
                raise BadInput(f"{name}={getattr(self, name)}: use a whole number from {least} on")
        if 0 < self.ddls_samples < FEWEST:
            raise BadInput(
                f"ddls_samples={self.ddls_samples}: coverage needs at least {FEWEST}; use that or 0 for none"
            )
        held_in = round(self.samples * self.training.fraction)
        if held_in < max(FEWEST, self.training.batch):
            raise BadInput(
                f"samples={self.samples}: {held_in} to train on are fewer than a batch of {self.training.batch} or the "
                f"{FEWEST} that coverage needs; use more samples or a smaller training.batch"
            )
        if self.samples - held_in < FEWEST:
            raise BadInput(
                f"samples={self.samples}: {self.samples - held_in} to test on are too few for coverage; "
                f"use at least {math.ceil((FEWEST + 1) / (1 - self.training.fraction))}"
            )

    @property
    def hamiltonian(self) -> Hamiltonian:
        return Hamiltonian(self.J, self.D, self.dmi, self.B, self.K)

    def as_dict(self) -> dict[str, Any]:
        """The config as plain JSON values."""
        nested = {"networks": self.networks.as_dict(), "training": self.training.as_dict()}
        return asdict(self) | {"size": list(self.size)} | nested


@dataclass(frozen=True)
class _Row:
    """A line of the table to come."""

    name: str
    folder: str
    source: str
    method: str
    relax: int
    samples: int


def _rows(config: PipelineConfig) -> Iterator[_Row]:
    """All generated rows, in the table's order; a relaxed row follows the one it is made from."""
    n, m, sweeps = config.prior_samples, config.ddls_samples, config.relax
    plain = [("untrained", "prior", n), ("random", "random", n)]
    plain += [(objective, "prior", n) for objective in OBJECTIVES]
    plain += [(objective, "ddls", m) for objective in ("gan", "hybrid") if m]
    for source, method, count in plain:
        name = source if source in ("untrained", "random") else f"{source} {method}"
        folder = name.replace(" ", "-")
        if source != "random":
            yield _Row(name, folder, source, method, 0, count)
        yield _Row(f"{name} + relax {sweeps}", f"{folder}-relaxed", source, method, sweeps, count)


def run_pipeline(
    out: Path | str,
    config: PipelineConfig,
    preset: str | None = None,
    notes: tuple[str, ...] = (),
    show: bool = True,
    say: Callable[[str], None] = lambda line: None,
    data: Dataset | None = None,
    device: str = "cpu",
) -> dict[str, Any]:
    """Run or resume the whole pipeline in ``out``; returns what ``results.json`` holds.

    ``data`` are textures annealed before, by the config's Hamiltonian; ``config.seed`` is then that of the networks,
    their training and their samples alone. ``device`` is where textures are annealed and networks trained and sampled.

    The folder gets ``data/``, a run folder an objective (and an untrained one), ``samples/`` and ``measures/``
    a row, ``results.json``, PNGs and ``report.html``.

    Raises:
        BadInput: the folder holds something else, a pipeline with other settings, or one whose runs were trained on
            by themselves; there is no such device.
    """
    from spinloom.report import write_report

    runs.check_device(device)
    out = Path(out)
    state = _State.open(out, config, preset)
    _check_steps(out, config.training.steps)
    H = config.hamiltonian
    if data is None:
        say(f"annealing {config.samples} textures of {config.size[0]} × {config.size[1]}")
        with state.timed("simulate", there=(out / "data" / INFO).exists()):
            size = (config.size[0], config.size[1])
            data = simulate(out / "data", H, size, config.samples, config.seed, show=show, device=device)
    held_in, held_out = data.split(config.training.fraction)

    networks = config.networks
    train(data, out / UNTRAINED, networks, replace(config.training, steps=0), show=False)
    trained = {UNTRAINED: runs.load(out / UNTRAINED, device)}
    for objective in OBJECTIVES:
        say(f"training {objective} for {config.training.steps} steps")
        reached = runs.step_of(out / objective / runs.CHECKPOINT)
        with state.timed(f"train {objective}", there=reached == config.training.steps):
            training = replace(config.training, objective=objective)
            run = train(data, out / objective, networks, training, show, device, say)
            trained[objective] = runs.load(run.path, device)

    sources: list[tuple[_Row, Dataset]] = []
    for row in _rows(config):
        with state.timed(f"sample {row.folder}", there=(out / "samples" / row.folder).exists()):
            before = sources[-1][1] if sources and row.relax else None
            sources.append((row, _sampled(out, row, trained, before, config, data, show)))

    say("measuring")
    with state.timed("measure", anew=True):
        results = _results(out, config, held_in, held_out, sources, trained, state)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024 if resource else None  # kB on Linux
    results = {"preset": preset, "notes": list(notes), **results, "seconds": state.seconds, "peak_memory_mb": peak}
    write_json(out / RESULTS, results)
    say("drawing")
    write_report(out)
    return results


def _sampled(
    out: Path,
    row: _Row,
    trained: dict[str, runs.Run],
    before: Dataset | None,
    config: PipelineConfig,
    data: Dataset,
    show: bool,
) -> Dataset:
    """The textures of a row, as a data set that is made once."""
    from spinloom.anneal import relax

    folder = out / "samples" / row.folder
    if folder.exists():
        return open_dataset(folder)
    H, size = config.hamiltonian, (config.size[0], config.size[1])
    if row.source == "random":
        quench = Schedule((Step(relax=row.relax),))
        spins = anneal(H, size, row.samples, seed=config.seed + 1, schedule=quench)
    elif row.relax and before is not None:
        spins = relax(before[:], H, sweeps=row.relax)
    else:
        rule = config.ddls
        method = "ddls" if row.method == "ddls" else "prior"
        spins = sample(
            trained[row.source],
            row.samples,
            method,
            rule.rule,
            rule.steps,
            rule.step_size,
            config.seed,
            show=show,
        )
    folder.parent.mkdir(exist_ok=True)
    origin = {"source": row.source, "method": row.method, "relax": row.relax, "seed": config.seed}
    if row.method == "ddls":
        origin["ddls"] = asdict(config.ddls)
    return write_dataset(folder, spins, hamiltonian=data.hamiltonian, origin=origin)


def _results(
    out: Path,
    config: PipelineConfig,
    held_in: Dataset,
    held_out: Dataset,
    sources: list[tuple[_Row, Dataset]],
    trained: dict[str, runs.Run],
    state: _State,
) -> dict[str, Any]:
    """Measure every row against the held-out data."""
    H = config.hamiltonian
    (out / "measures").mkdir(exist_ok=True)
    test = held_out[: config.prior_samples]
    # all rows are judged with the same number of textures, since thresholds and radii depend on it
    equal = min(len(test), *(textures.info["samples"] for _, textures in sources))
    second = held_in[:equal]  # stands for a perfect model in data against data
    spaces: tuple[Space, ...] = ("features", "spins")
    reference = {space: CoverageReference(test[:equal], space, H, config.seed, second=second) for space in spaces}
    rows = [_judged(out, _Row("test data", "test-data", "data", "data", 0, len(test)), test, H, None, None)]
    for row, textures in sources:
        seconds = state.seconds.get(f"sample {row.folder}")
        found = {space: judge(textures[:equal]) for space, judge in reference.items()}
        rows.append(_judged(out, row, textures[:], H, found, seconds))
    rebuilt = {}
    for name in ("vae", "hybrid"):
        untrained = runs.untrained(trained[name], config.seed)
        error, start = (float(reconstruction_error(test, reconstruct(run, test))) for run in (trained[name], untrained))
        rebuilt[name] = {"trained": error, "untrained": start}
    lowest = None
    if H.B == 0 and H.K == 0:
        exact = ground_state(H, (config.size[0], config.size[1]))
        lowest = {"energy_excess": float(exact.energy_excess), "q": [int(n) for n in exact.q]}
    return {
        "spinloom": runs.versions()["spinloom"],
        "versions": runs.versions() | {"threads": str(torch.get_num_threads())},
        "seed": config.seed,
        "hamiltonian": H.as_dict(),
        "size": list(config.size),
        "config": config.as_dict(),
        "ground_state": lowest,
        "rows": rows,
        "reconstruction": rebuilt,
        "collapse": {name: _collapse(out / name) for name in OBJECTIVES},
    }


def _collapse(folder: Path) -> list[int]:
    """At which looks at its training the modes seemed to collapse."""
    return [line["step"] for line in read_lines(folder / WATCHED) if "collapse" in line]


def _judged(
    out: Path,
    row: _Row,
    spins: torch.Tensor,
    H: Hamiltonian,
    found: dict[str, Coverage] | None,
    seconds: float | None,
) -> dict[str, Any]:
    table: Table = measure(spins, H)
    table.save(out / "measures" / f"{row.folder}.safetensors")
    coverage = {space: value.as_dict() for space, value in found.items()} if found else None
    return {**asdict(row), "seconds": seconds, "measures": table.summary(), "coverage": coverage}


def _check_steps(out: Path, steps: int) -> None:
    """Refuse runs that were trained for more than the pipeline's ``steps``, which cannot be taken back."""
    for name, most in ((UNTRAINED, 0), *((objective, steps) for objective in OBJECTIVES)):
        found = runs.step_of(out / name / runs.CHECKPOINT)
        if found is not None and found > most:
            raise BadInput(
                f"{out / name}: has {found} steps, its pipeline {most}: it was trained on by itself; move that folder "
                "elsewhere, and the same command trains it again"
            )


def owner(folder: Path) -> Path | None:
    """The folder of the pipeline that ``folder`` is a run of, or will be; None for every other one."""
    place = folder.resolve()
    if place.name not in (UNTRAINED, *OBJECTIVES) or not (place.parent / STATE).is_file():
        return None
    return folder.parent if folder.parent.resolve() == place.parent else place.parent


def changes(there: Any, asked: dict[str, Any]) -> list[str]:
    """What differs between two pipelines' settings and changes what comes out."""
    lines = runs.differences(runs.completed(there, PipelineConfig().as_dict()), asked)
    return [line for line in lines if line.split(":")[0] not in QUIET]


class _State:
    """``pipeline.json``: the pinned config and what every stage took, over all calls."""

    def __init__(self, path: Path, content: dict[str, Any]) -> None:
        self.path = path
        self.content = content

    @property
    def seconds(self) -> dict[str, float]:
        return self.content["seconds"]

    @classmethod
    def open(cls, out: Path, config: PipelineConfig, preset: str | None) -> _State:
        path = out / STATE
        asked = config.as_dict()
        there = pinned(path, {"preset": preset, "config": asked, "seconds": {}}, "a pipeline's folder")
        if not isinstance(there, dict) or not {"config", "seconds"} <= there.keys():
            raise BadInput(f"{path}: is not a pipeline's state; use another folder")
        changed = changes(there.get("config"), asked)
        if changed:
            raise BadInput(f"{out}: holds a pipeline with other settings ({'; '.join(changed)}); use another folder")
        return cls(path, there)

    def timed(self, stage: str, there: bool = False, anew: bool = False) -> AbstractContextManager[None]:
        """Adds the time spent inside to the stage's, unless what it makes is ``there`` and only read; a stage that is
        done ``anew`` by every call has the time of the last one."""
        return nullcontext() if there else _Stopwatch(self, stage, anew)


class _Stopwatch(AbstractContextManager[None]):
    """Notes the time spent inside, interrupted or not."""

    def __init__(self, state: _State, stage: str, anew: bool) -> None:
        self.state, self.stage = state, stage
        self.before = 0.0 if anew else state.seconds.get(stage, 0.0)

    def __enter__(self) -> None:
        self.began = time.monotonic()

    def __exit__(self, kind: object, *_: object) -> None:
        self.state.seconds[self.stage] = round(self.before + time.monotonic() - self.began, 3)
        # what stopped the stage has more to say than that its time cannot be written either
        with nullcontext() if kind is None else suppress(BadInput):
            write_json(self.state.path, self.state.content)
