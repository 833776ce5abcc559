"""All figures of a finished folder with their own settings, and the folder's report.html with them in it.

A figure that is there already is drawn again, from what is kept beside it.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import fig1
import fig2
import fig3
import fig4
import fig5
import fig6
from folder import FIGURES, RESULTS, Folder, parser

from spinloom.errors import BadInput
from spinloom.report import write_report, write_trials_report

FIGURES_IN_ORDER = (fig1, fig2, fig3, fig4, fig5, fig6)


def main(arguments: Sequence[str] | None = None) -> None:
    given = parser(__doc__ or "").parse_args(arguments)
    options = [str(given.folder), *(["--out", str(given.out)] if given.out else [])]
    for figure in FIGURES_IN_ORDER:
        figure.main(options)
    try:
        folder = Folder.open(given.folder, given.out)
        if folder.out == folder.path / FIGURES:
            write = write_report if folder.trials is None else write_trials_report
            print(write(folder.path))
    except BadInput as error:
        print(f"{RESULTS}: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
