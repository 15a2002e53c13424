"""Pictures labelled by text over HTTP: one model or two, one picture at a time."""

# Without postponed annotations: FastAPI reads those of the routes, which name what is local here.

import base64
import logging
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Annotated, Any, Protocol, TypeVar

import numpy as np
from fastapi import FastAPI, File, Form, Request, UploadFile
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import Response
from PIL import Image
from pydantic import BaseModel, Field

from seg_zero.errors import InputError
from seg_zero.images import encode_png
from seg_zero.masks import encode_mask
from seg_zero.open_vocabulary.labels import parse_labels, separated
from seg_zero.open_vocabulary.pictures import label_picture
from seg_zero.open_vocabulary.result import LabelledImage
from seg_zero.serving.answers import Problem, RunLengths
from seg_zero.serving.service import SHUTTING_DOWN, Refused, check_room, in_time
from seg_zero.serving.uploads import KINDS, Limits, read_image

log = logging.getLogger(__name__)

T = TypeVar("T")

LABEL = "/v1/label"
OPEN_VOCABULARY, REMOTE_SENSING = "open_vocabulary", "remote_sensing"
# The models that a request may name, in the order in which one is chosen for a request that names none, and the option
# that loads each.
MODELS = {OPEN_VOCABULARY: "--label_backbone NAME", REMOTE_SENSING: "--remote_sensing_model FOLDER"}
_CHARACTERS = 20_000  # of all labels together, before they are taken apart


class Labeller(Protocol):
    """What labels: :class:`seg_zero.open_vocabulary.segmenter.OpenVocabularySegmenter` or
    :class:`seg_zero.remote_sensing.segmenter.RemoteSensingSegmenter`."""

    def segment(self, image: Image.Image, labels: list[str]) -> LabelledImage: ...


@dataclass(frozen=True)
class Loaded:
    """A labeller with the name of its weights; warning: what each of its answers says."""

    labeller: Labeller
    name: str
    warning: str | None = None


class FoundLabel(BaseModel):
    """A label and where it is."""

    name: str
    value: int = Field(description="its value in the label map")
    area: float = Field(description="fraction of the picture")
    mask: RunLengths | None = Field(description="its pixels; null where there are none")


class LabelAnswer(BaseModel):
    """A labelled picture, in pixels of the image that was sent."""

    labels: list[FoundLabel] = Field(description="all that were asked about, in their order")
    unlabelled: float = Field(description="fraction of the picture without a label")
    label_map: str = Field(description="base64 PNG with a palette: 0 without a label, then the labels in order")
    width: int
    height: int
    model: str = Field(description="open_vocabulary or remote_sensing: which one labelled")
    backbone: str = Field(description="the weights of that model; of a local folder its name")
    warning: str | None = Field(description="why the model labels worse than it could")
    seconds: dict[str, float]


class LabelService:
    """The labellers for any number of users, a picture at a time; at most ``max_open`` wait or are labelled.

    models: at least one, by names of :data:`MODELS`; max_labels: in one request.
    """

    def __init__(self, models: Mapping[str, Loaded], max_open: int = 64, max_labels: int = 200) -> None:
        self.models, self.max_open, self.max_labels = dict(models), max_open, max_labels
        self.closing = False
        self._open = 0
        self._lock = threading.Lock()
        self._worker = ThreadPoolExecutor(1, "labels")

    @property
    def open(self) -> int:
        """Pictures that wait or are labelled."""
        return self._open

    def choose(self, model: str) -> str:
        """The model that a request means, by the name that it gave, which may be empty.

        Raises Refused: 422 for a name that no server knows, 404 for one that this server did not load.
        """
        if model in self.models:
            return model
        if not model:
            return next(name for name in MODELS if name in self.models)
        has = " and ".join(f"{name} ({self.models[name].name})" for name in MODELS if name in self.models)
        if model not in MODELS:
            raise Refused(422, f"model {model[:60]!r} is unknown; this server has {has}")
        raise Refused(404, f"model {model} is not loaded; this server has {has}; start it with {MODELS[model]} too")

    def admit(self) -> None:
        """Raises Refused if no further picture would be taken now."""
        check_room(self.closing, self._open, self.max_open, "labels", "pictures")

    def submit(
        self, model: str, image: Image.Image, labels: list[str], finish: Callable[[LabelledImage, dict[str, float]], T]
    ) -> Future[T]:
        """Queue a picture for one of :attr:`models`; the future holds what ``finish`` makes of the result and the
        seconds that it took.

        It fails with Refused: 422 for what cannot be labelled, 500 if the model failed. Raises Refused as
        :meth:`admit` does.
        """
        with self._lock:
            self.admit()
            self._open += 1
        job = self._worker.submit(self._run, self.models[model].labeller, image, labels, finish, time.perf_counter())
        job.add_done_callback(self._left)
        return job

    def close(self) -> None:
        """Take no more, and finish the open ones."""
        self.closing = True
        self._worker.shutdown(wait=True)

    def _left(self, _job: Future[Any]) -> None:
        with self._lock:
            self._open -= 1

    def _run(
        self,
        labeller: Labeller,
        image: Image.Image,
        labels: list[str],
        finish: Callable[[LabelledImage, dict[str, float]], T],
        asked: float,
    ) -> T:
        start = time.perf_counter()
        try:
            found = labeller.segment(image, labels)
            return finish(found, {"waiting": start - asked, "labelling": time.perf_counter() - start})
        except InputError as error:
            raise Refused(422, str(error)) from error
        except Exception as error:
            log.exception("labelling failed")
            raise Refused(500, "labelling failed on this request; the server's log says why") from error


def read_labels(text: str, most: int) -> list[str]:
    """The labels of a form. Raises Refused (422) for none, too many, repeated or empty ones."""
    if len(text) > _CHARACTERS:
        raise Refused(422, f"labels have {len(text):,} characters; the limit is {_CHARACTERS:,}")
    labels = separated(text)
    if len(labels) > most:
        raise Refused(422, f"{len(labels)} labels are more than {most}; ask about fewer at a time")
    try:
        parse_labels(labels)
    except InputError as error:
        raise Refused(422, str(error)) from error
    return labels


def add_labels(
    app: FastAPI,
    service: LabelService | None,
    limits: Limits,
    timeout: float,
    refusals: dict[int | str, dict[str, Any]],
    wants_png: Callable[[str], bool],
    closing: Callable[[], bool],
) -> None:
    """Add the route of labels to the server; without a service it says how to start one that labels.

    refusals: what every route may answer, for the schema; wants_png: whether an Accept header asks for a picture;
    closing: whether the server shuts down.
    """
    answers: dict[int | str, dict[str, Any]] = {
        200: {"model": LabelAnswer, "content": {"image/png": {}}},
        404: {"model": Problem, "description": "This server labels no pictures, or did not load that model"},
        **refusals,
    }

    @app.post(LABEL, responses=answers)
    async def label(
        request: Request,
        image: Annotated[UploadFile, File(description=KINDS)],
        labels: Annotated[
            str, Form(description="sky,grass; with synonyms: sky; cat, kitten", examples=["sky,grass"], min_length=1)
        ],
        model: Annotated[
            str,
            Form(
                description=f"{' or '.join(MODELS)}; empty: the first of these that the server loaded",
                examples=[REMOTE_SENSING],
            ),
        ] = "",
    ) -> Response:
        """Label every pixel by text. With `Accept: image/png`, the response is the label map as a picture."""
        if service is None:
            raise Refused(404, f"this server labels no pictures; start it with {' or '.join(MODELS.values())}")
        if closing():
            raise Refused(503, SHUTTING_DOWN)
        chosen = service.choose(model)
        service.admit()
        wanted = read_labels(labels, service.max_labels)
        picture = await run_in_threadpool(read_image, await image.read(), limits)
        as_picture = wants_png(request.headers.get("accept", ""))

        def finish(found: LabelledImage, seconds: dict[str, float]) -> bytes:
            values = _enlarged(found.label_map, picture.size)
            if as_picture:
                return encode_png(label_picture(values, len(found.labels)))
            return _answer(found, values, chosen, service.models[chosen], seconds)

        content = await in_time(service.submit(chosen, picture.image, wanted, finish), timeout)
        return Response(content, media_type="image/png" if as_picture else "application/json")


def _enlarged(values: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A label map at the (width, height) that the picture was sent with, the nearest value each."""
    if values.shape == size[::-1]:
        return values
    return np.asarray(Image.fromarray(values.astype(np.int32)).resize(size, Image.Resampling.NEAREST))


def _answer(found: LabelledImage, values: np.ndarray, model: str, loaded: Loaded, seconds: dict[str, float]) -> bytes:
    counts = np.bincount(values.ravel(), minlength=len(found.names))
    labels = [
        FoundLabel(
            name=name,
            value=number,
            area=float(counts[number] / values.size),
            mask=RunLengths(**encode_mask(values == number)) if counts[number] else None,
        )
        for number, name in enumerate(found.names)
        if number
    ]
    answer = LabelAnswer(
        labels=labels,
        unlabelled=float(counts[0] / values.size),
        label_map=base64.b64encode(encode_png(label_picture(values, len(found.labels)))).decode("ascii"),
        width=values.shape[1],
        height=values.shape[0],
        model=model,
        backbone=loaded.name,
        warning=loaded.warning,
        seconds={name: round(value, 6) for name, value in seconds.items()},
    )
    return answer.model_dump_json().encode()
