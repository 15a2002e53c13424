#!/usr/bin/env bash
# Multi-object recipe: Qwen2.5-VL-7B, 2 machines of 8 GPUs of 80 GB (docs/many_machines.md). Any Hydra override, or --dry-run, may follow.
set -euo pipefail
. "$(dirname "$0")/environment.sh"
exec python -m seg_zero.training.launch \
    policy=qwen2_5_vl_7b_multi data=visionreasoner_7k_840 reward=vision_reasoner hardware=2x8x80g schedule=multi algorithm=grpo \
    trainer.experiment_name=visionreasoner_7b_2x8x80G "$@"
