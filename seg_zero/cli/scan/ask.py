"""``seg-zero scan ask``: which objects of a scan answer a question."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path

from seg_zero.cli.options import add_model_options, prompt_template_of, segmenter_of
from seg_zero.command_line import CommandParser
from seg_zero.extras import EXTRAS, require

_NAME = 40  # characters of the question in the name of the answer's folder


def parser() -> CommandParser:
    made = CommandParser(
        "scan ask",
        "Find the objects of a scan that a question means: the policy answers on the key frames that show most, and "
        "its masks vote.",
    )
    made.add_argument("folder", type=Path, help="folder of a scan")
    made.add_argument("question", help='such as "the chair nearest to the window"')
    made.add_argument(
        "--by",
        choices=("policy", "text"),
        default="policy",
        help="text: no policy; the question is a name, compared with the vectors of a scan made with --features",
    )
    made.add_argument("--frames", type=int, default=8, help="key frames to ask about")
    made.add_argument(
        "--min_score",
        type=float,
        default=0.5,
        help="fraction of an object's pixels that the answers must cover; with --by text, how well it must fit",
    )
    made.add_argument("--out", type=Path, help="folder for the answer (default: answers/QUESTION in the scan's folder)")
    made.add_argument("--json", action="store_true", help="print the answer as JSON and nothing else")
    add_model_options(made)
    made.add_argument(
        "--dtype", help="policy precision: float32, bfloat16, float16 (default: bfloat16 on CUDA, else float32)"
    )
    return made


def main(argv: Sequence[str]) -> int:
    args = parser().parse_args(argv)
    require("scan ask", EXTRAS["online3d"])
    from seg_zero.files import check_folder_place
    from seg_zero.online3d.page.answer import ANSWER, PAGE, as_json, describe_answer, write_answer
    from seg_zero.online3d.questions import ask_by_text, ask_scan, check_ask, open_scan

    check_ask(args.question, args.frames, args.min_score)
    scan = open_scan(args.folder)
    template = prompt_template_of(args)
    out = args.out or args.folder / "answers" / folder_name(args.question)
    check_folder_place(out)
    if args.by == "text":
        from seg_zero.encoders.text import TextEncoder

        space = scan.described()
        encoder = TextEncoder(space.text_tower(args.device), "single")
        answer = ask_by_text(scan, args.question, encoder, args.min_score)
    else:
        answer = ask_scan(scan, args.question, segmenter_of(args, template), args.frames, args.min_score)
    write_answer(answer, scan, out)
    if args.json:
        print(json.dumps(as_json(answer, scan), ensure_ascii=False))
        return 0
    print(describe_answer(answer, scan))
    print(f"{out / ANSWER}; open {(out / PAGE).resolve()}")
    return 0


def folder_name(question: str) -> str:
    """A folder's name for a question: its words, joined by hyphens."""
    words = re.findall(r"\w+", question.lower())
    return "-".join(words)[:_NAME].rstrip("-") or "question"
