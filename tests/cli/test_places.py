"""Every command names a place that cannot be written, before it works or loads a model."""

from __future__ import annotations

import sys

import pytest

from seg_zero.assets import EXAMPLE_IMAGE
from seg_zero.cli.main import main


@pytest.mark.parametrize(
    "command",
    [
        "evaluate --data synthetic --out /proc/x",
        "infer --output_path /proc/x/y.png",
        "chat --out /proc/x",
        "data synthetic --out /proc/x",
        "data dialogues --out /proc/x.jsonl",
        "data check synthetic --out /proc/x",
        "demo --out /proc/x",
        "scan --demo --out /proc/x",
        "scan show no_scan --out /proc/x.html",
        "label --labels cup --output_path /proc/x {image}",
        "label evaluate --dataset voc20 --root . --out /proc/x",
    ],
)
def test_a_place_that_cannot_be_written_is_one_line(
    command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for loader in ("seg_zero.policy.loading", "seg_zero.segmenter.loading"):
        monkeypatch.setitem(sys.modules, loader, None)  # an import of it fails
    assert main(command.format(image=EXAMPLE_IMAGE).split()) == 2
    said = capsys.readouterr()
    assert "/proc/x" in said.err and "cannot be written, as /proc " in said.err
    assert said.err.count("\n") == 1 and not said.out
