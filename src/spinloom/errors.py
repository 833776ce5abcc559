"""The one exception for bad input: a line that names the thing, the value and the way out."""

import operator
from typing import Any


class BadInput(ValueError):
    """A value the package refuses before any work starts; the command line prints it and exits with 2.

    The message is one line, ``thing=value: why; way out``, e.g.
    ``size=33: a periodic checkerboard needs even sides; use 32 or 34``.
    """


def whole(name: str, value: Any) -> int:
    """``value`` as an int, NumPy's whole numbers included.

    Raises:
        BadInput: it is not a whole number.
    """
    try:
        return operator.index(value)
    except TypeError:
        raise BadInput(f"{name}={value}: must be a whole number; use e.g. {name}=10") from None
