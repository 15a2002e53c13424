"""How long the default reward takes for batches of 128 samples, against a loop over pairs.

    python benchmarks/reward_terms.py

The peer computes the same terms the plain way: loops over every pair for IoU, L1 and point distance, then the
same assignment solver. Both must agree before a time counts. Times are per sample, best of several rounds.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from scipy.optimize import linear_sum_assignment

if sys.path[0] == str(Path(__file__).parent):
    del sys.path[0]  # this file would hide the package of its name

from seg_zero import rewards
from seg_zero.rewards import text

SIDE = 840
QUESTIONS, SAMPLES = 16, 128


def _coordinates(objects: int, rng: random.Random) -> list[tuple[list[int], list[int]]]:
    found = []
    for _ in range(objects):
        x, y = rng.randrange(700), rng.randrange(700)
        box = [x, y, x + rng.randrange(20, 140), y + rng.randrange(20, 140)]
        found.append((box, [(box[0] + box[2]) // 2, (box[1] + box[3]) // 2]))
    return found


def _moved(values: list[int], rng: random.Random) -> list[int]:
    return [value + rng.randrange(-12, 13) for value in values]


def make_batch(objects: int, rng: random.Random) -> list[tuple[str, str]]:
    """(prediction, ground truth) of each sample; predictions are off by a few pixels and out of order."""
    batch = []
    thinking = "The objects are compared by colour and place. These fit best."
    for _ in range(QUESTIONS):
        truth = _coordinates(objects, rng)
        solution = json.dumps([{"bbox_2d": box, "point_2d": point} for box, point in truth])
        for _ in range(SAMPLES // QUESTIONS):
            answer = [{"bbox_2d": _moved(box, rng), "point_2d": _moved(point, rng)} for box, point in truth]
            rng.shuffle(answer)
            batch.append((f"<think>{thinking}</think><answer>{json.dumps(answer)}</answer>", solution))
    return batch


def ours(prediction: str, truth: str) -> dict[str, float]:
    return rewards.compute("seg_zero", prediction, truth, (SIDE, SIDE))


def _iou(a: list[float], b: list[float]) -> float:
    x1, y1, x2, y2 = max(a[0], b[0]), max(a[1], b[1]), min(a[2], b[2]), min(a[3], b[3])
    inter = max(x2 - x1 + 1, 0) * max(y2 - y1 + 1, 0)  # both corner pixels belong to a box
    return inter / ((a[2] - a[0] + 1) * (a[3] - a[1] + 1) + (b[2] - b[0] + 1) * (b[3] - b[1] + 1) - inter)


def _l1(a: list[float], b: list[float]) -> float:
    return sum(abs(p - q) for p, q in zip(a, b, strict=True)) / 4


def _side(box: list[float]) -> float:
    return max(min(box[2] - box[0], box[3] - box[1]), 1)


def _area(box: list[float]) -> float:
    return (box[2] - box[0] + 1) * (box[3] - box[1] + 1)


def _holds(box: list[float], point: list[float], slack: float = 0) -> bool:
    x, y = point
    return box[0] - slack <= x <= box[2] + slack and box[1] - slack <= y <= box[3] + slack


def _near(box: list[float], point: list[float], true_box: list[float], true_point: list[float]) -> bool:
    near = math.dist(point, true_point) < min(100, 0.25 * _side(true_box))
    return near and _holds(box, point) and _holds(true_box, point, slack=1)


def naive(prediction: str, truth_text: str) -> dict[str, float]:
    """The same eight terms: each criterion a function of one pair, called in a loop over all pairs."""
    response = rewards.Response(prediction, truth_text, (SIDE, SIDE))
    objects = json.loads(prediction.split("<answer>")[1].split("</answer>")[0])
    truth = json.loads(truth_text)
    iou = [[_iou(o["bbox_2d"], t["bbox_2d"]) for t in truth] for o in objects]
    l1 = [[_l1(o["bbox_2d"], t["bbox_2d"]) for t in truth] for o in objects]
    near = [[_near(o["bbox_2d"], o["point_2d"], t["bbox_2d"], t["point_2d"]) for t in truth] for o in objects]
    tight = [[l1[i][j] < min(10, 0.1 * _side(t["bbox_2d"])) for j, t in enumerate(truth)] for i in range(len(objects))]
    small = [[_area(o["bbox_2d"]) <= 3 * _area(t["bbox_2d"]) for t in truth] for o in objects]
    worth = [[iou[i][j] + tight[i][j] + near[i][j] for j in range(len(truth))] for i in range(len(objects))]
    pairs = list(zip(*linear_sum_assignment(np.array(worth), maximize=True), strict=True))
    wanted = max(len(objects), len(truth))
    complete = sum(len(o["bbox_2d"]) == 4 and len(o["point_2d"]) == 2 for o in objects)
    return {
        "think": text.think(response),
        "format": complete / len(objects),
        "non_repeat": text.non_repeat(response),
        "length": text.length(response, floor=2, budget=400, margin=400),
        "iou": sum(iou[i][j] > 0.5 for i, j in pairs) / wanted,
        "iou_soft": sum(iou[i][j] * small[i][j] for i, j in pairs) / wanted,
        "box_l1": sum(tight[i][j] for i, j in pairs) / wanted,
        "point": sum(near[i][j] for i, j in pairs) / wanted,
    }


def seconds_per_sample(score: Callable[[str, str], object], batch: list[tuple[str, str]]) -> float:
    start = time.perf_counter()
    for prediction, truth in batch:
        score(prediction, truth)
    return (time.perf_counter() - start) / len(batch)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--objects", type=int, nargs="+", default=[1, 8, 30, 120])
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    rng = random.Random(0)
    print(f"{SAMPLES} samples (16 questions x 8), microseconds per sample")
    print(f"{'objects':>8}{'ours':>10}{'pair loop':>12}{'ratio':>8}")
    for count in args.objects:
        batch = make_batch(count, rng)
        for prediction, truth in batch[:16]:
            got, wanted = ours(prediction, truth), naive(prediction, truth)
            assert all(math.isclose(got[name], wanted[name], abs_tol=1e-9) for name in wanted), (got, wanted)
        mine = peer = math.inf
        for _ in range(args.repeats):  # in turn, so that another load on the machine slows both
            mine = min(mine, *(seconds_per_sample(ours, batch) for _ in range(4)))
            peer = min(peer, seconds_per_sample(naive, batch))
        print(f"{count:>8}{mine * 1e6:>10.1f}{peer * 1e6:>12.1f}{peer / mine:>8.1f}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
