"""Routes, limits and status codes."""

# Without postponed annotations: FastAPI reads those of the routes, which name what is local here.

from collections.abc import Callable, Sequence
from functools import partial
from typing import Annotated, Any

from fastapi import Depends, FastAPI, File, Form, Request, UploadFile
from fastapi.concurrency import run_in_threadpool
from fastapi.exceptions import RequestValidationError
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import HTMLResponse, JSONResponse, Response
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException

from seg_zero.serving.answers import Problem, SegmentAnswer, encode, png_of
from seg_zero.serving.dialogues import add_dialogues
from seg_zero.serving.fields import only_known_fields
from seg_zero.serving.guard import Guard
from seg_zero.serving.labels import LABEL, LabelService, add_labels
from seg_zero.serving.meters import Meters
from seg_zero.serving.pages import POLICY, docs_page, start_page
from seg_zero.serving.service import Outcome, Refused, Service, in_time
from seg_zero.serving.uploads import KINDS, Limits, read_image, read_question

SEGMENT = "/v1/segment"
WARNING_HEADER = "X-Seg-Zero-Warning"  # also for answers that are pictures
FORMS = ("multipart/form-data", "application/x-www-form-urlencoded")
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
    return _refusal(error.status, error.line, {"Retry-After": str(error.retry)} if error.status in (429, 503) else None)


async def _http_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    return _refusal(error.status_code, str(error.detail), dict(error.headers or {}))


async def _invalid(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    line = f"{first['loc'][-1]}: {first['msg']}"
    kind = request.headers.get("content-type", "none")
    if request.url.path != SEGMENT:
        if first["loc"][0] == "body" and not kind.lower().startswith((*FORMS, "none")):
            return _refusal(415, f"the content type is {kind[:60]!r}; send a form, {' or '.join(FORMS)}")
        return _refusal(422, f"{line}; /openapi.json names the fields")
    if not kind.lower().startswith("multipart/form-data"):
        return _refusal(415, f"the content type is {kind[:60]!r}; {HOW}")
    return _refusal(422, f"{line}; {HOW}")


async def _failed(request: Request, error: Exception) -> JSONResponse:
    return _refusal(500, "the server failed on this request; its log says why")


def _picture(size: tuple[int, int], outcome: Outcome) -> bytes:
    return png_of(outcome.mask, size)


def create_app(
    service: Service,
    meters: Meters,
    limits: Limits,
    timeout: float,
    names: dict[str, str],
    policy_problem: Callable[[], str | None] = lambda: None,
    warning: str | None = None,
    cors_origins: Sequence[str] = (),
    labels: LabelService | None = None,
) -> FastAPI:
    """The server's routes over a service.

    timeout: seconds for one answer; names: of policy, segmenter and engine; policy_problem: says why a remote policy
    cannot be reached now; warning: one line that every answer carries, as a field and a header; cors_origins: of the
    web pages whose scripts may read answers, or "*" for all; labels: what labels pictures by text, if anything does.
    """
    # FastAPI's own pages of documentation load scripts from elsewhere.
    app = FastAPI(
        title="seg-zero", version="1", docs_url=None, redoc_url=None, dependencies=[Depends(only_known_fields)]
    )
    meters.watch("seg_zero_queue_length", "Requests that the policy has not taken yet", lambda: service.waiting)
    meters.watch("seg_zero_open_requests", "Requests that wait or are worked on", lambda: service.open)
    app.add_middleware(Guard, limits=limits, meters=meters, counted=SEGMENT)
    if cors_origins:  # added last, so that refusals of the guard pass it too
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(cors_origins),
            allow_methods=["GET", "POST", "DELETE"],
            expose_headers=[WARNING_HEADER, "Retry-After"],
        )
    app.add_exception_handler(Refused, _refused)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(Exception, _failed)
    answers = {200: {"model": SegmentAnswer, "content": {"image/png": {}}}, **REFUSALS}

    @app.post(SEGMENT, responses=answers)
    async def segment(
        request: Request,
        image: Annotated[UploadFile, File(description=KINDS)],
        question: Annotated[str, Form(description="What to segment", examples=["the green circle"], min_length=1)],
        png: Annotated[bool, Form(description="Add the mask as base64 PNG")] = False,
        per_object: Annotated[bool, Form(description="With png: one for each object too")] = False,
    ) -> Response:
        """Answer a question about an image. With `Accept: image/png`, the response is the mask as a picture."""
        service.admit()
        read_question(question, limits)
        picture = await run_in_threadpool(read_image, await image.read(), limits)
        as_picture = _accepts_png(request.headers.get("accept", ""))
        if as_picture:
            finish = partial(_picture, picture.size)
        else:
            finish = partial(encode, question, size=picture.size, png=png, per_object=per_object, warning=warning)
        job = service.submit(picture.image, question, finish)
        content = await in_time(job, timeout)
        said = {} if warning is None else {WARNING_HEADER: warning.encode("ascii", "backslashreplace").decode("ascii")}
        return Response(content, media_type="image/png" if as_picture else "application/json", headers=said)

    add_dialogues(app, service, limits, timeout, REFUSALS, warning)
    add_labels(app, labels, limits, timeout, REFUSALS, _accepts_png, lambda: service.closing)

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

    @app.get("/", include_in_schema=False)
    async def start(request: Request) -> Response:
        """What this is and where to go: a page for browsers, JSON for others."""
        if "text/html" in request.headers.get("accept", "").lower():
            return HTMLResponse(start_page(names, warning, str(request.base_url)), headers=POLICY)
        labelling = {} if labels is None else {"label": f"POST {LABEL}"}
        places = {"segment": f"POST {SEGMENT}", **labelling, "docs": "/docs", "schema": "/openapi.json"}
        return JSONResponse(
            {"name": "seg-zero", **names, "warning": warning, **places, "health": "/health", "metrics": "/metrics"}
        )

    @app.get("/docs", include_in_schema=False)
    async def docs() -> Response:
        """The schema as a page."""
        return HTMLResponse(docs_page(app.openapi()), headers=POLICY)

    return app
