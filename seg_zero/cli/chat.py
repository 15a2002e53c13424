"""The command ``seg-zero chat``: a conversation about one picture."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from seg_zero.cli.infer import in_full
from seg_zero.cli.options import add_model_options, prompt_template_of, segmenter_of
from seg_zero.command_line import CommandParser
from seg_zero.errors import InputError, counted, print_error, print_note
from seg_zero.files import check_folder_place, read_text

if TYPE_CHECKING:
    from seg_zero.dialogue.memory import Round
    from seg_zero.dialogue.session import Dialogue
    from seg_zero.results.result import SegmentationResult

DEFAULT_FOLDER = Path("outputs/chat")
SAVED = "dialogue.json"
UNDO, CLEAR, EXIT = ("undo",), ("clear", "clear history"), ("exit", "quit")
PICTURES = ("overlay", "mask")
_ROUND = re.compile(rf"round_\d{{2,}}_({'|'.join(PICTURES)})\.png")
_HELP = "a question, with [REF:1] or 'instance 1' for earlier rounds; or undo, clear, exit"


def main(argv: Sequence[str]) -> int:
    """Ask about a picture, then about what was found: rounds typed at a prompt, or from a script."""
    args = parser().parse_args(argv)
    if args.max_new_tokens < 1:
        raise InputError(f"--max_new_tokens {args.max_new_tokens} must be at least 1")
    if args.max_rounds < 1:
        raise InputError(f"--max_rounds {args.max_rounds} must be at least 1")
    template = prompt_template_of(args)
    from seg_zero.assets import EXAMPLE_IMAGE
    from seg_zero.dialogue.renderers import renderer_for
    from seg_zero.dialogue.saving import read_dialogue
    from seg_zero.hub import check_here
    from seg_zero.images import load_image
    from seg_zero.policy.model_files import resolve_model

    renderer_for(args.references, args.carry)
    image, earlier = args.image or None, 0
    if args.load is not None:
        saved = read_dialogue(args.load, args.max_rounds)
        image, earlier = str(saved.image_or(image, "name the image, as in: chat IMAGE --load FILE")), len(saved.records)
    given, image = image, image or str(EXAMPLE_IMAGE)
    script = None if args.script is None else read_script(args.script, earlier, args.max_rounds)
    picture = load_image(image)
    if args.load is not None:
        saved.for_image(picture)
    folder = args.out or (DEFAULT_FOLDER / Path(image).stem if args.load is None else args.load.parent)
    check_place(folder, args.load)
    check_here("policy", resolve_model(args.reasoning_model_path))

    segmenter = segmenter_of(args, template)
    if given is None:
        print_note(f"no image given: the example {image}")
    options = {"references": args.references, "carry": args.carry, "max_rounds": args.max_rounds}
    dialogue = segmenter.dialogue(image, **options)
    if args.load is not None:
        dialogue.restore(saved)
    chat = Chat(dialogue, folder, args.load, as_json=args.json)
    if script is None:
        return _interactive(chat, quiet=args.json)
    for number, line in script:
        if line.casefold() in EXIT:
            break
        try:
            chat.say(line, allow_empty=True)
        except InputError as error:
            raise InputError(f"{args.script} line {number}: {error}") from error
    return 0


def parser() -> CommandParser:
    made = CommandParser("chat", main.__doc__)
    add_model_options(made)
    made.add_argument(
        "--dtype", help="policy precision: float32, bfloat16, float16 (default: bfloat16 on CUDA, else float32)"
    )
    made.add_argument("image", nargs="?", metavar="IMAGE", help="the picture (default: an example scene)")
    made.add_argument(
        "--script", type=Path, help="text file of a fixed conversation: one question a line, undo, clear, # comments"
    )
    made.add_argument(
        "--out", type=Path, help=f"folder for pictures and {SAVED} (default: {DEFAULT_FOLDER}/NAME, or that of --load)"
    )
    made.add_argument("--load", type=Path, metavar="FILE", help=f"go on with a {SAVED}")
    made.add_argument(
        "--references",
        choices=("text", "crop", "marks", "mask"),
        default="text",
        help="how earlier masks re-enter (docs/dialogue.md)",
    )
    made.add_argument("--carry", choices=("all", "references"), default="all", help="rounds that the policy is told of")
    made.add_argument("--max_rounds", type=int, default=20, help="most rounds of a conversation")
    made.add_argument("--json", action="store_true", help="print one JSON object per round and nothing else")
    return made


class Chat:
    """A dialogue whose rounds are printed and written to a folder as they come; nothing is before the first change.

    loaded: the file that the dialogue comes from, None if it is a new one.
    """

    def __init__(self, dialogue: Dialogue, folder: Path, loaded: Path | None = None, *, as_json: bool = False) -> None:
        self.dialogue, self.folder, self._loaded, self._as_json = dialogue, folder, loaded, as_json
        self._written = False
        self._drawn: list[Round] = []  # whose pictures are there
        # Rounds whose pictures in the folder are this dialogue's.
        self._ours = len(dialogue.rounds) if _is_file(loaded, folder / SAVED) else 0

    def say(self, line: str, *, allow_empty: bool = False) -> None:
        """Do what one line says: a question, undo or clear. Raises InputError; the dialogue is then as it was."""
        if not self._written:  # another chat may have begun there since
            check_place(self.folder, self._loaded)
        word = " ".join(line.split()).casefold()
        if word in UNDO:
            self.dialogue.undo()
            self._write()
            self._tell(f"round {len(self.dialogue.rounds) + 1} is taken back")
        elif word in CLEAR:
            if self.dialogue.rounds:
                self.dialogue.clear()
                self._write()
            self._tell("all rounds are forgotten")
        else:
            result = self.dialogue.ask(line, allow_empty=allow_empty)
            self._show(result, self._write())

    def _write(self) -> dict[str, str]:
        """Write the dialogue and the pictures that are not there yet, and remove those of rounds that it no longer has.

        Returns the pictures of the last round that was drawn.
        """
        rounds, files = self.dialogue.rounds, dict[str, str]()
        self.dialogue.save(self.folder / SAVED)
        self._written = True
        for number, item in enumerate(rounds, start=1):
            if number > len(self._drawn) or self._drawn[number - 1] is not item:
                self._ours = max(self._ours, number)
                files = item.result.save(self.folder, f"round_{number:02d}", PICTURES)
        for number in range(len(rounds) + 1, self._ours + 1):
            for picture in PICTURES:
                (self.folder / f"round_{number:02d}_{picture}.png").unlink(missing_ok=True)
        self._drawn, self._ours = list(rounds), len(rounds)
        return files

    def _tell(self, words: str) -> None:
        if not self._as_json:
            print(words, flush=True)

    def _show(self, result: SegmentationResult, files: dict[str, str]) -> None:
        number = len(self.dialogue.rounds)
        references = list(self.dialogue.rounds[-1].references)
        if self._as_json:
            seconds = {name: round(value, 4) for name, value in result.seconds.items()}
            record = {"round": number, "references": references, **result.to_dict(per_object=False)}
            print(json.dumps({**record, "files": files, "seconds": seconds}, ensure_ascii=False), flush=True)
            return
        about = f", refers to {', '.join(map(str, references))}" if references else ""
        print(f"round {number}{about}\n{in_full(result, files, written=False)}\n", flush=True)


def check_place(folder: Path, loaded: Path | None = None) -> None:
    """Raises InputError for a folder that takes no files, or that holds rounds of another dialogue than ``loaded``, a
    file that is none, or pictures with the names of rounds."""
    from seg_zero.dialogue.saving import read_dialogue

    check_folder_place(folder)
    place = folder / SAVED
    if place.is_dir():
        raise InputError(f"{place} is a folder, where the dialogue is to be written; give another --out")
    if _is_file(loaded, place):
        return
    if not os.path.lexists(place):
        found = sorted(file.name for file in folder.iterdir() if _ROUND.fullmatch(file.name)) if folder.is_dir() else []
        if found:
            raise InputError(f"{folder} holds {found[0]}, but no {SAVED}; move it away, or give another --out")
        return
    try:
        rounds = len(read_dialogue(place, sys.maxsize).records)
    except InputError as error:
        raise InputError(
            f"{place} cannot be read as a dialogue, and is kept; move it away, or give another --out"
        ) from error
    if rounds:
        raise InputError(
            f"{folder} holds a dialogue of {counted(rounds, 'round')}; go on with --load {place}, or give another --out"
        )


def _is_file(loaded: Path | None, place: Path) -> bool:
    return loaded is not None and place.is_file() and loaded.is_file() and place.samefile(loaded)


def read_script(path: Path, earlier: int, max_rounds: int) -> list[tuple[int, str]]:
    """The lines of a script with their numbers, without blank ones and comments.

    earlier: rounds that are there at its beginning. Raises InputError, naming the line, for what cannot be asked
    whatever the answers are.
    """
    from seg_zero.dialogue.memory import check_references
    from seg_zero.dialogue.references import read_question
    from seg_zero.prompting import check_question

    try:
        texts = read_text(path).split("\n")
    except OSError as error:
        raise InputError(f"script {path} cannot be read ({error.strerror}); check the path") from error
    except UnicodeDecodeError as error:
        raise InputError(f"script {path} is not UTF-8 text; save it as that, one question a line") from error
    stripped = ((number, text.strip()) for number, text in enumerate(texts, start=1))
    lines = [(number, text) for number, text in stripped if text and not text.startswith("#")]
    if not lines:
        raise InputError(f"script {path} holds no question; write one per line")
    rounds = earlier
    for number, line in lines:
        word = " ".join(line.split()).casefold()
        try:
            if word in EXIT:
                break
            if word in CLEAR:
                rounds = 0
            elif word in UNDO:
                if not rounds:
                    raise InputError("there is no round to undo")
                rounds -= 1
            else:
                asked = read_question(line)
                check_question(asked.question)
                if rounds >= max_rounds:
                    raise InputError(f"a dialogue has at most {max_rounds} rounds; raise --max_rounds")
                check_references(asked, [True] * rounds)
                rounds += 1
        except InputError as error:
            raise InputError(f"{path} line {number}: {error}") from error
    return lines


def _interactive(chat: Chat, *, quiet: bool) -> int:
    for line in _typed(chat, quiet=quiet):
        word = line.casefold()
        if word in EXIT:
            break
        if word in ("help", "?"):
            print(_HELP, file=sys.stderr if quiet else sys.stdout, flush=True)
        elif word:
            try:
                chat.say(line)
            except InputError as error:
                print_error(error)
    return 0


def _typed(chat: Chat, *, quiet: bool) -> Iterator[str]:
    """Lines as they are typed, or piped in."""
    if isinstance(sys.stdin, io.TextIOWrapper):  # what is not UTF-8 is refused with its question
        sys.stdin.reconfigure(errors="surrogateescape")
    watched = sys.stdin.isatty() and not quiet
    if watched:
        with contextlib.suppress(ImportError):  # editing of lines; Windows has none
            import readline  # noqa: F401
        print(f"{_HELP}; files go to {chat.folder}")
    while True:
        try:
            yield input(f"{len(chat.dialogue.rounds) + 1}> " if watched else "").strip()
        except EOFError:
            return
