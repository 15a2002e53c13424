"""A question in the place of labels: the reasoning policy names what to look for, the label map says where."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image

from seg_zero.answer import read_names
from seg_zero.errors import InputError
from seg_zero.open_vocabulary.labels import LONGEST_NAME, parse_labels
from seg_zero.policy import Policy, Request
from seg_zero.prompting import NAMES_WORDING, PromptSpec, PromptTemplate

BACKGROUND = "background"
_SHOWN = 80  # characters of an answer in a message


@dataclass(frozen=True)
class Named:
    """What a policy named. labels: its names, then the ``others`` that they are told apart from; text: its answer."""

    names: tuple[str, ...]
    labels: tuple[str, ...]
    text: str


def naming_spec(spec: PromptSpec) -> PromptSpec:
    """The settings of a model, asked for names instead of boxes."""
    return PromptTemplate(NAMES_WORDING, "multi").applied_to(spec)


def labels_for(policy: Policy, image: Image.Image, question: str, others: Sequence[str] = (BACKGROUND,)) -> Named:
    """Ask a policy, loaded with :func:`naming_spec`, what in the picture answers a question.

    others: labels for the rest of the picture, with synonyms after commas; a name that is among them is dropped there.
    Raises InputError if the policy cannot be asked, and if its answer names nothing.
    """
    (reply,) = policy.stream([Request(0, image, question)])
    if reply.problem is not None:
        raise InputError(reply.problem)
    text = reply.texts[0]
    names = tuple(name for name in read_names(text) if len(name) <= LONGEST_NAME)
    if not names:
        shown = " ".join(text.split())
        shown = shown if len(shown) <= _SHOWN else f"{shown[: _SHOWN - 1]}…"
        raise InputError(
            f"the policy named nothing for {question!r} (it wrote {shown!r}); ask differently, or take a policy that "
            "follows instructions, such as --model Qwen/Qwen2.5-VL-7B-Instruct"
        )
    known = {name.casefold() for name in names}
    rest = []
    for other in others:
        kept = [part.strip() for part in other.split(",") if part.strip().casefold() not in known]
        if kept:
            rest.append(", ".join(kept))
    labels = (*names, *rest)
    parse_labels(labels)
    return Named(names, labels, text)
