"""docs/errors.md quotes messages that the source still has."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "errors.md").read_text(encoding="utf-8")
UPSTREAM = "## GPUs, vLLM, Ray, the hub"  # quotes of other packages, below
OF_ARGPARSE = {"invalid choice: …", "unrecognized arguments: …"}
HOLE = "\0"
PLACEHOLDER = re.compile(r"…|(?<!\w)(?:[A-Z][A-Z0-9]*(?:x[A-Z])?)(?![\w-])")


def quoted() -> list[str]:
    """The messages at the beginning of each entry: code spans up to the colon after the last of them."""
    found = []
    for entry in re.findall(r"^\* (`.+?)(?=^\* |^#|\Z)", PAGE.split(UPSTREAM)[0], flags=re.MULTILINE | re.DOTALL):
        head = re.match(r"((?:`[^`]+`(?: \(\d+\))?,?\s*)+):", entry)
        assert head, entry
        found += [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", head[1])]
    return found


def written(node: ast.expr) -> str:
    """A string of the source, each value put into it as a hole."""
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(written(part) for part in node.values)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return written(node.left) + written(node.right)
    return HOLE


@cache
def templates() -> tuple[str, ...]:
    def strings(tree: ast.AST) -> Iterator[str]:
        for node in ast.walk(tree):
            if isinstance(node, ast.JoinedStr | ast.BinOp) or (
                isinstance(node, ast.Constant) and isinstance(node.value, str)
            ):
                yield written(node)

    files = [*ROOT.glob("seg_zero/**/*.py"), *ROOT.glob("rewards/*.py")]
    return tuple(text for file in files for text in strings(ast.parse(file.read_text(encoding="utf-8"))))


def in_source(message: str) -> bool:
    """Whether one string of the source has the words of a message, in its order, between the placeholders."""
    words = [part.strip() for part in PLACEHOLDER.split(message.removeprefix("warning: "))]
    literal = [part for part in words if re.search(r"\w", part)]
    pattern = re.compile(".*?".join(map(re.escape, literal)), flags=re.DOTALL)
    return sum(map(len, literal)) >= 8 and any(pattern.search(text) for text in templates())


def test_quoted_messages_are_in_the_source() -> None:
    messages = quoted()
    assert len(messages) >= 90
    assert [message for message in messages if message not in OF_ARGPARSE and not in_source(message)] == []


@pytest.mark.parametrize(
    ("message", "found"),
    [
        ("image PATH does not exist; check the path", True),
        ("mask PATH is WxH, its picture PATH WxH; …", True),
        ("image PATH does not exist; look at the path", False),
        ("check the path image PATH does not exist", False),
        ("PATH …", False),
    ],
)
def test_a_message_is_looked_up_between_its_placeholders(message: str, found: bool) -> None:
    assert in_source(message) is found
