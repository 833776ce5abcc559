"""The proofs as one HTML page that needs no other file."""

from __future__ import annotations

import base64
import os
import platform
import re
import time
from collections.abc import Sequence
from html import escape
from pathlib import Path

import numpy as np
from proofs import ALPHA, FAMILY, REJECTED, Line, Proof, holm
from scipy import stats

from spinloom import BadInput, Hamiltonian, Schedule, anneal
from spinloom.page import STYLE
from spinloom.version import __version__

MORE_STYLE = """
tbody th{white-space:normal;min-width:18rem;max-width:24rem}
tbody td:nth-child(2),tbody td:nth-child(3){white-space:normal;max-width:18rem}
.bad{color:#b30000;font-weight:700}
.control th,.control td,.check td,.value td{color:var(--soft)}
@media(prefers-color-scheme:dark){.bad{color:#ff8a80}}
"""

ORDER = ("one_spin", "two_spins", "open_chain", "energies", "update_mix", "parity", "annealed_textures")
"""Sections from the small to the whole; others after them."""

NAMED = ("spinloom", "numpy", "numba", "torch", "scipy")


def devices() -> tuple[list[str], str]:
    """The devices that can sweep here, and a sentence on the GPU."""
    import torch

    if not torch.cuda.is_available():
        return ["cpu"], "No GPU here: CUDA was not run"
    name = torch.cuda.get_device_name()
    try:
        anneal(Hamiltonian(), 8, 1, schedule=Schedule.constant(1.0, 1), device="cuda")
    except BadInput as refusal:
        return ["cpu"], f"{name}, which cannot sweep here ({refusal}): CUDA was not run"
    return ["cpu", "cuda"], name


def family(sections: Sequence[Proof]) -> tuple[str, bool]:
    """One line on all tests together, and whether they pass as a family."""
    p = np.array([line.p for section in sections for line in section.lines if line.kind == "test"])
    if not len(p):
        return "no statistical test was run", True
    adjusted = float(holm(p).min())
    uniform = stats.kstest(p, "uniform")
    line = (
        f"{len(p)} tests together: smallest p = {p.min():.2g}, after Holm's correction for all of them "
        f"{adjusted:.2g} (rejected below {FAMILY:g}); p-values against uniform: K–S p = {uniform.pvalue:.2g}"
    )
    return line, adjusted >= FAMILY


def page(sections: Sequence[Proof], broken: Sequence[str], seconds: float, command: str) -> str:
    rank = {f"test_{name}": number for number, name in enumerate(ORDER)}
    sections = sorted(sections, key=lambda section: rank.get(section.name, len(rank)))
    every = [line for section in sections for line in section.lines]
    body = "".join(map(_section, sections))
    links = "".join(
        f'<li><a href="#{section.name}">{escape(re.split(":|, (?=against|what)", section.title)[0])}</a></li>'
        for section in sections
    )
    failed = "".join(f'<li class="bad">{escape(line)}</li>' for line in broken)
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>spinloom: verification</title>\n<style>{STYLE}{MORE_STYLE}</style>\n</head>\n<body>\n"
        "<header><h1>spinloom: verification</h1><p>Is the annealer right? Statistical proofs against exact laws, "
        "expansions and independent programs.</p></header>\n"
        f'<nav aria-label="Contents"><ul>{links}</ul></nav>\n<main>\n'
        f'<section><h2 id="summary">Summary</h2>{_summary(sections, every, broken, seconds, command)}'
        f"{f'<ul>{failed}</ul>' if failed else ''}</section>\n{body}\n</main>\n</body>\n</html>\n"
    )


def _summary(
    sections: Sequence[Proof], every: Sequence[Line], broken: Sequence[str], seconds: float, command: str
) -> str:
    count = {kind: [line for line in every if line.kind == kind] for kind in ("test", "check", "control")}
    passed = {kind: sum(line.passed for line in lines) for kind, lines in count.items()}
    facts = [
        ("verdict", "all hold" if not broken and all(line.passed for line in every) else "NOT all hold"),
        *((f"{kind}s", f"{passed[kind]} of {len(count[kind])} as they should be") for kind in count),
        ("command", command),
        ("date", time.strftime("%Y-%m-%d %H:%M", time.gmtime()) + " UTC"),
        ("time", f"{seconds / 60:.1f} min"),
        ("versions", ", ".join(f"{name} {_version(name)}" for name in NAMED) + f", Python {platform.python_version()}"),
        ("machine", f"{platform.system()} {platform.machine()}, {_processor()}, {_cores()} cores"),
        ("GPU", devices()[1]),
    ]
    listed = "".join(f"<div><dt>{escape(name)}</dt><dd>{escape(text)}</dd></div>" for name, text in facts)
    together, holds = family(sections)
    words = (
        f"A test is a comparison with a p-value; alone it fails below {ALPHA:g}. A check holds or does not. A control "
        f"is a rule made wrong on purpose, and has to be rejected at p < {REJECTED:g}, or the test is blind. Seeds are "
        "fixed and were not searched, so the verdicts repeat; SPINLOOM_VERIFY_SEEDS=1 (2, 3, …) in the environment "
        "runs everything with others. Errors are standard errors that know of "
        "autocorrelation: τ is the integrated autocorrelation time in measurements (1/2: independent), n the number "
        "of independent values; an estimate from a chain shorter than 100 τ is refused, and so are chains that "
        "disagree. Energies are in J, lengths in sites, spins on periodic lattices unless said otherwise."
    )
    mark = "" if holds else ' class="bad"'
    return f"<dl>{listed}</dl><p{mark}><strong>{escape(together)}.</strong></p><p>{escape(words)}</p>"


def _section(section: Proof) -> str:
    parts = (" ".join(part.split()) for part in section.text.split("\n\n"))
    paragraphs = "".join(f"<p>{_code(escape(part))}</p>" for part in parts if part)
    notes = "".join(f"<p><strong>{escape(note)}</strong></p>" for note in section.notes)
    pictures = "".join(_picture(*figure) for figure in section.figures)
    rows = "".join(map(_row, section.lines))
    head = "".join(
        f'<th scope="col">{name}</th>' for name in ("", "found", "expected", "n", "τ", "statistic", "p", "verdict")
    )
    table = (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(section.title)}"><table>'
        f"<thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>"
        if rows
        else ""
    )
    time_spent = f'<p class="mute">{section.seconds:.0f} s</p>'
    title = f'<h2 id="{section.name}">{escape(section.title)}</h2>'
    return (
        f'<section aria-labelledby="{section.name}">{title}{paragraphs}{notes}{pictures}{table}{time_spent}</section>'
    )


def _row(line: Line) -> str:
    verdict = {"test": "agrees", "check": "holds", "control": "rejected, as it must be", "value": ""}[line.kind]
    if not line.passed:
        verdict = '<span class="bad">' + {"control": "NOT REJECTED"}.get(line.kind, "FAILS") + "</span>"
    cells = (line.found, line.expected, line.many, line.tau, line.statistic, _p(line.p))
    listed = "".join(f"<td>{_minus(escape(cell))}</td>" for cell in cells)
    return f'<tr class="{line.kind}"><th scope="row">{_minus(escape(line.what))}</th>{listed}<td>{verdict}</td></tr>'


def _code(text: str) -> str:
    return re.sub("``(.*?)``", r"<code>\1</code>", text)


def _minus(text: str) -> str:
    """A minus sign before numbers, no line broken at ±."""
    return re.sub(r"(?<![\w.])-(?=\d)", "−", text).replace(" ± ", "\u202f±\u202f")


def _p(p: float | None) -> str:
    if p is None:
        return ""
    return f"{p:.3f}" if p >= 1e-3 else "< 1e-300" if p == 0 else f"{p:.1e}"


def _picture(png: bytes, size: tuple[int, int], caption: str) -> str:
    data = base64.b64encode(png).decode()
    width, height = size[0] // 3 * 2, size[1] // 3 * 2
    return (
        f'<figure><img style="max-width:{width}px" width="{width}" height="{height}" alt="{escape(caption)}" '
        f'src="data:image/png;base64,{data}"><figcaption>{escape(caption)}</figcaption></figure>'
    )


def _version(name: str) -> str:
    if name == "spinloom":
        return __version__
    from importlib.metadata import version

    return version(name)


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or "unknown processor"


def _cores() -> int:
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1
