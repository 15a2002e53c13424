"""Keys of EasyR1 and the published Seg-Zero scripts that are renamed or unused here, and modules that moved."""

from __future__ import annotations

# The old key, and the one that replaces it.
RENAMED = {
    "algorithm.kl_coef": "worker.actor.kl_loss_coef",
    "algorithm.kl_penalty_type": "worker.actor.kl_loss_type",
    "algorithm.online_filtering": "algorithm.filter_groups.enable",
    "algorithm.use_kl_loss": "worker.actor.use_kl_loss",
    "data.max_pixels": "policy.max_pixels",
    "data.min_pixels": "policy.min_pixels",
    "data.num_workers": "data.dataloader_num_workers",
    "data.rollout_batch_size": "data.train_batch_size",
    "trainer.max_steps": "trainer.total_training_steps",
    "trainer.save_checkpoint_path": "trainer.default_local_dir",
    "trainer.save_limit": "trainer.max_actor_ckpt_to_keep",
    "trainer.total_episodes": "trainer.total_epochs",
    "trainer.val_freq": "trainer.test_freq",
    "worker.actor.clip_ratio_dual": "actor_rollout_ref.actor.clip_ratio_c",
    "worker.actor.fsdp.optimizer_offload": "worker.actor.offload.optimizer_offload",
    "worker.actor.fsdp.param_offload": "worker.actor.offload.param_offload",
    "worker.actor.fsdp.torch_dtype": "actor_rollout_ref.actor.fsdp_config.model_dtype",
    "worker.actor.loss_avg_mode": "actor_rollout_ref.actor.loss_agg_mode",
    "worker.actor.loss_type": "actor_rollout_ref.actor.policy_loss.loss_mode",
    "worker.actor.model.freeze_vision_tower": "actor_rollout_ref.actor.freeze_vision_tower",
    "worker.actor.model.trust_remote_code": "actor_rollout_ref.model.trust_remote_code",
    "worker.actor.optim.betas": "actor_rollout_ref.actor.optim.betas",
    "worker.actor.optim.lr_warmup_ratio": "actor_rollout_ref.actor.optim.lr_warmup_steps_ratio",
    "worker.actor.padding_free": "actor_rollout_ref.model.use_remove_padding",
    "worker.actor.ppo_epochs": "actor_rollout_ref.actor.ppo_epochs",
    "worker.actor.ulysses_sequence_parallel_size": "actor_rollout_ref.actor.ulysses_sequence_parallel_size",
    "worker.ref.micro_batch_size_per_device_for_experience": "worker.actor.micro_batch_size_per_device_for_experience",
    "worker.rollout.dtype": "actor_rollout_ref.rollout.dtype",
    "worker.rollout.enable_chunked_prefill": "actor_rollout_ref.rollout.enable_chunked_prefill",
    "worker.rollout.max_num_batched_tokens": "actor_rollout_ref.rollout.max_num_batched_tokens",
    "worker.rollout.seed": "actor_rollout_ref.rollout.seed",
    "worker.rollout.top_k": "actor_rollout_ref.rollout.top_k",
}

# The old key, and what to do instead.
REPLACED = {
    "algorithm.disable_kl": "give worker.actor.use_kl_loss=false",
    "algorithm.use_tis": "give algorithm.rollout_correction.rollout_is=token",
    "data.answer_key": "omit it; rows are recognised by their columns, see docs/data.md",
    "data.format_prompt": "choose the prompt with policy.template",
    "data.system_prompt": "choose the prompt with policy.template",
    "worker.reward.compute_score": "choose with reward=seg_strict, seg, vision_reasoner or seg_zero",
    "worker.reward.reward_function": "add a term under reward.terms, see docs/rewards.md",
    "worker.reward.reward_type": "choose with reward=seg_strict, seg, vision_reasoner or seg_zero",
    "worker.rollout.limit_images": "omit it; every question has one image",
}

# Modules that values of the configuration name, as of runs before they moved, and where they are now.
MOVED_MODULES = {
    "seg_zero.training.agent_loop": "seg_zero.training.rollout.agent_loop",
    "seg_zero.training.checkpoint_files": "seg_zero.training.trainer.checkpoint_files",
    "seg_zero.training.cpu_worker": "seg_zero.training.cpu.worker",
    "seg_zero.training.dataset": "seg_zero.training.trainer.dataset",
    "seg_zero.training.gpu_worker": "seg_zero.training.engine.gpu_worker",
    "seg_zero.training.replay": "seg_zero.training.rollout.replay",
    "seg_zero.training.reward": "seg_zero.training.rollout.reward",
    "seg_zero.training.vllm_worker": "seg_zero.training.cpu.vllm_worker",
}
