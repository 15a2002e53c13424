"""The server's two plain pages: where to go, and the schema. No scripts, and nothing from elsewhere."""

from __future__ import annotations

import html
import json
import re
import shlex
from collections.abc import Iterable, Mapping
from typing import Any

# Headers: the pages may neither load nor run anything, only style themselves and send their form here.
POLICY = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; "
    "frame-ancestors 'none'; base-uri 'none'"
}

_STYLE = """
:root { color-scheme: light dark; --line: #c9ced6; --soft: #f1f3f6; --link: #1d4ed8; }
@media (prefers-color-scheme: dark) { :root { --line: #4a5260; --soft: #23272f; --link: #93b4ff; } }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 860px; margin: 0 auto; padding: 24px 16px 48px; }
h1 { font-size: 26px; margin: 0 0 8px; } h2 { font-size: 20px; margin: 36px 0 6px; } h3 { font-size: 16px; }
a { color: var(--link); }
pre, code { font-family: ui-monospace, Menlo, Consolas, monospace; font-size: 14px; }
pre { background: var(--soft); padding: 12px; border-radius: 8px; white-space: pre-wrap; overflow-wrap: anywhere; }
table { border-collapse: collapse; width: 100%; margin: 8px 0 16px; }
th, td { border-bottom: 1px solid var(--line); text-align: left; padding: 6px 12px 6px 0; vertical-align: top;
  overflow-wrap: break-word; }
h2 code { font-size: inherit; }
.warning { border-left: 4px solid #dc8a04; padding: 6px 12px; background: var(--soft); }
form { display: grid; gap: 10px; justify-items: start; }
input { font: inherit; max-width: 100%; } form label { display: grid; gap: 2px; }
"""


def _page(title: str, body: str) -> str:
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{_STYLE}</style></head>'
        f"<body><main>{body}</main></body></html>"
    )


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """The cells are HTML."""
    top = "".join(f'<th scope="col">{cell}</th>' for cell in head)
    lines = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    return f"<table><thead><tr>{top}</tr></thead><tbody>{lines}</tbody></table>"


def start_page(names: Mapping[str, str], warning: str | None, address: str) -> str:
    """What the server is, which models answer, and where to go.

    names: of the models by what they do. address: of the server, as the browser knows it, with a slash at the end.
    """
    asked = f"curl -F image=@photo.jpg -F 'question=the cup that is still full' {shlex.quote(f'{address}v1/segment')}"
    warned = "" if warning is None else f'<p class="warning">{html.escape(warning)}</p>'
    models = _table(("part", "model"), ((html.escape(part), html.escape(name)) for part, name in names.items()))
    return _page(
        "Seg-Zero server",
        "<h1>Seg-Zero server</h1><p>Send a picture and a question; get the reasoning, the objects and their masks.</p>"
        f"{warned}<pre>{html.escape(asked, quote=False)}</pre>"
        '<ul><li><a href="docs">Fields, answers, errors, and a form to try it</a></li>'
        '<li><a href="openapi.json">OpenAPI schema</a></li><li><a href="health">Health</a></li>'
        f'<li><a href="metrics">Metrics for Prometheus</a></li></ul>{models}'
        "<p>For a page to ask questions in, run <code>seg-zero web</code>.</p>",
    )


_TRY = (
    '<h2>Try it</h2><form action="v1/segment" method="post" enctype="multipart/form-data">'
    '<label>Picture <input type="file" name="image" accept="image/*,.heic,.heif" required></label>'
    '<label>Question <input type="text" name="question" size="40" required></label>'
    '<button type="submit">Ask</button></form>'
)


def docs_page(schema: Mapping[str, Any]) -> str:
    """An OpenAPI schema of this server as a page: each route with its fields, its answers, and an example."""
    kinds: dict[str, Any] = schema["components"]["schemas"]
    parts = [
        "<h1>Seg-Zero server</h1>"
        '<p><a href="./">Start</a> · <a href="openapi.json">OpenAPI schema</a>. All coordinates are in pixels of the '
        "picture that was sent, after EXIF rotation.</p>"
    ]
    for path, routes in schema["paths"].items():
        for method, route in routes.items():
            parts.append(f"<h2><code>{method.upper()} {html.escape(path)}</code></h2>")
            parts.append(f"<p>{_words(route.get('description', ''))}</p>")
            for kind, form in route.get("requestBody", {}).get("content", {}).items():
                fields = _resolved(form["schema"], kinds)
                needed = fields.get("required", ())
                parts.append(f"<h3>Form fields ({html.escape(kind)})</h3>" + _fields(fields, needed))
            parts.append("<h3>Answers</h3>" + _answers(route["responses"], kinds))
    for name in _answer_kinds(kinds):
        parts.append(f'<h2 id="{name}">{name}</h2><p>{_words(kinds[name].get("description", ""))}</p>')
        parts.append(_fields(kinds[name], None))
        if "example" in kinds[name]:
            parts.append(f"<h3>Example</h3><pre>{html.escape(_example(kinds[name]))}</pre>")
    return _page("Seg-Zero server: fields and answers", "".join([*parts, _TRY]))


def _answer_kinds(kinds: Mapping[str, Any]) -> list[str]:
    """Names of what is answered; forms are shown with their routes, and FastAPI's own errors are never sent."""
    return [name for name in kinds if not name.startswith(("Body_", "HTTPValidationError", "ValidationError"))]


def _example(kind: Mapping[str, Any]) -> str:
    """JSON with a line per field, in the order of the table."""
    value = kind["example"]
    lines = [f"  {json.dumps(name)}: {json.dumps(value[name])}" for name in kind["properties"] if name in value]
    return "{\n" + ",\n".join(lines) + "\n}"


def _words(text: str) -> str:
    return re.sub(r"`(.+?)`", r"<code>\1</code>", html.escape(text))


def _resolved(schema: Mapping[str, Any], kinds: Mapping[str, Any]) -> Mapping[str, Any]:
    found: Mapping[str, Any] = kinds[schema["$ref"].rsplit("/", 1)[-1]] if "$ref" in schema else schema
    return found


def _fields(kind: Mapping[str, Any], needed: Iterable[str] | None) -> str:
    """The properties of an object; ``needed``: those that must be sent (None: it is an answer)."""
    rows = []
    for name, one in kind.get("properties", {}).items():
        said = _words(one.get("description", ""))
        if needed is not None:
            default = f"optional, default <code>{html.escape(json.dumps(one.get('default')))}</code>"
            said = " · ".join(filter(None, [said, "required" if name in needed else default]))
        rows.append((f"<code>{html.escape(name)}</code>", _type(one), said))
    return _table(("field", "type", "meaning"), rows)


def _type(one: Mapping[str, Any]) -> str:
    if "$ref" in one:
        name = html.escape(one["$ref"].rsplit("/", 1)[-1])
        return f'<a href="#{name}">{name}</a>'
    if "anyOf" in one:
        return " or ".join(_type(option) for option in one["anyOf"])
    if one.get("type") == "array":
        if "prefixItems" in one:
            return f"{len(one['prefixItems'])} × {_type(one['prefixItems'][0])}"  # noqa: RUF001
        return f"list of {_type(one['items'])}"
    if "contentMediaType" in one or one.get("format") == "binary":
        return "file"
    if "additionalProperties" in one:
        return f"{html.escape(one['type'])} of {_type(one['additionalProperties'])}"
    return html.escape(str(one.get("type", "any")))


def _answers(responses: Mapping[str, Any], kinds: Mapping[str, Any]) -> str:
    rows = []
    for status, response in sorted(responses.items()):
        content, said = response.get("content", {}), response.get("description", "")
        said = "Answered" if said == "Successful Response" else said  # FastAPI's words
        types = ", ".join(
            _type(body["schema"]) if "$ref" in body.get("schema", {}) else html.escape(media)
            for media, body in content.items()
        )
        rows.append((html.escape(status), types, _words(said)))
    return _table(("status", "body", "meaning"), rows)
