"""Sets of dialogues by name, and files of dialogues."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from seg_zero.dialogue.data.records import DialogueRecord, drawing, is_dialogue_file, read_dialogues, write_dialogues
from seg_zero.dialogue.data.synthetic import SEEDS, make_dialogues
from seg_zero.errors import InputError
from seg_zero.evaluation.sets import FOLDER


def _mrseg(name: str, masks: str, file: str = "") -> str:
    conversations = f"conversations_folder/{file or f'{name}_val'}.json"
    command = f"seg-zero data dialogues --mrseg {conversations} --images images_folder"
    return f"{command} --masks {masks} --out {FOLDER}/{name}.jsonl"


def _regiondial(name: str) -> str:
    return f"seg-zero data dialogues --regiondial {name}.json --images ROOT --out {FOLDER}/{name}.jsonl"


SYNTHETIC = "synthetic_dialogues"
SYNTHETIC_FILE = Path("outputs/data/synthetic_dialogues.jsonl")
SYNTHETIC_COUNT = 100

# Name -> the command that makes it from the originals.
DIALOGUE_SETS: dict[str, str] = {
    "mr_refcoco": _mrseg("mr_refcoco", "refcoco=instances.json"),
    "mr_refcoco+": _mrseg("mr_refcoco+", "refcoco+=instances.json"),
    "mr_refcocog": _mrseg("mr_refcocog", "refcocog=instances.json"),
    "mr_paco": _mrseg("mr_paco", "paco_lvis=paco_lvis_v1_val.json"),
    **{
        f"{name}_{forms}": _mrseg(f"{name}_{forms}", f"{name}=instances.json", f"{name}_val_{forms}_templates")
        for name in ("refcoco", "refcoco+", "refcocog")
        for forms in ("lisa", "sesame")
    },
    "regiondial_refcoco+": _regiondial("regiondial_refcoco+"),
    "regiondial_refcocog": _regiondial("regiondial_refcocog"),
}


def is_dialogue_set(name: str) -> bool:
    return name in (SYNTHETIC, *DIALOGUE_SETS) or is_dialogue_file(Path(name))


def open_dialogue_set(name: str) -> Sequence[DialogueRecord]:
    """The dialogues of a named set (``data/NAME.jsonl``) or of a file.

    ``synthetic_dialogues`` are held-out scenes with parts, generated if needed. Raises InputError that says how to make
    a missing set, and for a record that cannot be used.
    """
    path = SYNTHETIC_FILE if name == SYNTHETIC else Path(name)
    if name == SYNTHETIC and not path.is_file():
        with drawing(path) as images:
            write_dialogues(path, make_dialogues(images, SEEDS["val"], SYNTHETIC_COUNT, parts=True), images)
    if name in DIALOGUE_SETS:
        path = FOLDER / f"{name}.jsonl"
        if not path.is_file():
            raise InputError(f"dialogues {name} are not at {path}; make them from the originals: {DIALOGUE_SETS[name]}")
    return read_dialogues(path).usable()
