"""The page of repeated trainings: means and spreads of every row over the trials, and the scatter of Fig. 2e."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from spinloom.page import Picture, control_name, document, figure, table
from spinloom.rows import fixed, source_colour

COLUMNS = {
    "energy_excess": ("ε", 4, 1),
    "energy_excess_std": ("std of ε", 4, 1),
    "nodal_points": ("nodal points", 3, 1),
    "bond_share": ("bonds past 90°, %", 3, 100),
    "mz_std": ("std of M<sub>z</sub>", 4, 1),
    "coverage_features": ("coverage, features", 3, 1),
    "coverage_spins": ("coverage, spins", 3, 1),
    "knn_precision": ("k-NN precision", 2, 1),
    "knn_coverage": ("k-NN coverage", 2, 1),
    "distinctness": ("distinctness", 2, 1),
    "train_seconds": ("training, s", 0, 1),
    "seconds": ("sampling, s", 0, 1),
}
"""A quantity → its heading (HTML), decimals, and the factor it is shown with."""


def trials_page(results: Mapping[str, Any], scatter: Picture, figures: Sequence[Picture] = ()) -> str:
    """The whole page; it needs no other file. ``results`` is what the trials' ``results.json`` holds."""
    rows, (height, width) = results["rows"], results["size"]
    used = [name for name in COLUMNS if any(name in row["over_trials"] for row in rows)]
    head = "<tr><th></th>" + "".join(f'<th scope="col">{COLUMNS[name][0]}</th>' for name in used) + "</tr>"
    body = "".join(
        f'<tr><th scope="row"><span style="background:{source_colour(row["source"])}"></span>{escape(row["name"])}</th>'
        + "".join(f"<td>{cell(row, name)}</td>" for name in used)
        + "</tr>"
        for row in rows
    )
    count = results["trials"]
    words = (
        f"<p>Mean ± standard deviation over {count} independent trainings on one data set. † in at least one trial the "
        "figure is inflated by samples off the data, ‡ a control comes near data against data in that space: "
        "no claim. Distinctness: the median distance to the nearest other sample, in units of the data's; near 0 where "
        "there are few modes.</p>"
    )
    spaces = next((row for row in rows if row["informative"]), {"informative": {}})
    names = list(dict.fromkeys(name for space in spaces["informative"] for name in spaces["controls"][space]))
    against = "".join(
        f'<tr><th scope="row">{escape(space)}</th><td>{fixed(spaces["data_against_data"][space], 3)}</td>'
        + "".join(f"<td>{fixed(spaces['controls'][space][name], 3)}</td>" for name in names)
        + f"<td>{'yes' if informative else 'no'}</td></tr>"
        for space, informative in spaces["informative"].items()
    )
    heads = ("space", "data against data", *(control_name(name) for name in names), "informative")
    columns = "<tr>" + "".join(f'<th scope="col">{escape(name)}</th>' for name in heads) + "</tr>"
    notes = "".join(f"<p>{escape(note)}</p>" for note in results["notes"])
    name = f"spinloom: {count} trials" + (f" of the {results['preset']} preset" if results["preset"] else "")
    sections = [
        ("Means and spreads", "rows", words + table(head, body, "Means and spreads over the trials") + notes),
        (
            "The coverage's controls",
            "controls",
            table(columns, against, "Controls of the coverage, means over the trials"),
        ),
        ("Coverage against energy", "scatter", figure(scatter)),
        ("Figures", "figures", "".join(map(figure, figures))),
    ]
    return document(name, f"{height} × {width} sites.", sections)


def cell(row: Mapping[str, Any], name: str) -> str:
    """:func:`plain` as HTML."""
    text = plain(row, name)
    return f'<span class="mute" title="no claim">{text}</span>' if text[-1] in "†‡" else text


def plain(row: Mapping[str, Any], name: str) -> str:
    """Mean ± spread of one quantity of a row, marked where it carries no claim; a dash where it was not taken."""
    over = row["over_trials"].get(name)
    if over is None:
        return "–"
    _, digits, factor = COLUMNS[name]
    text = fixed(factor * over["mean"], digits)
    if over["std"] is not None:
        text += f" ± {fixed(factor * over['std'], digits)}"
    space = name.removeprefix("coverage_")
    marks = "†" * any(row["broad"].get(space, ())) + "‡" * (not row["informative"].get(space, True))
    return f"{text} {marks}" if marks else text
