"""The prompt of a published repository of this family, read from its source code, which is never run.

Two assignments are looked for: ``user_prompt`` in a dataset class (training) and ``QUESTION_TEMPLATE`` in an inference
script. Each is a text with the fields ``{Question}`` and ``{Answer}``, filled by a ``.format(...)`` call elsewhere in
the file.
"""

from __future__ import annotations

import ast
import hashlib
import os
import string
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from seg_zero.answer import load_json
from seg_zero.errors import InputError
from seg_zero.prompting import PromptTemplate

TRAINING, INFERENCE = "user_prompt", "QUESTION_TEMPLATE"
PLACEHOLDER = "<image>"  # of the image, at the front of training texts
_MAX_BYTES = 4 << 20  # of a source file; longer ones are data
_REASONS = 3  # that are told
_SKIPPED = ("site-packages", "node_modules", "venv", "__pycache__")


@dataclass(frozen=True)
class Published:
    """What the trained checkpoints of a published prompt saw; ``newline``: between image and text."""

    name: str
    format: str
    newline: bool
    image_size: int = 840
    coordinates: str = "pixels"
    normalisation: str = "published"


# By the SHA-256 of the filled text in UTF-8, without image placeholder and newline, with {question} for the question.
PUBLISHED = {
    "1212f3a35b0175a12220c34fbb1329415e35a8630240d1b034ddd8b9f4cfc710": Published("Seg-Zero", "single", False),
    "486b441f69daca53e889a76c8120afd05153f04d99b0be33758b36c5fe5b60fd": Published("VisionReasoner", "multi", True),
}


@dataclass(frozen=True)
class Imported:
    """A prompt that was found.

    where: file and line; training: from a dataset class; exact: name of the published prompt that it is, else None.
    """

    template: PromptTemplate
    where: str
    training: bool
    exact: str | None

    @property
    def sha256(self) -> str:
        return sha256_of(self.template.text)


@dataclass(frozen=True)
class _Call:
    """A ``.format(Question=..., Answer="...")`` call; normalisation: None if none of ours does the same."""

    line: int
    answer: str
    normalisation: str | None
    question: str


def sha256_of(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def import_prompt(path: Path, wanted: str | None = None) -> Imported:
    """The prompt in a source file, or in any of a folder; ``wanted``: the answer format, "single" or "multi".

    An exact published prompt goes before any other, and training code before inference code of the same format.
    Raises InputError for a path without a prompt, and for one with several that these rules do not decide between.
    """
    problems: list[str] = []
    every = [one for file in _files(path) for one in _read(path, file, problems)]
    found = [one for one in every if wanted in (None, one.template.format)]
    problems += [f"that in {one.where} is a {one.template.format}-object one" for one in every if one not in found]
    found = [one for one in found if one.exact is not None] or found
    trained = {one.template.format for one in found if one.training}
    found = [one for one in found if one.training or one.template.format not in trained]
    if not found:
        reason = f" ({'; '.join(dict.fromkeys(problems[:_REASONS]))})" if problems else ""
        kind = "prompt" if wanted is None else f"{wanted}-object prompt"
        raise InputError(
            f"{path} holds no {kind} that can be imported{reason}; give the checkout of a published repository of this "
            f"family, or the file in it that assigns {TRAINING} or {INFERENCE}"
        )
    if len({one.template for one in found}) > 1:
        listed = ", ".join(f"{one.template.format} in {one.where}" for one in _first_of_each(found))
        formats = len({one.template.format for one in found})
        remedy = "choose one with --format" if formats > 1 and wanted is None else "give the file of one of them"
        raise InputError(f"{path} holds several prompts ({listed}); {remedy}")
    return found[0]


def _first_of_each(found: Sequence[Imported]) -> list[Imported]:
    return list({one.template: one for one in reversed(found)}.values())[::-1]


def _files(path: Path) -> Iterator[Path]:
    if path.is_file():
        yield path
    elif not path.is_dir():
        raise InputError(f"{path} is neither a file nor a folder; give the checkout of a published repository")
    for folder, folders, names in os.walk(path):
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name not in _SKIPPED)
        files = (Path(folder, name) for name in sorted(names) if name.endswith(".py"))
        yield from (file for file in files if file.is_file())


def _read(root: Path, path: Path, problems: list[str]) -> list[Imported]:
    """The prompts in a file; what is in the way of others is added to ``problems``."""
    try:
        if path.stat().st_size > _MAX_BYTES:
            if path == root:
                problems.append(f"{path} has more than {_MAX_BYTES >> 20} MiB")
            return []
        data = path.read_bytes()
    except OSError as error:
        problems.append(f"{path} cannot be read: {error.strerror}")
        return []
    if not any(name.encode() in data for name in (TRAINING, INFERENCE)):
        return []
    where = path.name if path == root else str(path.relative_to(root))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of invalid escapes in that code
            nodes = list(ast.walk(ast.parse(data)))
        return [one for name in (TRAINING, INFERENCE) for one in _prompts(nodes, name, where, problems)]
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        problems.append(f"{where} is not Python source: {str(error).splitlines()[0] if str(error) else 'too deep'}")
        return []


def _prompts(nodes: Sequence[ast.AST], name: str, where: str, problems: list[str]) -> Iterator[Imported]:
    """The prompts that are assigned to ``name``, each with the call that fills it."""
    texts = [(line, text) for node in nodes for line, text in _assigned(node, name, where, problems)]
    calls = sorted((call for node in nodes for call in _calls(node, name)), key=lambda call: call.line)
    for line, text in texts:
        place = f"{where}:{line}"
        if not calls:
            problems.append(f"{place}: no call {name}.format(Question=..., Answer='...') fills it")
            continue
        # The next call belongs to the text, unless another makes a published prompt of it.
        calls_first = sorted(calls, key=lambda call: (call.line < line, abs(call.line - line)))
        filled = [(call, _filled(text, call.answer)) for call in calls_first]
        call, whole = next(
            ((call, whole) for call, whole in filled if whole and sha256_of(_split(whole)[1]) in PUBLISHED), filled[0]
        )
        if whole is None:
            problems.append(f"{place}: its fields are not {{Question}} and {{Answer}} alone")
            continue
        newline, words = _split(whole)
        published = PUBLISHED.get(sha256_of(words))
        try:
            template = _template(words, newline, call, published)
        except InputError as error:
            problems.append(f"{place}: {error}")
            continue
        yield Imported(template, place, name == TRAINING, None if published is None else published.name)


def _template(words: str, newline: bool, call: _Call, published: Published | None) -> PromptTemplate:
    if published is not None:
        # Published inference code lacks the newline and prepares questions in other ways than training did.
        facts = {key: value for key, value in vars(published).items() if key != "name"}
        return PromptTemplate(words, **facts)
    kind = {"[": "multi", "{": "single"}.get(call.answer.strip()[:1])
    if kind is None:
        raise InputError(f"the literal for Answer, {call.answer[:40]!r}, is neither a JSON object nor a list")
    try:
        load_json(call.answer)
    except ValueError as error:
        raise InputError(f"the literal for Answer, {call.answer[:40]!r}, is no answer: {error}; correct it") from error
    if call.normalisation is None:
        raise InputError(f"the question is prepared by {call.question}, for which there is no normalisation here")
    return PromptTemplate(words, kind, newline, call.normalisation)


def _assigned(node: ast.AST, name: str, where: str, problems: list[str]) -> Iterator[tuple[int, str]]:
    """Line and text of an assignment to ``name`` or ``….name`` of a text with the field {Question}.

    An f-string is no such text, since what it says depends on values that only running the code would tell.
    """
    if isinstance(node, ast.Assign):
        targets, value = node.targets, node.value
    elif isinstance(node, ast.AnnAssign) and node.value is not None:
        targets, value = [node.target], node.value
    else:
        return
    if not any(_is_named(target, name) for target in targets):
        return
    text = _literal(value)
    if text is not None and "{Question}" in text:
        yield node.lineno, text
    elif any(isinstance(part, ast.JoinedStr) for part in ast.walk(value)):
        problems.append(f"{where}:{node.lineno}: {name} is an f-string; write it as plain text with the two fields")


def _calls(node: ast.AST, name: str) -> Iterator[_Call]:
    if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "format"):
        return
    given = {keyword.arg: keyword.value for keyword in node.keywords}
    if not _is_named(node.func.value, name) or node.args or set(given) != {"Question", "Answer"}:
        return
    answer = _literal(given["Answer"])
    if answer is not None:
        steps = _steps(given["Question"])
        yield _Call(node.lineno, answer, _normalisation(steps), "".join(steps))


def _is_named(node: ast.AST, name: str) -> bool:
    return (isinstance(node, ast.Name) and node.id == name) or (isinstance(node, ast.Attribute) and node.attr == name)


def _literal(node: ast.AST) -> str | None:
    """The text of a literal or a sum of literals; adjacent literals are one already."""
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else None
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        left, right = _literal(node.left), _literal(node.right)
        return None if left is None or right is None else left + right
    return None


def _steps(node: ast.AST) -> list[str]:
    """The methods that are called on the question, such as [".lower()", ".strip('.')"]."""
    steps: list[str] = []
    while isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        arguments = ", ".join(ast.unparse(one) for one in (*node.args, *(keyword.value for keyword in node.keywords)))
        steps.insert(0, f".{node.func.attr}({arguments})")
        node = node.func.value
    return steps


def _normalisation(steps: Sequence[str]) -> str | None:
    return {(): "none", (".lower()", ".strip('.')"): "published"}.get(tuple(sorted(steps)))


def _filled(text: str, answer: str) -> str | None:
    """The text with {question} and the answer in its fields; None if it has other fields or broken ones."""
    parts, fields = [], {"Question": "{question}", "Answer": answer}
    try:
        pieces = list(string.Formatter().parse(text))
    except ValueError:
        return None
    for literal, field, layout, conversion in pieces:
        parts.append(literal)
        if field is not None:
            if field not in fields or layout or conversion:
                return None
            parts.append(fields[field])
    return "".join(parts)


def _split(whole: str) -> tuple[bool, str]:
    """Whether a newline follows the image, and the words; the image's placeholder is removed."""
    words = whole.removeprefix(PLACEHOLDER)
    return words.startswith("\n"), words.removeprefix("\n")


def write_prompt(found: Imported, path: Path) -> None:
    """Write the template file, atomically. Raises InputError for a place that holds something else already."""
    if path.exists():
        try:
            PromptTemplate.read(path)
        except InputError as error:
            raise InputError(f"{path} exists and is no prompt template; give another --out") from error
    try:
        found.template.write(path)
    except OSError as error:
        raise InputError(f"{path} cannot be written ({error.strerror}); give another --out") from error
