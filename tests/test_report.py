"""The report: complete, self-contained, well-formed, and true to the folder it is made from."""

from __future__ import annotations

import base64
import json
import re
import shutil
from html.parser import HTMLParser

import numpy as np
import pytest
import torch
from PIL import Image

from spinloom.dataset import write_dataset
from spinloom.errors import BadInput
from spinloom.files import write_json
from spinloom.hamiltonian import Hamiltonian
from spinloom.measure import Table, measure
from spinloom.page import _findings, _reading, _wave_vector
from spinloom.report import _broad, write_report
from spinloom.rows import Row

H = Hamiltonian(D=0.6)
EVIL = '<script>alert("x")</script> & ddls'
VOID = {"meta", "img", "br", "hr", "input", "link"}


class Page(HTMLParser):
    """Checks that every element is closed in order, and gathers what the tests ask for."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.texts, self.cells = [], [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "tr":
            self.cells.append([])
        if tag in ("td", "th"):
            self.cells[-1].append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)
        if "td" in self.open or "th" in self.open:
            self.cells[-1][-1] += data

    def attributes(self, name):
        return [attrs[name] for _, attrs in self.tags if name in attrs]

    def row(self, name):
        (line,) = [cells for cells in self.cells if cells and cells[0] == name and len(cells) > 8][:1]
        return line


def textures(count, seed):
    spins = torch.randn(count, 3, 8, 8, generator=torch.Generator().manual_seed(seed))
    return spins / spins.norm(dim=1, keepdim=True)


def coverage(value, space):
    return {
        "coverage": value,
        "data_against_data": 0.951,
        "controls": {"repeated": 0.412, "sector": 0.587 if space == "features" else 0.923, "noise": 0.003},
        "informative": space == "features",
        "space": space,
        "bandwidth": 0.7,
        "knn": {"precision": 0.911, "recall": 0.822, "density": 1.033, "coverage": 0.744},
        "knn_data_against_data": {"precision": 0.955, "recall": 0.966, "density": 0.977, "coverage": 0.988},
        "sector": "M_z > 0",
    }


def pipeline(out):
    rows = []
    kinds = [
        ("test data", "test-data", "data", "data", 0),
        ("random + relax 20", "random-relaxed", "random", "random", 20),
        ("vae prior", "vae-prior", "vae", "prior", 0),
        ("vae prior + relax 20", "vae-prior-relaxed", "vae", "prior", 20),
        ("hybrid prior", "hybrid-prior", "hybrid", "prior", 0),
        (EVIL, "hybrid-ddls", "hybrid", "ddls", 0),
    ]
    (out / "measures").mkdir(parents=True)
    for seed, (name, folder, source, method, relax) in enumerate(kinds):
        spins = textures(8, seed)
        write_dataset(out / "data" if source == "data" else out / "samples" / folder, spins, H)
        table = measure(spins, H)
        table.save(out / "measures" / f"{folder}.safetensors")
        judged = None if source == "data" else {s: coverage(0.7 + seed / 100, s) for s in ("features", "spins")}
        row = {"name": name, "folder": folder, "source": source, "method": method, "relax": relax}
        row |= {"samples": 1234, "seconds": None if source == "data" else 5.0 if relax else 75.0}
        if judged and name == "hybrid prior":
            judged["features"]["broad"] = True
        rows.append(row | {"measures": table.summary(), "coverage": judged})
    for objective, keys in (("vae", ("reconstruction", "kl")), ("hybrid", ("discriminator", "generator"))):
        (out / objective).mkdir()
        steps = [float(step) for step in range(10, 200, 10)]
        lines = [json.dumps({"step": n, "seconds": n} | dict.fromkeys(keys, 1 / n)) for n in steps]
        (out / objective / "metrics.jsonl").write_text("\n".join(lines))
    write_json(
        out / "results.json",
        {
            "spinloom": "9.8.7",
            "versions": {"torch": "6.5.4"},
            "preset": "quick & <dirty>",
            "notes": ["one <note>"],
            "seed": 42,
            "hamiltonian": H.as_dict(),
            "size": [8, 8],
            "config": {"training": {"steps": 600, "nested": {"γ": 0.01}}},
            "seconds": {"simulate": 61.0, "train": 3600},
            "ground_state": {"energy_excess": -0.172477, "q": [2, 3]},
            "rows": rows,
            "reconstruction": {"vae": {"trained": 0.123, "untrained": 0.667}},
        },
    )
    return rows


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    out = tmp_path_factory.mktemp("run") / "out"
    rows = pipeline(out)
    path = write_report(out)
    assert path == out / "report.html"
    return out, rows, path.read_text()


@pytest.fixture(scope="module")
def page(finished):
    return Page(finished[2])


def test_needs_no_other_file(finished, page):
    _, _, text = finished
    assert page.attributes("src") and all(src.startswith("data:image/png;base64,") for src in page.attributes("src"))
    assert all(href.startswith("#") for href in page.attributes("href"))
    bare = re.sub(r"base64,[A-Za-z0-9+/=]+", "", text)
    for word in ("http:", "https:", "<script", "<link", "@import", "url("):
        assert word not in bare


def test_pictures_are_beside_it_and_inside_it(finished, page):
    out, _, _ = finished
    stems = {"hero", "textures", "coverage-energy", "histograms", "nodal-points", "losses"}
    assert {path.stem for path in out.glob("*.png")} == stems
    inside = {base64.b64decode(src.split(",", 1)[1]) for src in page.attributes("src")}
    assert inside == {path.read_bytes() for path in out.glob("*.png")}
    assert all(content.startswith(b"\x89PNG\r\n") for content in inside)
    for path in out.glob("*.png"):
        with Image.open(path) as image:
            assert len(image.info["Description"]) > 40  # its caption


def test_is_accessible(page):
    images = [attrs for tag, attrs in page.tags if tag == "img"]
    assert len(images) == 6 and all(attrs["alt"] for attrs in images)
    ids = page.attributes("id")
    assert len(ids) == len(set(ids))
    assert {href[1:] for href in page.attributes("href")} == set(ids)
    assert {attrs["aria-labelledby"] for tag, attrs in page.tags if tag == "section"} == set(ids)
    assert all(attrs.get("scope") for tag, attrs in page.tags if tag == "th")
    assert ("html", {"lang": "en"}) in page.tags
    assert sum(tag == "figcaption" for tag, _ in page.tags) == 5
    levels = [tag for tag, _ in page.tags if tag in ("h1", "h2", "h3")]
    assert levels[0] == "h1" and set(levels[1:]) == {"h2"}


def test_every_row_is_there_with_its_numbers(finished, page):
    out, rows, _ = finished
    for row in rows:
        cells = page.row(row["name"])
        table = Table.load(out / "measures" / f"{row['folder']}.safetensors")
        energy, mz = table["energy_excess"].double(), table["mz"].double()
        assert cells[1].replace("−", "-") == f"{energy.mean():.4f} ± {energy.std():.4f}"
        assert cells[2] == f"{mz.std():.4f}"
        assert float(cells[3]) == pytest.approx(table["nodal_points"].double().mean().item(), rel=5e-3)
        assert float(cells[6].rstrip("%")) == pytest.approx(100 * table["bond_share_90"].mean().item(), rel=5e-3)
        assert float(cells[7]) == pytest.approx(table["charge"].abs().mean().item(), rel=5e-3)
        # a relaxed row's time includes sampling what was relaxed, which random directions do not need
        seconds = {"test data": "–", "random + relax 20": "5 s", "vae prior + relax 20": "80 s"}
        assert cells[-2:] == ["1\u202f234", seconds.get(row["name"], "75 s")]


def test_coverage_its_controls_and_its_verdict(page):
    # the spins' space is not informative, so it is not in the table of all rows
    assert page.row("vae prior")[9:-2] == ["0.720", "0.911", "0.744"]
    assert page.row("test data")[9:-2] == ["0.951", "0.955", "0.988"]
    assert page.row("hybrid prior")[9:-2] == ["0.740 †", "0.911", "0.744"]
    assert sum("outliers or off the data" in text for text in page.texts) >= 3  # two tables and a figure
    (neighbours,) = [line for line in page.cells if line and line[0] == "vae prior" and line[1] == "0.720"]
    assert neighbours[1:7] == ["0.720", "0.911", "0.822", "1.033", "0.744", "0.720 ‡"]
    (own,) = [line for line in page.cells if line and line[0] == "test data" and line[1] == "0.951"]
    assert own[1:6] == ["0.951", "0.955", "0.966", "0.977", "0.988"]
    controls = {line[0]: line[1:] for line in page.cells if line and line[0] in ("features", "spins") and len(line) > 5}
    assert controls["features"] == ["0.951", "0.412", "0.587", "0.003", "0.700", "informative"]
    assert controls["spins"] == ["0.951", "0.412", "0.923", "0.003", "0.700", "not informative ‡"]


def test_settings_and_provenance(page):
    text = " ".join(page.texts)
    for fact in (
        "spinloom 9.8.7",
        "torch 6.5.4",
        "D = 0.6",
        "8 × 8",
        "61 min",
        "ε = −0.1725 at q = 2π(2, 3)/8",
    ):
        assert fact in text
    assert ["training.steps", "600"] in page.cells and ["training.nested.γ", "0.01"] in page.cells
    assert ["VAE", "0.123", "0.667"] in page.cells
    assert "generate, then relax" in text.lower() and "singularities" in text


def test_text_is_escaped(finished, page):
    _, _, text = finished
    assert EVIL not in text and "quick & <dirty>" not in text
    assert not any(tag in ("script", "dirty", "note") for tag, _ in page.tags)
    assert EVIL in page.texts and "one <note>" in page.texts


def test_first_lines_are_the_generators_nearest_to_the_data(finished, page):
    out, rows, _ = finished
    energies = {
        row["name"]: Table.load(out / "measures" / f"{row['folder']}.safetensors")["energy_excess"]
        .double()
        .sort()
        .values
        for row in rows
    }
    (line,) = [text for text in page.texts if text.startswith("Generator nearest to the data in ε without")]
    # of equally many numbers the Wasserstein distance is the mean difference in their order
    away = {n: (energies[n] - energies["test data"]).abs().mean() for n in ("vae prior", "hybrid prior", EVIL)}
    best = min(away, key=lambda name: away[name])
    assert f": {best}, ε = {page.row(best)[1].split(' ')[0]}" in line
    (line,) = [text for text in page.texts if text.startswith("Generator nearest to the data in ε after")]
    assert ": vae prior + relax 20, ε" in line


def energy_rows(**energies):
    def row(name, values):
        source = "data" if name == "data" else "gan"
        return Row(name, source, "prior", 20 if name == "relaxed" else 0, {"energy_excess": values})

    return [row(name, values) for name, values in energies.items()]


def test_the_lowest_energy_is_not_the_nearest():
    spread = np.linspace(-0.01, 0.01, 200)
    lines = _findings(energy_rows(data=spread - 0.16, low=spread - 0.19, near=spread - 0.155))
    assert any(line.startswith("Generator nearest") and "near, ε = −0.1550, 0.0050 away" in line for line in lines)


def test_a_collapse_towards_the_ground_state_is_told():
    data = np.linspace(-0.17, -0.15, 200)
    half = np.concatenate([np.full(50, -0.172), data[::4]])
    lines = _findings(energy_rows(data=data, relaxed=half, same=data))
    (line,) = [line for line in lines if "collapse" in line]
    assert line.startswith("relaxed: 5") and "%" in line


@pytest.mark.parametrize(("size", "text"), [((8, 8), "q = 2π(2, 1)/8"), ((8, 16), "q = 2π(2/16, 1/8)")])
def test_wave_vectors_of_any_box(size, text):
    """q = 2π(n/W, m/H)."""
    assert _wave_vector([2, 1], size) == text


def test_what_relaxing_did_is_this_runs():
    def row(name, relax, points):
        return Row(name, "vae", "prior", relax, {"nodal_points": np.full(4, points)})

    text = _reading([row("vae <prior>", 0, 7), row("vae <prior> + relax 3", 3, 2)])
    assert "by 3 zero-temperature sweeps, nodal points a texture: vae &lt;prior&gt; + relax 3: 7.00 to 2.00." in text
    assert "RELAXING" not in _reading([]) and "sweeps, nodal" not in _reading([])


def test_files_without_the_flag_are_flagged_by_precision():
    low = {"knn": {"precision": 0.47}, "knn_data_against_data": {"precision": 0.95}}
    assert _broad(low) and not _broad({**low, "knn": {"precision": 0.48}}) and not _broad({})
    assert not _broad({**low, "broad": False}) and _broad({"broad": True})


def test_the_banner_says_which_row_it_shows(page):
    (words,) = [text for text in page.texts if text.startswith("The first 6 textures of the row")]
    # the hybrid was not relaxed here
    assert EVIL in words
    (picture,) = [attrs for tag, attrs in page.tags if tag == "img" and attrs.get("class") == "hero"]
    assert words in picture["alt"]


def test_the_banner_prefers_relaxed_rows(finished, tmp_path):
    out, rows, _ = finished
    shutil.copytree(out / "samples", tmp_path / "samples")
    rows = list(rows)
    rows.append(rows[4] | {"name": "hybrid prior + relax 20", "relax": 20})
    # relaxed sampling by DDLS is absent, so relaxed samples of the prior come first
    write_json(tmp_path / "results.json", {"rows": rows})
    assert "of the row “hybrid prior + relax 20”" in write_report(tmp_path).read_text()
    rows.append(rows[5] | {"name": "hybrid ddls + relax 20", "relax": 20})
    write_json(tmp_path / "results.json", {"rows": rows})
    assert "of the row “hybrid ddls + relax 20”" in write_report(tmp_path).read_text()


def test_is_the_same_every_time(finished, tmp_path):
    out, rows, _ = finished
    shutil.copytree(out / "measures", tmp_path / "measures")
    write_json(tmp_path / "results.json", {"rows": rows[:2]})
    first = write_report(tmp_path).read_text()
    assert write_report(tmp_path).read_text() == first and "base64" in first


def test_draws_what_is_there(tmp_path):
    write_json(
        tmp_path / "results.json",
        {
            "rows": [
                {
                    "name": "gan prior",
                    "source": "gan",
                    "method": "prior",
                    "measures": {"mz": {"mean": 0.25, "std": 1}},
                }
            ]
        },
    )
    page = Page(write_report(tmp_path).read_text())
    (line,) = [line for line in page.cells if line[0] == "gan prior"]
    assert line == ["gan prior", "1.0000"] and not page.attributes("src")
    assert not list(tmp_path.glob("*.png"))


def test_no_rows_is_a_report_too(tmp_path):
    write_json(tmp_path / "results.json", {"rows": [], "preset": None, "ground_state": None, "seed": 3})
    assert "seed" in Page(write_report(tmp_path).read_text()).texts


@pytest.mark.parametrize("content", [[], {}, {"rows": 3}])
def test_refuses_what_is_no_pipeline(tmp_path, content):
    write_json(tmp_path / "results.json", content)
    with pytest.raises(BadInput, match="finished pipeline"):
        write_report(tmp_path)


def test_refuses_an_empty_folder(tmp_path):
    with pytest.raises(BadInput, match=r"results\.json"):
        write_report(tmp_path)
