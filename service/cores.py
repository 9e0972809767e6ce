"""How many cores this process may use: its affinity and its cgroup's quota, not the host's number."""

import math
import os
from pathlib import Path

_CGROUP = Path("/sys/fs/cgroup")


def count_cores(cgroup: Path = _CGROUP) -> int:
    """The cores that the process may keep busy, at least 1; half a core of quota counts as one."""
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _read_quota(cgroup)
    return affinity if quota is None else max(1, min(affinity, math.ceil(quota)))


def _read_quota(cgroup: Path) -> float | None:
    """Cores allowed by cgroup version 2 (`cpu.max`) or 1 (`cpu.cfs_*`); None: no limit is set."""
    try:
        if (cgroup / "cpu.max").exists():
            quota, period = (cgroup / "cpu.max").read_text().split()
        else:
            quota = (cgroup / "cpu" / "cpu.cfs_quota_us").read_text().strip()
            period = (cgroup / "cpu" / "cpu.cfs_period_us").read_text().strip()
        return None if quota in ("max", "-1") else float(quota) / float(period)
    except (OSError, ValueError, ZeroDivisionError):  # no cgroup, or one of another make
        return None
