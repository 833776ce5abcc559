"""The command that goes from one texture to another: paths through latent space and spins."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter
from rich.console import Console
from rich.table import Table as Grid

from spinloom.commands_latent import already, as_number, claim, file_name, hamiltonian_of, named_runs, origin_of
from spinloom.dataset import open_dataset
from spinloom.errors import BadInput
from spinloom.files import write_bytes, write_json
from spinloom.options import AsJson, Count, Device, Quiet, Seed, print_json
from spinloom.processor import for_networks
from spinloom.run import Run, load
from spinloom.shards import INFO

if TYPE_CHECKING:
    from torch import Tensor

    from spinloom.path_charts import PathPanel

Out = Annotated[Path, Parameter(help="Folder to make; the same command again goes on or shows what is there.")]

END = "An end: seed:3 (a prior draw), FILE#k or a search's folder (codes), DATA:5 (a texture, encoded)."


def interpolate(
    *runs: Annotated[Path, Parameter(name="RUN")],
    out: Out,
    start: Annotated[str | None, Parameter(name="--from", help=END)] = None,
    to: Annotated[str | None, Parameter(name="--to", help="The other end, likewise.")] = None,
    mode: Annotated[
        Literal["linear", "spherical", "string"], Parameter(help="string bends around domain walls.")
    ] = "linear",
    images: Annotated[Count, Parameter(help="Textures along the path, ends included.")] = 33,
    real: Annotated[bool, Parameter(negative=(), help="Also relax each path in the space of spins.")] = False,
    align: Annotated[
        bool, Parameter(negative=(), help="Translate the other end onto the first one before (needs an encoder).")
    ] = False,
    steps: Annotated[Count, Parameter(help="Most steps of a string, in latent space and in that of spins.")] = 1000,
    prior: Annotated[float, Parameter(help="Weight of |z|²/2 in a string's energy, in J.")] = 0.0,
    seed: Annotated[Seed, Parameter(help="Ends not given are the prior's draws 0 and 1 of this seed.")] = 0,
    device: Device = "cpu",
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Paths between two textures through latent space: energy, M_z, charge, nodal points, barriers; runs side by side.

    The ends are the first run's; other runs encode their textures, so that all paths join the same two. Leaves
    path.json, path.png, path.gif and, a run, codes and textures as safetensors.

    Parameters
    ----------
    runs
        Folders of runs, or names of models that come with the package.
    """
    from spinloom.paths import MOST_IMAGES

    if not runs:
        raise BadInput("interpolate: name at least one run, e.g. `spinloom interpolate runs/hybrid --out path`")
    if not 3 <= images <= MOST_IMAGES:
        raise BadInput(f"--images {images}: a path has its two ends and some between; use 3 to {MOST_IMAGES}, e.g. 33")
    if not 0 <= prior < 1e6:
        raise BadInput(f"--prior {prior:g}: a weight is not negative; use e.g. 1")
    named = named_runs([load(path, device) for path in runs])
    models = {name: hamiltonian_of(run) for name, run in named.items()}
    first = next(iter(named.values()))
    for run in named.values():
        if run.size != first.size:
            raise BadInput(
                f"{run.path}: lattice {run.size}, but {first.path} has {first.size}; use runs of one lattice"
            )
    ends, textures, checksums = _ends(named, start, to, seed, align)
    asked = {
        "runs": {name: origin_of(run) for name, run in named.items()},
        **{"from": start, "to": to, "checksums": checksums},
        **{"mode": mode, "images": images, "real": real, "align": align},
        "steps": steps if mode == "string" or real else None,
        "prior": prior if mode == "string" else None,
        "seed": seed,
    }
    standing = already(out, "path.json", asked) or {}
    if real and not named.keys() <= standing.get("paths", {}).keys():
        _check_rest(textures, models)
    found = claim(out, "path.json", asked)
    show = not (quiet or as_json)
    told = found.setdefault("paths", {})
    for name, run in named.items():
        if name not in told:
            with for_networks():
                told[name] = _one_path(out, name, run, ends[name], textures, models[name], asked, show)
            write_json(out / "path.json", found)
    if not (out / "path.gif").is_file():
        from spinloom.draw import png_bytes
        from spinloom.path_charts import CAPTIONS, animation, path_figure

        sources = [run.objective for run in named.values()]
        panels = []
        for name, run in named.items():
            # a colour an objective, or, where several are of one, a run
            source = run.objective if sources.count(run.objective) == 1 else name
            panels += _panels(out, name, source, told[name])
        write_bytes(out / "path.png", png_bytes(path_figure(panels), CAPTIONS["path"]))
        write_bytes(out / "path.gif", animation(panels))
    if as_json:
        print_json(found)
    else:
        _print_paths(told)
        print(f"pictures: {out / 'path.png'}, {out / 'path.gif'}")


def _check_rest(textures: list[Tensor], models: dict[str, Any]) -> None:
    """Refuses, before any path is made, ends that come to rest as one texture."""
    import torch

    from spinloom.paths import rested_ends

    for H in dict.fromkeys(models.values()):
        rested_ends(torch.stack(textures), H)


def _one_path(
    out: Path,
    name: str,
    run: Run,
    ends: tuple[Tensor, Tensor],
    textures: list[Tensor],
    H: Any,
    asked: dict[str, Any],
    show: bool,
) -> dict[str, Any]:
    import torch
    from safetensors.torch import save

    from spinloom.paths import REST, TOLERANCES, interpolate, relax_path
    from spinloom.string_method import StringConfig

    steps = asked["steps"] or 1
    state, keep, done = _kept(out / f"{file_name(name)}.latent.partial")
    settings = StringConfig(TOLERANCES["latent"], steps)
    weight = asked["prior"] or 0.0
    path = interpolate(run.decode, *ends, H, asked["images"], asked["mode"], settings, weight, state, keep, show)
    tensors = {"z": path.z, "spins": path.spins}
    told: dict[str, Any] = {"latent": path.as_dict(), "real": None}
    relaxed = None
    if asked["real"]:
        state, keep, relaxed = _kept(out / f"{file_name(name)}.spins.partial")
        # from texture to texture, not from reconstruction to reconstruction: so all runs' paths join the same two
        begin = torch.cat((textures[0][None], path.spins[1:-1], textures[1][None]))
        walked = relax_path(begin, H, StringConfig(TOLERANCES["spins"], steps), REST, state, keep, show)
        told["real"] = walked.as_dict()
        tensors["real_spins"] = walked.spins
    content = {key: value.contiguous() for key, value in tensors.items() if value is not None}
    write_bytes(out / f"{file_name(name)}.safetensors", save(content))
    for finished in (done, relaxed):
        if finished is not None:
            finished()
    return told


def _kept(file: Path) -> tuple[dict[str, Tensor] | None, Callable[[dict[str, Tensor]], None], Callable[[], None]]:
    """The state kept in a file or None, what keeps one there, and what takes it away."""
    from safetensors import SafetensorError
    from safetensors.torch import load as read
    from safetensors.torch import save

    try:
        state = read(file.read_bytes()) if file.is_file() else None
    except SafetensorError:
        state = None  # then from the start
    return state, lambda told: write_bytes(file, save(told)), lambda: file.unlink(missing_ok=True)


def _ends(
    named: dict[str, Run], start: str | None, to: str | None, seed: int, align: bool
) -> tuple[dict[str, tuple[Tensor, Tensor]], list[Tensor], list[int]]:
    """The two ends' codes for every run, the first run's own and the others' encodings; the two textures; and
    checksums of the codes or textures that were named."""
    import torch

    from spinloom.paths import aligned
    from spinloom.sample import prior_latents

    runs = list(named.items())
    name, run = runs[0]
    if align and not run.networks.grid:
        _ = run.encoder  # refuses a GAN before any work
    for _, other in runs[1:]:
        _ = other.encoder
    drawn = prior_latents(seed, 2, run.networks.latent)
    decode = run.decode
    codes, textures, checksums = [], [], []
    for number, text in enumerate((start, to)):
        texture = None if text is None else _texture(text, run)
        if texture is not None:
            exact = texture
            codes.append(_encoded(run, texture))
        else:
            exact = drawn[number] if text is None else _code(text, run)
            codes.append(exact)
            with torch.no_grad():
                texture = decode(codes[-1][None])[0].cpu()
        textures.append(texture)
        checksums.append(zlib.crc32(exact.numpy().tobytes()))
    if align:
        if run.networks.grid:
            codes[1] = _moved_code(run, codes[1], textures)
            with torch.no_grad():
                textures[1] = decode(codes[1][None])[0].cpu()
        else:
            moved, shift = aligned(textures[1], textures[0])
            if shift != (0, 0):
                textures[1], codes[1] = moved, _encoded(run, moved)
    if torch.equal(codes[0], codes[1]):
        raise BadInput("--from and --to: are one code; give two that differ")
    found = {name: (codes[0], codes[1])}
    for other, its in runs[1:]:
        found[other] = (_encoded(its, textures[0]), _encoded(its, textures[1]))
    return found, textures, checksums


def _moved_code(run: Run, code: Tensor, textures: list[Tensor]) -> Tensor:
    """A code on a grid moved by whole cells, which moves its texture exactly, to where it overlaps most."""
    height, width = run.networks.bottom
    rows, columns = run.size[0] // height, run.size[1] // width
    moves = [(i, j) for i in range(height) for j in range(width)]
    overlap = [
        float((textures[1].roll((i * rows, j * columns), (-2, -1)) * textures[0]).double().sum()) for i, j in moves
    ]
    i, j = moves[max(range(len(moves)), key=overlap.__getitem__)]
    return code.reshape(-1, height, width).roll((i, j), (1, 2)).reshape(-1)


def _texture(text: str, run: Run) -> Tensor | None:
    """The texture (3, H, W) that DATA:index names; None if the text names none."""
    folder, _, index = text.rpartition(":")
    if not folder or folder == "seed":
        return None
    if not (Path(folder) / INFO).is_file():
        raise BadInput(f"{text}: {folder} is no data set; write DATA:index, seed:3 or FILE#k")
    data = open_dataset(Path(folder))
    if data.size != run.size:
        raise BadInput(f"{text}: lattice {data.size}, but the run's is {run.size}; use textures of that")
    if not index.isdecimal() or int(index) >= len(data):
        raise BadInput(f"{text}: {folder} has {len(data)} textures, counted from 0; use :0 to :{len(data) - 1}")
    return data[int(index)]


def _code(text: str, run: Run) -> Tensor:
    from spinloom.latent import read_code
    from spinloom.sample import prior_latents

    latent = run.networks.latent
    number = text.removeprefix("seed:")
    if number != text or text.isdecimal():
        if not number.isdecimal() or int(number) >= 2**64:
            raise BadInput(f"{text}: after seed: comes a whole number from 0, e.g. seed:3")
        return prior_latents(int(number), 1, latent)[0]
    name, mark, place = text.partition("#")
    if Path(name).is_dir():
        if not (Path(name) / "search.json").is_file():
            raise BadInput(f"{text}: holds no search.json; give a folder that `spinloom search` made, or DATA:index")
        text = str(Path(name) / "search.json") + mark + place
    return read_code(text, latent)


def _encoded(run: Run, texture: Tensor) -> Tensor:
    import torch

    encoder = run.encoder
    device = next(encoder.parameters()).device
    with torch.no_grad():
        return encoder(texture[None].to(device))[0][0].cpu()


def _panels(out: Path, name: str, source: str, told: dict[str, Any]) -> list[PathPanel]:
    from safetensors.torch import load as read

    from spinloom.path_charts import PathPanel

    tensors = read((out / f"{file_name(name)}.safetensors").read_bytes())
    panels = [PathPanel(name, source, tensors["spins"], told["latent"])]
    if told["real"]:
        panels.append(PathPanel(f"{name}, spins", source, tensors["real_spins"], told["real"], real=True))
    return panels


def _print_paths(told: dict[str, Any]) -> None:
    grid = Grid(box=None, padding=(0, 1), header_style="bold")
    for head in ("", "length", "barrier", "back", "climb", "saddle", "nodal", "images with", "ΔQ"):
        grid.add_column(head, justify="right" if head else "left", no_wrap=bool(head), overflow="fold")
    loose = []
    for name, paths in told.items():
        for label, path in ((name, paths["latent"]), (f"{name}, spins", paths["real"])):
            if path is None:
                continue
            points = path["nodal_points"]
            numbers = [
                as_number(path[key], 2) for key in ("barrier_forth", "barrier_back", "ascent_forth", "saddle_forth")
            ]
            share = f"{sum(count > 0 for count in points)}/{len(points)}"
            change = f"{round(path['charge'][-1] - path['charge'][0]):+d}"
            grid.add_row(label, as_number(path["length"][-1], 1), *numbers, str(max(points)), share, change)
            if path["converged"] is False:
                loose.append(f"{label} (force {path['force']:.2g} J after {path['steps']} steps)")
    Console().print(grid)
    print("barrier, back: energy (J) of the highest point above either end; climb: the most at one go on the way;")
    print("saddle: the same between valleys, without the slopes to ends that are not at rest")
    if loose:
        print(
            f"not converged: {', '.join(loose)}; their barriers are upper bounds; give more --steps in another folder"
        )
