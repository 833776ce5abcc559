"""Set before torch is imported: its threads soon sleep at barriers, so that tests share cores with others."""

import os

os.environ.setdefault("GOMP_SPINCOUNT", "1000")
