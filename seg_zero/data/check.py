"""Finds what is wrong with the rows of a dataset, on all cores.

Training rejects rows with errors: it cannot use them, or would learn something wrong from them. Rows with warnings are
usable, but worth a look.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field
from functools import partial

from seg_zero.data.cache import remembered
from seg_zero.data.ground_truth import ground_truth
from seg_zero.data.rows import Row
from seg_zero.data.source import RowSource
from seg_zero.data.stores import digest
from seg_zero.errors import InputError
from seg_zero.masks import decode_mask, touches_mask
from seg_zero.objects import PromptObject
from seg_zero.prompting import PromptSpec, check_question

ERRORS = (
    "unreadable row",
    "unusable question",
    "unreadable image",
    "unreadable solution",
    "unreadable mask",
    "mask of another size than the image",
    "box outside the image",
    "box without area",
    "point outside the image",
    "solution does not fit the template",
)
WARNINGS = (
    "duplicate id",
    "point outside its box",
    "point outside the mask",
    "mask and solution disagree",
    "over-long prompt",
)
_RULES = 4  # to be raised when the rules change, so that kept results are made anew
_CHUNK = 64  # rows that a process takes at a time
_ROWS_PER_PROCESS = 512  # fewer are not worth the start of a process


@dataclass(frozen=True)
class Problem:
    """One thing wrong with one row: ``what`` is one of ERRORS or WARNINGS, ``detail`` says more."""

    row: int
    id: str
    what: str
    detail: str

    @property
    def is_error(self) -> bool:
        return self.what in ERRORS

    def line(self) -> str:
        return f"row {self.row} ({self.id}): {self.what}: {self.detail}"


@dataclass
class CheckReport:
    """What a check found. question_lengths (characters) and object_counts are per readable row; box_shares, the
    fraction of the image in 0..1, per box. maskless: rows that have objects but no mask."""

    source: str
    rows: int
    problems: list[Problem] = field(default_factory=list)
    question_lengths: list[int] = field(default_factory=list)
    object_counts: list[int] = field(default_factory=list)
    box_shares: list[float] = field(default_factory=list)
    maskless: int = 0

    @property
    def errors(self) -> list[Problem]:
        return [problem for problem in self.problems if problem.is_error]

    @property
    def bad_rows(self) -> list[int]:
        """Numbers of the rows with errors."""
        return sorted({problem.row for problem in self.errors})

    def counts(self) -> dict[str, int]:
        """Rows per sort of problem, errors first."""
        found = Counter(what for what, _ in {(problem.what, problem.row) for problem in self.problems})
        return {what: found[what] for what in (*ERRORS, *WARNINGS) if found[what]}


@dataclass
class _Part:
    """The findings of one range of rows."""

    problems: list[Problem] = field(default_factory=list)
    ids: list[tuple[int, str]] = field(default_factory=list)
    question_lengths: list[int] = field(default_factory=list)
    object_counts: list[int] = field(default_factory=list)
    box_shares: list[float] = field(default_factory=list)
    maskless: int = 0


def _numbers(values: Sequence[float]) -> str:
    return "(" + ", ".join(f"{value:g}" for value in values) + ")"


def _object_problems(item: PromptObject, width: int, height: int) -> Iterator[tuple[str, str]]:
    """Box corners may lie on the far edges, since published boxes are of both conventions."""
    size = f"{width}x{height}"
    for x, y in item.points:
        if not (0 <= x <= width and 0 <= y <= height):
            yield "point outside the image", f"{_numbers((x, y))} in {size}"
    if item.box is None:
        return
    x1, y1, x2, y2 = item.box
    if x1 >= x2 or y1 >= y2:
        yield "box without area", _numbers(item.box)
        return
    if x1 < 0 or y1 < 0 or x2 > width or y2 > height:
        yield "box outside the image", f"{_numbers(item.box)} in {size}"
    for x, y in item.points:
        if not (x1 <= x <= x2 and y1 <= y <= y2):
            yield "point outside its box", f"{_numbers((x, y))}, box {_numbers(item.box)}"


def _mask_problems(row: Row, objects: Sequence[PromptObject], width: int, height: int) -> Iterator[tuple[str, str]]:
    if row.mask is None:
        return
    for name, rle in (("mask", row.mask), ("ignore", row.ignore)):
        if rle is not None and rle["size"] != [height, width]:
            yield (
                "mask of another size than the image",
                f"{name} {rle['size'][1]}x{rle['size'][0]}, image {width}x{height}",
            )
            return
    try:
        mask = decode_mask(row.mask)
        if row.ignore is not None:
            decode_mask(row.ignore)
    except ValueError as error:
        yield "unreadable mask", str(error)
        return
    if mask.any() != bool(objects):
        yield "mask and solution disagree", f"{int(mask.sum())} pixels, {len(objects)} objects"
        return
    for x, y in (point for item in objects for point in item.points):
        if not touches_mask(x, y, mask):  # rounding may have moved a point by a pixel
            yield "point outside the mask", _numbers((x, y))


@dataclass(frozen=True)
class Findings:
    """A row's problems as (what, detail), its objects if readable, and their boxes' fractions of the image."""

    problems: list[tuple[str, str]]
    objects: tuple[PromptObject, ...] | None
    box_shares: list[float]


def inspect_row(row: Row, template: str | None = None) -> Findings:
    """What is wrong with a row. ``template``: also whether that prompt can ask for it."""
    problems: list[tuple[str, str]] = []
    size, objects = None, None
    try:
        check_question(row.problem)
    except InputError as error:
        problems.append(("unusable question", str(error)))
    try:
        size = row.image().size
    except InputError as error:
        problems.append(("unreadable image", _without_name(error, row)))
    try:
        objects = row.objects()
        if template is not None:
            ground_truth(objects, PromptSpec(template))
    except InputError as error:
        problems.append(("unreadable solution", _without_name(error, row)))
    except ValueError as error:
        problems.append(("solution does not fit the template", f"{error} (template {template!r})"))
    if size is None or objects is None:
        return Findings(problems, objects, [])
    for item in objects:
        problems += _object_problems(item, *size)
    problems += _mask_problems(row, objects, *size)
    boxes = [item.box for item in objects if item.box is not None]
    return Findings(problems, objects, [(b[2] - b[0]) * (b[3] - b[1]) / (size[0] * size[1]) for b in boxes])


def _without_name(error: InputError, row: Row) -> str:
    """The message without the row, which is named beside it, and without the address of Pillow's buffer."""
    return re.sub(r" <_io\.BytesIO[^>]*>", "", str(error).removeprefix(f"row {row.id!r}: "))


def _inspect(source: RowSource, numbers: range, template: str | None) -> _Part:
    part = _Part()
    for place in numbers:
        number = source.number(place)
        try:
            row = source[place]
        except InputError as error:
            detail = str(error).removeprefix(f"row {number} of {source.name}: ")
            part.problems.append(Problem(number, "?", "unreadable row", detail))
            continue
        found = inspect_row(row, template)
        part.problems += [Problem(number, row.id, what, detail) for what, detail in found.problems]
        part.ids.append((number, row.id))
        part.question_lengths.append(len(row.problem))
        part.box_shares += found.box_shares
        if found.objects is not None:
            part.object_counts.append(len(found.objects))
            part.maskless += bool(found.objects) and row.mask is None
    return part


_opened: RowSource  # in a worker process


def _open_in_worker(source: RowSource) -> None:
    global _opened
    _opened = source
    # glibc keeps freed memory up to the largest block freed so far; without this, half of the time of a new process
    # goes into giving the memory of every picture back and fetching it again.
    bytes(24 << 20)


def _inspect_in_worker(numbers: range, template: str | None) -> _Part:
    return _inspect(_opened, numbers, template)


def _parts(source: RowSource, template: str | None, workers: int) -> Iterator[_Part]:
    ranges = [range(first, min(first + _CHUNK, len(source))) for first in range(0, len(source), _CHUNK)]
    workers = min(workers, len(source) // _ROWS_PER_PROCESS)
    if workers <= 1:
        yield from (_inspect(source, numbers, template) for numbers in ranges)
        return
    context = multiprocessing.get_context("spawn")  # a fork may meet a lock that a thread of this process holds
    with ProcessPoolExecutor(workers, context, _open_in_worker, (source,)) as pool:
        yield from pool.map(partial(_inspect_in_worker, template=template), ranges)


def count_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0))


def check(
    source: RowSource,
    template: str | None = None,
    workers: int | None = None,
    progress: Callable[[int], object] | None = None,
) -> CheckReport:
    """Check every row; ``progress`` is told how many more are done. ``workers``: processes, default one per core."""
    report = CheckReport(source.name, len(source))
    seen: dict[str, int] = {}
    for part in _parts(source, template, count_cores() if workers is None else workers):
        report.problems += part.problems
        report.question_lengths += part.question_lengths
        report.object_counts += part.object_counts
        report.box_shares += part.box_shares
        report.maskless += part.maskless
        for number, name in part.ids:
            first = seen.setdefault(name, number)
            if first != number:
                report.problems.append(Problem(number, name, "duplicate id", f"row {first} has it too"))
        if progress is not None:
            progress(_CHUNK)
    report.problems.sort(key=lambda problem: problem.row)
    return report


def _decode(data: bytes) -> CheckReport:
    try:
        values = json.loads(data)
        return CheckReport(**{**values, "problems": [Problem(**problem) for problem in values["problems"]]})
    except (TypeError, KeyError) as error:
        raise ValueError(f"not a report ({error})") from error


def check_once(
    source: RowSource, template: str | None = None, progress: Callable[[int], object] | None = None
) -> tuple[CheckReport, bool]:
    """Like :func:`check`, but the result is kept by the content of the dataset; and whether it was."""
    return remembered(
        "checks",
        digest(_RULES, source.fingerprint, source.name, template),
        lambda: check(source, template, progress=progress),
        lambda report: json.dumps(asdict(report)).encode(),
        _decode,
    )
