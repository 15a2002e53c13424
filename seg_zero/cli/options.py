"""Options that several commands share."""

from __future__ import annotations

import argparse
from collections.abc import Collection
from typing import TYPE_CHECKING

from seg_zero.errors import InputError
from seg_zero.results.outputs import check_outputs

if TYPE_CHECKING:
    from seg_zero.pipeline import ReasoningSegmenter
    from seg_zero.prompting import PromptTemplate


def add_model_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--reasoning_model_path",
        "--model",
        default="tiny",
        help="policy: folder or hub id of a Qwen2-VL, Qwen2.5-VL, Qwen3-VL or GLM-4.1V model (default: tiny)",
    )
    parser.add_argument(
        "--segmentation_model_path",
        "--segmenter",
        default="tiny",
        help="segmenter: checkpoint file, folder or hub id (default: tiny, an embedded SAM2)",
    )
    add_prompt_options(parser)
    parser.add_argument(
        "--max_new_tokens", type=int, default=1024, help="longest answer, in tokens (default: %(default)s)"
    )
    parser.add_argument("--device", help="cpu, cuda, cuda:1 ... (default: cuda if available)")


def add_prompt_options(parser: argparse.ArgumentParser) -> None:
    """Options that replace the prompt settings of a policy."""
    parser.add_argument("--template", choices=("single", "multi", "brief"), help="prompt (default: that of the model)")
    add_prompt_template_option(parser)
    parser.add_argument(
        "--image_size", type=int, help="side of the policy's input in pixels (default: that of the model)"
    )


def add_prompt_template_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--prompt_template",
        metavar="FILE",
        help="prompt from a file that `seg-zero prompt import` writes (default: that of the model)",
    )


def prompt_template_of(args: argparse.Namespace) -> PromptTemplate | None:
    """What ``--prompt_template`` names. Raises InputError for a file that is none, and for ``--template`` beside it."""
    from seg_zero.prompting import PromptTemplate

    if args.prompt_template is None:
        return None
    if getattr(args, "template", None) is not None:
        raise InputError(f"--template {args.template} and --prompt_template were both given; give one of them")
    return PromptTemplate.read(args.prompt_template)


def outputs_of(text: str, known: Collection[str]) -> tuple[str, ...]:
    """What ``--outputs`` names. Raises InputError for what is none of ``known``, and if there is nothing."""
    chosen = tuple(part.strip() for part in text.split(",") if part.strip())
    try:
        check_outputs(chosen, known)
    except InputError as error:
        raise InputError(f"--{error}") from None
    return chosen


def segmenter_of(args: argparse.Namespace, template: PromptTemplate | None) -> ReasoningSegmenter:
    """Both models as the options say, ``template`` being what :func:`prompt_template_of` found; loads them quietly."""
    from seg_zero.pipeline import ReasoningSegmenter
    from seg_zero.policy.loading import quiet_transformers

    quiet_transformers()
    return ReasoningSegmenter.from_pretrained(
        args.reasoning_model_path,
        args.segmentation_model_path,
        device=args.device,
        dtype=args.dtype,
        template=args.template,
        prompt_template=template,
        image_size=args.image_size,
        max_new_tokens=args.max_new_tokens,
    )
