#!/usr/bin/env bash
# GRPO of the embedded tiny policy on synthetic scenes, on two CPU cores. Any Hydra override, or --dry-run, may follow.
set -euo pipefail
cd "$(dirname "$0")/.."
[ -x .venv/bin/python ] && PATH="$PWD/.venv/bin:$PATH"
exec python -m seg_zero.training.launch \
    policy=tiny data=synthetic reward=seg_zero hardware=cpu_2core schedule=tiny algorithm=grpo \
    trainer.experiment_name=tiny_cpu "$@"
