"""Credit for each round of a conversation: an advantage estimator of verl's kind (``algorithm.adv_estimator``)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import transfer_queue as tq
from transfer_queue import KVBatchMeta
from verl.trainer.ppo.core_algos import register_adv_est
from verl.utils.tensordict_utils import list_of_dict_to_tensordict

from seg_zero.training.settings import DIALOGUE_GRPO

_EPSILON = 1e-6  # added to a standard deviation, as verl's GRPO does


def round_returns(scores: Sequence[float], keys: Sequence[str], discount: float) -> np.ndarray:
    """For each answer its score plus those of the later rounds of its conversation, each ``discount`` times less.

    keys: verl's names of samples, PROMPT_SESSION_ROUND. Returns float64 of the same length.
    """
    conversations: dict[str, dict[int, int]] = {}
    for place, key in enumerate(keys):
        name, number = key.rsplit("_", 1)
        conversations.setdefault(name, {})[int(number)] = place
    returns = np.zeros(len(keys))
    for rounds in conversations.values():
        later = 0.0
        for _, place in sorted(rounds.items(), reverse=True):
            later = float(scores[place]) + discount * later
            returns[place] = later
    return returns


def compare_rounds(returns: np.ndarray, keys: Sequence[str], by_std: bool) -> np.ndarray:
    """Each return minus the mean of all conversations' returns in that round of that script, float64.

    by_std: divided by their standard deviation (of a sample: N - 1). A round that only one conversation came to gets 0.
    """
    groups: dict[tuple[str, str], list[int]] = {}
    for place, key in enumerate(keys):
        prompt, _, number = key.rsplit("_", 2)
        groups.setdefault((prompt, number), []).append(place)
    advantages = np.zeros(len(keys))
    for places in groups.values():
        if len(places) > 1:
            some = returns[places]
            scale = some.std(ddof=1) + _EPSILON if by_std else 1.0
            advantages[places] = (some - some.mean()) / scale
    return advantages


@register_adv_est(DIALOGUE_GRPO)
def dialogue_grpo(
    token_level_rewards: torch.Tensor, response_mask: torch.Tensor, index: np.ndarray, config: Any, **_: Any
) -> tuple[torch.Tensor, torch.Tensor]:
    """GRPO whose groups are the answers to one round of one script. Each row is an answer.

    token_level_rewards, response_mask: N x T. index: names of the samples (:func:`name_samples`). config: verl's
    ``algorithm``; gamma discounts later rounds, 0 credits each round with its own score alone. Returns advantages and
    returns, N x T.
    """
    keys = [str(key) for key in index]
    returns = round_returns(token_level_rewards.sum(dim=-1).tolist(), keys, float(config.gamma))
    advantages = compare_rounds(returns, keys, bool(config.norm_adv_by_std_in_grpo))
    spread = [torch.as_tensor(values, dtype=torch.float32)[:, None] * response_mask for values in (advantages, returns)]
    return spread[0], spread[1]


def sizes_by_round(advantages: Sequence[float], keys: Sequence[str]) -> dict[str, float]:
    """Mean size of the advantages in each round, ``dialogue/round_2/advantage``: 0 where a round taught nothing."""
    rounds: dict[int, list[float]] = {}
    for advantage, key in zip(advantages, keys, strict=True):
        rounds.setdefault(int(key.rsplit("_", 1)[1]) + 1, []).append(abs(advantage))
    return {f"dialogue/round_{number}/advantage": float(np.mean(some)) for number, some in sorted(rounds.items())}


def credited(batch: KVBatchMeta) -> dict[str, float]:
    """:func:`sizes_by_round` of a batch with advantages, which all tokens of an answer have in common."""
    found = tq.kv_batch_get(keys=batch.keys, partition_id=batch.partition_id, select_fields=["advantages"])
    return sizes_by_round([float(tokens[0]) for tokens in found["advantages"].unbind()], batch.keys)


def name_samples(batch: KVBatchMeta) -> None:
    """Let the estimator know which round of which conversation a sample is.

    verl 0.9.1 gives estimators the sample's ``uid``, the name of its prompt, alone; here it becomes the sample's own.
    """
    fields = list_of_dict_to_tensordict([{"uid": key} for key in batch.keys])
    tq.kv_batch_put(keys=batch.keys, partition_id=batch.partition_id, fields=fields)
