"""The tables of README.md and RESULTS.md, from the ``results.json`` of a pipeline or of trials.

python docs/tables.py demo/results.json [--short]
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from spinloom.trials_page import COLUMNS, plain


def markdown(head: list[str], rows: Iterable[list[str]]) -> str:
    """A table whose first column is left aligned, the others right."""
    lines = [head, ["---"] + ["--:"] * (len(head) - 1), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines).replace("| --- |", "|---|", 1)


def number(value: float, digits: int) -> str:
    return f"{value:.{digits}f}".replace("-", "−")


def of_pipeline(results: Mapping[str, Any], short: bool) -> str:
    """A row a set of textures; coverage in the space of features."""
    against = next(row["coverage"]["features"] for row in results["rows"] if row["coverage"])
    head = ["", "n", "ε", "M_z std", "nodal points", "bonds past 90°", "coverage", "k-NN precision / recall / coverage"]
    if short:
        head = ["", "n", "ε", "nodal points", "coverage", "k-NN precision / coverage"]
    rows = []
    for row in results["rows"]:
        measures, coverage = row["measures"], (row["coverage"] or {}).get("features")
        knn = coverage["knn"] if coverage else against["knn_data_against_data"]
        shown = (
            f"{coverage['coverage']:.3f}{'†' if coverage['broad'] and coverage['coverage'] >= 0.0005 else ''}"
            if coverage
            else f"{against['data_against_data']:.3f} (data against data)"
        )
        energy = measures["energy_excess"]
        cells = {
            "": row["name"],
            "n": str(row["samples"]),
            "ε": f"{number(energy['mean'], 4)} ± {number(energy['std'], 4)}",
            "M_z std": number(measures["mz"]["std"], 4),
            "nodal points": number(measures["nodal_points"]["mean"], 3),
            "bonds past 90°": f"{100 * measures['bond_share_90']['mean']:.3f} %",
            "coverage": shown,
            "k-NN precision / recall / coverage": " / ".join(
                f"{knn[name]:.2f}" for name in ("precision", "recall", "coverage")
            ),
            "k-NN precision / coverage": f"{knn['precision']:.2f} / {knn['coverage']:.2f}",
        }
        rows.append([cells[name] for name in head])
    return markdown(head, rows)


SHORT = (
    "energy_excess",
    "nodal_points",
    "mz_std",
    "coverage_features",
    "knn_precision",
    "knn_coverage",
    "distinctness",
)


def of_trials(results: Mapping[str, Any], short: bool) -> str:
    """Mean ± standard deviation over the trials."""
    names = SHORT if short else COLUMNS
    used = [name for name in names if any(name in row["over_trials"] for row in results["rows"])]
    head = ["", *(COLUMNS[name][0].replace("<sub>", "_").replace("</sub>", "") for name in used)]
    rows = [[row["name"], *(plain(row, name).replace("-", "−") for name in used)] for row in results["rows"]]
    return markdown(head, rows)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path)
    parser.add_argument("--short", action="store_true", help="fewer columns, as in README.md")
    asked = parser.parse_args()
    read = json.loads(asked.results.read_text())
    print(of_trials(read, asked.short) if "trials" in read else of_pipeline(read, asked.short))
