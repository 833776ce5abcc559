"""Whole files or none: write beside, fsync, rename."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from spinloom.errors import BadInput


def write_bytes(path: Path | str, content: bytes) -> None:
    """Write ``content`` to ``path`` so that a reader, or a crash, sees the old file or the new one whole.

    Raises:
        BadInput: the folder is missing, the disk is full, or writing is not allowed.
    """
    path = Path(path)
    beside = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with beside.open("wb") as handle:
            handle.write(content)
            handle.flush()
            os.fsync(handle.fileno())
        beside.replace(path)
    except OSError as error:
        beside.unlink(missing_ok=True)
        raise BadInput(f"{path}: cannot be written ({error.strerror}); free the disk or name another folder") from error
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


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
    write_text(path, json.dumps(content, indent=1, allow_nan=False) + "\n")


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
    except ValueError as error:
        raise BadInput(f"{path}: is not JSON ({error}); make the file again") from error
