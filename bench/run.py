"""The benchmark: floor, this service and its peers, interleaved in one run on this machine.

    python -m bench.run --rounds 5 --seconds 10          everything; about two hours
    python -m bench.run --rounds 1 --seconds 1 --only eye2face,mosec

In each round every contender is started anew and asked for both photos; the floor of a photo is measured
beside each. Writes bench/results.json; `python -m bench.table` makes the table of docs/benchmarks.md of it.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from bench.photos import write_photos
from bench.servers import (
    CONTENDERS,
    MALLOC,
    PEERS_PYTHON,
    ROOT,
    Contender,
    measure_usage,
    start_server,
    wait_until_answering,
)
from bench.workload import Model
from service.system.host import count_cores

RESULTS: Final = ROOT / "bench" / "results.json"
_MODELS: Final[tuple[Model, ...]] = ("standin", "cpu")


@dataclass(frozen=True, slots=True)
class Plan:
    """What one run of the benchmark measures."""

    rounds: int
    seconds: float
    warm_s: float
    connections: list[int]
    models: list[Model]
    contenders: list[Contender]
    photos: dict[str, Path]


def measure(plan: Plan, log: Path) -> Iterator[dict[str, Any]]:
    """One record for each contender, photo and number of connections, in each round."""
    for number in range(plan.rounds):
        for model in plan.models:
            for photo in plan.photos:
                yield _note(number, "floor", model, photo, 0) | _measure_floor(plan, model, photo)
            turned = plan.contenders[number % len(plan.contenders) :]
            for contender in turned + plan.contenders[: number % len(plan.contenders)]:
                yield from _measure_contender(plan, number, contender, model, log)


def _measure_contender(
    plan: Plan, number: int, contender: Contender, model: Model, log: Path
) -> Iterator[dict[str, Any]]:
    begin = time.monotonic()
    with start_server(contender, model, log) as (port, session):
        problem = wait_until_answering(port, session)
        start_s = time.monotonic() - begin
        for photo, path in plan.photos.items():
            for num_connections in plan.connections:
                note = _note(number, contender.name, model, photo, num_connections) | {"start_s": start_s}
                if problem:
                    yield note | {"failed": problem}
                    continue
                yield note | ask(contender, (port, session), path, connections=num_connections,
                                 warm_s=plan.warm_s, seconds=plan.seconds)  # fmt: skip


def ask(
    contender: Contender,
    served: tuple[int, int],
    photo: Path,
    *,
    connections: int,
    warm_s: float,
    seconds: float,
) -> dict[str, Any]:
    """What the load tells of a server, and the CPU time, page faults and memory that its processes took.

    `served` is its port and its first process.
    """
    port, session = served
    before = measure_usage(session)
    told = _run("bench.load", str(port), contender.path, str(photo), "--form", contender.form,
                "--connections", str(connections), *_times(warm_s, seconds))  # fmt: skip
    after = measure_usage(session)
    num_answers = max(1, told["num_good"] * (warm_s + seconds) / seconds)
    return told | {
        "cpu_ms": (after.cpu_s - before.cpu_s) * 1000 / num_answers,
        "num_faults": (after.num_faults - before.num_faults) / num_answers,
        "memory_mb": after.memory_mb,
    }


def _measure_floor(plan: Plan, model: Model, photo: str) -> dict[str, Any]:
    asked = ["bench.floor", str(plan.photos[photo]), "--model", model, *_times(plan.warm_s, plan.seconds)]
    several, alone = _run(*asked), _run(*asked, "--threads", "1")
    return several | {"alone_p50_ms": alone["p50_ms"]}


def _times(warm_s: float, seconds: float) -> tuple[str, ...]:
    return ("--warm", str(warm_s), "--seconds", str(seconds))


def _note(number: int, contender: str, model: Model, photo: str, num_connections: int) -> dict[str, Any]:
    return {
        "round": number, "contender": contender, "model": model, "photo": photo,
        "connections": num_connections,
    }  # fmt: skip


def _run(module: str, *arguments: str) -> dict[str, Any]:
    """What a module of the bench prints."""
    command = [sys.executable, "-m", module, *arguments]
    done = subprocess.run(
        command, cwd=ROOT, env=os.environ | MALLOC, capture_output=True, text=True, timeout=600, check=False
    )
    if done.returncode:
        raise SystemExit(f"{module} failed: {done.stderr[-1000:]}")
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def write_results(told: dict[str, Any]) -> str:
    """JSON with a line for each fact and each record."""
    facts = [f"{json.dumps(name)}: {json.dumps(fact)}" for name, fact in told.items() if name != "records"]
    records = ",\n".join(json.dumps(each) for each in told["records"])
    return "{\n" + ",\n".join(facts) + f',\n"records": [\n{records}\n]\n}}\n'


def _describe_machine() -> dict[str, Any]:
    names = ("fastapi", "starlette", "uvicorn", "litserve", "mosec", "bentoml", "nvidia-pytriton",
             "onnxruntime", "numpy")  # fmt: skip
    code = (
        "import importlib.metadata as m, json, sys\n"
        "sys.path.append(f'{sys.prefix}/triton')\n"
        "installed = {d.name: d.version for d in reversed(list(m.distributions()))}\n"
        "print(json.dumps({n: installed[n] for n in sys.argv[1:] if n in installed}))"
    )
    peers = subprocess.run([PEERS_PYTHON, "-c", code, *names], capture_output=True, text=True, check=False)
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    cpu = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), "unknown")
    return {
        "cpu": cpu,
        "cores": count_cores(),
        "python": platform.python_version(),
        "load_before": os.getloadavg()[0],
        "ours": {name: version(name) for name in ("fastapi", "uvicorn", "onnxruntime", "numpy")},
        "peers": json.loads(peers.stdout or "{}"),
    }


def main() -> None:
    """Measures, and writes bench/results.json."""
    parser = argparse.ArgumentParser(description="How fast the service is beside its floor and its peers.")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--warm", type=float, default=2)
    parser.add_argument("--connections", type=int, nargs="+", default=[1, 32])
    parser.add_argument("--models", nargs="+", choices=_MODELS, default=list(_MODELS))
    parser.add_argument("--only", default="", help="beginnings of names of contenders, separated by commas")
    parser.add_argument("--out", type=Path, default=RESULTS)
    given = parser.parse_args()
    wanted = [
        each for each in CONTENDERS if any(each.name.startswith(name) for name in given.only.split(","))
    ]
    with tempfile.TemporaryDirectory() as folder:
        plan = Plan(given.rounds, given.seconds, given.warm, given.connections, given.models, wanted,
                    write_photos(Path(folder)))  # fmt: skip
        told = {"machine": _describe_machine(), "rounds": given.rounds, "seconds": given.seconds,
                "contenders": [asdict(each) for each in wanted], "records": []}  # fmt: skip
        for record in measure(plan, given.out.with_suffix(".log")):
            print(json.dumps(record), flush=True)
            told["records"].append(record)
            given.out.write_text(write_results(told))


if __name__ == "__main__":
    main()
