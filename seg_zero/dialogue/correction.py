"""Further turns on one question: the policy sees its own answer drawn on the picture and may correct it.

The idea is RSAgent's. A turn is a round of a dialogue that refers to the one before (:mod:`seg_zero.dialogue.turns`),
so that ``dialogue=conversations`` trains it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from seg_zero.dialogue.memory import Round
from seg_zero.dialogue.references import Asked
from seg_zero.dialogue.renderers import renderer_for
from seg_zero.dialogue.session import Answerer, Ask, Embed
from seg_zero.dialogue.turns import correction_of
from seg_zero.errors import InputError
from seg_zero.policy import Policy
from seg_zero.results.result import SegmentationResult
from seg_zero.segmenter import Segmenter


class Corrector:
    """Asks a policy to correct its answers, which it sees as outlines on the picture. warning: goes into results."""

    def __init__(self, policy: Policy, segmenter: Segmenter, warning: str | None = None) -> None:
        self._answerer = Answerer(policy, segmenter, renderer_for("marks", "references"), warning)

    def correct(
        self, results: Sequence[SegmentationResult], embeds: Sequence[Embed], turns: int
    ) -> list[SegmentationResult]:
        """Each answer after so many further turns; embeds: start SAM2's embedding of each one's picture.

        An answer that had turns before goes on from them.

        An answer that cannot be read does not replace the one before. Raises InputError if the policy cannot be asked.
        """
        answers = [list(result.turns or (result,)) for result in results]
        for _ in range(turns):
            asks = [self._ask(of_one, len(of_one), embed) for of_one, embed in zip(answers, embeds, strict=True)]
            for of_one, answered in zip(answers, self._answerer.answer(asks), strict=True):
                if isinstance(answered, InputError):
                    raise answered
                of_one.append(replace(answered[0], question=of_one[0].question))
        return [_joined(of_one) for of_one in answers]

    def _ask(self, answers: Sequence[SegmentationResult], number: int, embed: Embed) -> Ask:
        shown = _standing(answers)
        asked = correction_of(shown.question, number - 1) if number > 1 else Asked(shown.question)
        earlier = Round(asked, shown).instance(number)
        return Ask(shown.image, correction_of(shown.question, number), (earlier,), embed, shown.name)


def _standing(answers: Sequence[SegmentationResult]) -> SegmentationResult:
    """The last answer that can be read, or the first."""
    return next((answer for answer in reversed(answers) if answer.problem is None), answers[0])


def _joined(answers: Sequence[SegmentationResult]) -> SegmentationResult:
    seconds = {stage: sum(answer.seconds[stage] for answer in answers) for stage in answers[0].seconds}
    turns = tuple(answers) if len(answers) > 1 else ()
    return replace(_standing(answers), turns=turns, seconds=seconds)
