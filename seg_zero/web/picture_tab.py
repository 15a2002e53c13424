"""The tab for pictures: its components and their handlers. State is in session.py, presentation in show.py."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from typing import Any

import gradio as gr

from seg_zero.errors import InputError
from seg_zero.objects import PromptObject
from seg_zero.results.result import SegmentationResult
from seg_zero.serving.service import Refused
from seg_zero.serving.uploads import Limits, read_question
from seg_zero.visualize import DIMMED
from seg_zero.web import show
from seg_zero.web.asker import Asker, Waiting
from seg_zero.web.pictures import (
    Examples,
    Updates,
    answer_picture,
    example_strip,
    path_of,
    picture_input,
    show_picture,
    strip,
    take_picture,
)
from seg_zero.web.session import (
    Item,
    Picture,
    Session,
    Turn,
    check_room,
    read_box,
    read_points,
    usable,
    write_points,
)
from seg_zero.web.style import scroll_to

log = logging.getLogger(__name__)

BOX, POINT = "sets two corners of its box", "adds a point to it"


def build_picture_tab(asker: Asker, limits: Limits, examples: Examples) -> None:
    """The tab's contents, in the current Blocks, over models shared by all users."""
    session = gr.State(Session())
    with gr.Row(elem_classes="columns"):
        with gr.Column(scale=5, min_width=320, elem_id="ask-side", elem_classes="ask-side"):
            picture = picture_input("picture")
            question = gr.Textbox(
                label="Question", placeholder="the cup that is still full", lines=1, max_lines=4, elem_id="question"
            )
            with gr.Row(elem_id="ask-row"):
                ask = gr.Button("Ask", variant="primary", elem_id="ask")
                stop = gr.Button("Stop", visible=False, elem_id="stop")
            message = gr.HTML(elem_id="message")
            history = strip(
                label="Your questions", format="jpeg", visible=False, elem_id="history", elem_classes="strip"
            )
            example = example_strip(examples, "examples")
        with gr.Column(scale=7, min_width=320, elem_id="answer-side", elem_classes="answer-side"):
            headline = gr.HTML(show.WELCOME, elem_id="headline")
            shown = answer_picture("Answer", "shown")
            with gr.Group(visible=False, elem_id="looks") as looks:
                objects = gr.CheckboxGroup(label="Objects shown", elem_id="objects")
                with gr.Row():
                    dimmed = gr.Slider(0, 1, value=DIMMED, step=0.05, label="Surroundings dimmed", elem_id="dimmed")
                    prompts = gr.Checkbox(True, label="Boxes and points", elem_id="prompts")
            reasoning = gr.HTML(elem_id="reasoning")
            look_again = gr.Button("Let the policy correct it", visible=False, elem_id="look-again")
            with gr.Accordion("Correct objects by hand", open=False, visible=False, elem_id="correct") as correct:
                selected = gr.Radio(label="Object to correct", elem_id="selected")
                click_does = gr.Radio([BOX, POINT], value=BOX, label="A click on the picture …", elem_id="click-does")
                with gr.Row(elem_id="box"):
                    box = [
                        gr.Number(label=name, precision=1, min_width=70, elem_id=f"box-{name}")
                        for name in ("x1", "y1", "x2", "y2")
                    ]
                points = gr.Textbox(label="Points", placeholder="x, y; x, y", lines=1, elem_id="points")
                with gr.Row(elem_id="correct-row"):
                    again = gr.Button("Segment again", variant="primary", min_width=120, elem_id="again")
                    remove = gr.Button("Remove object", min_width=120, elem_id="remove")
                hint = gr.HTML(elem_id="hint")
            downloads = gr.HTML(elem_id="downloads")

    answer: list[Any] = [
        headline,
        shown,
        looks,
        objects,
        reasoning,
        look_again,
        correct,
        selected,
        *box,
        points,
        hint,
        downloads,
    ]
    asked: list[Any] = [picture, question, ask, stop, message, history]

    # What the page shows ------------------------------------------------------------------------------------

    def redraw(state: Session, dimmed: float, prompts: bool) -> Any:
        return gr.update(value=show.draw(state, dimmed, prompts), visible=state.current is not None)

    def fields(state: Session) -> Updates:
        prompt = state.prompt
        corners = prompt.box or (None,) * 4
        return {points: write_points(prompt.points), **dict(zip(box, corners, strict=True))}

    def present(state: Session, dimmed: float, prompts: bool) -> Updates:
        """Everything about the current answer."""
        turn = state.current
        if turn is None:
            hidden = gr.update(visible=False)
            return {
                headline: show.WELCOME,
                shown: hidden,
                looks: hidden,
                correct: hidden,
                look_again: hidden,
                reasoning: "",
                downloads: "",
            }
        names = [(show.object_label(turn, index), index + 1) for index in range(len(turn.items))]
        on = [number for number, item in enumerate(turn.items, start=1) if item.shown]
        choices = [*((f"{number}", number - 1) for _, number in names), ("new object", len(turn.items))]
        return {
            headline: show.headline(turn),
            shown: redraw(state, dimmed, prompts),
            looks: gr.update(visible=True),
            objects: gr.update(choices=names, value=on, visible=bool(names)),
            reasoning: show.reasoning(turn),
            correct: gr.update(visible=True),
            look_again: gr.update(visible=True),
            selected: gr.update(choices=choices, value=min(state.selected, len(turn.items))),
            hint: "",
            downloads: show.downloads(turn),
            **fields(state),
        }

    def idle(line: str = "", kind: str = "error") -> Updates:
        return {ask: gr.update(visible=True), stop: gr.update(visible=False), message: show.notice(line, kind)}

    def past(state: Session) -> Any:
        return gr.update(value=show.thumbnails(state), visible=bool(state.turns), selected_index=None)

    # Pictures and questions ---------------------------------------------------------------------------------

    def take(file: dict[str, Any] | None, state: Session) -> Updates:
        return take_picture(file, state, limits, picture, message)

    def choose_example(state: Session, event: gr.SelectData) -> Updates:
        chosen, text = examples[event.index]
        return {picture: show_picture(state, chosen, picture), question: text, message: ""}

    def working(opened: Picture, text: str) -> Updates:
        """What the page shows while the policy writes."""
        hidden = gr.update(visible=False)
        return {
            **dict.fromkeys((looks, correct, look_again, ask), hidden),
            downloads: "",
            reasoning: show.writing(""),
            stop: gr.update(visible=True),
            message: "",
            headline: show.pending(text),
            shown: gr.update(value=show.plain(opened), visible=True),
        }

    def answering(
        file: dict[str, Any] | None, text: str, state: Session, dimmed: float, prompts: bool
    ) -> Iterator[Updates]:
        def events(stop: threading.Event) -> Iterator[Updates]:
            opened = state.open(path_of(file), limits)
            if opened is None:
                raise InputError("there is no picture yet; upload one or choose an example")
            read_question(text, limits)
            yield working(opened, text)
            for event in asker.ask(opened.open(limits).image, text, stop):
                if isinstance(event, SegmentationResult):
                    state.answered(Turn.of(opened, event))
                elif isinstance(event, Waiting):
                    yield {headline: show.waiting(text, event.ahead)}
                else:
                    yield {headline: show.pending(text), reasoning: show.writing(event)}

        yield from until_idle(events, state, dimmed, prompts)

    def correcting(state: Session, dimmed: float, prompts: bool) -> Iterator[Updates]:
        """One further turn of the policy on the answer that is shown."""

        def events(stop: threading.Event) -> Iterator[Updates]:
            turn = state.current
            if turn is None:
                raise InputError("there is no answer to correct; ask a question first")
            yield {**working(turn.picture, turn.question), shown: redraw(state, dimmed, prompts)}
            for event in asker.correct(turn.result(turn.picture.open(limits).image), stop):
                if isinstance(event, Waiting):
                    yield {headline: show.waiting(turn.question, event.ahead)}
                elif (problem := event.turns[-1].problem) is not None:
                    raise InputError(f"the policy's correction could not be read, and the answer stays: {problem}")
                else:
                    state.answered(Turn.of(turn.picture, event, turn.corrections + 1))

        yield from until_idle(events, state, dimmed, prompts)

    def until_idle(
        events: Callable[[threading.Event], Iterator[Updates]], state: Session, dimmed: float, prompts: bool
    ) -> Iterator[Updates]:
        """Updates while the policy works, then the answer, or why there is none."""
        state.stop, before = threading.Event(), state.current
        try:
            yield from events(state.stop)
            line = "stopped" if state.current is before else ""
            yield {**present(state, dimmed, prompts), **idle(line, "note"), history: past(state)}
        except (InputError, Refused) as error:
            yield {**present(state, dimmed, prompts), **idle(str(error))}
        except Exception:
            log.exception("a question failed")
            yield {**present(state, dimmed, prompts), **idle(show.FAILED)}
        finally:
            state.stop = None

    def choose_past(state: Session, dimmed: float, prompts: bool, event: gr.SelectData) -> Updates:
        turn = state.turns[event.index]
        state.choose(turn)
        chosen = {picture: show_picture(state, turn.picture, picture), question: turn.question, message: ""}
        return {**present(state, dimmed, prompts), **chosen}

    # Looking and correcting: no policy ----------------------------------------------------------------------

    def show_objects(numbers: list[int], state: Session, dimmed: float, prompts: bool) -> Any:
        if state.current is not None:
            state.current.show_only(numbers)
        return redraw(state, dimmed, prompts)

    def select(index: int, state: Session, dimmed: float, prompts: bool) -> Updates:
        state.select(index)
        new = state.current is not None and index == len(state.current.items)
        line = "click on the picture, or give numbers" if new else ""
        return {**fields(state), shown: redraw(state, dimmed, prompts), hint: show.notice(line, "note")}

    def correction(make: Callable[..., PromptObject | None]) -> Callable[..., Updates]:
        """A handler that segments the object that ``make`` gives in place of the selected one, or says why not."""

        def handler(state: Session, dimmed: float, prompts: bool, *rest: Any) -> Updates:
            turn = state.current
            if turn is None:
                return {}
            try:
                prompt = make(state, *rest)
                if prompt is None:
                    line = show.notice(show.first_corner(state), "note")
                    return {shown: redraw(state, dimmed, prompts), hint: line}
                prompt = usable(prompt, turn.picture.size)
                if state.selected >= len(turn.items):
                    check_room(turn)
                upload = turn.picture.open(limits)
                sx, sy = upload.scale
                found, seconds = asker.segment(upload.image, [prompt.scaled(1 / sx, 1 / sy)])
            except (InputError, Refused) as error:
                return {shown: redraw(state, dimmed, prompts), hint: show.notice(str(error))}
            except Exception:
                log.exception("a correction failed")
                return {hint: show.notice(show.FAILED)}
            turn.put(state.selected, Item.of(prompt, found.masks[0], float(found.scores[0])), seconds)
            return {**present(state, dimmed, prompts), history: past(state)}

        return handler

    def clicked(state: Session, does: str, event: gr.SelectData) -> PromptObject | None:
        assert state.current is not None
        return state.clicked(show.in_picture(event.index, state.current.picture), does == BOX)

    def take_click(state: Session, dimmed: float, prompts: bool, does: str, event: gr.SelectData) -> Updates:
        return correction(clicked)(state, dimmed, prompts, does, event)

    def given(state: Session, x1: float, y1: float, x2: float, y2: float, text: str) -> PromptObject:
        state.corner = None
        return PromptObject(read_box((x1, y1, x2, y2)), read_points(text))

    def remove_object(state: Session, dimmed: float, prompts: bool) -> Updates:
        turn = state.current
        if turn is None or state.selected >= len(turn.items):
            return {hint: show.notice("there is no object to remove; choose its number")}
        turn.remove(state.selected)
        state.select(0)
        return {**present(state, dimmed, prompts), history: past(state)}

    # Wiring -------------------------------------------------------------------------------------------------

    looking = [session, dimmed, prompts]
    quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
    fast: dict[str, Any] = {**quiet, "concurrency_limit": 8}
    picture.input(take, [picture, session], [picture, message], preprocess=False, **fast)
    example.select(choose_example, session, [picture, question, message], **fast)
    gr.on(
        [ask.click, question.submit],
        answering,
        [picture, question, *looking],
        [*answer, *asked],
        js=scroll_to("answer-side"),
        preprocess=False,
        concurrency_limit=32,
        **quiet,
    )
    look_again.click(correcting, looking, [*answer, *asked], concurrency_limit=32, **quiet)
    stop.click(Session.end, session, None, **fast)
    history.select(choose_past, looking, [*answer, *asked], **fast)
    objects.input(show_objects, [objects, *looking], shown, **fast)
    for control in (dimmed.release, prompts.input):
        gr.on(control, redraw, looking, shown, **fast)
    selected.input(select, [selected, *looking], [*answer], **fast)
    shown.select(take_click, [*looking, click_does], [*answer, history], **fast)
    gr.on([again.click, points.submit], correction(given), [*looking, *box, points], [*answer, history], **fast)
    remove.click(remove_object, looking, [*answer, history], **fast)
