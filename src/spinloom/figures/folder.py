"""What figures are drawn from, a finished folder or a single run: data, runs and samples, and where the figures go."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from spinloom.dataset import Dataset, open_dataset
from spinloom.errors import BadInput
from spinloom.files import read_json
from spinloom.hamiltonian import Hamiltonian
from spinloom.measure import Table
from spinloom.objectives import OBJECTIVES
from spinloom.report import FIGURES
from spinloom.rows import Row, display_name
from spinloom.run import MODELS, Run, check_device, digest, is_run, load, place_of, shipped
from spinloom.sample import DDLS
from spinloom.trials import trial_folder

RESULTS = "results.json"

MAKERS = "`spinloom run`, `trials` or `reproduce`"
"""What makes a finished folder."""


@dataclass(frozen=True)
class Folder:
    """A pipeline's folder, or one of trials, whose first trial then stands for all where one run is looked at; or a
    single run, which has neither data nor samples.

    Attributes:
        path: as it was named.
        pipeline: the pipeline itself; the run's folder.
        results: what the pipeline's ``results.json`` holds; of a single run, as much of that as it knows.
        out: where figures go.
        trials: how many there are; None in a pipeline's own folder.
        show: whether what takes long shows its progress.
        device: where its networks are.
        single: the run, where there is no pipeline.
    """

    path: Path
    pipeline: Path
    results: Mapping[str, Any]
    out: Path
    trials: int | None = None
    show: bool = True
    device: str = "cpu"
    single: Run | None = None

    @classmethod
    def open(cls, path: Path, out: Path | None = None, show: bool = True, device: str = "cpu") -> Folder:
        """A folder that ``spinloom run``, ``trials`` or ``reproduce`` made and finished; a run's; by its name, a model
        that comes with the package.

        Raises:
            BadInput: it is none, or not finished; there is no such device; a model of the package without ``out``.
        """
        advice = f"name a folder that {MAKERS} has finished"
        check_device(device)
        if not (path / RESULTS).is_file():
            if is_run(place_of(path)):
                return cls._of_run(path, out, show, device)
            raise BadInput(f"{path}: has no {RESULTS}; {advice}, or a run, or of the package's {', '.join(shipped())}")
        results = read_json(path / RESULTS)
        trials = results.get("trials") if isinstance(results, dict) else None
        pipeline = path if trials is None else trial_folder(path, 0)
        results = results if trials is None else read_json(pipeline / RESULTS)
        if not isinstance(results, dict) or not {"rows", "config", "hamiltonian"} <= results.keys():
            raise BadInput(f"{pipeline / RESULTS}: is not a pipeline's; {advice}")
        return cls(path, pipeline, results, out or path / FIGURES, trials, show, device)

    @classmethod
    def _of_run(cls, path: Path, out: Path | None, show: bool, device: str) -> Folder:
        place = place_of(path)
        if out is None and place.resolve().is_relative_to(MODELS.resolve()):
            raise BadInput(f"{path}: comes with the package, where nothing is written; say where figures go, --out DIR")
        run = load(path, device)
        config = {"networks": run.networks.as_dict(), "ddls": asdict(DDLS())}
        results = {"size": list(run.size), "config": config}
        return cls(path, place, results, out or place / FIGURES, None, show, device, run)

    @cached_property
    def hamiltonian(self) -> Hamiltonian:
        """Of the data; a run's may be unknown.

        Raises:
            BadInput: it is.
        """
        if self.single is None:
            return Hamiltonian(**self.results["hamiltonian"])
        if self.single.hamiltonian is None:
            raise BadInput(f"{self.path}: was trained on textures of unknown Hamiltonian; use a run of simulated data")
        return self.single.hamiltonian

    @property
    def objectives(self) -> tuple[str, ...]:
        """Of the runs that are there."""
        return tuple(OBJECTIVES) if self.single is None else (self.single.objective,)

    @property
    def model(self) -> Run:
        """The run that is looked at where it is one: the hybrid, or the single one."""
        return self.run("hybrid") if self.single is None else self.single

    def lacks(self, number: int) -> str | None:
        """What a figure needs that is not here, None if nothing."""
        if self.single is None:
            return None
        if number in (1, 2):
            return f"the data and all models of a folder that {MAKERS} has finished"
        if number != 6 and self.single.hamiltonian is None:
            return "a Hamiltonian, which is unknown of the run's data"
        if number == 4 and "discriminator" not in self.single.nets:
            return f"a discriminator, which a {display_name(self.single.objective)} has not"
        return None

    @property
    def sides(self) -> str:
        """The lattice in words."""
        height, width = self.results["size"]
        return f"{height} × {width}"

    @cached_property
    def data(self) -> Dataset:
        return open_dataset((self.pipeline if self.trials is None else self.path) / "data")

    @property
    def training_data(self) -> Dataset:
        return self.data.split(self.results["config"]["training"]["fraction"])[0]

    @property
    def test_data(self) -> Dataset:
        return self.data.split(self.results["config"]["training"]["fraction"])[1]

    @property
    def latent(self) -> int:
        """Numbers of a code."""
        return self.results["config"]["networks"]["latent"]

    def run(self, objective: str) -> Run:
        return load(self.pipeline / objective, self.device) if self.single is None else self.single

    def samples(self, row: str) -> Dataset | None:
        """The textures of a row of the results by its folder's name, None if it was not made."""
        place = self.pipeline / "samples" / row
        return open_dataset(place) if place.is_dir() else None

    def measured(self, row: str) -> Table:
        """What was measured on the textures of a row."""
        return Table.load(self.pipeline / "measures" / f"{row}.safetensors")

    def kept(self, name: str) -> Path:
        """Where something that takes long is kept, so that the same figure is drawn again in no time."""
        (self.out / "kept").mkdir(parents=True, exist_ok=True)
        return self.out / "kept" / name


def label(run: Run) -> str:
    """What tells a run's networks from others', for what is kept of them."""
    return digest(run)[:16]


def ink(source: str) -> str:
    """The colour of an objective, dark enough for letters."""
    return Row("", source, "").ink
