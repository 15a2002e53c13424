"""The command ``seg-zero web``: options, start and stop."""

from __future__ import annotations

import argparse
import logging
import os
import signal
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path
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
from seg_zero.errors import InputError, one_line, print_warning
from seg_zero.extras import EXTRAS, WEB, require

if TYPE_CHECKING:
    from seg_zero.segmenter import Segmenter
    from seg_zero.web.labels import Labeller

DEMO_MODEL = Path("outputs/demo/merged")  # below the folder in which `make demo` and this command are run
EMBEDDINGS = 16  # pictures that follow-up questions and corrections cost nothing for; 16 MB each with a large SAM2


def parser() -> CommandParser:
    made = CommandParser("web", "A page to ask questions about pictures in a browser (docs/web.md).")
    add_server_options(made, port=7860)
    made.add_argument("--max_video_mb", type=float, default=200.0, help="largest clip (default: %(default)s)")
    made.add_argument("--max_video_frames", type=int, default=1800, help="longest clip (default: %(default)s)")
    add_labelling_options(made, "the tab for labels", "tiny, embedded")
    made.add_argument("--share", action="store_true", help="also open a public address through a Gradio server")
    return made


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """The options. Raises InputError for a value out of range."""
    args = parser().parse_args(argv)
    check_server_options(args, ("max_video_mb", "max_video_frames"))
    return args


def trained_offer(model: str, trained: Path = DEMO_MODEL) -> str:
    """One line on the policy that the demo trained, if it is there and the embedded one was asked for; else empty."""
    if model != "tiny" or not (trained / "config.json").is_file():
        return ""
    return f"The demo trained a better policy on such scenes: seg-zero web --model {trained}"


def labeller_of(args: argparse.Namespace, refiner: Segmenter) -> Labeller | str:
    """What labels pictures, loaded; or why it is not there, if it was not asked for by name."""
    from seg_zero.web.labels import AERIAL, RADIO, Labeller

    network = load_remote_sensing(args)
    aerial: dict[str, Any] = {} if network is None else {AERIAL: (public_name(args.remote_sensing_model), network)}
    try:
        require("labelling pixels by text", EXTRAS["open-vocabulary"])
    except InputError as error:
        if args.label_backbone is not None:
            raise
        return Labeller(aerial, refiner) if aerial else str(error)
    from seg_zero.encoders.radio import TINY, backbone_warning

    backbone = args.label_backbone or TINY
    radio = {RADIO: (public_name(backbone), load_backbone(backbone, args.device))}
    # What was asked for by name comes first.
    models: dict[str, Any] = {**aerial, **radio} if args.label_backbone is None else {**radio, **aerial}
    return Labeller(models, refiner, backbone_warning(backbone))


def main(argv: Sequence[str]) -> int:
    """Load the models and serve the page until SIGTERM or Ctrl-C."""
    args = parse(argv)
    require("the page", (*WEB, *packages_of(args), *labelling_packages(args)))
    from seg_zero.hub import check_proxies, exempt_own_addresses
    from seg_zero.policy.loading import quiet_transformers
    from seg_zero.serving.address import bind
    from seg_zero.visualize.html_page import pyplot

    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    quiet_transformers()
    check_proxies("the page")
    exempt_own_addresses(args.host)  # gradio looks whether its own page answers
    spec = prompt_of(args)
    bind(args.host, args.port).close()  # gradio does so only when the models are loaded
    with tempfile.TemporaryDirectory(prefix="seg-zero-web-") as folder:
        # Read when gradio is imported. Uploads and shown pictures end with the server.
        os.environ["GRADIO_TEMP_DIR"] = folder
        os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
        from seg_zero.pipeline import ReasoningSegmenter
        from seg_zero.segmenter import load_segmenter
        from seg_zero.web.asker import Asker
        from seg_zero.web.clips import ClipAsker, ClipLimits
        from seg_zero.web.page import build, launch_options

        policy = load_engine(args, spec, batch_size=8)
        segmenter = load_segmenter(args.segmentation_model_path, device=args.device)
        labeller = labeller_of(args, segmenter)
        limits = limits_of(args)
        about = f"Policy: {args.reasoning_model_path}. SAM2: {args.segmentation_model_path}."
        about += "" if isinstance(labeller, str) else f" {labeller.about}"
        warning = warning_of(args, spec)
        offer = trained_offer(args.reasoning_model_path)
        about += f" {offer}" if offer else ""
        answering = ReasoningSegmenter(policy, segmenter, embeddings=EMBEDDINGS, warning=warning)
        asker = Asker(answering)
        clip_limits = ClipLimits(int(args.max_video_mb * 2**20), args.max_video_frames, limits.pixels)
        page = build(asker, ClipAsker(asker, segmenter, clip_limits), labeller, limits, about)
        pyplot()  # gradio imports it at the first click, who then waits
        page.queue(api_open=False, max_size=256)
        try:
            _, _, public = page.launch(
                server_name=args.host,
                server_port=args.port,
                share=args.share,
                _frontend=False,  # else gradio gives its own page 3 s to answer, and a busy machine is refused
                **launch_options(max(limits.upload_bytes, clip_limits.bytes)),
            )
        except (OSError, ValueError) as error:
            reason = one_line(error)
            raise InputError(f"cannot listen on {args.host}:{args.port} ({reason}); give another --port") from error
        if args.share and not public:
            page.close(verbose=False)
            raise InputError("--share: no public address could be obtained; check the network, or omit --share")
        ended = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: ended.set())
        print_warning(warning)
        if offer:
            print(offer, flush=True)
        print(f"page on http://{args.host}:{args.port}" + (f" and {public}" if public else ""), flush=True)
        ended.wait()
        page.close(verbose=False)
    print("stopped", flush=True)
    return 0
