"""Terms about the form of a response: tags, JSON, repetition, length. Each is in 0..1."""

from __future__ import annotations

from seg_zero.rewards.response import TAGS, Response
from seg_zero.rewards.sentences import count_words, sentences


def think(response: Response) -> float:
    """1 if the text is one think block and one answer block, white space around them allowed.

    The reasoning may name the answer tags.
    """
    opening, closing, rest = response.text.strip().partition("</think>")
    rest = rest.lstrip()
    one_thought = closing and opening.startswith("<think>") and opening.count("<think>") == 1
    one_answer = (
        rest.startswith("<answer>")
        and rest.endswith("</answer>")
        and all(rest.count(tag) == wanted for tag, wanted in zip(TAGS, (0, 0, 1, 1), strict=True))
    )
    return float(bool(one_thought and one_answer))


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


def non_repeat(response: Response) -> float:
    """1 less the fraction of the sentences outside the answer block that stood there before; one of them is free.

    Case, spacing and list markers do not matter; see :mod:`seg_zero.rewards.sentences` for what a sentence is.
    """
    found = sentences(response.reasoning)
    repeats = len(found) - len(set(found))
    return 1.0 if repeats <= 1 else 1.0 - repeats / len(found)


def length(response: Response, floor: int, budget: int, margin: int) -> float:
    """1 from ``floor`` to ``budget`` words of reasoning, falling linearly to 0 at none and at ``budget + margin``.

    The upper end has the shape of DAPO's overlong shaping (arXiv 2503.14476), in words outside the answer block.
    """
    words = count_words(response.reasoning)
    if words < floor:
        return words / floor
    return 1.0 if words <= budget else max((budget + margin - words) / max(margin, 1), 0.0)
