"""verl's replay buffer, which also reports every reward term of the sampled batch.

Named in the configuration as ``trainer.v1.sampler.custom_sampler``. verl 0.9.1 logs only the total
reward of a training batch; the metrics that a sampler returns are logged with the step.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import transfer_queue as tq
from verl.trainer.ppo.v1.replay_buffer import ReplayBuffer


def reward_metrics(terms: Sequence[Mapping[str, float]], groups: Sequence[str]) -> dict[str, float]:
    """Mean of every reward term over a batch, and how much the totals of one prompt differ.

    terms: the reward function's result for each sample. groups: the prompt each sample belongs to.
    ``reward/flat_groups`` is the share of prompts whose samples all score the same, which therefore
    teach nothing.
    """
    names = {name for sample in terms for name in sample}
    metrics = {f"reward/{name}/mean": float(np.mean([sample[name] for sample in terms])) for name in sorted(names)}
    totals: dict[str, list[float]] = {}
    for group, sample in zip(groups, terms, strict=True):
        totals.setdefault(group, []).append(sample["score"])
    if totals:
        metrics["reward/flat_groups"] = float(np.mean([float(max(v) - min(v) < 1e-9) for v in totals.values()]))
    return metrics


class RewardLoggingReplayBuffer(ReplayBuffer):
    """Settings in ``trainer.v1.sampler.sampler_kwargs``:

    poll_interval: seconds between looks at the queue (verl's default is 2).
    sort_by_length: hand out the batch in order of length, so that micro-batches which are padded hold
        samples of about one length. Only for one update per step, whose gradient no order changes.
    """

    def __init__(self, **kwargs: Any) -> None:
        interval = kwargs["sampler_kwargs"].get("poll_interval")
        if interval is not None:
            kwargs["poll_interval"] = interval
        super().__init__(**kwargs)

    def sample(self, global_steps: int, partition_id: str, batch_size: int) -> tuple[Any, dict[str, float]]:
        batch, metrics = super().sample(global_steps=global_steps, partition_id=partition_id, batch_size=batch_size)
        if partition_id == "train":
            if self.sampler_kwargs.get("sort_by_length", False):
                batch.reorder(sorted(range(len(batch)), key=lambda i: batch.tags[i]["seq_len"]))
            fields = tq.kv_batch_get(keys=batch.keys, partition_id=partition_id, select_fields=["extra_fields"])
            terms = [extra["reward_extra_info"] for extra in fields["extra_fields"]]
            metrics.update(reward_metrics(terms, [key.split("_")[0] for key in batch.keys]))
        return batch, metrics
