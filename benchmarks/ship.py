"""A trained run made ready to come with the package: weights in half precision, and what they were measured to do.

    python benchmarks/ship.py RUN NAME --reference DATA [--samples 1000] [--stages RUN …]

Writes ``src/spinloom/models/NAME``: ``config.json`` (with what makes the data again), ``weights.safetensors`` (float16;
of a generator and its average the average alone) and ``card.md`` with data, steps and measurements. The floors for
shipping are checked, and a model that misses one is not written: at 128², D = 0.3 J mean ε ≤ −0.039 and at most one
nodal point a texture from the prior; after 20 sweeps ε ≤ −0.0418 and none. ``--stages`` are the runs that this one
began with (``train --start``), the first one first: the card lists how each was trained, and of one alone the commands.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save

from spinloom import presets
from spinloom import run as runs
from spinloom.coverage import CoverageReference
from spinloom.dataset import open_dataset
from spinloom.errors import BadInput
from spinloom.files import write_bytes, write_json, write_text
from spinloom.hamiltonian import Hamiltonian
from spinloom.measure import measure, wave_vectors
from spinloom.networks import NetworkConfig
from spinloom.rows import fixed
from spinloom.sample import sample
from spinloom.schedule import DEFAULT_SCHEDULE
from spinloom.simulation import request_behind
from spinloom.training_config import QUIET, TrainingConfig

LARGEST = 8_000_000
"""Bytes of the weights."""

WAYS = {"cos": torch.cos, "sin": torch.sin}
MADE = ("size", "seed", "schedule", "shard_size", "origin")
"""What a config keeps of the data's ``dataset.json`` to make them again, beside samples, checksum and Hamiltonian."""

UNTOLD = {"steps", *(name.removeprefix("training.") for name in QUIET)}
"""Of a training, what the card has no column for: the steps that were done have one."""

KINDS = {"hybrid": "VAE–GAN hybrid", "vae": "VAE", "gan": "GAN"}

ROWS = {
    "prior": {"method": "prior"},
    "prior + relax 20": {"method": "prior", "relax": 20},
    "ddls": {"method": "ddls"},
    "ddls + relax 20": {"method": "ddls", "relax": 20},
}


def packed(source: Path, reference: Path | None = None) -> tuple[dict[str, Any], bytes]:
    """Config and weights of a run, for sampling and searching alone; ``reference``: its data, if they have moved."""
    config = runs.read_config(source)
    tensors, step = runs.read_tensors(source / runs.WEIGHTS)
    averaged = {
        name.replace("averaged/", "generator/"): t for name, t in tensors.items() if name.startswith("averaged/")
    }
    tensors = {name: t for name, t in tensors.items() if not name.startswith("averaged/")} | averaged
    half = {name: t.half() if t.is_floating_point() else t for name, t in tensors.items()}
    data = {key: value for key, value in config["data"].items() if key != "path"}
    config = {key: value for key, value in config.items() if key not in ("data", "start")} | {
        "packed": True,
        "data": data | made(data, config["data"].get("path"), reference),
    }
    return config, save(half, {"step": str(step)})


def made(data: dict[str, Any], *places: Path | str | None) -> dict[str, Any]:
    """What makes a run's ``data`` again, from the first of some places where they are; the default schedule untold."""
    for place in filter(None, places):
        try:
            found = open_dataset(place)
        except BadInput:
            continue
        if (found.checksum, len(found)) == (data["checksum"], data["samples"]):
            told = {name: found.info[name] for name in MADE}
            if told["schedule"] == DEFAULT_SCHEDULE.as_dict():
                del told["schedule"]
            return told
    return {}


def measured(run: runs.Run, reference: Path, count: int) -> dict[str, dict[str, float]]:
    """A row of figures for every way of sampling."""
    data = open_dataset(reference)
    held_out = data.split(run.config["training"]["fraction"])[1]
    judge = CoverageReference(held_out[:1000], H=run.hamiltonian, second=held_out[1000:2000])
    found = {"test data": _figures(held_out[:count], run, None)}
    found["test data"]["coverage"] = judge.data_against_data
    for name, how in ROWS.items():
        some = count if how["method"] == "prior" else min(count, 200)
        found[name] = _figures(sample(run, some, **how), run, judge)  # type: ignore[arg-type]
    return found


def _figures(spins: torch.Tensor, run: runs.Run, judge: CoverageReference | None) -> dict[str, float]:
    table = measure(spins, run.hamiltonian).summary()
    figures = {
        "samples": len(spins),
        "energy_excess": table["energy_excess"]["mean"],
        "energy_std": table["energy_excess"]["std"],
        "nodal_points": table["nodal_points"]["mean"],
        "mz_std": table["mz"]["std"],
        "strongest_q": strongest_share(spins),
        **quadrupole(spins),
    }
    if judge is not None:
        coverage = judge(spins)
        figures |= {"coverage": coverage.coverage, "broad": coverage.broad, "knn_coverage": coverage.knn["coverage"]}
    return figures


def strongest_share(spins: torch.Tensor) -> float:
    """The mean share of the strongest pair ±q in S_z's structure factor: 1 for straight stripes."""
    power = torch.fft.fft2(spins[:, 2].double()).abs().square().flatten(1)
    power[:, 0] = 0
    return float((2 * power.amax(1) / power.sum(1)).mean())


def quadrupole(spins: torch.Tensor) -> dict[str, float]:
    """⟨cos 2φ⟩ and ⟨sin 2φ⟩ of the mean structure factor of S_z, φ the direction of q: 0 without a preferred one."""
    power = torch.fft.fft2(spins[:, 2].double()).abs().square().mean(0)
    power[0, 0] = 0
    q_x, q_y = wave_vectors(*power.shape)
    angle = 2 * torch.atan2(q_y, q_x).double()
    return {f"{name}_2phi": float((power * way(angle)).sum() / power.sum()) for name, way in WAYS.items()}


def missed(found: dict[str, dict[str, float]]) -> list[str]:
    """The floors that are not reached."""
    raw, relaxed = found["prior"], found["prior + relax 20"]
    floors = {
        "prior ε ≤ −0.039": raw["energy_excess"] <= -0.039,
        "at most 1 nodal point a texture": raw["nodal_points"] <= 1,
        "relaxed ε ≤ −0.0418": relaxed["energy_excess"] <= -0.0418,
        "no nodal point after relaxing": relaxed["nodal_points"] == 0,
    }
    return [name for name, holds in floors.items() if not holds]


def card(name: str, config: dict[str, Any], found: dict[str, dict[str, float]]) -> str:
    """What it is, how it was made, what it was measured to do, where it ends; ``config`` as in the model's folder."""
    H, data, stages = Hamiltonian(**config["data"]["hamiltonian"]), config["data"], config["stages"]
    trainings = [runs.completed(stage["training"], TrainingConfig().as_dict()) for stage in stages]
    batches = {training["batch"] for training in trainings}
    turned = ", turned by exact symmetries" if any(training["augment"] for training in trainings) else ""
    height, width = config["networks"]["size"]
    lines = [
        f"# {name}",
        "",
        f"A {KINDS[config['objective']]} of {sum(stage['step'] for stage in stages):,} steps"
        f"{f' of batch {batches.pop()}' if len(batches) == 1 else ''} on "
        f"{round(config['training']['fraction'] * data['samples']):,} annealed textures of "
        f"{height} × {width}, J = {H.J:g}, D = {H.D:g} ({H.dmi}){turned}.",
        "",
    ]
    if commands := made_by(config):
        lines += ["```console", *commands, "```", ""]
    plain = TrainingConfig().as_dict()
    columns = [field for field in plain if field not in UNTOLD and any(t[field] != plain[field] for t in trainings)]
    lines += [f"| {' | '.join(['steps', *columns])} |", f"|{'--:|' * (1 + len(columns))}"]
    for stage, training in zip(stages, trainings, strict=True):
        lines.append(f"| {' | '.join([str(stage['step']), *(_cell(training[field]) for field in columns)])} |")
    lines += [
        "",
        f"{'Every row went on with the networks of the one before. ' if len(stages) > 1 else ''}What has no column is "
        "as `TrainingConfig` has it. Measured against held-out textures; strongest q is the share of the strongest "
        "pair of wave vectors in M_z's structure factor (1: straight stripes).",
        "",
        "| | n | ε | nodal points | M_z std | strongest q | coverage | k-NN coverage |",
        "|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for row, f in found.items():
        mark = "†" if f.get("broad") else ""
        cells = [f"{f['energy_excess']:.5f} ± {f['energy_std']:.5f}", f"{f['nodal_points']:.3f}", f"{f['mz_std']:.4f}"]
        cells += [f"{f['strongest_q']:.3f}", f"{f['coverage']:.3f}{mark}"]
        near = f"{f['knn_coverage']:.3f}" if "knn_coverage" in f else ""
        lines.append(f"| {row} | {f['samples']} | {' | '.join(cells)} | {near} |".replace("-", "−"))
    lines += [
        "",
        "† samples off the data inflate it. Limits: one lattice, one Hamiltonian; textures of the paper's labyrinths "
        "and nothing else, straighter than the data's where strongest q says so; raw samples are not at rest, "
        "relax them (`relax=20`) before using them as such. Quadrupole of the structure factor, ⟨cos 2φ⟩ and "
        "⟨sin 2φ⟩ over the directions φ of q, which symmetry makes zero for the data: "
        f"{_directions(found['prior'])} for the prior (data {_directions(found['test data'])}): where they are not "
        "small, the model prefers a direction; `--symmetrise` makes up for that.",
    ]
    return "\n".join(lines) + "\n"


def _directions(row: dict[str, float]) -> str:
    return " and ".join(fixed(round(row[f"{name}_2phi"], 2) + 0.0, 2) for name in WAYS)  # no minus before a nought


def _cell(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return " ".join(map(_cell, value))
    return value if isinstance(value, str) else f"{value:g}"


def made_by(config: dict[str, Any]) -> list[str]:
    """The command that makes the data and, of a model of one stage, the one that trains it."""
    request = request_behind(config["data"])
    if request is None:
        return []
    return [request.command(), *([trained_by(config)] if len(config["stages"]) == 1 else [])]


def trained_by(config: dict[str, Any]) -> str:
    """``spinloom train`` with the preset that is nearest and what differs from it."""
    (stage,) = config["stages"]
    training = runs.completed(stage["training"], TrainingConfig().as_dict()) | {"steps": stage["step"]}
    wanted = _options(training, runs.completed(config["networks"], NetworkConfig().as_dict()))
    changes = {}
    for preset, recipe in presets.TRAININGS.items():
        usual = recipe.training.as_dict() | {"objective": TrainingConfig.objective}
        its = _options(usual, recipe.networks.as_dict())
        changes[preset] = [_option(name, value) for name, value in wanted.items() if value != its[name]]
    preset = min(changes, key=lambda name: len(changes[name]))
    return " ".join((f"spinloom train DATA RUN --preset {preset}", *changes[preset]))


def _options(training: dict[str, Any], networks: dict[str, Any]) -> dict[str, Any]:
    """What ``spinloom train`` can be asked, but for what the card does not tell and the size, which is the data's."""
    own = {name: value for name, value in training.items() if name not in UNTOLD or name == "steps"}
    return own | {f"networks.{name}": value for name, value in networks.items() if name != "size"}


def _option(name: str, value: Any) -> str:
    word = name.replace("_", "-")
    if isinstance(value, bool):
        prefix, _, last = word.rpartition(".")
        return f"--{prefix}{'.' if prefix else ''}{'' if value else 'no-'}{last}"
    return f"--{word} {' '.join(map(str, value)) if isinstance(value, list) else value}"


def stages_of(path: Path) -> list[dict[str, Any]]:
    """What the card tells of a run: its steps and its training; of a model that was shipped before, its stages."""
    config = runs.read_config(path)
    if "stages" in config:
        return config["stages"]
    return [{"step": runs.read_tensors(path / runs.WEIGHTS)[1], "training": config["training"]}]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("name")
    parser.add_argument("--reference", type=Path, required=True)
    parser.add_argument("--samples", type=int, default=1000)
    parser.add_argument("--stages", type=Path, nargs="*", default=[])
    asked = parser.parse_args()
    config, weights = packed(asked.run, asked.reference)
    if len(weights) > LARGEST:
        raise SystemExit(f"the weights are {len(weights)} bytes; {LARGEST} is the most")
    trained = runs.load(asked.run)
    first = [*asked.stages, asked.run][0]
    if runs.read_config(first).get("start"):
        raise SystemExit(f"{first} began with another run; name that in --stages, before it")
    stages = [stage for path in [*asked.stages, asked.run] for stage in stages_of(path)]
    config["stages"] = stages
    found = measured(trained, asked.reference, asked.samples)
    print(json.dumps(found, indent=1, ensure_ascii=False))
    short = missed(found)
    if short:
        raise SystemExit(f"not shipped: missed {'; '.join(short)}")
    told = card(asked.name, config, found)
    folder = runs.MODELS / asked.name
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / runs.CONFIG, config)
    write_bytes(folder / runs.WEIGHTS, weights)
    write_text(folder / "card.md", told)
