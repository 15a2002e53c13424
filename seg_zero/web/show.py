"""State to what the page shows and offers for download: pictures, HTML, files."""

from __future__ import annotations

import base64
import html
import json
import re
from collections.abc import Iterable, Sequence
from pathlib import PurePath

import numpy as np
from PIL import Image, ImageDraw

from seg_zero.errors import counted
from seg_zero.images import encode_png
from seg_zero.masks import decode_mask, resize_mask
from seg_zero.objects import Point, PromptObject
from seg_zero.results.collection import AnswerCollection
from seg_zero.results.files import OVERLAY_SIDE
from seg_zero.results.labelme import labelme_file, labelme_shapes
from seg_zero.visualize import DIMMED, colour_of, mask_image, overlay
from seg_zero.web.session import Picture, Session, Turn, write_pixel, write_points

FAILED = "the server failed on this; its log says why"
THUMBNAIL_SIDE = 160
MOST_EMBEDDED = 1 << 20  # bytes of a picture inside its LabelMe annotation
WELCOME = (
    '<ol class="welcome"><li>Choose an example, or give a picture of your own.</li>'
    "<li>Ask for one object, for several, or for what may not be there.</li>"
    "<li>Read the reasoning, look at the masks, correct them by hand, take them with you.</li></ol>"
)


def draw(session: Session, dimmed: float, prompts: bool) -> Image.Image | None:
    """The current answer over its picture, at the size it is shown; None before the first answer.

    ``dimmed``: how far the surroundings are darkened, 0 to 1. The other objects of a hidden one keep their numbers and
    colours; the first corner of a box is a cross.
    """
    turn = session.current
    if turn is None:
        return None
    view = turn.picture.view
    sx, sy = view.width / turn.picture.size[0], view.height / turn.picture.size[1]
    shown = [(number, item) for number, item in enumerate(turn.items, start=1) if item.shown]
    picture = draw_masks(
        turn.picture,
        [decode_mask(item.mask) for _, item in shown],
        [number for number, _ in shown] if len(turn.items) > 1 else None,
        [item.prompt.scaled(sx, sy) for _, item in shown] if prompts else [],
        dimmed,
    )
    if session.corner is not None:
        x, y = (
            c * side / whole for c, side, whole in zip(session.corner, picture.size, turn.picture.size, strict=True)
        )
        arm, pen = max(8, min(picture.size) // 40), ImageDraw.Draw(picture)
        for colour, width in (((20, 20, 20), 7), ((255, 255, 255), 5), (colour_of(session.selected), 2)):
            pen.line((x - arm, y, x + arm, y), fill=colour, width=width)
            pen.line((x, y - arm, x, y + arm), fill=colour, width=width)
    return picture


def draw_masks(
    picture: Picture,
    masks: Sequence[np.ndarray],
    numbers: Sequence[int] | None = None,
    objects: Sequence[PromptObject] = (),
    dimmed: float = DIMMED,
) -> Image.Image:
    """Masks (boolean, of any size) over the picture, at the size at which :func:`draw` shows it; objects: in pixels of
    its view. The numbers choose the colours."""
    fitted = np.zeros((len(masks), *picture.view.size[::-1]), dtype=bool)
    for place, mask in zip(fitted, masks, strict=True):
        place[:] = resize_mask(mask, picture.view.size)
    return overlay(picture.view, fitted, objects, dimmed=dimmed, numbers=numbers, min_side=OVERLAY_SIDE)


def plain(picture: Picture) -> Image.Image:
    """The picture at the size at which :func:`draw` shows it."""
    return draw_masks(picture, [])


def in_picture(click: tuple[float, float], picture: Picture) -> Point:
    """A click at pixels of what :func:`draw` gave, in pixels of the picture."""
    shown = shown_size(picture)
    x, y = (round((at + 0.5) * whole / side, 1) for at, side, whole in zip(click, shown, picture.size, strict=True))
    return (min(max(x, 0.0), float(picture.size[0])), min(max(y, 0.0), float(picture.size[1])))


def first_corner(session: Session) -> str:
    """What is said once the first corner of a box is set."""
    assert session.corner is not None
    x, y = session.corner
    return f"first corner at {write_pixel(x)}, {write_pixel(y)}; now click on the opposite corner"


def shown_size(picture: Picture) -> tuple[int, int]:
    """(width, height) of what :func:`draw` gives: small views are enlarged by a whole number."""
    scale = max(1, -(-OVERLAY_SIDE // min(picture.view.size)))
    return picture.view.width * scale, picture.view.height * scale


def written(size: tuple[int, int]) -> str:
    return f"{size[0]} × {size[1]}"  # noqa: RUF001


def about_picture(picture: Picture) -> str:
    """One line on a picture that was taken."""
    line = f"picture {picture.name}, {written(picture.size)} pixels"
    return line if picture.seen == picture.size else f"{line}; the models see it at {written(picture.seen)}"


def thumbnails(session: Session) -> list[tuple[Image.Image, str]]:
    """The session's answers as small pictures with their questions, the newest first."""
    small = []
    for turn in session.turns:
        picture = draw(Session(current=turn), DIMMED, prompts=False)
        assert picture is not None
        picture.thumbnail((THUMBNAIL_SIDE * 2, THUMBNAIL_SIDE))
        small.append((picture, f"{turn.question} · corrected" if turn.corrections else turn.question))
    return small


def notice(line: str, kind: str = "error") -> str:
    """One line for the user; ``kind`` is error, warning or note. Empty for an empty line."""
    if not line:
        return ""
    role = "alert" if kind == "error" else "status"
    return f'<p class="notice {kind}" role="{role}">{html.escape(_sentence(line))}</p>'


def _sentence(line: str) -> str:
    line = " ".join(line.split())
    return line[:1].upper() + line[1:] + ("" if line.endswith((".", "…", "!", "?")) else ".")


def headline(turn: Turn) -> str:
    """The question, its outcome and the time it took, as HTML."""
    warned = notice(turn.warning or "", "warning")
    return f'{asked(turn.question)}{_outcome(turn)}{warned}<div class="times">{html.escape(times(turn))}</div>'


def asked(question: str) -> str:
    return f'<div class="asked">“{html.escape(question)}”</div>'


def pending(question: str, line: str = "the policy is writing") -> str:
    """What stands in place of an answer while it is made; ``line`` says how far it is."""
    return asked(question) + notice(f"{line} …", "note")


def waiting(question: str, ahead: int, noun: str = "question") -> str:
    """The same while ``ahead`` of other users come first; ``noun``: of one of them."""
    return pending(question, f"waiting for {counted(ahead, noun)} of others") if ahead else pending(question)


def object_label(turn: Turn, index: int) -> str:
    """The label of an object's switch: its number and score."""
    item = turn.items[index]
    return f"{index + 1} · score {item.score:.2f}"


def _outcome(turn: Turn) -> str:
    count = len(turn.items)
    words = counted(count, "object")
    if turn.edited:
        return notice(f"{words}, corrected by hand", "note")
    if turn.corrections:
        times = "once" if turn.corrections == 1 else counted(turn.corrections, "time")
        return notice(f"{words}, corrected {times} by the policy", "note")
    if turn.problem is not None:
        return notice(f"the answer could not be read: {turn.problem}", "warning")
    if not count:
        return notice("the policy found no such object", "warning")
    empty = [str(n) for n, item in enumerate(turn.items, start=1) if not item.score]
    if empty:
        return notice(f"{words}; nothing could be segmented for {', '.join(empty)}", "warning")
    return notice(f"{words} found", "note")


def times(turn: Turn) -> str:
    """Seconds by stage; 0.00 for a cached embedding."""
    order = ("policy", "embedding", "segmenter")
    parts = [f"{name} {turn.seconds[name]:.2f} s" for name in order if name in turn.seconds]
    return " · ".join(parts)


def writing(text: str) -> str:
    """A policy's text so far as HTML: the thinking, then the answer as it writes it.

    Text of neither kind is shown as it is.
    """
    thinking, answer = _parts(text)
    shown = f"<b>Answer</b><pre>{html.escape(answer)}</pre>" if answer else ""
    cursor = '<span class="cursor" aria-hidden="true"></span>'
    return f'<div class="reasoning" aria-live="polite">{_thinking(thinking)}{shown}{cursor}</div>'


def reasoning(turn: Turn) -> str:
    """The thinking, the objects as they are now in pixels of the picture, and what the policy wrote, as HTML."""
    thinking, answer = _parts(turn.text)
    wrote = f"<details><summary>What the policy wrote</summary>{_RAW}<pre>{html.escape(answer)}</pre></details>"
    parts = (_thinking(thinking), _objects(turn), wrote if answer else "")
    return f'<div class="reasoning" aria-live="polite">{"".join(parts)}</div>'


_RAW = "<p>Its coordinates are those of the picture as it was resized for the policy, before corrections.</p>"


def _parts(text: str) -> tuple[str, str]:
    """The thinking, and the rest without its tags."""
    thinking, _, rest = text.partition("</think>")
    opened = thinking.lstrip().startswith("<think>")
    thinking = re.sub(r"^\s*<think>", "", thinking) if opened else ""
    if not opened:
        rest = text
    return thinking.strip(), re.sub(r"^\s*<answer>|</answer>\s*$", "", rest).strip()


def _thinking(text: str) -> str:
    return f'<b>Reasoning</b><p class="thinking">{html.escape(text)}</p>' if text else ""


def _objects(turn: Turn) -> str:
    """Boxes and points as a table, in pixels of the picture."""
    if not turn.items:
        return ""
    rows = []
    for number, item in enumerate(turn.items, start=1):
        box = "none" if item.prompt.box is None else ", ".join(write_pixel(v) for v in item.prompt.box)
        points = write_points(item.prompt.points) or "none"
        rows.append(f'<tr><th scope="row">{number}</th><td>{box}</td><td>{points}</td></tr>')
    head = "".join(f'<th scope="col">{name}</th>' for name in ("object", "box: x1, y1, x2, y2", "points: x, y"))
    return (
        f"<b>Objects, in pixels of the picture ({written(turn.picture.size)})</b>"
        f'<table class="objects"><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table>'
    )


def downloads(turn: Turn) -> str:
    """Links that contain the files themselves, so that no user's data stays on the server."""
    return links(files_of(turn))


def links(files: Iterable[tuple[str, str, bytes, str]]) -> str:
    """Links to files that they contain: each its name, media type, contents and words."""
    made = "".join(
        f'<a download="{html.escape(name)}" href="data:{kind};base64,{base64.b64encode(data).decode()}">{words}</a>'
        for name, kind, data, words in files
    )
    return f'<div class="downloads">{made}</div>'


def files_of(turn: Turn) -> list[tuple[str, str, bytes, str]]:
    """The files of an answer, each with its name, media type, contents and what the link says.

    A LabelMe annotation belongs beside the picture; small pictures are embedded in it.
    """
    stem = stem_of(turn.picture)
    result, picture = turn.result(), turn.picture
    together = AnswerCollection(("coco", "label_studio"))
    together.add(result, stem, picture.name)
    # LabelMe does not read HEIC.
    data = picture.data if len(picture.data) <= MOST_EMBEDDED and not picture.is_heic else None
    annotation = labelme_file(labelme_shapes(result), picture.size, picture.name, data)
    made = (
        (f"{stem}.json", annotation, "LabelMe"),
        (f"{stem}_coco.json", together.coco(), "COCO"),
        (f"{stem}_label_studio.json", together.label_studio(), "Label Studio"),
    )
    record = json.dumps(turn.record(result), ensure_ascii=False) + "\n"
    text = "application/json"
    return [
        (f"{stem}_mask.png", "image/png", encode_png(mask_image(result.mask)), "Mask (PNG)"),
        (f"{stem}_rle.json", text, record.encode("utf-8"), "Objects and masks (JSON)"),
        *((name, text, json.dumps(value, ensure_ascii=False).encode("utf-8"), words) for name, value, words in made),
    ]


def stem_of(picture: Picture) -> str:
    """The picture's name as the beginning of those of files about it."""
    return re.sub(r"[^\w.-]+", "_", PurePath(picture.name).stem)[:80] or "picture"
