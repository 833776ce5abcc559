"""The command that looks for extreme textures in latent space."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter
from rich.console import Console
from rich.table import Table as Grid

from spinloom.dataset import Dataset, open_dataset, write_dataset
from spinloom.errors import BadInput
from spinloom.files import read_json, write_bytes, write_json
from spinloom.findings import Found, Front
from spinloom.hamiltonian import Hamiltonian
from spinloom.options import (
    AsJson,
    Count,
    Device,
    Dzyaloshinskii,
    EasyAxis,
    Exchange,
    Field,
    Quiet,
    Seed,
    Walls,
    Whole,
    given_hamiltonian,
    print_json,
)
from spinloom.run import Run, load


def search(
    run: Path,
    out: Path,
    /,
    *,
    objective: Annotated[
        tuple[str, ...],
        Parameter(
            consume_multiple=True,
            help="min- or max- of energy, mz, charge, skyrmions, wavelength, logit, nodal; several: a Pareto front.",
        ),
    ] = ("min-energy",),
    method: Annotated[
        Literal["ga", "cma", "gradient", "nsga2"],
        Parameter(help="Genetic algorithm (nsga2 for several objectives), CMA-ES, or Adam through the generator."),
    ] = "ga",
    population: Annotated[Count | None, Parameter(help="Codes a generation.")] = None,
    generations: Annotated[Count | None, Parameter(help="How many.")] = None,
    head_start: Annotated[
        Whole | None, Parameter(help="Gradient steps of an eighth of the first population; 0: the paper's way.")
    ] = None,
    inner_relax: Annotated[
        Whole | None,
        Parameter(help="Zero-temperature sweeps before a texture is judged, with over-relaxation. Default: 20."),
    ] = None,
    relax: Annotated[Whole | None, Parameter(help="Zero-temperature sweeps of the answer. Default: 2000.")] = None,
    nodal_weight: Annotated[float, Parameter(help="Cost of a nodal point, in spreads of the objective.")] = 1.0,
    norm_weight: Annotated[float, Parameter(help="Cost of ‖z‖ away from √n; 0: none.")] = 1.0,
    bound: Annotated[float, Parameter(help="Components of z stay in ± this.")] = 4.0,
    reference: Annotated[
        Path | None, Parameter(help="Data set to say against whether it is new. Default: the run's own, if there.")
    ] = None,
    compared: Annotated[
        Count | None, Parameter(help="Of its textures the first so many; default: all the run was trained on.")
    ] = None,
    J: Exchange = None,
    D: Dzyaloshinskii = None,
    dmi: Walls = None,
    B: Field = None,
    K: EasyAxis = None,
    seed: Annotated[Seed, Parameter(help="Of the first codes and the method.")] = 0,
    device: Device = "cpu",
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Search a generator's latent space for an extreme texture; the same command again resumes.

    OUT gets search.json (settings, codes z, history, report), textures/decoded, /relaxed and /settled (data
    sets), and found.png. The Hamiltonian is the run's unless --J and --D are given.

    Parameters
    ----------
    run
        Folder of a run, or the name of a model that comes with the package.
    out
        Folder of the search to make.
    """
    from spinloom.search import SEARCH
    from spinloom.search import search as search_run

    trained = load(run, device)
    H = given_hamiltonian(J, D, dmi, B, K)
    show = not (quiet or as_json)
    data = _reference(trained, reference)
    if compared is not None and data is None:
        raise BadInput(f"--compared {compared}: the textures that {run} was trained on are not there; give --reference")
    found = search_run(
        trained,
        H,
        objective[0] if len(objective) == 1 else objective,
        method,
        seed,
        relax,
        population,
        generations,
        head_start,
        inner_relax,
        nodal_weight,
        norm_weight,
        bound,
        data,
        out,
        show,
        compared=compared,
    )
    _keep(out, found, trained.hamiltonian if H is None else H)
    if as_json:
        print_json({"path": str(out), **read_json(out / SEARCH)})
    else:
        _print(out, found, objective)


def _reference(run: Run, given: Path | None) -> Dataset | None:
    """The textures the run was trained on: of the data set that was given, or its own if that is still there."""
    if given is not None:
        data = open_dataset(given)
        if data.size != run.size:
            raise BadInput(f"--reference {given}: textures of {data.size}, the run's are {run.size}; give its data set")
    else:
        try:
            data = open_dataset(run.config["data"]["path"])
        except (BadInput, KeyError, TypeError):
            return None
    if data.checksum != run.config["data"].get("checksum"):
        return data if given is not None else None
    fraction = run.config.get("training", {}).get("fraction", 1.0)
    return data.split(fraction)[0] if 0 < fraction < 1 else data


def _keep(out: Path, found: Found | Front, H: Hamiltonian | None) -> None:
    """The textures as data sets, and a picture; what is there already is left, but for a picture beside other data."""
    from spinloom.draw import png_bytes
    from spinloom.search import SEARCH
    from spinloom.search_charts import CAPTIONS, found_figure, front_figure

    stages = {"decoded": found.decoded, "relaxed": found.spins, "settled": found.settled}
    stages = {name: spins if spins.ndim == 4 else spins[None] for name, spins in stages.items()}
    (out / "textures").mkdir(exist_ok=True)
    for name, spins in stages.items():
        if not (out / "textures" / name).exists():
            write_dataset(out / "textures" / name, spins, H, {"source": "search", "stage": name})
    picture, content = out / "found.png", read_json(out / SEARCH)
    if not picture.exists() or content["reference"] != content.get("drawn_beside", ""):
        several = isinstance(found, Front)
        figure = front_figure(found) if several else found_figure(found)
        write_bytes(picture, png_bytes(figure, CAPTIONS["front" if several else "found"]))
        write_json(out / SEARCH, {**content, "drawn_beside": content["reference"]})


def _print(out: Path, found: Found | Front, objective: tuple[str, ...]) -> None:
    if isinstance(found, Found):
        print(f"{out}: {objective[0]} = {found.value:.6g}")
        for line in found.report["words"]:
            print(f"  {line}")
        return
    print(f"{out}: Pareto front, {len(found.z)} textures")
    table = Grid()
    narrow = (goal.replace("-", "-\n", 1) for goal in found.goals)
    for name in (*narrow, "nodal", "Q", "‖z‖/√n", "new", "what it is"):
        # folded, where there is no room: a number cut short is a wrong one
        table.add_column(name, justify="left" if name == "what it is" else "right", overflow="fold")
    for values, report in zip(found.values.tolist(), found.reports, strict=True):
        relaxed, novelty = report["stages"]["relaxed"], report["novelty"]
        table.add_row(
            *(f"{value:.5g}" for value in values),
            str(int(relaxed["nodal_points"])),
            str(round(relaxed["charge"])),
            f"{report['norm']['ratio']:.2f}",
            {None: "?", True: "yes", False: "no"}[novelty["new"]],
            report["pattern"]["kind"],
        )
    Console().print(table)
    novelty = found.reports[0]["novelty"]
    if novelty["new"] is None:
        print(novelty["reason"])
    else:
        some = "" if novelty["searched"] == novelty["given"] else f"the first {novelty['searched']} of "
        print(f"new: compared with {some}{novelty['given']} training textures, symmetries taken out")
