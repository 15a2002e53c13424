"""Routes, limits and status codes."""

# Without postponed annotations: FastAPI reads those of the routes, which name what is local here.

import asyncio
import logging
import time
from collections.abc import Callable
from functools import partial
from typing import Annotated, Any

from fastapi import FastAPI, File, Form, Request, UploadFile
from fastapi.concurrency import run_in_threadpool
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from seg_zero.serving.answers import Problem, SegmentAnswer, encode, png_of
from seg_zero.serving.meters import Meters
from seg_zero.serving.service import Outcome, Refused, Service
from seg_zero.serving.uploads import Limits, read_image, read_question

log = logging.getLogger(__name__)

SEGMENT = "/v1/segment"
WARNING_HEADER = "X-Seg-Zero-Warning"  # also for answers that are pictures
DISCARDED = 8  # times the upload limit that is still read, so that the sender hears why it is refused
HOW = "send multipart/form-data with a file 'image' and a field 'question'"

REFUSALS: dict[int | str, dict[str, Any]] = {
    400: {"model": Problem, "description": "The form cannot be read"},
    413: {"model": Problem, "description": "Too many bytes or pixels"},
    415: {"model": Problem, "description": "Not a form with a file"},
    422: {"model": Problem, "description": "Image or question missing or unusable"},
    429: {"model": Problem, "description": "Too many open requests; Retry-After says when to ask again"},
    500: {"model": Problem, "description": "A model failed on this request"},
    502: {"model": Problem, "description": "The external policy failed"},
    503: {"model": Problem, "description": "The server is shutting down"},
    504: {"model": Problem, "description": "No answer in time"},
}


class Health(BaseModel):
    """Whether requests are answered, and by what."""

    ready: bool
    problem: str | None = Field(description="why it is not ready")
    policy: str
    segmenter: str
    engine: str
    warning: str | None = Field(description="why the policy answers worse than it could")


class Guard:
    """Counts the bytes of a body while it is read, and every answer of /v1/segment."""

    def __init__(self, app: ASGIApp, limits: Limits, meters: Meters) -> None:
        self.app, self.limits, self.meters = app, limits, meters

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        limit, read, status, start = self.limits.upload_bytes, 0, 500, time.perf_counter()

        async def counted() -> Message:
            nonlocal read
            message = await receive()
            read += len(message.get("body", b""))
            while read > limit and message.get("more_body") and read <= DISCARDED * limit:
                message = await receive()
                read += len(message.get("body", b""))
            if read > limit:
                raise HTTPException(413, f"the request has more than {limit:,} bytes; send a smaller image")
            return message

        async def noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            announced = dict(scope["headers"]).get(b"content-length", b"0")
            if announced.isdigit() and int(announced) > DISCARDED * limit:
                line = f"the request has {int(announced):,} bytes; the limit is {limit:,}"
                await JSONResponse({"error": line}, 413)(scope, receive, noted)
            else:
                await self.app(scope, counted, noted)
        finally:
            if scope["path"] == SEGMENT:
                self.meters.request(status, time.perf_counter() - start)


def _accepts_png(accept: str) -> bool:
    """Whether an Accept header names image/png, and not with a quality of 0 (RFC 9110, 12.4.2)."""
    for kind, *settings in (part.split(";") for part in accept.lower().split(",")):
        if kind.strip() == "image/png":
            given = dict(setting.strip().partition("=")[::2] for setting in settings)
            return any(digit in "123456789" for digit in given.get("q", "1"))
    return False


def _refusal(status: int, line: str, headers: dict[str, str] | None = None) -> JSONResponse:
    return JSONResponse({"error": " ".join(line.split())}, status, headers)


async def _refused(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, Refused)
    return _refusal(error.status, error.line, {"Retry-After": "1"} if error.status in (429, 503) else None)


async def _http_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    return _refusal(error.status_code, str(error.detail), dict(error.headers or {}))


async def _invalid(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    kind = request.headers.get("content-type", "none")
    if not kind.lower().startswith("multipart/form-data"):
        return _refusal(415, f"the content type is {kind[:60]!r}; {HOW}")
    first = error.errors()[0]
    return _refusal(422, f"{first['loc'][-1]}: {first['msg']}; {HOW}")


async def _failed(request: Request, error: Exception) -> JSONResponse:
    return _refusal(500, "the server failed on this request; its log says why")


def _json(question: str, png: bool, per_object: bool, warning: str | None, outcome: Outcome) -> bytes:
    return encode(question, outcome, png, per_object, warning)


def _picture(outcome: Outcome) -> bytes:
    return png_of(outcome.mask)


def create_app(
    service: Service,
    meters: Meters,
    limits: Limits,
    timeout: float,
    names: dict[str, str],
    policy_problem: Callable[[], str | None] = lambda: None,
    warning: str | None = None,
) -> FastAPI:
    """The server's routes over a service.

    timeout: seconds for one answer; names: of policy, segmenter and engine; policy_problem: says why a remote policy
    cannot be reached now; warning: one line that every answer carries, as a field and a header.
    """
    # No pages of interactive documentation: they would load scripts from elsewhere.
    app = FastAPI(title="seg-zero", version="1", docs_url=None, redoc_url=None)
    meters.watch("seg_zero_queue_length", "Requests that the policy has not taken yet", lambda: service.waiting)
    meters.watch("seg_zero_open_requests", "Requests that wait or are worked on", lambda: service.open)
    app.add_middleware(Guard, limits=limits, meters=meters)
    app.add_exception_handler(Refused, _refused)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(Exception, _failed)
    answers = {200: {"model": SegmentAnswer, "content": {"image/png": {}}}, **REFUSALS}

    @app.post(SEGMENT, responses=answers)
    async def segment(
        request: Request,
        image: Annotated[UploadFile, File(description="JPEG, PNG, WEBP, BMP, GIF or TIFF")],
        question: Annotated[str, Form(description="What to segment", examples=["the green circle"], min_length=1)],
        png: Annotated[bool, Form(description="Add the mask as base64 PNG")] = False,
        per_object: Annotated[bool, Form(description="With png: one for each object too")] = False,
    ) -> Response:
        """Answer a question about an image. With `Accept: image/png`, the response is the mask as a picture."""
        service.admit()
        read_question(question, limits)
        picture = await run_in_threadpool(read_image, await image.read(), limits)
        as_picture = _accepts_png(request.headers.get("accept", ""))
        job = service.submit(
            picture, question, _picture if as_picture else partial(_json, question, png, per_object, warning)
        )
        try:
            content = await asyncio.wait_for(asyncio.wrap_future(job), timeout)
        except asyncio.TimeoutError:
            raise Refused(504, f"no answer within {timeout:g} seconds; the server is busy, try again later") from None
        said = {} if warning is None else {WARNING_HEADER: warning.encode("ascii", "backslashreplace").decode("ascii")}
        return Response(content, media_type="image/png" if as_picture else "application/json", headers=said)

    @app.get("/health", responses={503: {"model": Health, "description": "Not ready"}})
    async def health(response: Response) -> Health:
        """Whether requests are answered."""
        problem = "shutting down" if service.closing else "the policy fails" if service.failing else None
        problem = problem or await run_in_threadpool(policy_problem)
        response.status_code = 503 if problem else 200
        return Health(ready=problem is None, problem=problem, warning=warning, **names)

    @app.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
    async def metrics() -> Response:
        """Counters for Prometheus."""
        return Response(meters.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    return app
