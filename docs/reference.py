"""Writes docs/commands.md from the commands' parsers and docs/configuration.md from configs/: ``make reference``."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterable, Iterator
from functools import cache
from importlib import import_module
from pathlib import Path

import yaml

from seg_zero.cli.data import BUILDERS
from seg_zero.cli.main import COMMANDS, module_of
from seg_zero.command_line import PROGRAM, CommandParser

DOCS = Path(__file__).resolve().parent
CONFIGS = DOCS.parent / "configs"
GENERATED = "<!-- Written by `make reference`; changes go into the code or into configs/. -->"
GROUPS = {  # in the order of docs/training.md
    "policy": "model, prompt, image size ([policies](policies.md))",
    "data": "rows, prompt and response lengths ([data](data.md))",
    "reward": "which terms, their weights and settings ([rewards](rewards.md))",
    "hardware": "layout, memory, speed, but not the result ([GPU layouts](training.md#gpu-layouts))",
    "algorithm": "the loss ([algorithms](algorithms.md))",
    "dialogue": "what a row is ([dialogues](dialogue.md#training))",
    "schedule": "batch, samples per question, learning rate, length of the run ([training](training.md))",
}
OMITTED = (
    *("defaults", "hydra", "actor_rollout_ref", "trainer.v1", "trainer.checkpoint_callback_class"),
    *("trainer.default_local_dir", "trainer.validation_data_dir"),
)
_PLAIN = re.compile(r"(`[^`]*`)|([\\*<|])")


def commands_page() -> str:
    parts = [
        "# Commands",
        GENERATED,
        f"`{PROGRAM} COMMAND --help` prints these options in the terminal. `-` and `_` in their names are alike: "
        f"`--image-path` is `--image_path`. Bad input ends in one line on standard error and exit code 2 "
        f"([error messages](errors.md)). `{PROGRAM} --version` prints the version.",
        _table(
            ("command", "what it does"),
            ((f"[`{name}`](#{PROGRAM}-{name})", _escaped(text)) for name, text in COMMANDS.items()),
        ),
    ]
    for name, text in COMMANDS.items():
        module = import_module(module_of(name))
        parts.append(f"## {PROGRAM} {name}")
        if hasattr(module, "parsers"):
            parts += [_escaped(text), *_nested(module.parsers())]
        else:
            parts += _command(module.parser())
    return "\n\n".join(parts) + "\n"


def _nested(parsers: dict[str, CommandParser]) -> Iterator[str]:
    """Commands below one, what all builders of datasets share told once."""
    of_builders = [_options(made) for name, made in parsers.items() if name in BUILDERS]
    shared = [row for row in of_builders[0] if all(row in rows for rows in of_builders)] if of_builders else []
    for name, made in parsers.items():
        yield f"### {made.prog}"
        yield from _command(made, shared if name in BUILDERS else ())
    if shared:
        yield f"### All builders of {PROGRAM} data"
        yield _table(("option", "meaning"), shared)


def _command(parser: CommandParser, shared: Iterable[tuple[str, str]] = ()) -> Iterator[str]:
    options = _options(parser)
    told = [row for row in options if row not in shared]
    yield _escaped(parser.description or "")
    if told:
        yield _table(("option", "meaning"), told)
    if len(told) < len(options):
        yield f"Further options are those of [all builders](#all-builders-of-{PROGRAM}-data)."


def _options(parser: CommandParser) -> list[tuple[str, str]]:
    """Each option with its names and value, and its help with the default, as ``--help`` has them."""
    formatter = parser._get_formatter()
    rows = []
    for action in sorted(parser._actions, key=lambda each: bool(each.option_strings)):
        if action.help == argparse.SUPPRESS or isinstance(action, argparse._HelpAction):
            continue
        names = ", ".join(f"`{name}`" for name in action.option_strings)
        value = formatter._format_args(action, formatter._get_default_metavar_for_optional(action))
        if not action.option_strings:
            names, value = f"`{formatter._format_args(action, action.dest)}`", ""
        rows.append((f"{names} `{value}`" if value else names, _escaped(formatter._expand_help(action))))
    return rows


def configuration_page() -> str:
    parts = [
        "# Configuration",
        GENERATED,
        "Keys that you can override after a launch script or `seg-zero train`, as `KEY=VALUE`; `GROUP=NAME` takes "
        "another file of a group. The files are in `configs/`, on top of verl's own `ppo_trainer` configuration, whose "
        "keys work as well. `--dry-run --yaml` prints the result ([training](training.md)).",
        _table(
            ("group", "sets", "files"),
            (
                (f"[`{group}=`](#{group})", text, ", ".join(f"`{file.stem}`" for file in _files(group)))
                for group, text in GROUPS.items()
            ),
        ),
        "`${KEY}` is the value of another key. verl's own keys (`actor_rollout_ref` and the like), which take their "
        "values from these, are in `configs/grpo.yaml`.",
        "## All runs",
        _keys(CONFIGS / "grpo.yaml", omit=OMITTED),
    ]
    for group in GROUPS:
        parts.append(f"## {group}")
        for file in _files(group):
            about, starts = _about(file)
            parts += [f"### {group}={file.stem}", *([about] if about else []), *([starts] if starts else [])]
            prefix = f"{group}." if "@package _global_" not in file.read_text(encoding="utf-8") else ""
            parts.append(_keys(file, prefix=prefix, omit=("defaults",)))
    return "\n\n".join(part for part in parts if part) + "\n"


def _files(group: str) -> list[Path]:
    return sorted((CONFIGS / group).glob("*.yaml"))


def _about(file: Path) -> tuple[str, str]:
    """The comment that opens a file, and what it starts from."""
    lines = file.read_text(encoding="utf-8").splitlines()
    opening = [line[1:].strip() for line in lines[: next(n for n, line in enumerate(lines) if line[:1] != "#")]]
    bases = [base for base in yaml.safe_load("\n".join(lines)).get("defaults", []) if base != "_self_"]
    names = [" ".join(f"{key}={value}" for key, value in b.items()) if isinstance(b, dict) else b for b in bases]
    starts = f"Starts from {', '.join(f'`{name}`' for name in names)}." if names else ""
    return _escaped(" ".join(line for line in opening if not line.startswith("@package"))), starts


def _keys(file: Path, *, prefix: str = "", omit: tuple[str, ...]) -> str:
    rows = [row for row in _rows(file) if not any(f"{row[0]}.".startswith(f"{key}.") for key in omit)]
    told = ((f"`{prefix}{key}`", _set_by(key) if value == "`???`" else value, about) for key, value, about in rows)
    return _table(("key", "value", "meaning"), told)


def _set_by(key: str) -> str:
    """The groups whose files give a key its value."""
    groups = [group for group in GROUPS if any(key == row[0] for file in _files(group) for row in _rows(file))]
    return "set by " + ", ".join(f"`{group}=`" for group in groups)


@cache
def _rows(file: Path) -> list[tuple[str, str, str]]:
    text = file.read_text(encoding="utf-8")
    return list(_walk(yaml.compose(text), text, ""))


def _walk(node: yaml.MappingNode, text: str, above: str) -> Iterator[tuple[str, str, str]]:
    """Every key with a value in a block mapping, and sections that have a comment, in the order of the file."""
    lines = text.splitlines()
    for key, value in node.value:
        name, line = f"{above}{key.value}", key.start_mark.line
        first = line
        while first and lines[first - 1].strip().startswith("#"):
            first -= 1
        about = " ".join(each.strip(" #") for each in lines[first:line]) if first else ""
        if isinstance(value, yaml.MappingNode) and not value.flow_style:
            if about:
                yield name, "", _escaped(about)
            yield from _walk(value, text, f"{name}.")
            continue
        after = re.search(r"\s#\s*(.*)$", lines[value.end_mark.line][value.end_mark.column :]) if value.value else None
        shown = " ".join(text[value.start_mark.index : value.end_mark.index].split())
        about = " ".join(filter(None, [about, after[1] if after else ""]))
        yield name, f"`{shown}`".replace("|", "\\|"), _escaped(about)


def _table(heads: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    told = list(rows)
    if not told:
        return ""
    lines = [heads, ("---",) * len(heads), *told]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _escaped(text: str) -> str:
    """Plain text as Markdown; what stands in back quotes stays code."""
    return _PLAIN.sub(lambda match: match[1] or f"\\{match[2]}", " ".join(text.split()))


def main() -> int:
    for name, page in (("commands.md", commands_page()), ("configuration.md", configuration_page())):
        (DOCS / name).write_text(page, encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
