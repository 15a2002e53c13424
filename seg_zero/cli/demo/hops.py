"""The demo's second training: from single steps of reasoning to chains, by rewards for answers alone."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from seg_zero.cli.demo.chains import draw_chains
from seg_zero.command_line import quoted
from seg_zero.data.synthetic.rows import HELD_OUT_SEED, TRAIN_SEED, write_hops
from seg_zero.errors import counted
from seg_zero.evaluation.hops import MAX_NEW_TOKENS, HopAnswers, answer_hops, held_out
from seg_zero.policy.loading import load_policy
from seg_zero.policy.model_files import HOP_START
from seg_zero.visualize.html_page import panel

TRAINED = ("1", "2")  # steps that the questions of the training take
JUDGED = ("1", "2", "3", "4")
PICTURED = "3"
DRAWN, SHOWN = 5, 3  # of these, in the picture and on the page
OF_THOUGHTS = ("think", "length")  # rewards for a thought as such, of which there are none here: only answers count


def overrides(extra: Sequence[str]) -> list[str]:
    """Of the training: the user's, then the start's policy, and no reward for thoughts.

    A reward that the user chose stays as it is: it may lack these terms.
    """
    chosen = any(word.startswith("reward=") for word in extra)
    return [
        *extra,
        f"worker.actor.model.model_path={quoted(HOP_START)}",
        f"data.max_response_length={MAX_NEW_TOKENS}",
        "trainer.experiment_name=tiny_hops_cpu",
        *([] if chosen else [f"reward.terms.{term}.weight=0" for term in OF_THOUGHTS]),
    ]


@dataclass(frozen=True)
class Chained:
    """Answers to the same held-out questions before and after training, by the number of steps that they take."""

    before: Mapping[str, HopAnswers]
    after: Mapping[str, HopAnswers]

    @property
    def questions(self) -> int:
        """Of each number of steps."""
        return len(self.before[PICTURED].texts)

    def table(self) -> str:
        """Plain text: a line for each number of steps."""
        lines = ["steps asked  right answers    steps written    all steps right"]
        for name in self.before:
            one, two = self.before[name].summary(), self.after[name].summary()
            lines.append(
                f"{name:>11}  {one.accuracy:.2f} -> {two.accuracy:.2f}     {one.hops:.2f} -> {two.hops:.2f}"
                f"     {one.complete:.2f} -> {two.complete:.2f}"
            )
        return "\n".join(lines)

    def picture(self) -> Image.Image:
        """What was written to the first questions of three steps, before (upper row) and after (lower row)."""
        return self.drawn(range(min(DRAWN, self.questions)), worded=True)

    def drawn(self, questions: Sequence[int], worded: bool) -> Image.Image:
        """The same of any questions, with or without their words."""
        both = {"before": self.before[PICTURED], "after": self.after[PICTURED]}
        texts = {name: [some[0] for some in one.texts] for name, one in both.items()}
        return draw_chains(PICTURED, texts, questions, worded)


def write_questions(data: Path, training_rows: int) -> None:
    """The rows of the training; what is there stays. The held-out file serves the trainer, not the evaluation."""
    for name, seed, count in (("train", TRAIN_SEED, training_rows), ("held_out", HELD_OUT_SEED, 16)):
        if not (data / f"{name}.parquet").is_file():
            data.mkdir(parents=True, exist_ok=True)
            write_hops(data / f"{name}.parquet", seed, count, TRAINED)


def judge(policy: Path, questions: int) -> dict[str, HopAnswers]:
    """Greedy answers to ``questions`` held-out questions of each number of steps."""
    loaded = load_policy(policy, max_new_tokens=MAX_NEW_TOKENS, batch_size=32)
    return {name: answer_hops(loaded, name, questions) for name in JUDGED}


def chains_section(chained: Chained) -> str:
    """HTML: what was trained, pictures, numbers."""
    rows = "".join(_row(name, chained.before[name], chained.after[name]) for name in chained.before)
    shown = "".join(_panel(chained, index) for index in range(min(SHOWN, chained.questions)))
    return f"""<h2>Several steps of reasoning</h2>
<p>“The nearest shape above the largest shape left of the red circle” takes two steps of reasoning. A second policy
takes one step at first, and stops there whatever is asked. GRPO trained it on questions of one and two steps, with
rewards for answers, not for steps; questions of three and four steps were not in that training.</p>
<p class="note">Three steps, before (above) and after training (below). 0 is the shape that the question names. Arrows
are the steps that were written, green as far as they are right; the frame is the answer, green if it is right.</p>
<div class="case"><div class="panels three">{shown}</div></div>
<table><tr><th>steps asked</th><th>right answers, %</th><th>steps written</th>
<th>all steps right, %</th></tr>{rows}</table>
<p class="note">Of {counted(chained.questions, "held-out question")} of each number of steps. A right answer overlaps
the true box by more than half.</p>"""


def _panel(chained: Chained, index: int) -> str:
    question = held_out(PICTURED, index)[1].text
    picture = chained.drawn([index], worded=False)
    return panel(picture, f"before and after: {question}", f"<b>“{html.escape(question)}”</b>")


def _row(name: str, before: HopAnswers, after: HopAnswers) -> str:
    one, two = before.summary(), after.summary()
    cells = (
        f"{100 * one.accuracy:.0f} → {100 * two.accuracy:.0f}",
        f"{one.hops:.1f} → {two.hops:.1f}",
        f"{100 * one.complete:.0f} → {100 * two.complete:.0f}",
    )
    kind = name if name in TRAINED else f"{name}<small>not in training</small>"
    return f"<tr><td>{kind}</td>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>"
