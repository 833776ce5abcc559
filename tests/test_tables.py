"""What the commands print on 80 columns: no number is cut short, no name broken where there is room."""

import pytest

from spinloom.commands_compare import _print_rows, _short
from spinloom.commands_invert import _print_levels


def row(name: str, coverage: float | None = None, broad: bool = False) -> dict:
    measures = {"energy_excess": (-0.13041, 0.01012), "mz": (0.0, 0.03424), "charge": (-0.004, 12.25)}
    measures |= {"nodal_points": (2.8701, 1.0)}
    knn = {"precision": 0.57, "recall": 0.9, "density": 0.5, "coverage": 0.2}
    features = {"coverage": coverage, "broad": broad, "informative": True, "knn": knn}
    features |= {"data_against_data": 0.95, "knn_data_against_data": {**knn, "precision": 0.98}}
    return {
        "name": name,
        "samples": 10_000,
        "measures": {key: {"mean": mean, "std": std} for key, (mean, std) in measures.items()},
        "coverage": None if coverage is None else {"features": features},
    }


@pytest.mark.parametrize("columns", [80, 130])
def test_the_table_of_measures_is_whole(columns, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", str(columns))
    rows = [row("test data"), row("hybrid prior + relax 20", 0.898, broad=True), row("hybrid ddls + relax 20", 0.962)]
    _print_rows(rows, [one["name"] for one in rows])
    said = capsys.readouterr().out
    assert "…" not in said
    head, _, hybrid = said.splitlines()[:3]
    assert ("k-NN precision" in head) == (columns == 130)  # else in a part of its own
    assert hybrid.split()[:9] == ["hybrid", "prior", "+", "relax", "20", "10000", "-0.1304", "±", "0.0101"]
    assert "  0.0 ± 12.2 " in hybrid  # and not −0.0
    last = next(line for line in said.splitlines() if "0.962" in line)
    assert last.split()[-3:] == ["0.962", "0.57", "0.20"]
    assert "0.898†" in said
    assert "k-NN precision 0.98" in " ".join(said.split())


def test_without_a_reference_there_is_no_column_for_coverage(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "80")
    _print_rows([row("labyrinths")], ["labyrinths"])
    assert "coverage" not in capsys.readouterr().out


def test_names_lose_the_path_they_share():
    assert _short(["demo/samples/hybrid-ddls", "demo/samples/gan-ddls"]) == ["hybrid-ddls", "gan-ddls"]
    assert _short(["demo/data", "demo/samples/gan-ddls"]) == ["data", "samples/gan-ddls"]
    assert _short(["demo/data"]) == ["demo/data"]
    assert _short(["sets", "sets/a"]) == ["sets", "sets/a"]


@pytest.mark.parametrize("noises", [(0.0, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2), tuple(float(k) for k in range(17))])
def test_an_inversions_table_is_whole(noises, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "80")
    error = {"rms": 102.34, "dot": -0.91234, "charge_right": 0.91}
    names = ("guess", "guess relaxed", "guess held", "network", "network relaxed", "network held")
    levels = [{"noise": n, "errors": dict.fromkeys(names, error), "best": ["guess", "network"]} for n in noises]
    _print_levels({"levels": levels, "verdict": "as good"})
    said = capsys.readouterr().out
    assert "…" not in said
    assert said.count("102.3") == len(names) * len(noises)
    assert said.count("−0.9123") == 2 * len(noises)
    assert max(map(len, said.splitlines())) <= 80
