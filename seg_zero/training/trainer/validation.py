"""The results of a validation during training: gIoU, cIoU, format, histograms of terms, and pictures of answers.

verl generates greedy answers to the held-out rows and scores them; the reward adapter asks SAM2 for their
masks. This module turns them into numbers by the rules of :mod:`seg_zero.metrics.reasoning`, and into pictures.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from seg_zero.answer import parse_answer
from seg_zero.data.contact_sheet import TILE, draw_row, font_for, wrapped
from seg_zero.data.rows import Row
from seg_zero.data.source import open_rows, short_name
from seg_zero.dialogue.data.records import DialogueRecord, read_dialogues
from seg_zero.metrics import MaskCounts, MaskMetrics
from seg_zero.prompting import PromptSpec
from seg_zero.training.dialogue.agent_loop import EACH_ROUND
from seg_zero.training.dialogue.prompts import round_row
from seg_zero.training.dialogue.scripts import Script
from seg_zero.training.rollout.reward import HELD_OUT_SAMPLE
from seg_zero.visualize import draw_answer

BINS = 20
_GAP, _TEXT, _LINE = 16, 420, 19


@dataclass(frozen=True)
class HeldOut:
    """One held-out answer. failed: SAM2 gave no mask; mask is COCO RLE of the stored image.

    An answer that cannot be read or segmented is in ``counts`` as not answered, and scores 0. round: of a dialogue,
    from 1; ``row`` is then the dialogue's number.
    """

    source: str
    row: int
    text: str
    failed: bool
    counts: MaskCounts
    well_formed: bool
    mask: dict[str, Any] | None
    round: int = 0

    @property
    def iou(self) -> float:
        return MaskMetrics().add_counts(self.counts)


def read_samples(texts: Sequence[str], infos: Mapping[str, Sequence[Any]]) -> list[HeldOut]:
    """The samples of one validation, in order of their rows; empty if they were not segmented."""
    samples = []
    for text, encoded in zip(texts, infos.get(HELD_OUT_SAMPLE, ()), strict=False):
        if encoded is not None:
            values = json.loads(encoded)
            counts = MaskCounts(**values.pop("counts"))
            samples.append(HeldOut(text=text, counts=counts, **values))
    return sorted(samples, key=lambda sample: (sample.source, sample.row, sample.round))


def each_round(infos: Mapping[str, Sequence[Any]]) -> dict[str, list[Any]]:
    """The results of all answers, where verl repeats those of a conversation's last round for the others.

    infos: by name, a value for each answer; ``uid`` is its name, PROMPT_SESSION_ROUND.
    """
    own = [
        json.loads(encoded)[int(key.rsplit("_", 1)[1])]
        for key, encoded in zip(infos["uid"], infos[EACH_ROUND], strict=True)
    ]
    names = dict.fromkeys(name for one in own for name in one)
    return {"uid": list(infos["uid"]), **{name: [one.get(name) for one in own] for name in names}}


def summarise(samples: Sequence[HeldOut]) -> dict[str, float]:
    """gIoU, cIoU, format and the number of rows, over all rows and for each dataset if there are several.

    By LISA's rules, as in :mod:`seg_zero.evaluation`. Of dialogues also for each round, and for those after the first.
    """
    groups: dict[str, list[HeldOut]] = {"": list(samples)}
    for sample in samples:
        groups.setdefault(f"{short_name(sample.source)}/", []).append(sample)
    if len(groups) == 2:
        groups = {"": list(samples)}
    for sample in samples:
        if sample.round:
            groups.setdefault(f"round_{sample.round}/", []).append(sample)
        if sample.round > 1:
            groups.setdefault("later_rounds/", []).append(sample)
    metrics: dict[str, float] = {}
    for name, some in groups.items():
        if not some:
            continue
        scored = MaskMetrics()
        for sample in some:
            scored.add_counts(sample.counts)
        metrics[f"validation/{name}gIoU"] = scored.giou
        metrics[f"validation/{name}cIoU"] = scored.ciou
        metrics[f"validation/{name}format"] = float(np.mean([sample.well_formed for sample in some]))
        metrics[f"validation/{name}rows"] = float(len(some))
        metrics[f"validation/{name}failures"] = float(sum(sample.failed for sample in some))
    return metrics


def histogram(values: Sequence[float]) -> dict[str, Any]:
    """Counts over equal bins between the least and the greatest value; at least 0..1 is covered."""
    counts, edges = np.histogram(values, bins=BINS, range=(min(0.0, *values), max(1.0, *values)))
    return {"mean": float(np.mean(values)), "counts": counts.tolist(), "edges": [round(float(e), 6) for e in edges]}


def term_values(infos: Mapping[str, Sequence[Any]]) -> dict[str, list[float]]:
    """The numbers of every reward term, as verl collected them; "reward" repeats "score"."""
    found = {name: [v for v in values if isinstance(v, int | float)] for name, values in infos.items()}
    return {name: list(map(float, values)) for name, values in found.items() if values and name != "reward"}


def draw_samples(samples: Sequence[HeldOut], spec: PromptSpec) -> Image.Image:
    """A sheet with a band for each sample: truth, answer, question and reasoning."""
    bands = [_band(sample, spec) for sample in samples]
    width = max(band.width for band in bands)
    sheet = Image.new("RGB", (width, sum(band.height for band in bands)), "white")
    top = 0
    for band in bands:
        sheet.paste(band, (0, top))
        top += band.height
    return sheet


@lru_cache(maxsize=2)
def _dialogues(path: str) -> list[DialogueRecord]:
    return read_dialogues(Path(path)).dialogues


def _row_of(sample: HeldOut) -> Row:
    if not sample.round:
        return open_rows(sample.source)[sample.row]
    dialogue = _dialogues(sample.source)[sample.row]
    return round_row(Script(sample.source, sample.row, dialogue), sample.round)


def _band(sample: HeldOut, spec: PromptSpec) -> Image.Image:
    row = _row_of(sample)
    truth = draw_row(row)
    answer = parse_answer(sample.text)
    pictures = [truth, draw_answer(row.image(), truth.size, answer, sample.mask, spec)]
    where = f"dialogue {sample.row}, round {sample.round}" if sample.round else f"row {sample.row}"
    verdict = "no mask" if sample.failed else f"IoU {sample.iou:.2f}"
    if answer.problem is not None:
        verdict += f", unreadable: {answer.problem}"
    thinking = sample.text if answer.problem is not None else answer.thinking or sample.text
    font = font_for(row.problem + thinking, 15)
    lines = [
        *((line, (30, 30, 30)) for line in wrapped(row.problem, font, 3, _TEXT)),
        *((line, (110, 110, 110)) for line in wrapped(thinking, font, 9, _TEXT)),
        *((line, (20, 90, 160)) for line in wrapped(verdict, font, 3, _TEXT)),
    ]
    height = max(*(picture.height for picture in pictures), _LINE * (len(lines) + 1)) + _GAP + _LINE
    band = Image.new("RGB", (2 * (TILE + _GAP) + _TEXT + 2 * _GAP, height), "white")
    draw = ImageDraw.Draw(band)
    small = ImageFont.load_default(12)
    for place, (picture, title) in enumerate(zip(pictures, ("truth", "answer"), strict=True)):
        x = _GAP + place * (TILE + _GAP)
        draw.text((x, 2), f"{title} · {where}", (125, 125, 125), small)
        band.paste(picture, (x, _LINE))
    for number, (text, colour) in enumerate(lines):
        draw.text((_GAP + 2 * (TILE + _GAP), _LINE + _LINE * number), text, colour, font)
    return band
