"""The tab for conversations: its components and their handlers. State and what is shown of it are in talk.py."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from typing import Any

import gradio as gr

from seg_zero.dialogue.memory import Round
from seg_zero.dialogue.references import write_question
from seg_zero.dialogue.session import Dialogue
from seg_zero.errors import InputError
from seg_zero.objects import PromptObject
from seg_zero.serving.open_dialogues import Dialogues
from seg_zero.serving.service import Refused
from seg_zero.serving.uploads import Limits, read_question
from seg_zero.web import show, talk
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
from seg_zero.web.style import scroll_to
from seg_zero.web.talk import Talk

log = logging.getLogger(__name__)

BUSY = "a round of this dialogue is being answered; wait for it, or stop it"


def build_talk_tab(asker: Asker, limits: Limits, examples: Examples, dialogues: Dialogues[Dialogue]) -> None:
    """The tab's contents, in the current Blocks, over models and dialogues shared by all users."""
    session = gr.State(Talk(), delete_callback=lambda state: state.forget(dialogues))
    with gr.Row(elem_classes="columns"):
        with gr.Column(scale=5, min_width=320, elem_classes="ask-side"):
            picture = picture_input("talk-picture")
            question = gr.Textbox(
                label="Next question", placeholder="the cup beside it", lines=1, max_lines=4, elem_id="talk-question"
            )
            refers = gr.HTML(elem_id="refers")
            with gr.Row():
                ask = gr.Button("Ask", variant="primary", min_width=90, elem_id="talk-ask")
                stop = gr.Button("Stop", visible=False, min_width=90, elem_id="talk-stop")
                undo = gr.Button("Undo", min_width=90, interactive=False, elem_id="undo")
                clear = gr.Button("Clear", min_width=90, interactive=False, elem_id="clear")
            message = gr.HTML(elem_id="talk-message")
            example = example_strip(examples, "talk-examples")
        with gr.Column(scale=7, min_width=320, elem_id="talk-side", elem_classes="answer-side"):
            headline = gr.HTML(talk.WELCOME, elem_id="talk-headline")
            shown = answer_picture("Click on an object to refer to it", "talk-shown")
            rounds = strip(
                label="Rounds: click on one to refer to it",
                format="jpeg",
                visible=False,
                elem_id="rounds",
                elem_classes="strip",
            )
            reasoning = gr.HTML(elem_id="talk-reasoning")
            downloads = gr.HTML(elem_id="talk-downloads")
    everything = [picture, question, refers, ask, stop, undo, clear, message]
    everything += [headline, shown, rounds, reasoning, downloads]

    # What the page shows ------------------------------------------------------------------------------------

    def held_rounds(state: Talk) -> tuple[Round, ...]:
        held = state.held(dialogues)
        return () if held is None else held.talk.rounds

    def referring(state: Talk, known: tuple[Round, ...]) -> Updates:
        """What the next question refers to, in all places that show it."""
        return {
            refers: talk.refers(state),
            shown: gr.update(value=talk.draw(state, known), visible=state.picture is not None),
            rounds: gr.update(value=talk.thumbnails(state, known), visible=bool(known), selected_index=None),
        }

    def present(state: Talk) -> Updates:
        """Everything about the dialogue as it is. Raises Refused if it has ended by itself."""
        held = state.held(dialogues)
        known = held_rounds(state)
        has_some = gr.update(interactive=bool(known))
        if held is None or state.picture is None:
            said = {headline: talk.WELCOME, reasoning: "", downloads: ""}
        else:
            said = {
                headline: talk.headline(state.picture, known),
                reasoning: talk.told(state.picture, known),
                downloads: talk.downloads(state.picture, held.talk),
            }
        return {**referring(state, known), **said, undo: has_some, clear: has_some}

    def idle(line: str = "", kind: str = "error") -> Updates:
        return {ask: gr.update(visible=True), stop: gr.update(visible=False), message: show.notice(line, kind)}

    def refusing(handler: Callable[..., Updates]) -> Callable[..., Updates]:
        """A handler that says in one line why it does nothing."""

        def guarded(state: Talk, *rest: Any) -> Updates:
            try:
                return handler(state, *rest)
            except (InputError, Refused) as error:
                return {message: show.notice(str(error))}
            except Exception:
                log.exception("a conversation failed")
                return {message: show.notice(show.FAILED)}

        return guarded

    # Pictures -----------------------------------------------------------------------------------------------

    def check_new_picture(state: Talk) -> None:
        """Raises InputError in the middle of a dialogue; one that has ended by itself is over."""
        if state.stop is not None:
            raise InputError(BUSY)
        try:
            known = held_rounds(state)
        except Refused:
            known = ()
        if known:
            assert state.picture is not None
            raise InputError(f"the dialogue is about {state.picture.name}; clear it before you change the picture")
        state.forget(dialogues)

    def take(file: dict[str, Any] | None, state: Talk) -> Updates:
        if file is not None and path_of(file) == state.path:
            return {message: ""}
        try:
            check_new_picture(state)
        except InputError as error:
            back = None if state.picture is None else show_picture(state, state.picture, picture)
            return {picture: back, message: show.notice(str(error))}
        return {**take_picture(file, state, limits, picture, message), **present(state)}

    def choose_example(state: Talk, event: gr.SelectData) -> Updates:
        check_new_picture(state)
        chosen, text = examples[event.index]
        path = show_picture(state, chosen, picture)
        return {**present(state), picture: path, question: text, message: ""}

    # Rounds -------------------------------------------------------------------------------------------------

    def answering(file: dict[str, Any] | None, text: str, state: Talk) -> Iterator[Updates]:
        if state.stop is not None:
            yield {message: show.notice(BUSY)}
            return
        state.stop = ended = threading.Event()
        line, kind, asked, before = "stopped", "note", text, len(state.small)
        try:
            yield from asking(file, text, state, ended)
            if len(state.small) > before:
                line, asked = "", ""
        except (InputError, Refused) as error:
            line, kind = str(error), "error"
        except Exception:
            log.exception("a round failed")
            line, kind = show.FAILED, "error"
        finally:
            state.stop = None
            if not state.small and state.key:  # no first round came of it
                dialogues.end(state.key)
                state.key = ""
        yield {**refusing(present)(state), **idle(line, kind), question: asked}

    def asking(file: dict[str, Any] | None, text: str, state: Talk, ended: threading.Event) -> Iterator[Updates]:
        held = state.held(dialogues)
        opened = state.picture if held is not None else state.open(path_of(file), limits)
        if opened is None:
            raise InputError("there is no picture yet; upload one or choose an example")
        read_question(text, limits)
        if held is None:
            image = opened.open(limits).image
            held = dialogues.begin(asker.dialogue(image, opened.name, dialogues.limits.rounds))
            state.key = held.id
        with dialogues.alone(held):
            dialogue = held.talk.branch()
            dialogue.check(text, state.references)
            off = gr.update(interactive=False)
            yield {
                **{undo: off, clear: off, ask: gr.update(visible=False), stop: gr.update(visible=True)},
                **{message: "", headline: show.pending(text), reasoning: "", downloads: ""},
                shown: gr.update(value=talk.draw(state, dialogue.rounds), visible=True),
            }
            for event in asker.ask_round(dialogue, text, [*state.references, *state.regions], ended):
                if isinstance(event, Waiting):
                    yield {headline: show.waiting(text, event.ahead)}
                else:
                    held.talk = dialogue
                    state.answered(opened, dialogue.rounds[-1])

    def check_idle(state: Talk) -> None:
        if state.stop is not None:
            raise InputError(BUSY)

    def take_back(state: Talk) -> Updates:
        check_idle(state)
        held = state.held(dialogues)
        if held is None:
            raise InputError("there is no round to undo; ask a question first")
        with dialogues.alone(held):
            dialogue = held.talk.branch()
            removed = dialogue.undo()
            held.talk = dialogue
        state.undone(dialogue.rounds)
        if not dialogue.rounds:
            dialogues.end(held.id)
            state.key = ""
        line = show.notice(f"round {len(dialogue.rounds) + 1} is taken back", "note")
        return {**present(state), question: write_question(removed.asked), message: line}

    def begin_anew(state: Talk) -> Updates:
        check_idle(state)
        state.forget(dialogues)
        return {**present(state), question: "", message: ""}

    # References ---------------------------------------------------------------------------------------------

    def refer_to_round(state: Talk, event: gr.SelectData) -> Updates:
        check_idle(state)
        known = held_rounds(state)
        try:
            state.toggle(event.index + 1, known)
        except InputError as error:
            return {**referring(state, known), message: show.notice(str(error))}
        return {**referring(state, known), message: ""}

    def refer_to_place(state: Talk, event: gr.SelectData) -> Updates:
        check_idle(state)
        known, opened = held_rounds(state), state.picture
        if opened is None:
            return {}
        click = show.in_picture(event.index, opened)
        if not state.toggle_at(click, known):
            upload = opened.open(limits)
            sx, sy = upload.scale
            found, _ = asker.segment(upload.image, [PromptObject(None, ((click[0] / sx, click[1] / sy),))])
            state.add_region(found.masks[0])
        return {**referring(state, known), message: ""}

    # Wiring -------------------------------------------------------------------------------------------------

    quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
    fast: dict[str, Any] = {**quiet, "concurrency_limit": 8}
    picture.input(take, [picture, session], everything, preprocess=False, **fast)
    gr.on(
        [ask.click, question.submit],
        answering,
        [picture, question, session],
        everything,
        js=scroll_to("talk-side"),
        preprocess=False,
        concurrency_limit=32,
        **quiet,
    )
    stop.click(Talk.end, session, None, **fast)

    # Gradio passes what was selected to a parameter of this type.
    def on_example(state: Talk, event: gr.SelectData) -> Updates:
        return refusing(choose_example)(state, event)

    def on_round(state: Talk, event: gr.SelectData) -> Updates:
        return refusing(refer_to_round)(state, event)

    def on_place(state: Talk, event: gr.SelectData) -> Updates:
        return refusing(refer_to_place)(state, event)

    for control, handler in ((example, on_example), (rounds, on_round), (shown, on_place)):
        control.select(handler, session, everything, **fast)
    for button, change in ((undo, take_back), (clear, begin_anew)):
        button.click(refusing(change), session, everything, **fast)
