"""The ablation on the synthetic aerial world: tables of what was measured, runs that are not made twice."""

from __future__ import annotations

from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from helpers.installed import ROOT

from seg_zero.errors import InputError
from seg_zero.files import write_json
from seg_zero.remote_sensing.training.config import compose_settings


@pytest.fixture(scope="module")
def benchmark_module() -> ModuleType:
    spec = spec_from_file_location("transfer_benchmark", ROOT / "benchmarks" / "remote_sensing_transfer.py")
    assert spec is not None and spec.loader is not None
    made = module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


def a_run(variant: str, seed: int, miou: float) -> dict[str, Any]:
    asked = {"variant": variant, "seed": seed, "encoders": "", "steps": 300, "tiles": 160, "evaluated": 40, "size": 96}
    numbers = {"mean": miou, "trained": miou, "unseen": 0.25, "chance": 0.05}
    return {"asked": asked, "transfer": numbers, "other_names": numbers, "turned": [miou, miou, miou - 0.02, miou]}


def test_every_variant_is_a_setting_of_the_tiny_recipe(benchmark_module: ModuleType) -> None:
    found = {
        name: compose_settings(["recipe=tiny", "data.train.folder=.", "data.validation=null", *changes])[0].model
        for name, changes in benchmark_module.VARIANTS.items()
    }
    assert len(set(map(str, found.values()))) == 5
    assert not found["no_rotation"].rotate and found["no_dino"].dino is None and found["no_transfer"].remote is None
    assert found["cat_seg"].aggregator == "cat_seg"
    given = benchmark_module.encoders("made", "no_dino")
    assert given == ["pretrained.clip=made/clip.safetensors", "pretrained.remote=made/remote.safetensors"]
    assert len(benchmark_module.encoders("made", "full")) == 3 and benchmark_module.encoders("", "full") == []


def test_tables_have_means_with_intervals(benchmark_module: ModuleType) -> None:
    assert benchmark_module.interval([0.5]) == "0.500"
    assert benchmark_module.interval([0.4, 0.5, 0.6]) == "0.500 ± 0.248"  # 4.303 x 0.1 / sqrt(3)
    text = benchmark_module.tables([a_run("full", seed, 0.5) for seed in range(3)] + [a_run("no_dino", 0, 0.4)])
    assert "| full | 3 | 0.500 ± 0.000 | 0.500 ± 0.000 | 0.250 ± 0.000 | 0.050 |" in text
    assert "| no_dino | 1 | 0.400 | 0.400 | 0.250 | 0.050 | 0.400 |" in text
    assert "| no_dino | 0.400 | 0.400 | 0.380 | 0.400 | 0.020 |" in text and "cat_seg" not in text


def test_finished_runs_are_read_and_others_wait(
    benchmark_module: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_json(tmp_path / "full_0" / "transfer.json", a_run("full", 0, 0.5))
    given = ["--out", str(tmp_path), "--variants", "full", "--seeds", "0,1", "--minutes", "0"]
    assert benchmark_module.main(given) == 0
    assert "runs left: 1; repeat the command" in capsys.readouterr().out
    assert "| full | 1 | 0.500 |" in (tmp_path / "tables.md").read_text()
    for changed, said in ((["--steps", "9"], "holds a run with"), (["--variants", "half"], "'half' is unknown")):
        with pytest.raises(InputError, match=said):
            benchmark_module.main([*given, *changed])
