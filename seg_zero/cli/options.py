"""Options that several commands share."""

from __future__ import annotations

import argparse


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
    parser.add_argument("--template", choices=("single", "multi", "brief"), help="prompt (default: that of the model)")
    parser.add_argument(
        "--image_size", type=int, help="side of the policy's input in pixels (default: that of the model)"
    )
    parser.add_argument(
        "--max_new_tokens", type=int, default=1024, help="longest answer, in tokens (default: %(default)s)"
    )
    parser.add_argument("--device", help="cpu, cuda, cuda:1 ... (default: cuda if available)")
