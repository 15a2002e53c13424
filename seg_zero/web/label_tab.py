"""The tab for labels: its components and their handlers. State and what is shown of it are in labels.py."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import gradio as gr

from seg_zero.errors import InputError
from seg_zero.open_vocabulary.settings import Settings
from seg_zero.serving.service import Refused
from seg_zero.serving.uploads import Limits
from seg_zero.web import labels, show
from seg_zero.web.asker import Waiting
from seg_zero.web.labels import AERIAL, RADIO, AerialSettings, Asked, Labelled, Labeller, Labelling
from seg_zero.web.pictures import (
    Examples,
    Updates,
    answer_picture,
    example_labels,
    example_strip,
    example_tiles,
    path_of,
    picture_input,
    show_picture,
    strip,
    take_picture,
)
from seg_zero.web.session import Picture
from seg_zero.web.style import scroll_to

log = logging.getLogger(__name__)

STRENGTH = 0.6  # of the colours over the picture
HOW_TO_WRITE = {
    RADIO: "Enter ends a label; commas separate synonyms, as in cat, kitten; semicolons separate labels",
    AERIAL: "Enter ends a label; of synonyms, as in road, street, the first counts; semicolons separate labels",
}


def build_label_tab(labeller: Labeller | str, limits: Limits, examples: Examples) -> None:
    """The tab's contents, in the current Blocks, over models shared by all users; a line says why there are none."""
    if isinstance(labeller, str):
        gr.HTML(show.notice(labeller, "note"))
        return
    models, (crop, stride), method = list(labeller.names), labeller.windows, Settings()
    first, offered = models[0], list[tuple[Picture, list[str]]]()
    if RADIO in models:
        offered += [(one, words) for (one, _), words in zip(examples, example_labels(), strict=True)]
    if AERIAL in models:
        offered += example_tiles(limits)
    session = gr.State(Labelling())
    with gr.Row(elem_classes="columns"):
        with gr.Column(scale=5, min_width=320, elem_classes="ask-side"):
            model = gr.Radio(models, value=first, label="Model", visible=len(models) > 1, elem_id="label-model")
            picture = picture_input("label-picture")
            chips = gr.Dropdown(
                multiselect=True,
                allow_custom_value=True,
                label="Labels",
                info=HOW_TO_WRITE[first],
                elem_id="chips",
            )
            go = gr.Button("Label", variant="primary", elem_id="go")
            message = gr.HTML(elem_id="label-message")
            with gr.Accordion("Settings", open=False, elem_id="label-settings"):
                refine = gr.Checkbox(False, label="Redraw edges by SAM2", elem_id="label-refine")
                denoising = gr.Slider(
                    0, 1, method.denoising, step=0.01, label="Absent: labels whose highest probability is below"
                )
                threshold = gr.Slider(0, 1, method.threshold, step=0.01, label="No label: pixels below")
                scra = gr.Slider(0, 20, method.scra_scaling, step=1, label="SCRA scaling (0: ordinary attention)")
                scga = gr.Slider(0, 20, method.scga_scaling, step=1, label="SCGA scaling (0: no aggregation)")
                sliding = gr.Checkbox(True, label="Sliding windows", elem_id="sliding")
                window = gr.Slider(64, 1024, crop, step=16, label="Window, in pixels")
                step = gr.Slider(16, 1024, stride, step=16, label="Pixels from window to window")
                unsure = gr.Slider(0, 1, 0, step=0.01, label="No label: pixels below", elem_id="unsure")
                parts = gr.Checkbox(False, label="Also in four windows (slower, finer)", elem_id="label-parts")
            example = example_strip([(one, "; ".join(words)) for one, words in offered], "label-examples")
        with gr.Column(scale=7, min_width=320, elem_id="label-side", elem_classes="answer-side"):
            headline = gr.HTML(labels.WELCOME, elem_id="label-headline")
            shown = answer_picture("Click to see what is there", "label-shown")
            hint = gr.HTML(elem_id="label-hint")
            legend = gr.HTML(elem_id="legend")
            strength = gr.Slider(
                0, 1, STRENGTH, step=0.05, label="Strength of the colours", visible=False, elem_id="strength"
            )
            heats = strip(
                label="Heat maps: click on one to see it large",
                format="jpeg",
                visible=False,
                elem_id="heats",
                elem_classes="strip",
            )
            downloads = gr.HTML(elem_id="label-downloads")
    radio_controls = [refine, denoising, threshold, scra, scga, sliding, window, step]
    aerial_controls = [unsure, parts]
    for control in aerial_controls if first == RADIO else radio_controls:
        control.visible = False
    answer: list[Any] = [headline, shown, hint, heats, strength, legend, downloads]

    # What the page shows ------------------------------------------------------------------------------------

    def redraw(state: Labelling, colours: float) -> Any:
        return gr.update(value=labels.draw(state, colours), visible=state.answer is not None)

    def present(state: Labelling, colours: float) -> Updates:
        """Everything about the current answer."""
        found = state.answer
        if found is None:
            hidden = gr.update(visible=False)
            return {
                **{headline: labels.WELCOME, hint: "", legend: "", downloads: ""},
                **{shown: hidden, heats: hidden, strength: hidden},
            }
        return {
            headline: labels.headline(found),
            shown: redraw(state, colours),
            hint: "",
            heats: gr.update(value=labels.thumbnails(found), visible=True, selected_index=state.shown),
            strength: gr.update(visible=True),
            legend: labels.legend(found),
            downloads: found.files,
        }

    # Pictures and labels ------------------------------------------------------------------------------------

    def take(file: dict[str, Any] | None, state: Labelling) -> Updates:
        return take_picture(file, state, limits, picture, message)

    def choose_example(state: Labelling, event: gr.SelectData) -> Updates:
        chosen, words = offered[event.index]
        return {
            **{picture: show_picture(state, chosen, picture), message: ""},
            chips: gr.update(value=words, choices=words),
        }

    def choose_model(chosen: str) -> Updates:
        """The settings of that model, and how it takes synonyms."""
        return {
            chips: gr.update(info=HOW_TO_WRITE[chosen]),
            **{control: gr.update(visible=chosen == RADIO) for control in radio_controls},
            **{control: gr.update(visible=chosen == AERIAL) for control in aerial_controls},
        }

    def tidy(given: list[str] | None) -> Any:
        found = labels.chips(given or ())
        return gr.skip() if found == (given or []) else gr.update(value=found, choices=found)

    def radio_settings(
        lowest: float, sure: float, attention: float, aggregation: float, slides: bool, side: int, between: int
    ) -> Settings:
        return Settings(
            scra_scaling=attention or None,
            scga_scaling=aggregation or None,
            crop=int(side) if slides else 0,
            stride=min(int(between), int(side)),
            denoising=lowest,
            threshold=sure,
        )

    def asked_of(given: list[str] | None, chosen: str, controls: tuple[Any, ...]) -> Asked:
        """controls: the values of those for RADIO, then of those for aerial tiles."""
        wanted = labels.read_chips(given or ())
        radio, aerial = controls[: len(radio_controls)], controls[len(radio_controls) :]
        if chosen == AERIAL:
            return Asked(wanted, AerialSettings(threshold=aerial[0], sliding=aerial[1]))
        return Asked(wanted, radio_settings(*radio[1:]), refine=radio[0])

    def labelling(
        file: dict[str, Any] | None, given: list[str], state: Labelling, colours: float, chosen: str, *controls: Any
    ) -> Iterator[Updates]:
        try:
            opened = state.open(path_of(file), limits)
            if opened is None:
                raise InputError("there is no picture yet; upload one or choose an example")
            asked = asked_of(given, chosen, controls)
            off = gr.update(interactive=False)
            yield {go: off, message: "", headline: labels.waiting(0)}
            for event in labeller.label(opened.open(limits).image, asked):
                if isinstance(event, Waiting):
                    yield {headline: labels.waiting(event.ahead)}
                else:
                    state.answered(Labelled.of(opened, *event, asked, labeller))
            yield {**present(state, colours), go: gr.update(interactive=True)}
        except (InputError, Refused) as error:
            yield {**present(state, colours), go: gr.update(interactive=True), message: show.notice(str(error))}
        except Exception:
            log.exception("labelling failed")
            yield {**present(state, colours), go: gr.update(interactive=True), message: show.notice(show.FAILED)}

    # Looking: no model --------------------------------------------------------------------------------------

    def choose_heat(state: Labelling, colours: float, event: gr.SelectData) -> Updates:
        state.shown = event.index
        return {shown: redraw(state, colours), hint: ""}

    def name_place(state: Labelling, event: gr.SelectData) -> str:
        return "" if state.answer is None else show.notice(labels.at_place(state.answer, event.index), "note")

    # Wiring -------------------------------------------------------------------------------------------------

    quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
    fast: dict[str, Any] = {**quiet, "concurrency_limit": 8}
    picture.input(take, [picture, session], [picture, message], preprocess=False, **fast)
    example.select(choose_example, session, [picture, chips, message], **fast)
    chips.change(tidy, chips, chips, **fast)  # Enter is a change, and no input
    model.change(choose_model, model, [chips, *radio_controls, *aerial_controls], **fast)
    go.click(
        labelling,
        [picture, chips, session, strength, model, *radio_controls, *aerial_controls],
        [*answer, go, message],
        js=scroll_to("label-side"),
        preprocess=False,
        concurrency_limit=32,
        **quiet,
    )
    heats.select(choose_heat, [session, strength], [shown, hint], **fast)
    shown.select(name_place, session, hint, **fast)
    strength.release(redraw, [session, strength], shown, **fast)
