"""Options that ``seg-zero serve`` and ``seg-zero web`` share, and what they mean."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from seg_zero.cli.options import add_model_options, prompt_template_of
from seg_zero.errors import InputError
from seg_zero.extras import EXTRAS, VLLM
from seg_zero.policy import Policy
from seg_zero.policy.families import is_published
from seg_zero.policy.loading import ENGINES, load_policy
from seg_zero.policy.model_files import default_spec, models_warning, resolve_model
from seg_zero.prompting import PromptSpec
from seg_zero.serving.signals import interrupts_kept_from_children
from seg_zero.serving.uploads import Limits

if TYPE_CHECKING:
    from seg_zero.open_vocabulary.segmenter import OpenVocabularySegmenter
    from seg_zero.remote_sensing.segmenter import RemoteSensingSegmenter

_POSITIVE = ("max_upload_mb", "max_megapixels", "max_question", "max_new_tokens")


def add_server_options(parser: argparse.ArgumentParser, port: int) -> None:
    """Add options for models, engine, address (``port`` by default) and limits of a request."""
    add_model_options(parser)
    parser.add_argument(
        "--engine",
        choices=ENGINES,
        default="transformers",
        help="engine of the policy (default: %(default)s)",
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=int, default=port, help="port to listen on (default: %(default)s)")
    parser.add_argument("--max_upload_mb", type=float, default=20.0, help="largest upload (default: %(default)s)")
    parser.add_argument(
        "--max_megapixels", type=float, default=16.0, help="larger images are reduced to this (default: %(default)s)"
    )
    parser.add_argument(
        "--max_question", type=int, default=2000, help="longest question, in characters (default: %(default)s)"
    )


def add_labelling_options(parser: argparse.ArgumentParser, where: str, backbone: str) -> None:
    """Add options for what labels every pixel by text. where: of the server or page; backbone: its default."""
    parser.add_argument(
        "--label_backbone",
        metavar="NAME",
        help=f"RADIO of {where}: version, checkpoint or folder, as for seg-zero label (default: {backbone})",
    )
    parser.add_argument(
        "--remote_sensing_model",
        type=Path,
        metavar="FOLDER",
        help=f"network for aerial tiles of {where}: folder of a training, or a published checkpoint (default: none)",
    )


def check_server_options(args: argparse.Namespace, also_positive: Sequence[str] = ()) -> None:
    """Raises InputError for a value out of range."""
    for name in (*also_positive, *_POSITIVE):
        if not 0 < getattr(args, name) < 1e9:
            raise InputError(f"--{name} {getattr(args, name)} is not above 0; give a positive number")
    if not 0 < args.port < 65536:
        raise InputError(f"--port {args.port} is no port; give 1 to 65535")
    if args.remote_sensing_model is not None and not args.remote_sensing_model.expanduser().exists():
        raise InputError(
            f"--remote_sensing_model {args.remote_sensing_model} does not exist; give the folder of a training or a "
            "checkpoint file"
        )


def limits_of(args: argparse.Namespace) -> Limits:
    return Limits(int(args.max_upload_mb * 2**20), int(args.max_megapixels * 1e6), args.max_question)


def packages_of(args: argparse.Namespace) -> tuple[str, ...]:
    """The optional packages that the chosen engine needs."""
    return VLLM if args.engine == "vllm" else ()


def labelling_packages(args: argparse.Namespace) -> tuple[str, ...]:
    """The optional packages that the chosen labellers need."""
    backbone = EXTRAS["open-vocabulary"] if args.label_backbone is not None else ()
    return (*backbone, *(EXTRAS["remote-sensing"] if args.remote_sensing_model is not None else ()))


def public_name(model: str | Path) -> str:
    """What clients are told of a model: a hub id as it is, and of a local folder or file its last part alone."""
    there = Path(model).expanduser()
    return there.resolve().name if there.exists() else str(model)


def load_backbone(name: str, device: str | None) -> OpenVocabularySegmenter:
    """What labels pictures without training."""
    from seg_zero.open_vocabulary.segmenter import OpenVocabularySegmenter

    return OpenVocabularySegmenter.from_pretrained(name, device=device)


def load_remote_sensing(args: argparse.Namespace) -> RemoteSensingSegmenter | None:
    """The network that labels aerial tiles; None without --remote_sensing_model."""
    if args.remote_sensing_model is None:
        return None
    from seg_zero.remote_sensing.segmenter import RemoteSensingSegmenter

    return RemoteSensingSegmenter.from_pretrained(args.remote_sensing_model, args.device)


def prompt_of(args: argparse.Namespace) -> PromptSpec:
    template = prompt_template_of(args)
    return default_spec(resolve_model(args.reasoning_model_path), args.template, args.image_size, template)


def warning_of(args: argparse.Namespace, spec: PromptSpec, served: str | None = None) -> str | None:
    """What is to be said about the models before the first answer, or None; ``served``: a remote policy's name."""
    model = resolve_model(args.reasoning_model_path)
    return models_warning(
        model if served is None or is_published(model) else served, spec, args.segmentation_model_path
    )


def load_engine(args: argparse.Namespace, spec: PromptSpec, batch_size: int) -> Policy:
    """The policy in the engine that the options name; Ctrl-C then does not reach vLLM's processes."""
    with interrupts_kept_from_children() if args.engine == "vllm" else nullcontext():
        return load_policy(
            args.reasoning_model_path,
            args.engine,
            spec=spec,
            device=args.device,
            max_new_tokens=args.max_new_tokens,
            batch_size=batch_size,
        )
