"""Overridden values of verl's keys: each of the kind of its default, and those of :data:`RULES` within their range.

Hydra takes a mistyped value for a text, and verl fails on it after minutes, or runs with something else.
"""

from __future__ import annotations

from collections.abc import Iterable

from omegaconf import DictConfig, ListConfig, OmegaConf

from seg_zero.training.settings import FRACTION, POSITIVE, SWITCH, Rule, is_number, number, one_of, or_null, whole


def _up_to(most: float, with_zero: bool) -> Rule:
    return Rule(
        f"a number from 0 to {most:g}" if with_zero else f"a number above 0 and up to {most:g}",
        "set it to a number in this range",
        lambda v: is_number(v) and (v >= 0 if with_zero else v > 0) and v <= most,
    )


_ANY = Rule("a number", "set it to one such as 1.0e-6", is_number)
_COUNT = Rule("a whole number", "set it to one", lambda v: type(v) is int)
_EVERY = Rule("a whole number from -1 up", "set it to -1 (never) or to steps", lambda v: type(v) is int and v >= -1)

RULES: dict[str, Rule] = {
    "data.max_prompt_length": whole(1),
    "data.max_response_length": whole(1),
    "data.train_max_samples": _COUNT,
    "data.val_max_samples": _COUNT,
    "data.dataloader_num_workers": whole(0),
    "data.seed": or_null(whole(0)),
    "data.augmentation.flip": FRACTION,
    "data.augmentation.scale_jitter": _up_to(0.5, True),
    "worker.actor.optim.lr": number(0),
    "worker.actor.optim.weight_decay": number(0),
    "worker.actor.max_grad_norm": POSITIVE,
    "worker.actor.clip_ratio": number(0),
    "worker.actor.clip_ratio_low": number(0),
    "worker.actor.clip_ratio_high": number(0),
    "worker.actor.entropy_coeff": _ANY,
    "worker.actor.kl_loss_coef": number(0),
    "worker.rollout.temperature": number(0),
    "worker.rollout.top_p": _up_to(1, False),
    "worker.rollout.gpu_memory_utilization": _up_to(1, False),
    "actor_rollout_ref.actor.ppo_epochs": whole(1),
    "actor_rollout_ref.actor.optim.lr_warmup_steps": _COUNT,
    "actor_rollout_ref.actor.optim.lr_warmup_steps_ratio": FRACTION,
    "actor_rollout_ref.rollout.max_model_len": or_null(whole(1)),
    "actor_rollout_ref.rollout.max_num_seqs": whole(1),
    "trainer.nnodes": whole(1),
    "trainer.total_epochs": whole(1),
    "trainer.total_training_steps": or_null(whole(1)),
    "trainer.save_freq": _EVERY,
    "trainer.test_freq": _EVERY,
    "trainer.resume_mode": one_of("auto", "disable", "resume_path"),
}


def _rule_of(default: object) -> Rule | None:
    """What a value may be that takes the place of ``default``; None: anything."""
    if isinstance(default, bool):
        return SWITCH
    if isinstance(default, int | float):
        return _ANY
    if isinstance(default, DictConfig):
        return Rule("a section", "give its keys", lambda v: isinstance(v, DictConfig))
    if isinstance(default, ListConfig):
        return Rule("a list or a text", "set it to one", lambda v: isinstance(v, ListConfig | str))
    return None


def check_values(config: DictConfig, base: DictConfig, given: Iterable[str]) -> None:
    """Raise InputError for the first value of a wrong kind or out of range.

    base: the configuration without overrides of keys. given: the keys that were overridden; for these null is
    allowed in place of anything that has no rule, as verl's defaults do not say where it is not. Reward terms have
    rules of their own.
    """
    for key in given:
        value, default = OmegaConf.select(config, key), OmegaConf.select(base, key, throw_on_missing=False)
        read_elsewhere = key in RULES or key.startswith("reward.terms.")
        rule = None if read_elsewhere or value is None else _rule_of(default)
        if rule is not None:
            rule.check(key, value)
    for key, rule in RULES.items():
        rule.check(key, OmegaConf.select(config, key))
