"""A finished folder that figures are drawn from: its data, runs and samples, and where the figures go."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from spinloom.dataset import Dataset, open_dataset
from spinloom.errors import BadInput
from spinloom.files import read_json
from spinloom.hamiltonian import Hamiltonian
from spinloom.measure import Table
from spinloom.report import FIGURES
from spinloom.rows import Row
from spinloom.run import Run, check_device, digest, load
from spinloom.trials import trial_folder

RESULTS = "results.json"


@dataclass(frozen=True)
class Folder:
    """A pipeline's folder, or one of trials, whose first trial then stands for all where one run is looked at.

    Attributes:
        path: as it was named.
        pipeline: the pipeline itself.
        results: what the pipeline's ``results.json`` holds.
        out: where figures go.
        trials: how many there are; None in a pipeline's own folder.
        show: whether what takes long shows its progress.
        device: where its networks are.
    """

    path: Path
    pipeline: Path
    results: Mapping[str, Any]
    out: Path
    trials: int | None = None
    show: bool = True
    device: str = "cpu"

    @classmethod
    def open(cls, path: Path, out: Path | None = None, show: bool = True, device: str = "cpu") -> Folder:
        """A folder that ``spinloom run``, ``trials`` or ``reproduce`` made and finished.

        Raises:
            BadInput: it is none, or not finished; there is no such device.
        """
        advice = "name a folder that `spinloom run`, `trials` or `reproduce` has finished"
        check_device(device)
        if not (path / RESULTS).is_file():
            raise BadInput(f"{path}: has no {RESULTS}; {advice}")
        results = read_json(path / RESULTS)
        trials = results.get("trials") if isinstance(results, dict) else None
        pipeline = path if trials is None else trial_folder(path, 0)
        results = results if trials is None else read_json(pipeline / RESULTS)
        if not isinstance(results, dict) or not {"rows", "config", "hamiltonian"} <= results.keys():
            raise BadInput(f"{pipeline / RESULTS}: is not a pipeline's; {advice}")
        return cls(path, pipeline, results, out or path / FIGURES, trials, show, device)

    @cached_property
    def hamiltonian(self) -> Hamiltonian:
        return Hamiltonian(**self.results["hamiltonian"])

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
        return load(self.pipeline / objective, self.device)

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
