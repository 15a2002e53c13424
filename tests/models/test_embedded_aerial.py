"""The embedded aerial encoders: small, where the tiny recipe starts, and whole in one launch script."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from helpers.installed import ROOT

from seg_zero.errors import InputError
from seg_zero.remote_sensing.data.aerial.world import TRAINED
from seg_zero.remote_sensing.model.files import EMBEDDED, EMBEDDED_FOLDER, Pretrained, new_network
from seg_zero.remote_sensing.model.settings import VIT_B
from seg_zero.remote_sensing.segmenter import RemoteSensingSegmenter
from seg_zero.remote_sensing.training.config import compose_settings

FILES = ("clip", "remote", "dino")


def test_embedded_encoders_are_small_and_start_the_tiny_recipe() -> None:
    sizes = [(EMBEDDED_FOLDER / f"{name}.safetensors").stat().st_size for name in FILES]
    assert sum(sizes) < 3_000_000 and max(sizes) < 2_000_000
    settings = compose_settings(["recipe=tiny", "data.train.folder=."])[0]
    assert settings.pretrained == Pretrained(EMBEDDED, EMBEDDED, EMBEDDED)
    network = new_network(settings.model, settings.pretrained)
    for part in (network.clip, network.remote, network.dino):
        assert part is not None and sum(weight.numel() for weight in part.parameters()) < 1_000_000
    for switched in ("model.dino=null", "model.remote=null", "start_from=somewhere"):
        changed = compose_settings(["recipe=tiny", "data.train.folder=.", switched])[0]
        assert new_network(changed.model, changed.pretrained) is not None
    with pytest.raises(InputError, match="is a CLIP of width 64"):
        new_network(VIT_B, Pretrained(clip=EMBEDDED))


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_launch_script_makes_a_world_trains_and_measures(tmp_path: Path) -> None:
    script = ROOT / "training_scripts" / "run_tiny_remote_sensing_cpu.sh"
    short = ["schedule.steps=2", "schedule.batch_size=2", "schedule.evaluate_tiles=2", "schedule.pictures=0"]
    done = subprocess.run(["bash", str(script), *short], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "| the same under other names |" in done.stdout
    out = tmp_path / "outputs" / "tiny_remote_sensing"
    assert RemoteSensingSegmenter.from_pretrained(out / "run", "cpu").classes == TRAINED
