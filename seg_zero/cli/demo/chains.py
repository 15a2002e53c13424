"""Pictures of written chains: the steps that policies wrote to the same questions, drawn into the scenes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from textwrap import fill
from typing import Any

from PIL import Image

from seg_zero.answer import parse_answer
from seg_zero.data.synthetic.hop_steps import object_of, point_of, read_steps
from seg_zero.data.synthetic.hops import Chain
from seg_zero.data.synthetic.scenes import Scene
from seg_zero.evaluation.hops import SIDE, held_out
from seg_zero.evaluation.steps import judge_answer
from seg_zero.visualize.html_page import pyplot, rendered

RIGHT, WRONG = "#15803d", "#b91c1c"


def _draw(axis: Any, scene: Scene, chain: Chain, text: str) -> None:
    """The scene with an arrow per written hop, and the answer's box; green where right."""
    judged = judge_answer(scene, chain, text)
    axis.imshow(scene.image)
    steps = read_steps(parse_answer(text).thinking)
    for number, (here, there) in enumerate(pairwise(steps)):
        colour = RIGHT if number < judged.right_hops else WRONG
        arrow = {"arrowstyle": "-|>", "color": "white", "linewidth": 3.5, "shrinkA": 0, "shrinkB": 0}
        for style in (arrow, arrow | {"color": colour, "linewidth": 1.8}):
            axis.annotate("", (there.x, there.y), (here.x, here.y), arrowprops=style)
    for number, step in enumerate(steps):
        known = object_of(scene, step) is not None
        label = str(number) if known else f"{number}?"
        axis.text(step.x, step.y, label, ha="center", va="center", fontsize=8, color="white",
                  bbox={"boxstyle": "circle,pad=0.2", "facecolor": "#111827", "edgecolor": "none"})  # fmt: skip
    for item in parse_answer(text).objects:
        if item.box is not None:
            left, top, right, bottom = item.box
            corners = ([left, right, right, left, left], [top, top, bottom, bottom, top])
            axis.plot(*corners, color="white", linewidth=3.5)
            axis.plot(*corners, color=RIGHT if judged.right else WRONG, linewidth=1.8)
    axis.set_xlim(0, SIDE)
    axis.set_ylim(SIDE, 0)
    axis.set_xticks([])
    axis.set_yticks([])


def draw_chains(
    name: str, texts: Mapping[str, Sequence[str]], questions: Sequence[int] = range(5), worded: bool = True
) -> Image.Image:
    """Held-out questions of a set, a row for each policy; ``texts``: its answers to all of them, in their order.

    worded: with the question above, and the target's point below.
    """
    plt = pyplot()
    drawn = [held_out(name, index) for index in questions]
    size = (2.5 * len(drawn), 2.5 * len(texts) + worded)
    figure, axes = plt.subplots(len(texts), len(drawn), figsize=size, squeeze=False, dpi=110, layout="constrained")
    for row, (policy, written) in zip(axes, texts.items(), strict=True):
        row[0].set_ylabel(policy, fontsize=10)
        for axis, (scene, chain), index in zip(row, drawn, questions, strict=True):
            _draw(axis, scene, chain, written[index])
    if not worded:
        return rendered(figure)
    for axis, (_, chain) in zip(axes[0], drawn, strict=True):
        axis.set_title(fill(chain.text, 36), loc="left", fontsize=7.5)
    for axis, (scene, chain) in zip(axes[-1], drawn, strict=True):
        x, y = point_of(scene, chain.target)
        axis.set_xlabel(f"target at ({x},{y})", fontsize=7.5)
    return rendered(figure)
