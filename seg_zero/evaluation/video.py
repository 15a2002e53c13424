"""Evaluates questions about clips: J, F and J&F of every expression, stored as it is answered, and their means."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from seg_zero.evaluation.run import Models
from seg_zero.evaluation.store import only_evaluation, open_folder
from seg_zero.evaluation.video_sets import Expression
from seg_zero.files import make_folder, read_lines, write_json, write_text, writing
from seg_zero.metrics import ClipScore, VideoMetrics, score_clip
from seg_zero.pipeline import ReasoningSegmenter
from seg_zero.video.clips import FolderClip

SCORES = "expressions.jsonl"

Progress = Callable[[ClipScore, bool], None]


def evaluate_video(
    models: Models,
    expressions: Sequence[Expression],
    data: str,
    out: Path,
    *,
    key_every: int | None = None,
    progress: Progress = lambda score, old: None,
) -> dict[str, dict[str, float]]:
    """Answer the expressions that ``out`` does not hold yet and write metrics.json and report.md.

    data: name of the set, for the manifest; key_every: ask the policy about every so many frames (None: the first).
    progress is called for each expression with its score, and whether an earlier run answered it.

    Returns J, F, J&F (each 0 to 1) and count of "all" and, where the set tells kinds apart, of each kind.
    Raises InputError for another evaluation in ``out``, and for frames or annotations that cannot be used.
    """
    make_folder(out)
    with only_evaluation(out):
        open_folder(out, {**models.settings(), "data": data, "key_every": key_every, "expressions": len(expressions)})
        done = _read(out / SCORES)
        for item in expressions:
            if item.key in done:
                progress(done[item.key], True)
        pending = [item for item in expressions if item.key not in done]
        if pending:
            segmenter = ReasoningSegmenter(*models.load())
            with writing(out / SCORES), (out / SCORES).open("a", encoding="utf-8") as stream:
                for item in pending:
                    score = done[item.key] = score_expression(segmenter, item, key_every)
                    record = {"key": item.key, "question": item.question, **asdict(score)}
                    stream.write(json.dumps(record, ensure_ascii=False) + "\n")
                    stream.flush()
                    progress(score, False)
        metrics = _means(expressions, done)
        write_json(out / "metrics.json", metrics)
        write_text(out / "report.md", report(data, metrics))
        return metrics


def score_expression(segmenter: ReasoningSegmenter, item: Expression, key_every: int | None) -> ClipScore:
    """Answer one expression and score the union of its objects in every frame."""
    clip = FolderClip(item.folder, names=list(item.frames))
    keys = range(0, len(clip), key_every or len(clip))
    frames = segmenter.segment_video(clip, item.question, key_frames=keys)

    def pairs() -> Any:
        for frame in frames:
            truth = item.truth(frame.index, clip.size)
            yield frame.masks.any(axis=0) if frame.objects else truth & False, truth

    return score_clip(pairs())


def report(data: str, metrics: dict[str, dict[str, float]]) -> str:
    lines = [
        "# Evaluation on video",
        "",
        f"`{data}`",
        "",
        "| expressions | J | F | J&F | count |",
        "|---|---|---|---|---|",
    ]
    for name, row in metrics.items():
        lines.append(f"| {name} | {row['J']:.4f} | {row['F']:.4f} | {row['J&F']:.4f} | {row['count']:.0f} |")
    return "\n".join(lines) + "\n"


def _means(expressions: Sequence[Expression], done: dict[str, ClipScore]) -> dict[str, dict[str, float]]:
    groups = {"all": VideoMetrics()}
    for item in expressions:
        for name in ("all", item.kind):
            if name is not None:
                groups.setdefault(name, VideoMetrics()).add(done[item.key])
    return {name: groups[name].result() for name in sorted(groups)}


def _read(path: Path) -> dict[str, ClipScore]:
    """The scores of earlier runs; a last line that a killed run left half written is taken away."""
    if not path.is_file():
        return {}
    found: dict[str, ClipScore] = {}
    whole = []
    for line in read_lines(path):
        try:
            record = json.loads(line)
            found[record["key"]] = ClipScore(record["j"], record["f"], record["frames"])
        except (ValueError, KeyError, TypeError):
            continue
        whole.append(line)
    write_text(path, "".join(f"{line}\n" for line in whole))
    return found
