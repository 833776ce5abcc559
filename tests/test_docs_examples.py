"""The examples of the documentation as processes: what they print is physics, what they draw is a picture."""

import importlib.util
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from cyclopts import CycloptsError

import spinloom as sl
from spinloom.cli import app
from spinloom.train import train
from test_train import NETWORKS, QUICK, H, settings

DOCS = Path(__file__).parents[1] / "docs"
README = DOCS.parent / "README.md"
ROOMY = 300_000  # bytes: pictures are kept in the repository


def run(script: Path, *arguments: object, cwd: Path | None = None) -> subprocess.CompletedProcess:
    command = [sys.executable, str(script), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=cwd)


def example(name: str, out: Path) -> dict:
    done = run(DOCS / "examples" / name, "--quick", "--size", 64, "--samples", 2, "--out", out)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    picture = Path(told["picture"])
    assert picture.parent == out
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert picture.name in {path.name for path in (DOCS / "images").glob("*.png")}
    assert (DOCS / "images" / picture.name).stat().st_size < ROOMY
    return told


def test_labyrinths_become_a_skyrmion_lattice_as_the_field_rises(tmp_path):
    told = example("skyrmion_lattice.py", tmp_path)
    fields = np.array(told["fields"])
    assert told["field_unit"] == pytest.approx(0.25)
    for history in ("driven", "cooled"):
        charge, euler, mz = (np.array(told[history][name]) for name in ("charge", "euler", "mz"))
        np.testing.assert_allclose(charge, charge.round(), atol=1e-9)
        # every wall turns the same way, so the charge is the domains' topology alone
        np.testing.assert_array_equal(charge.round(), -euler)
        assert (np.abs(charge[fields == 0]) <= 5).all()
        # a skyrmion takes about 1.3 λ² in the lattice's ground state at half the unit of field; here λ = 13.6
        lattice = charge[(fields > 0.3) & (fields < 0.7)]
        assert (lattice < -0.8 * 64**2 / (1.3 * 13.6**2)).all()
        assert (lattice > -1.4 * 64**2 / (1.3 * 13.6**2)).all()
        assert (charge[fields > 1.1].round() == 0).all()
        mean = mz.mean(1)
        assert np.abs(mean[0]) < 0.05
        assert (np.diff(mean) > -1e-3).all()
        assert mean[-1] > 0.999


def test_the_field_loop_is_open_where_walls_cannot_nucleate(tmp_path):
    told = example("field_loop.py", tmp_path)
    tesla = np.array(told["tesla"])
    turn, lowest = tesla.argmax(), tesla.argmin()
    assert told["period"] == pytest.approx(70e-9, rel=0.05)
    falling = slice(turn, lowest + 1)
    rising = slice(lowest, None)
    np.testing.assert_allclose(tesla[rising], -tesla[falling], atol=1e-12)
    mz = {t: np.array(told[t]["mz"]).mean(1) for t in ("0.2", "0.4")}
    charge = {t: np.array(told[t]["charge"]) for t in ("0.2", "0.4")}
    for t in mz:
        np.testing.assert_allclose(charge[t], charge[t].round(), atol=1e-9)
        assert mz[t][turn] > 0.99
        assert mz[t][lowest] < -0.99
        assert np.abs(mz[t][tesla == 0]).max() < 0.1
    # reversing the field reverses the magnetisation, and a core's charge with it
    np.testing.assert_allclose(mz["0.4"][rising], -mz["0.4"][falling], atol=0.1)
    lattice = np.abs(tesla) == 0.2
    assert (np.sign(charge["0.4"][lattice]) == -np.sign(tesla[lattice])[:, None]).all()
    assert (np.abs(charge["0.4"][lattice]) >= 7).all()
    # at one field, 0.16 T: stripes on the way up, still saturated on the way down
    here = np.isclose(tesla, 0.16)
    assert (mz["0.2"][falling][here[falling]] > 0.95).all()
    assert (mz["0.2"][rising][here[rising]] < 0.4).all()
    np.testing.assert_allclose(mz["0.4"][here], mz["0.4"][here].mean(), atol=0.05)
    # the energy lost in a loop, J/m³
    assert told["0.2"]["lost"] > 2e4
    assert told["0.4"]["lost"] < 0.4 * told["0.2"]["lost"]


def test_the_code_in_the_physics_page_runs(tmp_path):
    """The page's Python blocks, one after the other; their assertions are the numbers quoted beside them."""
    blocks = re.findall(r"^```python\n(.*?)^```", (DOCS / "physics.md").read_text(), re.DOTALL | re.MULTILINE)
    assert len(blocks) >= 4
    script = tmp_path / "page.py"
    script.write_text("\n".join(blocks))
    done = run(script)
    assert done.returncode == 0, done.stderr
    assert not done.stderr


def test_links_of_the_physics_page_lead_somewhere():
    page = (DOCS / "physics.md").read_text()
    links = re.findall(r"\]\(([^)#]+)\)", page)
    assert any(link.endswith(".png") for link in links)
    for link in links:
        if "://" not in link:
            assert (DOCS / link).exists(), link


def test_the_code_in_the_page_on_latent_space_runs(tmp_path):
    """On a run of a few steps; the page's objects are then checked against the physics."""
    blocks = re.findall(r"^```python\n(.*?)^```", (DOCS / "latent.md").read_text(), re.DOTALL | re.MULTILINE)
    assert len(blocks) == 5
    data = sl.simulate(tmp_path / "set", H, 32, 60, seed=1, schedule=QUICK, show=False)
    train(data, tmp_path / "runs" / "hybrid", NETWORKS, settings(), show=False)
    checks = """
assert found.energy_excess.shape == (64, 64)
assert abs(best.value - float(H.energy_excess(best.spins.double()))) < 1e-9
assert best.value >= sl.ground_state(H, 32).energy_excess - 1e-9
assert path.spins.shape == (17, 3, 32, 32) and still.barriers[0] >= 0
assert recovered.z.shape == own.z.shape == (1, run.networks.latent)
"""
    (tmp_path / "page.py").write_text("\n".join(blocks) + checks)
    done = run(tmp_path / "page.py", cwd=tmp_path)
    assert done.returncode == 0, done.stderr


LESS = {
    "sl.sample(run, 64, seed=0, relax=20)": "sl.sample(run, 4, seed=0, relax=20)",
    'objective="min-energy", seed=0)': 'objective="min-energy", seed=0, population=4, generations=1, relax=20)',
    "size=128, samples=64": "size=32, samples=4",
    "H, 128, 40_000": "H, 32, 160, shard_size=80",
    "lean.networks, lean.training": "small(lean.networks, size=(32, 32), latent=64), small(lean.training, steps=2)",
    'sl.sample(run, 1000, method="ddls", seed=0)': 'sl.sample(run, 40, method="ddls", seed=0)',
    "data[30_000:31_000]": "data[120:]",
    "size=128, samples=8": "size=32, samples=2",
}
"""What makes the README's Python quick: what stands there, and what is run."""


def test_the_code_in_the_readme_runs(tmp_path):
    blocks = re.findall(r"^```python\n(.*?)^```", README.read_text(), re.DOTALL | re.MULTILINE)
    assert len(blocks) == 3
    code = "\n".join(blocks)
    for there, run_instead in LESS.items():
        assert code.count(there) == 1, there
        code = code.replace(there, run_instead)
    spins = sl.anneal(H, size=32, samples=4, schedule=QUICK)
    sl.write_dataset(tmp_path / "woven", spins, H)  # of the command above the first block
    sl.write_ovf(tmp_path / "relaxed.ovf", spins[0], cell=(2e-9, 2e-9, 1e-9))
    checks = """
assert best.report["norm"]["ratio"] < 2 and len(data) == 160 and fakes.shape == (40, 3, 32, 32)
assert field.spins.shape == (1, 3, 32, 32) and lattice.shape == driven.shape == (2, 3, 32, 32)
assert run.path == Path("runs/python") and run.step == 2
"""
    code = "from pathlib import Path\nfrom dataclasses import replace as small\n" + code + checks
    (tmp_path / "page.py").write_text(code)
    done = run(tmp_path / "page.py", cwd=tmp_path)
    assert done.returncode == 0, done.stderr


PAGES = [README, *(page for page in sorted(DOCS.glob("*.md")) if page.name != "cli.md")]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_commands_in_a_page_are_ones(page):
    """Parsed as they stand there, and not run: the command is there, its options, and their values are possible."""
    text = page.read_text().replace("\\\n", " ")
    blocks = re.findall(r"^```console\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    lines = [line for block in blocks for line in block.splitlines()] + re.findall(r"`(spinloom [^`\s]+\s[^`]+)`", text)
    lines = [re.sub(r"\$\w+", "1", line) for line in lines if "…" not in line]
    for line in lines:
        words = shlex.split(line, comments=True)
        if "spinloom" not in words or "pip" in words:
            continue
        words = words[words.index("spinloom") + 1 :]
        if "--config" in words:  # is every command's, and its file is not here
            del words[words.index("--config") : words.index("--config") + 2]
        try:
            app.parse_args(words, exit_on_error=False, print_error=False)
        except CycloptsError as error:
            pytest.fail(f"{line}: {error}")


def test_the_page_on_architecture_names_every_module():
    listed = set(re.findall(r"\w+\.(?:py|cu)\b", (DOCS / "architecture.md").read_text()))
    package = DOCS.parent / "src" / "spinloom"
    there = {path.name for path in package.iterdir() if path.suffix in (".py", ".cu")}
    assert there <= listed
    assert listed - there <= {path.name for path in (package / "figures").iterdir()}


def test_the_page_on_the_command_line_is_what_the_commands_say():
    spec = importlib.util.spec_from_file_location("reference", DOCS / "reference.py")
    assert spec and spec.loader
    reference = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(reference)
    assert reference.reference() == reference.PAGE.read_text(encoding="utf-8"), "run `make docs`"
