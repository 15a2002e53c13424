"""Draws docs/images/architecture.svg, the rooms of seg_zero and who imports whom, from the code: ``make graph``.

A room stands above all that it imports, so all arrows point down; a cycle is an error. Arrows that others imply are
omitted.
"""

from __future__ import annotations

import html
from pathlib import Path

import grimp

TARGET = Path(__file__).parent / "images" / "architecture.svg"
WIDTH, ROW, BOX_HEIGHT, GAP, LETTER = 1000, 74, 34, 18, 8.2
NOT_ROOMS = {"configs", "assets", "__main__"}
GROUND = "errors, extras, files, devices, images, statistics"  # one box: nearly every room uses them
ROUNDS = 12  # of the ordering; more change nothing

Graph = dict[str, set[str]]


def read_rooms() -> Graph:
    """Each top-level module or package of seg_zero with those it imports, TYPE_CHECKING imports omitted."""
    graph = grimp.build_graph("seg_zero", exclude_type_checking_imports=True)
    rooms: Graph = {}
    for module in graph.modules:
        room = _room(module)
        if room is not None:
            imported = {_room(other) for other in graph.find_modules_directly_imported_by(module)}
            rooms.setdefault(room, set()).update(other for other in imported if other not in (None, room))
    return rooms


def _room(module: str) -> str | None:
    parts = module.split(".")
    if len(parts) == 1 or parts[1] in NOT_ROOMS:
        return None
    return GROUND if parts[1] in GROUND.split(", ") else parts[1]


def heights(graph: Graph) -> dict[str, int]:
    """The longest way down from each room. Raises ValueError for a cycle."""
    found: dict[str, int] = {}

    def visit(room: str, path: tuple[str, ...]) -> int:
        if room in path:
            raise ValueError(f"import cycle: {' -> '.join((*path[path.index(room) :], room))}")
        if room not in found:
            found[room] = 1 + max((visit(other, (*path, room)) for other in graph[room]), default=-1)
        return found[room]

    for room in graph:
        visit(room, ())
    return found


def reduced(graph: Graph) -> Graph:
    """The arrows that no longer way implies."""
    below: Graph = {}
    for room in sorted(graph, key=heights(graph).__getitem__):
        below[room] = set(graph[room]).union(*(below[other] for other in graph[room]))
    return {room: {o for o in others if not any(o in below[p] for p in others)} for room, others in graph.items()}


def place(graph: Graph) -> dict[str, tuple[float, float]]:
    """Centres of the boxes: rows by height, in a row near what they are joined to."""
    height = heights(graph)
    rows = [sorted(room for room in graph if height[room] == level) for level in range(max(height.values()) + 1)]
    joined = {room: graph[room] | {other for other in graph if room in graph[other]} for room in graph}
    x: dict[str, float] = {}
    for row in rows:
        _spread(row, x)
    for _ in range(ROUNDS):
        for row in (*rows, *reversed(rows)):
            middle = {room: sum(x[other] for other in joined[room]) / max(1, len(joined[room])) for room in row}
            _spread(sorted(row, key=middle.__getitem__), x)
    return {room: (x[room], ROW * (len(rows) - 0.5 - height[room])) for room in graph}


def _spread(row: list[str], x: dict[str, float]) -> None:
    boxes = sum(map(_width, row))
    gap = min(3 * GAP, (WIDTH - GAP - boxes) / len(row))
    left = (WIDTH - boxes - gap * (len(row) - 1)) / 2
    for room in row:
        x[room] = left + _width(room) / 2
        left += _width(room) + gap


def _width(room: str) -> float:
    return len(room) * LETTER + 2 * GAP


def draw(graph: Graph) -> str:
    """The picture as SVG text."""
    arrows = reduced(graph)
    centre = place(arrows)
    bottom = max(y for _, y in centre.values()) + ROW / 2
    lines, boxes = [], []
    for room, others in sorted(arrows.items()):
        x, y = centre[room]
        for other in sorted(others):
            to_x, to_y = centre[other]
            start, end = y + BOX_HEIGHT / 2, to_y - BOX_HEIGHT / 2 - 6
            bend = (end - start) * 0.5
            lines.append(
                f'<path d="M{x:.0f} {start:.0f} C{x:.0f} {start + bend:.0f} {to_x:.0f} {end - bend:.0f} '
                f'{to_x:.0f} {end:.0f}"/>'
            )
        width = _width(room)
        boxes.append(
            f'<rect x="{x - width / 2:.0f}" y="{y - BOX_HEIGHT / 2:.0f}" width="{width:.0f}" height="{BOX_HEIGHT}" '
            f'rx="7"/><text x="{x:.0f}" y="{y + 5:.0f}">{html.escape(room)}</text>'
        )
    return f"""<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {bottom:.0f}" font-family="monospace"
 font-size="14" text-anchor="middle">
<title>Rooms of seg_zero; an arrow goes from a room to one that it imports</title>
<defs><marker id="tip" viewBox="0 0 8 8" refX="2" refY="4" markerWidth="7" markerHeight="7" orient="auto">
<path d="M0 0 8 4 0 8z" fill="#667085"/></marker></defs>
<rect width="{WIDTH}" height="{bottom:.0f}" fill="#fff"/>
<g fill="none" stroke="#98a2b3" stroke-width="1.3" marker-end="url(#tip)">
{chr(10).join(lines)}
</g>
<g fill="#eef4ff" stroke="#3538cd">
{chr(10).join(boxes).replace("<text", '<text fill="#1d2433" stroke="none"')}
</g>
</svg>
"""


if __name__ == "__main__":
    TARGET.write_text(draw(read_rooms()), encoding="utf-8")
    print(f"wrote {TARGET}")
