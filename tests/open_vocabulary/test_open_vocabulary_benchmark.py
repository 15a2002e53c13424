"""The benchmark of the open-vocabulary method, in small: both ways agree, and the rows say what was measured."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.scripts import load_script

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "open_vocabulary.py"


@pytest.fixture(scope="module")
def benchmark() -> Any:
    return load_script(SCRIPT)


def test_all_parts_run_in_small(benchmark: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = ["--width", "64", "--depth", "1", "--size", "448", "336", "--times", "1"]
    assert benchmark.main([*given, "--json", str(tmp_path / "new" / "rows.json")]) == 0
    found = json.loads((tmp_path / "new" / "rows.json").read_text())
    rows = {row["what"]: row for row in found["rows"]}
    assert "width 64, 1 blocks" in found["machine"]
    assert rows["largest difference of the features, of their largest"]["met"]
    assert rows["times faster"]["target"] == 2 and rows["times less memory"]["target"] == 5
    assert sum("grows as the area" in what for what in rows) == 2
    assert sum("on the same picture" in what for what in rows) == 4
    assert all(row["value"] > 0 for row in rows.values())
    printed = capsys.readouterr().out
    assert all(f"| {what} | {row['measured']} |" in printed for what, row in rows.items())


def test_the_stage_without_whole_matrices_needs_a_fraction_of_their_memory(benchmark: Any) -> None:
    features = torch.randn(1, 8, 48, 64)
    dense = benchmark.peak_bytes(lambda: benchmark.dense_aggregation(features))
    ours = benchmark.peak_bytes(lambda: benchmark.aggregate(features))
    assert dense > 4 * (48 * 64) ** 2 and ours < dense / 5
    torch.testing.assert_close(
        benchmark.dense_aggregation(features), benchmark.aggregate(features), rtol=1e-4, atol=1e-4
    )


@pytest.mark.parametrize(("power", "said"), [(1.0, "met"), (2.0, "missed")])
def test_growth_is_an_exponent_with_a_verdict(benchmark: Any, power: float, said: str) -> None:
    areas = [100, 400, 1600]
    grown = benchmark._exponent(areas, [round(7 * area**power) for area in areas])
    assert grown == pytest.approx(power, abs=1e-3)
    line = benchmark.Row("memory", f"{grown:.2f}", grown, benchmark.LINEAR, True).line()
    assert line == f"| memory | {power:.2f} | at most 1.05 | {said} |"
