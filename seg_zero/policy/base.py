"""What every policy is: requests in, texts out."""

from __future__ import annotations

import zlib
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from PIL import Image

from seg_zero.answer import Answer
from seg_zero.errors import InputError
from seg_zero.prompting import PromptSpec, resize_for_policy, resize_picture

MAX_NEW_TOKENS = 1024


@dataclass(frozen=True)
class Request:
    """One question about one image (RGB, of any size); ``key`` is the caller's.

    context, pictures: what was said and shown earlier, see :func:`seg_zero.prompting.build_messages`.
    """

    key: int
    image: Image.Image
    question: str
    context: str = ""
    pictures: tuple[Image.Image, ...] = ()


@dataclass(frozen=True)
class Reply:
    """What the policy wrote to one request, or the problem that kept it from being asked.

    tokens: how many it wrote, all texts together; truncated: whether a text ended at the limit.
    """

    key: int
    texts: tuple[str, ...]
    tokens: int
    truncated: bool
    problem: str | None = None

    @property
    def cut_at(self) -> int | None:
        """At how many tokens a lone text was cut; None if none was, or there are several."""
        return self.tokens if self.truncated and len(self.texts) == 1 else None


@dataclass(frozen=True)
class UnansweredReply(Reply):
    """A reply of a policy that could not be reached or failed, through no fault of the request."""


@dataclass(frozen=True)
class Sampling:
    """How many answers to each request, and how: greedily at temperature 0, else sampled.

    The chance depends on ``seed`` and the request's key alone, not on what else is asked.
    """

    answers: int = 1
    temperature: float = 0.0
    seed: int = 0

    def seed_of(self, key: int) -> int:
        return zlib.crc32(f"{self.seed} {key}".encode())


GREEDY = Sampling()


class Policy(Protocol):
    """Anything that answers questions about images in text.

    in_flight: how many requests it works on at a time.
    """

    spec: PromptSpec
    in_flight: int

    def stream(self, requests: Iterable[Request | None], sampling: Sampling = GREEDY) -> Iterator[Reply]:
        """A reply to each request, in any order, while further requests are taken as there is room.

        None among the requests says that there is none at the moment: those taken are worked on before more are
        asked for. Whoever feeds a queue in, blocks while all are answered, and gives None otherwise.
        """

    def generate(self, images: Sequence[Image.Image], questions: Sequence[str]) -> list[str]:
        """One text per (image, question), greedy. Raises InputError for a question that cannot be asked."""
        requests = (Request(i, *pair) for i, pair in enumerate(zip(images, questions, strict=True)))
        replies = {reply.key: reply for reply in self.stream(requests)}
        for reply in replies.values():
            if reply.problem is not None:
                raise InputError(reply.problem)
        return [replies[i].texts[0] for i in range(len(replies))]

    def stream_text(self, image: Image.Image, question: str) -> Generator[str, None, int | None]:
        """The text of :meth:`generate` in pieces, as they are written; in one piece if a policy does not say more.

        Returns the number of tokens at which the text was cut, None if it was not. A caller that stops reading stops
        the writing.
        """
        (reply,) = self.stream([Request(0, image, question)])
        if reply.problem is not None:
            raise InputError(reply.problem)
        yield reply.texts[0]
        return reply.cut_at


def pictures_of(request: Request, spec: PromptSpec) -> list[Image.Image]:
    """What the policy sees of a request: its image and the further pictures, each in the size that it takes."""
    return [resize_for_policy(request.image, spec), *(resize_picture(one, spec) for one in request.pictures)]


def take_waiting(source: Iterator[Request | None], room: int) -> tuple[list[Request], bool]:
    """Up to ``room`` requests that are there at the moment, and whether there may be more."""
    taken = list[Request]()
    while len(taken) < room:
        try:
            request = next(source)
        except StopIteration:
            return taken, False
        if request is None:
            break
        taken.append(request)
    return taken, True


def explained(answer: Answer, cut_at: int | None) -> Answer:
    """The answer; a problem that may come from a text cut after ``cut_at`` tokens says so."""
    if cut_at is None or answer.problem is None:
        return answer
    return replace(answer, problem=f"{answer.problem}; the text was cut at {cut_at} tokens: raise --max_new_tokens")


def too_long(
    prompt: int, limit: int, question: str, question_tokens: int, spec: PromptSpec, image_tokens: int = 0
) -> str | None:
    """Why a prompt does not fit, or None. All numbers are tokens; image_tokens: those of the image in ``prompt``.

    The template is blamed if it is longer than the question.
    """
    if prompt <= limit:
        return None
    words = prompt - question_tokens - image_tokens
    name = f"the template {spec.template!r}" if spec.text is None else "the prompt template given"
    parts = f"{name} {words}, the question {question[:60]!r}... {question_tokens}"
    parts += f", the image {image_tokens}" if image_tokens else ""
    return (
        f"the prompt has {prompt} tokens, more than the {limit} that the model leaves room for ({parts}); "
        f"shorten {'the template' if words > question_tokens else 'the question'}"
    )
