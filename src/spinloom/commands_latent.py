"""What the commands on latent space have in common: runs by name, the folders they claim, references they look at."""

from __future__ import annotations

import json
import re
import shutil
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from spinloom.errors import BadInput
from spinloom.files import read_json, write_json
from spinloom.hamiltonian import Hamiltonian
from spinloom.run import Run, differences, digest

if TYPE_CHECKING:
    from spinloom.dataset import Dataset


def named_runs(runs: list[Run]) -> dict[str, Run]:
    """Runs by their objective's name, with what tells their paths apart where there are several of one; that alone
    where it begins with the objective."""
    from spinloom.rows import display_name

    places: dict[Path, Run] = {}
    for run in runs:
        if run.path.resolve() in places:
            raise BadInput(f"{run.path}: is named twice; name every run once")
        places[run.path.resolve()] = run
    named: dict[str, Run] = {}
    for place, run in places.items():
        name = display_name(run.objective)
        kin = [other for other in places if places[other].objective == run.objective]
        apart = _apart(place, kin) if len(kin) > 1 else run.objective
        named[name if apart == run.objective else apart if _says(apart, run.objective) else f"{name} {apart}"] = run
    return named


def _says(path: str, objective: str) -> bool:
    """Whether a path's first word is the objective's, so that it is a name alone: gan-2, but not GAN x/gan."""
    return re.fullmatch(rf"{objective}(?![a-z])\S*", path) is not None


def _apart(place: Path, kin: list[Path]) -> str:
    """What tells a path from others: trial-0 of T/trial-0/gan beside T/trial-1/gan. Parts that all of them end in are
    left out, then as few are taken from the end as make all of them differ."""
    common = 0
    while len({other.parts[-1 - common :] for other in kin}) == 1:
        common += 1
    heads = {other: other.parts[: len(other.parts) - common] for other in kin}
    count = 1
    while len({parts[-count:] for parts in heads.values()}) < len(kin):
        count += 1
    return "/".join(heads[place][-count:])


def file_name(name: str) -> str:
    """A file's name for a run's, another for every run, also where upper and lower case are one."""
    objective, _, rest = name.partition(" ")
    if not objective.isalpha():  # of a path alone
        objective, rest = "run", name
    if objective == "run" or not re.fullmatch(r"[a-z0-9_-]*", rest):
        rest = f"{re.sub(r'[^a-z0-9_-]+', '-', rest.lower())}-{zlib.crc32(rest.encode()):08x}"
    return f"{objective.lower()}-{rest}" if rest else objective.lower()


def held_out(run: Run, path: Path) -> tuple[Dataset, Dataset | None]:
    """The textures of a data set that the run was not trained on, and those that it was, if the set is its own.

    Raises:
        BadInput: textures of another lattice or Hamiltonian.
    """
    from spinloom.dataset import open_dataset
    from spinloom.training_config import TrainingConfig

    data = open_dataset(path)
    if data.size != run.size:
        raise BadInput(f"{path}: lattice {data.size}, but the run's is {run.size}; use a set of that")
    if data.hamiltonian != run.hamiltonian:
        its, own = (_words(H) for H in (data.hamiltonian, run.hamiltonian))
        raise BadInput(f"{path}: its Hamiltonian is {its}, but the run's {own}; use a set of that")
    if data.checksum != run.config["data"].get("checksum"):
        return data, None
    trained, held = data.split(run.config["training"].get("fraction", TrainingConfig.fraction))
    return held, trained


def hamiltonian_of(run: Run) -> Hamiltonian:
    if run.hamiltonian is None:
        raise BadInput(f"{run.path}: was trained on textures of unknown Hamiltonian; use a run of simulated data")
    return run.hamiltonian


def origin_of(run: Run) -> dict[str, Any]:
    """What is kept of a run to know it again."""
    return {"path": str(run.path), "objective": run.objective, "step": run.step, "weights": digest(run)[:16]}


def _words(H: Hamiltonian | None) -> str:
    return "unknown" if H is None else ", ".join(f"{name}={value}" for name, value in H.as_dict().items())


def discriminator_of(run: Run) -> Callable[[Tensor], Tensor] | None:
    """The run's discriminator, None for a VAE."""
    return run.discriminator if "discriminator" in run.nets else None


def already(out: Path, name: str, asked: dict[str, Any]) -> dict[str, Any] | None:
    """The content of OUT/name, where the same was asked before, whole or only begun; None where nothing is.

    Raises:
        BadInput: the folder holds something else.
    """
    asked = json.loads(json.dumps(asked))
    file = out / name
    if file.is_file():
        content = read_json(file)
        other = differences(content.get("asked") if isinstance(content, dict) else None, asked)
        if other:
            raise BadInput(f"{file}: was made with other settings ({'; '.join(other)}); use another folder")
        return content
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise BadInput(f"{out}: exists and holds no {name}; nothing is overwritten, use another folder")
    return None


def claim(out: Path, name: str, asked: dict[str, Any]) -> dict[str, Any]:
    """What :func:`already` finds; where that is nothing the folder is begun.

    Raises:
        BadInput: the folder holds something else.
    """
    found = already(out, name, asked)
    if found is None:
        found = {"asked": json.loads(json.dumps(asked))}
        out.mkdir(parents=True, exist_ok=True)
        write_json(out / name, found)
    return found


@contextmanager
def given_back(out: Path, name: str) -> Iterator[None]:
    """Where work is refused before it has left anything, the folder goes too, so that it can be asked otherwise."""
    try:
        yield
    except BadInput:
        if not any(file.is_file() and file != out / name for file in out.rglob("*")):
            shutil.rmtree(out)
        raise


def as_number(value: float | None, digits: int = 3) -> str:
    return "–" if value is None else f"{value:z.{digits}f}".replace("-", "−")
