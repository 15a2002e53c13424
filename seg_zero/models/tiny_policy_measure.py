"""Held-out numbers of a tiny policy: format, box IoU and how often it answers in the careful manner.

python -m seg_zero.models.tiny_policy_measure FOLDER
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from scipy.optimize import linear_sum_assignment
from transformers import Qwen2_5_VLForConditionalGeneration, Qwen2_5_VLProcessor

from seg_zero.answer import parse_answer
from seg_zero.data.synthetic.scenes import KINDS, Sample, make_samples
from seg_zero.models.tiny_policy_data import CAREFUL_OPENING, is_careful
from seg_zero.models.tiny_policy_model import SPEC
from seg_zero.objects import Box, PromptObject
from seg_zero.prompting import build_messages

HELD_OUT_SEED = 20_000  # training seeds stay below
MAX_NEW_TOKENS = 112


@dataclass(frozen=True)
class Measurement:
    """One line of the table; shares and mean box IoUs in 0..1."""

    name: str
    items: int
    valid: float
    box_iou: float
    iou_over_half: float
    careful: float
    best: float

    def __str__(self) -> str:
        return (
            f"{self.name:<22} {self.items:>5} {self.valid:>7.3f} {self.box_iou:>8.3f} {self.iou_over_half:>8.3f} "
            f"{self.careful:>8.3f} {self.best:>8.3f}"
        )


HEADER = f"{'':<22} {'items':>5} {'format':>7} {'box IoU':>8} {'IoU>0.5':>8} {'careful':>8} {'best':>8}"


def _iou(a: Box, b: Box) -> float:
    """IoU of two boxes of inclusive pixel corners."""
    width = min(a[2], b[2]) - max(a[0], b[0]) + 1
    height = min(a[3], b[3]) - max(a[1], b[1]) + 1
    if width <= 0 or height <= 0:
        return 0.0
    area_a, area_b = ((x[2] - x[0] + 1) * (x[3] - x[1] + 1) for x in (a, b))
    return width * height / max(area_a + area_b - width * height, 1e-6)


def box_iou(found: Sequence[PromptObject], wanted: Sequence[PromptObject]) -> float:
    """Summed IoU of the best one-to-one match over the larger count; 1 if both are empty."""
    if not found or not wanted:
        return float(len(found) == len(wanted))
    table = np.array([[_iou(f.box, w.box) if f.box and w.box else 0.0 for w in wanted] for f in found])
    rows, columns = linear_sum_assignment(-table)
    return float(table[rows, columns].sum()) / max(len(found), len(wanted))


def respond(
    model: Qwen2_5_VLForConditionalGeneration,
    processor: Qwen2_5_VLProcessor,
    samples: Sequence[Sample],
    draws: int = 0,
    opening: str = "",
) -> list[list[str]]:
    """Responses to each sample: one greedy one, or ``draws`` at temperature 1; ``opening`` is put first."""
    how: dict[str, Any] = {"do_sample": False}
    if draws:
        how = {"do_sample": True, "temperature": 1.0, "top_k": 0, "num_return_sequences": draws}
    return continued(model, processor, [(s.scene.image, s.question.text, "") for s in samples], how, opening)


def continued(
    model: Qwen2_5_VLForConditionalGeneration,
    processor: Qwen2_5_VLProcessor,
    prompts: Sequence[tuple[Image.Image, str, str]],
    how: dict[str, Any],
    opening: str = "",
    batch: int = 48,
) -> list[list[str]]:
    """Responses to each prompt (image, question, context of a dialogue), as ``how`` says; ``opening`` is put first."""
    responses: list[list[str]] = []
    generator: Any = model
    each = how.get("num_return_sequences", 1)
    for start in range(0, len(prompts), batch):
        part = prompts[start : start + batch]
        texts = [
            processor.apply_chat_template(
                build_messages(question, SPEC, context=context), add_generation_prompt=True, tokenize=False
            )
            + opening
            for _, question, context in part
        ]
        images = [image for image, _, _ in part]
        inputs = processor(text=texts, images=images, return_tensors="pt", padding=True, padding_side="left")
        with torch.no_grad():
            ids = generator.generate(**inputs, max_new_tokens=MAX_NEW_TOKENS, **how)
        new = processor.tokenizer.batch_decode(ids[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
        responses.extend([opening + text for text in new[i * each : (i + 1) * each]] for i in range(len(part)))
    return responses


def measure(name: str, samples: Sequence[Sample], responses: Sequence[Sequence[str]]) -> Measurement:
    """Means over samples and responses; ``best`` is the mean of each sample's best box IoU."""
    valid: list[bool] = []
    careful: list[bool] = []
    ious: list[list[float]] = []
    for sample, texts in zip(samples, responses, strict=True):
        truth = [sample.scene.objects[i].prompt for i in sample.question.targets]
        answers = [parse_answer(text) for text in texts]
        valid.extend(answer.problem is None for answer in answers)
        careful.extend(is_careful(text) for text in texts)
        ious.append([0.0 if a.problem else box_iou(a.objects, truth) for a in answers])
    table = np.array(ious)
    return Measurement(
        name,
        len(samples),
        float(np.mean(valid)),
        float(table.mean()),
        float((table > 0.5).mean()),
        float(np.mean(careful)),
        float(table.max(axis=1).mean()),
    )


def measure_all(
    model: Qwen2_5_VLForConditionalGeneration, processor: Qwen2_5_VLProcessor, per_kind: int = 50
) -> list[Measurement]:
    """Greedy (all and per kind), greedy after a careful opening, and eight draws per question."""
    samples = list(make_samples(HELD_OUT_SEED, per_kind * len(KINDS)))
    lines = []
    for name, opening in (("greedy", ""), ("greedy, careful", f"<think>{CAREFUL_OPENING}")):
        responses = respond(model, processor, samples, opening=opening)
        lines.append(measure(name, samples, responses))
        for kind in KINDS:
            rows = [i for i, s in enumerate(samples) if s.question.kind == kind]
            lines.append(measure(f"  {kind}", [samples[i] for i in rows], [responses[i] for i in rows]))
    torch.manual_seed(0)
    lines.append(measure("8 draws, T = 1", samples, respond(model, processor, samples, draws=8)))
    return lines


def print_measurements(folder: Path) -> None:
    """The table of the policy in ``folder``, computed in float32."""
    model = Qwen2_5_VLForConditionalGeneration.from_pretrained(folder, dtype=torch.float32).eval()
    print(HEADER)
    for line in measure_all(model, Qwen2_5_VLProcessor.from_pretrained(folder)):
        print(line, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("policy", type=Path, help="folder of a policy")
    print_measurements(parser.parse_args().policy)


if __name__ == "__main__":
    main()
