"""Runs with a Ray of their own do not share the socket for weights."""

from __future__ import annotations

from pathlib import Path

import pytest

from seg_zero.training.cpu import weight_socket
from seg_zero.training.cpu.upstream_fixes import answer_for_vllm_metadata
from seg_zero.training.environment import RUN, training_environment
from seg_zero.training.launch.config import load_config

VERLS = "ipc:///tmp/rl-colocate-zmq-01000000-replica-0-rank-0.sock"


def test_each_start_of_a_run_has_an_address_of_its_own(tmp_path: Path) -> None:
    config = load_config(["hardware=cpu_2core", "policy=tiny", "data=synthetic"])
    found = {weight_socket.of_this_run(VERLS, training_environment(config, tmp_path, {})) for _ in range(2)}
    assert len(found) == 2 and VERLS not in found
    assert all(address.startswith("ipc:///tmp/") and address.endswith(".sock") for address in found)
    assert weight_socket.of_this_run(VERLS, {}) == VERLS


def test_sender_and_receiver_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    answer_for_vllm_metadata()
    from verl.workers.rollout.vllm_rollout.utils import vLLMColocateWorkerExtension
    from verl.workers.rollout.vllm_rollout.vllm_rollout import ServerAdapter

    from seg_zero.training.cpu.vllm_worker import CPUWorkerExtension

    def build(self: ServerAdapter) -> None:
        self.zmq_handle = VERLS

    monkeypatch.setenv(RUN, "abc")
    monkeypatch.setattr(ServerAdapter, "__init__", build)
    monkeypatch.setattr(vLLMColocateWorkerExtension, "_get_zmq_handle", lambda self: VERLS)
    weight_socket.send_through_it()
    sender = ServerAdapter.__new__(ServerAdapter)
    ServerAdapter.__init__(sender)
    receiver = object.__new__(CPUWorkerExtension)
    assert sender.zmq_handle == receiver._get_zmq_handle() == VERLS.replace(".sock", "-abc.sock")
