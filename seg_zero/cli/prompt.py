"""The command ``seg-zero prompt import``: the prompt of a published repository becomes a template file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from seg_zero.command_line import CommandParser, unknown_command
from seg_zero.prompt_import import PUBLISHED, import_prompt, write_prompt


def parser() -> CommandParser:
    made = CommandParser("prompt", main.__doc__)
    made.add_argument("command", choices=("import",), help="the only command")
    made.add_argument("path", type=Path, metavar="PATH", help="checkout of the repository, or a source file in it")
    made.add_argument(
        "--format", choices=("single", "multi"), help="which prompt, if there are both (default: the only one)"
    )
    made.add_argument(
        "--out", type=Path, help="template file to write (default: prompt_single.json or prompt_multi.json)"
    )
    return made


def main(argv: Sequence[str]) -> int:
    """Read the prompt of a published repository of this family from its source code, without running it."""
    if argv and argv[0] not in ("import", "-h", "--help"):
        raise unknown_command("prompt command", argv[0], ["import"])
    args = parser().parse_args(argv)
    found = import_prompt(args.path, args.format)
    out = args.out or Path(f"prompt_{found.template.format}.json")
    write_prompt(found, out)
    print(f"found:   {found.template.format}-object prompt in {found.where}")
    print(f"sha256:  {found.sha256} ({len(found.template.text)} characters)")
    names = " or ".join(published.name for published in PUBLISHED.values())
    print(f"exact: {found.exact}" if found.exact else f"not exact: not the prompt of {names}")
    print(f"written: {out}; use it with --prompt_template {out}, in training with policy.prompt_template={out}")
    return 0
