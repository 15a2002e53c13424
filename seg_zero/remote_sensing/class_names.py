"""The one rule for names of classes: of texts that a network is asked about, and of the classes of a data set."""

from __future__ import annotations

from collections.abc import Sequence

from seg_zero.errors import InputError


def check_names(names: Sequence[str], place: str = "", most: int | None = None) -> tuple[str, ...]:
    """The names as they are. Each holds a letter or a digit, and no two differ only in case or spaces: CLIP's tokeniser
    takes such for the same text.

    place: the file or data set that holds them, for messages. most: how many there may be, where values of a label map
    number them; the number of texts has no limit. Raises InputError.
    """
    where = f"{place}: " if place else ""
    if not names:
        raise InputError(f"{where}no class name; give at least one")
    if most is not None and len(names) > most:
        raise InputError(f"{where}{len(names)} classes are more than a label map of 8 bits can hold, {most}")
    seen: dict[str, str] = {}
    for name in names:
        if not any(character.isalnum() for character in name):
            raise InputError(f"{where}class name {name!r} is no word; give each class a name")
        key = " ".join(name.split()).casefold()
        if key in seen:
            same = seen[key] == name
            pair = f"class names {seen[key]!r} and {name!r} differ only in case or spaces"
            problem = f"class name {name!r} is given twice" if same else pair
            raise InputError(f"{where}{problem}; give each class one name of its own")
        seen[key] = name
    return tuple(names)
