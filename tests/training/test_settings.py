"""Sections of the configuration as typed values, and what is refused in them."""

from __future__ import annotations

import re

import pytest
from omegaconf import OmegaConf

from seg_zero.errors import InputError
from seg_zero.training import settings
from seg_zero.training.launch.config import load_config

TINY = ["policy=tiny", "data=synthetic", "hardware=cpu_2core", "schedule=tiny"]


def test_sections_come_as_typed_values() -> None:
    config = load_config([*TINY, "policy.lora.targets=[q_proj,v_proj]", "policy.lora.exclude=null"])
    policy = settings.read(config, settings.PolicySettings)
    assert policy.lora == settings.LoraSettings(rank=0, alpha=64, targets=["q_proj", "v_proj"], exclude=None)
    assert (policy.image_size, policy.freeze_vision) == (112, True)
    assert settings.read(config, settings.CheckpointSettings) == settings.CheckpointSettings(
        keep_last=3, keep_best=True, best_by="validation/gIoU"
    )
    scorer = settings.read(config, settings.MaskScorerSettings)
    assert (scorer.device, scorer.num_gpus, scorer.timeout_seconds) == ("cpu", 0.0, 120.0)
    assert settings.read(config, settings.HardwareSettings).device_memory_gib is None
    assert settings.read(config, settings.RunSettings).watchdog_minutes == 30


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("watchdog_minutes=0", "is not a number above 0; set it to more than 0"),
        ("watchdog_minutes=null", "is not a number above 0; set it to more than 0"),
        ("watchdog_minutes=soon", "is not a number above 0; set it to more than 0"),
        ("output_dir=''", "is not a text; set it to a name"),
        ("checkpoints.keep_last=-1", "is not a whole number from 0 up; set it to 0 or more"),
        ("checkpoints.keep_last=2.5", "is not a whole number from 0 up; set it to 0 or more"),
        ("checkpoints.keep_last=true", "is not a whole number from 0 up; set it to 0 or more"),
        ("checkpoints.keep_best=perhaps", "is not true or false; set it to true or false"),
        ("checkpoints.best_by=''", "is not a text; set it to a name"),
        ("validation.pictures=many", "is not a whole number from 0 up; set it to 0 or more"),
        ("health.stop_after_not_finite=0", "is not a whole number from 1 up; set it to 1 or more"),
        ("health.stop_after_not_finite=null", "is not a whole number from 1 up; set it to 1 or more"),
        ("hardware.device_memory_gib=0", "is not a number above 0 or null; set it to more than 0 or to null"),
        ("hardware.device_memory_gib=nan", "is not a number above 0 or null; set it to more than 0 or to null"),
        ("policy.image_size=wide", "is not a whole number from 1 up; set it to 1 or more"),
        ("policy.freeze_vision=1", "is not true or false; set it to true or false"),
        ("policy.lora.rank=-1", "is not a whole number from 0 up; set it to 0 or more"),
        ("policy.lora.targets=[]", "is not a name or a list of names; set it to all-linear or to a list"),
        ("policy.lora.exclude=3", "is not a text or null; set it to a name or to null"),
        ("reward.mask_scorer.device=gpu", "is not cpu or cuda; set it to one of them"),
        ("reward.mask_scorer.num_gpus=-0.5", "is not a number from 0 up; set it to 0 or more"),
        ("reward.mask_scorer.timeout_seconds=0", "is not a number above 0; set it to more than 0"),
        ("hardware.fork_processes=1", "is not true or false; set it to true or false"),
        ("engine.vision_once=no thanks", "is not true or false; set it to true or false"),
        ("engine.shared_prefix_tokens=0", "is not a whole number from 1 up or null; set it to 1 or more or to null"),
        ("engine.one_update=null", "is not true or false; set it to true or false"),
    ],
)
def test_wrong_values_are_named_with_a_remedy(override: str, message: str) -> None:
    with pytest.raises(InputError, match=f"^{re.escape(override)} {re.escape(message)}$"):
        load_config([*TINY, override])


@pytest.mark.parametrize(
    ("override", "nearest"),
    [
        ("checkpoints.keep_lst=2", "checkpoints.keep_last"),
        ("+checkpoints.keep_lst=2", "checkpoints.keep_last"),
        ("+validation.picture=2", "validation.pictures"),
        ("+health.stop_after=2", "health.stop_after_not_finite"),
        ("+engine.vision_one=true", "engine.vision_once"),
        ("+policy.lora.ranks=2", "policy.lora.rank"),
        ("+reward.mask_scorer.actor=2", "reward.mask_scorer.actors"),
    ],
)
def test_unknown_keys_lead_to_the_nearest(override: str, nearest: str) -> None:
    with pytest.raises(InputError, match=rf"unknown configuration key .*; nearest existing: .*{re.escape(nearest)}\b"):
        load_config([*TINY, override])


@pytest.mark.parametrize(
    ("health", "message"),
    [
        ({"stop_after_not_finite": 5, "stop_aftr": 1}, "'health.stop_aftr'; nearest existing: health.stop_after_not"),
        ({}, "health.stop_after_not_finite has no value; set it, e.g. health.stop_after_not_finite=VALUE"),
        (None, "health=None is not a section; give its keys, e.g. health.stop_after_not_finite"),
        (7, "health=7 is not a section"),
    ],
)
def test_sections_of_a_written_configuration_are_checked_as_well(health: object, message: str) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        settings.read(OmegaConf.create({"health": health}), settings.HealthSettings)


def test_a_key_of_no_section_is_named_as_it_is() -> None:
    with pytest.raises(InputError, match=r"^configuration: watchdog_minutes has no value; set it"):
        settings.read(OmegaConf.create({"output_dir": "outputs/run"}), settings.RunSettings)


@pytest.mark.parametrize("on", [True, False])
def test_switches_reach_what_reads_them(on: bool) -> None:
    """The engine in the training workers sees the model's section only, the sampler its own settings."""
    names = (
        *("vision_once", "group_by_length", "sort_by_length", "processed_images_once"),
        *("group_rollouts", "one_update", "shared_prefix"),
    )
    limit = ["engine.shared_prefix_tokens=500"] if on else []
    config = load_config([*TINY, *(f"engine.{name}={str(on).lower()}" for name in names), *limit])
    model = config.actor_rollout_ref.model.lora
    assert (model.vision_once, model.group_by_length, model.shared_prefix) == (on, on, on)
    assert config.trainer.v1.sampler.sampler_kwargs.sort_by_length is on
    found = settings.read(config, settings.EngineSettings)
    assert {getattr(found, name) for name in names} == {on}
    assert model.shared_prefix_tokens == found.shared_prefix_tokens == (500 if on else None)
