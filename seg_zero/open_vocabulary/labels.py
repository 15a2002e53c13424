"""The labels of a picture: a name each, perhaps with synonyms, which share one channel."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from seg_zero.errors import InputError, one_line
from seg_zero.files import read_text

MAX_LABELS = 2000
LONGEST_NAME = 200  # characters


@dataclass(frozen=True)
class Label:
    """A class and the texts that mean it; the first is its name."""

    texts: tuple[str, ...]

    @property
    def name(self) -> str:
        return self.texts[0]


def parse_labels(labels: Sequence[str]) -> list[Label]:
    """Labels from strings such as "sky" or "cat, kitten" (synonyms of one class).

    Raises InputError if there is none, one is empty, or a text is given twice.
    """
    if isinstance(labels, str):
        raise InputError(
            f"labels {labels[:60]!r} are one string; give a list of strings, such as ['sky', 'cat, kitten']"
        )
    if len(labels) > MAX_LABELS:
        raise InputError(f"{len(labels):,} labels are more than {MAX_LABELS:,}; give those that may be in the pictures")
    parsed, seen = [], dict[str, int]()
    for number, label in enumerate(labels, start=1):
        if not isinstance(label, str):
            raise InputError(f"label {number} is {type(label).__name__} {str(label)[:40]!r}; give strings")
        texts = tuple(" ".join(text.split()) for text in label.split(","))
        wordless = next((text for text in texts if not any(c.isalnum() for c in text)), None)
        if wordless is not None:
            fault = "has no letter or digit" if wordless else "is empty or holds an empty synonym"
            raise InputError(f"label {number}, {label[:60]!r}, {fault}; give a word for each")
        if len(max(texts, key=len)) > LONGEST_NAME:
            raise InputError(f"label {number}, {label[:40]!r}..., is longer than {LONGEST_NAME} characters; shorten it")
        for text in texts:
            earlier = seen.setdefault(text.casefold(), number)
            if earlier != number or [t.casefold() for t in texts].count(text.casefold()) > 1:
                raise InputError(f"{text!r} is given twice, in labels {earlier} and {number}; leave one out")
        parsed.append(Label(texts))
    if not parsed:
        raise InputError("there is no label; give at least one, such as sky")
    return parsed


def texts_and_classes(labels: Iterable[Label]) -> tuple[list[str], list[int]]:
    """All texts in order, and the number of the class that each means."""
    pairs = [(text, number) for number, label in enumerate(labels) for text in label.texts]
    return [text for text, _ in pairs], [number for _, number in pairs]


def split_labels(given: str) -> list[str]:
    """Labels of a command line: "sky,grass", with synonyms "sky; cat, kitten", or a file.

    A file holds one label a line (with synonyms after commas), or a JSON list of strings. Raises InputError if it
    cannot be read.
    """
    path = Path(given).expanduser()
    if path.suffix.lower() in (".txt", ".json"):
        return _labels_of_file(path)
    return separated(given)


def separated(text: str) -> list[str]:
    """The labels of a line: "sky,grass", or with synonyms "sky; cat, kitten"."""
    return [part.strip() for part in text.split(";" if ";" in text else ",")]


def _labels_of_file(path: Path) -> list[str]:
    try:
        text = read_text(path)
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"labels {path} cannot be read ({one_line(error)}); give a text file, a label a line"
        ) from error
    if path.suffix.lower() == ".txt":
        return [line.strip() for line in text.splitlines() if line.strip()]
    try:
        found = json.loads(text)
    except json.JSONDecodeError as error:
        raise InputError(f"labels {path} are no JSON ({one_line(error)}); give a list of strings") from error
    if not isinstance(found, list) or not all(isinstance(item, str) for item in found):
        raise InputError(f"labels {path} hold no list of strings; give one, such as ['sky', 'cat, kitten']")
    return found
