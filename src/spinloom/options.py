"""What the commands' options have in common: their types, and the configs as sets of optional fields."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import field, fields, is_dataclass, make_dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias, get_type_hints

import docstring_parser
from cyclopts import Parameter, Token, validators

from spinloom.errors import BadInput
from spinloom.hamiltonian import Hamiltonian
from spinloom.networks import NetworkConfig
from spinloom.pipeline import PipelineConfig
from spinloom.training_config import TrainingConfig


def _whole(kind: Any, tokens: Sequence[Token]) -> int:
    """A whole number as written: the parser's own reading takes 2.5 for 2."""
    try:
        return int(tokens[0].value)
    except ValueError:
        raise ValueError(f"{tokens[0].value} is not a whole number") from None


def _seed(kind: Any, tokens: Sequence[Token]) -> int:
    number = _whole(kind, tokens)
    if not 0 <= number < 2**64:
        raise ValueError(f"{number} is not a whole number from 0 to 2⁶⁴ − 1")
    return number


def _changes(config: type, without: Mapping[str, tuple[str, ...]], prefix: str = "") -> type:
    """A twin of a config class in which every field is optional: what a user may override, None = left alone.

    ``without`` names, for every nested class, fields that are set elsewhere.
    """
    hints = get_type_hints(config)
    help_of = {p.arg_name: p.description for p in docstring_parser.parse(config.__doc__ or "").params}
    for names in list(help_of):  # "beta, gamma: the weights" documents both
        for name in names.split(","):
            help_of[name.strip()] = help_of[names]
    options = []
    for item in fields(config):
        if item.name in without.get(config.__name__, ()):
            continue
        kind = hints[item.name]
        if is_dataclass(kind):
            kind = _changes(kind, without)  # type: ignore[arg-type]
        elif item.name == "size":
            kind = Annotated[tuple[int, ...], Parameter(consume_multiple=True)]
        text = " ".join(re.sub(r"``|:\w+:`~?([^`]*)`", r"\1", help_of.get(item.name) or "").split())
        convert: dict[str, Any] = {"converter": _whole} if kind is int else {}
        options.append((item.name, Annotated[kind | None, Parameter(help=text, **convert)], field(default=None)))
    twin = make_dataclass(f"{config.__name__}Changes", options, frozen=True)
    twin.__module__ = __name__  # else the parser takes it for a type of the standard library
    return twin


if TYPE_CHECKING:  # what they look like to a reader; every field of the real ones may be None
    PipelineChanges: TypeAlias = PipelineConfig
    TrainingChanges: TypeAlias = TrainingConfig
    NetworkChanges: TypeAlias = NetworkConfig
else:
    PipelineChanges = _changes(PipelineConfig, {"NetworkConfig": ("size",), "TrainingConfig": ("objective", "seed")})
    TrainingChanges = _changes(TrainingConfig, {"TrainingConfig": ("objective",)})
    NetworkChanges = _changes(NetworkConfig, {"NetworkConfig": ("size",)})

Quiet = Annotated[bool, Parameter(name="--quiet", negative=(), help="No progress bars.")]
AsJson = Annotated[bool, Parameter(name="--json", negative=(), help="Print JSON, nothing else, on standard output.")]
Size = Annotated[tuple[int, ...], Parameter(consume_multiple=True, help="Lattice sides: one number, or H W.")]
Whole = Annotated[int, Parameter(converter=_whole)]
Seed = Annotated[int, Parameter(converter=_seed)]
Count = Annotated[int, Parameter(converter=_whole, validator=validators.Number(gte=1))]
Device = Annotated[Literal["cpu", "cuda"], Parameter(help="Where networks and sweeps run.")]


def sides_of(size: tuple[int, ...]) -> tuple[int, int]:
    sides = tuple(size) * (2 if len(size) == 1 else 1)
    if len(sides) != 2:
        raise BadInput(f"size={size}: give one side or two, H W")
    return sides[0], sides[1]


# couplings of textures that came without: None = not given
Exchange = Annotated[float | None, Parameter(name="--J", help="Exchange, if known: with --D.")]
Dzyaloshinskii = Annotated[float | None, Parameter(name="--D", help="Dzyaloshinskii–Moriya interaction, with --J.")]
Walls = Annotated[Literal["interfacial", "bulk"] | None, Parameter(help="Néel (default) or Bloch walls.")]
Field = Annotated[float | None, Parameter(name="--B", help="Field along z.")]
EasyAxis = Annotated[float | None, Parameter(name="--K", help="Easy axis along z (negative: easy plane).")]


def given_hamiltonian(
    J: float | None, D: float | None, dmi: Literal["interfacial", "bulk"] | None, B: float | None, K: float | None
) -> Hamiltonian | None:
    """The Hamiltonian that was given, or None; nothing of it is guessed."""
    given = {"J": J, "D": D, "dmi": dmi, "B": B, "K": K}
    known = {name: value for name, value in given.items() if value is not None}
    if not known:
        return None
    if J is None or D is None:
        raise BadInput(
            f"--{next(iter(known))}: a Hamiltonian needs exchange and DMI; give --J and --D, e.g. --J 1 --D 0"
        )
    return Hamiltonian(**known)


def listener(quiet: bool) -> Callable[[str], None]:
    """What tells a command's progress, a line at a time on standard error; or nothing."""
    return (lambda line: None) if quiet else (lambda line: print(line, file=sys.stderr))


def print_json(content: Any) -> None:
    print(json.dumps(content, indent=1))


def statistics_line(found: Mapping[str, Any]) -> str:
    names = {"energy_excess": "ε", "mz": "M_z"}
    return ", ".join(
        f"{names.get(name, name)} = {value['mean']:.5f} ± {value['std']:.5f}"
        for name, value in found.items()
        if isinstance(value, Mapping) and "mean" in value
    )
