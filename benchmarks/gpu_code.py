"""What the GPU sweep costs by its machine code, no GPU needed: ``python benchmarks/gpu_code.py [--nvdisasm PATH]``

Compiles ``sweep.cu`` for a 128² lattice and sm_90 and counts the instructions of a site's update, kind by kind.
``nvdisasm`` is NVIDIA's: ``pip install nvidia-cuda-nvdisasm``, or any CUDA toolkit. Prints JSON.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

from spinloom.schedule import DEFAULT_SCHEDULE
from spinloom.sweep_cuda import Layout, compiled

SHARED = 232_448
PIPES = {
    # instructions a multiprocessor of compute capability 9.0 starts in a clock, from the CUDA programming guide
    "float": (128, {"FADD", "FMUL", "FFMA"}),
    "whole numbers": (64, {"IADD3", "LEA", "LOP3", "SHF", "ISETP", "SEL", "FMNMX", "FSETP", "FSEL", "IMNMX", "VIMNMX"}),
    "functions and conversions": (16, {"MUFU"}),
    "shared memory": (32, {"LDS", "STS"}),
}
ISSUED = 128
INSTRUCTION = re.compile(r"/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P[0-9T]+\s+)?([A-Z][A-Z0-9_]*)(\.[A-Z0-9_.]+)?")


def blocks(assembly: str) -> list[Counter[str]]:
    """The instructions of every stretch without a label or a branch; functions by their full name too."""
    found: list[Counter[str]] = [Counter()]
    for line in assembly.splitlines():
        if line.startswith(".L_"):
            found.append(Counter())
        match = INSTRUCTION.search(line)
        if match:
            name, more = match.groups()
            found[-1][name] += 1
            if name == "MUFU":
                found[-1][f"MUFU{more}"] += 1
            if name == "BRA":
                found.append(Counter())
    return found


def kinds(found: list[Counter[str]], rows: int) -> dict[str, tuple[Counter[str], int]]:
    """Which stretch is which kind of sweep, told by its functions, and how many sites it updates."""
    heat_bath = max(found, key=lambda block: block["MUFU.SQRT"])
    over_relax = max((b for b in found if not b["MUFU.SQRT"]), key=lambda block: block["MUFU.RCP"])
    align = max(
        (b for b in found if not b["MUFU.SQRT"] and not b["MUFU.RCP"]), key=lambda b: min(b["LDS"], b["MUFU.RSQ"])
    )
    return {"heat_bath": (heat_bath, 2), "over_relax": (over_relax, rows), "align": (align, rows)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nvdisasm", default=shutil.which("nvdisasm") or "nvdisasm")
    given = parser.parse_args()
    result: dict[str, object] = {}
    for anisotropic in (False, True):
        layout = Layout.of((128, 128), anisotropic, SHARED)
        image, log = compiled(layout, "sm_90", "--ptxas-options=-v")
        used = next(line.split(":", 1)[1].strip() for line in log.splitlines() if "registers" in line)
        spills = next(line.split(".", 1)[1].strip() for line in log.splitlines() if "spill" in line)
        with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
            file.write(image)
            file.flush()
            run = subprocess.run([given.nvdisasm, "-c", file.name], capture_output=True, text=True, check=True)
        sites = {}
        clocks = {}
        for kind, (block, updates) in kinds(blocks(run.stdout), layout.rows).items():
            whole = sum(count for name, count in block.items() if "." not in name)
            pipes = {pipe: sum(block[n] for n in names) / updates for pipe, (_, names) in PIPES.items()}
            clocks[kind] = {pipe: round(pipes[pipe] / PIPES[pipe][0], 3) for pipe in pipes}
            clocks[kind]["issue"] = round(whole / updates / ISSUED, 3)
            sites[kind] = {
                "instructions": round(whole / updates, 1),
                "shared memory, bytes": round(4 * pipes["shared memory"], 1),
                **{pipe: round(count, 1) for pipe, count in pipes.items()},
            }
        sweeps = {
            "heat_bath": sum(step.heat_bath for step in DEFAULT_SCHEDULE.steps),
            "over_relax": sum(step.over_relax for step in DEFAULT_SCHEDULE.steps),
            "align": sum(step.relax for step in DEFAULT_SCHEDULE.steps),
        }
        most = {kind: max(clocks[kind].values()) for kind in clocks}
        mean = sum(sweeps[kind] * most[kind] for kind in sweeps) / sum(sweeps.values())
        result["K ≠ 0" if anisotropic else "K = 0"] = {
            "ptxas": [used, spills],
            "an update": sites,
            "clocks an update": clocks,
            "default schedule, clocks an update": round(mean, 3),
            "updates a nanosecond of 132 processors": {
                f"{mhz} MHz": round(132 * mhz * 1e-3 / mean) for mhz in (1755, 1980)
            },
        }
    print(json.dumps(result, indent=1, ensure_ascii=False))


if __name__ == "__main__":
    main()
