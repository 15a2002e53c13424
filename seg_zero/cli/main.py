"""The command ``seg-zero``: infer, serve, web, train, merge, evaluate, compare, data, demo.

Bad input ends in one line on standard error and exit code 2; nothing is half-written.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

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


def infer(argv: Sequence[str]) -> int:
    """Answer questions about images: reasoning, boxes, points and masks."""
    from seg_zero.cli.infer import infer as run

    return run(argv)


def evaluate(argv: Sequence[str]) -> int:
    """gIoU, cIoU and more of a policy over a dataset, with intervals and a report."""
    from seg_zero.cli.evaluate import evaluate as run

    return run(argv)


def compare(argv: Sequence[str]) -> int:
    """What changed between two evaluations of the same rows."""
    from seg_zero.cli.evaluate import compare as run

    return run(argv)


def data(argv: Sequence[str]) -> int:
    """Make, import or check a dataset file."""
    from seg_zero.cli.data import main as data_main

    return data_main(argv)


def train(argv: Sequence[str]) -> int:
    """Train a policy with GRPO; arguments are Hydra overrides and --dry-run."""
    from seg_zero.training.launch.start import launch

    return launch(list(argv))


def merge(argv: Sequence[str]) -> int:
    """Merge a sharded checkpoint into a Hugging Face folder."""
    from seg_zero.export.merge import main as merge_main

    return merge_main(list(argv))


def demo(argv: Sequence[str]) -> int:
    """Data, evaluation, training, merging, evaluation, one answer, and a page about it."""
    from seg_zero.cli.demo import main as demo_main

    return demo_main(list(argv))


def serve(argv: Sequence[str]) -> int:
    """Answer questions about images over HTTP."""
    from seg_zero.cli.serve import serve as run

    return run(argv)


def web(argv: Sequence[str]) -> int:
    """A page to ask questions about pictures in a browser."""
    from seg_zero.cli.web import web as run

    return run(argv)


COMMANDS: dict[str, Callable[[Sequence[str]], int]] = {
    "infer": infer,
    "serve": serve,
    "web": web,
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
