"""Held-out numbers of a policy's rounds: box IoU by relation, greedy and after a careful opening.

python -m seg_zero.models.rounds.measure FOLDER --dialogues 60
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from transformers import Qwen2_5_VLForConditionalGeneration, Qwen2_5_VLProcessor

from seg_zero.answer import parse_answer
from seg_zero.dialogue.memory import Instance
from seg_zero.dialogue.renderers import renderer_for
from seg_zero.masks import mask_to_prompt_object
from seg_zero.models.rounds.labels import Dialogue, draw_dialogue
from seg_zero.models.tiny_policy_data import CAREFUL_OPENING, is_careful
from seg_zero.models.tiny_policy_measure import HELD_OUT_SEED, box_iou, continued
from seg_zero.models.tiny_policy_model import SPEC
from seg_zero.objects import PromptObject
from seg_zero.policy.loading import quiet_transformers

FIRST = "first round"


@dataclass(frozen=True)
class Asked:
    """A round with its true history. context, question: the prompt; relation: of the target to what is referred to."""

    image: Image.Image
    context: str
    question: str
    relation: str
    truth: PromptObject


def asked_in(dialogue: Dialogue) -> list[Asked]:
    """The rounds of a dialogue; what the earlier ones found is what they asked for."""
    found: list[Asked] = []
    history: list[Instance] = []
    for number, (one, target) in enumerate(zip(dialogue.rounds, dialogue.targets, strict=True), start=1):
        mask = dialogue.things[target].mask
        context = renderer_for("text", "all").render(dialogue.image, history, one.asked, SPEC).context
        relation = str((one.rule or {}).get("relation") or "by its words")
        name = FIRST if number == 1 else relation
        found.append(Asked(dialogue.image, context, one.asked.question, name, mask_to_prompt_object(mask)))
        history.append(Instance.of_mask(number, one.asked.question, mask))
    return found


def measure(
    model: Qwen2_5_VLForConditionalGeneration, processor: Qwen2_5_VLProcessor, rounds: Sequence[Asked], opening: str
) -> tuple[dict[str, list[float]], float]:
    """Box IoUs of greedy answers by relation, and the fraction of careful answers; ``opening`` is put first."""
    texts = continued(
        model, processor, [(one.image, one.question, one.context) for one in rounds], {"do_sample": False}, opening
    )
    ious: dict[str, list[float]] = defaultdict(list)
    for one, (text,) in zip(rounds, texts, strict=True):
        answer = parse_answer(text)
        ious[one.relation].append(0.0 if answer.problem else box_iou(answer.objects, [one.truth]))
    return dict(ious), float(np.mean([is_careful(text) for (text,) in texts]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("policy", type=Path, help="folder of a policy")
    parser.add_argument("--dialogues", type=int, default=60, help="(default: %(default)s)")
    arguments = parser.parse_args()
    quiet_transformers()
    model = Qwen2_5_VLForConditionalGeneration.from_pretrained(arguments.policy, dtype=torch.float32).eval()
    processor = Qwen2_5_VLProcessor.from_pretrained(arguments.policy)
    dialogues = [draw_dialogue(np.random.default_rng((HELD_OUT_SEED, i))) for i in range(arguments.dialogues)]
    rounds = [one for dialogue in dialogues for one in asked_in(dialogue)]
    greedy, share = measure(model, processor, rounds, "")
    careful, _ = measure(model, processor, rounds, f"<think>{CAREFUL_OPENING}")
    print("| | rounds | greedy | after the careful opening |\n|---|---|---|---|")
    later = [name for name in sorted(greedy) if name != FIRST]
    for label, names in ((FIRST, [FIRST]), ("later rounds", later), *((f"- {name}", [name]) for name in later)):
        one, two = ([iou for name in names for iou in table[name]] for table in (greedy, careful))
        print(f"| {label} | {len(one)} | {np.mean(one):.3f} | {np.mean(two):.3f} |")
    print(f"\n{share:.2f} of the greedy answers are careful")


if __name__ == "__main__":
    main()
