#!/usr/bin/env bash
# Single-object recipe: Qwen2.5-VL-3B on RefCOCOg, one GPU of 80 GB. Any Hydra override, or --dry-run, may follow.
set -euo pipefail
. "$(dirname "$0")/environment.sh"
exec python -m seg_zero.training.launch \
    policy=qwen2_5_vl_3b data=refcocog_2k_840 reward=seg hardware=1x80g schedule=single algorithm=grpo \
    trainer.experiment_name=qwen2_5_3b_1x80G "$@"
