"""The command line: picks a command and turns what goes wrong into one line and an exit code.

The commands themselves stand in ``commands*.py``, which are imported when one of theirs is called: help and
mistyped commands need no torch.
"""

from __future__ import annotations

import os
import re
import sys
import tomllib
from collections.abc import Sequence
from keyword import iskeyword
from pathlib import Path
from typing import Annotated

from cyclopts import App, CycloptsError, Parameter
from cyclopts.config import Toml
from cyclopts.exceptions import UnusedCliTokensError

from spinloom.errors import BadInput
from spinloom.version import __version__

COMMANDS = {
    "simulate": "Anneal a data set of textures (resumes).",
    "train": "Train a VAE, GAN or hybrid on a data set (resumes).",
    "sample": "Draw textures from a trained generator.",
    "measure": "Energy, nodal points, charge, M_z and coverage of data sets, as a table.",
    "export": "Write textures as OVF, VTK, netCDF or NumPy files.",
    "import": "Make a data set from OVF, NumPy or netCDF files.",
    "run": "The whole pipeline: anneal, train, sample, measure, draw (resumes).",
    "reproduce": "Data set, repeated trials, every table and figure; says first how long it takes.",
    "trials": "Independent trainings of each objective on one data set, and their table (resumes).",
    "figures": "The paper's Figs. 1-6 from a finished folder, 3-6 of a single run.",
    "map": "Planes through latent space: energy, nodal points and logits, their walls, and what lies on both sides.",
    "explain": "DDLS watched: paths of codes, Grad-CAM beside the nodal points, the rules compared.",
    "search": "Look for the texture of most or least energy, M_z, charge, … in latent space.",
    "interpolate": "Paths between textures through latent space: energy, M_z, charge along them; barriers.",
    "invert": "Full spins from a picture of M_z alone.",
    "verify": "Check a data set's checksums; --repair makes damaged shards again.",
    "bench": "Time the package against yardsticks.",
}
ROOMS = {
    **dict.fromkeys(("measure", "run", "reproduce", "trials", "figures"), "commands_compare"),
    **dict.fromkeys(("export", "import"), "commands_exchange"),
    **dict.fromkeys(("map", "explain"), "commands_map"),
    "search": "commands_search",
    "interpolate": "commands_paths",
    "invert": "commands_invert",
}
"""Modules of the commands that do not stand in ``commands.py``."""

KEEP_NOTHING = frozenset({"sample", "measure", "export", "import", "bench"})
"""Commands that leave nothing when they are stopped; the others go on."""

app = App(
    name="spinloom",
    version=__version__,
    help="Weave magnetic textures: anneal, learn, generate and judge topological spin structures.",
    default_parameter=Parameter(
        name_transform=lambda name: name.replace("_", "-"), negative_iterable=(), negative_none=()
    ),
    result_action="return_value",
    suppress_keyboard_interrupt=False,  # its message says where the work stands
)
for name, summary in COMMANDS.items():
    function = f"{name}_" if iskeyword(name) else name
    app.command(f"spinloom.{ROOMS.get(name, 'commands')}:{function}", name=name, help=summary)


app.meta.suppress_keyboard_interrupt = False


@app.meta.default
def _launch(
    *tokens: Annotated[str, Parameter(show=False, allow_leading_hyphen=True)],
    config: Annotated[Path | None, Parameter(help="TOML file with options; the command line wins.")] = None,
) -> int | None:
    if config is not None:
        try:
            tomllib.loads(config.read_text())
        except OSError as error:
            raise BadInput(f"--config {config}: cannot be read ({error.strerror}); check the path") from error
        except ValueError as error:
            raise BadInput(f"--config {config}: is not TOML ({error}); correct the file") from error
        app.config = (Toml(config, must_exist=True, use_commands_as_keys=False),)
    return app(tokens, exit_on_error=False, print_error=False)


def _line(error: BadInput | CycloptsError, tokens: Sequence[str]) -> str:
    """A refusal in one line."""
    if isinstance(error, UnusedCliTokensError) and error.unused_tokens:
        many = "s" if len(error.unused_tokens) > 1 else ""
        names = ", ".join(f"'{token}'" for token in error.unused_tokens)
        return f"unexpected argument{many} {names}; leave {'them' if many else 'it'} out"
    return _as_option(" ".join(str(error).split()), tokens)


def _as_option(line: str, tokens: Sequence[str]) -> str:
    """``D=nan: …`` as ``--D nan: …`` where that is what was typed."""
    found = re.match(r"([A-Za-z][\w.]*)=(.*?): ", line)
    if found is None or found[0].removesuffix(": ") in tokens:
        return line
    typed = {token.partition("=")[0] for token in tokens}
    for name in (found[1], found[1].rpartition(".")[2]):
        option = f"--{name.replace('_', '-')}"
        if option in typed:
            value = re.sub(r"[][(),'\"]", "", found[2])
            return f"{option} {value}: {line[found.end() :]}"
    return line


def _stopped(tokens: Sequence[str]) -> str:
    """What is left of a command that Ctrl-C stopped."""
    command = next((token for token in tokens if token in COMMANDS), None)
    if command in KEEP_NOTHING or (command == "verify" and "--repair" not in tokens):
        return "stopped; nothing was written, the same command starts over"
    return "stopped; the same command goes on from here"


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point. Exit codes: 0 done, 1 stopped by what the work met, 2 bad input, 130 interrupted."""
    # GNU OpenMP's threads spin long at torch's barriers: on cores that something else uses too, a training step
    # was seen to take ten times as long. It reads this when torch is imported, hence here.
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    tokens = list(sys.argv[1:] if arguments is None else arguments)
    try:
        code = app.meta(tokens, exit_on_error=False, print_error=False) or 0
    except (BadInput, CycloptsError) as error:
        print(f"spinloom: {_line(error, tokens)}", file=sys.stderr)
        code = 2
    except FloatingPointError as error:
        print(f"spinloom: {error}", file=sys.stderr)
        code = 1
    except KeyboardInterrupt as error:
        print(f"spinloom: {str(error) or _stopped(tokens)}", file=sys.stderr)
        code = 130
    except BrokenPipeError:
        code = 1
    except RuntimeError as error:
        if "allocate" not in str(error):  # torch's way to say that memory is short; else it is a bug to be seen
            raise
        print("spinloom: out of memory; use a smaller size, batch or shard", file=sys.stderr)
        code = 1
    except (OSError, MemoryError) as error:
        print(f"spinloom: {' '.join(str(error).split()) or 'out of memory'}", file=sys.stderr)
        code = 1
    sys.exit(code)
