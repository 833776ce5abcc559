"""The commands that look at latent space: maps of planes, and discriminator-driven sampling explained."""

from __future__ import annotations

import statistics
import zlib
from collections.abc import Hashable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter
from rich.console import Console
from rich.table import Table as Grid
from safetensors.torch import save
from torch import Tensor

from spinloom.commands_latent import (
    already,
    as_number,
    claim,
    discriminator_of,
    file_name,
    given_back,
    hamiltonian_of,
    held_out,
    named_runs,
    origin_of,
)
from spinloom.errors import BadInput
from spinloom.files import write_bytes, write_json
from spinloom.hamiltonian import Hamiltonian
from spinloom.options import AsJson, Count, Device, Quiet, Seed, Whole, print_json
from spinloom.processor import for_networks
from spinloom.run import Run, load
from spinloom.sample import DDLS, Rule, decoded

if TYPE_CHECKING:
    from spinloom.coverage import CoverageReference
    from spinloom.dataset import Dataset

Out = Annotated[Path, Parameter(help="Folder to make; the same command again goes on or shows what is there.")]


def map(
    *runs: Annotated[Path, Parameter(name="RUN")],
    out: Out,
    axes: Annotated[
        tuple[Whole, Whole] | None, Parameter(help="Two axes of latent space, from 0. Default: 0 1.")
    ] = None,
    through: Annotated[
        tuple[str, str, str] | None,
        Parameter(help="Three codes A B C the plane goes through: seeds, or FILE#k, the k-th code under z in FILE."),
    ] = None,
    span: Annotated[tuple[float, float], Parameter(name="--range", help="Coordinates from, to.")] = (-2.0, 2.0),
    resolution: Annotated[Count, Parameter(help="Pixels a side.")] = 256,
    planes: Annotated[Whole, Parameter(help="Further random planes the numbers are taken on; e.g. 10.")] = 0,
    planes_resolution: Annotated[Count, Parameter(help="Their pixels a side.")] = 64,
    seed: Annotated[Seed, Parameter(help="Of the prior's draw that fixes the other axes.")] = 0,
    device: Device = "cpu",
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Map planes through latent space: energy, nodal points, logits, domains and walls; runs side by side.

    Leaves map.png, map.json, the maps and their domains as safetensors and, with --planes, survey.png. Several runs
    of one objective (say, of trials), Hamiltonian and lattice are also summed up: mean and standard deviation over
    runs.

    Parameters
    ----------
    runs
        Folders of runs, or names of models that come with the package.
    """
    import torch

    from spinloom.domains import (
        compare_surveys,
        find_crossing,
        find_domains,
        map_numbers,
        spread_of_axes,
        survey,
        survey_design,
    )
    from spinloom.draw import png_bytes
    from spinloom.latent import Plane, checked_grid, latent_map, read_code
    from spinloom.map_charts import CAPTIONS, SURVEY, MapPanel, map_caption, map_figure, survey_figure

    if not runs:
        raise BadInput("map: name at least one run, e.g. `spinloom map runs/hybrid --out map`")
    if axes and through:
        raise BadInput("--axes and --through: each is a plane of its own; use one of them")
    checked_grid(span, resolution)
    checked_grid(span, planes_resolution)
    named = named_runs([load(path, device) for path in runs])
    shown: dict[str, Plane] = {}
    for name, run in named.items():
        latent = run.networks.latent
        if through:
            shown[name] = Plane.through(*(read_code(code, latent) for code in through))
        else:
            shown[name] = Plane.along(latent, axes or (0, 1), seed)
        if planes:
            survey_design(latent, planes, seed)
    models = {name: hamiltonian_of(run) for name, run in named.items()}
    kinds = {name: (models[name], run.size) for name, run in named.items()}
    asked = {
        "runs": {name: origin_of(run) for name, run in named.items()},
        "axes": None if through else list(axes or (0, 1)),
        "through": list(through) if through else None,
        **_checksums(named, through),
        "range": list(span),
        "resolution": resolution,
        "planes": planes,
        "planes_resolution": planes_resolution if planes else None,
        "seed": seed,
    }
    found = claim(out, "map.json", asked)
    if "runs" not in found:
        show = not (quiet or as_json)
        (out / "maps").mkdir(exist_ok=True)
        panels, surveys, told = [], {}, {}
        with for_networks():
            for name, run in named.items():
                decode, score = run.decode, discriminator_of(run)
                label, file = origin_of(run)["weights"], out / "maps" / f"{file_name(name)}.safetensors"
                map_ = latent_map(decode, models[name], shown[name], span, resolution, score, file, label, show)
                domains = find_domains(map_)
                labels = {"labels": torch.from_numpy(domains.labels).int()}
                write_bytes(file.with_suffix(".domains.safetensors"), save(labels))
                crossing = find_crossing(decode, models[name], map_, domains)
                panels.append(MapPanel(name, map_, crossing, domains, kinds[name]))
                told[name] = {**origin_of(run), "numbers": map_numbers(map_, domains)}
                told[name] |= {"domains": domains.as_dict(map_), "crossing": None}
                if crossing:
                    write_bytes(file.with_suffix(".klm.safetensors"), save({"spins": crossing.spins.contiguous()}))
                    fields = {key: value for key, value in asdict(crossing).items() if key != "spins"}
                    told[name]["crossing"] = fields | {"charge_difference": crossing.charge_difference}
                if planes:
                    (out / "planes").mkdir(exist_ok=True)
                    file = out / "planes" / file_name(name)
                    settings = (planes, seed, span, planes_resolution, score, file, label, show)
                    surveys[name] = survey(decode, models[name], run.networks.latent, *settings)
        for name, many in surveys.items():
            spreads = {number: spread_of_axes(many.table(number)) for number in SURVEY}
            told[name]["survey"] = {**asdict(many), "summary": many.summary(), "axes_against_draws": spreads}
        pairs = [(one, other) for one in surveys for other in surveys if one < other]
        compared = {
            number: {f"{one} - {other}": compare_surveys(surveys[one], surveys[other], number) for one, other in pairs}
            for number in SURVEY
        }
        if len(panels) > 4:  # more columns than a page can show: the first run of each objective
            firsts = {run.objective: name for name, run in reversed(named.items())}
            panels = [panel for panel in panels if panel.name in firsts.values()]
        write_bytes(out / "map.png", png_bytes(map_figure(panels, nodal=True), map_caption(panels)))
        if surveys:
            write_bytes(out / "survey.png", png_bytes(survey_figure(surveys), CAPTIONS["survey"]))
        found = {"asked": asked, "runs": told, "comparison": compared if pairs else None}
        found["objectives"] = _by_objective(told, kinds)
        write_json(out / "map.json", found)
    if as_json:
        print_json(found)
        return
    _print_map(found)
    print(f"{out}/map.png, {out}/map.json")


def explain(
    run: Path,
    /,
    *,
    out: Out,
    steps: Annotated[Count, Parameter(help="Updates of a code.")] = 100,
    textures: Annotated[Count, Parameter(help="Codes that are followed.")] = 100,
    rule: Annotated[Rule, Parameter(help="How the discriminator drives the codes that are watched.")] = "ascent",
    step_size: Annotated[float, Parameter(help="Its step size α.")] = DDLS.step_size,
    reference: Annotated[Path | None, Parameter(help="Data set that the rules' coverage is measured against.")] = None,
    rules: Annotated[bool, Parameter(negative=(), help="Compare all rules at equal decoder calls.")] = False,
    seed: Annotated[Seed, Parameter(help="Code k is a function of (seed, k).")] = 0,
    device: Device = "cpu",
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Watch discriminator-driven sampling: paths of codes, Grad-CAM beside the nodal points, the rules compared.

    Leaves path.png, curves.png, explain.json, the codes as safetensors and, with --rules, rules.png. It refuses a
    VAE, which has no discriminator. Coverage is measured against textures that the run was not trained on: the
    held-out ones of its own data set, or another set of the same Hamiltonian.

    Parameters
    ----------
    run
        Folder of a GAN or hybrid, or the name of a model that comes with the package.
    """
    from spinloom.coverage import FEWEST
    from spinloom.draw import png_bytes
    from spinloom.driven_charts import CAPTIONS, RULE_COLOURS, curves_figure, path_figure, rules_figure
    from spinloom.explain import RuleRow, compare_rules, nodal_box, settings_for, watch_paths
    from spinloom.gradcam import fake_map

    trained = load(run, device)
    discriminator = trained.discriminator
    H = hamiltonian_of(trained)
    settings = DDLS(rule, steps, step_size)
    if reference is not None and not rules:
        raise BadInput(f"--reference {reference}: coverage is measured of the rules compared; give --rules too")
    real = None
    if reference is not None:
        if textures < FEWEST:
            raise BadInput(f"--textures {textures}: too few to estimate a coverage; use {FEWEST} or more")
        real = held_out(trained, reference)
    if rules:
        settings_for("dot", steps + 1, 1.0)  # refuses too few steps before any work
    origin = origin_of(trained)
    asked = {
        "run": origin,
        **asdict(settings),
        "textures": textures,
        "rules": rules,
        "reference": real and {"path": str(real[0].path), "checksum": real[0].checksum},
        "seed": seed,
    }
    found = already(out, "explain.json", asked)
    if found is None or "story" not in found:
        judge, data = (None, {}) if real is None else _judge(H, *real, textures, seed)
        claim(out, "explain.json", asked)
        show = not (quiet or as_json)
        decode, score = trained.decode, discriminator
        latent, label = trained.networks.latent, origin["weights"]
        with given_back(out, "explain.json"), for_networks():
            (out / "codes").mkdir(exist_ok=True)
            keep = out / "codes" / "path"
            paths = watch_paths(decode, score, H, latent, settings, textures, seed, keep, label, show)
            ends = [decoded(decode, paths.codes[place]) for place in (0, -1)]
            story = decoded(decode, paths.codes[:, paths.shown])
            maps = {
                "Grad-CAM": fake_map(discriminator, story),
                "HiResCAM": fake_map(discriminator, story, method="hirescam"),
            }
            box = nodal_box(story[0])
            write_bytes(out / "path.png", png_bytes(path_figure(paths, story, maps, box), CAPTIONS["path"]))
            write_bytes(out / "curves.png", png_bytes(curves_figure(paths, RULE_COLOURS[rule]), CAPTIONS["curves"]))
            found = {
                "asked": asked,
                "shown": paths.shown,
                "story": paths.story(),
                "box": asdict(box),
                "highlight": {name: values.mean((-2, -1)).tolist() for name, values in maps.items()},
                "curves": paths.curves(),
                "overlap": _overlaps(discriminator, ends),
                "rules": None,
            }
            if rules:
                keep = out / "codes" / "rules"
                options: dict[str, Any] = {"reference": judge, "seed": seed, "keep": keep, "label": label}
                rows = compare_rules(decode, score, H, latent, textures, steps + 1, show=show, **options)
                found["rules"] = [asdict(row) for row in rows]
                found["data"] = data
                write_bytes(out / "rules.png", png_bytes(rules_figure(rows, data), CAPTIONS["rules"]))
        write_json(out / "explain.json", found)
    if as_json:
        print_json(found)
        return
    _print_explained(found, [RuleRow(**row) for row in found["rules"] or []])
    print(f"{out}/path.png, {out}/explain.json")


def _judge(
    H: Hamiltonian, held: Dataset, trained: Dataset | None, textures: int, seed: int
) -> tuple[CoverageReference, dict[str, float]]:
    """What coverage is measured against, at most 1000 held-out textures, and their mean ε.

    Data against data is judged by as many textures as the rules are: training textures, or the first of another set.
    """
    from spinloom.coverage import FEWEST, CoverageReference

    count = max(FEWEST, textures)
    stand_in, first = (held, count) if trained is None else (trained, 0)
    if len(held) < first + FEWEST:
        raise BadInput(
            f"--reference {held.path}: {len(held)} textures that the run was not trained on; a coverage of "
            f"{textures} needs {first + FEWEST} or more"
        )
    real = held[first : first + 1000]
    judge = CoverageReference(real, "features", H, seed, second=stand_in[:count])
    return judge, {"energy_excess": float(H.energy_excess(real.double()).mean())}


def _overlaps(discriminator: Any, ends: list[Tensor]) -> list[dict[str, Any]]:
    """The overlap of every layer's maps with the nodal points, by both methods, before and after."""
    from spinloom.gradcam import Method, fake_map, layers, overlap

    methods: tuple[Method, ...] = ("grad-cam", "hirescam")
    rows = []
    for when, spins in zip(("before", "after"), ends, strict=True):
        for layer in range(len(layers(discriminator))):
            for method in methods:
                maps = fake_map(discriminator, spins, layer, method)
                found = overlap(maps, spins)
                line = {"textures": when, "layer": layer, "method": method, "highlight": float(maps.mean())}
                rows.append(line | {"overlap": asdict(found) if found else None})
    return rows


def _checksums(named: dict[str, Run], through: tuple[str, ...] | None) -> dict[str, dict[str, list[int]]]:
    """What tells each run's codes apart from others under the same names, in files that were written anew."""
    if not through:
        return {}
    from spinloom.latent import read_code

    codes = {name: [read_code(code, run.networks.latent) for code in through] for name, run in named.items()}
    return {"checksums": {name: [zlib.crc32(code.numpy().tobytes()) for code in some] for name, some in codes.items()}}


def _by_objective(told: dict[str, dict[str, Any]], kinds: Mapping[str, Hashable]) -> dict[str, dict[str, Any]]:
    """Of every objective, mean and standard deviation over its runs of each number's mean over planes, or, without
    further planes, of each number; nothing of an objective whose runs are of several ``kinds``."""
    found: dict[str, dict[str, Any]] = {}
    for objective in dict.fromkeys(run["objective"] for run in told.values()):
        if len({kinds[name] for name, run in told.items() if run["objective"] == objective}) > 1:
            continue
        numbers = [_means(run) for run in told.values() if run["objective"] == objective]
        found[objective] = {}
        for name in numbers[0]:
            means = [value for one in numbers if (value := one[name]) is not None]
            spread = statistics.stdev(means) if len(means) > 1 else None
            mean = statistics.fmean(means) if means else None
            found[objective][name] = {"mean": mean, "std": spread, "runs": len(means)}
    return found


def _means(run: dict[str, Any]) -> dict[str, float | None]:
    if "survey" not in run:
        return run["numbers"]
    return {name: value["mean"] for name, value in run["survey"]["summary"].items()}


def _print_map(found: dict[str, Any]) -> None:
    from spinloom.domains import DEEP
    from spinloom.rows import display_name

    grid = Grid(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="bold")
    grid.add_column("", overflow="fold")  # names may wrap, numbers never
    for head in ("no nodal\npoints", "wall\nwidth", "sharp-\nness", "of a\nblur", "domains", "k, l, m", "ΔQ"):
        grid.add_column(head, justify="right", vertical="bottom", no_wrap=True)
    keys = ("flat_share", "wall_width", "sharpness", "blur_sharpness")
    shallow: list[str] = []
    for name, told in found["runs"].items():
        numbers, crossing = told["numbers"], told["crossing"]
        points = ", ".join(str(count) for count in crossing["nodal_points"]) if crossing else "–"
        change = f"{crossing['charge_difference']:+d}".replace("-", "−") if crossing else "–"
        if crossing and crossing["depth"] < DEEP:
            points += "†"
            shallow.append(f"{name} {crossing['depth']:.2g} J")
        cells = [as_number(numbers[key]) for key in keys]
        grid.add_row(name, *cells, f"{numbers['domains']:.0f}", points, change)
        if "survey" in told:
            mean = {key: value["mean"] for key, value in told["survey"]["summary"].items()}
            cells = [as_number(mean[key]) for key in keys]
            grid.add_row(f"  {len(told['survey']['rows'])} planes", *cells, as_number(mean["domains"], 1), "", "")
    for objective, numbers in (found.get("objectives") or {}).items():
        count = sum(told["objective"] == objective for told in found["runs"].values())
        if count > 1:
            for label, which in ((f"{display_name(objective)}, {count} runs", "mean"), ("  ±", "std")):
                cells = [as_number(numbers[key][which]) for key in keys]
                grid.add_row(label, *cells, as_number(numbers["domains"][which], 1), "", "")
    Console().print(grid)
    summed = found.get("objectives")
    for objective in dict.fromkeys(told["objective"] for told in found["runs"].values()):
        if summed is not None and objective not in summed:
            print(f"{display_name(objective)}: runs of several Hamiltonians or lattices, no mean over them")
    if shallow:
        print(f"† no wall of {DEEP:g} J in the map; k, l, m are at one of a smaller depth: {', '.join(shallow)}")


def _print_explained(found: dict[str, Any], rows: list[Any]) -> None:
    from spinloom.gradcam import LAYERS

    curves = found["curves"]
    start, end = ({name: curve["mean"][place] for name, curve in curves.items()} for place in (0, -1))
    print(
        f"ε {as_number(start['energy_excess'], 4)} → {as_number(end['energy_excess'], 4)}, nodal points "
        f"{as_number(start['nodal_points'], 2)} → {as_number(end['nodal_points'], 2)}, logit "
        f"{as_number(start['logits'], 2)} → {as_number(end['logits'], 2)}, |z|/√n "
        f"{as_number(start['norm'])} → {as_number(end['norm'])}"
    )
    for line in found["overlap"]:
        if line["textures"] == "before" and line["layer"] == LAYERS[line["method"]] and line["overlap"]:
            hit = line["overlap"]
            print(
                f"{line['method']}: {hit['share']:.1%} of {hit['points']} nodal points in its top 5 % "
                f"(by chance {hit['shifted']:.1%} ± {hit['error']:.1%})"
            )
    if not rows:
        return
    grid = Grid(box=None, padding=(0, 1), header_style="bold")
    for head in ("", "α", "ε", "nodal", "|z|/√n", "coverage", "k-NN coverage"):
        grid.add_column(head, justify="left" if not head else "right")
    for row in rows:
        cover, near = "–", "–"
        if row.coverage:
            cover = as_number(row.coverage["coverage"]) + ("†" if row.coverage["broad"] else "")
            near = as_number(row.coverage["knn"]["coverage"])
        step = "" if row.step_size is None else f"{row.step_size:g}"
        values = [
            as_number(row.measures["energy_excess"]["mean"], 4),
            as_number(row.measures["nodal_points"]["mean"], 2),
        ]
        grid.add_row(row.name, step, *values, as_number(row.norm["mean"]), cover, near)
    Console().print(grid)
    if any(row.coverage and row.coverage["broad"] for row in rows):
        print("† outliers: no claim")
