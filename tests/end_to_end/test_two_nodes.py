"""A run on two Ray nodes that somebody else started: both on this machine, each with one logical GPU."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from helpers import background
from helpers.background import Background, needs
from helpers.training_runs import launch_command, write_scenes

from seg_zero.training.environment import VISIBLE_GPUS

HEAD, WORKER = "127.0.0.2", "127.0.0.3"

pytestmark = pytest.mark.timeout(900)

# What the cluster is doing, as Ray keeps it: living actors and placement groups, GPUs that nobody has booked, and
# which nodes had an FSDP worker.
STATE = """
import json, ray, sys
from ray._private.state import actors, available_resources_per_node
from ray.util import placement_group_table
ray.init(address=sys.argv[1], log_to_driver=False)
all_actors = list(actors().values())
name = {node["NodeID"]: node["NodeManagerAddress"] for node in ray.nodes() if node["Alive"]}
print("STATE" + json.dumps({
    "nodes": sorted(name.values()),
    "actors": [a["ActorClassName"] for a in all_actors if a["State"] != "DEAD"],
    "groups": [g["state"] for g in placement_group_table().values() if g["state"] != "REMOVED"],
    "free": sum(node.get("GPU", 0) for node in available_resources_per_node().values()),
    "workers": sorted(name[a["Address"]["NodeID"]] for a in all_actors if "WorkerDict" in a["ActorClassName"]),
}))
"""


def wait_for(condition: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.2)
    return True


def environment(**more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name not in ("RAY_ADDRESS", VISIBLE_GPUS)}
    return {**kept, "RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0", **more}


def start_node(log: Path, *options: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block", "--num-cpus=5", "--num-gpus=1"]
    command += ["--object-store-memory=200000000", "--disable-usage-stats", *options]
    with log.open("wb") as stream:
        return subprocess.Popen(
            command, cwd="/", env=environment(), stdout=stream, stderr=subprocess.STDOUT, start_new_session=True
        )


def free_ports(count: int) -> list[int]:
    """Below the range that Ray gives to its workers."""
    found = []
    for port in range(7400, 9900):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("", port))
            found.append(port)
        if len(found) == count:
            return found
    raise AssertionError("no free ports")


@contextlib.contextmanager
def two_nodes(folder: Path) -> Iterator[str]:
    """The address of a cluster; its logs are in ``folder``."""
    sessions = Path(f"/tmp/two_nodes_{os.getpid()}")  # Ray's sockets lie there, and their names must be short
    port, client_port = free_ports(2)
    found = f"{HEAD}:{port}"
    started = [
        start_node(
            folder / "head.log",
            "--head",
            f"--node-ip-address={HEAD}",
            f"--port={port}",
            f"--temp-dir={sessions}",
            f"--ray-client-server-port={client_port}",
            "--include-dashboard=false",
        )
    ]
    try:
        assert wait_for(lambda: "Ray runtime started" in (folder / "head.log").read_text(), 60)
        started.append(start_node(folder / "worker.log", f"--node-ip-address={WORKER}", f"--address={found}"))
        assert wait_for(lambda: "Ray runtime started" in (folder / "worker.log").read_text(), 60)
        yield found
    finally:
        below = [process for node in started for process in psutil.Process(node.pid).children(recursive=True)]
        for node in started:
            node.terminate()
        _, left = psutil.wait_procs(below, timeout=20)
        for process in left:
            process.kill()
        shutil.rmtree(sessions, ignore_errors=True)


def state(address: str) -> dict[str, Any]:
    command = [sys.executable, "-c", STATE, address]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment(), check=True)
    return next(json.loads(line[5:]) for line in result.stdout.splitlines() if line.startswith("STATE"))


def ended_run(folder: Path) -> Path:
    """The checkpoint of a run on two nodes, which is ended; checks what the cluster was doing during and after."""
    with two_nodes(folder) as address:
        return end_a_run(address, folder)


def end_a_run(address: str, folder: Path) -> Path:
    scenes, out = write_scenes(folder, 16), folder / "run"
    command = launch_command(scenes, out)
    command += ["data.train_batch_size=4", "worker.rollout.n=4", "trainer.test_freq=-1", "trainer.save_freq=2"]
    command += ["worker.actor.micro_batch_size_per_device_for_update=4", "trainer.val_before_train=false"]
    command += ["worker.actor.micro_batch_size_per_device_for_experience=4", "trainer.total_training_steps=400"]
    settings = environment(RAY_ADDRESS=address, NCCL_TEST="forwarded", WANDB_API_KEY="not-for-logs")

    refused = background.run([*command, "trainer.nnodes=4"], 120, settings)
    assert refused.returncode == 2 and not out.exists(), refused.stderr
    assert f"has: {HEAD} 1 GPUs and 5 CPUs; {WORKER} 1 GPUs and 5 CPUs" in refused.stderr

    run = background.start([*command, "trainer.nnodes=2"], env=settings)
    try:
        checkpoint = out / "checkpoints" / "global_step_2"
        assert wait_for(lambda: checkpoint.is_dir() or run.poll() is not None, 300)
        busy = state(address)
        assert run.poll() is None, run.communicate()[0]
    finally:
        run.send_signal(signal.SIGTERM)  # asks for the end of the step
        time.sleep(0.3)
        run.send_signal(signal.SIGTERM)  # does not wait for it
    text = run.communicate(timeout=60)[0]
    assert run.returncode == 128 + signal.SIGTERM, text
    assert f"joining the Ray cluster at {address}" in text and "step 2/400" in text
    assert busy["workers"] == [HEAD, WORKER] and busy["free"] == 0
    log = (out / "train.log").read_text()
    assert "'NCCL_TEST': 'forwarded'" in log and "not-for-logs" not in log

    idle = busy
    deadline = time.monotonic() + 40
    while idle["actors"] or idle["groups"] or idle["free"] < 2:
        assert time.monotonic() < deadline, idle
        idle = state(address)
    assert idle["nodes"] == [HEAD, WORKER]
    return checkpoint


@needs(ended_run)
def test_a_run_on_two_nodes_that_is_ended_leaves_the_cluster_as_it_was(finished: Background, tmp_path: Path) -> None:
    """Each node gets a worker; steps are made and a checkpoint of two shards merges; nothing of the run is left."""
    from safetensors import safe_open

    from seg_zero.export.merge import merge

    checkpoint = finished(ended_run)
    shards = sorted(path.name for path in (checkpoint / "actor").glob("model_*"))
    assert shards == [f"model_world_size_2_rank_{rank}.pt" for rank in (0, 1)]
    merged = merge(checkpoint, tmp_path / "merged")
    with safe_open(merged / "model.safetensors", "pt") as weights:
        assert len(weights.keys()) > 50
