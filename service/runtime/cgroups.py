"""Control groups: the folders whose limits hold for this process, in versions 1 and 2."""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

ROOT: Final = Path("/sys/fs/cgroup")
_OWN: Final = Path("/proc/self/cgroup")


def find_folders(controller: str, root: Path = ROOT, own: Path = _OWN) -> Iterator[Path]:
    """What is mounted, in a container its own group, and the group of this process with those above it.

    Of version 2 the folders under `root`, of version 1 those under `root`/`controller`; some may not exist.
    Source: cgroups(7).
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
