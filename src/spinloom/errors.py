"""The one exception for bad input: a line that names the thing, the value and the way out."""


class BadInput(ValueError):
    """A value the package refuses before any work starts; the command line prints it and exits with 2.

    The message is one line, ``thing=value: why; way out``, e.g.
    ``size=33: a periodic checkerboard needs even sides; use 32 or 34``.
    """
