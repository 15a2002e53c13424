"""Values of overrides: their kind and range, and texts that Hydra would read as syntax."""

from __future__ import annotations

import shlex
import tempfile
from pathlib import Path

import pytest

from seg_zero.command_line import quoted
from seg_zero.errors import InputError
from seg_zero.training.environment import training_environment
from seg_zero.training.launch import checks
from seg_zero.training.launch.config import load_config

TINY = ["policy=tiny", "data=synthetic", "hardware=cpu_2core", "schedule=tiny"]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("worker.actor.optim.lr=1e-6x", "lr=1e-6x is not a number from 0 up; set it to 0 or more"),
        ("worker.actor.optim.lr=null", "lr=null is not a number from 0 up"),
        ("worker.actor.use_kl_loss=maybe", "use_kl_loss=maybe is not true or false; set it to true or false"),
        ("actor_rollout_ref.actor.use_kl_loss=0.5", "actor.use_kl_loss=0.5 is not true or false"),
        ("data.max_response_length=0", "max_response_length=0 is not a whole number from 1 up"),
        ("data.max_prompt_length=12.5", "max_prompt_length=12.5 is not a whole number from 1 up"),
        ("worker.rollout.top_p=1.5", "top_p=1.5 is not a number above 0 and up to 1"),
        ("worker.rollout.gpu_memory_utilization=60", "gpu_memory_utilization=60 is not a number above 0 and up to 1"),
        ("trainer.total_epochs=two", "total_epochs=two is not a whole number from 1 up"),
        ("dialogue.discount=-1", "dialogue.discount=-1 is not a number from 0 to 1; set it to a number in this range"),
        ("dialogue.teacher_history=1.5", "is not a number from 0 to 1; set it to a number in this range"),
        ("data.augmentation.scale_jitter=-1", "is not a number from 0 to 0.5; set it to a number in this range"),
        ("worker.rollout.top_p=-1", "is not a number above 0 and up to 1; set it to a number in this range"),
        ("trainer.save_freq=1.5", "save_freq=1.5 is not a whole number from -1 up"),
        ("trainer.resume_mode=never", "resume_mode=never is not one of auto, disable, resume_path"),
        ("actor_rollout_ref.rollout.top_k=many", "rollout.top_k=many is not a number"),
        ("algorithm.rollout_correction=token", "algorithm.rollout_correction=token is not a section"),
        ("trainer.logger=5", "trainer.logger=5 is not a list or a text"),
    ],
)
def test_a_value_of_a_wrong_kind_or_range_is_refused_when_the_configuration_is_made(
    override: str, message: str
) -> None:
    with pytest.raises(InputError) as error:
        load_config([*TINY, override])
    assert message in str(error.value) and "\n" not in str(error.value)


def test_right_values_pass() -> None:
    given = [
        "worker.actor.optim.lr=1e-6",
        "data.seed=null",
        "trainer.test_freq=-1",
        "actor_rollout_ref.rollout.top_k=5",
    ]
    given += ["worker.actor.entropy_coeff=-0.1", "trainer.experiment_name=2024", "worker.rollout.temperature=1"]
    config = load_config([*TINY, *given])
    assert config.worker.actor.optim.lr == 1e-6 and config.trainer.experiment_name == 2024


ODD = [
    "/a (b),c=#'d&[e]{f}~!é/x.parquet",
    "it's",
    "ends with \\",
    "\\'",
    "\"both\" 'quotes'",
    "a,b",
    "[x]",
    "日本",
    "null",
]


@pytest.mark.parametrize("text", ODD)
def test_a_quoted_text_reaches_the_configuration_as_it_is(text: str) -> None:
    assert load_config([*TINY, f"data.train_files={quoted(text)}"]).data.train_files == text


@pytest.mark.parametrize(
    "text", ["/d/a(b).parquet", "/d/a,b.parquet", "/d/é.parquet", "/d/a&b.parquet", "/d/it's.parquet"]
)
def test_a_text_that_hydra_cannot_read_gets_the_override_that_works(text: str) -> None:
    with pytest.raises(InputError, match=r"Hydra cannot read data\.train_files=.* as one value") as error:
        load_config([*TINY, f"data.train_files={text}"])
    assert "\n" not in str(error.value)
    (works,) = shlex.split(str(error.value).rpartition("shell: ")[2])
    assert load_config([*TINY, works]).data.train_files == text


def test_a_checkout_whose_path_has_syntax_of_hydra_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from seg_zero.training.launch import config

    folder, real = tmp_path / "a (b),c=#d&[e]{f}~!é", config.package_folder
    folder.mkdir()
    for name in ("verl", "seg_zero.configs"):
        (folder / name).symlink_to(real(name))
    monkeypatch.setattr(config, "package_folder", lambda name: folder / name)
    config._compose.cache_clear()
    assert load_config(TINY).policy.family == "qwen2_5_vl"
    config._compose.cache_clear()


def test_a_prompt_length_that_no_question_fits_is_refused() -> None:
    config = load_config([*TINY, "data.max_prompt_length=40"])
    checks.check_prompt_fits(config)
    checks.check_words_fit(config)
    config = load_config([*TINY, "data.max_prompt_length=24"])
    with pytest.raises(
        InputError, match=r"image of 16 tokens and the prompt of .* leave no room for a question in data"
    ):
        checks.check_words_fit(config)
    multi = load_config([*TINY, "policy=qwen2_5_vl_3b", "policy.template=multi", "data.max_prompt_length=960"])
    with pytest.raises(InputError, match=r"image of 900 tokens and the prompt of .* tokens or more"):
        checks.check_words_fit(multi)


@pytest.mark.parametrize("limit", ["policy.max_pixels=6272", "policy.min_pixels=12545"])
def test_limits_of_pixels_that_would_resize_the_prompts_image_are_refused(limit: str) -> None:
    with pytest.raises(InputError, match=r"112 x 112 pixels is 12,544 pixels, outside of policy\.min_pixels="):
        checks.check_prompt_fits(load_config([*TINY, limit]))


def test_a_long_tmpdir_gives_way_to_a_short_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray's sockets lie in it, and their paths hold 107 bytes."""
    config = load_config(TINY)
    monkeypatch.setattr(tempfile, "tempdir", "/tmp")
    assert "RAY_TMPDIR" not in training_environment(config, tmp_path, {"TMPDIR": "/tmp"})
    monkeypatch.setattr(tempfile, "tempdir", "/tmp/" + 115 * "t")
    short = training_environment(config, tmp_path, {"TMPDIR": tempfile.tempdir})
    assert short["TMPDIR"] == short["RAY_TMPDIR"] == "/tmp"
