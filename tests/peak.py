"""The peak memory of this process."""

from __future__ import annotations

import re
import resource
import sys
from pathlib import Path

_STATUS = Path("/proc/self/status")


def peak_bytes() -> int:
    """The most memory that this process had since it began, in bytes.

    On Linux `getrusage` counts from the peak of the process that started it.
    """
    if _STATUS.exists():
        (kilobytes,) = re.findall(r"VmHWM:\s+(\d+) kB", _STATUS.read_text(encoding="ascii"))
        return int(kilobytes) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
