"""Studies keep the results of finished runs, and begin unfinished ones anew."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.kept_runs import RESULT, Result, kept_results, kept_run, of_seeds, run_arms


def test_a_kept_result_is_not_made_again(tmp_path: Path) -> None:
    made = kept_run(tmp_path / "run", lambda: {"seed": 1}, ())
    assert kept_run(tmp_path / "run", lambda: pytest.fail("made again"), ()) == made == {"seed": 1}


def test_what_an_unfinished_run_left_is_gone_and_checkpoints_go_with_the_end(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    (folder / "old").mkdir(parents=True)

    def make() -> Result:
        assert list(folder.iterdir()) == []
        for part in ("checkpoints", "log"):
            (folder / part).mkdir()
        return {"seed": 2}

    kept_run(folder, make, ("checkpoints", "never made"))
    assert {path.name for path in folder.iterdir()} == {"log", RESULT}


def test_a_run_that_fails_keeps_no_result(tmp_path: Path) -> None:
    def make() -> Result:
        raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError):
        kept_run(tmp_path / "run", make, ())
    assert not (tmp_path / "run" / RESULT).exists()


def test_results_come_in_the_order_of_names_and_seeds(tmp_path: Path) -> None:
    for name, seed in (("b", 10), ("b", 2), ("a", 1), ("unknown", 1)):
        kept_run(tmp_path / f"{name}_{seed}", lambda name=name, seed=seed: {"arm": name, "seed": seed}, ())  # type: ignore[misc]
    found = kept_results(tmp_path, "arm", ("a", "b", "never run"))
    assert {name: [one["seed"] for one in some] for name, some in found.items()} == {"a": [1], "b": [2, 10]}


def test_the_range_of_seeds_is_given_where_there_are_several() -> None:
    assert of_seeds([0.5]) == "0.500"
    assert of_seeds([0.5, 0.7, 0.6]) == "0.600 (0.500–0.700)"  # noqa: RUF001


def test_the_start_is_run_once_and_each_arm_with_each_seed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[tuple[str, int, int, str | None]] = []

    def run(name: str, seed: int, steps: int, start: str | None, out: Path) -> Result:
        asked.append((name, seed, steps, start))
        return kept_run(out / f"{name}_{seed}", lambda: {"arm": name, "seed": seed}, ())

    monkeypatch.setattr("sys.argv", ["study", "--out", str(tmp_path), "--seeds", "2", "1", "--arms", "two"])
    assert run_arms("Study.", tmp_path / "other", ["one", "two"], run, lambda some: f"{len(some)} runs") == 0
    assert asked == [("start", 0, 40, None), ("two", 2, 40, None), ("two", 1, 40, None)]
    shown = capsys.readouterr().out
    assert "3 runs; 40 steps; " in shown
    assert (tmp_path / "40_steps" / "results.md").read_text().strip() in shown
