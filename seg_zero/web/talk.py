"""One user's conversation about a picture: its state, and what the page shows of it; no page, models or threads."""

from __future__ import annotations

import html
import json
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from PIL import Image, ImageDraw, ImageOps

from seg_zero.dialogue.memory import GIVEN, Round
from seg_zero.dialogue.session import Dialogue
from seg_zero.errors import InputError, counted
from seg_zero.objects import Point
from seg_zero.serving.open_dialogues import Dialogues, Held
from seg_zero.serving.service import Refused
from seg_zero.visualize import DIMMED, colour_of
from seg_zero.web import show
from seg_zero.web.session import Asking, Picture, Session, Turn

THUMBNAIL = (240, 180)
MOST_REGIONS = 8  # clicked for one question; each is a mask of the picture's size
_NO_OBJECT = "round {} found no object, so no question can refer to it; choose another round"


@dataclass(eq=False)
class Talk(Asking):
    """The state of one user.

    key: of the open dialogue, "" before the first round; references: the rounds that the next question refers to;
    regions: what was clicked for it where no round found anything, boolean masks of the size that the models see;
    small: the answer to each round as a small picture.
    """

    key: str = ""
    references: list[int] = field(default_factory=list)
    regions: list[np.ndarray] = field(default_factory=list)
    small: list[Image.Image] = field(default_factory=list)

    def forget(self, dialogues: Dialogues[Dialogue]) -> None:
        """End the dialogue; the picture stays."""
        if self.key:
            dialogues.end(self.key)
        self.key, self.small = "", []
        self.refer_to_nothing()

    def held(self, dialogues: Dialogues[Dialogue]) -> Held[Dialogue] | None:
        """The open dialogue; None before the first round. Raises Refused if it has ended by itself."""
        if not self.key:
            return None
        try:
            return dialogues.get(self.key)
        except Refused as refused:
            minutes = dialogues.limits.idle / 60
            line = f"the dialogue has ended, after {minutes:g} minutes without a question; clear it to begin a new one"
            raise Refused(refused.status, line) from refused

    def refer_to_nothing(self) -> None:
        self.references, self.regions = [], []

    def toggle(self, number: int, rounds: Sequence[Round]) -> None:
        """Refer to a round, or no longer. Raises InputError for one without an object."""
        if number in self.references:
            self.references.remove(number)
        elif not rounds[number - 1].found:
            raise InputError(_NO_OBJECT.format(number))
        else:
            self.references = sorted([*self.references, number])

    def toggle_at(self, click: Point, rounds: Sequence[Round]) -> bool:
        """Refer, or no longer, to what is at a click: a region that was clicked before, else the object of the latest
        round there. click: in pixels of the picture. False if there is neither."""
        assert self.picture is not None
        (width, height), (seen_width, seen_height) = self.picture.size, self.picture.seen
        x = min(int(click[0] * seen_width / width), seen_width - 1)
        y = min(int(click[1] * seen_height / height), seen_height - 1)
        for place, region in enumerate(self.regions):
            if region[y, x]:
                del self.regions[place]
                return True
        for number in range(len(rounds), 0, -1):
            if rounds[number - 1].mask[y, x]:
                self.toggle(number, rounds)
                return True
        return False

    def add_region(self, mask: np.ndarray) -> None:
        """Refer to a region. Raises InputError for an empty one and for one too many."""
        if not mask.any():
            raise InputError("nothing could be segmented there; click on an object")
        if len(self.regions) >= MOST_REGIONS:
            raise InputError(f"{MOST_REGIONS} regions are clicked already; click on one of them to drop it")
        self.regions.append(mask)

    def answered(self, picture: Picture, item: Round) -> None:
        """Note the latest round."""
        self.small.append(thumbnail(picture, item))
        self.refer_to_nothing()

    def undone(self, rounds: Sequence[Round]) -> None:
        """Forget what is not of these rounds any more."""
        self.small = self.small[: len(rounds)]
        self.references = [number for number in self.references if number <= len(rounds)]


def thumbnail(picture: Picture, item: Round) -> Image.Image:
    """A round's answer as a small picture."""
    drawn = show.draw(Session(current=Turn.of(picture, item.result)), DIMMED, prompts=False)
    assert drawn is not None
    return ImageOps.pad(drawn, THUMBNAIL, color=(30, 34, 44))


def thumbnails(talk: Talk, rounds: Sequence[Round]) -> list[tuple[Image.Image, str]]:
    """The rounds as small pictures with their questions; those referred to have a frame and a tick."""
    made = []
    for number, (small, item) in enumerate(zip(talk.small, rounds, strict=True), start=1):
        if number in talk.references:
            small = small.copy()
            corner = (small.width - 1, small.height - 1)
            ImageDraw.Draw(small).rectangle((0, 0, *corner), outline=colour_of(number - 1), width=9)
        tick = "✓ " if number in talk.references else ""
        made.append((small, f"{tick}{number} · {item.question}"))
    return made


def draw(talk: Talk, rounds: Sequence[Round]) -> Image.Image | None:
    """What the next question refers to, numbered by round; if that is nothing, the latest answer, else the picture."""
    if talk.picture is None:
        return None
    numbers = [*talk.references, *([GIVEN] if talk.regions else [])]
    if numbers:
        masks = [rounds[number - 1].mask for number in talk.references]
        masks += [np.any(talk.regions, axis=0)] if talk.regions else []
        return show.draw_masks(talk.picture, masks, numbers)
    if rounds:
        return show.draw(Session(current=Turn.of(talk.picture, rounds[-1].result)), DIMMED, prompts=True)
    return show.plain(talk.picture)


def refers(talk: Talk) -> str:
    """What the next question refers to, in words, as HTML."""
    named = [f"round {number}" for number in talk.references]
    named += [counted(len(talk.regions), "clicked region")] if talk.regions else []
    return show.notice(f"the next question refers to {' and '.join(named)}", "note") if named else ""


def headline(picture: Picture, rounds: Sequence[Round]) -> str:
    """The latest round: question, outcome and seconds, as HTML."""
    return show.headline(Turn.of(picture, rounds[-1].result)) if rounds else WELCOME


def told(picture: Picture, rounds: Sequence[Round]) -> str:
    """The reasoning of the latest round, and all earlier ones in short, as HTML."""
    if not rounds:
        return ""
    return show.reasoning(Turn.of(picture, rounds[-1].result)) + _earlier(rounds[:-1])


def _earlier(rounds: Sequence[Round]) -> str:
    items = []
    for number, item in reversed(list(enumerate(rounds, start=1))):
        about = [f"round {other}" for other in item.references]
        about += [] if item.given is None else [counted(len(item.given), "clicked region")]
        reference = f" (refers to {' and '.join(about)})" if about else ""
        outcome = counted(len(item.result.objects), "object") if item.found else "no object"
        head = html.escape(f"Round {number} · {item.question}{reference} · {outcome}")
        items.append(f"<li><b>{head}</b> {html.escape(item.result.thinking or 'no reasoning')}</li>")
    return f'<ul class="answers">{"".join(items)}</ul>' if items else ""


def downloads(picture: Picture, dialogue: Dialogue) -> str:
    """A link that contains the dialogue as JSON."""
    if not dialogue.rounds:
        return ""
    data = json.dumps(dialogue.record(), ensure_ascii=False).encode("utf-8", "replace")
    name = f"{show.stem_of(picture)}_dialogue.json"
    return show.links([(name, "application/json", data, "Dialogue (JSON)")])


WELCOME = (
    '<ol class="welcome"><li>Choose an example, or give a picture of your own, and ask about it.</li>'
    "<li>Click on an answer, or on any object in the picture: the next question refers to it.</li>"
    "<li>Ask on, take rounds back, and take the dialogue with you.</li></ol>"
)
