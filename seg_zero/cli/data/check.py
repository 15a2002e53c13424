"""``seg-zero data check NAME``: validates a dataset of any readable layout and shows what is in it."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from seg_zero.cli.options import add_prompt_template_option, prompt_template_of
from seg_zero.data.check import CheckReport, Problem, check, count_cores
from seg_zero.data.contact_sheet import contact_sheet
from seg_zero.data.source import RowSource, open_rows
from seg_zero.errors import InputError, counted
from seg_zero.files import check_folder_place, write_image, write_json, write_text
from seg_zero.prompting import TEMPLATES, PromptTemplate

_LISTED = 10  # problems printed; --out keeps all
_BAR = 40


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", help="file, folder, hub id or NAME@SPLIT (docs/data.md lists all kinds)")
    parser.add_argument("--out", help="folder for problems.jsonl, report.json and contact sheets (default: write none)")
    parser.add_argument("--samples", type=int, default=24, help="rows on the contact sheet (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="seed for choosing those rows (default: %(default)s)")
    parser.add_argument("--workers", type=int, default=count_cores(), help="processes (default: one per core)")
    parser.add_argument("--template", choices=tuple(TEMPLATES), help="also check that every row fits this prompt")
    parser.add_argument(
        "--policy", help="also count prompts over --max_prompt_length for this policy (folder or hub id)"
    )
    add_prompt_template_option(parser)
    parser.add_argument(
        "--image_size", type=int, help="with --policy: side of its input in pixels (default: that of the policy)"
    )
    parser.add_argument(
        "--max_prompt_length", type=int, default=1300, help="with --policy: limit in tokens (default: %(default)s)"
    )


def _long_prompts(source: RowSource, args: argparse.Namespace, wording: PromptTemplate | None) -> list[Problem]:
    """Warnings about prompts that training would skip because of their length."""
    from seg_zero.data.prompt_lengths import PromptLengths, prompt_lengths
    from seg_zero.policy.model_files import default_spec, resolve_model
    from seg_zero.policy.processors import load_processor, pass_images_on

    model = resolve_model(args.policy)
    processor = load_processor(model)
    spec = default_spec(model, args.template, args.image_size, wording)
    pass_images_on(processor, spec, model)
    counts, limit = prompt_lengths(source, PromptLengths(processor, spec, {})), args.max_prompt_length
    ids = source.column("id")
    return [
        Problem(source.number(int(i)), str(ids[i]), "over-long prompt", f"{counts[i]} tokens of {limit}")
        for i in np.flatnonzero(counts > limit)
    ]


def histogram(title: str, values: Sequence[float], edges: Sequence[float], labels: Sequence[str]) -> str:
    """Text bars: how many values lie in each [edge, next edge); the last edge is included."""
    counts, _ = np.histogram(values, edges)
    filled = np.flatnonzero(counts)
    shown = range(filled[0], filled[-1] + 1) if len(filled) else range(0)
    most = max(counts.max(), 1)
    lines = [f"  {labels[i]:>12}  {'█' * -(-int(counts[i]) * _BAR // most):<{_BAR}}  {counts[i]:,}" for i in shown]
    low, middle, high = np.quantile(values, (0, 0.5, 1)) if len(values) else (0, 0, 0)
    return "\n".join([f"{title}: from {low:.3g} to {high:.3g}, median {middle:.3g}", *lines])


def histograms(report: CheckReport) -> str:
    """Question lengths, objects per row and box sizes of a checked dataset."""
    lengths = [0, 10, 20, 40, 80, 160, 320, np.inf]
    objects = [0, 1, 2, 3, 4, 6, 11, 21, np.inf]
    fractions = [0, 0.0001, 0.001, 0.01, 0.03, 0.1, 0.3, np.inf]
    return "\n".join(
        [
            histogram(
                "question length in characters",
                report.question_lengths,
                lengths,
                ["0-9", "10-19", "20-39", "40-79", "80-159", "160-319", "320 and more"],
            ),
            histogram(
                "objects per row",
                report.object_counts,
                objects,
                ["0", "1", "2", "3", "4-5", "6-10", "11-20", "21 and more"],
            ),
            histogram(
                "box size as a fraction of the image",
                report.box_shares,
                fractions,
                ["below 0.01 %", "0.01-0.1 %", "0.1-1 %", "1-3 %", "3-10 %", "10-30 %", "above 30 %"],
            ),
        ]
    )


def summary(report: CheckReport) -> str:
    """Number of problems of each sort, and the first of each, for printing."""
    lines = [f"{report.source}: {counted(report.rows, 'row')}, {len(report.bad_rows):,} with errors"]
    for title, wanted in (("errors (training refuses such rows)", True), ("warnings (such rows can be used)", False)):
        found = [problem for problem in report.problems if problem.is_error == wanted]
        if not found:
            lines.append(f"no {title.split(' (')[0]}")
            continue
        kinds = dict.fromkeys(problem.what for problem in found)
        lines.append(title)
        lines += [f"  {count:>7,}  {what}" for what, count in report.counts().items() if what in kinds]
        lines += [f"    {problem.line()}" for problem in found[:_LISTED]]
        if len(found) > _LISTED:
            lines.append(f"    … and {len(found) - _LISTED:,} more")
    return "\n".join(lines)


def write_report(folder: Path, source: RowSource, report: CheckReport, samples: int, seed: int) -> list[Path]:
    """Write problems.jsonl, report.json and the contact sheets; returns their paths."""
    written = [folder / "problems.jsonl", folder / "report.json", folder / "contact_sheet.png"]
    lines = [json.dumps({**asdict(p), "error": p.is_error}, ensure_ascii=False) for p in report.problems]
    write_text(written[0], "".join(line + "\n" for line in lines))
    rng = np.random.default_rng(seed)
    chosen = sorted(int(i) for i in rng.permutation(len(source))[:samples])
    values = {
        "source": report.source,
        "rows": report.rows,
        "problems": report.counts(),
        "bad_rows": report.bad_rows,
        "questions_characters_mean": float(np.mean(report.question_lengths or [0])),
        "objects_mean": float(np.mean(report.object_counts or [0])),
        "boxes_share_median": float(np.median(report.box_shares or [0])),
        "contact_sheet_rows": chosen,
    }
    write_json(written[1], values)
    write_image(written[2], contact_sheet(source, chosen, f"{len(chosen)} random rows of {report.source}"))
    if report.problems:
        notes: dict[int, str] = {}
        for problem in sorted(report.problems, key=lambda p: not p.is_error):
            notes.setdefault(problem.row, f"{problem.what}: {problem.detail}")
        first = list(notes)[:samples]
        written.append(folder / "problems.png")
        title = f"{len(first)} of {len(notes)} rows with problems, errors first: {report.source}"
        write_image(written[3], contact_sheet(source, first, title, notes))
    return written


def run(args: argparse.Namespace) -> int:
    """The command ``seg-zero data check``; the exit code is 1 if there are errors."""
    from tqdm import tqdm

    for name in ("samples", "workers", "max_prompt_length"):
        if getattr(args, name) < 1:
            raise InputError(f"--{name} {getattr(args, name)}: give 1 or more")
    if args.out:
        check_folder_place(Path(args.out))
    wording = prompt_template_of(args)
    template = args.template if wording is None else wording.format
    source = open_rows(args.name)
    if not len(source):
        raise InputError(f"dataset {args.name} has no rows; there is nothing to check")
    with tqdm(total=len(source), unit="row", file=sys.stderr) as bar:
        report = check(source, template, args.workers, lambda more: bar.update(min(more, len(source) - bar.n)))
    if args.policy:
        readable = source.select(np.setdiff1d(np.arange(len(source)), report.bad_rows))
        report.problems += _long_prompts(readable, args, wording)
    written = write_report(Path(args.out), source, report, args.samples, args.seed) if args.out else []
    print(summary(report))
    print(histograms(report))
    if written:
        print("written: " + "  ".join(map(str, written)))
    return 1 if report.errors else 0
