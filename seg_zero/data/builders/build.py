"""From any original source to rows: what every builder shares.

A builder is a module with ``add_arguments(parser)`` and ``source(args) -> Source``; the rest (progress,
resizing, workers, counting, the SAM2 filter, writing) happens here. ``seg-zero data NAME`` runs it.
"""

from __future__ import annotations

import io
import multiprocessing
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
from PIL import Image

from seg_zero.answer import parse_solution, write_solution_multi, write_solution_single
from seg_zero.data.rows import Row, write_rows
from seg_zero.errors import InputError
from seg_zero.files import check_file_place, shown
from seg_zero.images import LOSSY, load_image
from seg_zero.masks import PointRule, encode_mask, mask_to_prompt_object, resize_mask
from seg_zero.metrics import intersection_union, iou_of
from seg_zero.objects import PromptObject
from seg_zero.policy.families import spec_of_stored_images
from seg_zero.prompting import check_question, resize_for_policy, to_policy_pixels

T = TypeVar("T")
CHUNK = 16  # records that a worker takes at a time
JPEG = {"format": "JPEG", "quality": 95, "subsampling": 0}


@dataclass(frozen=True)
class Example:
    """One question of a source, in pixels of the original image.

    image: file or encoded bytes. masks: one boolean H x W per target object; none if nothing matches.
    ignore: boolean H x W of pixels that count neither way, or None.
    """

    id: str
    question: str
    image: Path | bytes
    masks: tuple[np.ndarray, ...]
    ignore: np.ndarray | None = None
    kind: str = ""


@dataclass(frozen=True)
class Source(Generic[T]):
    """Light records of a source and the function that turns one into an :class:`Example`.

    ``load`` is a module-level function or a partial of one, since workers receive it by pickling. It
    raises InputError, naming the record and the remedy, for a record that cannot be used. ``notes`` are
    lines for the report, such as how many questions the source skipped.
    """

    records: Sequence[T]
    load: Callable[[T], Example]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Attempt:
    """The outcome of a record: its row, or the problem that prevented one.

    degenerate: its objects without an area at the row's size. A record with only such objects has neither row nor
    problem.
    """

    row: Row | None = None
    problem: str | None = None
    degenerate: int = 0


@dataclass
class BuildReport:
    """rows written; problems: a line per example that could not be used; disagreed: dropped by the SAM2 filter.

    thin_objects: objects without an area that were dropped; thin_questions: questions that had no others.
    """

    rows: int = 0
    thin_objects: int = 0
    thin_questions: int = 0
    problems: list[str] = field(default_factory=list)
    disagreed: int = 0
    kinds: Counter[str] = field(default_factory=Counter)


def _encoded(image: Image.Image, lossy: bool) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, **(JPEG if lossy else {"format": "PNG"}))
    return buffer.getvalue()


def _solution(objects: Sequence[PromptObject]) -> str:
    """One object becomes the tag string, whose two points serve both answer formats; others a JSON list."""
    return write_solution_single(objects[0]) if len(objects) == 1 else write_solution_multi(objects)


def has_area(item: PromptObject) -> bool:
    """Whether an object's box has an area once its coordinates are rounded, as they are in a row."""
    (written,) = parse_solution(write_solution_multi([item]))
    assert written.box is not None
    return written.box[0] < written.box[2] and written.box[1] < written.box[3]


def example_to_row(example: Example, image_size: int | None, strict: bool = True) -> Row:
    """:func:`attempt` for an example that must give a row. Raises InputError if it gives none."""
    found = attempt(example, image_size, strict)
    if found.row is None:
        raise InputError(f"example {example.id!r}: none of its objects has an area; remove it")
    return found.row


def attempt(example: Example, image_size: int | None, strict: bool = False, points: PointRule = "inscribed") -> Attempt:
    """The row of an example; ``image_size`` is the side that images are stretched to, None keeps them.

    Boxes and points are taken from the original masks (``points``: see
    :func:`seg_zero.masks.mask_to_prompt_object`), then scaled and rounded. JPEG stays JPEG (quality
    95, full colour resolution), everything else becomes PNG; an image that is not resized keeps its bytes.
    An object without an area at the row's size (a line of pixels, or none left) is not a target: its pixels count
    neither way. With ``strict`` it is an error. Raises InputError for an unreadable image, a mask of another size or
    an empty question.
    """
    name = f"example {example.id!r}"
    if not example.question.strip():
        raise InputError(f"{name} has an empty question; remove it or give it one")
    try:
        check_question(example.question)
    except InputError as error:
        raise InputError(f"{name}: {error}") from error
    data = example.image if isinstance(example.image, bytes) else None
    try:
        image = load_image(example.image)
    except InputError as error:
        raise InputError(f"{name}: {error}") from error
    width, height = image.size
    for mask in (*example.masks, *([] if example.ignore is None else [example.ignore])):
        if mask.shape != (height, width):
            raise InputError(
                f"{name}: a mask is {mask.shape[1]}x{mask.shape[0]}, its image {width}x{height}; "
                "the annotations belong to another size of the image"
            )
    spec = None if image_size is None else spec_of_stored_images(image_size)
    objects, union, thin = [], np.zeros((height, width), dtype=bool), np.zeros((height, width), dtype=bool)
    for mask in example.masks:
        item = mask_to_prompt_object(mask, points) if mask.any() else None
        if item is not None and spec is not None:
            item = to_policy_pixels(item, spec, width, height)
        if item is None:
            fault = "its mask is empty"
        elif not has_area(item):
            fault = "an object so thin that its box has no area"
        elif image_size is not None and not resize_mask(mask, (image_size, image_size)).any():
            fault = f"an object of which no pixel is left at {image_size} pixels"
        else:
            objects.append(item)
            union |= mask
            continue
        if strict:
            raise InputError(f"{name}: {fault}; remove it, join it to others, or take a larger --image_size")
        thin |= mask
    degenerate = len(example.masks) - len(objects)
    if degenerate and not objects:
        return Attempt(degenerate=degenerate)
    ignore = example.ignore
    if degenerate:
        ignore = thin & ~union if ignore is None else ignore | (thin & ~union)
    if image_size is None:
        data = data if data is not None else Path(str(example.image)).read_bytes()
        with Image.open(io.BytesIO(data)) as stored:
            if stored.size != image.size or stored.getexif().get(0x0112, 1) != 1 or stored.format == "HEIF":
                data = _encoded(image, stored.format in LOSSY)  # upright, as the masks are, and readable everywhere
    else:
        assert spec is not None
        with Image.open(io.BytesIO(data) if data is not None else example.image) as stored:
            lossy = stored.format in LOSSY
        data = _encoded(resize_for_policy(image, spec, "training"), lossy)
        union = resize_mask(union, (image_size, image_size))
        ignore = None if ignore is None else resize_mask(ignore, (image_size, image_size))
    row = Row(
        id=shown(example.id),
        problem=example.question.strip(),
        solution=_solution(objects),
        image_bytes=data,
        img_height=height,
        img_width=width,
        mask=encode_mask(union),
        kind=example.kind,
        ignore=None if ignore is None or not ignore.any() else encode_mask(ignore),
    )
    return Attempt(row, degenerate=degenerate)


def _attempts_of(
    records: Sequence[T], load: Callable[[T], Example], image_size: int | None, strict: bool, points: PointRule
) -> list[Attempt]:
    attempts = []
    for record in records:
        try:
            attempts.append(attempt(load(record), image_size, strict, points))
        except InputError as error:
            attempts.append(Attempt(problem=str(error)))
    return attempts


def _attempts(
    source: Source[T], image_size: int | None, strict: bool, points: PointRule, workers: int
) -> Generator[Attempt, None, None]:
    """The attempts at all records, in their order. Closing it ends the workers after what they have begun."""
    chunks = (source.records[start : start + CHUNK] for start in range(0, len(source.records), CHUNK))
    if workers <= 1 or len(source.records) <= CHUNK:
        for chunk in chunks:
            for record in chunk:
                yield from _attempts_of([record], source.load, image_size, strict, points)
        return
    # Not forked: torch, which the filter needs, does not survive a fork of a process with threads.
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        waiting: deque[Future[list[Attempt]]] = deque()
        try:
            for chunk in chunks:
                waiting.append(pool.submit(_attempts_of, chunk, source.load, image_size, strict, points))
                if len(waiting) > 2 * workers:  # finished rows wait in memory, so not too many of them
                    yield from waiting.popleft().result()
            while waiting:
                yield from waiting.popleft().result()
        except BrokenProcessPool as error:
            raise InputError("a worker process was killed, most likely for memory; take fewer --workers") from error
        finally:
            for future in waiting:
                future.cancel()


def agreement(row: Row, segmenter: Any) -> float:
    """IoU of the row's mask with what SAM2 makes of its true boxes and points; 1 without a target.

    ``segmenter`` is a :class:`seg_zero.segmenter.Segmenter`. Source of the filter: VisionReasoner
    (arXiv 2505.12081), which drops rows below 0.6.
    """
    objects, truth = row.objects(), row.truth()
    if not objects or truth is None:
        return 1.0
    found = segmenter.segment(row.image(), objects).union
    return iou_of(*intersection_union(found, truth))


def check_place(out: Path) -> None:
    """Raises InputError if the rows cannot be written to ``out``, or would replace a file that holds no rows."""
    check_file_place(out)
    if out.is_file() and out.stat().st_size:
        with out.open("rb") as stream:
            if stream.read(4) != b"PAR1":
                raise InputError(f"{out} exists and is no parquet file; nothing replaces it, name another file")


def build(
    source: Source[T],
    out: Path,
    *,
    image_size: int | None = 840,
    workers: int = 1,
    skip_bad: bool = False,
    strict: bool = False,
    points: PointRule = "inscribed",
    segmenter: Any = None,
    min_agreement: float = 0.6,
    progress: Callable[[], None] | None = None,
) -> BuildReport:
    """Write the rows of a source to a parquet file, atomically; ``progress`` is called once per record.

    An unusable record ends the build with an InputError; with ``skip_bad`` it is listed in the report instead.
    Objects without an area, and questions with only such objects, are dropped and counted; with ``strict`` they
    are unusable records. ``points`` is the rule by which points are taken from masks. With ``segmenter``, rows on
    which SAM2 agrees less than ``min_agreement`` are dropped and counted. Raises InputError if no row is left.
    """
    check_place(out)
    report = BuildReport()
    seen: set[str] = set()

    def rows() -> Iterator[Row]:
        with closing(_attempts(source, image_size, strict, points, workers)) as results:
            for result in results:
                if progress is not None:
                    progress()
                row, problem = result.row, result.problem
                if row is not None and row.id in seen:
                    problem = f"example {row.id!r} is in the source more than once; the first of them counts"
                if problem is not None:
                    if not skip_bad:
                        raise InputError(f"{problem}. --skip-bad skips and lists such examples")
                    report.problems.append(problem)
                    continue
                report.thin_objects += result.degenerate
                if row is None:
                    report.thin_questions += 1
                    continue
                seen.add(row.id)
                if segmenter is not None and agreement(row, segmenter) < min_agreement:
                    report.disagreed += 1
                    continue
                report.kinds[row.kind] += 1
                yield row
        if not report.kinds:
            raise InputError(
                f"no row is left for {out}: {len(source.records)} records, {len(report.problems)} unusable, "
                f"{report.thin_questions} whose objects have no area, {report.disagreed} dropped by the SAM2 filter"
                + (f"; the first problem: {report.problems[0]}" if report.problems else "")
            )

    report.rows = write_rows(out, rows())
    return report
