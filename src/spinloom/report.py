"""A finished pipeline folder as pictures and one page: reads the folder and draws what it holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from PIL import Image, UnidentifiedImageError

from spinloom import charts, draw
from spinloom.dataset import open_dataset
from spinloom.errors import BadInput
from spinloom.files import read_json, write_bytes, write_text
from spinloom.hamiltonian import Hamiltonian
from spinloom.measure import Table
from spinloom.page import BROAD, Picture, Spaces, control_name, page
from spinloom.rows import COLOURS, Number, Row, shown_name
from spinloom.run import METRICS, read_metrics
from spinloom.trials_page import trials_page

PANEL = 5
"""Textures a row of the panel of textures."""

FIGURES = "figures"
"""Folder beside the page; what lies there as ``fig*.png`` is shown too."""


def write_report(out: Path) -> Path:
    """Write ``report.html`` and its PNGs into the pipeline folder ``out``, from what the folder holds.

    The page needs no other file. What a run did not make (an objective, a coverage, the samples) is left out.

    Raises:
        BadInput: no ``results.json``, one that is not a pipeline's, or a damaged table or data set.
    """
    out = Path(out)
    results = read_json(out / "results.json")
    if not isinstance(results, dict) or not isinstance(results.get("rows"), list):
        raise BadInput(f"{out / 'results.json'}: holds no rows; name the folder of a finished pipeline")
    results = {**results, "rows": _with_data_coverage(results["rows"])}
    rows, spaces = _pipeline_rows(out, results)
    banner, pictures = _banner(out, results), _pictures(out, results, rows, spaces)
    for picture in (*banner, *pictures):
        write_bytes(out / f"{picture.stem}.png", picture.png)
    path = out / "report.html"
    write_text(path, page(results, rows, spaces, banner, [*pictures, *_drawn(out)]))
    return path


def write_trials_report(out: Path) -> Path:
    """Write ``report.html`` and ``coverage-energy.png`` (Fig. 2e, a marker a trial) into a finished folder of trials.

    Raises:
        BadInput: no ``results.json`` of trials, or a trial's folder is damaged.
    """
    out = Path(out)
    results = read_json(out / "results.json")
    if not isinstance(results, dict) or "trials" not in results:
        raise BadInput(f"{out / 'results.json'}: is not of trials; name the folder that `spinloom trials` made")
    rows, spaces = _trial_rows(out, results)
    figure = charts.coverage_energy(
        rows,
        {space: controls(value) for space, value in spaces.items()},
        {space: value["informative"] for space, value in spaces.items()},
    )
    alt = "Scatter chart of coverage against energy, a marker a trial; the numbers are in the table."
    picture = _picture("coverage-energy", figure, alt)
    write_bytes(out / f"{picture.stem}.png", picture.png)
    path = out / "report.html"
    write_text(path, trials_page(results, picture, _drawn(out)))
    return path


# what the folder holds


def read_rows(out: Path) -> tuple[list[Row], dict[str, dict[str, Any]]]:
    """The rows of a finished pipeline or of all of a folder's trials, and for each space of the coverage what they
    agree on: data against data, the controls, the bandwidth, whether it is informative.

    Raises:
        BadInput: no ``results.json``, or one of neither.
    """
    out = Path(out)
    results = read_json(out / "results.json")
    if not isinstance(results, dict) or not isinstance(results.get("rows"), list):
        raise BadInput(f"{out / 'results.json'}: holds no rows; name a finished pipeline's folder, or one of trials")
    return _trial_rows(out, results) if "trials" in results else _pipeline_rows(out, results)


def _pipeline_rows(out: Path, results: Mapping[str, Any]) -> tuple[list[Row], dict[str, dict[str, Any]]]:
    entries = _with_data_coverage(results["rows"])
    return [_row(out, entry) for entry in entries], _spaces(entries)


def _trial_rows(out: Path, results: Mapping[str, Any]) -> tuple[list[Row], dict[str, dict[str, Any]]]:
    rows: list[Row] = []
    spaces: dict[str, dict[str, Any]] = {}
    for trial in range(results["trials"]):
        folder = out / f"trial-{trial}"
        found, own = _pipeline_rows(folder, read_json(folder / "results.json"))
        for space, value in own.items():
            known = spaces.setdefault(space, dict(value))
            known["informative"] = known["informative"] and value["informative"]
        # the data are those of all
        rows += [replace(row, trial=trial) for row in found if trial == 0 or row.source != "data"]
    return rows, spaces


def _with_data_coverage(entries: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows, the data's own with the figures of data against data, which the others carry."""
    held_back = {
        space: {
            **value,
            "coverage": value["data_against_data"],
            "knn": value.get("knn_data_against_data"),
            "broad": False,
        }
        for space, value in _spaces(entries).items()
        if value.get("data_against_data") is not None
    }
    return [
        {**entry, "coverage": held_back} if entry.get("source") == "data" and not entry.get("coverage") else entry
        for entry in entries
    ]


def _row(out: Path, entry: Mapping[str, Any]) -> Row:
    """A row of results.json with its table's columns, or with the means alone if there is no table."""
    table = out / "measures" / f"{entry.get('folder', '')}.safetensors"
    measures: Mapping[str, Any]
    if table.is_file():
        measures = Table.load(table).columns
    else:
        means = {name: value["mean"] for name, value in (entry.get("measures") or {}).items()}
        means.pop("charge", None)  # the mean of Q says nothing of the mean of |Q|
        measures = {name: [mean] for name, mean in means.items()}
    coverage = {
        space: value["coverage"]
        for space, value in (entry.get("coverage") or {}).items()
        if value and value.get("coverage") is not None
    }
    return Row(
        str(entry.get("name", "")),
        str(entry.get("source", "")),
        str(entry.get("method", "")),
        int(entry.get("relax") or 0),
        measures,
        coverage,
        broad=[space for space, value in (entry.get("coverage") or {}).items() if value and _broad(value)],
    )


def _broad(coverage: Mapping[str, Any]) -> bool:
    """Whether outliers set the threshold; by precision alone in a file that does not say."""
    if coverage.get("broad") is not None:
        return bool(coverage["broad"])
    own, data = (coverage.get(name) or {} for name in ("knn", "knn_data_against_data"))
    return "precision" in own and "precision" in data and own["precision"] < data["precision"] / 2


def _spaces(entries: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """For each space what its rows agree on: data against data, the controls, the bandwidth, the verdict."""
    spaces: dict[str, dict[str, Any]] = {}
    for entry in entries:
        for space, value in (entry.get("coverage") or {}).items():
            if not value:
                continue
            common = spaces.setdefault(space, {**value, "informative": True})
            common["informative"] = common["informative"] and value.get("informative", True)
    return spaces


def _textures(out: Path, entry: Mapping[str, Any], count: int) -> Any:
    """The first ``count`` textures of a row, None if they were not kept."""
    folder = out / "samples" / str(entry.get("folder", ""))
    if entry.get("folder") and folder.is_dir():
        return open_dataset(folder)[:count]
    if entry.get("source") == "data" and (out / "data").is_dir():
        return open_dataset(out / "data")[-count:]
    return None


def _unrelaxed(results: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Source → its row as it comes out of the generator."""
    plain = [row for row in results["rows"] if not row.get("relax") and row.get("method") in ("data", "prior")]
    return {str(row.get("source")): row for row in reversed(plain)}


def _hamiltonian(results: Mapping[str, Any]) -> Hamiltonian:
    return Hamiltonian(**(results.get("hamiltonian") or {}))


# pictures


CAPTIONS = {
    "textures": """Textures above their energy density maps; not picked by eye but the first of each set
(of the held-out data the last). Colour is the spin's direction: hue in the plane, white up, black down,
as in the wheel. Red circles, counted above each texture, are nodal points, where neighbouring spins turn
by 90° or more. All maps share one scale, in the unit of J, above the ferromagnet, that goes with the square
root, from the 0.2nd to the 99.8th percentile.""",
    "coverage-energy": """Coverage of the test data against the mean energy a site above the
ferromagnet, ε in the unit of J; nearest the star is best. Hollow markers were relaxed at zero temperature
and are joined to what they were relaxed from; an arrow at the edge lies beyond it. The star is data
against other data; the level lines are samples that cover badly by construction. Faded (†): BROAD.""",
    "histograms": """Distributions over textures of ε, in the unit of J, and of the mean out-of-plane
spin. Grey: the test data; hollow: relaxed. Every strip is scaled to its own peak, on or off the axis. The
axes span the data and the unrelaxed trained rows; a percentage with an arrow, outside the dotted line, is
the share of textures beyond them.""",
    "nodal-points": """Nodal points a texture, the mean over textures, for three thresholds of the turn
between neighbours; the axis is logarithmic, and linear next to 0. Hollow dots: relaxed.""",
    "losses": """Training. The squared error of reconstructions a spin component; the Kullback–Leibler
divergence; the losses the players minimise (of a hybrid's generator, the VAE's loss included); the
discriminator's mean logit of data, of samples G(z) and of reconstructions G(E(x)). Faint: as logged;
strong: a running mean.""",
}
CAPTIONS["coverage-energy"] = CAPTIONS["coverage-energy"].replace("BROAD", BROAD)


BANNER = (
    *((s, m, relaxed) for s in ("hybrid", "gan", "vae") for relaxed in (True, False) for m in ("ddls", "prior")),
    ("data", "data", False),
)
"""Source, method and whether relaxed of the rows for the banner, the best first."""


def _picture(stem: str, figure: draw.Figure, alt: str, caption: str = "") -> Picture:
    width, height = (round(side * figure.dpi) for side in figure.get_size_inches())
    caption = caption or CAPTIONS[stem].replace("\n", " ")
    return Picture(stem, draw.png_bytes(figure, caption), (width, height), caption, alt)


def _banner(out: Path, results: Mapping[str, Any]) -> list[Picture]:
    """Six textures of the first row of :data:`BANNER` that was kept, and which row that is."""
    for source, method, relaxed in BANNER:
        for entry in results["rows"]:
            kind = (entry.get("source"), entry.get("method"), bool(entry.get("relax")))
            textures = _textures(out, entry, 6) if kind == (source, method, relaxed) else None
            if textures is not None:
                caption = f"The first {len(textures)} textures of the row “{entry.get('name', source)}”, site by site."
                alt = f"{caption} Beside them the colour wheel of spin directions."
                return [_picture("hero", draw.hero(textures), alt, caption)]
    return []


def _pictures(out: Path, results: Mapping[str, Any], rows: Sequence[Row], spaces: Spaces) -> list[Picture]:
    pictures = []
    plain = _unrelaxed(results)
    panel, colours = {}, {}
    for source in [s for s in ("data", "vae", "gan", "hybrid") if s in plain] or list(plain)[:4]:
        textures = _textures(out, plain[source], PANEL)
        if textures is not None:
            name = shown_name(str(plain[source].get("name", source)))
            panel[name], colours[name] = textures, Row(name, source, "prior").ink
    if panel:
        figure = draw.texture_panel(panel, _hamiltonian(results), colours=colours)
        alt = f"Sample textures and energy density maps of {', '.join(panel)}."
        pictures.append(_picture("textures", figure, alt))
    if spaces:
        figure = charts.coverage_energy(
            rows,
            {space: controls(value) for space, value in spaces.items()},
            {space: value["informative"] for space, value in spaces.items()},
        )
        alt = "Scatter chart of coverage against energy; the numbers are in the table of all rows."
        silent = [space for space, value in spaces.items() if not value["informative"]]
        caption = CAPTIONS["coverage-energy"].replace("\n", " ")
        if silent and len(silent) < len(spaces):
            caption += f" Not drawn, as a control comes near data against data: {', '.join(silent)}."
        elif silent:
            caption += " A grey background marks a space that is not informative."
        pictures.append(_picture("coverage-energy", figure, alt, caption))
    if any(len(row.values(name)) > 1 for row in rows for name in charts.HISTOGRAMS):
        alt = "Histograms of energy and magnetisation; means and deviations are in the table of all rows."
        pictures.append(_picture("histograms", charts.histograms(rows), alt))
    if any(len(row.values("nodal_points")) for row in rows):
        alt = "Dot chart of nodal points a texture; the numbers are in the table of all rows."
        pictures.append(_picture("nodal-points", charts.nodal_figure(rows), alt))
    runs = _metrics(out)
    if runs:
        pictures.append(_picture("losses", charts.loss_curves(runs), f"Loss curves of {', '.join(runs)}."))
    return pictures


def _metrics(out: Path) -> dict[str, Any]:
    order = list(COLOURS)
    found = [path.parent.name for path in out.glob(f"*/{METRICS}")]
    found.sort(key=lambda name: (order.index(name) if name in order else len(order), name))
    runs = {name: read_metrics(out / name) for name in found}
    return {name: lines for name, lines in runs.items() if lines}


def controls(coverage: Mapping[str, Any]) -> dict[str, Number]:
    """The controls of one space, by the names they are shown with."""
    return {control_name(name): value for name, value in (coverage.get("controls") or {}).items()}


def _drawn(out: Path) -> list[Picture]:
    """The figures that were drawn of the folder, ``figures/fig*.png``, each with the caption it carries."""
    pictures = []
    for file in sorted((out / FIGURES).glob("fig*.png")):
        try:
            with Image.open(file) as image:
                image.load()
                size, caption = image.size, str(image.info.get("Description", ""))
        except (OSError, UnidentifiedImageError, SyntaxError) as error:
            raise BadInput(f"{file}: is no picture that can be read ({error}); draw it again or delete it") from error
        name = f"Figure {file.stem.removeprefix('fig')}"
        alt = f"{name} of the paper, drawn from this folder; its caption says what it shows."
        pictures.append(Picture(f"{FIGURES}/{file.stem}", file.read_bytes(), size, caption or name, alt))
    return pictures
