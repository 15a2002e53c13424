"""What stands before every route: the limit on bodies, the meters and the access log."""

from __future__ import annotations

import logging
import time
from urllib.parse import quote

from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from seg_zero.serving.meters import Meters
from seg_zero.serving.uploads import Limits

access = logging.getLogger("seg_zero.access")
access.propagate = False  # one line per request is for those who ask for it

DISCARDED = 8  # times the upload limit that is still read, so that the sender hears why it is refused


def show_access() -> None:
    """Print a line per request to standard error: time, client, request, status, milliseconds."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%Y-%m-%d %H:%M:%S"))
    access.addHandler(handler)
    access.setLevel(logging.INFO)


class Guard:
    """Counts the bytes of a body while it is read, counts every answer of one path, and logs every request.

    counted: that path. The lines go to :data:`access`, which a server shows or not.
    """

    def __init__(self, app: ASGIApp, limits: Limits, meters: Meters, counted: str) -> None:
        self.app, self.limits, self.meters, self.counted = app, limits, meters, counted

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
            seconds = time.perf_counter() - start
            if scope["path"] == self.counted:
                self.meters.request(status, seconds)
            client, path = scope.get("client"), quote(scope["path"])  # quoted: a path may hold line breaks
            access.info(
                '%s "%s %s" %d %.0f ms', client[0] if client else "-", scope["method"], path, status, seconds * 1e3
            )
