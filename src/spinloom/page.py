"""What a pipeline found as one HTML page: tables, pictures and the words between them, all text escaped."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np

from spinloom.rows import UNTRAINED, Number, Row, display_name, fixed

CONTROLS = {"repeated": "100 repeated", "sector": "sector dropped", "noise": "noise"}
"""A control of the coverage → what it is called."""

Spaces = Mapping[str, Mapping[str, Any]]
"""A space of the coverage → what all rows have in common there."""


@dataclass(frozen=True)
class Picture:
    """A figure of the page as a PNG: the stem of its file's name, its size in pixels, its caption, and words for
    who cannot see it. It is shown at half its size, for screens with two pixels a point."""

    stem: str
    png: bytes
    size: tuple[int, int]
    caption: str
    alt: str


BROAD = (
    "over 5% of the model’s samples are outliers or off the data – k-NN precision under half the data’s, or coverage "
    "that falls by over 0.1 once those have no say in the threshold – which lowers the threshold and "
    "inflates coverage: no claim"
)
"""What † says of a coverage."""


def page(
    results: Mapping[str, Any],
    rows: Sequence[Row],
    spaces: Spaces,
    banner: Sequence[Picture],
    pictures: Sequence[Picture],
) -> str:
    """The whole page; it needs no other file.

    ``results`` is what ``results.json`` holds and ``rows`` its rows, in the same order. What ``results`` lacks
    is left out.
    """
    preset, (height, width) = results.get("preset") or "", _size(results)
    title = f"spinloom: {preset} run" if preset else "spinloom: a run"
    sections = [
        ("Summary", "summary", _summary(results, rows)),
        ("All rows", "rows", _rows_table(results, rows, spaces)),
        ("Coverage and its controls", "coverage", _coverage_section(results, rows, spaces)),
        ("Reconstruction", "reconstruction", _reconstruction(results)),
        ("Figures", "figures", "".join(map(figure, pictures))),
        ("How to read this", "reading", _reading(rows)),
        ("Settings", "settings", _settings(results)),
    ]
    top = "".join(
        image(picture, 'class="hero"') + f'<p class="mute">{escape(picture.caption)}</p>' for picture in banner
    )
    lattice = f": {height} × {width} sites" if height else ""
    return document(title, f"Magnetic textures, annealed, learned, generated and judged{lattice}.", sections, top)


def document(title: str, lead: str, sections: Sequence[tuple[str, str, str]], top: str = "") -> str:
    """An HTML page of sections (heading, anchor, content), the empty ones left out, with a list of contents."""
    sections = [section for section in sections if section[2]]
    links = "".join(f'<li><a href="#{anchor}">{escape(name)}</a></li>' for name, anchor, _ in sections)
    body = "".join(
        f'<section aria-labelledby="{anchor}"><h2 id="{anchor}">{escape(name)}</h2>{content}</section>'
        for name, anchor, content in sections
    )
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
        f"<header>{top}<h1>{escape(title)}</h1><p>{escape(lead)}</p></header>\n"
        f'<nav aria-label="Contents"><ul>{links}</ul></nav>\n<main>\n{body}\n</main>\n</body>\n</html>\n'
    )


def _size(results: Mapping[str, Any]) -> tuple[int, int]:
    size = results.get("size") or (0, 0)
    return (int(size[0]), int(size[1])) if isinstance(size, (list, tuple)) else (int(size), int(size))


def _summary(results: Mapping[str, Any], rows: Sequence[Row]) -> str:
    seconds = results.get("seconds") or {}
    versions = {"spinloom": results.get("spinloom", "?"), **(results.get("versions") or {})}
    model = results.get("hamiltonian") or {}
    ground = results.get("ground_state") or {}
    facts: list[tuple[str, Any]] = [
        ("preset", results.get("preset")),
        ("lattice", "{} × {}, periodic".format(*_size(results)) if results.get("size") else None),
        ("Hamiltonian", ", ".join(f"{name} = {value}" for name, value in model.items())),
        ("seed", results.get("seed")),
        ("time", _duration(sum(seconds.values())) if seconds else None),
        ("versions", ", ".join(f"{name} {value}" for name, value in versions.items())),
    ]
    if ground.get("energy_excess") is not None:
        at = f" at {_wave_vector(ground['q'], _size(results))}" if ground.get("q") else ""
        facts.append(("ground state of the box", f"ε = {fixed(ground['energy_excess'], 4)}{at}"))
    listed = "".join(
        f"<div><dt>{escape(name)}</dt><dd>{escape(str(value))}</dd></div>"
        for name, value in facts
        if value not in (None, "")
    )
    lines = [*_findings(rows), *_collapses(results), *map(str, results.get("notes") or [])]
    points = "".join(f"<li>{escape(line)}</li>" for line in lines)
    spent = "".join(
        f'<tr><th scope="row">{escape(name)}</th><td>{_duration(value)}</td></tr>' for name, value in seconds.items()
    )
    time = f"<details><summary>Time by stage</summary>{table('', spent, 'Time by stage')}</details>" if spent else ""
    return f"<dl>{listed}</dl>{f'<ul>{points}</ul>' if points else ''}{time}"


def _wave_vector(q: Sequence[int], size: tuple[int, int]) -> str:
    """q = 2π(n/W, m/H), written once where the box is a square."""
    height, width = size
    if height == width:
        return f"q = 2π({q[0]}, {q[1]})/{width or 'L'}"
    return f"q = 2π({q[0]}/{width}, {q[1]}/{height})"


LARGE = 0.1  # a share of textures below 99% of the data that is worth a line


def _findings(rows: Sequence[Row]) -> list[str]:
    """What the rows say first: the data, the generators nearest to it in ε, who fell below it, and the baseline."""
    lines = []
    mean = {id(row): float(v.mean()) for row in rows if len(v := row.values("energy_excess"))}
    known = [row for row in rows if id(row) in mean]
    for row in known:
        if row.source == "data":
            lines.append(f"{row.name}: ε = {fixed(mean[id(row)], 4)}{_nodal_words(row)}.")
    trained = [row for row in known if row.source not in ("data", *UNTRAINED)]
    data = next((row.values("energy_excess") for row in known if row.source == "data"), None)
    if data is not None:
        for words, relaxed in (("without relaxation", False), ("after relaxation", True)):
            away = [
                (_distance(row.values("energy_excess"), data), row) for row in trained if bool(row.relax) == relaxed
            ]
            if away:
                distance, best = min(away, key=lambda pair: pair[0])
                lines.append(
                    f"Generator nearest to the data in ε {words}: {best.name}, ε = {fixed(mean[id(best)], 4)}, "
                    f"{fixed(distance, 4)} away in the mean over quantiles{_nodal_words(best)}."
                )
        if len(data) >= 100:
            deep = [
                (float((values < np.quantile(data, 0.01)).mean()), row)
                for row in trained
                if len(values := row.values("energy_excess")) > 1  # and not its mean alone
            ]
            lines += [
                f"{row.name}: {100 * share:.0f}% of the textures lie below 99% of the data in ε: a collapse towards "
                "the ground state."
                for share, row in deep
                if share >= LARGE
            ]
    for row in known:
        if row.source in UNTRAINED and row.relax:
            found = f"ε = {fixed(mean[id(row)], 4)}{_nodal_words(row)}"
            lines.append(f"Baseline without learning: {row.name}, {found}.")
    return lines


def _collapses(results: Mapping[str, Any]) -> list[str]:
    """At which looks the modes of a training seemed to collapse."""
    return [
        f"{display_name(name)}: at its looks after {', '.join(map(str, steps))} steps the modes seemed to collapse "
        "(watch.jsonl)."
        for name, steps in (results.get("collapse") or {}).items()
        if steps
    ]


def _distance(first: np.ndarray, second: np.ndarray) -> float:
    """The Wasserstein-1 distance of two samples: the mean difference of their quantiles."""
    levels = (np.arange(1000) + 0.5) / 1000
    return float(np.abs(np.quantile(first, levels) - np.quantile(second, levels)).mean())


def _nodal_words(row: Row) -> str:
    values = row.values("nodal_points")
    return f", {values.mean():.3g} nodal points a texture" if len(values) else ""


Cell = Callable[[Row, Mapping[str, Any]], "str | None"]


def _rows_table(results: Mapping[str, Any], rows: Sequence[Row], spaces: Spaces) -> str:
    """Every row and what was measured on it; a space that tells nothing is left to the section on coverage."""
    spoken = [space for space, value in spaces.items() if value["informative"]] or list(spaces)
    columns: list[tuple[str, str, Cell]] = [
        ("", "ε (energy unit of J)", lambda row, entry: _spread(row, entry, "energy_excess", 4)),
        ("", "M<sub>z</sub> std", lambda row, entry: _deviation(row, entry, "mz")),
        ("nodal points a texture", "90°", lambda row, _: _mean(row, "nodal_points")),
        ("nodal points a texture", "75°", lambda row, _: _mean(row, "nodal_points_75")),
        ("nodal points a texture", "60°", lambda row, _: _mean(row, "nodal_points_60")),
        ("", "bonds ≥\u00a090°", lambda row, _: _mean(row, "bond_share_90", scale=100, unit="%")),
        ("", "|Q|", lambda row, _: _mean(row, "charge", absolute=True)),
        ("", "period (sites)", lambda row, _: _mean(row, "wavelength")),
        *(
            (f"judged by {escape(space)}", label, _coverage_cell(space, *keys))
            for space in spoken
            for label, keys in (
                ("coverage", ("coverage",)),
                ("k-NN precision", ("knn", "precision")),
                ("k-NN coverage", ("knn", "coverage")),
            )
        ),
        ("", "samples", lambda _, entry: _whole(entry.get("samples"))),
        ("", "time", lambda row, entry: _optional(_whole_time(row, entry, rows, results["rows"]), _duration)),
    ]
    note = (
        "Mean ± standard deviation over textures; “+ relax n” means n zero-temperature sweeps after "
        "generating; time is that of sampling and, where relaxed, of relaxing, without the training."
    )
    if len(spoken) < len(spaces):
        left = ", ".join(escape(space) for space in spaces if space not in spoken)
        note += f" Not informative, so in the next section alone: {left}."
    footnote = _footnote({space: spaces[space] for space in spoken}, rows)
    return _row_table(results, rows, columns, "All rows") + f"<p>{note}{footnote}</p>"


def _whole_time(
    row: Row, entry: Mapping[str, Any], rows: Sequence[Row], entries: Sequence[Mapping[str, Any]]
) -> Number | None:
    """Seconds to make a row's textures; a relaxed row's own step began where those it came from were sampled."""
    own, before = entry.get("seconds"), row.came_from(rows)
    if own is None or before is None:
        return own
    return own + next((other.get("seconds") or 0 for r, other in zip(rows, entries, strict=True) if r is before), 0)


def _neighbours_table(results: Mapping[str, Any], rows: Sequence[Row], spaces: Spaces) -> str:
    """Every row's coverage and its nearest-neighbour figures, space by space."""
    columns: list[tuple[str, str, Cell]] = []
    for space in spaces:
        columns.append((escape(space), "coverage", _coverage_cell(space, "coverage")))
        for name in ("precision", "recall", "density", "coverage"):
            columns.append((escape(space), f"k-NN {name}", _coverage_cell(space, "knn", name)))
        columns.append((escape(space), "distinctness", _coverage_cell(space, "distinctness")))
    return _row_table(results, rows, columns, "Coverage and nearest neighbours")


def _row_table(
    results: Mapping[str, Any], rows: Sequence[Row], columns: Sequence[tuple[str, str, Cell]], label: str
) -> str:
    """A table of all rows with those of the columns (group, heading, cell) that hold anything."""
    lines = list(zip(rows, results["rows"], strict=True))
    cells = [[cell(row, entry) for row, entry in lines] for _, _, cell in columns]
    used = [number for number, column in enumerate(cells) if any(cell is not None for cell in column)]
    if not used:
        return ""
    body = "".join(
        f'<tr><th scope="row"><span style="background:{row.colour}"></span>{escape(row.name)}</th>'
        + "".join(f"<td>{'–' if (cell := cells[number][line]) is None else cell}</td>" for number in used)
        + "</tr>"
        for line, row in enumerate(rows)
    )
    return table(_two_line_head([columns[number][:2] for number in used]), body, label)


def _footnote(spaces: Spaces, rows: Sequence[Row]) -> str:
    note = ""
    if any(space in row.broad for row in rows for space in spaces):
        note = f" † {BROAD}. A 0 is a floor: a model slightly off everywhere scores it as noise does."
    if not all(value["informative"] for value in spaces.values()):
        note += " ‡ not informative: a control comes within 0.1 of data against data; no claim rests on it."
    return note


def _two_line_head(columns: Sequence[tuple[str, str]]) -> str:
    """A table head in which neighbours of the same group share a heading."""
    first, second = '<th rowspan="2" scope="col">row</th>', ""
    for number, (group, label) in enumerate(columns):
        if not group:
            first += f'<th rowspan="2" scope="col">{label}</th>'
            continue
        second += f'<th scope="col">{label}</th>'
        if number == 0 or columns[number - 1][0] != group:
            span = sum(other == group for other, _ in columns)
            first += f'<th colspan="{span}" scope="colgroup">{group}</th>'
    return f"<tr>{first}</tr>" + (f"<tr>{second}</tr>" if second else "")


def _coverage_section(results: Mapping[str, Any], rows: Sequence[Row], spaces: Spaces) -> str:
    if not spaces:
        return ""
    names = list(dict.fromkeys(name for value in spaces.values() for name in (value.get("controls") or {})))
    labels = ["space", "data against data", *map(control_name, names), "bandwidth", "verdict"]
    head = "".join(f'<th scope="col">{escape(label)}</th>' for label in labels)
    body = ""
    for space, value in spaces.items():
        controls = value.get("controls") or {}
        cells = [
            _number(value.get("data_against_data"), 3),
            *(_number(controls.get(name), 3) for name in names),
            _optional(value.get("bandwidth"), _short),
            "informative" if value["informative"] else "not informative ‡",
        ]
        listed = "".join(f"<td>{cell or '–'}</td>" for cell in cells)
        body += f'<tr><th scope="row">{escape(space)}</th>{listed}</tr>'
    kept = dict.fromkeys(str(value["sector"]) for value in spaces.values() if value.get("sector"))
    sector = f" (kept: {escape(', '.join(kept))})" if kept else ""
    return (
        "<p>Coverage is the share of the test data that lies where the model puts its mass. It is worth "
        "reading only in a space where it falls clearly for samples that cover badly by construction: 100 "
        f"textures repeated, the data without one symmetry sector{sector}, and noise.</p>"
        f"{table(f'<tr>{head}</tr>', body, 'Coverage controls')}"
        f"{_neighbours_table(results, rows, spaces)}<p>k-NN: precision, recall, density and coverage from nearest "
        f"neighbours, a second opinion; density may exceed 1. Distinctness: the median distance to the nearest other "
        f"sample, in units of the data's; near 0 where there are few modes.{_footnote(spaces, rows)}</p>"
    )


def _reconstruction(results: Mapping[str, Any]) -> str:
    errors = {name: value for name, value in (results.get("reconstruction") or {}).items() if value}
    if not errors:
        return ""
    head = '<tr><th scope="col">objective</th><th scope="col">trained</th><th scope="col">untrained</th></tr>'
    body = "".join(
        f'<tr><th scope="row">{escape(display_name(name))}</th>'
        + "".join(f"<td>{_optional(value.get(key), _short) or '–'}</td>" for key in ("trained", "untrained"))
        + "</tr>"
        for name, value in errors.items()
    )
    return (
        "<p>Mean squared error of a spin component after encoding and decoding test data; 2/3 for unrelated "
        f"spins.</p>{table(head, body, 'Reconstruction error')}"
    )


def _settings(results: Mapping[str, Any]) -> str:
    body = "".join(
        f'<tr><th scope="row">{escape(name)}</th><td>{escape(str(value))}</td></tr>'
        for name, value in _flat(results.get("config") or {})
    )
    return f"<details><summary>All settings</summary>{table('', body, 'Settings')}</details>" if body else ""


def _flat(config: Any, prefix: str = "") -> Iterable[tuple[str, Any]]:
    if not isinstance(config, Mapping) or not config:
        yield prefix, config
        return
    for name, value in config.items():
        yield from _flat(value, f"{prefix}.{name}" if prefix else str(name))


def figure(picture: Picture) -> str:
    width = round(picture.size[0] / 2)
    shown = image(picture, f'style="max-width:{width}px"')
    return f"<figure>{shown}<figcaption>{escape(picture.caption)}</figcaption></figure>"


def image(picture: Picture, look: str) -> str:
    width, height = picture.size
    return (
        f'<img {look} width="{width}" height="{height}" alt="{escape(picture.alt)}" '
        f'src="data:image/png;base64,{base64.b64encode(picture.png).decode()}">'
    )


def table(head: str, body: str, label: str) -> str:
    top = f"<thead>{head}</thead>" if head else ""
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(label)}">'
        f"<table>{top}<tbody>{body}</tbody></table></div>"
    )


# cells


def control_name(name: str) -> str:
    return CONTROLS.get(name, name)


def _spread(row: Row, entry: Mapping[str, Any], name: str, digits: int) -> str | None:
    values, deviation = row.values(name), _deviation(row, entry, name, digits)
    if not len(values):
        return None
    return fixed(float(values.mean()), digits) + (f" ± {deviation}" if deviation else "")


def _deviation(row: Row, entry: Mapping[str, Any], name: str, digits: int = 4) -> str | None:
    values = row.values(name)
    summary = (entry.get("measures") or {}).get(name) or {}
    return _number(values.std(ddof=1) if len(values) > 1 else summary.get("std"), digits)


def _mean(row: Row, name: str, scale: Number = 1, unit: str = "", absolute: bool = False) -> str | None:
    values = row.values(name)
    if not len(values):
        return None
    return f"{_short(scale * float((np.abs(values) if absolute else values).mean()))}{unit}"


def _coverage_cell(space: str, *keys: str) -> Cell:
    """A cell with one figure of a row's coverage in ``space``, marked where it tells nothing."""

    def cell(row: Row, entry: Mapping[str, Any]) -> str | None:
        whole = (entry.get("coverage") or {}).get(space) or {}
        value: Any = whole
        for key in keys:
            value = (value or {}).get(key)
        number = _number(value, 3)
        marks = {"†": space in row.broad, "‡": not whole.get("informative", True)}
        marked = " ".join(mark for mark, holds in marks.items() if holds)
        if number is None or keys[0] != "coverage" or not marked:
            return number
        return f'<span class="mute" title="no claim">{number} {marked}</span>'

    return cell


def _optional(value: Any, write: Callable[[Any], str]) -> str | None:
    return None if value is None else write(value)


def _number(value: Any, digits: int) -> str | None:
    return None if value is None else fixed(float(value), digits)


def _whole(value: Any) -> str | None:
    return None if value is None else f"{int(value):,}".replace(",", "\u202f")


def _short(value: Number) -> str:
    """Three digits, without a power of ten."""
    if value == 0:
        return "0"
    places = int(np.clip(2 - np.floor(np.log10(abs(value))), 0, 6))
    return fixed(value, places)


def _duration(seconds: Number) -> str:
    if seconds < 10:
        return f"{seconds:.2g} s"
    if seconds < 120:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60:02d} min"


def _reading(rows: Sequence[Row]) -> str:
    """The notes for readers, with what relaxing did to this run's nodal points."""
    found = []
    for row in rows:
        before, after = row.came_from(rows), row.values("nodal_points")
        if row.relax and len(after):
            start = before.values("nodal_points") if before else np.empty(0)
            change = f"{_short(float(start.mean()))} to " if len(start) else ""
            found.append(f"{escape(row.name)}: {change}{_short(float(after.mean()))}")
    sweeps = ", ".join(str(count) for count in sorted({row.relax for row in rows if row.relax}))
    here = f" Here, by {sweeps} zero-temperature sweeps, nodal points a texture: {'; '.join(found)}." if found else ""
    return READING.replace("RELAXING", here)


READING = """
<ul>
<li><strong>ε</strong> is the energy per site above the ferromagnet, in the unit in which J is given (it
is not divided by J). Lower is more stable; annealed data are metastable, so the ground state of the box
lies below them.</li>
<li><strong>Nodal points</strong> are connected groups of plaquettes with a bond whose two spins turn by
the threshold angle or more. They are singularities of the lattice's scale, not topologically protected
defects (π₁ of the sphere is trivial): nothing keeps them from being relaxed away. The number depends on
the threshold, so three are given; in noise the groups merge into one, so read the share of such bonds
beside it.</li>
<li><strong>Generate, then relax</strong> is the baseline of every claim about removing defects:
zero-temperature sweeps remove them without any learning.RELAXING A method that removes nodal points earns
its cost only by what it does better than the relaxed rows: energy, coverage, time.</li>
<li><strong>Coverage</strong> and the k-NN figures compare with the test data in the named space. A mean
energy says nothing about variety, and a coverage nothing about defects: read them together.</li>
<li><strong>|Q|</strong> is the mean size of the topological charge (Berg &amp; Lüscher), a whole number
for each texture.</li>
</ul>
"""

STYLE = """
:root{color-scheme:light dark;--ink:#1b1f24;--soft:#57606a;--line:#d0d7de;--back:#fff;--band:#f6f8fa;
--link:#0057a8}
@media(prefers-color-scheme:dark){:root{--ink:#e6edf3;--soft:#9da7b3;--line:#3d444d;--back:#0d1117;
--band:#161b22;--link:#6cb6ff}}
*{box-sizing:border-box}
body{margin:0 auto;max-width:76rem;padding:1rem 1.25rem 4rem;background:var(--back);color:var(--ink);
font:16px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,"DejaVu Sans",sans-serif}
h1{font-size:1.8rem;margin:.8rem 0 0}
h2{font-size:1.3rem;margin:2.4rem 0 .6rem;border-bottom:1px solid var(--line)}
header p{color:var(--soft);margin:.2rem 0}
p,li,figcaption{max-width:75ch}
a{color:var(--link)}
nav ul{display:flex;flex-wrap:wrap;gap:.2rem 1.2rem;list-style:none;padding:0;margin:.6rem 0}
dl{display:grid;grid-template-columns:repeat(auto-fit,minmax(15rem,1fr));gap:.7rem 1.5rem;margin:0 0 1rem}
dt{color:var(--soft);font-size:.82rem}
dd{margin:0}
.scroll{overflow-x:auto;margin:.6rem 0}
table{border-collapse:collapse;font-size:.85rem;font-variant-numeric:tabular-nums}
th,td{padding:.3rem .6rem;text-align:right;white-space:nowrap;border-bottom:1px solid var(--line)}
thead th{background:var(--band);font-weight:600;vertical-align:bottom;white-space:normal}
thead th[colspan]{text-align:center}
tbody th,thead tr:first-child th:first-child{position:sticky;left:0;background:var(--back);text-align:left;
font-weight:500}
thead tr:first-child th:first-child{background:var(--band);z-index:1}
tbody th span{display:inline-block;width:.65em;height:.65em;border-radius:50%;margin-right:.45em;
border:1px solid var(--soft)}
details td,details th{text-align:left;white-space:normal}
.mute{color:var(--soft)}
figure{margin:1.2rem 0 2rem}
figcaption{color:var(--soft);font-size:.9rem;margin-top:.5rem}
img{display:block;width:100%;height:auto;background:#fff;border-radius:6px}
figure img{padding:.5rem}
summary{cursor:pointer}
"""
