"""Terms about the form of a response: tags, JSON, repetition, length. Each is in 0..1."""

from __future__ import annotations

import re

from seg_zero.rewards.response import Response

_SENTENCE = re.compile(r"[.!?\n\u3002\uff01\uff1f]+")  # and the full-width marks
_TAGS = ("<think>", "</think>", "<answer>", "</answer>")


def think(response: Response) -> float:
    """1 if the text is one think block and one answer block, white space around them allowed."""
    text = response.text.strip()
    if not (text.startswith("<think>") and text.endswith("</answer>") and all(text.count(tag) == 1 for tag in _TAGS)):
        return 0.0
    return float(not text[text.find("</think>") + len("</think>") : text.find("<answer>")].strip())


def answer_format(response: Response) -> float:
    """Fraction of the answered objects that have a box and a point; 1 for a well-formed empty list.

    Objects that cannot be read at all count as objects without either.
    """
    if response.answer.problem is not None:
        return 0.0
    if not response.answer.objects:
        return 1.0
    parts = sum((o.box is not None) + bool(o.points) for o in response.answer.objects)
    return parts / (2 * (len(response.answer.objects) + response.answer.left_out))


def well_formed(response: Response) -> bool:
    """Whether evaluation counts the response as well-formed: both terms above are 1."""
    return think(response) == 1.0 and answer_format(response) == 1.0


def _reasoning(text: str) -> str:
    """Everything outside the last answer block, each tag replaced by a line break."""
    before, tag, rest = text.rpartition("<answer>")
    outside = before + "\n" + rest.rpartition("</answer>")[2] if tag else rest
    for tag in _TAGS:
        outside = outside.replace(tag, "\n")
    return outside


def non_repeat(response: Response) -> float:
    """1 if no sentence outside the answer block stands twice (case and spacing aside)."""
    seen: set[str] = set()
    for part in _SENTENCE.split(_reasoning(response.text)):
        sentence = " ".join(part.split()).casefold()
        if sentence and sentence in seen:
            return 0.0
        seen.add(sentence)
    return 1.0


def length(response: Response, budget: int, margin: int) -> float:
    """1 up to ``budget`` words of reasoning, then falling linearly to 0 at ``budget + margin`` words.

    The shape is DAPO's overlong shaping (arXiv 2503.14476), counted in words outside the answer block.
    """
    words = len(_reasoning(response.text).split())
    return 1.0 if words <= budget else max((budget + margin - words) / max(margin, 1), 0.0)
