"""Dialogues over HTTP: a picture is sent once, then rounds about it, with limits on rounds, age and number."""

# Without postponed annotations: FastAPI reads those of the routes, which name what is local here.

from dataclasses import dataclass, field
from functools import partial
from typing import Annotated, Any

from fastapi import FastAPI, File, Form, Path, UploadFile
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import Response
from PIL import Image
from pydantic import BaseModel, Field

from seg_zero.dialogue.memory import Memory, Round
from seg_zero.dialogue.references import Asked, read_question
from seg_zero.dialogue.renderers import ReferenceRenderer, renderer_for
from seg_zero.dialogue.session import segment
from seg_zero.errors import InputError
from seg_zero.masks import encode_mask
from seg_zero.prompting import check_question
from seg_zero.results.result import SegmentationResult
from seg_zero.segmenter import Embedding
from seg_zero.serving.answers import FoundObject, Problem, RunLengths, as_utf8
from seg_zero.serving.open_dialogues import DialogueLimits, Dialogues, Held
from seg_zero.serving.service import Outcome, Refused, Service, Setting, in_time
from seg_zero.serving.uploads import Limits, read_image
from seg_zero.serving.uploads import read_question as check_length

DIALOGUES = "/v1/dialogues"
DialogueId = Annotated[str, Path(description="The id that POST /v1/dialogues gave", max_length=64)]
GONE: dict[int | str, dict[str, Any]] = {404: {"model": Problem, "description": "No such dialogue, or it has ended"}}
ID: dict[int | str, dict[str, Any]] = {422: {"model": Problem, "description": "The id is too long"}}
UNDO: dict[int | str, dict[str, Any]] = {422: {"model": Problem, "description": "No round to take back, or a long id"}}
BUSY: dict[int | str, dict[str, Any]] = {409: {"model": Problem, "description": "A round of it is being answered"}}


class NewDialogue(BaseModel):
    """A dialogue that was begun. Masks of its answers are of this width and height; a large picture is reduced."""

    id: str
    width: int
    height: int
    max_rounds: int
    idle_seconds: float = Field(description="the dialogue ends so long after its last round")
    warning: str | None = Field(description="why the policy answers worse than it could")


class RoundAnswer(BaseModel):
    """The answer to one round. Text of the policy that cannot be read is an answer with a problem."""

    dialogue: str
    round: int
    references: list[int] = Field(description="the rounds that the question refers to")
    question: str
    thinking: str
    objects: list[FoundObject]
    mask: RunLengths = Field(description="the union of the objects' masks")
    width: int
    height: int
    problem: str | None
    text: str
    warning: str | None
    seconds: dict[str, float]


class Rounds(BaseModel):
    """The rounds that a dialogue has."""

    id: str
    questions: list[str]


@dataclass(eq=False)
class _Talk:
    image: Image.Image
    memory: Memory
    embedding: list[Embedding] = field(default_factory=list)


def add_dialogues(
    app: FastAPI,
    service: Service,
    limits: Limits,
    timeout: float,
    refusals: dict[int | str, dict[str, Any]],
    warning: str | None = None,
    dialogue_limits: DialogueLimits | None = None,
) -> Dialogues[_Talk]:
    """Add the routes of dialogues to the server; refusals: what a route with a form may answer, for the schema."""
    dialogues = Dialogues[_Talk](dialogue_limits or DialogueLimits())
    renderer = renderer_for()
    found = {**GONE, 500: refusals[500]}  # of routes without a form

    @app.post(DIALOGUES, status_code=201, responses=refusals)
    async def begin(
        image: Annotated[UploadFile, File(description="The picture that all rounds are about")],
    ) -> NewDialogue:
        """Begin a dialogue about a picture."""
        service.admit()
        picture = (await run_in_threadpool(read_image, await image.read(), limits)).image
        asked = dialogues.limits
        made = dialogues.begin(_Talk(picture, Memory((), asked.rounds)))
        return NewDialogue(
            id=made.id,
            width=picture.width,
            height=picture.height,
            max_rounds=asked.rounds,
            idle_seconds=asked.idle,
            warning=warning,
        )

    @app.post(f"{DIALOGUES}/{{dialogue}}/rounds", responses={**refusals, **GONE, **BUSY})
    async def ask(
        dialogue: DialogueId,
        question: Annotated[str, Form(description="May name rounds: instance 1, [REF:1,2]", min_length=1)],
    ) -> RoundAnswer:
        """Ask the next round; a refused one leaves the dialogue as it was."""
        one = dialogues.get(dialogue)
        with dialogues.alone(one):
            service.admit()
            check_length(question, limits)
            try:
                asked = read_question(question)
                check_question(asked.question)
                one.talk.memory.check(asked)
                setting = await run_in_threadpool(_setting, service, renderer, one, asked)
            except InputError as error:
                raise Refused(422, str(error)) from error
            image = one.talk.image
            job = service.submit(image, asked.question, partial(_round, image, asked, warning), setting)
            item = await in_time(job, timeout)
            one.talk.memory = one.talk.memory.added(item)
            return _answer(one, item, warning)

    @app.get(f"{DIALOGUES}/{{dialogue}}", responses={**found, **ID})
    async def rounds(dialogue: DialogueId) -> Rounds:
        """The questions of a dialogue."""
        one = dialogues.get(dialogue)
        return Rounds(id=one.id, questions=[item.question for item in one.talk.memory.rounds])

    @app.delete(f"{DIALOGUES}/{{dialogue}}/rounds", responses={**found, **UNDO, **BUSY})
    async def undo(dialogue: DialogueId) -> Rounds:
        """Take the last round back."""
        one = dialogues.get(dialogue)
        with dialogues.alone(one):
            try:
                one.talk.memory = one.talk.memory.undone()
            except InputError as error:
                raise Refused(422, str(error)) from error
        return Rounds(id=one.id, questions=[item.question for item in one.talk.memory.rounds])

    @app.delete(f"{DIALOGUES}/{{dialogue}}", status_code=204, responses={**found, **ID})
    async def end(dialogue: DialogueId) -> Response:
        """End a dialogue."""
        dialogues.end(dialogues.get(dialogue).id)
        return Response(status_code=204)

    return dialogues


def _setting(service: Service, renderer: ReferenceRenderer, one: Held[_Talk], asked: Asked) -> Setting:
    instances = one.talk.memory.instances
    made = renderer.render(one.talk.image, instances, asked, service.policy.spec)
    segmenter = service.segmenter

    def embed() -> Embedding:
        if not one.talk.embedding:
            one.talk.embedding.append(segmenter.embed([one.talk.image])[0])
        return one.talk.embedding[0]

    segment_as_asked = partial(segment, segmenter, renderer, instances=instances, asked=asked)
    return Setting(made.image, made.context, made.pictures, embed, segment_as_asked)


def _round(image: Image.Image, asked: Asked, warning: str | None, outcome: Outcome) -> Round:
    """The round, which becomes part of the dialogue when its user gets it."""
    result = SegmentationResult.of_answer(
        asked.question,
        outcome.answer,
        outcome.objects,
        outcome.masks,
        outcome.scores,
        outcome.seconds,
        image=image,
        warning=warning,
    )
    return Round(asked, result, low_res=outcome.low_res)


def _answer(one: Held[_Talk], item: Round, warning: str | None) -> RoundAnswer:
    result = item.result
    return RoundAnswer(
        dialogue=one.id,
        round=len(one.talk.memory.rounds),
        references=list(item.references),
        question=item.question,
        thinking=as_utf8(result.thinking),
        objects=[
            FoundObject(
                box=found.box,
                points=list(found.points),
                score=found.score,
                mask=RunLengths(**encode_mask(found.mask)),
                png=None,
            )
            for found in result.objects
        ],
        mask=RunLengths(**encode_mask(result.mask)),
        width=one.talk.image.width,
        height=one.talk.image.height,
        problem=None if result.problem is None else as_utf8(result.problem),
        text=as_utf8(result.text),
        warning=warning,
        seconds={name: round(value, 6) for name, value in result.seconds.items()},
    )
