"""A bar leaves what is said before it on lines of its own."""

from __future__ import annotations

import sys

import pytest

from seg_zero.cli.progress import LateBar


def test_a_bar_is_drawn_from_its_first_report_on(capsys: pytest.CaptureFixture[str]) -> None:
    with LateBar(total=2, unit="tile") as bar:
        print("warning: said while loading", file=sys.stderr)
        assert capsys.readouterr().err == "warning: said while loading\n"
        bar.advance()
        bar.advance()
    assert "2/2" in capsys.readouterr().err.rstrip().splitlines()[-1]
    with LateBar(unit="window"):
        pass
    assert capsys.readouterr().err == "", "nothing was reported"
