"""Settings from JSON or YAML: mappings to dataclasses, each value of its type, unknown keys refused by name."""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Mapping
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from seg_zero.command_line import did_you_mean
from seg_zero.errors import InputError

T = TypeVar("T")


def read(kind: type[T], values: object, where: str = "") -> T:
    """A dataclass from a mapping. Fields left out keep their defaults.

    where: the name of the section, for messages. Raises InputError for an unknown key, naming the nearest, for a
    missing one, and for a value of another type; what the dataclass itself refuses, it refuses.
    """
    if not isinstance(values, Mapping):
        raise InputError(f"{where or 'settings'}={values!r} is no section; give its keys")
    fields = {field.name: field for field in dataclasses.fields(kind) if field.init}  # type: ignore[arg-type]
    hints = get_type_hints(kind)
    for key in values:
        if key not in fields:
            near = did_you_mean(str(key), fields) or f"; there are {', '.join(fields)}"
            raise InputError(f"unknown key {_join(where, str(key))!r}{near}")
    for name, field in fields.items():
        needed = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        if needed and name not in values:
            raise InputError(f"{_join(where, name)} is not set; give it")
    return kind(**{str(key): _value(hints[str(key)], value, _join(where, str(key))) for key, value in values.items()})


def plain(value: Any) -> Any:
    """A dataclass as what JSON holds: :func:`read` reads it back."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value) if field.init}
    if isinstance(value, list | tuple):
        return [plain(part) for part in value]
    return value


def _join(where: str, name: str) -> str:
    return f"{where}.{name}" if where else name


def _value(hint: Any, value: object, where: str) -> Any:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        if value is None and type(None) in arguments:
            return None
        (hint,) = (argument for argument in arguments if argument is not type(None))
        return _value(hint, value, where)
    if dataclasses.is_dataclass(hint):
        return read(hint, value, where)  # type: ignore[arg-type]
    if origin is Literal:
        if value not in arguments:
            raise InputError(
                f"{where}={value!r} is unknown; choose one of {', '.join(str(one) or repr(one) for one in arguments)}"
            )
        return value
    if origin is tuple:
        inner = arguments[0]
        length = None if arguments[-1] is Ellipsis else len(arguments)
        if not isinstance(value, list | tuple) or (length is not None and len(value) != length):
            raise InputError(
                f"{where}={value!r} is not {'a list' if length is None else f'{length} values'}; give them"
            )
        return tuple(_value(inner, part, where) for part in value)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, hint) or (isinstance(value, bool) and hint is not bool):
        names = {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}
        raise InputError(f"{where}={value!r} is not {names.get(hint, hint.__name__)}; change it")
    return value
