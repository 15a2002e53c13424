"""Each algorithm=NAME changes what it says, through verl's own functions on small tensors."""

from __future__ import annotations

import asyncio
import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from omegaconf import DictConfig
from tensordict import TensorDict
from transfer_queue import KVBatchMeta
from verl import DataProto
from verl.experimental.reward_loop.reward_manager import get_reward_manager_cls
from verl.trainer.ppo.core_algos import agg_loss, get_policy_loss_fn
from verl.trainer.ppo.rollout_corr_helper import compute_rollout_correction_and_add_to_batch
from verl.trainer.ppo.utils import need_reference_policy
from verl.trainer.ppo.v1 import replay_buffer
from verl.trainer.ppo.v1.utils import compute_advantage_for_multi_trajectories
from verl.utils.config import omega_conf_to_dataclass

from seg_zero.training.engine import one_update
from seg_zero.training.launch.config import load_config
from seg_zero.training.rollout import replay

ALGORITHMS = ("grpo", "dr_grpo", "dapo", "gspo")
TINY = ["policy=tiny", "data=synthetic", "hardware=cpu_2core", "schedule=tiny"]


def config_of(algorithm: str, *overrides: str) -> DictConfig:
    return load_config([*TINY, f"algorithm={algorithm}", *overrides])


def advantages(config: DictConfig, rewards: list[float]) -> list[float]:
    """Of one group of answers with a single token each."""
    scores = torch.tensor(rewards)[:, None]
    batch = TensorDict({"token_level_rewards": scores, "response_mask": torch.ones_like(scores)}, len(rewards))
    data = DataProto(batch=batch, non_tensor_batch={"uid": np.array(["q"] * len(rewards), dtype=object)})
    result = compute_advantage_for_multi_trajectories(
        data,
        batch_keys=[f"q_{i}_0" for i in range(len(rewards))],
        adv_estimator=config.algorithm.adv_estimator,
        norm_adv_by_std_in_grpo=config.algorithm.norm_adv_by_std_in_grpo,
        config=config.algorithm,
    )
    return result.batch["advantages"][:, 0].tolist()


def gradient(config: DictConfig, log_ratios: list[float], advantage: float, weights: Any = None) -> list[float]:
    """Of the policy loss of one answer, by the log-probability of each of its tokens."""
    actor: Any = omega_conf_to_dataclass(config.actor_rollout_ref.actor)
    old = torch.full((1, len(log_ratios)), -1.0)
    new = (old + torch.tensor([log_ratios])).requires_grad_()
    loss, _ = get_policy_loss_fn(actor.policy_loss.loss_mode)(
        old_log_prob=old,
        log_prob=new,
        advantages=torch.full_like(old, advantage),
        response_mask=torch.ones_like(old),
        loss_agg_mode=actor.loss_agg_mode,
        config=actor,
        rollout_is_weights=weights,
    )
    loss.backward()
    assert new.grad is not None
    return new.grad[0].tolist()


def test_only_dr_grpo_leaves_the_spread_in_the_advantages() -> None:
    """Rewards 1, 2, 3, 6: mean 3, sample standard deviation sqrt(14 / 3)."""
    centred = [-2.0, -1.0, 0.0, 3.0]
    for name in ALGORITHMS:
        scale = 1.0 if name == "dr_grpo" else math.sqrt(14 / 3)
        wanted = pytest.approx([c / scale for c in centred], rel=1e-5)
        assert advantages(config_of(name), [1.0, 2.0, 3.0, 6.0]) == wanted, name


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        # Two answers of 2 and 4 tokens, each token's loss 1 and 2: 2 + 8 = 10 in all.
        ("grpo", 10 / 6),
        ("dapo", 10 / 6),
        ("dr_grpo", 10 / 2 / 96),  # two answers, and the greatest response length
        ("gspo", (1 + 2) / 2),
    ],
)
def test_how_token_losses_become_one(name: str, wanted: float) -> None:
    actor = config_of(name).actor_rollout_ref.actor
    losses, mask = torch.tensor([[1.0] * 4, [2.0] * 4]), torch.tensor([[1.0, 1.0, 0.0, 0.0], [1.0] * 4])
    loss = agg_loss(losses, mask, actor.loss_agg_mode, loss_scale_factor=actor.loss_scale_factor)
    assert loss.item() == pytest.approx(wanted)


@pytest.mark.parametrize(
    ("name", "ratio", "advantage", "learns"),
    [
        ("grpo", 1.25, 1.0, False),
        ("dapo", 1.25, 1.0, True),
        ("dapo", 1.3, 1.0, False),
        ("dapo", 0.75, -1.0, False),
        ("grpo", 0.75, -1.0, False),
        ("grpo", 0.75, 1.0, True),
        ("gspo", 1.0003, 1.0, True),
        ("gspo", 1.0005, 1.0, False),
        ("gspo", 0.99975, -1.0, True),
        ("gspo", 0.9996, -1.0, False),
    ],
)
def test_where_clipping_stops_the_gradient(name: str, ratio: float, advantage: float, learns: bool) -> None:
    (slope,) = gradient(config_of(name), [math.log(ratio)], advantage)
    assert (slope != 0.0) == learns


def test_the_ratio_of_gspo_belongs_to_the_whole_answer() -> None:
    """Tokens that became likelier and less likely by the same factor: the answer's ratio is 1, for both tokens."""
    assert gradient(config_of("gspo"), [0.1, -0.1], 1.0) == pytest.approx([-0.5, -0.5])
    assert gradient(config_of("grpo"), [0.1, -0.1], 1.0) == pytest.approx([-math.exp(0.1) / 2, -math.exp(-0.1) / 2])


def test_without_kl_there_is_no_reference() -> None:
    assert {name: need_reference_policy(config_of(name)) for name in ALGORITHMS} == {
        "grpo": True,
        "dr_grpo": False,
        "dapo": False,
        "gspo": False,
    }
    assert not need_reference_policy(config_of("grpo", "worker.actor.use_kl_loss=false"))


def test_importance_sampling_is_one_setting() -> None:
    """FSDP gives the tokens 4, 1/2 and 1 times vLLM's probability: weights 2 (cut), 1/2 and 1."""
    ratios = torch.tensor([[4.0, 0.5, 1.0]])
    batch = TensorDict(
        {"old_log_probs": ratios.log(), "rollout_log_probs": torch.zeros(1, 3), "response_mask": torch.ones(1, 3)}, 1
    )
    off, _ = compute_rollout_correction_and_add_to_batch(
        DataProto(batch=batch.clone()), config_of("grpo").algorithm.rollout_correction
    )
    assert "rollout_is_weights" not in off.batch
    config = config_of("grpo", "algorithm.rollout_correction.rollout_is=token")
    on, metrics = compute_rollout_correction_and_add_to_batch(
        DataProto(batch=batch), config.algorithm.rollout_correction
    )
    assert on.batch["rollout_is_weights"].tolist() == [pytest.approx([2.0, 0.5, 1.0])]
    assert metrics["rollout_corr/rollout_is_mean"] == pytest.approx(3.5 / 3)
    weighted = gradient(config, [0.0, 0.0, 0.0], 1.0, on.batch["rollout_is_weights"])
    assert weighted == pytest.approx([-2 / 3, -0.5 / 3, -1 / 3])


@pytest.mark.parametrize(("tokens", "penalty"), [(40, 0.0), (77, 0.0), (86, -9 / 19), (96, -1.0)])
def test_dapo_penalises_the_last_fifth_of_the_length(tokens: int, penalty: float) -> None:
    """96 tokens at most; the last 19 (a fifth) cost up to one point, whatever the reward function says."""
    config = config_of("dapo")

    async def score(**_: Any) -> dict[str, float]:
        return {"score": 3.0}

    async def run() -> dict[str, Any]:
        manager_class: Any = get_reward_manager_cls(config.reward.reward_manager.name)
        manager = manager_class(config, SimpleNamespace(decode=lambda *_, **__: "text"), score)
        ids = torch.ones(1, 96, dtype=torch.long)
        mask = (torch.arange(96)[None] < tokens).long()
        rows = {"data_source": ["s"], "reward_model": [{"ground_truth": "g"}]}
        batch = TensorDict({"responses": ids, "attention_mask": mask}, 1)
        arrays = {key: np.array(value, dtype=object) for key, value in rows.items()}
        return await manager.run_single(DataProto(batch=batch, non_tensor_batch=arrays))

    assert float(asyncio.run(run())["reward_score"]) == pytest.approx(3.0 + penalty)


class Queue:
    """TransferQueue in this process, as far as the replay buffer asks it."""

    def __init__(self) -> None:
        self.tags: dict[str, dict[str, Any]] = {}
        self.rewards: dict[str, float] = {}

    def add_group(self, name: str, rewards: list[float]) -> None:
        self.tags[name] = {"is_prompt": True, "status": "finished", "global_steps": 1}
        for i, reward in enumerate(rewards):
            self.tags[f"{name}_{i}_0"] = {"status": "success", "seq_len": 10 * (len(rewards) - i)}
            self.rewards[f"{name}_{i}_0"] = reward

    def kv_list(self) -> dict[str, dict[str, Any]]:
        return {"train": dict(self.tags)}

    def kv_clear(self, partition_id: str, keys: list[str]) -> None:
        for key in keys:
            self.tags.pop(key, None)

    def kv_batch_get(self, keys: list[str], partition_id: str, select_fields: list[str]) -> dict[str, list[Any]]:
        return {
            "rm_scores": [torch.tensor([0.0, self.rewards[key]]) for key in keys],
            "extra_fields": [{"reward_extra_info": {"score": self.rewards[key]}} for key in keys],
        }


def make_buffer(
    monkeypatch: pytest.MonkeyPatch, algorithm: str, refills: list[list[float]], *overrides: str
) -> tuple[Queue, replay.RewardLoggingReplayBuffer]:
    """The buffer as verl's trainer makes it; a refill puts the next groups of ``refills`` into the queue."""
    queue, names = Queue(), (f"refill{i}" for i in range(1000))
    for module in (replay, replay_buffer):
        monkeypatch.setattr(module, "tq", queue)
    config = config_of(algorithm, "data.train_batch_size=2", *overrides)

    def refill(prompts: int) -> None:
        for _ in range(prompts):
            queue.add_group(next(names), refills.pop(0) if refills else [1.0, 1.0])

    sampler = config.trainer.v1.sampler
    return queue, replay.RewardLoggingReplayBuffer(
        trainer_mode="sync",
        trainer_config={},
        max_off_policy_threshold=sampler.max_off_policy_threshold,
        max_off_policy_strategy=sampler.max_off_policy_strategy,
        sampler_kwargs=sampler.sampler_kwargs,
        refill_fn=refill,
    )


def groups_of(batch: KVBatchMeta) -> set[str]:
    return {key.split("_")[0] for key in batch.keys}


def test_groups_that_teach_nothing_are_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    """One of two groups is flat: two others are drawn for it, one of them is trained on, one is left over."""
    queue, buffer = make_buffer(monkeypatch, "dapo", [[0.0, 2.0], [0.0, 4.0]])
    queue.add_group("good", [1.0, 3.0])
    queue.add_group("flat", [0.1 + 0.2] * 2)
    batch, metrics = buffer.sample(1, "train", 2)
    assert len(groups_of(batch)) == 2 and "flat" not in groups_of(batch)
    assert len(batch.keys) == 4
    lengths = [tag["seq_len"] for tag in batch.tags]
    assert lengths == sorted(lengths)  # tags and keys follow the order
    assert (metrics["reward/drawn_groups"], metrics["reward/filtered_groups"]) == (4.0, 1.0)
    assert metrics["reward/flat_groups"] == 0.0
    assert not queue.tags.keys() - set(batch.keys)  # what is left over does not wait for the next step


def test_equal_rewards_count_as_equal_whatever_their_digits(monkeypatch: pytest.MonkeyPatch) -> None:
    """The standard deviation of three equal float64 values is not always 0; that of rewards as float32 is."""
    assert np.std([0.1] * 3) > 0
    queue, buffer = make_buffer(monkeypatch, "dapo", [[0.0, 2.0, 1.0]] * 2)
    queue.add_group("good", [1.0, 3.0, 2.0])
    queue.add_group("flat", [0.1] * 3)
    assert "flat" not in groups_of(buffer.sample(1, "train", 2)[0])


def test_the_queue_is_looked_at_when_the_answers_are_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """A group that failed is counted; it has no samples, and the step goes on without it."""
    queue, buffer = make_buffer(monkeypatch, "grpo", [])
    monkeypatch.setattr(replay_buffer.time, "sleep", lambda _: pytest.fail("it polled"))

    def wait(seconds: float) -> bool:
        queue.add_group("good", [1.0, 3.0])
        queue.tags["bad"] = {"is_prompt": True, "status": "failure", "global_steps": 1}
        return True

    buffer.wait = wait
    batch, metrics = buffer.sample(1, "train", 2)
    assert groups_of(batch) == {"good"} and metrics["reward/failed_groups"] == 1.0


def test_dynamic_sampling_looks_at_each_group_as_it_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    queue, buffer = make_buffer(monkeypatch, "dapo", [])
    looks: list[float] = []
    monkeypatch.setattr(replay_buffer.time, "sleep", lambda s: looks.append(s) or queue.add_group("b", [1.0, 3.0]))
    buffer.wait = lambda _: pytest.fail("it waited for all groups")
    queue.add_group("a", [1.0, 3.0])
    assert groups_of(buffer.sample(1, "train", 2)[0]) == {"a", "b"} and len(looks) == 1


def test_the_other_algorithms_train_on_every_group(monkeypatch: pytest.MonkeyPatch) -> None:
    queue, buffer = make_buffer(monkeypatch, "grpo", [])
    queue.add_group("good", [1.0, 3.0])
    queue.add_group("flat", [1.0, 1.0])
    batch, metrics = buffer.sample(1, "train", 2)
    assert groups_of(batch) == {"good", "flat"}
    assert metrics["reward/flat_groups"] == 0.5 and "reward/filtered_groups" not in metrics


def test_endless_filtering_ends_in_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    queue, buffer = make_buffer(monkeypatch, "dapo", [], "algorithm.filter_groups.max_num_gen_batches=4")
    queue.add_group("one", [1.0, 1.0])
    queue.add_group("two", [1.0, 1.0])
    with pytest.raises(RuntimeError, match="8 questions did not fill a step of 2"):
        buffer.sample(1, "train", 2)


def test_sorting_by_length_keeps_the_answers_of_an_update_together() -> None:
    groups, lengths = ["a", "b", "c", "d"] * 2, [8, 1, 2, 3, 7, 6, 5, 4]
    assert [lengths[i] for i in replay.order_by_length(groups, lengths, 4)] == sorted(lengths)
    halves = replay.order_by_length(groups, lengths, 2)
    assert [{groups[i] for i in part} for part in (halves[:4], halves[4:])] == [{"a", "b"}, {"c", "d"}]
    assert [[lengths[i] for i in part] for part in (halves[:4], halves[4:])] == [[1, 6, 7, 8], [2, 3, 4, 5]]


@pytest.mark.parametrize(
    ("algorithm", "override", "left_out"),
    [
        ("grpo", "trainer.save_freq=7", True),
        ("dapo", "trainer.save_freq=7", True),
        ("grpo", "engine.one_update=false", False),
        ("grpo", "worker.actor.global_batch_size=8", False),
        ("grpo", "actor_rollout_ref.actor.ppo_epochs=2", False),
        ("grpo", "algorithm.use_kl_in_reward=true", False),
        ("grpo", "algorithm.rollout_correction.rollout_is=token", False),
        ("grpo", "algorithm.rollout_correction.bypass_mode=true", False),
        ("grpo", "actor_rollout_ref.rollout.calculate_log_probs=false", False),
    ],
)
def test_the_pass_for_old_log_probabilities_is_left_out_when_one_update_is_all_that_asks(
    algorithm: str, override: str, left_out: bool
) -> None:
    assert one_update.applies(config_of(algorithm, override)) is left_out
