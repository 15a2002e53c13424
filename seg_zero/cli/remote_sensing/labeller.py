"""Options that say what labels tiles, shared by ``evaluate`` and ``segment``, and what they mean."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seg_zero.cli.label.options import (
    add_method_options,
    load_labeller,
    refinement_of,
    refinement_record,
    settings_of,
)
from seg_zero.errors import InputError
from seg_zero.extras import EXTRAS, require

if TYPE_CHECKING:
    from seg_zero.open_vocabulary.segmenter import OpenVocabularySegmenter
    from seg_zero.remote_sensing.labelling import TileLabeller

METHODS = ("rskt", "radseg")
TEMPLATES = "aerial"  # of --method radseg: CLIP's sentences for aerial views


def add_labeller_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--method",
        choices=METHODS,
        help="rskt: a trained network, --model; radseg: a RADIO backbone without training (default: rskt with --model)",
    )
    parser.add_argument("--model", type=Path, help="of --method rskt: folder of a training, or a published checkpoint")
    parser.add_argument("--sliding", action="store_true", help="of --method rskt: each picture also in four windows")
    add_method_options(parser)
    for action in parser._actions:
        if action.dest == "templates":
            action.help = f"imagenet, single, scene, aerial, none (default: {TEMPLATES})"


def method_of(args: argparse.Namespace) -> str:
    """Which method the options name. Raises InputError where they do not fit each other, and for missing packages."""
    method: str = args.method or ("rskt" if args.model is not None else "")
    if not method:
        raise InputError("give --model FOLDER, a trained network, or --method radseg, which needs no training")
    if method == "rskt" and args.model is None:
        raise InputError("--method rskt needs --model, the folder of a training or a published checkpoint")
    if method == "radseg" and args.model is not None:
        raise InputError(f"--model {args.model} is of --method rskt; leave out one of them, or give --backbone")
    if method == "rskt" and not args.model.exists():
        raise InputError(f"--model {args.model} does not exist; give the folder of a training or a checkpoint file")
    if method == "rskt":
        _refuse_radseg_options(args)
    elif args.sliding:
        raise InputError("--sliding is of --method rskt; for --method radseg give --crop and --stride")
    require("labelling tiles", EXTRAS["remote-sensing"])
    return method


def _refuse_radseg_options(args: argparse.Namespace) -> None:
    """Raises InputError for the first option that a trained network would ignore."""
    options = argparse.ArgumentParser(add_help=False)
    add_method_options(options)
    for name, default in vars(options.parse_args([])).items():
        if name not in ("device", "dtype") and getattr(args, name) != default:
            raise InputError(f"--{name} {getattr(args, name)} is of --method radseg; leave it out with --model")


def name_of(args: argparse.Namespace, method: str) -> str:
    """The method as a table shows it."""
    return f"RSKT-Seg ({args.model.name})" if method == "rskt" else f"RADSeg ({Path(args.backbone).name})"


def settings_in(args: argparse.Namespace, method: str) -> dict[str, Any]:
    """What decides the labels, for a manifest. Raises InputError for values out of range and for what is not there."""
    from seg_zero.evaluation.run import fingerprint

    if method == "rskt":
        place = args.model if args.model.is_dir() else args.model.parent
        return {
            "method": "rskt",
            "backbone": str(args.model),
            "files": fingerprint(str(place)),
            "sliding": args.sliding,
            "dtype": args.dtype,
        }
    from seg_zero.encoders.radio import find_radio

    return {
        "method": "radseg",
        "backbone": args.backbone,
        "files": fingerprint(str(find_radio(args.backbone))),
        "adaptor": args.adaptor,
        "settings": asdict(_settings(args)),
        **refinement_record(args, refinement_of(args)),
        "dtype": args.dtype,
    }


def load_method(args: argparse.Namespace, method: str) -> TileLabeller | OpenVocabularySegmenter:
    """The network, or the open-vocabulary segmenter."""
    if method == "radseg":
        return load_labeller(args, _settings(args), refinement_of(args))
    from seg_zero.remote_sensing.segmenter import RemoteSensingSegmenter

    found: TileLabeller = RemoteSensingSegmenter.from_pretrained(
        args.model, args.device, sliding=args.sliding, dtype=args.dtype
    )
    return found


def _settings(args: argparse.Namespace) -> Any:
    return settings_of(args, **{"templates": TEMPLATES, **getattr(args, "method_defaults", {})})
