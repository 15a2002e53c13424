#!/usr/bin/env bash
# The remote-sensing model on the synthetic aerial world, on two CPU cores: trained on one sensor with five classes,
# measured on another with eight, and under other names. Into outputs/tiny_remote_sensing, or TINY_REMOTE_SENSING. Any
# Hydra override of configs/remote_sensing, or --dry-run, may follow. Rerun to resume.
set -euo pipefail
. "$(dirname "$0")/environment.sh"
out=${TINY_REMOTE_SENSING:-outputs/tiny_remote_sensing}
python -m seg_zero.cli remote-sensing aerial "$out/world" --size 96 --train 160 --evaluate 40
train=(remote-sensing train recipe=tiny "data.train.folder=$out/world/plane" "output_dir=$out/run" "$@")
python -m seg_zero.cli "${train[@]}"
case " $* " in *" --dry-run "*) exit ;; esac
exec python -m seg_zero.models.tiny_aerial.measure "$out/world" "$out/run"
