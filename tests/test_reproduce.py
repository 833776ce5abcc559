"""``spinloom reproduce`` as a user calls it: one process from nothing to tables, figures and a report."""

import base64
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

TINY = {
    "trials": 2, "size": 32, "samples": 200, "prior-samples": 50, "ddls-samples": 40, "ddls.steps": 2,
    "training.steps": 2, "training.batch": 8,
    "networks.latent": 8, "networks.generator": 4, "networks.discriminator": 4, "networks.encoder": 4,
    "networks.widest": 8, "networks.head": 4, "networks.patch": 4,
    "fig3.resolution": 8, "fig5.resolution": 8, "fig5.images": 3,
    "fig5.population": 4, "fig5.generations": 1, "fig5.inner-relax": 0, "fig5.relax": 0,
}  # fmt: skip


def reproduce(out: Path, *more: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "spinloom", "reproduce", str(out), *more]
    command += [word for name, value in TINY.items() for word in (f"--{name}", str(value))]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.run(command, capture_output=True, text=True, timeout=600, env=environment)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    out = tmp_path_factory.mktemp("reproduced") / "out"
    return out, reproduce(out)


def test_the_estimate_comes_before_any_work_and_says_what_it_lacks(made):
    _, done = made
    assert done.returncode == 0, done.stderr
    lines = done.stderr.splitlines()
    begun = next(k for k, line in enumerate(lines) if line.startswith("annealing"))
    told = {line.partition(":")[0] for line in lines[:begun]}
    assert {"simulate", "train vae", "train gan", "train hybrid", "the searches of Fig. 5", "left out"} <= told
    assert re.fullmatch(r"in all about [\d.]+ min from the start", lines[begun - 2])
    assert all(not line.startswith("train") for line in lines[begun - 2 : begun])
    assert sum(line.startswith("training hybrid") for line in lines[begun:]) == 2


def test_tables_figures_and_a_report_with_them(made):
    out, done = made
    assert "2 trials" in done.stdout and str(out / "report.html") in done.stdout
    table = done.stdout.splitlines()[:-1]
    assert all(len(line) <= 80 for line in table) and "…" not in done.stdout  # on a terminal that says no width
    results = json.loads((out / "results.json").read_text())
    assert results["trials"] == 2
    names = {row["name"] for row in results["rows"]}
    assert {"test data", "vae prior", "gan ddls", "hybrid ddls + relax 20"} <= names
    page = (out / "report.html").read_text()
    inside = {base64.b64decode(found) for found in re.findall(r"base64,([A-Za-z0-9+/=]+)", page)}
    figures = sorted((out / "figures").glob("*.png"))
    assert [path.name for path in figures] == [f"fig{number}.png" for number in range(1, 7)]
    assert {path.read_bytes() for path in figures} <= inside
    assert all(f"The paper’s Fig. {number}" in page for number in range(1, 7))


def test_the_same_command_makes_nothing_again(made):
    out, _ = made
    work = [path for path in out.rglob("*.safetensors") if path.is_file()]
    assert {"data", "trial-0", "trial-1", "figures"} == {path.relative_to(out).parts[0] for path in work}
    times = {path: path.stat().st_mtime_ns for path in work}
    figures = {path: path.read_bytes() for path in (out / "figures").glob("*.png")}
    rows = json.loads((out / "results.json").read_text())["rows"]
    again = reproduce(out, "--json")
    assert (again.returncode, again.stderr) == (0, "")
    assert json.loads(again.stdout)["rows"] == rows
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*.safetensors")} == times
    assert {path: path.read_bytes() for path in (out / "figures").glob("*.png")} == figures
    assert json.loads((out / "results.json").read_text())["rows"] == rows
