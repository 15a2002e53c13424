#!/usr/bin/env bash
# Adapters on Qwen2.5-VL-3B with StAR's published LoRA settings, RefCOCOg, one GPU of 24 GB. Any Hydra override, or --dry-run, may follow.
set -euo pipefail
. "$(dirname "$0")/environment.sh"
exec python -m seg_zero.training.launch \
    policy=qwen2_5_vl_3b data=refcocog_2k_840 reward=seg hardware=1x24g schedule=single algorithm=grpo \
    policy.lora.rank=64 policy.lora.alpha=64 worker.actor.optim.lr=1e-5 worker.actor.use_kl_loss=false \
    data.max_response_length=1024 \
    trainer.experiment_name=qwen2_5_3b_lora_1x24G "$@"
