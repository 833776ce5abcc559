"""Collects what the proofs record and writes report.html at the end, whether they passed or not."""

import os

os.environ.setdefault("GOMP_SPINCOUNT", "1000")  # before torch is imported: its threads soon sleep at barriers

import time
from pathlib import Path

import other_seeds  # the first of ours
import proofs
import pytest
import torch
import writeup

torch.set_num_threads(1)  # the kernels have threads of their own; small tensors are quicker on one

_SECTIONS: dict[str, proofs.Proof] = {}
_BROKEN: list[str] = []
_BEGAN = time.time()


@pytest.fixture(scope="module")
def proof(request):
    """The section of a module: its docstring's first line is the title, the rest the text."""
    title, _, text = (request.module.__doc__ or request.module.__name__).strip().partition("\n")
    section = _SECTIONS[request.module.__name__] = proofs.Proof(request.module.__name__, title.rstrip("."), text)
    began = time.time()
    yield section
    section.seconds = time.time() - began


@pytest.fixture(scope="session")
def device_names():
    """The devices that can sweep here: the CPU, and a GPU where there is one with its compiler."""
    return writeup.devices()[0]


def pytest_runtest_logreport(report):
    if report.failed:
        lines = str(report.longrepr).strip().splitlines()
        told = next((line[1:].strip() for line in lines if line.startswith("E ")), lines[-1] if lines else "")
        _BROKEN.append(f"{report.nodeid}: {told}")


def pytest_sessionfinish(session):
    if not _SECTIONS:
        return
    sections = list(_SECTIONS.values())
    family, holds = writeup.family(sections)
    if not holds and session.exitstatus == 0:
        session.exitstatus = 1
    here = Path(__file__).parent
    complete = {item.path.name for item in session.items} >= {path.name for path in here.glob("test_*.py")}
    # a run of some proofs, or with other seeds, leaves the whole report alone
    out = here / ("report.html" if complete and not other_seeds.OTHER_SEEDS else "partial.html")
    command = "pytest " + " ".join(map(str, session.config.invocation_params.args))
    if other_seeds.OTHER_SEEDS:
        command = f"SPINLOOM_VERIFY_SEEDS={other_seeds.OTHER_SEEDS} {command}"
    content = writeup.page(sections, _BROKEN, time.time() - _BEGAN, command)
    beside = out.with_suffix(".part")
    beside.write_text(content, encoding="utf-8")
    beside.replace(out)
    _LAST.append(f"{family}\nreport: {os.path.relpath(out)} ({out.stat().st_size / 1024:.0f} kB)")


_LAST: list[str] = []


def pytest_terminal_summary(terminalreporter):
    for line in _LAST:
        terminalreporter.write_line(line)
