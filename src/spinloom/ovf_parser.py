"""OVF files byte by byte: header lines, and blocks of numbers as text or IEEE numbers.

Nothing a file says is believed before it is compared with the file's length: memory and time stay proportional to
that.

Source: OOMMF User's Guide, "Vector Field File Format (OVF)".
"""

from __future__ import annotations

import itertools
import math
import re
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, final

import numpy as np

from spinloom.errors import BadInput

CHECK = {4: 1234567.0, 8: 123456789012345.0}
"""The number before binary data, by bytes a number: shows a wrong byte order or a file mangled as text."""

LINE = 2**16
"""Longest line of a header, in bytes."""

HEADER = 2**20
"""Longest header, in bytes."""

HEADER_LINES = 10_000
"""Most lines of a header: a real one has some thirty."""

TEXT_AT_ONCE = 2**18
"""Bytes of a text block that are in work at once: as Python's objects they are 25 times as many."""

TEXT_LINE = 2**20
"""Longest line of numbers, in bytes."""

TOKEN = 512
"""Longest number in text, in bytes: 1e-308 written out has 330."""

_FIRST_LINES = {
    "oommfovf2.0": (2, False),
    "oommf:ovf2.0": (2, False),  # some write the colon of 1.0
    **{
        f"oommf:{mesh}meshv{version}": (1, mesh == "irregular")
        for mesh in ("rectangular", "irregular")
        for version in ("1.0", "0.99", "0.0a0")  # the guide calls them synonyms
    },
}
# neither can take longer than its text: no part of them matches what another part could
_END_OF_DATA = re.compile(rb"#[ \t]*end[ \t]*:[ \t]*data", re.IGNORECASE)
_COMMENT = re.compile(rb"#[^\n]*")
_BYTES = {"datatext": 0, "databinary4": 4, "databinary8": 8}


class Segment(NamedTuple):
    """What a file holds of one field: ``values`` are (Z, Y, X, 3), the rest is as in ``ovf.OvfField``."""

    values: Any
    steps: tuple[float, float, float] | None
    meshunit: str
    valueunit: str
    title: str


@final
class Parser:
    """One pass through a file, line by line up to the data and through them."""

    def __init__(self, path: Path, handle: BinaryIO, size: int) -> None:
        self.path = path
        self.handle = handle
        self.size = size
        self.header_bytes = self.header_lines = 0

    def new_header(self) -> None:
        self.header_bytes = self.header_lines = 0

    def wrong(self, what: str, way_out: str = "make the file again") -> BadInput:
        return BadInput(f"{self.path}: {what}; {way_out}")

    def field(self, segment: int | None) -> Segment:
        version, irregular = self.first_line()
        segments = 1
        for number in itertools.count():
            while (entry := self.entry()) is not None and entry[0] != "begin":
                if entry[0] == "segmentcount":
                    segments = self.count("segment count", entry[1])
            if entry is None and number:
                raise self.wrong(f"segment {segment} is not there", f"it holds {number}, counted from 0")
            if entry is None:
                break
            if segment is None and segments > 1:
                raise self.wrong(f"holds {segments} segments", f"choose one of 0 to {segments - 1}, e.g. segment=0")
            found = self.segment(version, irregular)
            if number == (segment or 0):
                return found
        raise self.wrong("ends before its segment begins")

    def first_line(self) -> tuple[int, bool]:
        line = self.line() or ""
        found = _FIRST_LINES.get("".join(line.lstrip("#").split()).lower()) if line.startswith("#") else None
        if found is None:
            raise self.wrong(f"begins with {quoted(line.strip())} and not as OVF 1.0 or 2.0 does", "name an OVF file")
        return found

    def line(self) -> str | None:
        """The next line, or None at the end of the file."""
        line = self.handle.readline(LINE + 1)
        self.header_bytes += len(line)
        self.header_lines += 1
        if len(line) > LINE:
            raise self.wrong(f"a line of over {LINE} bytes, which no header has")
        if self.header_bytes > HEADER or self.header_lines > HEADER_LINES:
            raise self.wrong(f"a header of over {HEADER} bytes or {HEADER_LINES} lines")
        return line.decode("utf-8", "replace") if line else None

    def entry(self) -> tuple[str, str] | None:
        """The next ``# label: value``, the label in lower case without blanks; None at the end of the file."""
        while (line := self.line()) is not None:
            text = line.strip(" \t\r\n\0")
            if not text:
                continue
            if not text.startswith("#"):
                raise self.wrong(f"{quoted(text)} stands where a line that begins with # should")
            label, _, value = text[1:].partition("##")[0].partition(":")
            label = "".join(label.split()).lower()
            if label:
                return label, value.strip()
        return None

    def segment(self, version: int, irregular: bool) -> Segment:
        """Header and data of the segment that has just begun."""
        head: dict[str, str] = {}
        while True:
            entry = self.entry()
            if entry is None:
                raise self.wrong("ends within its header")
            label, value = entry
            words = "".join(value.lower().split())
            if label == "begin" and words.startswith("data"):
                break
            if label in head and label not in ("desc", "begin", "end", "title") and head[label] != value:
                raise self.wrong(f"{label} stands twice, as {quoted(head[label])} and {quoted(value)}")
            head[label] = value
        if words not in _BYTES:
            raise self.wrong(f"data as {quoted(value)} are unknown", "write them as text, binary 4 or binary 8")
        mesh = head.get("meshtype", "rectangular").lower()
        if irregular or mesh == "irregular":
            raise self.wrong("an irregular mesh has no lattice", "save the field on a rectangular mesh")
        if mesh != "rectangular":
            raise self.wrong(f"meshtype {quoted(mesh)} is unknown")
        dimension = head.get("valuedim", "3" if version == 1 else "")
        if self.count("valuedim", dimension) != 3:
            raise self.wrong(f"values of {quoted(dimension)} components", "name a vector field, of 3 components")
        nodes = tuple(self.count(f"{axis}nodes", head.get(f"{axis}nodes", "")) for axis in "xyz")
        steps = self.steps(head, nodes)
        multiplier = self.multiplier(head, version)

        values = self.numbers(nodes, _BYTES[words], ">" if version == 1 else "<")
        if multiplier != 1:
            with np.errstate(over="ignore"):
                values = values.astype(np.float64) * multiplier
        if not np.isfinite(values).all():
            bad = np.count_nonzero(~np.isfinite(values))
            raise self.wrong(f"{bad} of its {values.size} numbers are NaN or infinite")
        unit = head.get("valueunit", "") if version == 1 else _first_word(head.get("valueunits", ""))
        self.new_header()
        title, meshunit = head.get("title", ""), head.get("meshunit", "")
        return Segment(values.reshape(*nodes[::-1], 3), steps, plain(meshunit), plain(unit), plain(title))

    def count(self, label: str, value: str) -> int:
        if not re.fullmatch(r"\+?[0-9]{1,18}", value) or int(value) < 1:
            given = f"{label}={quoted(value)}" if value else f"no {label}"
            raise self.wrong(f"{given}, where a positive whole number should stand")
        return int(value)

    def steps(self, head: dict[str, str], nodes: tuple[int, ...]) -> tuple[float, float, float] | None:
        """The cell's sides: as given, or from the mesh's bounds, which Spirit leaves at zero."""
        found = []
        for axis, many in zip("xyz", nodes, strict=True):
            given = head.get(f"{axis}stepsize")
            if given is not None:
                step = self.number(f"{axis}stepsize", given)
                if not 0 < step < math.inf:
                    raise self.wrong(f"{axis}stepsize={quoted(given)}, where a positive length should stand")
            elif f"{axis}min" in head and f"{axis}max" in head:
                low, high = (self.number(f"{axis}{end}", head[f"{axis}{end}"]) for end in ("min", "max"))
                step = (high - low) / many
            else:
                return None
            found.append(step)
        x, y, z = found
        return (x, y, z) if all(0 < step < math.inf for step in found) else None

    def multiplier(self, head: dict[str, str], version: int) -> float:
        given = head.get("valuemultiplier", "1")
        factor = self.number("valuemultiplier", given)
        if not math.isfinite(factor) or factor == 0:
            raise self.wrong(f"valuemultiplier={quoted(given)}, where a finite number that is not 0 should stand")
        if version == 2 and factor != 1:
            raise self.wrong(f"valuemultiplier={quoted(given)}, which OVF 2.0 does not have", "write it as OVF 1.0")
        return factor

    def number(self, label: str, value: str) -> float:
        try:
            return float(value[:TOKEN])
        except ValueError as error:
            raise self.wrong(f"{label}={quoted(value)}, where a number should stand") from error

    def numbers(self, nodes: tuple[int, ...], width: int, order: str) -> np.ndarray:
        """The data block's 3 X Y Z numbers, and the end of the block passed."""
        count = 3 * math.prod(nodes)
        # of text every number takes a digit and a blank
        need = (count + 1) * width if width else 2 * count - 1
        left = self.size - self.handle.tell()
        if need > left:
            mesh = " × ".join(map(str, nodes))
            least = "" if width else "at least "
            raise self.wrong(
                f"{mesh} nodes need {least}{need} bytes, but {max(left, 0)} are left: cut off, or wrong counts"
            )
        self.new_header()
        if not width:
            return self.text(count)
        block = self.handle.read(need)
        if len(block) < need:
            raise self.wrong("ends within its data: cut off while it was read")
        values = np.frombuffer(block, f"{order}f{width}")
        if values[0] != CHECK[width]:
            swapped = values[:1].byteswap()[0] == CHECK[width]
            why = f"; its bytes stand the other way round, {'big' if order == '>' else 'little'}-endian is right here"
            raise self.wrong(f"check value {values[0]:.9g} instead of {CHECK[width]:.16g}{why if swapped else ''}")
        self.end_of_data()
        return values[1:].astype(f"f{width}")

    def end_of_data(self) -> None:
        entry = self.entry()
        if entry is None or entry[0] != "end" or not entry[1].lower().startswith("data"):
            raise self.wrong("no End line after its data: cut off, or node counts that are not the data's")

    def text(self, count: int) -> np.ndarray:
        values = np.empty(count)
        found = 0
        ended = False
        while not ended:
            begin = self.handle.tell()
            block = self.handle.read(TEXT_AT_ONCE)
            if not block.endswith(b"\n"):
                rest = self.handle.readline(TEXT_LINE)
                if len(rest) == TEXT_LINE and not rest.endswith(b"\n"):
                    raise self.wrong(f"a line of over {TEXT_LINE} bytes in its data")
                block += rest
            if not block:
                raise self.wrong(f"ends within its data, after {found} of {count} numbers")
            if b"#" in block:
                end = _END_OF_DATA.search(block)
                if end:
                    ended = True
                    line_end = block.find(b"\n", end.end()) + 1
                    self.handle.seek(begin + (line_end or len(block)))
                    block = block[: end.start()]
                block = _COMMENT.sub(b" ", block)
            tokens = block.split()
            if found + len(tokens) > count:
                raise self.wrong(f"more than {count} numbers in its data: wrong node counts")
            values[found : found + len(tokens)] = self.parsed(tokens)
            found += len(tokens)
        if found < count:
            raise self.wrong(f"{found} numbers in its data instead of {count}: cut off, or wrong node counts")
        return values

    def parsed(self, tokens: list[bytes]) -> list[float]:
        # Python's own reader would take 1_0 for 10
        wrong = next((token for token in tokens if len(token) > TOKEN or b"_" in token), None)
        if wrong is None:
            try:
                return list(map(float, tokens))
            except ValueError:
                wrong = next(token for token in tokens if not _is_number(token))
        raise self.wrong(f"{quoted(wrong.decode('utf-8', 'replace'))} among its data is no number")


def _is_number(token: bytes) -> bool:
    try:
        float(token)
    except ValueError:
        return False
    return True


def _first_word(text: str) -> str:
    """The first entry of a list such as ``A/m A/m A/m`` or ``{A/m} {A/m} {A/m}``."""
    found = re.match(r'\s*(?:\{([^{}]*)\}|"([^"]*)"|(\S+))', text)
    return next(filter(None, found.groups()), "") if found else ""


def plain(text: str) -> str:
    """Without what could steer a terminal, and short."""
    return "".join(filter(str.isprintable, text))[:400]


def quoted(text: str) -> str:
    """What a file says, fit for one line of a terminal."""
    return ascii(text if len(text) <= 40 else text[:40] + "…")
