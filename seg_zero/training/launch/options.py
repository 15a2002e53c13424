"""The command line of a training run, read before anything that takes time is imported."""

from __future__ import annotations

from collections.abc import Sequence

from seg_zero.command_line import CommandParser
from seg_zero.errors import InputError
from seg_zero.extras import TRAINING, VLLM, require


def parser() -> CommandParser:
    made = CommandParser(
        "train",
        "Train a policy with GRPO. A small machine: bash training_scripts/run_tiny_cpu.sh; eight GPUs: "
        "bash training_scripts/run_visionreasoner_7b_8x140G.sh (docs/training.md).",
    )
    made.add_argument(
        "overrides",
        nargs="*",
        metavar="KEY=VALUE",
        help="Hydra overrides, e.g. data.train_files=my.parquet",
    )
    made.add_argument("--dry-run", action="store_true", help="check and explain the run, then stop")
    made.add_argument(
        "--yaml", action="store_true", help="with --dry-run: print the configuration (default: write it to a file)"
    )
    made.add_argument("--skip-bad", action="store_true", help="skip rows with errors (default: refuse the dataset)")
    return made


def train(arguments: Sequence[str]) -> int:
    """Train as the arguments say. Raises InputError at once if a package of training is missing."""
    args = parser().parse_intermixed_args(arguments)
    if args.yaml and not args.dry_run:
        raise InputError("--yaml belongs to --dry-run; give both")
    require("training", TRAINING if args.dry_run else (*TRAINING, *VLLM))
    try:
        from seg_zero.training.launch.start import launch

        return launch(args.overrides, dry_run=args.dry_run, print_yaml=args.yaml, skip_bad=args.skip_bad)
    except KeyboardInterrupt as stop:
        raise KeyboardInterrupt(str(stop) or "stopped before the run was started") from None
