"""The command ``seg-zero remote-sensing train``. With more than one GPU: ``accelerate launch -m seg_zero.cli ...``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from seg_zero.command_line import CommandParser
from seg_zero.extras import EXTRAS, require

if TYPE_CHECKING:
    from seg_zero.remote_sensing.tiles import LabelledTiles
    from seg_zero.remote_sensing.training.settings import TilesPlace


def parser() -> CommandParser:
    made = CommandParser("remote-sensing train", main.__doc__)
    made.add_argument(
        "overrides",
        nargs="*",
        metavar="KEY=VALUE",
        help="of configs/remote_sensing/train.yaml, such as recipe=dlrsd_b (also dlrsd_l, isaid_b, isaid_l, tiny), "
        "data.train.folder=FOLDER, pretrained.clip=FILE; rerun the same command to resume",
    )
    made.add_argument("--dry-run", action="store_true", help="print the configuration and what it needs, and stop")
    return made


def main(argv: Sequence[str]) -> int:
    """Train the remote-sensing model on labelled tiles; rerun the same command to resume."""
    args = parser().parse_args(argv)
    require("remote-sensing train", (*EXTRAS["remote-sensing"], "tensorboard"))
    from accelerate import PartialState

    from seg_zero.remote_sensing.training.config import compose_settings

    settings, config = compose_settings(args.overrides)
    from seg_zero.remote_sensing.training.loop import check_tiles

    tiles = _opened(settings.data.train)
    validation = None if settings.data.validation is None else _opened(settings.data.validation)
    check_tiles(tiles, "data.train")
    if args.dry_run:
        from omegaconf import OmegaConf

        from seg_zero.remote_sensing.training.loop import build, check_batches
        from seg_zero.remote_sensing.training.plan import planned

        processes = PartialState().num_processes
        check_batches(settings, processes)
        build(settings)  # whether the files to start from are there and fit
        print(OmegaConf.to_yaml(config))
        print(planned(settings, tiles, validation, processes))
        return 0
    from seg_zero.remote_sensing.training.loop import train

    summary = train(settings, tiles, validation, lambda line: print(line, flush=True))
    if not PartialState().is_main_process:
        return 0
    best = "" if summary.best_miou is None else f"; best mIoU {100 * summary.best_miou:.2f}"
    print(f"{summary.folder}: {summary.steps:,} steps{best}")
    return 0


def _opened(place: TilesPlace) -> LabelledTiles:
    from seg_zero.remote_sensing.data.folders import open_tiles

    return open_tiles(place.dataset, Path(place.folder).expanduser(), place.split)
