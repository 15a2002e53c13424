"""The command ``seg-zero``: infer, train, merge, evaluate, compare, data, demo.

Bad input ends in one line on standard error and exit code 2; nothing is half-written.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from seg_zero.errors import InputError

# Read when torch is imported: threads that spin while they wait make a busy machine fifty times slower.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

ASSETS = Path(__file__).parent / "assets"
EXAMPLE_IMAGE = ASSETS / "example.png"
EXAMPLE_QUESTION = "the green circle"


def add_model_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--reasoning_model_path",
        "--model",
        default="tiny",
        help="policy: folder or hub id of the Qwen2-VL / Qwen2.5-VL families, or 'tiny' (default, embedded)",
    )
    parser.add_argument(
        "--segmentation_model_path",
        "--segmenter",
        default="tiny",
        help="SAM2: checkpoint file, folder or hub id, or 'tiny' (default, embedded)",
    )
    parser.add_argument("--template", choices=("single", "multi", "brief"), help="prompt (default: the model's own)")
    parser.add_argument("--image_size", type=int, help="side the policy sees, in pixels (default: the model's own)")
    parser.add_argument("--max_new_tokens", type=int, default=1024)
    parser.add_argument("--device", help="cpu, cuda, cuda:1 ... (default: cuda if there is one)")


def quiet_transformers() -> None:
    """Keep transformers' loading bars and warnings out of a command's output."""
    from transformers.utils import logging

    logging.disable_progress_bar()
    logging.set_verbosity_error()


def load_segmenter(args: argparse.Namespace) -> Any:
    from seg_zero.pipeline import ReasoningSegmenter

    quiet_transformers()
    return ReasoningSegmenter.from_pretrained(
        args.reasoning_model_path,
        args.segmentation_model_path,
        device=args.device,
        template=args.template,
        image_size=args.image_size,
        max_new_tokens=args.max_new_tokens,
    )


def infer(argv: Sequence[str]) -> int:
    """Answer one question about one image."""
    parser = argparse.ArgumentParser(prog="infer.py", description=infer.__doc__)
    add_model_options(parser)
    parser.add_argument("--image_path", default=str(EXAMPLE_IMAGE), help="the image (default: a shipped scene)")
    parser.add_argument("--text", default=EXAMPLE_QUESTION, help=f"the question (default: {EXAMPLE_QUESTION!r})")
    parser.add_argument(
        "--output_path",
        default="outputs/infer/answer.png",
        help="overlay picture; the mask goes beside it as NAME_mask.png (default: %(default)s)",
    )
    args = parser.parse_args(argv)
    from seg_zero.images import load_image
    from seg_zero.prompting import normalise_question

    # Everything that can be wrong with the input is found before a model is loaded.
    image = load_image(args.image_path)
    normalise_question(args.text)
    output = Path(args.output_path)
    if output.is_dir():
        raise InputError(f"--output_path {output} is a folder; give a file name such as {output / 'answer.png'}")

    result = load_segmenter(args)(image, args.text)
    from seg_zero.files import write_image
    from seg_zero.visualize import mask_image, overlay

    mask_path = output.with_name(output.stem + "_mask.png")
    write_image(output, overlay(image, result.masks, result.objects, min_side=448))
    write_image(mask_path, mask_image(result.mask))

    print(f"question:  {args.text}")
    print(f"reasoning: {result.thinking or '(none)'}")
    if result.problem is not None or not result.objects:
        print(f"no object found{f' ({result.problem})' if result.problem else ''}; the policy wrote:")
        print(result.text)
    for number, (item, score) in enumerate(zip(result.objects, result.scores, strict=True), start=1):
        box = "none" if item.box is None else [round(v) for v in item.box]
        points = [[round(x), round(y)] for x, y in item.points]
        print(f"object {number}:  box {box}  points {points}  SAM2 score {score:.2f}")
    share = result.mask.mean()
    print(f"mask:      {int(result.mask.sum())} pixels, {share:.1%} of {image.width}x{image.height}")
    print(f"written:   {output}  {mask_path}")
    print("seconds:   " + "  ".join(f"{name} {value:.2f}" for name, value in result.seconds.items()))
    return 0


def evaluate(argv: Sequence[str]) -> int:
    """gIoU, cIoU and more of a policy over a dataset, with intervals and a report."""
    from seg_zero.evaluation.command import evaluate as run

    return run(argv)


def compare(argv: Sequence[str]) -> int:
    """What changed between two evaluations of the same rows."""
    from seg_zero.evaluation.command import compare as run

    return run(argv)


def data(argv: Sequence[str]) -> int:
    """Make, import or check a dataset file."""
    from seg_zero.data.commands import main as data_main

    return data_main(argv)


def train(argv: Sequence[str]) -> int:
    """Train a policy with GRPO; arguments are Hydra overrides and --dry-run."""
    from seg_zero.training.launch import launch

    return launch(list(argv))


def merge(argv: Sequence[str]) -> int:
    """Merge a sharded checkpoint into a Hugging Face folder."""
    from seg_zero.training.merge import main as merge_main

    return merge_main(list(argv))


def demo(argv: Sequence[str]) -> int:
    """Data, evaluation, training, merging, evaluation, one answer, and a page about it."""
    from seg_zero.demo import main as demo_main

    return demo_main(list(argv))


COMMANDS: dict[str, Callable[[Sequence[str]], int]] = {
    "infer": infer,
    "train": train,
    "merge": merge,
    "evaluate": evaluate,
    "compare": compare,
    "data": data,
    "demo": demo,
}


def run(command: Callable[[Sequence[str]], int], argv: Sequence[str] | None = None) -> int:
    """Run one command; bad input becomes one line on standard error and exit code 2."""
    try:
        return command(sys.argv[1:] if argv is None else argv)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def main(argv: Sequence[str] | None = None) -> int:
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0] in ("-h", "--help"):
        print("usage: seg-zero COMMAND [options]\n")
        for name, command in COMMANDS.items():
            print(f"  {name:<10}{(command.__doc__ or '').strip().splitlines()[0]}")
        print("\n`seg-zero COMMAND --help` shows the options.")
        return 0 if arguments else 2
    if arguments[0] not in COMMANDS:
        print(f"error: unknown command {arguments[0]!r}; choose one of {', '.join(COMMANDS)}", file=sys.stderr)
        return 2
    return run(COMMANDS[arguments[0]], arguments[1:])


if __name__ == "__main__":
    sys.exit(main())
