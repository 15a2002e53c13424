"""Options of the method that ``seg-zero label`` and ``seg-zero label evaluate`` share, and what they mean."""

from __future__ import annotations

import argparse
from dataclasses import asdict, fields
from typing import TYPE_CHECKING, Any

from seg_zero.errors import InputError, print_warning

if TYPE_CHECKING:
    import torch

    from seg_zero.encoders.sam_decoder import SamDecoder
    from seg_zero.open_vocabulary.refinement import RefinementSettings
    from seg_zero.open_vocabulary.segmenter import OpenVocabularySegmenter
    from seg_zero.open_vocabulary.settings import Settings
    from seg_zero.segmenter import Segmenter

REFINEMENT = ("coarse_threshold", "minimal_area", "iou_threshold")
# Option: the value of --refine that it belongs to, and its default.
OF_REFINER = {"segmenter": ("sam2", "tiny"), "sam": ("sam", "facebook/sam-vit-huge"), "compat": ("sam", "fixed")}


def add_method_options(parser: argparse.ArgumentParser, windows: str = "the backbone's", threshold: float = 0) -> None:
    """Add options for backbone, method, refinement and device.

    windows: where crop and stride come from; threshold: the default that the command gives to its settings.
    """
    parser.add_argument(
        "--backbone",
        default="tiny",
        help="RADIO version such as c-radio_v3-b, checkpoint (.pth.tar) or converted folder (default: tiny, embedded)",
    )
    parser.add_argument("--adaptor", default="siglip2", help="the backbone's adaptor to a text tower")
    parser.add_argument("--templates", help="imagenet, single, scene, aerial, none (default: imagenet)")
    parser.add_argument("--crop", type=int, help=f"window in pixels, a multiple of 16; 0: none (default: {windows})")
    parser.add_argument("--stride", type=int, help=f"pixels between windows (default: {windows})")
    parser.add_argument("--scra_scaling", type=float, help="of the last block's attention; 0: ordinary (default: 10)")
    parser.add_argument("--scga_scaling", type=float, help="of the aggregation; 0: none (default: 10)")
    parser.add_argument("--scga_when", choices=("always", "multi_window"), help="(default: always)")
    parser.add_argument("--denoising", type=float, help="labels that stay below are taken for absent (default: 0.5)")
    parser.add_argument("--threshold", type=float, help=f"pixels below get no label (default: {threshold})")
    parser.add_argument(
        "--refine",
        choices=("sam2", "sam"),
        help="redraw edges (RADSeg+): by --segmenter, or by SAM-1 on RADIO's features",
    )
    parser.add_argument("--segmenter", help="SAM 2 or SAM 3 of --refine sam2: file, folder or hub id (default: tiny)")
    parser.add_argument("--sam", help="SAM-1 of --refine sam: folder or hub id (default: facebook/sam-vit-huge)")
    parser.add_argument("--compat", choices=("fixed", "released"), help="mask prompts of --refine sam (default: fixed)")
    parser.add_argument("--coarse_threshold", type=float, help="of regions to refine (default: 0.1)")
    parser.add_argument("--minimal_area", type=int, help="of regions, at half the size (default: 225)")
    parser.add_argument("--iou_threshold", type=float, help="of masks to trust (default: 0.9)")
    parser.add_argument("--device", help="cpu, cuda, cuda:1 ... (default: cuda if available)")
    parser.add_argument("--dtype", help="float32, bfloat16, float16 (default: bfloat16 on CUDA, else float32)")


def settings_of(args: argparse.Namespace, **defaults: Any) -> Settings:
    """The settings that the options give, over ``defaults``. Raises InputError for values outside their range."""
    from seg_zero.open_vocabulary.settings import Settings

    names = {field.name for field in fields(Settings)}
    given = {name: value for name, value in vars(args).items() if name in names and value is not None}
    off = {name: None for name in ("scra_scaling", "scga_scaling") if getattr(args, name) == 0}
    return Settings(**{**defaults, **given, **off})


def refinement_of(args: argparse.Namespace, **defaults: Any) -> RefinementSettings:
    """Raises InputError for options of refinement without --refine, and for their values."""
    from seg_zero.open_vocabulary.refinement import RefinementSettings

    given = {name: value for name in REFINEMENT if (value := getattr(args, name)) is not None}
    if given and args.refine is None:
        raise InputError(f"--{next(iter(given))} belongs to --refine; add --refine sam2 or --refine sam")
    for name, (refine, _) in OF_REFINER.items():
        if getattr(args, name) is not None and args.refine != refine:
            raise InputError(f"--{name} belongs to --refine {refine}; add that, or leave --{name} out")
    return RefinementSettings(**{**defaults, **given})


def of_refiner(args: argparse.Namespace, name: str) -> str:
    """The value of an option of :data:`OF_REFINER`, or its default."""
    given: str | None = getattr(args, name)
    return OF_REFINER[name][1] if given is None else given


def refinement_record(args: argparse.Namespace, refinement: RefinementSettings) -> dict[str, Any]:
    """What refines, and how, for a manifest."""
    if args.refine is None:
        return {"refine": None, "refinement": None}
    model = of_refiner(args, "segmenter" if args.refine == "sam2" else "sam")
    return {"refine": model, "refinement": {**asdict(refinement), "compat": of_refiner(args, "compat")}}


def load_labeller(
    args: argparse.Namespace, settings: Settings, refinement: RefinementSettings
) -> OpenVocabularySegmenter:
    """The backbone, its text tower and what refines, as the options say; loads them quietly."""
    from seg_zero.encoders.radio import backbone_warning
    from seg_zero.open_vocabulary.segmenter import OpenVocabularySegmenter
    from seg_zero.policy.loading import quiet_transformers

    quiet_transformers()
    print_warning(backbone_warning(args.backbone))
    given = {field.name: getattr(settings, field.name) for field in fields(settings)}
    segmenter = OpenVocabularySegmenter.from_pretrained(
        args.backbone, args.adaptor, device=args.device, dtype=args.dtype, **given
    )
    if args.refine is not None:
        segmenter.refine_with(_refiner(args, segmenter.encoder.device), refinement)
    return segmenter


def _refiner(args: argparse.Namespace, device: torch.device) -> Segmenter | SamDecoder:
    if args.refine == "sam2":
        from seg_zero.segmenter import load_segmenter

        return load_segmenter(of_refiner(args, "segmenter"), str(device))
    from seg_zero.encoders.sam_decoder import SamDecoder

    return SamDecoder(of_refiner(args, "sam"), device, "released" if args.compat == "released" else "fixed")
