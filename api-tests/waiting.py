"""Waiting for what must come to be, for as long as the busiest machine may need: who waits for an event or a
state loses nothing by patience. Times are asserted from below, or against others of the same run.

PATIENCE says how many seconds that is (60).
"""

import os
import time

PATIENCE = float(os.environ.get("PATIENCE", "60"))


def wait_until(true, seen=None):
    """Asks until the answer is true, and returns it; seen() is what to show of an answer that stays untrue."""
    end = time.monotonic() + PATIENCE
    while not (value := true()):
        assert time.monotonic() < end, seen() if seen else "it never came true"
        time.sleep(0.01)
    return value
