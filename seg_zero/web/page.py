"""The page: a header and a tab for each kind of question."""

from __future__ import annotations

from typing import Any

import gradio as gr

from seg_zero.serving.open_dialogues import DialogueLimits, Dialogues
from seg_zero.serving.uploads import Limits
from seg_zero.web.asker import Asker
from seg_zero.web.clips import ClipAsker
from seg_zero.web.label_tab import build_label_tab
from seg_zero.web.labels import Labeller
from seg_zero.web.picture_tab import build_picture_tab
from seg_zero.web.pictures import example_pictures
from seg_zero.web.style import CSS, HEAD
from seg_zero.web.talk_tab import build_talk_tab
from seg_zero.web.video_tab import build_video_tab

FILES_KEPT = 4 * 3600  # seconds; those of uploads and shown pictures


def build(asker: Asker, clips: ClipAsker, labeller: Labeller | str, limits: Limits, about: str) -> gr.Blocks:
    """The page over models shared by all its users. ``about``: one line that names them.

    labeller: or one line that says why there is none.
    """
    examples = example_pictures(limits)
    with gr.Blocks(title="Seg-Zero", analytics_enabled=False, delete_cache=(600, FILES_KEPT)) as page:
        gr.HTML(
            "<h1>Seg-Zero</h1><p>Ask for something in a picture or a clip, once or in a conversation. A policy reasons "
            "about it and names objects; SAM2 outlines them. Or label every pixel by text.</p>"
            f"<p class='about'>{about}</p>",
            elem_id="header",
        )
        with gr.Tabs(elem_id="kinds", overflow_behavior="wrap"):  # a menu would hide tabs on a phone
            with gr.Tab("Picture"):
                build_picture_tab(asker, limits, examples)
            with gr.Tab("Conversation"):
                build_talk_tab(asker, limits, examples, Dialogues(DialogueLimits()))
            with gr.Tab("Video"):
                build_video_tab(clips, limits)
            with gr.Tab("Labels"):
                build_label_tab(labeller, limits, examples)
    return page


def launch_options(largest: int) -> dict[str, Any]:
    """Arguments of gr.Blocks.launch besides the address: nothing is fetched from elsewhere, and no API is offered.

    largest: bytes of an uploaded file; each kind has its own limit besides.
    """
    # Gradio's softer texts have less contrast than 4.5 to 1.
    contrast = {
        "body_text_color_subdued": "*neutral_600",
        "body_text_color_subdued_dark": "*neutral_300",
        "block_label_text_color": "*neutral_600",
        "block_title_text_color": "*neutral_600",
        "input_placeholder_color": "*neutral_500",
        "input_placeholder_color_dark": "*neutral_400",
        "button_primary_background_fill": "*primary_600",
        "button_primary_background_fill_hover": "*primary_700",
    }
    font = ["system-ui", "-apple-system", "Segoe UI", "Roboto", "sans-serif"]
    mono = ["ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "monospace"]
    return {
        "theme": gr.themes.Base(primary_hue="indigo", neutral_hue="slate", font=font, font_mono=mono).set(**contrast),
        "css": CSS,
        "head": HEAD,
        "footer_links": [],
        "run_history": False,
        "enable_monitoring": False,
        "ssr_mode": False,
        "pwa": False,
        "mcp_server": False,
        "max_file_size": largest,
        "quiet": True,
        "prevent_thread_lock": True,
        "state_session_capacity": 1000,
    }
