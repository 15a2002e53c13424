"""Open dialogues are limited in number and age."""

from __future__ import annotations

import pytest

from seg_zero.serving.open_dialogues import DialogueLimits, Dialogues
from seg_zero.serving.service import Refused


def test_number_and_age_of_dialogues_are_limited() -> None:
    now = [0.0]
    dialogues = Dialogues[str](DialogueLimits(number=2, idle=10.0), lambda: now[0])
    first, second = dialogues.begin("talk"), dialogues.begin("talk")
    with pytest.raises(Refused, match="already holds 2 dialogues") as refused:
        dialogues.begin("talk")
    assert (refused.value.status, refused.value.retry) == (429, 11)
    now[0] = 8.0
    with dialogues.alone(second):
        now[0] = 30.0
        assert dialogues.get(second.id) is second  # a long answer does not end it
    with pytest.raises(Refused, match="it has ended"):
        dialogues.get(first.id)
    now[0] = 39.0
    assert dialogues.get(second.id) is second
    dialogues.begin("talk")
    assert len(dialogues) == 2
