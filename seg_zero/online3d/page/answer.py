"""What a question about a scan leaves behind: pictures of the frames, the answer as JSON, and its page."""

from __future__ import annotations

import html
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from seg_zero.files import make_folder, write_image, write_json, write_text
from seg_zero.online3d.answers.ask import AskedView, SceneAnswer
from seg_zero.online3d.page.write import Highlight, cloud
from seg_zero.online3d.questions import FinishedScan
from seg_zero.visualize import overlay
from seg_zero.visualize.html_page import document, panel

ANSWER = "answer.json"
PAGE = "index.html"
_PANEL = 520  # pixels of the longer side of a picture in the page
_MIN_SIDE = 240


def write_answer(answer: SceneAnswer, scan: FinishedScan, folder: Path, max_points: int = 150_000) -> None:
    """Write ``answer.json``, a picture ``frame-NUMBER.png`` of each frame with the objects found, and the page."""
    make_folder(folder)
    for view in answer.views:
        write_image(folder / f"frame-{view.number:06d}.png", drawn(answer, view))
    write_json(folder / ANSWER, as_json(answer, scan))
    write_text(folder / PAGE, answer_page(answer, scan, max_points))


def as_json(answer: SceneAnswer, scan: FinishedScan) -> dict[str, Any]:
    """The objects with any score, best first, and what was said about each frame.

    column: of the instance in ``ckpt_final.npz``; number: its number there. Lengths are in metres.
    """
    result, order = scan.result, np.argsort(-answer.scores, kind="stable")
    frames = []
    for view in answer.views:
        covered, whole = view.votes(result.count)
        votes = {str(result.numbers[i]): round(covered[i] / whole[i], 4) for i in np.flatnonzero(covered)}
        frames.append({"frame": view.number, "votes": votes, **view.result.to_dict(per_object=False)})
    return {
        "question": answer.question,
        "min_score": answer.min_score,
        "found": [int(result.numbers[column]) for column in answer.found],
        "instances": [_instance(answer, scan, int(column)) for column in order if answer.scores[column] > 0],
        "frames": frames,
        "left_out": list(answer.left_out),
    }


def _instance(answer: SceneAnswer, scan: FinishedScan, column: int) -> dict[str, Any]:
    points = scan.result.points[scan.result.masks[:, column]]
    return {
        "column": column,
        "number": int(scan.result.numbers[column]),
        "score": round(float(answer.scores[column]), 4),
        "asked": int(answer.asked[column]),
        "centre": points.mean(0).round(4).tolist(),
        "extent": (points.max(0) - points.min(0)).round(4).tolist(),
        "points": len(points),
    }


def drawn(answer: SceneAnswer, view: AskedView) -> Image.Image:
    """A frame with the objects found outlined, with their numbers of the scan's page."""
    masks = np.array([view.seen == column for column in answer.found]).reshape(-1, *view.seen.shape)
    return overlay(view.result.image, masks, numbers=[column + 1 for column in answer.found], min_side=_MIN_SIDE)


def describe_answer(answer: SceneAnswer, scan: FinishedScan) -> str:
    """A line for each object found, and what the reader should know about the frames."""
    lines = []
    for rank, column in enumerate(answer.found, 1):
        one = _instance(answer, scan, column)
        size = " x ".join(f"{edge:.2f}" for edge in one["extent"])
        centre = ", ".join(f"{value:.2f}" for value in one["centre"])
        lines.append(f"{rank}. object {column + 1}: score {one['score']:.2f}, {size} m around ({centre})")
    if not lines:
        best = float(answer.scores.max())
        lines.append(f"no object reaches the score {answer.min_score:g}; the best has {best:.2f}")
    if answer.views:
        lines.append(_counts(answer))
    lines += [f"left out: {problem}" for problem in answer.left_out]
    return "\n".join(lines)


def _counts(answer: SceneAnswer) -> str:
    if not answer.views:
        return "found by their vectors"
    unread = sum(view.result.problem is not None for view in answer.views)
    text = f"asked on {len(answer.views)} frames"
    return f"{text}, of which {unread} had no usable answer" if unread else text


def answer_page(answer: SceneAnswer, scan: FinishedScan, max_points: int) -> str:
    """The HTML text of the page: what was found, the points with only that in colour, and the frames."""
    result, found = scan.result, answer.found
    remarks = [
        f"score {score:.2f}" if asked else ("not in the frames asked" if answer.views else "no vector")
        for score, asked in zip(answer.scores, answer.asked, strict=True)
    ]
    points = cloud(result, scan.summary, scan.folder.resolve().name, max_points, Highlight(found, remarks))
    names = f"{len(found)} of {result.count} objects" if found else f"None of {result.count} objects"
    lead = f"{names} in {Path(scan.summary.sequence).name}; {_counts(answer)}"
    title = html.escape(answer.question)
    body = [f'<h1>{title}</h1><p class="lead">{html.escape(lead)}.</p>{points}']
    if answer.views:
        body.append(
            '<h2>Frames</h2><p class="note">Of each frame first the masks of its answer, then the objects found in '
            "3D. The score of an object is the fraction of its pixels that the answers cover.</p>"
        )
    body += [_case(answer, view) for view in answer.views]
    return document(title, "".join(body))


def _case(answer: SceneAnswer, view: AskedView) -> str:
    said = view.result.problem or view.result.thinking or "The answer gives no reasons."
    asked = panel(_small(view.result.overlay(min_side=_MIN_SIDE)), f"Answer on frame {view.number}", html.escape(said))
    covered, whole = view.votes(len(answer.scores))
    shown = [column for column in answer.found if whole[column]]
    votes = ", ".join(f"object {i + 1}: {covered[i] / whole[i]:.0%} covered" for i in shown)
    caption = votes or ("Shows none of the objects found." if answer.found else "")
    objects = panel(_small(drawn(answer, view)), f"Objects found, in frame {view.number}", caption)
    return f'<section class="case"><h3>Frame {view.number}</h3><div class="panels">{asked}{objects}</div></section>'


def _small(image: Image.Image) -> Image.Image:
    image.thumbnail((_PANEL, _PANEL), Image.Resampling.LANCZOS)
    return image
