"""An existing Ray cluster instead of the run's own: which one, and whether it can hold the run.

Nothing here imports Ray, which takes seconds; cluster_look.py looks at the cluster in a separate process.
"""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf, open_dict

from seg_zero.data.source import split_name
from seg_zero.errors import InputError
from seg_zero.segmenter.files import FORCE_TRANSFORMERS
from seg_zero.training.dialogue.scripts import dialogue_files
from seg_zero.training.environment import training_environment, worker_variables
from seg_zero.training.launch import checks
from seg_zero.training.row_files import names_of, open_all
from seg_zero.training.settings import QUESTIONS, MaskScorerSettings, read

OWN = "local"
# Settings of the run's own Ray; ray.init refuses them for an existing cluster.
_OWN_SETTINGS = ("num_cpus", "num_gpus", "object_store_memory", "include_dashboard", "resources", "labels")
# verl 0.9.1 books three CPUs with each GPU (ResourcePoolManager.max_colocate_count), and every other actor of a node
# needs one that is free while it starts.
CPUS_PER_WORKER, CPUS_TO_START = 3, 1
_LOOK_SECONDS = 240
_TOKEN = (
    "; it wants its token: copy ~/.ray/auth_token of its head to this machine (or set RAY_AUTH_TOKEN) and leave "
    "RAY_AUTH_MODE unset"
)


@dataclass(frozen=True)
class Asked:
    """What a run needs of a cluster. address: of :func:`address_of`.

    nodes, gpus: trainer.nnodes and trainer.n_gpus_per_node. paths: absolute, read on every node. token: a file that
    the launcher has just written into the run's folder. modules: with reward terms of the user's own. gpu_everywhere:
    actors that need a GPU may come to any node.
    """

    address: str
    nodes: int
    gpus: int
    paths: tuple[str, ...] = ()
    token: str | None = None
    modules: tuple[str, ...] = ()
    gpu_everywhere: bool = False

    @property
    def cpus(self) -> int:
        return CPUS_PER_WORKER * self.gpus + CPUS_TO_START


def address_of(config: DictConfig, environment: Mapping[str, str] = os.environ) -> str:
    """HOST:PORT or "auto" of the cluster to join, or "local" for the run's own Ray.

    ``ray_kwargs.ray_init.address`` decides, then RAY_ADDRESS; without both a run on several machines joins the cluster
    that was started on this one. Raises InputError for what cannot be joined.
    """
    given = config.ray_kwargs.ray_init.address
    name = "ray_kwargs.ray_init.address" if given else "RAY_ADDRESS"
    address = given or environment.get("RAY_ADDRESS") or (OWN if config.trainer.nnodes == 1 else "auto")
    if address == OWN and config.trainer.nnodes > 1:
        raise InputError(
            f"trainer.nnodes={config.trainer.nnodes} machines, but {name}=local starts Ray on this one alone; omit it, "
            "after `ray start --head` here and `ray start --address=HEAD:6379` on the others"
        )
    host, _, port = str(address).rpartition(":")
    if address not in (OWN, "auto") and ("//" in str(address) or not host or not port.isdigit()):
        raise InputError(
            f"{name}={address} is not HOST:PORT; give the address that `ray start --head` printed, e.g. 10.0.0.1:6379"
        )
    return str(address)


def choose(config: DictConfig, environment: Mapping[str, str] = os.environ) -> bool:
    """Write the address into ``config``, without settings of an own Ray if it joins a cluster; whether it does."""
    address, settings = address_of(config, environment), config.ray_kwargs.ray_init
    settings.address = address
    if address != OWN:
        with open_dict(settings):
            for key in _OWN_SETTINGS:
                settings.pop(key, None)
    return address != OWN


def use_absolute_names(config: DictConfig) -> None:
    """Name local data and SAM2 by absolute paths: processes of an existing cluster have another working directory."""
    for key in ("train_files", "val_files"):
        names = [_absolute(name) for name in names_of(config.data[key])]
        config.data[key] = names if OmegaConf.is_list(config.data[key]) else names[0]
    if config.dialogue.rows != QUESTIONS and config.dialogue.predictions is not None:
        config.dialogue.predictions = config.data.dialogue.predictions = _absolute(config.dialogue.predictions)
    scorer = config.reward.mask_scorer
    prefix, path = _segmenter_path(scorer.segmentation_model)
    if path.exists():
        scorer.segmentation_model = f"{prefix}{path.resolve()}"


def _segmenter_path(name: str) -> tuple[str, Path]:
    """The prefix of a segmenter's name that chooses its format, or "", and the rest as a path (it may be a hub id)."""
    prefix = FORCE_TRANSFORMERS if name.startswith(FORCE_TRANSFORMERS) else ""
    return prefix, Path(name.removeprefix(prefix)).expanduser()


def _absolute(name: str) -> str:
    base, _ = split_name(name)
    path = Path(base).expanduser()
    return f"{path.resolve()}{name[len(base) :]}" if path.exists() else name


def shared_paths(config: DictConfig) -> tuple[str, ...]:
    """Files and folders that processes on every node read: data, model, SAM2, the list of rollout loops."""
    if config.dialogue.rows == QUESTIONS:
        sources = open_all(config.data.train_files, True) + open_all(config.data.val_files, False)
        rows = [source.name for source in sources]
    else:
        files = (*dialogue_files(config.data.train_files), *dialogue_files(config.data.val_files))
        rows = [*map(str, files), *([config.dialogue.predictions] if config.dialogue.predictions else [])]
    found = [split_name(name)[0] for name in rows]
    found += [config.actor_rollout_ref.model.path, config.actor_rollout_ref.rollout.agent.agent_loop_config_path]
    segmenter = str(_segmenter_path(config.reward.mask_scorer.segmentation_model)[1])
    found += [segmenter, config.reward.custom_reward_function.path]
    return tuple(dict.fromkeys(path for path in found if os.path.isabs(path) and os.path.exists(path)))


def _own_modules(config: DictConfig) -> tuple[str, ...]:
    modules = (str(term.function).rpartition(".")[0] for term in config.reward.terms.values() if term.weight)
    return tuple(sorted({module for module in modules if module.partition(".")[0] not in ("rewards", "seg_zero")}))


def check_cluster(config: DictConfig, output: Path) -> str:
    """Look at the cluster and at every node of it; returns its HOST:PORT, and prints what it is.

    The run's folder ``output`` is made and a file written to it, to see whether every node finds it there; both are
    gone afterwards. Raises InputError for a cluster that does not answer, lacks GPUs or CPUs or has none free, for
    nodes with other versions, and for a path that a node does not have.
    """
    made = [path for path in (output, *output.parents) if not path.exists()]
    output.mkdir(parents=True, exist_ok=True)
    token = output / f".seen-by-all-{secrets.token_hex(8)}"
    segments = checks.segments_held_out(config) or any(term.needs_mask for term in checks.reward_terms(config))
    asked = Asked(
        address=config.ray_kwargs.ray_init.address,
        nodes=config.trainer.nnodes,
        gpus=config.trainer.n_gpus_per_node,
        paths=shared_paths(config),
        token=str(token),
        modules=_own_modules(config),
        gpu_everywhere=segments and read(config, MaskScorerSettings).device == "cuda",
    )
    try:
        token.touch()
        found = look(asked, training_environment(config, output))
    finally:
        token.unlink(missing_ok=True)
        for path in made:
            path.rmdir()
    problem = fault(asked, found)
    if problem is not None:
        raise InputError(problem)
    hosts = ", ".join(f"{node['name']} ({node['gpus']:g} GPUs)" for node in found["nodes"])
    print(f"joining the Ray cluster at {found['address']}: {hosts}", flush=True)
    return str(found["address"])


def look(asked: Asked, environment: Mapping[str, str]) -> dict[str, Any]:
    """What seg_zero/training/launch/cluster_look.py finds; raises InputError if it cannot look at all."""
    request = json.dumps({**asdict(asked), "cpus": asked.cpus, "variables": worker_variables(environment)})
    command = [sys.executable, "-m", "seg_zero.training.launch.cluster_look"]
    try:
        result = subprocess.run(
            command,
            input=request,
            env=dict(environment),
            capture_output=True,
            text=True,
            timeout=_LOOK_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise InputError(
            f"the Ray cluster at {asked.address} did not answer within {_LOOK_SECONDS} seconds; see `ray status`"
        ) from error
    lines = result.stdout.splitlines()
    answer = next((json.loads(line[6:]) for line in lines if line.startswith("FOUND ")), None)
    if answer is None:
        said = [line for line in result.stderr.splitlines() if line.strip()]
        raise InputError(f"the Ray cluster at {asked.address} cannot be used: {said[-1] if said else 'no answer'}")
    if "error" in answer:
        token = _TOKEN if "InvalidAuthToken" in result.stderr else ""
        raise InputError(answer["error"] + token)
    return dict(answer)


def _listed(nodes: Sequence[Mapping[str, Any]], prefix: str) -> str:
    parts = (f"{n['name']} {n[prefix + 'gpus']:g} GPUs and {n[prefix + 'cpus']:g} CPUs" for n in nodes)
    return "; ".join(parts)


def holding(nodes: Sequence[Mapping[str, Any]], gpus: int, cpus: int, prefix: str = "") -> int:
    """Nodes with that many GPUs and CPUs. prefix: "free_" counts only unreserved ones."""
    return sum(node[f"{prefix}gpus"] >= gpus and node[f"{prefix}cpus"] >= cpus for node in nodes)


def fault(asked: Asked, found: Mapping[str, Any]) -> str | None:
    """The first reason why a cluster cannot hold a run, in one line with the remedy; None if it can."""
    nodes: list[dict[str, Any]] = found["nodes"]
    wanted = f"{asked.nodes} node{'s' * (asked.nodes > 1)} with {asked.gpus} GPUs and {asked.cpus} CPUs each"
    where = f"the Ray cluster at {found['address']}"
    if holding(nodes, asked.gpus, asked.cpus) < asked.nodes:
        return (
            f"the run requests {wanted} (trainer.nnodes, trainer.n_gpus_per_node), {where} has: "
            f"{_listed(nodes, '')}; start Ray on more machines, or lower them"
        )
    for node in nodes:
        if "error" in node:
            return f"node {node['name']} of {where} does not answer: {node['error']}"
    here = next((node for node in nodes if node["id"] == found["here"]), None)
    if here is None or here["cpus"] < 1:
        return f"this machine is no node of {where} with a free CPU; start the run on one of its nodes"
    if found["other_run"]:
        return f"another training run uses {where}, and verl allows one at a time; wait for its end or stop it"
    if holding(nodes, asked.gpus, asked.cpus, "free_") < asked.nodes:
        return (
            f"the run requests {wanted}, but other jobs have booked parts of {where}; free are: "
            f"{_listed(nodes, 'free_')}; see `ray status`"
        )
    if asked.gpu_everywhere and any(node["gpus"] < 1 for node in nodes):
        name = next(node["name"] for node in nodes if node["gpus"] < 1)
        return (
            f"SAM2 is asked to use a GPU, but may come to node {name}, which has none; set "
            "reward.mask_scorer.device=cpu, or start Ray there with --num-cpus=0"
        )
    return next(filter(None, (_fault_of(node, here, asked) for node in nodes)), None)


def _fault_of(node: Mapping[str, Any], here: Mapping[str, Any], asked: Asked) -> str | None:
    """What a node lacks. here: the launcher's node, with which the others are compared."""
    name = node["name"]
    for package, version in here["versions"].items():
        other = node["versions"].get(package)
        if other != version:
            what = f"{package} {other}" if other else f"no {package}"
            return (
                f"node {name} has {what}, this machine {version or 'none'}; give all nodes the same environment and "
                "run `ray start` from it"
            )
    if node["code"] != here["code"]:
        return f"node {name} has other code of seg_zero, rewards or configs than this machine; bring it up to date"
    for path in asked.paths:
        if path in node["missing"]:
            return f"node {name} has no {path}; put it on a path that all nodes share, or give a hub id"
    if asked.token is not None and asked.token in node["missing"]:
        return (
            f"node {name} does not share {Path(asked.token).parent}, the run's folder, with this machine; set "
            "output_dir= to a folder that all nodes share"
        )
    for module in node["missing_modules"]:
        return (
            f"node {name} cannot import {module}, which a reward term names; put it on a path that all nodes share and "
            "start the run from there, or install it"
        )
    return None
