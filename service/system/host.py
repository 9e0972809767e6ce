"""CPU cores that this process may use, by affinity and cgroup quota, and the cgroups that limit it."""

import math
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

CGROUP_ROOT: Final = Path("/sys/fs/cgroup")
_OWN_CGROUP: Final = Path("/proc/self/cgroup")


def count_cores(folders: Iterable[Path] | None = None) -> int:
    """The number of CPU cores that the process may use, at least 1; a quota is rounded up.

    `folders`: the cgroups whose quotas hold; by default those of this process.
    """
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quotas = [
        quota for folder in folders or cgroup_folders("cpu") if (quota := _read_quota(folder)) is not None
    ]
    return max(1, min(affinity, *map(math.ceil, quotas)) if quotas else affinity)


def cgroup_folders(controller: str, root: Path = CGROUP_ROOT, own: Path = _OWN_CGROUP) -> Iterator[Path]:
    """The folders of the cgroups whose limits hold for this process: its own and all above it.

    In version 2 these lie under `root`, in version 1 under `root`/`controller`; some may not exist. In a
    container the mounted root is its own group. Source: cgroups(7).
    """
    yield root
    yield root / controller
    try:
        lines = own.read_text().splitlines()
    except OSError:  # no Linux
        return
    for line in lines:
        hierarchy, controllers, group = line.split(":", 2)
        if hierarchy == "0" or controller in controllers.split(","):
            mounted = root if hierarchy == "0" else root / controller
            path = Path(group.lstrip("/"))
            yield from (mounted / each for each in (path, *path.parents))


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
