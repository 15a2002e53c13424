"""The command ``seg-zero infer``: questions about images."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seg_zero.cli.infer.inputs import Job, Question, find_images, plan_jobs, read_questions, shown, sort_inputs
from seg_zero.cli.infer.video import add_video_options, check_no_video_options, run_video
from seg_zero.cli.options import add_model_options, outputs_of, prompt_template_of, segmenter_of
from seg_zero.command_line import CommandParser
from seg_zero.data.inputs import PICTURES
from seg_zero.dialogue.turns import check_corrections
from seg_zero.errors import InputError, counted, print_error, print_note
from seg_zero.files import check_file_place, check_folder_place
from seg_zero.prompting import check_question
from seg_zero.results.outputs import KINDS, LABELME_FOLDER, OUTPUTS

if TYPE_CHECKING:
    from PIL import Image

    from seg_zero.pipeline import ReasoningSegmenter, SegmentationResult

DEFAULT_OUTPUTS = "overlay,mask"
DEFAULT_FOLDER = Path("outputs/infer")


@dataclass(frozen=True)
class Plan:
    """The questions, and where the answers go: ``folder``, or the file ``overlay`` of a single answer."""

    jobs: list[Job]
    folder: Path
    overlay: Path | None

    def overlay_of(self, job: Job) -> Path:
        return self.overlay or self.folder / f"{job.name}_overlay.png"


def main(argv: Sequence[str]) -> int:
    """Answer questions about images and clips: reasoning, boxes, points and masks."""
    args = parser().parse_intermixed_args(argv)
    # Everything that can be wrong with the options is found before a model is loaded.
    sort_inputs(args)
    if args.max_new_tokens < 1:
        raise InputError(f"--max_new_tokens {args.max_new_tokens} must be at least 1")
    check_corrections(args.refine, "--refine ")
    template = prompt_template_of(args)
    if args.video is not None:
        if args.text is None:
            raise InputError(f"the clip {args.video} comes without a question; add it in quotes, or as --text")
        return run_video(args, args.text, DEFAULT_FOLDER, template)
    check_no_video_options(args)
    outputs = outputs_of(DEFAULT_OUTPUTS if args.outputs is None else args.outputs, (*OUTPUTS, *KINDS))
    plan = _plan(args)
    if "labelme" in outputs:
        _check_labelme(plan.folder / LABELME_FOLDER)
    from seg_zero.hub import check_here
    from seg_zero.images import load_image
    from seg_zero.policy.model_files import resolve_model

    if plan.overlay is not None:
        load_image(plan.jobs[0].image)
    check_here("policy", resolve_model(args.reasoning_model_path))
    from seg_zero.pipeline import sampling_of
    from seg_zero.policy import GREEDY
    from seg_zero.results.collection import AnswerCollection
    from seg_zero.results.files import write_files

    sampling = sampling_of(args.votes, args.temperature, args.seed)
    from tqdm import tqdm

    segmenter = segmenter_of(args, template)
    if args.image_path is None and args.questions is None:
        print_note(f"no image given: the example {plan.jobs[0].image}")
    options = {"votes": args.votes, "temperature": args.temperature, "seed": args.seed, "refine": args.refine}
    # A single answer is shown as it is written.
    watched = plan.overlay is not None and not (args.json or args.refine) and sampling == GREEDY and sys.stdout.isatty()
    answers = _watched(segmenter, plan.jobs[0]) if watched else _answers(segmenter, plan.jobs, options)
    failures: dict[str, None] = {}
    answered = 0
    collection = AnswerCollection(outputs)
    # disable=None: no bar where standard error is not a terminal.
    with tqdm(total=len(plan.jobs), unit="answer", disable=None if plan.overlay is None else True) as bar:
        try:
            for job, result in answers:
                bar.update()
                if isinstance(result, InputError):
                    if plan.overlay is not None:
                        raise result
                    failures[str(result)] = None
                    continue
                answered += 1
                path = plan.overlay_of(job)
                stem = job.name if plan.overlay is None else path.stem
                files = write_files(
                    path, stem, result, outputs, per_object=args.per_object, show_prompts=args.show_prompts
                )
                collection.add(result, job.stem if plan.overlay is None else stem, os.fspath(job.image))
                if plan.overlay is not None:
                    files |= collection.write(plan.folder, f"{stem}_")
                if args.json:
                    record = result.to_dict(per_object=args.per_object)
                    seconds = {name: round(value, 4) for name, value in result.seconds.items()}
                    lines = json.dumps({**record, "files": files, "seconds": seconds}, ensure_ascii=False)
                elif plan.overlay is not None:
                    lines = in_full(result, files, written=watched)
                else:
                    lines = _in_short(job, result, files)
                try:
                    tqdm.write(lines, file=sys.stdout)
                    sys.stdout.flush()
                except BrokenPipeError:  # as with `| head`: the reader has closed the pipe
                    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
                    return 1
        finally:  # what is answered is kept if the command is interrupted
            if plan.overlay is None and answered:
                together = collection.write(plan.folder)
                if together and not args.json:
                    tqdm.write(f"all answers: {'  '.join(together.values())}", file=sys.stdout)
    if failures:
        count = len(plan.jobs) - answered
        print_error(f"{count} of {len(plan.jobs)} questions could not be answered:", *failures)
    return 1 if failures else 0


def parser() -> CommandParser:
    from seg_zero.assets import EXAMPLE_QUESTION

    parser = CommandParser("infer", main.__doc__)
    add_model_options(parser)
    parser.add_argument(
        "--dtype", help="policy precision: float32, bfloat16, float16 (default: bfloat16 on CUDA, else float32)"
    )
    parser.add_argument(
        "inputs",
        nargs="*",
        metavar="IMAGE",
        help="images or a clip, and last the question: the same as --image_path or --video, and --text",
    )
    parser.add_argument(
        "--image_path", nargs="+", help="image, several images, a folder, or a quoted glob (default: an example scene)"
    )
    asked = parser.add_mutually_exclusive_group()
    asked.add_argument("--text", help=f"the question (default: {EXAMPLE_QUESTION!r})")
    asked.add_argument(
        "--questions",
        type=Path,
        help="text file, one question per line, each asked about every image; or .csv / .jsonl with image and question",
    )
    parser.add_argument(
        "--output_path",
        type=Path,
        help="for one image and question: overlay file, with other outputs beside it as NAME_mask.png and so on "
        f"(default: {DEFAULT_FOLDER}/answer.png); otherwise: folder (default: {DEFAULT_FOLDER})",
    )
    parser.add_argument("--outputs", help=f"any of {','.join((*OUTPUTS, *KINDS))} (default: {DEFAULT_OUTPUTS})")
    parser.add_argument("--per_object", action="store_true", help="also write a mask, cut-out and RLE of each object")
    parser.add_argument(
        "--show_prompts",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="draw boxes and points on the overlay",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object per answer and nothing else")
    parser.add_argument("--votes", type=int, default=1, help="answers per question, fused by majority (default: 1)")
    parser.add_argument(
        "--temperature", type=float, help="sampling temperature (default: 0.7 with several votes, else 0)"
    )
    parser.add_argument("--seed", type=int, default=0, help="sampling seed (default: 0)")
    parser.add_argument(
        "--refine",
        type=int,
        default=0,
        metavar="N",
        help="further turns, in which the policy sees its answer drawn on the picture and may correct it (default: 0)",
    )
    add_video_options(parser)
    return parser


def _check_labelme(folder: Path) -> None:
    if folder.is_dir() and any(folder.glob("*.json")):
        raise InputError(
            f"{folder} holds annotations, perhaps corrected by hand; name another --output_path, or move them"
        )


def _plan(args: argparse.Namespace) -> Plan:
    """Raises InputError for whatever is wrong with images, questions and the place for the answers."""
    from seg_zero.assets import EXAMPLE_IMAGE, EXAMPLE_QUESTION

    questions = [Question(EXAMPLE_QUESTION if args.text is None else args.text)]
    if args.questions is None:
        check_question(questions[0].text)
    else:
        questions = read_questions(args.questions)
        if questions[0].image is None and args.image_path is None:
            raise InputError(
                f"--questions {args.questions} names no images; give --image_path, or call their column image"
            )
    given = args.image_path or [str(EXAMPLE_IMAGE)]
    if questions[0].image is None:
        images = find_images(given)
    elif args.image_path is None:
        images = []
    else:
        raise InputError(f"--questions {args.questions} names images itself; leave --image_path out")
    jobs = plan_jobs(images, questions)
    single = args.questions is None and len(given) == 1 and images == [Path(given[0]).expanduser()]
    place = args.output_path or (DEFAULT_FOLDER / "answer.png" if single else DEFAULT_FOLDER)
    _check_place(place, single)
    sources = {job.image.resolve() for job in jobs}
    if single:
        from seg_zero.results.files import output_pattern

        (source,) = sources
        beside = source.parent == place.parent.resolve() and output_pattern(place.stem).fullmatch(source.name)
        if source == place.resolve() or beside:
            raise InputError(f"--output_path {place} would overwrite the image {source}; give another name")
    elif place.resolve() in {source.parent for source in sources}:
        raise InputError(f"--output_path {place} holds images that are asked about; name another folder")
    if args.image_path and args.text is None and args.questions is None:
        raise InputError(
            f"{args.image_path[0]} comes without a question; add it in quotes after the image, or with --text"
        )
    return Plan(jobs, place.parent if single else place, place if single else None)


def _check_place(place: Path, single: bool) -> None:
    if single and place.is_dir():
        raise InputError(f"--output_path {place} is a folder; give a file name such as {place / 'answer.png'}")
    if single and place.is_file() and place.suffix.lower() not in PICTURES:
        raise InputError(f"--output_path {place} exists and is no picture; nothing replaces it, name another file")
    if not single and (place.is_file() or place.suffix.lower() in PICTURES):
        raise InputError(
            f"--output_path {place} is a file name; several answers need a folder such as {DEFAULT_FOLDER}"
        )
    (check_file_place if single else check_folder_place)(place)


def _answers(
    segmenter: ReasoningSegmenter, jobs: Sequence[Job], options: dict[str, Any]
) -> Iterator[tuple[Job, SegmentationResult | InputError]]:
    """Each job with its answer, or with why it has none; as many at a time as the policy takes."""
    from seg_zero.images import load_image

    source = iter(jobs)
    while some := list(islice(source, segmenter.policy.in_flight)):
        images: dict[Path, Image.Image] = {}
        asked: list[Job] = []
        for job in some:
            try:
                images[job.image] = images.get(job.image) or load_image(job.image)
                asked.append(job)
            except InputError as error:
                yield job, error
        for job, result in _batch(segmenter, asked, images, options):
            yield job, result if isinstance(result, InputError) else replace(result, name=shown(job.image))


def _watched(segmenter: ReasoningSegmenter, job: Job) -> Iterator[tuple[Job, SegmentationResult | InputError]]:
    """The only job's answer, whose text is printed while the policy writes it."""
    from seg_zero.images import load_image

    image = load_image(job.image)
    print(f"question:  {job.question}", flush=True)
    for event in segmenter.stream(image, job.question):
        if isinstance(event, str):
            print(event, end="", flush=True)
        else:
            print()
            yield job, replace(event, name=shown(job.image))


def _batch(
    segmenter: ReasoningSegmenter, jobs: Sequence[Job], images: dict[Path, Image.Image], options: dict[str, Any]
) -> list[tuple[Job, SegmentationResult | InputError]]:
    try:
        results = segmenter.batch([images[job.image] for job in jobs], [job.question for job in jobs], **options)
        return list(zip(jobs, results, strict=True))
    except InputError as error:  # one question that cannot be asked must not cost the others their answers
        if len(jobs) == 1:
            return [(jobs[0], error)]
        return [one for job in jobs for one in _batch(segmenter, [job], images, options)]


def in_full(result: SegmentationResult, files: dict[str, str], *, written: bool) -> str:
    """An answer in lines; ``written``: the question and the policy's text stand there already."""
    lines = [] if written else [f"question:  {result.question}", f"reasoning: {result.thinking or '(none)'}"]
    if result.problem is not None or not result.objects:
        lines.append(f"no object found{f' ({result.problem})' if result.problem else ''}")
        lines += [] if written else ["the policy wrote:", result.text]
    for number, turn in enumerate(result.turns, start=1):
        problem = f" ({turn.problem}; it does not count)" if turn.problem else ""
        lines.append(
            f"turn {number}:    {counted(len(turn.objects), 'object')}, {int(turn.mask.sum())} pixels{problem}"
        )
    for number, item in enumerate(result.objects, start=1):
        box = "none" if item.box is None else [round(v) for v in item.box]
        points = [[round(x), round(y)] for x, y in item.points]
        lines.append(f"object {number}:  box {box}  points {points}  SAM2 score {item.score:.2f}")
    height, width = result.mask.shape
    lines.append(f"mask:      {int(result.mask.sum())} pixels, {result.mask.mean():.1%} of {width}x{height}")
    lines.append(f"written:   {'  '.join(files.values())}")
    lines.append("seconds:   " + "  ".join(f"{name} {value:.2f}" for name, value in result.seconds.items()))
    return "\n".join(lines)


def _in_short(job: Job, result: SegmentationResult, files: dict[str, str]) -> str:
    what = f"{counted(len(result.objects), 'object')}, {int(result.mask.sum())} pixels"
    if result.problem is not None:
        what = f"no answer ({result.problem})"
    where = f"; {next(iter(files.values()))}" if files else ""
    return f"{shown(job.image)}  {job.question!r}: {what}{where}"
