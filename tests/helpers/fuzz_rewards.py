"""Feeds every reward preset with texts that no policy should write, and reports the slowest calls.

    python tests/helpers/fuzz_rewards.py --cases 200000

Texts are a corpus of nasty strings and mutations of real responses: cut, spliced, repeated up to a megabyte,
with odd numbers, tags and braces put in. No call may raise, and no value may leave its bounds.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from dataclasses import dataclass, field
from pathlib import Path

from seg_zero import rewards

SINGLE = "<box>(20,20),(60,60)</box><points>(30,30),(50,50)</points>"
MULTI = '[{"bbox_2d":[20,20,60,60],"point_2d":[40,40]},{"bbox_2d":[70,70,99,99],"point_2d":[80,80]}]'
CASES = (
    ("seg", SINGLE),
    ("seg_strict", SINGLE),
    ("vision_reasoner", MULTI),
    ("seg_zero", MULTI),
    ("seg_zero", SINGLE),
    ("seg_zero", "[]"),
)
SIZE = (112, 112)
HIGHEST = 7.0
SIZES = ("up to 10 kB", "up to 100 kB", "up to 1 MB")

_OBJECT = '{"bbox_2d":[1,2,3,4],"point_2d":[1,2]}'
NASTY = [
    "",
    "\x00",
    "\ud800",
    "<think>" * 50_000,
    "</think>" * 100_000 + "<answer></answer>",
    "<think>" + "</think> " * 100_000 + "</answer>",
    "<think></think>" + " " * 500_000 + "x</answer>",
    "<answer>" + " " * 500_000 + "x</answer>",
    "<answer>" + " x" * 300_000 + "</answer>",
    "<think>a</think>" + " " * 200_000 + "<answer>[]",
    "<think></think><answer>" * 20_000,
    "<answer>" + "[" * 100_000 + "</answer>",
    "<answer>" + "[" * 30_000 + "]" * 30_000 + "</answer>",
    "<answer>" + '{"bbox_2d":' * 3_000 + "</answer>",
    '<answer>{"a":' * 20_000 + "1" + "}" * 20_000 + "</answer>",
    "{" * 500_000,
    "{a" * 300_000,
    "{" + '"bbox' * 200_000 + "}",
    '{"bbox":' + "[" * 50_000 + "}",
    '<answer>[{"bbox_2d":[1e308,1e308,-1e308,1],"point_2d":[1,1e308]}]</answer>',
    '<answer>[{"bbox_2d":[1e309,-1e309,NaN,Infinity],"point_2d":[-Infinity,NaN]}]</answer>',
    '<answer>[{"bbox_2d":[' + "9" * 4_000 + ',1,2,3],"point_2d":[1,' + "9" * 4_000 + "]}]</answer>",
    '<answer>[{"bbox_2d":[' + "9" * 1_000_000 + ',1,2,3],"point_2d":[1,2]}]</answer>',
    '<answer>[{"bbox_2d":[5,5,5,5],"point_2d":[5,5]}]</answer>',
    '<answer>[{"bbox_2d":[60,60,20,20],"point_2d":[40,40]}]</answer>',
    '<answer>[{"bbox_2d":[0,0,-1,-1],"point_2d":[0,0]}]</answer>',
    '<answer>[{"bbox_2d":[\u0661,\u0662,\u0663,\u0664],"point_2d":[\uff11,\uff12]}]</answer>',
    '<answer>{"bbox":[1,2,3,4],"bbox":[5,6,7,8],"points_1":[1,2],"points_1":[3,4],"points_2":[1,1]}</answer>',
    '<answer>[{"bbox_2d":{"0":1},"point_2d":null}]</answer>',
    '<answer>[{"bbox_2d":[[1,2],[3,4],[5,6],[7,8]],"point_2d":[[1],[2]]}]</answer>',
    "<answer>[" + ",".join([_OBJECT] * 2_000) + "]</answer>",
    "<think>a</think><answer>[" + ",".join([_OBJECT] * 25_000) + "]</answer>",
    '<answer>[{"bbox_2d":[' + "1," * 200_000 + '1],"point_2d":[1,2]}]</answer>',
    "<answer>" + json.dumps({f"bbox{i}": [1, 2, 3, 4] for i in range(20_000)}) + "</answer>",
    "a." * 500_000,
    "".join(f"{i}." for i in range(150_000)),
    "<think>" + "the same words again " * 50_000,
]
_SNIPPETS = (
    "<think>", "</think>", "<answer>", "</answer>", "{", "}", "[", "]", ",", ":", '"', "'", "\\", "\n", "\t", "\x00",
    "NaN", "Infinity", "-Infinity", "1e309", "-1e309", "1e-400", "9" * 400, "9" * 5000, "-0", "0x1", "1_000", "\u0663",
    "\u00bd", "\ud800", "\ufeff", "null", "true", '"bbox_2d"', '"bbox"', '"point_2d"', '"points_1"', "[1,2,3,4]",
    "[20,20,60,60]", "[40,40]", "[]", "{}", "```json\n", "```", ".", "same. same. same.", "<box>", "</box>",
    "<|im_end|>",
)  # fmt: skip


@dataclass
class FuzzReport:
    """calls and texts made; processor seconds of the slowest call per preset and size class; what left its bounds."""

    texts: int = 0
    calls: int = 0
    slowest: dict[tuple[str, str], float] = field(default_factory=dict)
    out_of_bounds: list[str] = field(default_factory=list)


def seeds() -> list[str]:
    path = Path(__file__).parents[1] / "rewards" / "published_rewards.jsonl"
    return [json.loads(line)["prediction"] for line in path.read_text().splitlines()]


def mutate(text: str, others: list[str], rng: random.Random) -> str:
    """A few random edits; one text in 500 grows to as much as a megabyte."""
    for _ in range(rng.randint(1, 6)):
        at = rng.randint(0, len(text))
        end = min(len(text), at + rng.randint(0, 30))
        kind = rng.random()
        if kind < 0.35:
            text = text[:at] + rng.choice(_SNIPPETS) + text[at:]
        elif kind < 0.55:
            text = text[:at] + text[end:]
        elif kind < 0.7:
            text = text[:at] + text[at:end] * rng.randint(2, 20) + text[end:]
        elif kind < 0.8:
            other = rng.choice(others)
            text = text[:at] + other[rng.randint(0, len(other)) :]
        elif kind < 0.9:
            text = text[:at] + chr(rng.choice((rng.randrange(128), rng.randrange(0x10FFFF)))) + text[at + 1 :]
        else:
            text = text[:at] + str(rng.choice((-1, 0, 1e308, 2**63, rng.randint(-999, 999)))) + text[end:]
    if rng.random() < 0.002:
        at = rng.randint(0, len(text))
        end = min(len(text), at + rng.randint(1, 200))
        piece = text[at:end] or "x"
        text = text[:at] + piece * rng.randint(1, 1_000_000 // len(piece)) + text[end:]
    return text


def size_class(text: str) -> str:
    return SIZES[(len(text) > 10_000) + (len(text) > 100_000)]


def fuzz(cases: int, seed: int) -> FuzzReport:
    """Score ``cases`` texts with every preset. Raises what a preset raises, with the text in a note."""
    rng, report, originals = random.Random(seed), FuzzReport(), seeds()
    for preset, truth in CASES:
        rewards.compute(preset, "", truth, SIZE)  # the first call reads the preset's file
    for number in range(cases):
        text = NASTY[number] if number < len(NASTY) else mutate(rng.choice(originals), originals, rng)
        report.texts += 1
        for preset, truth in CASES:
            start = time.thread_time()  # not the wall clock, which other processes disturb
            try:
                values = rewards.compute(preset, text, truth, SIZE)
            except Exception as error:
                error.add_note(f"preset {preset}, text {text[:2000]!r}")
                raise
            seconds = time.thread_time() - start
            report.calls += 1
            key = (preset, size_class(text))
            report.slowest[key] = max(report.slowest.get(key, 0.0), seconds)
            if not all(0.0 <= value <= HIGHEST for value in values.values()):
                report.out_of_bounds.append(f"{preset}: {values} for {text[:200]!r}")
    return report


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=200_000, help="texts to make (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    start = time.perf_counter()
    report = fuzz(args.cases, args.seed)
    print(f"{report.texts} texts, {report.calls} calls, no exception, {time.perf_counter() - start:.0f} s")
    print(f"{len(report.out_of_bounds)} values out of bounds", *report.out_of_bounds[:5], sep="\n  ")
    print(f"{'slowest call, CPU ms':<20}" + "".join(f"{size:>14}" for size in SIZES))
    for preset in dict.fromkeys(preset for preset, _ in CASES):
        row = (report.slowest.get((preset, size)) for size in SIZES)
        print(f"{preset:<20}" + "".join(f"{'-' if value is None else f'{value * 1000:.1f}':>14}" for value in row))
    return 1 if report.out_of_bounds else 0


if __name__ == "__main__":
    raise SystemExit(main())
