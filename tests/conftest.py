"""Set before torch is imported: its threads sleep at barriers, so that tests share cores with others."""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "passive")
