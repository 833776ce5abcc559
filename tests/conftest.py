"""Set before torch is imported: one thread a process, since tests run side by side, and threads that soon sleep."""

import os

os.environ.setdefault("GOMP_SPINCOUNT", "1000")
os.environ.setdefault("OMP_NUM_THREADS", "1")
