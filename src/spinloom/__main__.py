"""``python -m spinloom``."""

from spinloom.cli import main

main()
