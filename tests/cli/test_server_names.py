"""What clients of a server are told of its models."""

from __future__ import annotations

from pathlib import Path

import pytest

from seg_zero.cli.server_options import public_name


@pytest.mark.parametrize("name", ["tiny", "Ricky06662/VisionReasoner-7B", "c-radio_v3-b", "~nobody/model"])
def test_what_is_no_path_is_told_as_it_is(name: str) -> None:
    assert public_name(name) == name


def test_of_a_local_model_the_last_part_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "runs" / "roads"
    folder.mkdir(parents=True)
    assert public_name(folder) == public_name(f"{folder}/") == public_name(str(folder / "..") + "/roads") == "roads"
    monkeypatch.chdir(folder)
    assert public_name(".") == "roads"
