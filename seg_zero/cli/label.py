"""The command ``seg-zero label``: every pixel of pictures labelled by text."""

from __future__ import annotations

import argparse
import json
import os
from collections import Counter
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING

from seg_zero.cli.infer_inputs import find_images
from seg_zero.cli.options import outputs_of
from seg_zero.command_line import CommandParser
from seg_zero.errors import InputError, print_error
from seg_zero.extras import EXTRAS, require
from seg_zero.files import check_folder_place, shown

if TYPE_CHECKING:
    import torch

    from seg_zero.encoders.sam_decoder import SamDecoder
    from seg_zero.open_vocabulary.refinement import RefinementSettings
    from seg_zero.open_vocabulary.result import LabelledImage
    from seg_zero.segmenter import Segmenter

DEFAULT_FOLDER = Path("outputs/label")
DEFAULT_OUTPUTS = "labels,overlay"


def main(argv: Sequence[str]) -> int:
    """Label every pixel of pictures by text, without training (open vocabulary)."""
    args = parser().parse_args(argv)
    require("label", EXTRAS["open-vocabulary"])
    from seg_zero.open_vocabulary.labels import parse_labels, split_labels
    from seg_zero.open_vocabulary.outputs import OUTPUTS, PanopticFile, write_files
    from seg_zero.open_vocabulary.settings import Settings

    # Everything that can be wrong with the options is found before a model is loaded.
    wanted = outputs_of(f"{args.outputs},heatmaps" if args.heatmaps else args.outputs, OUTPUTS)
    labels = split_labels(args.labels)
    parsed = parse_labels(labels)
    names = {field.name for field in fields(Settings)}
    settings = {name: value for name, value in vars(args).items() if name in names and value is not None}
    settings |= {name: None for name in ("scra_scaling", "scga_scaling") if getattr(args, name) == 0}
    Settings(**settings)
    refinement = _refinement(args)
    images = find_images(args.images)
    stems = _stems(images)
    _check_place(args.output_path, images)

    from seg_zero.open_vocabulary.segmenter import OpenVocabularySegmenter
    from seg_zero.policy.loading import quiet_transformers

    quiet_transformers()
    segmenter = OpenVocabularySegmenter.from_pretrained(
        args.backbone, args.adaptor, labels=labels, device=args.device, dtype=args.dtype, **settings
    )
    if args.refine is not None:
        segmenter.refine_with(_refiner(args, segmenter.encoder.device), refinement)
    from tqdm import tqdm

    together = PanopticFile(parsed, args.output_path) if "panoptic" in wanted else nullcontext()
    failures: list[str] = []
    with together as panoptic, tqdm(total=len(images), unit="image", disable=None if len(images) > 1 else True) as bar:
        for image, stem in zip(images, stems, strict=True):
            bar.update()
            try:
                result = segmenter.segment(image)
                files = write_files(result, args.output_path, stem, wanted)
            except InputError as error:
                if len(images) == 1:
                    raise
                failures.append(str(error))
                continue
            if panoptic is not None:
                panoptic.add(result, stem, image.name)
                files["panoptic"] = os.fspath(panoptic.path)
            tqdm.write(_line(image, result, files, args.json))
    if failures:
        print_error(f"{len(failures)} of {len(images)} pictures could not be labelled:", *failures)
    return 1 if failures else 0


def parser() -> CommandParser:
    parser = CommandParser("label", main.__doc__)
    parser.add_argument("images", nargs="+", metavar="IMAGE", help="images, folders or quoted globs")
    parser.add_argument(
        "--labels",
        required=True,
        help="sky,grass; with synonyms 'sky; cat, kitten'; or a .txt file, a label a line, or .json, a list",
    )
    parser.add_argument(
        "--backbone", default="c-radio_v3-b", help="RADIO version, checkpoint (.pth.tar) or converted folder"
    )
    parser.add_argument("--adaptor", default="siglip2", help="the backbone's adaptor to a text tower")
    parser.add_argument("--output_path", type=Path, default=DEFAULT_FOLDER, help="folder")
    parser.add_argument(
        "--outputs", default=DEFAULT_OUTPUTS, help="any of labels,overlay,heatmaps,probabilities,panoptic"
    )
    parser.add_argument("--heatmaps", action="store_true", help="also draw the probability of each label")
    parser.add_argument("--templates", help="imagenet, single, scene, aerial, none (default: imagenet)")
    parser.add_argument(
        "--crop", type=int, help="window in pixels, a multiple of 16; 0: none (default: the backbone's)"
    )
    parser.add_argument("--stride", type=int, help="pixels between windows (default: the backbone's)")
    parser.add_argument("--max_side", type=int, help="larger pictures are shrunk to it (default: 2016)")
    parser.add_argument("--scra_scaling", type=float, help="of the last block's attention; 0: ordinary (default: 10)")
    parser.add_argument("--scga_scaling", type=float, help="of the aggregation; 0: none (default: 10)")
    parser.add_argument("--scga_when", choices=("always", "multi_window"), help="(default: always)")
    parser.add_argument("--denoising", type=float, help="labels that stay below are taken for absent (default: 0.5)")
    parser.add_argument("--threshold", type=float, help="pixels below get no label (default: 0)")
    parser.add_argument(
        "--refine",
        choices=("sam2", "sam"),
        help="redraw edges (RADSeg+): by --segmenter, or by SAM-1 on RADIO's features",
    )
    parser.add_argument("--segmenter", default="tiny", help="SAM 2 or SAM 3 of --refine sam2: file, folder or hub id")
    parser.add_argument("--sam", default="facebook/sam-vit-huge", help="SAM-1 of --refine sam: folder or hub id")
    parser.add_argument("--compat", choices=("fixed", "released"), default="fixed", help="mask prompts of --refine sam")
    parser.add_argument("--coarse_threshold", type=float, help="of regions to refine (default: 0.1)")
    parser.add_argument("--minimal_area", type=int, help="of regions, at half the size (default: 225)")
    parser.add_argument("--iou_threshold", type=float, help="of masks to trust (default: 0.9)")
    parser.add_argument("--device", help="cpu, cuda, cuda:1 ... (default: cuda if available)")
    parser.add_argument("--dtype", help="float32, bfloat16, float16 (default: bfloat16 on CUDA, else float32)")
    parser.add_argument("--json", action="store_true", help="print one JSON object per picture and nothing else")
    return parser


def _refinement(args: argparse.Namespace) -> RefinementSettings:
    """Raises InputError for options of refinement without --refine, and for their values."""
    from seg_zero.open_vocabulary.refinement import RefinementSettings

    names = ("coarse_threshold", "minimal_area", "iou_threshold")
    given = {name: value for name in names if (value := getattr(args, name)) is not None}
    if given and args.refine is None:
        raise InputError(f"--{next(iter(given))} belongs to --refine; add --refine sam2 or --refine sam")
    return RefinementSettings(**given)


def _refiner(args: argparse.Namespace, device: torch.device) -> Segmenter | SamDecoder:
    if args.refine == "sam2":
        from seg_zero.segmenter import load_segmenter

        return load_segmenter(args.segmenter, str(device))
    from seg_zero.encoders.sam_decoder import SamDecoder

    return SamDecoder(args.sam, device, args.compat)


def _stems(images: Sequence[Path]) -> list[str]:
    """A name for each image's files: its own without ending, or with it where two would be the same."""
    counts = Counter(image.stem for image in images)
    stems = [image.stem if counts[image.stem] == 1 else image.name.replace(".", "_") for image in images]
    repeated = [stem for stem, count in Counter(stems).items() if count > 1]
    if repeated:
        raise InputError(f"two images are called {repeated[0]}; label their folders one by one")
    return stems


def _check_place(folder: Path, images: Sequence[Path]) -> None:
    check_folder_place(folder)
    if folder.resolve() in {image.resolve().parent for image in images}:
        raise InputError(f"--output_path {folder} holds images that are labelled; name another folder")


def _line(image: Path, result: LabelledImage, files: dict[str, str], as_json: bool) -> str:
    areas = result.areas()
    if as_json:
        record = {
            "image": shown(image),
            "size": list(result.image.size),
            "areas": {name: round(area, 6) for name, area in areas.items()},
            "absent": [label.name for label, kept in zip(result.labels, result.kept, strict=True) if not kept],
            "files": files,
        }
        return json.dumps(record, ensure_ascii=False)
    found = ", ".join(f"{name} {area:.1%}" for name, area in list(areas.items())[:8])
    return f"{shown(image)}: {found}\n  {'  '.join(files.values())}"
