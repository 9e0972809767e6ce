"""How many cores this process may use: its affinity and its cgroup's quota, not the host's number."""

import math
import os
from collections.abc import Iterable
from pathlib import Path

from service.runtime.cgroups import find_folders


def count_cores(cgroups: Iterable[Path] | None = None) -> int:
    """The cores that the process may keep busy, at least 1; half a core of quota counts as one.

    `cgroups`: the folders whose quotas hold.
    """
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quotas = [
        quota for folder in cgroups or find_folders("cpu") if (quota := _read_quota(folder)) is not None
    ]
    return max(1, min(affinity, *map(math.ceil, quotas)) if quotas else affinity)


def _read_quota(folder: Path) -> float | None:
    """Cores allowed by cgroup version 2 (`cpu.max`) or 1 (`cpu.cfs_*`); None: no limit is set."""
    try:
        if (folder / "cpu.max").exists():
            quota, period = (folder / "cpu.max").read_text().split()
        else:
            quota = (folder / "cpu.cfs_quota_us").read_text().strip()
            period = (folder / "cpu.cfs_period_us").read_text().strip()
        return None if quota in ("max", "-1") else float(quota) / float(period)
    except (OSError, ValueError, ZeroDivisionError):  # no cgroup, or one of another make
        return None
