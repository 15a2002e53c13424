#!/usr/bin/env bash
# GRPO of the embedded tiny policy on synthetic scenes, on two CPU cores. Any Hydra override, or --dry-run, may follow.
set -euo pipefail
. "$(dirname "$0")/environment.sh"
exec python -m seg_zero.training.launch \
    policy=tiny data=synthetic reward=seg_zero hardware=cpu_2core schedule=tiny algorithm=grpo \
    trainer.experiment_name=tiny_cpu "$@"
