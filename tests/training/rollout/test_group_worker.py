"""What a group puts into verl's queue is what verl's own worker puts there, answer by answer."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.tiny_models import image_side, save_tiny_model
from omegaconf import OmegaConf, open_dict
from PIL import Image
from verl.experimental.agent_loop.agent_loop import AgentLoopMetrics, AgentLoopOutput
from verl.trainer.ppo.v1 import agent_loop_tq
from verl.utils import hf_processor, hf_tokenizer

from seg_zero.policy.families import FAMILIES
from seg_zero.prompting import PromptSpec, build_messages
from seg_zero.training import queue_images
from seg_zero.training.launch.config import load_config
from seg_zero.training.rollout import group_worker
from seg_zero.training.rollout.group_worker import GroupWorker
from seg_zero.training.rollout.samples import Sampled, group_seed, sample_seed
from seg_zero.training.trainer.dataset import SegmentationDataset

TINY = ["policy=tiny", "data=synthetic", "hardware=cpu_2core", "schedule=tiny", "worker.rollout.n=2"]
ANSWERS = [Sampled([21, 22, 23], [-0.5, -1.0, -2.0]), Sampled([24], [-0.25])]


class Queue:
    """The calls of the queue that a worker makes; values in the order of writing."""

    def __init__(self) -> None:
        self.tags: list[tuple[str, str, dict[str, Any]]] = []
        self.fields: dict[tuple[str, str], dict[str, Any]] = {}

    async def async_kv_put(self, key: str, partition_id: str, tag: Any, fields: Any = None) -> None:
        self.tags.append((partition_id, key, tag))
        if fields is not None:
            self.fields[partition_id, key] = dict(fields)

    async def async_kv_batch_put(self, keys: list[str], fields: Any, tags: list[Any], partition_id: str) -> None:
        for number, (key, tag) in enumerate(zip(keys, tags, strict=True)):
            self.tags.append((partition_id, key, tag))
            self.fields[partition_id, key] = {
                name: value[number] if isinstance(value, torch.Tensor) else value[number].data
                for name, value in fields.items()
            }


class Remote:
    """A method of an actor."""

    def __init__(self, function: Any) -> None:
        self.remote = function


class Client:
    """verl's client of one server that gives ANSWERS; keeps what it was asked."""

    def __init__(self, failure: Exception | None = None) -> None:
        self.asked: list[Any] = []
        self.taken = 0

        async def generate_group(*args: Any) -> Any:
            self.asked.append(args)
            if failure is not None:
                raise failure
            return ANSWERS, 7

        self.server = type("Server", (), {"generate_group": Remote(generate_group)})()

    async def _acquire_server(self, request_id: str, **_: Any) -> Any:
        self.taken += 1
        return "server", self.server

    def _release_server(self, server_id: str, request_id: str) -> None:
        self.taken -= 1


class Rewards:
    """A reward worker: an answer is worth its number of tokens."""

    def __init__(self) -> None:
        self.calls = 0

        async def compute_score_batch(data: Any) -> list[dict[str, Any]]:
            self.calls += 1
            found = []
            for row in data:
                length = int(row.batch["attention_mask"][-row.batch["responses"].shape[-1] :].sum())
                question = row.non_tensor_batch["extra_info"]["question"]
                found.append({"reward_score": float(length), "reward_extra_info": {"question": question}})
            return found

        async def compute_score(data: Any) -> dict[str, Any]:
            return (await compute_score_batch(data))[0]

        self.compute_score_batch, self.compute_score = Remote(compute_score_batch), Remote(compute_score)


def make_worker(family: str, folder: Path, client: Client) -> GroupWorker:
    """A worker without Ray, for a random model of the family."""
    save_tiny_model(family, folder)
    config = load_config(TINY)
    with open_dict(config):
        config.data.mm_processor_kwargs = {}
    worker = object.__new__(GroupWorker)
    values = {
        "config": config,
        "rollout_config": config.actor_rollout_ref.rollout,
        "llm_client": client,
        "reward_loop_worker_handles": [Rewards()],
        "dataset_cls": SegmentationDataset,
        "tokenizer": hf_tokenizer(str(folder)),
        "processor": hf_processor(str(folder)),
        "hf_model_type": family,
        "mm_processor_kwargs": {},
        "distillation_enabled": False,
        "background_tasks": set(),
        "_prompts": None,
    }
    for name, value in values.items():
        setattr(worker, name, value)
    return worker


def make_prompt(family: str, folder: Path) -> dict[str, Any]:
    spec, side = PromptSpec.load(folder), image_side(family)
    assert spec is not None
    pixels = np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8)
    return {
        "uid": "question",
        "raw_prompt": build_messages("the cup", spec, Image.fromarray(pixels)),
        "data_source": "scenes",
        "reward_model": {"style": "rule", "ground_truth": "[]"},
        "extra_info": {"question": "the cup"},
        "index": 5,
        "global_steps": 3,
        "agent_name": "seeded",
        "dummy_tensor": torch.zeros(1, dtype=torch.uint8),
    }


SAMPLING = {"temperature": 1.0, "top_p": 1.0, "top_k": -1, "repetition_penalty": 1.0, "logprobs": True}


def run(
    worker: GroupWorker, prompt: dict[str, Any], queue: Queue, monkeypatch: pytest.MonkeyPatch, validate: bool = False
) -> None:
    for module in (group_worker, queue_images, agent_loop_tq):
        monkeypatch.setattr(module, "tq", queue)
    asyncio.run(worker._run_prompt(prompt, SAMPLING, {"validate": validate}))


async def by_verl(worker: GroupWorker, prompt: dict[str, Any], ids: list[int]) -> None:
    """verl's own way from answers to the queue."""
    own = agent_loop_tq.AgentLoopWorkerTQ.__ray_actor_class__  # type: ignore[attr-defined]
    for number, answer in enumerate(ANSWERS):
        output = AgentLoopOutput(
            prompt_ids=ids,
            response_ids=answer.tokens,
            response_mask=[1] * len(answer.tokens),
            response_logprobs=answer.log_probs,
            multi_modal_data={"images": [prompt["raw_prompt"][-1]["content"][0]["image"]]},
            num_turns=2,
            metrics=AgentLoopMetrics(),
            extra_fields={"turn_scores": [], "tool_rewards": [], "min_global_steps": 7, "max_global_steps": 7},
        )
        await own._agent_loop_postprocess(worker, output, False, session_id=number, **prompt)


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_samples_are_those_of_verls_worker(family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    client = Client()
    worker, queue, expected = make_worker(family, tmp_path, client), Queue(), Queue()
    run(worker, make_prompt(family, tmp_path), queue, monkeypatch)
    ((short, sampling, count, images, _),) = client.asked
    assert count == worker.config.actor_rollout_ref.rollout.n and len(images) == 1
    assert sampling["seed"] == group_seed(worker.rollout_config.seed, 3, 5) and sampling["logprobs"] == 0
    assert worker.reward_loop_worker_handles[0].calls == 1

    ids = queue.fields["train", "question_0_0"]["prompts"].tolist()
    assert len(ids) - len(short) == 15  # 16 tokens of an image, one placeholder to vLLM
    monkeypatch.setattr(agent_loop_tq, "tq", expected)
    asyncio.run(by_verl(worker, make_prompt(family, tmp_path), ids))
    assert queue.tags[-1] == ("train", "question", {"status": "finished"})
    stored = queue.fields["images", "question"]
    for number in range(len(ANSWERS)):
        key = ("train", f"question_{number}_0")
        mine, verls = queue.fields[key], expected.fields[key]
        # verl also stores the pictures themselves; pixels are stored once here.
        assert set(verls) - set(mine) <= {"raw_prompt", "agent_name", "multi_modal_data", "mm_processor_kwargs"}
        assert mine.pop("multi_modal_inputs") == {queue_images._OF: "question"}
        pixels = verls.pop("multi_modal_inputs")
        for name in ("pixel_values", "image_grid_thw"):
            assert torch.equal(stored[name], pixels[name]), name
        for name, value in mine.items():
            if isinstance(value, torch.Tensor):
                assert torch.equal(value, verls[name]) and value.dtype == verls[name].dtype, name
        info = mine["extra_fields"]["reward_extra_info"]
        assert info == verls["extra_fields"]["reward_extra_info"] == {"question": "the cup"}
        tags = [
            {k: v for p, name, tag in q.tags if (p, name) == key for k, v in tag.items()} for q in (queue, expected)
        ]
        assert tags[0] == tags[1]


@pytest.mark.parametrize("failure", [RuntimeError("vLLM gave up"), ValueError("no room")])
def test_a_group_that_fails_is_marked_and_has_no_samples(
    failure: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    client, queue = Client(failure), Queue()
    run(make_worker("qwen2_vl", tmp_path, client), make_prompt("qwen2_vl", tmp_path), queue, monkeypatch)
    assert queue.tags == [("train", "question", {"status": "failure"})] and not queue.fields
    assert "row 5" in caplog.text and str(failure) in caplog.text
    assert client.taken == 0  # the server was released


def test_held_out_rows_store_no_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    worker, queue = make_worker("qwen2_vl", tmp_path, Client()), Queue()
    with open_dict(worker.config):
        worker.config.actor_rollout_ref.rollout.val_kwargs = OmegaConf.create({"n": 2})
    run(worker, {**make_prompt("qwen2_vl", tmp_path), "__do_sample__": True}, queue, monkeypatch, validate=True)
    assert {partition for partition, _ in queue.fields} == {"val"}
    assert all(fields["multi_modal_inputs"] == {} for fields in queue.fields.values())
    assert queue.tags[-1] == ("val", "question", {"status": "finished"})


def test_seeds_of_groups_differ_and_leave_room_for_their_answers() -> None:
    seeds = {group_seed(seed, step, row) for seed in range(3) for step in range(3) for row in range(50)}
    assert len(seeds) == 450 and max(seeds) < 2**62
    assert group_seed(1, 2, 3) == group_seed(1, 2, 3) != sample_seed(1, 2, 3, 0)
