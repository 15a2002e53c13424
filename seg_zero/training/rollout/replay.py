"""verl's replay buffer, which also reports every reward term of the sampled batch and filters groups as DAPO does.

Named in the configuration as ``trainer.v1.sampler.custom_sampler``. verl 0.9.1 logs only the total
reward of a training batch; the metrics that a sampler returns are logged with the step. It gives the
settings of dynamic sampling to its own sampler only, so they come here through ``sampler_kwargs``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import transfer_queue as tq
from verl.trainer.ppo.v1.replay_buffer import ReplayBuffer

from seg_zero.training.rollout.reward import ROUND

_PATIENCE = 60.0  # seconds of waiting before the queue is looked at in between


def reward_metrics(terms: Sequence[Mapping[str, Any]], groups: Sequence[str]) -> dict[str, float]:
    """Mean of every reward term over a batch, and how much the totals of one prompt differ.

    Of the rounds of dialogues also their means by round: ``dialogue/round_2/score``.

    terms: the reward function's result for each sample. groups: the prompt each sample belongs to.
    ``reward/flat_groups`` is the fraction of prompts whose samples all score the same, and which therefore
    contribute no gradient.
    """
    names = {name for sample in terms for name in sample if name != ROUND}
    metrics = {f"reward/{name}/mean": float(np.mean([sample[name] for sample in terms])) for name in sorted(names)}
    rounds: dict[str, list[Mapping[str, Any]]] = {}
    for sample in terms:
        if ROUND in sample:
            rounds.setdefault(sample[ROUND], []).append(sample)
    for number, some in rounds.items():
        metrics[f"dialogue/round_{number}/answers"] = float(len(some))
        means = {name: float(np.mean([sample[name] for sample in some])) for name in sorted(names)}
        metrics.update({f"dialogue/round_{number}/{name}": value for name, value in means.items()})
    totals: dict[str, list[float]] = {}
    for prompt, sample in zip(groups, terms, strict=True):
        group = f"{prompt}/{sample.get(ROUND, '')}"
        # verl's manager "dapo" takes its penalty for long answers off what the reward function returned.
        totals.setdefault(group, []).append(float(sample["score"] + sample.get("overlong_reward", 0.0)))
    if totals:
        metrics["reward/flat_groups"] = float(np.mean([float(max(v) - min(v) < 1e-9) for v in totals.values()]))
    return metrics


def order_by_length(groups: Sequence[str], lengths: Sequence[int], prompts_per_update: int) -> list[int]:
    """An order of a batch's samples in which those of each update are adjacent and sorted by length.

    An update gets whole groups, chosen without regard to length, so that sorting biases none of them.
    """
    prompts = sorted(set(groups))  # random ids: no order of theirs has to do with the length
    update = {prompt: place // prompts_per_update for place, prompt in enumerate(prompts)}
    return sorted(range(len(groups)), key=lambda i: (update[groups[i]], lengths[i]))


class RewardLoggingReplayBuffer(ReplayBuffer):
    """Settings in ``trainer.v1.sampler.sampler_kwargs``:

    poll_interval: seconds between looks at the queue (verl's default is 2).
    sort_by_length: hand out the batch in order of length within each update, so that micro-batches
        which are padded hold samples of about one length.
    prompts_per_step, prompts_per_update: ``data.train_batch_size``, ``worker.actor.global_batch_size``.
    filter_groups: ``algorithm.filter_groups``. If enabled, prompts whose samples all have the same reward
        are replaced by others, until the step has its number of prompts.

    Raises RuntimeError when filtering has drawn ``max_num_gen_batches`` times the prompts of a step
    without filling it; verl's own sampler would continue forever.
    """

    def __init__(self, **kwargs: Any) -> None:
        settings = kwargs["sampler_kwargs"]
        interval = settings.get("poll_interval")
        if interval is not None:
            kwargs["poll_interval"] = interval
        self._filter = settings.get("filter_groups") or {}
        self._drawn = 0
        self.wait: Callable[[float], bool] = lambda _: False  # set by the trainer: waits for running questions
        if self._filter.get("enable", False):
            kwargs.update(
                filter_groups_metric=self._filter["metric"],
                train_batch_size=settings["prompts_per_step"],
                gen_batch_size=1,  # what verl's trainer sets for the data loader when groups are filtered
                max_inflight_gen_batches=self._filter["max_inflight_gen_batches"],
                refill_fn=self._counted(kwargs["refill_fn"]),
            )
        super().__init__(**kwargs)

    def _counted(self, refill: Callable[[int], Any]) -> Callable[[int], Any]:
        def draw(prompts: int) -> Any:
            self._drawn += prompts
            most = self._filter["max_num_gen_batches"] * self.sampler_kwargs["prompts_per_step"]
            if 0 < most < self._drawn:
                raise RuntimeError(
                    f"dynamic sampling: the answers to almost every question score the same, {most} questions did not "
                    f"fill a step of {self.sampler_kwargs['prompts_per_step']}; take easier or harder questions, raise "
                    "worker.rollout.n or algorithm.filter_groups.max_num_gen_batches (0: no limit), or set "
                    "algorithm.filter_groups.enable=false"
                )
            return refill(prompts)

        return draw

    def _wait_for_next_poll(self, partition_id: str, last_debug_time: float) -> float:
        # Dynamic sampling decides about each group as it comes, so it goes on looking.
        if not self._filter.get("enable", False) and self.wait(_PATIENCE):
            return last_debug_time
        found: float = super()._wait_for_next_poll(partition_id, last_debug_time)
        return found

    def sample(self, global_steps: int, partition_id: str, batch_size: int) -> tuple[Any, dict[str, float]]:
        self._drawn = batch_size  # the trainer has drawn these already
        batch, metrics = super().sample(global_steps=global_steps, partition_id=partition_id, batch_size=batch_size)
        if partition_id != "train":
            return batch, metrics
        if self.filter_groups_metric is not None:
            metrics["reward/drawn_groups"] = float(self._drawn)
            metrics["reward/filtered_groups"] = float(metrics.get("training/filter_groups/evicted_samples", 0))
        groups = [key.split("_")[0] for key in batch.keys]
        metrics["reward/failed_groups"] = float(batch_size - len(set(groups)))
        if self.sampler_kwargs.get("sort_by_length", False):
            lengths = [tag["seq_len"] for tag in batch.tags]
            batch.reorder(order_by_length(groups, lengths, self.sampler_kwargs["prompts_per_update"]))
            groups = [key.split("_")[0] for key in batch.keys]
        fields = tq.kv_batch_get(keys=batch.keys, partition_id=partition_id, select_fields=["extra_fields"])
        terms = [extra["reward_extra_info"] for extra in fields["extra_fields"]]
        metrics.update(reward_metrics(terms, groups))
        return batch, metrics
