"""Where chains break: each hop of a right chain with all that stands before it given.

    python -m benchmarks.reasoning.forced                 # the start, 100 questions of one, two, three and four hops
    python -m benchmarks.reasoning.forced FOLDER ...      # of policies trained from it

For each hop, how often colour and form of the object that it leads to are the likeliest, how likely it is that the
text then goes on as the question asks (with the hops that are left, or after the last one with the thought's end), and
how often the list of those hops is the likeliest if the text goes on.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np
import torch
from transformers import Qwen2_5_VLForConditionalGeneration, Qwen2_5_VLProcessor

from seg_zero.data.synthetic.hop_steps import write_steps
from seg_zero.data.synthetic.hops import Chain
from seg_zero.data.synthetic.scenes import Scene
from seg_zero.evaluation.hops import held_out
from seg_zero.models.hop_start.batches import HopBatchMaker
from seg_zero.models.hop_start.labels import HopLabel, HopLesson
from seg_zero.models.tiny_policy_forward import PackedForward
from seg_zero.policy.loading import quiet_transformers
from seg_zero.policy.model_files import HOP_START

SETS = ("1", "2", "3", "4")


def _lesson(scene: Scene, chain: Chain) -> HopLesson:
    text = f"<think>{write_steps(scene, chain.path, chain.relations)}</think>"
    return HopLesson(scene, (HopLabel(chain.text, text, False, chain.path),))


class Forced:
    """A policy of ``train_hop_start`` that reads chains instead of writing them."""

    def __init__(self, folder: Path) -> None:
        processor = Qwen2_5_VLProcessor.from_pretrained(folder)
        model = Qwen2_5_VLForConditionalGeneration.from_pretrained(folder, dtype=torch.float32)
        self.model, self.make_batch, self.forward = model, HopBatchMaker(processor), PackedForward(model, processor)

    @torch.inference_mode()
    def read(self, scene: Scene, chain: Chain) -> tuple[list[bool], list[float], list[float]]:
        """By hop, whether its object is named rightly, the probability of what follows the object, and whether the
        list is right; NaN after the last hop."""
        made = self.make_batch([_lesson(scene, chain)])
        last, _ = self.forward(made.batch.pixels, made.batch.segments)
        chances, targets = self.model.lm_head(last[0]).softmax(-1), made.batch.targets[0]
        words = made.batch.segments[0]
        named = (chances.argmax(-1) == targets)[made.names[0]].view(chain.hops, -1).all(dim=1)
        # An object is anchor or led to, and ends with a parenthesis; the anchor is not counted.
        ends = torch.nonzero((words == self.make_batch.closing) & (targets >= 0)).flatten()[1:]
        parts = torch.nonzero(words == self.make_batch.next).flatten()[1:]  # where a list ends
        onward = chances[ends, targets[ends]].tolist()
        chances[ends[:-1, None], torch.tensor(made.barred.ids)] = 0  # given that the text goes on
        listed = chances.argmax(-1) == targets
        lists = [float(listed[one:end].all()) for one, end in zip(ends[:-1], parts, strict=True)]
        return named.tolist(), onward, [*lists, float("nan")]


def table(policy: Forced, questions: int) -> str:
    """Markdown: a line per set and hop."""
    lines = ["| hops | hop | object right | goes on as asked | list right |", "|---|---|---|---|---|"]
    for name in SETS:
        found = [policy.read(*held_out(name, index)) for index in range(questions)]
        means = zip(*(np.mean(part, axis=0) for part in zip(*found, strict=True)), strict=True)
        lines += [
            f"| {name} | {k} | {right:.2f} | {onward:.3f} | {'' if k == int(name) else f'{listed:.2f}'} |"
            for k, (right, onward, listed) in enumerate(means, 1)
        ]
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.reasoning.forced",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "policies",
        nargs="*",
        type=Path,
        default=[HOP_START],
        metavar="FOLDER",
        help="made by train_hop_start, or from it (default: the start)",
    )
    parser.add_argument("--questions", type=int, default=100, help="of each set (default: %(default)s)")
    args = parser.parse_args(argv)
    if args.questions < 1:
        parser.error(f"--questions {args.questions}: at least one")
    quiet_transformers()
    for folder in args.policies:
        print(f"{folder}\n\n{table(Forced(folder), args.questions)}\n", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
