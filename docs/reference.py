"""Write docs/cli.md, the command line's reference, from the commands themselves."""

from pathlib import Path

from spinloom.cli import app

Path(__file__).with_name("cli.md").write_text(app.generate_docs(output_format="markdown") + "\n")
