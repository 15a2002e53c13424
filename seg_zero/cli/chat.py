"""The command ``seg-zero chat``: a conversation about one picture."""

from __future__ import annotations

import contextlib
import json
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from seg_zero.cli.infer import in_full
from seg_zero.cli.options import add_model_options, prompt_template_of, segmenter_of
from seg_zero.command_line import CommandParser
from seg_zero.errors import InputError, print_error, print_note
from seg_zero.files import check_folder_place, read_text

if TYPE_CHECKING:
    from seg_zero.dialogue.session import Dialogue
    from seg_zero.results.result import SegmentationResult

DEFAULT_FOLDER = Path("outputs/chat")
SAVED = "dialogue.json"
UNDO, CLEAR, EXIT = ("undo",), ("clear", "clear history"), ("exit", "quit")
_OURS = re.compile(r"round_\d{2,}_(overlay|mask)\.png")
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
    image, earlier = args.image, 0
    if args.load is not None:
        saved = read_dialogue(args.load, args.max_rounds)
        image, earlier = image or saved.image_name or None, len(saved.records)
        if image is None:
            raise InputError(f"dialogue {args.load} was held about a picture without a name; name the image")
    given, image = image, image or str(EXAMPLE_IMAGE)
    script = None if args.script is None else read_script(args.script, earlier, args.max_rounds)
    picture = load_image(image)
    if args.load is not None:
        saved.for_image(picture)
    folder = args.out or DEFAULT_FOLDER / Path(image).stem
    check_folder_place(folder)
    check_here("policy", resolve_model(args.reasoning_model_path))

    segmenter = segmenter_of(args, template)
    if given is None:
        print_note(f"no image given: the example {image}")
    options = {"references": args.references, "carry": args.carry, "max_rounds": args.max_rounds}
    dialogue = segmenter.dialogue(image, **options)
    if args.load is not None:
        dialogue.restore(saved)
    chat = Chat(dialogue, folder, as_json=args.json)
    chat.write_all()
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
    made.add_argument("--out", type=Path, help=f"folder for pictures and {SAVED} (default: {DEFAULT_FOLDER}/NAME)")
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
    """A dialogue whose rounds are printed and written to a folder as they come."""

    def __init__(self, dialogue: Dialogue, folder: Path, *, as_json: bool = False) -> None:
        self.dialogue, self.folder, self._as_json = dialogue, folder, as_json

    def say(self, line: str, *, allow_empty: bool = False) -> None:
        """Do what one line says: a question, undo or clear. Raises InputError; the dialogue is then as it was."""
        word = " ".join(line.split()).casefold()
        if word in UNDO:
            self.dialogue.undo()
            self._tell(f"round {len(self.dialogue.rounds) + 1} is taken back")
        elif word in CLEAR:
            self.dialogue.clear()
            self._tell("all rounds are forgotten")
        else:
            result = self.dialogue.ask(line, allow_empty=allow_empty)
            self._show(result, self._write(len(self.dialogue.rounds), result))
        self._save()

    def write_all(self) -> None:
        """Write the rounds that a loaded dialogue has."""
        for number, item in enumerate(self.dialogue.rounds, start=1):
            self._write(number, item.result)
        self._save()

    def _write(self, number: int, result: SegmentationResult) -> dict[str, str]:
        return result.save(self.folder, f"round_{number:02d}", ("overlay", "mask"))

    def _save(self) -> None:
        """Write the dialogue, and remove pictures of rounds that it no longer has."""
        if (self.folder / SAVED).is_file():
            for file in self.folder.iterdir():
                if _OURS.fullmatch(file.name) and int(file.name.split("_")[1]) > len(self.dialogue.rounds):
                    file.unlink()
        self.dialogue.save(self.folder / SAVED)

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
            print(_HELP)
        elif word:
            try:
                chat.say(line)
            except InputError as error:
                print_error(error)
    return 0


def _typed(chat: Chat, *, quiet: bool) -> Iterator[str]:
    """Lines as they are typed, or piped in."""
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
