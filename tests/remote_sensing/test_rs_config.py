"""The training configuration: the published recipes, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from seg_zero.errors import InputError
from seg_zero.remote_sensing import typed
from seg_zero.remote_sensing.model.settings import VIT_B, VIT_L, ModelSettings
from seg_zero.remote_sensing.training.config import compose_settings
from seg_zero.remote_sensing.training.settings import TrainSettings

ROOT = Path(__file__).resolve().parents[2]
FOLDER = "data.train.folder=tiles"
RECIPES = sorted(path.stem for path in (ROOT / "configs" / "remote_sensing" / "recipe").glob("*.yaml"))


def composed(*overrides: str) -> TrainSettings:
    return compose_settings([FOLDER, *overrides])[0]


@pytest.mark.parametrize(
    ("recipe", "dataset", "model"),
    [
        ("dlrsd_b", "dlrsd", replace(VIT_B, layers=5)),
        ("dlrsd_l", "dlrsd", replace(VIT_L, layers=5)),
        ("isaid_b", "isaid", VIT_B),
        ("isaid_l", "isaid", VIT_L),
    ],
)
def test_published_recipes(recipe: str, dataset: str, model: ModelSettings) -> None:
    found = composed(f"recipe={recipe}")
    assert found.model == model and found.data.train.dataset == dataset
    assert (found.schedule.steps, found.schedule.batch_size, found.schedule.evaluate_every) == (30_000, 8, 5000)
    assert (found.optimiser.rate, found.optimiser.weight_decay, found.optimiser.clip_norm) == (2e-4, 1e-4, 0.01)
    assert (found.finetune.clip, found.finetune.dino, found.finetune.clip_multiplier) == ("attention", "frozen", 0.01)
    assert (found.augmentation.side, found.augmentation.max_side, found.augmentation.flip) == (384, 1333, 0.5)


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_recipe_is_read_and_comes_back(recipe: str) -> None:
    found = composed(f"recipe={recipe}")
    assert typed.read(TrainSettings, typed.plain(found)) == found


def test_keys_of_the_command_come_last() -> None:
    found = composed("recipe=dlrsd_b", "model.layers=2", "model.dino=null", "data.validation=null", "precision=bf16")
    assert (found.model.layers, found.model.dino, found.data.validation, found.precision) == (2, None, None, "bf16")


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("model.layer=3", "unknown configuration key 'model.layer'; nearest existing: model.layers"),
        ("recipe=dlrsd", "unknown option recipe=dlrsd; choose one of dlrsd_b"),
        ("size=vit_h", "unknown option size=vit_h; choose one of tiny, vit_b, vit_l"),
        ("+new=1", "give it without [+]"),
        ("seed=many", "seed='many' is not a whole number"),
        ("precision=fp8", "precision='fp8' is unknown; choose one of no, bf16, fp16"),
        ("finetune.clip=all", "finetune.clip='all' is unknown; choose one of attention, freezeIMG"),
        ("schedule.steps=0", "schedule.steps=0 is too small"),
        ("schedule.accumulate=3", "no multiple of accumulate=3"),
        ("optimiser.rate=-1", "number out of range"),
        ("augmentation.side=9999", "augmentation.side=9999"),
        ("output_dir=''", "output_dir is empty"),
        ("device=cuda", "device='cuda' is unknown; choose one of '', cpu"),
        ("seed=1,2", "Hydra cannot read seed=1,2"),
    ],
)
def test_refused(override: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        composed(override)


def test_what_must_be_given() -> None:
    with pytest.raises(InputError, match=r"data.train.folder has no value; set it"):
        compose_settings([])


def test_start_and_pretrained_exclude_each_other(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not both"):
        composed(f"start_from={tmp_path}", "pretrained.clip=clip.pt")
