#!/usr/bin/env bash
# Whole conversations of the embedded tiny policy about synthetic scenes, in closed loop, on two CPU cores. Any Hydra
# override, or --dry-run, may follow; dialogue=rounds trains the first stage.
set -euo pipefail
. "$(dirname "$0")/environment.sh"
exec python -m seg_zero.training.launch \
    policy=tiny data=dialogues reward=seg_zero hardware=cpu_2core schedule=tiny algorithm=grpo dialogue=conversations \
    data.train_batch_size=4 worker.actor.global_batch_size=4 worker.rollout.n=4 \
    trainer.experiment_name=tiny_dialogue_cpu "$@"
