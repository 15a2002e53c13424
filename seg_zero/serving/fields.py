"""Form fields that no route knows or that come twice: an option with a typo must not be ignored, nor one of two."""

from __future__ import annotations

from collections import Counter

from fastapi import Request
from fastapi.routing import APIRoute

from seg_zero.serving.service import Refused

_LONGEST = 60  # characters of a field's name in the message


async def only_known_fields(request: Request) -> None:
    """A dependency of every route. Raises Refused (422) for a form field that it does not take, or that comes twice."""
    route = request.scope.get("route")
    known = [field.alias for field in route.dependant.body_params] if isinstance(route, APIRoute) else []
    if not known:
        return
    given = Counter(name for name, _ in (await request.form()).multi_items())
    unknown = [name for name in given if name not in known]
    if unknown:
        raise Refused(422, f"form field {unknown[0][:_LONGEST]!r} is unknown; this request takes {', '.join(known)}")
    twice = [name for name, count in given.items() if count > 1]
    if twice:
        raise Refused(422, f"form field {twice[0]!r} is given {given[twice[0]]} times; give it once")
