"""What ``seg-zero infer`` was asked: pictures, questions, and a name for each answer's files."""

from __future__ import annotations

import argparse
import glob
import os
import shlex
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from seg_zero.data.inputs import PICTURES, Line, find_file, read_table
from seg_zero.errors import InputError, counted, print_warning
from seg_zero.files import read_text, shown
from seg_zero.prompting import check_question

TABLES = (".csv", ".tsv", ".jsonl")
# Of files that are taken for clips when they are named without --video.
CLIPS = (".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ogv", ".3gp", ".wmv", ".flv")
# Names of the column of pictures, without case, blanks and underscores.
_PICTURE_COLUMNS = ("image", "imagepath", "imagefile", "imagename", "filename", "file", "path", "picture")
MAX_NAME = 150  # bytes; file systems take 255, with endings and temporary names


@dataclass(frozen=True)
class Question:
    """A question from a file, with the image it is about (None: every image)."""

    text: str
    image: Path | None = None


@dataclass(frozen=True)
class Job:
    """A question about an image; the files of its answer begin with ``name``, which no other job has, and files about
    all questions to the image with ``stem``, which no other image has."""

    image: Path
    question: str
    name: str
    stem: str


def sort_inputs(args: argparse.Namespace) -> None:
    """Put the words of ``args.inputs`` where --image_path, --video and --text put theirs: the question last.

    A single word is an image; so is the last one if the question is given by an option or if it is an existing file.
    A first word that ends as the name of a clip does is one, and with --video the only word is the question. Raises
    InputError if images are given in both ways, and for several clips.
    """
    words: list[str] = args.inputs
    if not words:
        return
    if args.video is None and words[0].lower().endswith(CLIPS):
        args.video = words.pop(0)
    if args.video is not None:
        if len(words) > 1 or (words and args.text is not None):
            other = "its question" if args.text is not None else repr(words[0])
            raise InputError(
                f"{words[-1]!r} stands beside the clip {args.video} and {other}; give one clip and one quoted question"
            )
        args.text = words[0] if words else args.text
        return
    if args.image_path is not None:
        raise InputError(f"{words[0]!r} stands beside --image_path {args.image_path[0]}; give images in one way")
    asked = args.text is not None or args.questions is not None
    if len(words) > 1 and not asked and not os.path.lexists(words[-1]):
        args.text = words.pop()
    elif len(words) > 1 and not asked:
        for word in words:
            if " " in word and not os.path.lexists(word) and not glob.glob(word):
                raise InputError(
                    f"image {word} does not exist; if it is the question, give it last: {shlex.join([words[-1], word])}"
                )
    args.image_path = words


def _picture_of(line: Line) -> str:
    """The picture that a line names, "" if none.

    Its column is found whatever its case, blanks and underscores. Raises InputError for a column that seems to name
    pictures, but is none of _PICTURE_COLUMNS.
    """
    for name in line.cells:
        plain = "".join(c for c in name.casefold() if c.isalnum())
        if plain in _PICTURE_COLUMNS:
            return line.text(name)
        if any(word in plain for word in ("image", "picture", "file", "path")):
            raise InputError(f"{line.where}: column {name!r} is unknown; call it image if it names the pictures")
    return ""


def find_images(given: Sequence[str]) -> list[Path]:
    """The pictures named by files, folders (without subfolders) and globs, each once, in the order given.

    Warns of the other files of a folder. Raises InputError for a path that does not exist, and for a folder or a glob
    without pictures.
    """
    found: dict[Path, None] = {}
    for one in given:
        path = Path(one).expanduser()
        if path.is_dir():
            some = [child for child in sorted(path.iterdir()) if _is_picture(child)]
            if not some:
                raise InputError(f"image folder {one} holds no pictures ({' '.join(PICTURES)})")
            print_warning(_skipped(one, path, some))
        elif path.exists() or not glob.has_magic(one):
            if not path.exists():
                raise InputError(f"image {one} does not exist; check the path")
            some = [path]
        else:
            some = [Path(name) for name in sorted(glob.glob(str(path), recursive=True)) if _is_picture(Path(name))]
            if not some:
                raise InputError(f"image pattern {one} matches no pictures ({' '.join(PICTURES)})")
        found.update(dict.fromkeys(some))
    return list(found)


def _skipped(given: str, folder: Path, taken: Sequence[Path]) -> str | None:
    """One line about the files of a folder that are not asked about, hidden ones aside; None if there are none."""
    files = [path for path in sorted(folder.iterdir()) if path.is_file() and not path.name.startswith(".")]
    others = [shown(path.name) for path in files if path not in set(taken)]
    if not others:
        return None
    names = ", ".join(others[:3]) + (" …" if len(others) > 3 else "")
    return f"image folder {given}: {counted(len(others), 'file')} skipped, no {' '.join(PICTURES)}: {names}"


def _is_picture(path: Path) -> bool:
    return path.suffix.lower() in PICTURES and path.is_file() and not path.name.startswith(".")


def read_questions(path: Path) -> list[Question]:
    """Questions from a text file (one a line), or from a CSV or JSONL table with ``question`` and maybe ``image``.

    Images are relative to the file. Either all lines name one or none does. Raises InputError for a file that
    cannot be read, has no questions, or has a line that is not a question.
    """
    if path.suffix.lower() in TABLES:
        lines = read_table(path, ["question"])
        for line in lines:
            if line.problem:
                raise InputError(line.problem)
        found = [(line.where, line.text("question"), _picture_of(line)) for line in lines]
    else:
        try:
            texts = read_text(path).split("\n")
        except OSError as error:
            raise InputError(f"questions file {path} cannot be read ({error.strerror}); check the path") from error
        except UnicodeDecodeError as error:
            raise InputError(
                f"questions file {path} is not UTF-8 text; save it as that, one question a line"
            ) from error
        found = [(f"{path} line {n}", text.strip(), "") for n, text in enumerate(texts, start=1) if text.strip()]
    if not found:
        raise InputError(f"questions file {path} holds no question; write one per line")
    named = sum(bool(image) for _, _, image in found)
    for where, question, image in found:
        try:
            check_question(question)
        except InputError as error:
            raise InputError(f"{where}: {error}") from None
        if named and not image:
            raise InputError(f"{where} names no image, though other lines do; add it")
    return [Question(text, find_file(path.parent, image) if image else None) for _, text, image in found]


def plan_jobs(images: Sequence[Path], questions: Sequence[Question]) -> list[Job]:
    """Each question about its image, or about every one of ``images`` if it has none; image by image.

    A job's name is its image's stem, with _q1, _q2 ... if there are several questions about the image, and
    with _2, _3 ... if another image has that stem (upper and lower case are one, as on some file systems).
    """
    pairs = [(image, question.text) for image in images for question in questions]
    if questions[0].image is not None:
        pairs = [(question.image, question.text) for question in questions if question.image is not None]
        first = {image: number for number, (image, _) in reversed(list(enumerate(pairs)))}
        pairs.sort(key=lambda pair: first[pair[0]])
    stems: dict[Path, str] = {}
    taken: set[str] = set()
    for image, _ in pairs:
        if image not in stems:
            stems[image] = _unused(
                shown(image.stem).replace("\\", "_").encode()[:MAX_NAME].decode(errors="ignore"), taken
            )
    count, asked = Counter(image for image, _ in pairs), Counter[Path]()
    jobs, taken = [], {stem.casefold() for image, stem in stems.items() if count[image] == 1}
    for image, question in pairs:
        asked[image] += 1
        single = count[image] == 1
        name = stems[image] if single else _unused(f"{stems[image]}_q{asked[image]}", taken)
        jobs.append(Job(image, question, name, stems[image]))
    return jobs


def _unused(wanted: str, taken: set[str]) -> str:
    """The name, numbered if it is taken; it is taken from now on."""
    name, number = wanted, 1
    while name.casefold() in taken:
        number += 1
        name = f"{wanted}_{number}"
    taken.add(name.casefold())
    return name
