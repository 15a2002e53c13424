"""The command ``seg-zero serve``: options, start and stop."""

from __future__ import annotations

import argparse
import logging
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from seg_zero.cli.server_options import (
    add_labelling_options,
    add_server_options,
    check_server_options,
    labelling_packages,
    limits_of,
    load_backbone,
    load_engine,
    load_remote_sensing,
    packages_of,
    prompt_of,
    public_name,
    warning_of,
)
from seg_zero.command_line import CommandParser
from seg_zero.errors import InputError, print_warning
from seg_zero.extras import SERVING, require

if TYPE_CHECKING:
    from seg_zero.policy import Policy
    from seg_zero.serving.labels import LabelService

_ORIGIN = re.compile(r"https?://[A-Za-z0-9.\-\[\]:]+")


def parser() -> CommandParser:
    made = CommandParser("serve", "Answer questions about images over HTTP (docs/serve.md).")
    add_server_options(made, port=8008)
    made.add_argument(
        "--policy_url", help="OpenAI-style server that runs the policy; --model then only sets the prompt"
    )
    made.add_argument("--policy_name", help="model on that server (default: the only one)")
    made.add_argument(
        "--max_open", type=int, default=64, help="open requests; further ones get 429 (default: %(default)s)"
    )
    made.add_argument("--timeout", type=float, default=60.0, help="seconds per answer, then 504 (default: %(default)s)")
    made.add_argument(
        "--access_log",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="a line per request on standard error: client, request, status, milliseconds (default: on)",
    )
    add_labelling_options(made, "/v1/label", "none")
    made.add_argument("--max_labels", type=int, default=200, help="labels in one request (default: %(default)s)")
    made.add_argument(
        "--cors_origins",
        nargs="+",
        default=[],
        metavar="ORIGIN",
        help="web pages whose scripts may ask, e.g. https://app.example, or '*' for all (default: none)",
    )
    return made


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """The options. Raises InputError for a value out of range."""
    args = parser().parse_args(argv)
    check_server_options(args, ("max_open", "timeout", "max_labels"))
    for origin in args.cors_origins:
        if origin != "*" and not _ORIGIN.fullmatch(origin):
            raise InputError(
                f"--cors_origins {origin} is no origin; give scheme and host without a path, such as "
                "https://app.example or http://localhost:3000, or '*'"
            )
    return args


def policy_of(args: argparse.Namespace) -> Policy:
    """The policy that the options name."""
    from seg_zero.policy.remote import RemotePolicy

    spec = prompt_of(args)
    if args.policy_url is None:
        return load_engine(args, spec, batch_size=16)
    timeout = args.timeout * 0.45  # two tries end before the request's own time does
    return RemotePolicy(args.policy_url, spec, args.policy_name, args.max_new_tokens, timeout, args.max_open)


def label_service_of(args: argparse.Namespace) -> LabelService | None:
    """What labels pictures, loaded; None without --label_backbone and --remote_sensing_model."""
    from seg_zero.encoders.radio import backbone_warning
    from seg_zero.serving.labels import OPEN_VOCABULARY, REMOTE_SENSING, LabelService, Loaded

    models = dict[str, Loaded]()
    if args.label_backbone is not None:
        name = args.label_backbone
        models[OPEN_VOCABULARY] = Loaded(load_backbone(name, args.device), public_name(name), backbone_warning(name))
    if (network := load_remote_sensing(args)) is not None:
        models[REMOTE_SENSING] = Loaded(network, public_name(args.remote_sensing_model))
    return LabelService(models, args.max_open, args.max_labels) if models else None


def main(argv: Sequence[str]) -> int:
    """Load the models and listen; on SIGTERM or Ctrl-C, answer open requests, then exit."""
    args = parse(argv)
    engine = packages_of(args) if args.policy_url is None else ()
    require("serving", (*SERVING, *labelling_packages(args), *engine))
    import uvicorn

    from seg_zero.policy.loading import quiet_transformers
    from seg_zero.policy.remote import RemotePolicy
    from seg_zero.segmenter import load_segmenter
    from seg_zero.serving.address import bind
    from seg_zero.serving.app import create_app
    from seg_zero.serving.guard import show_access
    from seg_zero.serving.meters import Meters
    from seg_zero.serving.server import Server
    from seg_zero.serving.service import Service

    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    quiet_transformers()
    listening = bind(args.host, args.port)
    policy = policy_of(args)
    segmenter = load_segmenter(args.segmentation_model_path, device=args.device)
    meters = Meters()
    service = Service(policy, segmenter, args.max_open, meters)
    limits = limits_of(args)
    names = {
        "policy": public_name(args.reasoning_model_path),
        "segmenter": public_name(args.segmentation_model_path),
        "engine": args.engine,
    }
    if args.label_backbone is not None:
        names["labels"] = public_name(args.label_backbone)
    if args.remote_sensing_model is not None:
        names["remote_sensing"] = public_name(args.remote_sensing_model)
    labels = label_service_of(args)
    app_options: dict[str, Any] = {"cors_origins": args.cors_origins, "labels": labels}
    if isinstance(policy, RemotePolicy):
        names |= {"policy": policy.model, "engine": args.policy_url}
        app_options["policy_problem"] = policy.problem
    served = policy.model if isinstance(policy, RemotePolicy) else None
    warning = warning_of(args, policy.spec, served)
    app = create_app(service, meters, limits, args.timeout, names, warning=warning, **app_options)
    patience = int(args.timeout) + 5  # seconds
    config = uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=patience)
    try:
        listening.listen(config.backlog)  # now, so that clients can connect once the line below is printed
    except OSError as error:
        raise InputError(f"cannot listen on {args.host}:{args.port} ({error}); give another --port") from error
    print_warning(warning)
    if args.access_log:
        show_access()
    print(f"serving on http://{args.host}:{args.port} ({', '.join(f'{k} {v}' for k, v in names.items())})", flush=True)
    Server(config, service).run(sockets=[listening])
    if labels is not None:
        labels.close()
    finished = service.close(args.timeout)
    print("stopped" if finished else "stopped with requests unanswered", flush=True)
    return 0 if finished else 1
