"""The command that finds the spins behind a picture of M_z, or compares the ways to on known textures."""

from __future__ import annotations

import shutil
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter
from rich.console import Console
from rich.table import Table as Grid

from spinloom.commands_latent import as_number, claim, hamiltonian_of, held_out, origin_of
from spinloom.dataset import write_dataset
from spinloom.errors import BadInput
from spinloom.files import write_bytes, write_json
from spinloom.options import AsJson, Count, Device, Quiet, Seed, Whole, print_json
from spinloom.processor import for_networks
from spinloom.run import Run, load
from spinloom.topology import whole_charge

if TYPE_CHECKING:
    from torch import Tensor

    from spinloom.invert import Inversion, Level


def invert(
    run: Path,
    out: Path,
    /,
    *,
    picture: Annotated[Path | None, Parameter(help="M_z: .npy (H, W) from −1 to 1, or a grey image.")] = None,
    reference: Annotated[
        Path | None, Parameter(help="Data set: compare on its last textures, none that was trained on, instead.")
    ] = None,
    noise: Annotated[
        tuple[float, ...],
        Parameter(consume_multiple=True, help="Noise (std, M_z from −1 to 1); with --reference all that are tried."),
    ] = (),
    blur: Annotated[float, Parameter(help="Gaussian blur of the picture (std, sites).")] = 0.0,
    textures: Annotated[Count, Parameter(help="Of the reference, from its end.")] = 100,
    starts: Annotated[Count, Parameter(help="Codes a search starts from: the encoded guess, then prior draws.")] = 2,
    steps: Annotated[Count, Parameter(help="Steps of a search.")] = 100,
    relax: Annotated[Whole, Parameter(help="Zero-temperature sweeps afterwards.")] = 500,
    seed: Annotated[Seed, Parameter(help="Of noise and prior draws.")] = 0,
    device: Device = "cpu",
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Full spins from a picture of M_z: the analytic guess, and a generator's texture that agrees; both relaxed.

    With --reference pictures are made of known textures, and the errors compared at several noise levels: of the
    held-out textures of the run's own data set, or of another set of the same Hamiltonian. Leaves invert.json,
    invert.png and the spins as a data set.

    Parameters
    ----------
    run
        Folder of a run, or name of a model that comes with the package.
    out
        Folder to make; the same command again goes on or shows what is there.
    """
    from spinloom.invert import NOISES, Inversion

    if (picture is None) == (reference is None):
        raise BadInput("invert: give --picture FILE, or --reference DATA to compare on known textures; one of them")
    if picture is not None and len(noise) > 1:
        raise BadInput(f"--noise {' '.join(f'{one:g}' for one in noise)}: a picture has one; give a single number")
    trained = load(run, device)
    H = hamiltonian_of(trained)
    if H.D == 0:
        raise BadInput(f"{run}: D=0, both in-plane directions are alike and M_z cannot tell them; use a run with DMI")
    settings = Inversion(0.0, blur, starts, steps, relax=relax)
    for one in noise:
        Inversion(one)
    levels = list(dict.fromkeys(noise)) or ([0.0] if picture is not None else list(NOISES))
    asked = {
        "run": origin_of(trained),
        "picture": None if picture is None else str(picture),
        "reference": None if reference is None else str(reference),
        "noise": levels,
        **{"blur": blur, "textures": textures if reference is not None else None, "starts": starts},
        **{"steps": steps, "relax": relax, "seed": seed},
    }
    show = not (quiet or as_json)
    if picture is not None:
        found = _invert_picture(trained, out, picture, settings, asked, show)
    else:
        assert reference is not None
        found = _compare(trained, out, reference, settings, asked, show)
    if as_json:
        print_json(found)
        return
    (_print_picture if picture is not None else _print_levels)(found)
    print(f"picture: {out / 'invert.png'}; spins: {out / 'spins'}")


def _invert_picture(
    run: Run, out: Path, file: Path, settings: Inversion, asked: dict[str, Any], show: bool
) -> dict[str, Any]:
    import torch

    from spinloom.draw import png_bytes
    from spinloom.invert import METHODS, invert
    from spinloom.measure import measure
    from spinloom.path_charts import CAPTIONS, recovered_figure
    from spinloom.pictures import blurred, checked_pictures, read_picture

    seen = checked_pictures(read_picture(file), run.size)
    asked["checksum"] = zlib.crc32(seen.float().contiguous().numpy().tobytes())
    found = claim(out, "invert.json", asked)
    if "methods" in found:
        return found
    H = hamiltonian_of(run)
    recovered = invert(run, seen, asked["noise"][0], settings.blur, asked["seed"], settings, show)
    spins = torch.cat([recovered.spins[name] for name in METHODS])
    table = measure(spins, H)
    found["methods"] = {}
    for number, name in enumerate(METHODS):
        away = blurred(spins[number : number + 1, 2], settings.blur) - seen
        found["methods"][name] = {
            "texture": number,
            "misfit": float(away.square().mean().sqrt()),
            **{key: table[key][number].item() for key in ("energy_excess", "mz", "nodal_points")},
            "charge": whole_charge(table["charge"][number].item()),
        }
    found["z"] = recovered.z[0].tolist()
    found["from_guess"] = recovered.start[0] == 0
    _write_spins(out, spins, run, {"source": "invert", "methods": list(METHODS)})
    shown = {name: some[0] for name, some in recovered.spins.items()}
    notes = {
        name: f"misfit {as_number(told['misfit'])}\nε = {as_number(told['energy_excess'], 4)} J"
        for name, told in found["methods"].items()
    }
    write_bytes(out / "invert.png", png_bytes(recovered_figure(seen[0], shown, notes), CAPTIONS["recovered"]))
    write_json(out / "invert.json", found)
    return found


def _compare(
    run: Run, out: Path, reference: Path, settings: Inversion, asked: dict[str, Any], show: bool
) -> dict[str, Any]:
    import torch

    from spinloom.draw import png_bytes
    from spinloom.invert import METHODS, callables, compare_inversions, verdict
    from spinloom.path_charts import CAPTIONS, inversion_figure
    from spinloom.progress import progress

    data, _ = held_out(run, reference)
    count = asked["textures"]
    if count > len(data):
        raise BadInput(f"--textures {count}: {reference} has {len(data)} not trained on; use at most that many")
    asked["checksum"] = data.checksum
    found = claim(out, "invert.json", asked)
    if "levels" in found:
        return found
    H = hamiltonian_of(run)
    truth = data[len(data) - count :]
    known, keep = _kept_levels(out)
    decode, encode = callables(run)
    total = len(asked["noise"]) * count * settings.starts
    latent, noises, seed = run.networks.latent, asked["noise"], asked["seed"]
    with for_networks(), progress("inverting", total, "codes", show) as advance:
        levels = compare_inversions(decode, truth, H, latent, encode, noises, settings, seed, known, keep, advance)
    spins = [truth[:1]] + [level.example[name][None] for level in levels for name in METHODS]
    of = {"noise": asked["noise"], "methods": list(METHODS), "order": "the truth, then a texture a noise and method"}
    _write_spins(out, torch.cat(spins), run, {"source": "invert", **of})
    write_bytes(out / "invert.png", png_bytes(inversion_figure(levels, truth[0], settings.blur), CAPTIONS["inversion"]))
    found["levels"] = [level.as_dict() for level in levels]
    found["verdict"] = verdict(levels)
    write_json(out / "invert.json", found)
    for file in out.glob("level-*.partial"):
        file.unlink()
    return found


def _kept_levels(out: Path) -> tuple[dict[float, Level], Callable[[Level], None]]:
    """The levels an interrupted comparison has left, and what keeps a new one."""
    import json

    from safetensors import safe_open
    from safetensors.torch import save

    from spinloom.invert import METHODS, Level

    known = {}
    for file in sorted(out.glob("level-*.partial")):
        with safe_open(file, "pt") as content:
            told = json.loads((content.metadata() or {})["level"])
            example = {name: content.get_tensor(name) for name in METHODS}
            known[told["noise"]] = Level.of(told, content.get_tensor("picture"), example)

    def keep(level: Level) -> None:
        tensors = {name: value.contiguous() for name, value in {**level.example, "picture": level.picture}.items()}
        told = {"level": json.dumps(level.as_dict())}
        write_bytes(out / f"level-{level.noise!r}.partial", save(tensors, told))

    return known, keep


def _write_spins(out: Path, spins: Tensor, run: Run, origin: dict[str, Any]) -> None:
    if (out / "spins").exists():  # of a call that was killed right afterwards
        shutil.rmtree(out / "spins")
    write_dataset(out / "spins", spins, hamiltonian_of(run), origin)


def _print_picture(found: dict[str, Any]) -> None:
    grid = Grid(box=None, padding=(0, 1), header_style="bold")
    for head in ("", "misfit of M_z", "ε", "M_z", "Q", "nodal"):
        grid.add_column(head, justify="left" if not head else "right")
    for name, told in found["methods"].items():
        numbers = [as_number(told["misfit"]), as_number(told["energy_excess"], 4), as_number(told["mz"], 4)]
        grid.add_row(name, *numbers, f"{round(told['charge']):+d}", str(told["nodal_points"]))
    Console().print(grid)


def _print_levels(found: dict[str, Any]) -> None:
    console = Console()
    levels = found["levels"]
    count = max(1, (console.width - NAMED) // NUMBER)
    for first in range(0, len(levels), count):  # beside one another as many as fit whole
        console.print(_level_grid(levels[first : first + count]))
    print(found["verdict"])


NAMED, NUMBER = 24, 8
"""Characters of a table's first column and of the others, spaces included."""


def _level_grid(levels: list[dict[str, Any]]) -> Grid:
    grid = Grid(box=None, padding=(0, 1), header_style="bold")
    grid.add_column("in-plane rms (degrees)", overflow="fold")
    for level in levels:
        grid.add_column(f"{level['noise']:g}", justify="right", no_wrap=True)
    for name in levels[0]["errors"]:
        grid.add_row(name, *(as_number(level["errors"][name]["rms"], 1) for level in levels))
    for label, quantity, digits in (("S·S_true", "dot", 4), ("right charge", "charge_right", 2)):
        for number, kind in enumerate(("guess", "network")):
            of_best = (level["errors"][level["best"][number]][quantity] for level in levels)
            grid.add_row(f"{label}, best {kind}", *(as_number(value, digits) for value in of_best))
    return grid
