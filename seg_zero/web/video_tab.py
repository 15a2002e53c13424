"""The tab for clips: its components and their handlers. The work is in clips.py."""

from __future__ import annotations

import html
import logging
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from seg_zero.errors import InputError, counted
from seg_zero.serving.service import Refused
from seg_zero.serving.uploads import Limits, read_question
from seg_zero.video.tracking import MATCH_IOU
from seg_zero.visualize import colour_of
from seg_zero.web import show
from seg_zero.web.asker import Waiting
from seg_zero.web.clips import ClipAnswer, ClipAsker, Stopped, read_clip, read_numbers

log = logging.getLogger(__name__)

FIRST, OFTEN, CHOSEN = "the first frame", "one frame every so many seconds", "frames by number"
MOST_PROBLEMS = 5  # shown

Updates = dict[Any, Any]


@dataclass(eq=False)
class ClipSession:
    """The state of one user: ``stop`` ends the clip that is being followed."""

    stop: threading.Event | None = None


def build_video_tab(clips: ClipAsker, limits: Limits) -> None:
    """The tab's contents, in the current Blocks, over models shared by all users."""
    session = gr.State(ClipSession())
    with gr.Row(elem_classes="columns"):
        with gr.Column(scale=5, min_width=320):
            clip = gr.Video(label="Clip", sources=["upload"], height=260, elem_id="clip")
            gr.HTML(f"<p class='about'>mp4, mov, mkv, webm, avi; {html.escape(clips.limits.words)}.</p>")
            question = gr.Textbox(
                label="Question about the clip",
                placeholder="the dog that jumps first",
                lines=1,
                max_lines=4,
                elem_id="clip-question",
            )
            where = gr.Radio([FIRST, OFTEN, CHOSEN], value=FIRST, label="The policy is asked about", elem_id="where")
            seconds = gr.Number(2, label="Seconds from question to question", visible=False, elem_id="seconds")
            numbers = gr.Textbox(
                label="Frame numbers, from 0", placeholder="0, 40, 80", visible=False, elem_id="numbers"
            )
            min_iou = gr.Slider(
                0.05,
                1,
                value=MATCH_IOU,
                step=0.05,
                label="Least overlap (IoU) at which a later answer's object is one that is already followed",
                visible=False,
                elem_id="min-iou",
            )
            with gr.Row():
                follow = gr.Button("Ask and follow", variant="primary", elem_id="follow")
                stop = gr.Button("Stop the clip", visible=False, elem_id="stop-clip")
            message = gr.HTML(elem_id="clip-message")
        with gr.Column(scale=7, min_width=320):
            report = gr.HTML(_WELCOME, elem_id="clip-report")
            shown = gr.Video(label="Overlay", interactive=False, visible=False, buttons=["download"], elem_id="overlay")
            files = gr.File(label="Files", interactive=False, visible=False, elem_id="clip-files")

    def options(chosen: str) -> Updates:
        return {
            seconds: gr.update(visible=chosen == OFTEN),
            numbers: gr.update(visible=chosen == CHOSEN),
            min_iou: gr.update(visible=chosen != FIRST),
        }

    def take_clip(file: dict[str, Any] | None) -> str:
        """One line about an uploaded clip."""
        if file is None:
            return ""
        try:
            opened = read_clip(Path(file["path"]), clips.limits)
        except InputError as error:
            return show.notice(str(error))
        rate = f"{float(opened.fps):.3g} per second"
        line = f"clip {opened.name}: {len(opened):,} frames of {show.written(opened.size)}, {rate}"
        return show.notice(line, "note")

    def idle(line: str = "", kind: str = "error") -> Updates:
        return {follow: gr.update(visible=True), stop: gr.update(visible=False), message: show.notice(line, kind)}

    def following(
        file: dict[str, Any] | None,
        text: str,
        chosen: str,
        every: float | None,
        frames: str,
        overlap: float,
        state: ClipSession,
    ) -> Iterator[Updates]:
        state.stop = threading.Event()
        hidden = gr.update(visible=False)
        try:
            if file is None:
                raise InputError("there is no clip yet; upload one")
            read_question(text, limits)
            if chosen == OFTEN and every is None:
                raise InputError("the number of seconds is missing; give one above 0")
            keys = read_numbers(frames) if chosen == CHOSEN else ()
            yield {
                follow: hidden,
                stop: gr.update(visible=True),
                message: "",
                shown: hidden,
                files: hidden,
                report: show.pending(text, "the clip is being read"),
            }
            with tempfile.TemporaryDirectory(prefix="seg-zero-clip-") as folder:
                for event in clips.follow(
                    *(Path(file["path"]), text, Path(folder), state.stop),
                    key_frames=keys,
                    every=every if chosen == OFTEN else None,
                    min_iou=overlap,
                ):
                    if isinstance(event, Waiting):
                        yield {report: show.waiting(text, event.ahead, "clip")}
                    elif not event.files:
                        yield {report: progress(text, event)}
                    else:
                        overlay, _ = made = [str(path) for path in event.files]
                        yield {
                            **idle(),
                            report: finished(text, event),
                            shown: gr.update(value=overlay, visible=True),
                            files: gr.update(value=made, visible=True),
                        }
        except Stopped:
            yield {**idle("stopped", "note"), report: _WELCOME}
        except (InputError, Refused) as error:
            yield {**idle(str(error)), report: _WELCOME}
        except Exception:
            log.exception("a clip failed")
            yield {**idle(show.FAILED), report: _WELCOME}
        finally:
            state.stop = None

    def end(state: ClipSession) -> None:
        if state.stop is not None:
            state.stop.set()

    quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
    where.input(options, where, [seconds, numbers, min_iou], concurrency_limit=8, **quiet)
    gr.on([clip.upload, clip.clear], take_clip, clip, message, preprocess=False, concurrency_limit=4, **quiet)
    gr.on(
        [follow.click, question.submit],
        following,
        [clip, question, where, seconds, numbers, min_iou, session],
        [follow, stop, message, report, shown, files],
        preprocess=False,
        concurrency_limit=16,
        **quiet,
    )
    stop.click(end, session, None, concurrency_limit=8, **quiet)


_WELCOME = (
    '<ol class="welcome"><li>Upload a clip and ask for one object or several.</li>'
    "<li>The policy answers on a frame, and SAM2 carries the masks through the clip.</li>"
    "<li>Watch the overlay; take it and the masks of every frame with you.</li></ol>"
)


def progress(question: str, answer: ClipAnswer) -> str:
    """How far it is, as HTML: a bar, the speed, and the answers so far."""
    if not answer.done:
        return show.pending(question, "the policy is being asked")
    rate = answer.done / max(time.monotonic() - answer.started, 1e-3)
    left = round((answer.count - answer.done) / rate)
    line = f"frame {answer.done:,} of {answer.count:,} · {rate:.1f} per second · about {left // 60}:{left % 60:02} left"
    bar = f'<progress max="{answer.count}" value="{answer.done}" aria-label="frames done"></progress>'
    return f'{show.asked(question)}<div class="progress">{bar}<p>{line}</p></div>{_answers(answer)}'


def finished(question: str, answer: ClipAnswer) -> str:
    """What was found, as HTML."""
    count = len(answer.summary.seen)
    if count:
        outcome = show.notice(f"{counted(count, 'object')} followed", "note")
    else:
        outcome = show.notice("no object found on any frame that was asked about", "warning")
    warned = show.notice(next((one.warning for one in answer.asked if one.warning), None) or "", "warning")
    problems = answer.problems[:MOST_PROBLEMS]
    more = len(answer.problems) - len(problems)
    said = "".join(show.notice(problem, "warning") for problem in problems)
    said += show.notice(f"{more} more frames had a problem; the file of masks names them", "warning") if more else ""
    rows = "".join(
        f'<tr><th scope="row"><span class="swatch" style="background: rgb{colour_of(number - 1)}"></span>{number}</th>'
        f"<td>{seen:,} of {answer.count:,}</td></tr>"
        for number, seen in sorted(answer.summary.seen.items())
    )
    head = '<thead><tr><th scope="col">object</th><th scope="col">seen in frames</th></tr></thead>'
    table = f'<table class="objects">{head}<tbody>{rows}</tbody></table>' if rows else ""
    return show.asked(question) + outcome + warned + said + table + _answers(answer)


def _answers(answer: ClipAnswer) -> str:
    """The policy's answers on key frames."""
    items = []
    for one in answer.asked:
        ids = ", ".join(map(str, one.ids)) or "none"
        problem = f" ({one.problem})" if one.problem else ""
        items.append(
            f"<li><b>Frame {one.frame} ({one.seconds:.2f} s), objects {ids}</b> "
            f"{html.escape(one.thinking or 'no reasoning')}{html.escape(problem)}</li>"
        )
    return f'<ul class="answers">{"".join(items)}</ul>' if items else ""
