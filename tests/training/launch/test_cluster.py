"""Which Ray a run uses, what it tells the workers, and what is found wrong with a cluster before anything starts."""

from __future__ import annotations

import copy
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from seg_zero.data.synthetic.rows import write_split
from seg_zero.errors import InputError
from seg_zero.training.environment import training_environment, worker_variables
from seg_zero.training.launch import checks, cluster, cluster_look, plan, start
from seg_zero.training.launch.config import load_config

TINY = ["policy=tiny", "data=synthetic", "hardware=cpu_2core", "schedule=tiny"]


@pytest.mark.parametrize(
    ("overrides", "environment", "address"),
    [
        ("", {}, "local"),
        ("trainer.nnodes=2", {}, "auto"),
        ("", {"RAY_ADDRESS": "10.0.0.1:6379"}, "10.0.0.1:6379"),
        ("ray_kwargs.ray_init.address=auto", {"RAY_ADDRESS": "10.0.0.1:6379"}, "auto"),
        ("ray_kwargs.ray_init.address=local", {"RAY_ADDRESS": "10.0.0.1:6379"}, "local"),
        ("hardware=2x8x80g", {}, "auto"),
    ],
)
def test_which_ray_is_used(overrides: str, environment: dict[str, str], address: str) -> None:
    """An own Ray gets the layout's resources; one that stands has its own."""
    config = load_config([*TINY, *overrides.split()])
    assert cluster.choose(config, environment) == (address != "local")
    settings = config.ray_kwargs.ray_init
    assert settings.address == address
    assert ("num_gpus" in settings) == (address == "local")


@pytest.mark.parametrize(
    ("overrides", "environment", "message"),
    [
        ("trainer.nnodes=2 ray_kwargs.ray_init.address=local", {}, "trainer.nnodes=2 machines, but ray_kwargs"),
        ("", {"RAY_ADDRESS": "ray://10.0.0.1:10001"}, "RAY_ADDRESS=ray://10.0.0.1:10001 is not HOST:PORT"),
        ("ray_kwargs.ray_init.address=head", {}, "ray_kwargs.ray_init.address=head is not HOST:PORT"),
    ],
)
def test_addresses_that_cannot_be_joined(overrides: str, environment: dict[str, str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        cluster.address_of(load_config([*TINY, *overrides.split()]), environment)


def test_a_cluster_that_does_not_answer_ends_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    rows, out = tmp_path / "rows.parquet", tmp_path / "runs" / "out"
    write_split(rows, seed=4, count=16)
    monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{port}")
    began = time.monotonic()
    with pytest.raises(InputError, match=f"no Ray cluster answers at .*:{port} ") as error:
        start.launch([*TINY, f"data.train_files={rows}", f"data.val_files={rows}", f"output_dir={out}"])
    assert "\n" not in str(error.value) and time.monotonic() - began < 60
    assert not out.parent.exists()


def test_gpus_of_a_cluster_are_not_counted_here(monkeypatch: pytest.MonkeyPatch) -> None:
    config = load_config([*TINY, "hardware=2x8x80g", "trainer.device=cuda"])
    with pytest.raises(InputError, match="requests 8 GPUs, this machine has 0"):
        checks.check_devices(config, gpus=lambda: 0)
    cluster.choose(config, {})
    checks.check_devices(config, gpus=lambda: 0)
    assert any("Joins the Ray cluster started on this machine" in line for line in plan._here_lines(config))


def test_what_workers_on_other_machines_are_told(tmp_path: Path) -> None:
    """What the run needs and what the user says about the network, but no secret and no address of one machine."""
    config = load_config(TINY)
    given = {"NCCL_SOCKET_IFNAME": "eth1", "GLOO_SOCKET_IFNAME": "eth1", "HF_HOME": "/shared/hf", "PATH": "/bin"}
    secret = {"HF_TOKEN": "a", "WANDB_API_KEY": "b", "VLLM_API_KEY": "c", "VLLM_HOST_IP": "10.0.0.1", "AWS_SECRET": "d"}
    cluster.choose(config, {"RAY_ADDRESS": "10.0.0.1:6379"})
    told = worker_variables(training_environment(config, tmp_path, {**given, **secret, "TOKENIZERS_PARALLELISM": "1"}))
    assert {"NCCL_SOCKET_IFNAME", "GLOO_SOCKET_IFNAME", "HF_HOME", "TOKENIZERS_PARALLELISM"} <= set(told)
    assert told["VERL_PLATFORM"] == "cpu" and told["PYTHONPATH"].startswith("/")
    assert not {*secret, "PATH"} & set(told)


def test_workers_keep_the_priority_of_the_launcher_unless_the_user_says_otherwise(tmp_path: Path) -> None:
    config = load_config(TINY)
    cluster.choose(config, {})
    assert training_environment(config, tmp_path, {})["RAY_worker_niceness"] == "0"
    assert training_environment(config, tmp_path, {"RAY_worker_niceness": "5"})["RAY_worker_niceness"] == "5"


def test_a_token_for_ray_is_offered(tmp_path: Path) -> None:
    own, joined = load_config(TINY), load_config(TINY)
    cluster.choose(own, {})
    cluster.choose(joined, {"RAY_ADDRESS": "10.0.0.1:6379"})
    environment = {"RAY_AUTH_TOKEN": "x"}
    assert training_environment(joined, tmp_path, environment)["RAY_AUTH_MODE"] == "token"
    assert "RAY_AUTH_MODE" not in training_environment(own, tmp_path, environment)
    disabled = {**environment, "RAY_AUTH_MODE": "disabled"}
    assert training_environment(joined, tmp_path, disabled)["RAY_AUTH_MODE"] == "disabled"


def test_data_and_sam2_are_named_absolutely(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_split(tmp_path / "rows.parquet", seed=4, count=3)
    monkeypatch.chdir(tmp_path)
    config = load_config([*TINY, "data.train_files=[rows.parquet,user/name@train]", "data.val_files=rows.parquet"])
    cluster.use_absolute_names(config)
    assert list(config.data.train_files) == [str(tmp_path / "rows.parquet"), "user/name@train"]
    assert config.data.val_files == str(tmp_path / "rows.parquet")
    local = load_config([*TINY, *[f"data.{key}_files={tmp_path / 'rows.parquet'}" for key in ("train", "val")]])
    start.resolve_policy(local)
    start.resolve_agent_loops(local)
    shared = cluster.shared_paths(local)
    assert {str(tmp_path / "rows.parquet"), local.actor_rollout_ref.model.path} < set(shared)
    assert any(path.endswith("agent_loops.yaml") for path in shared)


def test_a_segmenter_in_the_other_format_is_named_absolutely(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nodes have other working directories; what follows "transformers:" is a path too."""
    rows, folder = tmp_path / "rows.parquet", tmp_path / "models" / "sam"
    write_split(rows, seed=4, count=3)
    folder.mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    names = {
        "transformers:models/sam": f"transformers:{folder}",
        "models/sam": str(folder),
        "transformers:facebook/sam2.1-hiera-large": "transformers:facebook/sam2.1-hiera-large",
        "tiny": "tiny",
    }
    for name, absolute in names.items():
        given = [f"data.{key}_files={rows}" for key in ("train", "val")]
        config = load_config([*TINY, *given, f"policy.segmentation_model='{name}'"])
        start.resolve_agent_loops(config)
        cluster.use_absolute_names(config)
        assert config.reward.mask_scorer.segmentation_model == absolute
        assert (str(folder) in cluster.shared_paths(config)) == ("models/sam" in name)


def test_what_a_node_is_asked(tmp_path: Path) -> None:
    """Runs on every node without our code: here in a plain Python."""
    here = tmp_path / "here"
    here.touch()
    code = Path(cluster_look.__file__).read_text().partition("if __name__")[0]
    call = f"print(look_around([{str(here)!r}, '/not/here'], ['json', 'no.such', 'nosuch'], ['ray', 'nosuch']))"
    result = subprocess.run([sys.executable, "-c", f"{code}\n{call}"], capture_output=True, text=True, check=True)
    found = eval(result.stdout)
    assert found["missing"] == ["/not/here"] and found["missing_modules"] == ["no.such", "nosuch"]
    assert found["versions"]["nosuch"] is None and found["versions"]["ray"] and found["versions"]["Python"]
    assert found["code"] > 0


ASKED = cluster.Asked("auto", 2, 8, ("/data/rows.parquet",), "/runs/one/.token", ("my_terms",), True)


def node(name: str, **more: Any) -> dict[str, Any]:
    found = {"versions": {"Python": "3.11.7", "ray": "2.60.0"}, "code": 5, "missing": [], "missing_modules": []}
    resources = {"gpus": 8, "cpus": 64, "free_gpus": 8, "free_cpus": 64}
    return {"id": name, "name": name, **resources, **found, **more}


def cluster_of(*nodes: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"address": "10.0.0.1:6379", "nodes": list(nodes), "here": "head", "other_run": False, **more}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c["nodes"].pop(), "requests 2 nodes with 8 GPUs and 25 CPUs each"),
        (lambda c: c["nodes"].pop(), "10.0.0.1:6379 has: head 8 GPUs and 64 CPUs; start Ray on more machines"),
        (lambda c: c["nodes"][1].update(cpus=24), "w 8 GPUs and 24 CPUs"),
        (
            lambda c: c["nodes"][1].update(error="lost"),
            "w of the Ray cluster at 10.0.0.1:6379 does not answer: lost",
        ),
        (lambda c: c.update(here="elsewhere"), "this machine is no node of the Ray cluster"),
        (lambda c: c.update(other_run=True), "another training run uses the Ray cluster"),
        (lambda c: c["nodes"][1].update(free_gpus=3), "free are: head 8 GPUs and 64 CPUs; w 3 GPUs and 64 CPUs"),
        (lambda c: c["nodes"].append(node("small", gpus=0)), "may come to node small, which has none"),
        (lambda c: c["nodes"][1].update(versions={"Python": "3.11.7"}), "node w has no ray, this machine 2.60.0"),
        (
            lambda c: c["nodes"][1].update(versions={"Python": "3.10.1"}),
            "node w has Python 3.10.1, this machine 3.11",
        ),
        (lambda c: c["nodes"][1].update(code=6), "node w has other code of seg_zero"),
        (lambda c: c["nodes"][1].update(missing=["/data/rows.parquet"]), "node w has no /data/rows.parquet; put it on"),
        (
            lambda c: c["nodes"][1].update(missing=["/runs/one/.token"]),
            "node w does not share /runs/one, the run",
        ),
        (lambda c: c["nodes"][1].update(missing_modules=["my_terms"]), "node w cannot import my_terms, which a reward"),
    ],
)
def test_what_is_wrong_with_a_cluster(change: Callable[[dict[str, Any]], object], message: str) -> None:
    good = cluster_of(node("head"), node("w"))
    assert cluster.fault(ASKED, good) is None
    bad = copy.deepcopy(good)
    change(bad)
    found = cluster.fault(ASKED, bad)
    assert found is not None and message in found and "\n" not in found
