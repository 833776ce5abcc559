"""Write docs/cli.md, the command line's reference, from the commands themselves."""

from pathlib import Path

from spinloom.cli import app

PAGE = Path(__file__).with_name("cli.md")


def reference() -> str:
    """The page."""
    return app.generate_docs(output_format="markdown") + "\n"


if __name__ == "__main__":
    PAGE.write_text(reference(), encoding="utf-8")
