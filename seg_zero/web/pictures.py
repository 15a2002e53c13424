"""How a tab takes a picture: the component, the strip of examples, and what happens when a picture comes."""

from __future__ import annotations

from typing import Any

import gradio as gr
from gradio.processing_utils import save_pil_to_cache
from PIL import Image

from seg_zero.data.synthetic.scenes import COLOURS, SHAPES, make_samples
from seg_zero.images import encode_png
from seg_zero.remote_sensing.data.aerial.tiles import AerialTiles
from seg_zero.serving.service import Refused
from seg_zero.serving.uploads import Limits
from seg_zero.web import show
from seg_zero.web.session import Asking, Picture

EXAMPLE_SEED, EXAMPLES, EXAMPLE_SIDE = 5, 6, 448
TILES, TILE_SIDE = 3, 256

Updates = dict[Any, Any]
Examples = list[tuple[Picture, str]]


def example_pictures(limits: Limits) -> Examples:
    """Synthetic scenes with a question of each kind: attribute, size, position, relation, several and no object."""
    found = []
    for number, sample in enumerate(make_samples(EXAMPLE_SEED, EXAMPLES, EXAMPLE_SIDE), start=1):
        picture = Picture.read(f"scene_{number}.png", encode_png(sample.scene.image), limits)
        found.append((picture, sample.question.text))
    return found


def example_labels() -> list[list[str]]:
    """For each of the same scenes: the background, what is in it, and something that is not."""
    found = []
    for sample in make_samples(EXAMPLE_SEED, EXAMPLES, EXAMPLE_SIDE):
        inside = dict.fromkeys(f"{one.colour} {one.shape}" for one in sample.scene.objects)
        absent = next(name for c in COLOURS for s in SHAPES if (name := f"{c} {s}") not in inside)
        found.append(["background", *inside, absent])
    return found


def example_tiles(limits: Limits) -> list[tuple[Picture, list[str]]]:
    """Tiles of the synthetic world, each with all labels of that world: some are absent."""
    tiles = AerialTiles("satellite", TILES, EXAMPLE_SEED, TILE_SIDE)
    found = []
    for number in range(TILES):
        data = encode_png(Image.fromarray(tiles.image(number)))
        found.append((Picture.read(f"tile_{number + 1}.png", data, limits), list(tiles.classes)))
    return found


def picture_input(elem_id: str) -> gr.Image:
    """The component that takes a picture."""
    return gr.Image(label="Picture", height=260, sources=["upload", "webcam", "clipboard"], buttons=[], elem_id=elem_id)


def answer_picture(label: str, elem_id: str) -> gr.Image:
    """The large picture that shows an answer and takes clicks; hidden until there is one."""
    return gr.Image(
        label=label,
        interactive=False,
        format="png",
        buttons=["download", "fullscreen"],
        visible=False,
        elem_id=elem_id,
        elem_classes="shown",
    )


def strip(value: Any = None, **options: Any) -> gr.Gallery:
    """Small pictures with captions, of which a click chooses one."""
    return gr.Gallery(
        value,
        columns=3,
        fit_columns=False,
        height="auto",
        object_fit="cover",
        allow_preview=False,
        interactive=False,
        buttons=[],
        **options,
    )


def example_strip(examples: Examples, elem_id: str) -> gr.Gallery:
    shown = [(one.view, text) for one, text in examples]
    return strip(shown, label="Examples", format="png", elem_id=elem_id, elem_classes=["strip", "examples"])


def path_of(file: dict[str, Any] | None) -> str | None:
    """Of what a picture component holds, unprocessed: gradio would open the file first, and what it cannot open would
    end in an error without a reason. Gradio has checked that it was uploaded to this server."""
    return None if file is None else file["path"]


def show_picture(state: Asking, chosen: Picture, picture: gr.Image) -> str:
    """The file for the picture component to show, remembered as that of the picture."""
    path = save_pil_to_cache(chosen.view, picture.GRADIO_CACHE, format="png")
    state.picture, state.path = chosen, path
    return path


def take_picture(
    file: dict[str, Any] | None, state: Asking, limits: Limits, picture: gr.Image, message: gr.HTML
) -> Updates:
    """Read a picture that was uploaded, and say what it is or why it cannot be used."""
    try:
        opened = state.open(path_of(file), limits)
    except Refused as refused:
        return {picture: None, message: show.notice(refused.line)}
    if opened is None:
        return {message: ""}
    line = show.notice(show.about_picture(opened), "note")
    return {message: line} if opened.in_browsers else {message: line, picture: show_picture(state, opened, picture)}
