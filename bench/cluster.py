"""A Ray cluster on this machine that serves the deployment of `deploy/ray`; for measurements and tests.

    python -m bench.cluster PORT MAX_REPLICAS    # 0 replicas: only the nodes

Its nodes have a core each and the address 127.0.0.2, so that all they say to each other stays on this machine
(127.0.0.1 Ray takes for its address in the network). It is a process of its own, which reads what to do:
`grow` starts the second node, `kill` ends it as a power cut does, the end of its input ends all. After each
it prints `done`, and first of all `at` and the address for RAY_ADDRESS.
"""

import os
import signal
import subprocess
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import yaml

from bench.servers import ROOT, free_port, processes

SERVE_YAML: Final = ROOT / "deploy" / "ray" / "serve.yaml"
_ADDRESS: Final = "127.0.0.2"
_NODE: Final = {
    "num_cpus": 1, "num_gpus": 0, "include_dashboard": False, "object_store_memory": 100_000_000,
    "node_ip_address": _ADDRESS,
}  # fmt: skip

Proxy = Literal["python", "haproxy"]
"""What stands between callers and replicas: Ray's own proxy, or HAProxy, which comes with Ray."""


@dataclass(frozen=True)
class Running:
    """A cluster that serves."""

    process: "subprocess.Popen[str]"
    port: int
    address: str

    def order(self, what: str) -> None:
        """Has it do `grow` or `kill`, and returns when that is done.

        Raises:
            RuntimeError: the cluster has ended.
        """
        assert self.process.stdin
        self.process.stdin.write(f"{what}\n")
        self.process.stdin.flush()
        _wait_for(self.process, "done")


def _wait_for(process: "subprocess.Popen[str]", word: str) -> str:
    """What the cluster says after `word`; raises RuntimeError where it has ended."""
    assert process.stdout
    for line in process.stdout:  # Ray writes here too
        first, _, rest = line.strip().partition(" ")
        if first == word:
            return rest
    raise RuntimeError("the cluster ended")


@contextmanager
def started_cluster(log: Path, proxy: Proxy = "python", *, max_replicas: int = 2) -> Iterator[Running]:
    """A cluster of one node that answers, or that does not serve at all; what it says is written to `log`."""
    port = free_port()
    own = {
        "PYTHONPATH": str(ROOT), "EYE2FACE_HOST": "127.0.0.1", "EYE2FACE_DEVICE": "cpu",
        "EYE2FACE_LOG_LEVEL": "warning", "EYE2FACE_MAX_WAIT_MS": "60000", "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_SERVE_ENABLE_HA_PROXY": "1" if proxy == "haproxy" else "0",
    }  # fmt: skip
    with log.open("ab") as said:
        process = subprocess.Popen(
            [sys.executable, "-m", "bench.cluster", str(port), str(max_replicas)], cwd=ROOT,
            env=os.environ | own, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=said,
        )  # fmt: skip
        try:
            address = _wait_for(process, "at")
            _wait_for(process, "done")
            yield Running(process, port, address)
        finally:
            left = processes(process.pid)
            process.communicate()  # closes its input
            for pid in filter(_is_rays, left):
                _kill(pid)


def main() -> None:
    """Keeps a cluster until its input ends."""
    port, max_replicas = map(int, sys.argv[1:])
    warnings.simplefilter("ignore")  # Ray's own
    import ray
    from ray import serve
    from ray.cluster_utils import Cluster

    from service.http.ray_serve import ScalingOptions, build

    cluster = Cluster(initialize_head=True, head_node_args=_NODE)
    print("at", cluster.address, flush=True)
    if max_replicas:
        ray.init(cluster.address, _node_ip_address=_ADDRESS, logging_level="warning", log_to_driver=False)
        (application,) = yaml.safe_load(SERVE_YAML.read_text())["applications"]
        serve.start(proxy_location="HeadOnly", http_options={"host": "127.0.0.1", "port": port})
        scale = ScalingOptions(**application["args"] | {"max_replicas": max_replicas})
        serve.run(build(scale), name=application["name"])
    print("done", flush=True)
    second: Any = None
    for order in sys.stdin:
        if order == "grow\n":
            second = cluster.add_node(**_NODE)
        else:
            for pid in _processes_of(second):
                _kill(pid)
            cluster.remove_node(second, allow_graceful=False)
        print("done", flush=True)
    if max_replicas:
        serve.shutdown()
        ray.shutdown()
    cluster.shutdown()


def _processes_of(node: Any) -> list[int]:
    """All processes of a node, the replica included."""
    roots = [info.process.pid for infos in node.all_processes.values() for info in infos]
    return [pid for root in roots for pid in (root, *processes(root))]


def _is_rays(pid: int) -> bool:
    """Whether the process with this ID is still one of Ray's, and not a later one."""
    try:
        return b"ray" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:  # it has ended by itself
        return


if __name__ == "__main__":
    main()
