"""The command ``seg-zero label``: every pixel of pictures labelled by text."""

from __future__ import annotations

import argparse
import json
import os
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from seg_zero.assets import EXAMPLE_IMAGE
from seg_zero.cli.infer.inputs import find_images
from seg_zero.cli.label import evaluate, evaluate3d
from seg_zero.cli.label.options import add_method_options, load_labeller, of_refiner, refinement_of, settings_of
from seg_zero.cli.options import outputs_of
from seg_zero.command_line import CommandParser
from seg_zero.errors import InputError, print_error, print_note, print_warning
from seg_zero.extras import EXTRAS, require
from seg_zero.files import check_folder_place, shown
from seg_zero.segmenter.files import embedded_warning

if TYPE_CHECKING:
    from seg_zero.open_vocabulary.result import LabelledImage

DEFAULT_FOLDER = Path("outputs/label")
DEFAULT_OUTPUTS = "labels,overlay"
EXAMPLE_LABELS = "background, green circle, orange circle, orange square, red square"  # of the example picture
_SHOWN = 8  # labels of a picture in a line


def main(argv: Sequence[str]) -> int:
    """Label every pixel of pictures by text, without training, or judge that on a data set."""
    tools = {"evaluate": evaluate.main, "evaluate3d": evaluate3d.main}
    if argv and argv[0] in tools:
        return tools[argv[0]](argv[1:])
    return _label(argv[1:] if argv and argv[0] == "run" else argv)


def parsers() -> dict[str, CommandParser]:
    return {
        "run": _parser("label run"),
        "evaluate": evaluate.parser(),
        "evaluate3d": evaluate3d.parser(),
    }


def _label(argv: Sequence[str]) -> int:
    args = _parser().parse_args(argv)
    require("label", EXTRAS["open-vocabulary"])
    from seg_zero.open_vocabulary.labels import parse_labels, split_labels
    from seg_zero.open_vocabulary.outputs import OUTPUTS, PanopticFile, write_files
    from seg_zero.prompting import check_question

    # Everything that can be wrong with the options is found before a model is loaded.
    wanted = outputs_of(f"{args.outputs},heatmaps" if args.heatmaps else args.outputs, OUTPUTS)
    if not args.images:
        if args.question is None and args.labels is None:
            args.labels = EXAMPLE_LABELS
        print_note(f"no image given: the example {EXAMPLE_IMAGE}")
    if args.labels is None and args.question is None:
        raise InputError("give --labels, or a --question that the policy makes labels of")
    labels = None if args.labels is None else split_labels(args.labels)
    parsed = None if labels is None else parse_labels(labels)
    if (args.question is None) != (args.model is None):
        raise InputError(
            "--question and --model belong together: a policy that follows instructions, such as "
            "Qwen/Qwen2.5-VL-7B-Instruct, names what answers the question"
        )
    if args.question is not None:
        check_question(args.question)
        if "panoptic" in wanted:
            raise InputError(
                "--outputs panoptic has one list of categories, and a --question gives each picture its own"
            )
    settings, refinement = settings_of(args), refinement_of(args)
    images = find_images(args.images or [str(EXAMPLE_IMAGE)])
    stems = _stems(images)
    _check_place(args.output_path, images)

    if args.refine == "sam2":
        print_warning(embedded_warning(of_refiner(args, "segmenter")))
    segmenter = load_labeller(args, settings, refinement)
    ask = _asker(args, labels)
    from tqdm import tqdm

    together = PanopticFile(parsed or (), args.output_path) if "panoptic" in wanted else nullcontext()
    failures: list[str] = []
    with together as panoptic, tqdm(total=len(images), unit="image", disable=None if len(images) > 1 else True) as bar:
        for image, stem in zip(images, stems, strict=True):
            bar.update()
            try:
                result = segmenter.segment(image, ask(image))
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


def _parser(name: str = "label") -> CommandParser:
    parser = CommandParser(
        name,
        "Label every pixel of pictures by text, without training (open vocabulary). `label evaluate` gives the mIoU on "
        "a data set, `label evaluate3d` that of rooms.",
    )
    parser.add_argument(
        "images", nargs="*", metavar="IMAGE", help="images, folders or quoted globs (default: an example scene)"
    )
    parser.add_argument(
        "--labels",
        help="sky,grass; with synonyms 'sky; cat, kitten'; or a .txt file, a label a line, or .json, a list",
    )
    parser.add_argument(
        "--question",
        help="instead: the policy names what answers it in each picture; --labels are then for the rest of the picture "
        "(default: background)",
    )
    parser.add_argument("--model", help="policy of --question: folder or hub id of a model that follows instructions")
    parser.add_argument("--output_path", type=Path, default=DEFAULT_FOLDER, help="folder")
    parser.add_argument(
        "--outputs", default=DEFAULT_OUTPUTS, help="any of labels,overlay,heatmaps,probabilities,panoptic"
    )
    parser.add_argument("--heatmaps", action="store_true", help="also draw the probability of each label")
    parser.add_argument("--max_side", type=int, help="larger pictures are shrunk to it (default: 2016)")
    add_method_options(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object per picture and nothing else")
    return parser


def _asker(args: argparse.Namespace, labels: list[str] | None) -> Callable[[Path], list[str]]:
    """Gives the labels of a picture: those of the options, or what the policy names for the question."""
    if args.question is None:
        assert labels is not None
        return lambda image: labels
    from seg_zero.images import load_image
    from seg_zero.open_vocabulary.asked import BACKGROUND, labels_for, naming_spec
    from seg_zero.policy.loading import load_policy
    from seg_zero.policy.model_files import default_spec, resolve_model

    spec = naming_spec(default_spec(resolve_model(args.model)))
    policy = load_policy(args.model, spec=spec, device=args.device)
    rest = labels or [BACKGROUND]
    return lambda image: list(labels_for(policy, load_image(image), args.question, rest).labels)


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
    found = ", ".join(f"{name} {area:.1%}" for name, area in list(areas.items())[:_SHOWN])
    nowhere = [label.name for label in result.labels if label.name not in areas]
    more = f" and {len(nowhere) - _SHOWN} more" if len(nowhere) > _SHOWN else ""
    missing = f"; nowhere: {', '.join(nowhere[:_SHOWN])}{more}" if nowhere else ""
    return f"{shown(image)}: {found}{missing}\n  {'  '.join(files.values())}"
