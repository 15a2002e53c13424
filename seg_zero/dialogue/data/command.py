"""``seg-zero data dialogues``: makes, imports and checks files of dialogues."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from seg_zero.data.builders.instances import existing_folder, read_json
from seg_zero.data.inputs import add_split_options
from seg_zero.dialogue.data import instances, mrseg, proof, regiondial, synthetic
from seg_zero.dialogue.data.corrections import dialogues_of_rows
from seg_zero.dialogue.data.generate import FORMS
from seg_zero.dialogue.data.mask_sources import MaskFiles
from seg_zero.dialogue.data.records import Reading, TrueRound, drawing, read_dialogues, read_each, write_dialogues
from seg_zero.dialogue.turns import MAX_CORRECTIONS
from seg_zero.errors import InputError
from seg_zero.files import check_file_place, write_text

_SHOWN = 20  # bad records that are printed
_RANGES = {"count": (1, None), "rounds": (2, 100), "side": (32, 2048), "turns": (1, MAX_CORRECTIONS)}
SYNTHETIC = "synthetic pictures"
# By option: the sources that use it.
_USED_BY = {
    "images": ("--instances", "--mrseg", "--regiondial"),
    "masks": ("--mrseg",),
    "rounds": (SYNTHETIC, "--instances"),
    "turns": ("--rows",),
    "side": (SYNTHETIC,),
    "scenes": (SYNTHETIC,),
    "parts": (SYNTHETIC,),
    "forms": (SYNTHETIC, "--instances"),
    "split": (SYNTHETIC, "--instances"),
    "val_fraction": ("--instances",),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--instances", type=Path, metavar="FILE", help="make dialogues from an instances file (COCO's)")
    source.add_argument("--mrseg", type=Path, metavar="FILE", help="import conversations of MRSeg (SegLLM)")
    source.add_argument("--regiondial", type=Path, metavar="FILE", help="import turns of RegionReasoner")
    source.add_argument("--rows", metavar="DATA", help="dataset rows with masks: ask, then ask to correct the answer")
    source.add_argument("--check", type=Path, metavar="FILE", help="check a file of dialogues; nothing is written")
    parser.add_argument("--out", type=Path, help="file to write, .jsonl (default source: synthetic scenes, beside it)")
    parser.add_argument("--images", help="folder of the pictures of --instances, --mrseg and --regiondial")
    parser.add_argument(
        "--masks",
        action="append",
        default=[],
        metavar="SET=PLACE",
        help="with --mrseg: where a set's masks are (docs/dialogue.md); may be given several times",
    )
    parser.add_argument("--count", type=int, help="dialogues (default: 300 of synthetic scenes, else all)")
    parser.add_argument("--rounds", type=int, default=6, help="most rounds of a made dialogue (default: 6)")
    parser.add_argument("--turns", type=int, default=1, help="with --rows: corrections of each answer (default: 1)")
    parser.add_argument("--side", type=int, default=112, help="side of synthetic pictures in pixels (default: 112)")
    parser.add_argument(
        "--scenes",
        choices=synthetic.SCENES,
        default="shapes",
        help="synthetic scenes: shapes, or shapes with parts (cap, stripe, base) that are asked for (default: shapes)",
    )
    parser.add_argument("--parts", action="store_true", help="with --scenes shapes: each has a core to be asked for")
    parser.add_argument("--forms", choices=tuple(FORMS), default="own", help="how questions are put (default: own)")
    parser.add_argument("--skip-bad", action="store_true", help="leave out records that cannot be used, and list them")
    add_split_options(parser)


def run(args: argparse.Namespace) -> int:
    """The command ``seg-zero data dialogues``."""
    _check_used(args)
    if args.check is not None:
        return _check(args.check)
    if args.out is None:
        raise InputError("--out is missing; name the file to write, such as dialogues.jsonl")
    if args.out.suffix.lower() != ".jsonl":
        raise InputError(f"--out {args.out} does not end in .jsonl; name a file of JSON lines")
    check_file_place(args.out)
    for name, (least, most) in _RANGES.items():
        value = getattr(args, name)
        if value is not None and value < least:
            raise InputError(f"--{name} {value} must be at least {least}")
        if value is not None and most is not None and value > most:
            raise InputError(f"--{name} {value} must be at most {most}")
    if args.parts and args.scenes == "parts":
        raise InputError("--parts gives shapes a core and is for --scenes shapes; leave it out with --scenes parts")
    with drawing(args.out) as pictures:
        reading = _made(args, pictures)
        for line in _lines(reading):
            print(f"{'skipped: ' if args.skip_bad else ''}{line}")
        if reading.bad and args.skip_bad:
            write_text(Path(f"{args.out}.skipped.txt"), "".join(f"{bad.line()}\n" for bad in reading.bad))
            reading = replace(reading, bad=[])
        written = write_dialogues(args.out, reading.usable(), pictures)
    print(f"{written} dialogues of {reading.rounds} rounds written to {args.out}")
    print(_relations(reading))
    return 0


def _check_used(args: argparse.Namespace) -> None:
    """Raises InputError for an option that the source does not use."""
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    given = [
        f"--{name}" for name in ("instances", "mrseg", "regiondial", "rows", "check") if getattr(args, name) is not None
    ]
    source = given[0] if given else SYNTHETIC
    options = dict(_USED_BY)
    if source == "--check":
        options |= dict.fromkeys(("out", "count", "skip_bad"), ("the command without --check",))
    for name, sources in options.items():
        value = getattr(args, name)
        if value == parser.get_default(name) or source in sources:
            continue
        shown = "" if value is True else f" {value[0] if isinstance(value, list) else value}"
        raise InputError(f"--{name.replace('skip_', 'skip-')}{shown} is for {' and '.join(sources)}; leave it out")


def _made(args: argparse.Namespace, pictures: Path) -> Reading:
    """pictures: folder for those that are drawn."""
    if args.instances or args.mrseg or args.regiondial:
        return _imported(args)
    if args.rows is not None:
        return dialogues_of_rows(args.rows, pictures, args.turns, args.count)
    return _synthetic(args, pictures)


def _synthetic(args: argparse.Namespace, pictures: Path) -> Reading:
    seed = synthetic.SEEDS["val" if args.split == "val" else "train"]
    options = {"side": args.side, "rounds": args.rounds, "parts": args.parts, "forms": args.forms}
    made = synthetic.make_dialogues(pictures, seed, args.count or 300, scenes=args.scenes, **options)
    return proof.with_proofs(Reading("synthetic scenes", list(made)))


def _imported(args: argparse.Namespace) -> Reading:
    if args.images is None:
        raise InputError("--images is missing; name the folder of the pictures")
    if args.instances is not None:
        return proof.with_proofs(
            instances.dialogues_of_instances(
                args.instances,
                args.images,
                split=args.split,
                val_fraction=args.val_fraction,
                count=args.count,
                rounds=args.rounds,
                forms=args.forms,
            )
        )
    folder = existing_folder("--images", args.images)
    path = args.mrseg or args.regiondial
    records = read_json(path, "conversations")
    if not isinstance(records, list):
        raise InputError(f"{path} holds a JSON {type(records).__name__}, not a list of conversations")
    records = records[: args.count]
    if args.regiondial is not None:
        return read_each(str(path), records, lambda n, item: regiondial.dialogue_of_turns(item, n, folder))
    masks = MaskFiles(_places(args.masks))

    def read(number: int, record: Any) -> Any:
        conversation = mrseg.read_conversation(record, lambda image: mrseg.has_picture(folder, image))
        name = f"{conversation.name or path.stem}-{number}"
        return mrseg.dialogue_of(conversation, name, folder, masks)

    return read_each(str(path), records, read)


def _places(texts: Sequence[str]) -> dict[str, Path]:
    """The place of each set. Raises InputError for a set that is named twice."""
    places: dict[str, Path] = {}
    for name, place in map(_place, texts):
        if name in places:
            raise InputError(f"--masks names the set {name!r} twice, {places[name]} and {place}; give one of them")
        places[name] = place
    return places


def _place(text: str) -> tuple[str, Path]:
    name, equals, place = text.partition("=")
    if not equals or not name or not place:
        raise InputError(f"--masks {text!r} is not SET=PLACE, such as refcoco=instances.json")
    return name, Path(place)


def _check(path: Path) -> int:
    """List what cannot be used, and targets that are not the only ones that their question means."""
    reading = proof.with_proofs(read_dialogues(path))
    if not reading.dialogues and not reading.bad:
        raise InputError(f"{path} holds no dialogue; check the file")
    proved = sum(one.rule is not None for item in reading.dialogues for one in item.rounds)
    print(f"{path}: {len(reading.dialogues) + len(reading.bad)} records, {len(reading.bad)} of which cannot be used")
    for line in _lines(reading):
        print(f"  {line}")
    print(f"{reading.rounds} rounds; {proved} targets are proved to be unique, the others say no rule")
    if reading.dialogues:
        print(_relations(reading))
    return 1 if reading.bad else 0


def _lines(reading: Reading) -> Sequence[str]:
    lines = [bad.line() for bad in reading.bad[:_SHOWN]]
    more = len(reading.bad) - _SHOWN
    return [*lines, f"… and {more} more"] if more > 0 else lines


def _relations(reading: Reading) -> str:
    """How many rounds there are of each relation, and of dialogues of each length."""
    rounds = [one for item in reading.dialogues for one in item.rounds]
    relations = Counter(_relation(one) for one in rounds)
    lengths = Counter(len(item.rounds) for item in reading.dialogues)
    lines = [f"  {count:>7}  {name}" for name, count in relations.most_common()]
    return "\n".join([*lines, *(f"  {lengths[length]:>7}  dialogues of {length} rounds" for length in sorted(lengths))])


def _relation(one: TrueRound) -> str:
    rule = one.rule or {}
    return (
        f"{rule['relation']} a named whole" if "whole" in rule else rule.get("relation") or one.asked.relation or "none"
    )
