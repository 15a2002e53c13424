"""True answers in the styles in which policies write them: none of these may cost anything."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from seg_zero.objects import PromptObject
from seg_zero.rewards.attacks import REASONING, Case, as_json, response, written

PLAIN = "plain"
_SHIFTED_POINT = 0.2  # of the smaller side: an inner point where no mask says what is inside


def _answer(case: Case) -> str:
    return written(case, case.objects)


def _reasoned(reasoning: str) -> Callable[[Case], str]:
    return lambda case: response(_answer(case), reasoning)


def _around(before: str, after: str) -> Callable[[Case], str]:
    return lambda case: response(before + _answer(case) + after)


def _spread(case: Case) -> str:
    answer = json.dumps(json.loads(_answer(case)), indent=2)
    return f"\n<think>\n{REASONING}\n</think>\n\n<answer>\n{answer}\n</answer>\n"


def _decimals(case: Case) -> str:
    values = [as_json(item, case.single) for item in case.objects]
    lists = [{key: [float(v) for v in value] for key, value in item.items()} for item in values]  # type: ignore[attr-defined]
    return response(json.dumps(lists[0] if case.single else lists))


def _last_comma(case: Case) -> str:
    answer = _answer(case)
    return response(f"{answer[:-1]},{answer[-1]}" if case.objects else answer)


def _labelled(case: Case) -> str:
    values = [{"label": "what was asked for", **as_json(item, case.single)} for item in case.objects]
    return response(json.dumps(values[0] if case.single else values))


def _without_list(case: Case) -> str:
    values = [json.dumps(as_json(item, case.single)) for item in case.objects]
    return response(",\n".join(values) if values else "[]")


def _reversed(case: Case) -> str:
    return response(written(case, case.objects[::-1]))


def _drafted(case: Case) -> str:
    draft = f"```json\n{_answer(case)}\n```"
    reasoning = f"A first draft:\n{draft}\nThe edges are checked once more, and the draft stays:\n{draft}"
    return response(_answer(case), reasoning)


def _inner_points(case: Case) -> str:
    objects = [replace(item, points=_other_points(case, item)) for item in case.objects]
    return response(written(case, objects))


def _other_points(case: Case, item: PromptObject) -> tuple[tuple[float, float], ...]:
    """Points on the object other than the true ones: pixels of the mask far from them, or a step towards the centre."""
    if item.box is None or not item.points:
        return item.points
    x1, y1, x2, y2 = (int(v) for v in item.box)
    x, y = item.points[0]
    if case.mask is None:
        centre = np.array([(x1 + x2) / 2, (y1 + y2) / 2])
        away = centre - (x, y)
        step = min(_SHIFTED_POINT * min(x2 - x1, y2 - y1) / max(float(np.hypot(*away)), 1e-9), 1.0)
        return ((x + step * float(away[0]), y + step * float(away[1])), *item.points[1:])
    ys, xs = np.nonzero(case.mask[y1 : y2 + 1, x1 : x2 + 1])
    if not len(xs):
        return item.points
    farthest = int(np.hypot(xs + x1 - x, ys + y1 - y).argmax())
    return ((float(xs[farthest] + x1), float(ys[farthest] + y1)), *item.points[1:])


_NUMBERED = (
    "Candidates:\n1. the one at the left edge\n2. the one in the middle\n3. the one at the right edge\n"
    "What speaks for each:\n1. its colour\n2. its shape\n3. its size\nWhat fits best is marked."
)
_LONG = " ".join(
    f"Step {i}: region {i} is compared with its neighbours by colour, shape and size, and it is kept or dropped."
    for i in range(1, 19)
)
STYLES: dict[str, Callable[[Case], str]] = {
    PLAIN: _reasoned(REASONING),
    "white space and indented JSON": _spread,
    "coordinates with decimals": _decimals,
    "code fence": _around("```json\n", "\n```"),
    "single quotes": lambda case: response(_answer(case).replace('"', "'")),
    "prose before the JSON": _around("Here is what I found: ", ""),
    "prose after the JSON": _around("", "\nThese are all that match."),
    "prose around a code fence": _around("The result:\n```json\n", "\n```\nNothing else matches."),
    "comma after the JSON": _around("", ","),
    "comma before the JSON": _around(", ", ""),
    "comma after the last entry": _last_comma,
    "objects without a list": _without_list,
    "labels": _labelled,
    "reverse order": _reversed,
    "another inner point": _inner_points,
    "answer tags named in the reasoning": _reasoned(
        f"{REASONING} The result goes into <answer> and </answer>, as asked."
    ),
    "abbreviations": _reasoned(
        "Some things can be ruled out, e.g. what is cut off, e.g. at the left, i.e. at the edge, etc. Others, i.e. the "
        "large ones, fit approx. as well, cf. their colours vs. the rest, e.g. in the middle."
    ),
    "numbers and decimals": _reasoned(
        "Object no. 1 covers 3.5 percent, no. 2 covers 3.5 percent and no. 3 covers 4.5 percent. No. 1 and no. 2 are "
        "alike; fig. 1 and fig. 2 would be 1.5 and 1.5 times as wide."
    ),
    "two numbered lists": _reasoned(_NUMBERED),
    "two code fences": _drafted,
    "one sentence repeated": _reasoned("I look at the edges. The middle comes next. I look at the edges. That is all."),
    "three words": _reasoned("the left one"),
    "three hundred words": _reasoned(_LONG),
    "Chinese": _reasoned("图中有几个物体。左边的比右边的大。因此选择最符合描述的那些。"),
    "braces in the reasoning": _reasoned(
        'The set {left, middle} and [10, 20] are looked at; {"bbox_2d": none} is not.'
    ),
}
