"""The command ``seg-zero web``: options, start and stop."""

from __future__ import annotations

import argparse
import logging
import os
import signal
import tempfile
import threading
from collections.abc import Sequence
from importlib.util import find_spec

from seg_zero.cli import add_model_options, quiet_transformers
from seg_zero.errors import InputError
from seg_zero.html_page import pyplot
from seg_zero.model_files import default_spec, resolve_model
from seg_zero.serving.address import bind
from seg_zero.serving.uploads import Limits

EMBEDDINGS = 16  # pictures that follow-up questions and corrections cost nothing for; 16 MB each with a large SAM2


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """The options. Raises InputError for a value out of range."""
    parser = argparse.ArgumentParser(
        prog="seg-zero web", description="A page to ask questions about pictures in a browser (docs/web.md)."
    )
    add_model_options(parser)
    parser.add_argument("--engine", choices=("vllm", "transformers"), default="transformers", help="of the policy")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: this machine only)")
    parser.add_argument("--port", type=int, default=7860)
    parser.add_argument("--share", action="store_true", help="also a public address, through a server of Gradio's")
    parser.add_argument("--max_upload_mb", type=float, default=20.0, help="size of a picture's file")
    parser.add_argument("--max_megapixels", type=float, default=16.0, help="size of a picture")
    parser.add_argument("--max_question", type=int, default=2000, help="characters of a question")
    args = parser.parse_args(argv)
    for name in ("max_upload_mb", "max_megapixels", "max_question", "max_new_tokens"):
        if not 0 < getattr(args, name) < 1e9:
            raise InputError(f"--{name} {getattr(args, name)} is not above 0; give a positive number")
    if not 0 < args.port < 65536:
        raise InputError(f"--port {args.port} is no port; give 1 to 65535")
    return args


def web(argv: Sequence[str]) -> int:
    """Load the models, open the page, and end with SIGTERM or Ctrl-C."""
    args = parse(argv)
    if find_spec("gradio") is None:
        raise InputError("the page needs gradio, which is not installed; pip install 'seg-zero[web]'")
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    quiet_transformers()
    name = resolve_model(args.reasoning_model_path)
    spec = default_spec(name, args.template, args.image_size)
    bind(args.host, args.port).close()  # gradio does so only when the models are loaded
    with tempfile.TemporaryDirectory(prefix="seg-zero-web-") as folder:
        # Read when gradio is imported. Uploads and shown pictures end with the server.
        os.environ["GRADIO_TEMP_DIR"] = folder
        os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
        from seg_zero.pipeline import ReasoningSegmenter
        from seg_zero.policy import Policy, TransformersPolicy, VllmPolicy
        from seg_zero.segmenter import Segmenter
        from seg_zero.web.asker import Asker
        from seg_zero.web.page import build, launch_options

        policy: Policy
        if args.engine == "vllm":
            policy = VllmPolicy.from_pretrained(name, spec=spec, max_new_tokens=args.max_new_tokens)
        else:
            policy = TransformersPolicy.from_pretrained(
                name, device=args.device, spec=spec, max_new_tokens=args.max_new_tokens
            )
        segmenter = Segmenter.from_pretrained(args.segmentation_model_path, device=args.device)
        limits = Limits(int(args.max_upload_mb * 2**20), int(args.max_megapixels * 1e6), args.max_question)
        about = f"Policy: {args.reasoning_model_path}. SAM2: {args.segmentation_model_path}."
        if args.reasoning_model_path == "tiny":
            about += " The embedded policy knows only synthetic scenes like the examples, and answers hastily."
        page = build(Asker(ReasoningSegmenter(policy, segmenter, embeddings=EMBEDDINGS)), limits, about)
        pyplot()  # gradio imports it at the first click, who then waits
        page.queue(api_open=False, max_size=256)
        try:
            _, _, public = page.launch(
                server_name=args.host, server_port=args.port, share=args.share, **launch_options(limits)
            )
        except (OSError, ValueError) as error:
            reason = " ".join(str(error).split())
            raise InputError(f"cannot listen on {args.host}:{args.port} ({reason}); give another --port") from error
        if args.share and not public:
            page.close(verbose=False)
            raise InputError("--share: no public address could be had; check the network, or leave it out")
        ended = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: ended.set())
        print(f"page on http://{args.host}:{args.port}" + (f" and {public}" if public else ""), flush=True)
        ended.wait()
        page.close(verbose=False)
    print("stopped", flush=True)
    return 0
