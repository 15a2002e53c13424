"""Evaluations without models: rows, answers to them, and the page's summary."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace

import numpy as np
from helpers.pictures import encoded
from PIL import Image, ImageFilter

from seg_zero.answer import write_answer, write_solution_multi
from seg_zero.data.rows import Row
from seg_zero.data.synthetic.rows import sample_to_row
from seg_zero.data.synthetic.scenes import make_samples
from seg_zero.evaluation.predictions import Prediction, judge
from seg_zero.evaluation.summary import Summary, summarise
from seg_zero.masks import encode_mask
from seg_zero.objects import PromptObject
from seg_zero.policy import Reply
from seg_zero.prompting import PromptSpec, read_objects

SPEC = PromptSpec("brief", 112)
WARNING = "the embedded policy knows only synthetic shapes; give a real model"
NOTHING = write_answer("I see none", "[]")


def scenes(count: int, seed: int = 7) -> list[Row]:
    return [sample_to_row(sample, f"scene-{i}") for i, sample in enumerate(make_samples(seed, count))]


def photos(count: int, size: tuple[int, int] = (1000, 750)) -> list[Row]:
    """Rows whose pictures are as hard to compress as photos, each with a disc as its target."""
    rng = np.random.default_rng(0)
    width, height = size
    found = []
    for i in range(count):
        layers = []
        for detail in (8, 40, 200):  # as in a photo, the finer the weaker
            noise = rng.integers(0, 256, (detail * height // width, detail, 3)).astype(np.uint8)
            layers.append(np.asarray(Image.fromarray(noise).resize(size, Image.Resampling.BICUBIC), dtype=np.float32))
        image = Image.fromarray((0.6 * layers[0] + 0.28 * layers[1] + 0.12 * layers[2]).astype(np.uint8))
        image = image.filter(ImageFilter.SHARPEN)
        rows, columns = np.indices((height, width))
        x, y, radius = width * (0.3 + 0.02 * i), height * 0.5, height * 0.2
        mask = (rows - y) ** 2 + (columns - x) ** 2 < radius**2
        target = PromptObject((x - radius, y - radius, x + radius, y + radius), ((x, y),))
        found.append(
            Row(
                id=f"photo-{i}",
                problem=f"what would you take along if you had to leave in a hurry, for the {i + 1}th time",
                solution=write_solution_multi([target]),
                image_bytes=encoded(image, "JPEG", quality=90),
                img_height=height,
                img_width=width,
                mask=encode_mask(mask),
            )
        )
    return found


def true_texts(rows: Sequence[Row]) -> list[str]:
    """The right answer to each row, in the policy's pixels."""
    found = []
    for row in rows:
        side = SPEC.answer_side
        objects = [item.scaled(side / row.img_width, side / row.img_height) for item in row.objects()]
        found.append(write_answer("I see it", write_solution_multi(objects)))
    return found


def predicted(rows: Sequence[Row], texts: Sequence[str]) -> list[Prediction]:
    """The rows answered with these texts; the "segmenter" finds the true pixels inside the boxes, or else the boxes."""
    found = []
    for number, (row, text) in enumerate(zip(rows, texts, strict=True)):
        truth = row.truth()
        assert truth is not None
        answer, objects = read_objects(text, SPEC, (truth.shape[1], truth.shape[0]))
        mask = np.zeros(truth.shape, dtype=bool)
        for item in objects:
            assert item.box is not None
            x1, y1, x2, y2 = (max(0, round(value)) for value in item.box)
            inside = truth[y1:y2, x1:x2] == 1
            mask[y1:y2, x1:x2] |= inside if inside.any() else True
        reply = Reply(number, (text,), 20, False)
        found.append(judge(number, row, truth, reply, [(answer, objects)], [mask], SPEC, {}))
    return found


def summary_of(predictions: Sequence[Prediction], **settings: object) -> Summary:
    own: Mapping[str, object] = {"policy": "/models/tiny_policy", "data": "/data/held_out.parquet", "engine": None}
    summary = summarise(predictions, settings={**own, "prompt": asdict(SPEC), **settings})
    return replace(summary, warning=WARNING)
