"""Whole files or none: write beside, fsync, rename. Any number of processes and machines may do so at once."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
import platform
import re
import secrets
import shutil
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from spinloom.errors import BadInput

ABANDONED_AFTER = 24 * 3600
"""Seconds after which a partial file of another machine, untouched since, counts as left behind."""

_PARTIAL = re.compile(r"\.(?P<of>.+)\.(?P<machine>[0-9a-f]{8})-(?P<process>\d+)-[0-9a-f]{8}\.partial")


def beside(path: Path) -> Path:
    """A hidden name beside ``path`` that no other writer uses, on this machine or another."""
    return path.with_name(f".{path.name}.{_machine()}-{os.getpid()}-{secrets.token_hex(4)}.partial")


@functools.cache
def _machine() -> str:
    """Eight digits for where a process's number means something: the host and, in a container, its own count."""
    try:
        numbering = str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        numbering = ""
    return hashlib.sha256(f"{platform.node()} {numbering}".encode()).hexdigest()[:8]


def abandoned(partial: Path) -> bool:
    """Whether nobody goes on with what :func:`beside` named: its process has ended, or a day has passed.

    The second is for the writers of other machines, of which nothing is known here.
    """
    name = _PARTIAL.fullmatch(partial.name)
    if name and name["machine"] == _machine() and not _alive(int(name["process"])):
        return True
    try:
        return time.time() - partial.stat().st_mtime > ABANDONED_AFTER
    except OSError:
        return False  # gone meanwhile


def tidy(path: Path) -> None:
    """Take away what killed writers of ``path``, a file or a folder, left beside it."""
    for file in path.parent.iterdir():
        name = _PARTIAL.fullmatch(file.name)
        if name and name["of"] == path.name and abandoned(file):
            if file.is_dir():
                shutil.rmtree(file, ignore_errors=True)
            else:
                _take_away(file)


def _alive(process: int) -> bool:
    if os.name != "posix":
        return True  # signal 0 is no mere question elsewhere
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True


def write_bytes(path: Path | str, content: bytes) -> None:
    """Write ``content`` to ``path`` so that a reader, or a crash, sees the old file or the new one whole.

    Raises:
        BadInput: the folder is missing, the disk is full, or writing is not allowed.
    """
    path = Path(path)
    _write(path, content, lambda partial: partial.replace(path))


def write_lines(path: Path | str, values: Iterable[Any]) -> None:
    """:func:`write_bytes` of JSON values, a line each."""
    write_bytes(path, "".join(json.dumps(value) + "\n" for value in values).encode())


def read_lines(path: Path) -> list[Any]:
    """The JSON values of a file's lines, none if there is no file; a last line cut short by a kill is left out."""
    values = []
    for line in path.read_text().splitlines() if path.exists() else []:
        try:
            values.append(json.loads(line))
        except ValueError:
            break
    return values


def write_new_bytes(path: Path | str, content: bytes) -> bool:
    """:func:`write_bytes` if there is no such file yet. Of many callers at once it is one that makes it: True.

    Raises:
        BadInput: as :func:`write_bytes`.
    """
    path = Path(path)
    made = True

    def link(partial: Path) -> None:
        nonlocal made
        try:
            path.hardlink_to(partial)
        except FileExistsError:
            made = False
        except FileNotFoundError:
            raise
        except OSError:  # a file system without hard links: nearly as good
            made = not path.exists()
            if made:
                partial.replace(path)
                return
        partial.unlink(missing_ok=True)

    _write(path, content, link)
    return made


def _write(path: Path, content: bytes, name: Callable[[Path], Any]) -> None:
    """The content in a file beside ``path``, on the disk, and ``name(file)`` to give it its name."""
    for last in (False, False, True):
        partial = beside(path)
        try:
            with partial.open("xb") as handle:
                handle.write(content)
                handle.flush()
                os.fsync(handle.fileno())
            name(partial)
            break
        except OSError as error:
            _take_away(partial)
            # somebody who tidied up may have taken it for a file left behind: then once more
            if last or not isinstance(error, FileNotFoundError) or not path.parent.is_dir():
                raise BadInput(
                    f"{path}: cannot be written ({error.strerror}); free the disk or name another folder"
                ) from error
        except BaseException:
            _take_away(partial)
            raise
    sync_folder(path.parent)


def _take_away(file: Path) -> None:
    with contextlib.suppress(OSError):
        file.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Make a rename in ``folder`` survive a power cut (a no-op where folders cannot be opened)."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(handle)
    except OSError:
        pass  # some network file systems refuse; the rename itself has happened
    finally:
        os.close(handle)


def write_text(path: Path | str, content: str) -> None:
    """:func:`write_bytes` of UTF-8 text."""
    write_bytes(path, content.encode())


def write_json(path: Path | str, content: Any) -> None:
    """:func:`write_bytes` of indented JSON; NaN and infinities are refused, as JSON has none."""
    write_text(path, _as_text(content))


def write_new_json(path: Path | str, content: Any) -> bool:
    """:func:`write_new_bytes` of the same text."""
    return write_new_bytes(path, _as_text(content).encode())


def pinned(path: Path, content: Any, what: str) -> Any:
    """What the JSON file ``path`` holds: ``content``, if this call is the first of any number to write it.

    Its folder is ``what`` ("a folder of trials"), made if need be.

    Raises:
        BadInput: the folder has no such file but holds something else, is a file, or cannot be used.
    """
    folder = path.parent
    while not path.is_file():
        try:
            folder.mkdir(parents=True, exist_ok=True)
            strangers = sorted(file.name for file in folder.iterdir() if not _PARTIAL.fullmatch(file.name))
        except FileExistsError:
            raise BadInput(f"{folder}: exists and is not {what}; use another folder") from None
        except OSError as error:
            raise BadInput(f"{folder}: cannot be used ({error.strerror}); name another folder") from error
        if path.is_file():  # another process's, since the loop looked
            break
        if strangers:
            raise BadInput(f"{folder}: exists, holds {strangers[0]} and is not {what}; use another folder")
        write_new_json(path, content)
    return read_json(path)


def _as_text(content: Any) -> str:
    return json.dumps(content, indent=1, allow_nan=False) + "\n"


def read_json(path: Path | str) -> Any:
    """Read JSON.

    Raises:
        BadInput: the file is missing or is not JSON.
    """
    path = Path(path)
    try:
        return json.loads(path.read_text())
    except OSError as error:
        raise BadInput(f"{path}: cannot be read ({error.strerror}); check the path") from error
    except (ValueError, RecursionError) as error:
        raise BadInput(f"{path}: is not JSON ({error}); make the file again") from error
