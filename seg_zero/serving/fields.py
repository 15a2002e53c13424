"""Form fields that no route knows: an option with a typo must not be ignored."""

from __future__ import annotations

from fastapi import Request
from fastapi.routing import APIRoute

from seg_zero.serving.service import Refused

_LONGEST = 60  # characters of a field's name in the message


async def only_known_fields(request: Request) -> None:
    """A dependency of every route. Raises Refused (422) for a form field that the route does not take."""
    route = request.scope.get("route")
    known = [field.alias for field in route.dependant.body_params] if isinstance(route, APIRoute) else []
    if not known:
        return
    unknown = [name for name in await request.form() if name not in known]
    if unknown:
        raise Refused(422, f"form field {unknown[0][:_LONGEST]!r} is unknown; this request takes {', '.join(known)}")
