"""The command ``seg-zero evaluate``."""

from __future__ import annotations

import hashlib
import json
import sys
import time
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from seg_zero.cli.options import add_model_options, prompt_template_of
from seg_zero.command_line import CommandParser
from seg_zero.errors import InputError, print_warning
from seg_zero.extras import VLLM, require
from seg_zero.files import check_folder_place

if TYPE_CHECKING:
    from seg_zero.dialogue.data.records import DialogueRecord
    from seg_zero.evaluation.run import Models
    from seg_zero.metrics import ClipScore


def parser() -> CommandParser:
    from seg_zero.metrics import RULES

    made = CommandParser("evaluate", main.__doc__)
    add_model_options(made)
    made.add_argument(
        "--data",
        required=True,
        help="named set (reasonseg_val, refcoco_testA, grefcoco_val, synthetic ...; docs/evaluation.md) or any dataset "
        "with masks: file, folder, hub id or NAME@SPLIT; or the folder of ReVOS, MeViS or Ref-DAVIS (docs/video.md); "
        "or dialogues: mr_refcoco, regiondial_refcocog ... or a file (docs/dialogue.md)",
    )
    made.add_argument("--out", required=True, type=Path, help="folder for this evaluation; rerun to resume")
    made.add_argument("--rule", choices=tuple(RULES), help="scoring rule (default: that of the set, else lisa)")
    made.add_argument("--limit", type=int, help="take only the first N rows (default: all)")
    made.add_argument(
        "--engine",
        choices=("vllm", "transformers"),
        help="engine of the policy (default: vllm on GPUs, else transformers)",
    )
    made.add_argument("--workers", type=int, help="processes, each with its own models (default: one per GPU, else 1)")
    made.add_argument("--tensor_parallel_size", type=int, default=1, help="with vllm: GPUs per worker (default: 1)")
    made.add_argument("--batch_size", type=int, default=32, help="with transformers: rows per batch (default: 32)")
    made.add_argument("--votes", type=int, default=1, help="answers per row, fused by majority (default: 1)")
    made.add_argument(
        "--temperature", type=float, default=0.7, help="with --votes: sampling temperature (default: 0.7)"
    )
    made.add_argument("--seed", type=int, default=0, help="with --votes: sampling seed (default: 0)")
    made.add_argument(
        "--key_every",
        type=int,
        metavar="N",
        help="with a set of clips: ask the policy about every N-th frame (default: the first)",
    )
    made.add_argument(
        "--references",
        choices=("text", "crop", "marks", "mask"),
        help="with dialogues: how earlier masks re-enter (default: text)",
    )
    made.add_argument(
        "--carry",
        choices=("all", "references"),
        help="with dialogues: rounds that the policy is told of (default: all)",
    )
    return made


def _check_packages(engine: str | None, workers: int) -> None:
    """Raises InputError if the packages of this engine, or of several workers, are missing."""
    if engine == "vllm":
        require("evaluating with --engine vllm", VLLM)
    if workers > 1:
        require(f"evaluating with {workers} workers", ("ray",))


def main(argv: Sequence[str]) -> int:
    """gIoU, cIoU and more of a policy over a dataset, with intervals and a report; rerun the same command to resume."""
    args = parser().parse_args(argv)
    for name in ("key_every", "limit", "workers", "tensor_parallel_size", "batch_size", "votes"):
        value = getattr(args, name)
        if value is not None and value < 1:
            raise InputError(f"--{name} {value} must be at least 1")
    if args.votes > 1 and not 0 < args.temperature <= 2:
        raise InputError(f"--temperature {args.temperature} must be above 0 and at most 2, or all votes are the same")

    _check_packages(args.engine, args.workers or 1)
    template = prompt_template_of(args)
    check_folder_place(args.out)
    import torch
    from tqdm import tqdm

    from seg_zero.evaluation.dialogue_sets import is_dialogue_set, open_dialogue_set
    from seg_zero.evaluation.page import write_page
    from seg_zero.evaluation.predictions import Prediction
    from seg_zero.evaluation.run import Models, wall_clock_line
    from seg_zero.evaluation.run import evaluate as run
    from seg_zero.evaluation.sets import open_set
    from seg_zero.evaluation.store import read_predictions
    from seg_zero.evaluation.video_sets import is_video_set
    from seg_zero.files import write_text
    from seg_zero.policy import GREEDY, Sampling
    from seg_zero.policy.loading import quiet_transformers

    quiet_transformers()
    on_gpu = torch.cuda.is_available() and (args.device or "cuda").startswith("cuda")
    engine = args.engine or ("vllm" if on_gpu else "transformers")
    workers = args.workers or max(1, torch.cuda.device_count() // args.tensor_parallel_size if on_gpu else 1)
    _check_packages(engine, workers)
    clips, dialogues = is_video_set(args.data), is_dialogue_set(args.data)
    for name in ("references", "carry"):
        if getattr(args, name) is not None and not dialogues:
            raise InputError(f"--{name} {getattr(args, name)} is for dialogues, and --data {args.data} are none")
    if dialogues:
        records = open_dialogue_set(args.data)
    elif not clips:
        if args.key_every is not None:
            raise InputError(f"--key_every {args.key_every} is for sets of clips, and --data {args.data} is none")
        rows, rule = open_set(args.data)
        if args.limit is not None:
            rows = rows.select(range(min(args.limit, len(rows))))
    models = Models(
        policy=args.reasoning_model_path,
        segmenter=args.segmentation_model_path,
        engine=engine,
        device=args.device,
        template=args.template,
        prompt_template=template,
        image_size=args.image_size,
        max_new_tokens=args.max_new_tokens,
        batch_size=args.batch_size,
        tensor_parallel_size=args.tensor_parallel_size,
    )
    print_warning(models.warning())
    if clips:
        return _evaluate_clips(args, models)
    if dialogues:
        return _evaluate_dialogues(args, models, records[: args.limit])
    start = time.perf_counter()
    done, answered, iou_sum = 0, 0, 0.0
    with tqdm(total=len(rows), unit="row", file=sys.stderr) as bar:

        def progress(predictions: Sequence[Prediction], old: bool) -> None:
            nonlocal done, answered, iou_sum
            done += len(predictions)
            answered += 0 if old else len(predictions)
            iou_sum += sum(prediction.iou for prediction in predictions)
            bar.update(len(predictions))
            bar.set_postfix(gIoU=f"{iou_sum / max(done, 1):.3f}")

        sampling = Sampling(args.votes, args.temperature, args.seed) if args.votes > 1 else GREEDY
        summary = run(
            models, rows, args.out, rule=args.rule or rule, sampling=sampling, workers=workers, progress=progress
        )
    speed = wall_clock_line(len(rows), answered, time.perf_counter() - start)
    predictions = read_predictions(args.out)
    write_text(args.out / "report.md", f"# Evaluation\n\n{summary.markdown([f'This run: {speed}.'])}")
    write_page(args.out / "report.html", summary, predictions, rows, speed)
    print(f"{summary.table()}\n{speed}\nopen {(args.out / 'report.html').resolve()}")
    return 0


def _evaluate_clips(args: Namespace, models: Models) -> int:
    from tqdm import tqdm

    from seg_zero.evaluation.video import evaluate_video, report
    from seg_zero.evaluation.video_sets import read_video_set

    if args.votes > 1 or args.rule is not None or (args.workers or 1) > 1:
        raise InputError(f"--data {args.data} holds clips, for which there is no --votes, --rule and --workers")
    expressions = read_video_set(Path(args.data))[: args.limit]
    total = 0.0
    with tqdm(total=len(expressions), unit="expression", file=sys.stderr) as bar:

        def progress(score: ClipScore, old: bool) -> None:
            nonlocal total
            total += score.j_and_f
            bar.update()
            bar.set_postfix({"J&F": f"{total / bar.n:.3f}"})

        metrics = evaluate_video(models, expressions, args.data, args.out, key_every=args.key_every, progress=progress)
    print(report(args.data, metrics), end="")
    return 0


def _evaluate_dialogues(args: Namespace, models: Models, records: Sequence[DialogueRecord]) -> int:
    from tqdm import tqdm

    from seg_zero.dialogue.data.records import record_of
    from seg_zero.dialogue.renderers import renderer_for
    from seg_zero.dialogue.session import Answerer
    from seg_zero.evaluation.dialogue_page import markdown, page, printed
    from seg_zero.evaluation.dialogues import PREDICTED, ModelPredictor, PlayedDialogue, evaluate_dialogues
    from seg_zero.files import write_text

    for name in ("key_every", "rule"):
        if getattr(args, name) is not None:
            raise InputError(f"--data {args.data} holds dialogues, for which there is no --{name}")
    if args.votes > 1 or (args.workers or 1) > 1:
        raise InputError(f"--data {args.data} holds dialogues, for which there is no --votes and --workers")
    way, carry = args.references or "text", args.carry or "all"
    if way == "crop" and models.engine == "vllm":
        raise InputError("--references crop needs --engine transformers: vLLM is loaded for one picture a question")
    renderer = renderer_for(way, carry)
    digest = hashlib.blake2b(digest_size=16)
    for record in records:
        digest.update(json.dumps(record_of(record, record.image.parent)).encode())
    settings = {**models.settings(), "data": args.data, "data_digest": digest.hexdigest()}
    settings |= {"references": way, "carry": carry}
    start, done, total = time.perf_counter(), 0, 0.0
    with tqdm(total=len(records), unit="dialogue", file=sys.stderr) as bar:

        def progress(played: Sequence[PlayedDialogue], old: bool) -> None:
            nonlocal done, total
            done += 0 if old else len(played)
            total += sum(one.mean_iou(PREDICTED) for one in played)
            bar.update(len(played))
            bar.set_postfix(IoU=f"{total / max(bar.n, 1):.3f}")

        results, played = evaluate_dialogues(
            lambda: ModelPredictor(Answerer(*models.load(), renderer)), settings, records, args.out, progress
        )
    speed = f"{done} dialogues answered in {time.perf_counter() - start:.1f} s"
    write_text(args.out / "report.md", markdown(args.data, results, [f"This run: {speed}."]))
    write_text(args.out / "report.html", page(args.data, results, played, records, speed))
    print(f"{printed(results)}\n{speed}\nopen {(args.out / 'report.html').resolve()}")
    return 0
