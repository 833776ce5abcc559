"""Set before torch is imported: one thread a process, since tests run side by side, and threads that soon sleep.

And Ctrl-C heard, in processes started from here too, where a shell had it ignored (``make test &``).
"""

import os
import signal

os.environ.setdefault("GOMP_SPINCOUNT", "1000")
os.environ.setdefault("OMP_NUM_THREADS", "1")
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
