"""The one exception for bad input: a line that names the thing, the value and the way out."""

import math
import numbers
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


def real(value: Any, most: float = 1e300) -> float:
    """``value`` as a float, NumPy's scalars included; NaN if it is no real number, not finite, or beyond ±``most``."""
    if not isinstance(value, numbers.Real) or isinstance(value, bool):
        return math.nan
    size: Any = value.item() if hasattr(value, "item") else value  # pyright: ignore[reportAttributeAccessIssue]
    # compared before it is converted: a whole number may be too large for a float
    return float(size) if -most <= size <= most else math.nan
