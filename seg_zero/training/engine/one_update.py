"""Steps with a single update skip the separate pass for the old log-probabilities.

PPO compares each update with the policy at the beginning of its step. With one update per step they are the same, so
the update's own log-probabilities, without gradient, are the old ones. verl 0.9.1 computes them in an extra forward
pass, or (``bypass_mode``) puts vLLM's in their place, which is another loss. Can go when verl offers this.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from omegaconf import DictConfig, open_dict

from seg_zero.training.settings import EngineSettings, read

OWN_LOG_PROBS = "own_log_probs"
DETACH_ENTROPY = "detach_entropy"
_MOVED = ("actor/training/", "actor/rollout_corr/")  # verl puts "actor/" before all that an update reports


def applies(config: DictConfig) -> bool:
    """Whether this is switched on, steps make one update, and nothing needs the old log-probabilities before it."""
    actor, algorithm = config.actor_rollout_ref.actor, config.algorithm
    correction = algorithm.rollout_correction
    one = actor.ppo_mini_batch_size >= config.data.train_batch_size and actor.ppo_epochs == 1
    asked = algorithm.use_kl_in_reward or correction.rollout_is or correction.rollout_rs or correction.bypass_mode
    stand_in = config.actor_rollout_ref.rollout.calculate_log_probs  # verl's bypass wants to have vLLM's
    return bool(read(config, EngineSettings).one_update and one and not asked and stand_in)


def leave_out_pass(config: DictConfig) -> None:
    """Let verl's trainer skip the pass, and let the update compute the entropy that the pass would have logged."""
    with open_dict(config):
        config.algorithm.rollout_correction.bypass_mode = True
        config.actor_rollout_ref.actor.calculate_entropy = True


def settings(config: DictConfig) -> dict[str, bool]:
    """What travels with the batch to the update."""
    return {OWN_LOG_PROBS: True, DETACH_ENTROPY: config.actor_rollout_ref.actor.entropy_coeff == 0}


def rename(metrics: dict[str, Any]) -> None:
    """Give what the update reported in place of the pass the names under which verl logs it."""
    for name in [name for name in metrics if name.startswith(_MOVED)]:
        metrics[name.removeprefix("actor/")] = metrics.pop(name)
    if "actor/entropy_loss" in metrics:
        metrics["actor/entropy"] = metrics["actor/entropy_loss"]


class OneUpdateLoss:
    """A loss of verl's that takes each micro-batch's own log-probabilities for the old ones, and remembers them."""

    def __init__(self, loss: Callable[..., Any], detach_entropy: bool):
        self._loss, self._detach_entropy = loss, detach_entropy
        self._seen: dict[str, list[Any]] = {}

    def __call__(self, model_output: dict[str, Any], data: Any, dp_group: Any = None) -> Any:
        from verl.workers.utils.padding import response_from_nested

        data["old_log_probs"] = response_from_nested(model_output["log_probs"].detach(), data["response_mask"])
        if self._detach_entropy and "entropy" in model_output:
            model_output["entropy"] = model_output["entropy"].detach()
        for name in ("old_log_probs", "rollout_log_probs", "response_mask", "responses"):
            if name in data:
                self._seen.setdefault(name, []).extend(data[name].unbind())
        return self._loss(model_output=model_output, data=data, dp_group=dp_group)

    def metrics(self) -> dict[str, list[float]]:
        """How far vLLM's log-probabilities are from these, over all that was seen, in verl's measures."""
        from torch.nn.utils.rnn import pad_sequence
        from verl import DataProto
        from verl.trainer.ppo.rollout_corr_helper import compute_offpolicy_metrics
        from verl.utils.debug.metrics import calculate_debug_metrics

        if "rollout_log_probs" not in self._seen:
            return {}
        batch = {name: pad_sequence(rows, batch_first=True) for name, rows in self._seen.items()}
        mask = batch["response_mask"].bool()
        if not mask.any():
            return {}
        found = calculate_debug_metrics(DataProto.from_dict(tensors=batch))
        gap = compute_offpolicy_metrics(batch["old_log_probs"], batch["rollout_log_probs"], mask)
        found.update({f"rollout_corr/{name}": value for name, value in gap.items()})
        return {name: [float(value)] for name, value in found.items()}
