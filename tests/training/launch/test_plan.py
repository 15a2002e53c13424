"""What a run will do and need, against numbers worked out by hand; layouts that cannot work are refused."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from seg_zero.data.synthetic.rows import write_split
from seg_zero.errors import InputError
from seg_zero.policy.model_size import Architecture, Vision, find_architecture, read_architecture
from seg_zero.training.launch import checks, memory, plan, start
from seg_zero.training.launch.config import load_config
from seg_zero.training.launch.options import train
from seg_zero.training.run_files import RunFiles

ROOT = Path(__file__).resolve().parents[3]
TINY = ["policy=tiny", "data=synthetic", "hardware=cpu_2core", "schedule=tiny"]
SEVEN = ["policy=qwen2_5_vl_7b_multi", "data=visionreasoner_7k_840", "schedule=multi"]
SYNTHETIC = {"train_files": 1920, "val_files": 120}

# 10 layers of 8 query heads and 2 key-value heads of 16; an image encoder of 2 blocks.
SMALL = Architecture("qwen2_5_vl", 10, 128, 512, 8, 2, 16, 1000, True, 4096, Vision(2, 64, 256, 8))


def _seven() -> Architecture:
    found = find_architecture("Qwen/Qwen2.5-VL-7B-Instruct")
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("model", "parameters"),
    [  # as counted by transformers 5.9.0 for the published configurations
        ("Qwen/Qwen2-VL-2B-Instruct", 2_208_985_600),
        ("Qwen/Qwen2-VL-7B-Instruct", 8_291_375_616),
        ("Qwen/Qwen2.5-VL-3B-Instruct", 3_754_622_976),
        ("Qwen/Qwen2.5-VL-7B-Instruct", 8_292_166_656),
        ("Qwen/Qwen3-VL-2B-Instruct", 2_127_532_032),
        ("Qwen/Qwen3-VL-4B-Instruct", 4_437_815_808),
        ("Qwen/Qwen3-VL-8B-Instruct", 8_767_123_696),
        ("zai-org/GLM-4.1V-9B-Thinking", 10_292_777_472),
    ],
)
def test_published_models_have_their_published_size(model: str, parameters: int) -> None:
    found = find_architecture(model)
    assert found is not None and found.parameters == parameters


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("family", ["Qwen2VL", "Qwen2_5_VL", "Qwen3VL"])
def test_parameters_are_counted_as_transformers_builds_them(family: str, tied: bool) -> None:
    import torch
    import transformers

    text = {"num_hidden_layers": 2, "hidden_size": 64, "intermediate_size": 96, "vocab_size": 128}
    text |= {"num_attention_heads": 4, "num_key_value_heads": 2, "bos_token_id": 1, "eos_token_id": 2}
    vision: dict[str, Any] = {"depth": 3, "num_heads": 2}
    if family == "Qwen2VL":
        vision |= {"embed_dim": 32, "mlp_ratio": 3, "hidden_size": 64}
    else:
        vision |= {"hidden_size": 32, "intermediate_size": 40, "out_hidden_size": 64}
    if family == "Qwen3VL":
        vision |= {"deepstack_visual_indexes": [0, 1], "num_position_embeddings": 16}
    config_class = getattr(transformers, f"{family}Config")
    config = config_class(text_config=text, vision_config=vision, tie_word_embeddings=tied)
    with torch.device("meta"):
        model = getattr(transformers, f"{family}ForConditionalGeneration")(config)
    assert read_architecture(config.to_dict()).parameters == sum(p.numel() for p in model.parameters())


def test_models_are_found_by_folder_and_by_name(tmp_path: Path) -> None:
    seven = find_architecture("Qwen/Qwen2.5-VL-7B-Instruct")
    assert seven is not None and seven.layers == 28
    assert find_architecture("Ricky06662/VisionReasoner-7B") == seven
    assert find_architecture("Ricky06662/Seg-Zero-3B") == find_architecture("Qwen/Qwen2.5-VL-3B-Instruct")
    assert find_architecture("somebody/something-70B") is None
    tiny = find_architecture(str(ROOT / "seg_zero" / "models" / "tiny_policy"))
    assert tiny is not None and tiny.parameters == 3_716_736
    # The published file of Qwen2.5-VL has the settings of the text at the top.
    flat = {"model_type": "qwen2_5_vl", "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    vision = {"depth": 2, "hidden_size": 32, "intermediate_size": 40, "num_heads": 2}
    flat |= {"intermediate_size": 96, "num_key_value_heads": 2, "vision_config": vision}
    (tmp_path / "config.json").write_text(json.dumps({**flat, "vocab_size": 128}))
    found = find_architecture(str(tmp_path))
    assert found is not None and (found.hidden, found.head_dim, found.tied) == (64, 16, False)
    (tmp_path / "config.json").write_text(json.dumps(flat))
    with pytest.raises(InputError, match="has no 'vocab_size'"):
        find_architecture(str(tmp_path))


def test_batch_arithmetic() -> None:
    """16 prompts x 8 samples on 4 GPUs, 2 updates: 32 samples each, 16 per update, 8 micro-batches of 2."""
    config = load_config([*SEVEN, "hardware=4x80g", "worker.actor.global_batch_size=8"])
    b = plan.batches(config, rows=1000)
    assert (b.samples, b.samples_per_worker, b.updates, b.accumulation) == (128, 32, 2, 8)
    assert (b.steps_per_epoch, b.rows_left, b.steps) == (62, 8, 62)
    assert plan.batches(load_config([*SEVEN, "trainer.total_training_steps=7"]), None).steps == 7
    assert plan.batches(load_config(SEVEN), None).steps is None


def test_cache_of_keys_and_values() -> None:
    """7B: 2 x 28 layers x 4 heads x 128 x 2 bytes = 57,344 bytes per token; half of it with two ranks."""
    seven = _seven()
    assert memory.kv_bytes_per_token(seven, 1, 2) == 57_344
    assert memory.kv_bytes_per_token(seven, 2, 2) == 28_672
    assert memory.kv_bytes_per_token(seven, 8, 2) == memory.kv_bytes_per_token(seven, 4, 2)  # heads are repeated


def test_activations() -> None:
    """100 tokens, 2 bytes each value.

    A layer keeps 4 x 128 + 2 x 128 + 2 x 32 + 4 x 512 = 2,880 values per token: 576,000 bytes; an encoder block
    9 x 64 + 4 x 256 = 1,600 on each of 40 patches: 128,000 bytes.
    """
    assert memory.activation_bytes(SMALL, 100, 10, 2, False, False) == 10 * 576_000 + 2 * 128_000
    assert memory.activation_bytes(SMALL, 100, 10, 2, False, True) == 10 * 576_000
    # Checkpointed: the inputs of 10 layers (25,600 bytes each) and 2 blocks (5,120 each), and one whole layer.
    assert memory.activation_bytes(SMALL, 100, 10, 2, True, False) == 256_000 + 10_240 + 576_000
    assert memory.logits_bytes(SMALL, 100, 2, True) == 100 * 1000 * 12
    assert memory.logits_bytes(SMALL, 100, 2, False) == 100 * 1000 * 4


def test_a_limit_for_shared_prefixes_is_the_size_of_a_micro_batch() -> None:
    base = [*SEVEN, "hardware=4x80g", "engine.shared_prefix_tokens=5000"]
    off, on = (load_config([*base, f"engine.shared_prefix={switch}"]) for switch in ("false", "true"))
    assert memory.estimate(off, _seven(), image_tokens=900).training.logits == 2 * (1300 + 2000) * 152_064 * 12
    assert memory.estimate(on, _seven(), image_tokens=900).training.logits == 5000 * 152_064 * 12


def test_training_state_of_7b_on_four_gpus() -> None:
    """8,292,166,656 parameters in float32 over 4 ranks: 8,292,166,656 bytes each, gradients alike, Adam twice."""
    config = load_config([*SEVEN, "hardware=4x80g"])
    found = memory.estimate(config, _seven(), image_tokens=900)
    state, parameters = found.training, 8_292_166_656
    assert (state.weights, state.gradients, state.optimizer) == (parameters, parameters, 2 * parameters)
    assert state.logits == 2 * (1300 + 2000) * 152_064 * 12
    # Embeddings and two layers in bfloat16, one layer's gradient in float32.
    assert state.gathered == 2 * 152_064 * 3584 * 2 + 233_057_792 * (2 * 2 + 4)
    assert found.rollout.share == round(0.4 * 79.6 * 2**30)
    assert found.rollout.weights == parameters  # two bytes, two ranks
    assert found.rollout.sequence == 3300 * 28_672
    assert found.rollout.resident == memory.CONTEXT  # all is offloaded while vLLM samples
    assert found.reference == parameters and found.host == 4 * 4 * parameters


def test_adapters_have_little_to_train() -> None:
    """Rank 64 on the 7 linear layers of 28 decoder layers; no reference model, as it is the actor without them."""
    seven = _seven()
    sides = 2 * (3584 + 3584) + 2 * (3584 + 512) + 3 * (3584 + 18_944)
    assert seven.lora_parameters(64) == 28 * 64 * sides
    config = load_config([*SEVEN, "hardware=4x80g", "actor_rollout_ref.model.lora_rank=64"])
    found = memory.estimate(config, seven, 900)
    assert found.training.optimizer == 2 * 28 * 64 * sides
    assert found.reference == 0


ONE_GPU = "trainer.n_gpus_per_node=1;worker.rollout.tensor_parallel_size=1"
SEVEN_GPUS = "trainer.n_gpus_per_node=7;worker.rollout.n=7;worker.rollout.tensor_parallel_size=7"


@pytest.mark.parametrize(
    ("layout", "overrides", "message"),
    [
        ("cpu_2core", "data.max_response_length=500", "96 + data.max_response_length=500 = 596 tokens exceed"),
        (
            "cpu_2core",
            "data.max_response_length=5000;actor_rollout_ref.rollout.max_model_len=6000",
            "sequences of 6000 tokens exceed the 4096 positions",
        ),
        ("8x80g", "worker.rollout.tensor_parallel_size=8", "28 attention heads cannot be split"),
        ("8x80g", "worker.rollout.tensor_parallel_size=8", "choose one of 1, 2, 4, 7, 14, 28"),
        ("4x80g", SEVEN_GPUS, "16 attention heads in its image encoder cannot be split"),
        ("8x46g", "worker.rollout.tensor_parallel_size=1", "4.5 GiB of each GPU, but needs 15.4 for weights"),
        ("8x46g", "worker.rollout.tensor_parallel_size=1", "raise worker.rollout.gpu_memory_utilization or"),
        (
            "8x80g",
            "worker.rollout.gpu_memory_utilization=0.95;worker.actor.offload.optimizer_offload=false",
            "while vLLM samples it takes 75.6 GiB and the training state 8.7",
        ),
        ("8x80g", ONE_GPU, "weights, gradients and optimizer alone need 128.3 GiB on each GPU"),
        ("8x80g", ONE_GPU, "policy.lora.rank=64"),
        (
            "8x46g",
            "worker.actor.micro_batch_size_per_device_for_update=16",
            "134 GiB on each GPU, far more than the 45.0 of hardware.device_memory_gib; lower worker.actor.micro_batch",
        ),
    ],
)
def test_layouts_that_cannot_work_are_refused_with_the_remedy(layout: str, overrides: str, message: str) -> None:
    base = TINY if layout == "cpu_2core" else [*SEVEN, f"hardware={layout}"]
    one_sample_each = ["worker.actor.micro_batch_size_per_device_for_update=1"] * (overrides == SEVEN_GPUS)
    with pytest.raises(InputError) as error:
        plan.plan(load_config([*base, *overrides.split(";"), *one_sample_each]), 1920)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_run_refuses_what_its_plan_refuses(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="= 596 tokens exceed"):
        start.launch([*TINY, f"output_dir={tmp_path / 'out'}", "data.max_response_length=500"])
    assert not (tmp_path / "out").exists()


def test_what_a_plan_says() -> None:
    text = "\n".join(plan.plan(load_config([*SEVEN, "hardware=8x46g", "algorithm=dapo"]), None))
    assert "16 questions and samples 8 answers to each: 128 samples, 16 for each of 8 workers" in text
    assert "clipped to 0.8 .. 1.28; no KL, no reference model" in text
    assert "the old log-probabilities are the update's own, without a pass for them (engine.one_update)" in text
    assert "At most 160 questions per step" in text
    assert "8.29 billion parameters; an image is 900 tokens" in text
    assert "WARNING: vLLM's own buffers" in text
    assert "Not on this machine: trainer.n_gpus_per_node=8 requests 8 GPUs" in text or checks.count_gpus() >= 8
    unknown = plan.plan(load_config([*SEVEN, "worker.actor.model.model_path=some/model"]), None)
    assert "Memory: unknown, the model some/model is not on this machine." in unknown


@pytest.mark.parametrize(
    ("overrides", "said", "unsaid"),
    [
        ([], "the vision tower computes each image once (engine.vision_once)", "hold sequences of similar"),
        ([], "Off: none.", "nothing"),
        ([], "is computed once, for all answers (engine.shared_prefix)", "hold sequences of similar"),
        (["engine.vision_once=false"], "Off: engine.vision_once.", "vision tower computes"),
        (["worker.actor.global_batch_size=8"], "Off: none.", "log-probabilities are"),
        (
            ["actor_rollout_ref.actor.use_dynamic_bsz=true", "engine.shared_prefix=false"],
            "filled by tokens hold sequences of similar length",
            "nothing",
        ),
        (
            [f"engine.{key}=false" for key in plan._CHANGES],
            "Changed in verl's step: nothing. Off: engine.group_rollouts, engine.processed_images_once, ",
            "engine.one_update)",
        ),
    ],
)
def test_a_plan_says_what_differs_from_verls_step(overrides: list[str], said: str, unsaid: str) -> None:
    (line,) = [line for line in plan.plan(load_config([*TINY, *overrides]), 1920) if "verl's step" in line]
    assert said in line and unsaid not in line


def test_a_dry_run_with_yaml_prints_one_file_with_the_plan_last_and_checks_the_rows(tmp_path: Path) -> None:
    rows = tmp_path / "rows.parquet"
    write_split(rows, seed=4, count=40)
    command = [
        sys.executable,
        "-m",
        "seg_zero.training.launch",
        *TINY,
        "--dry-run",
        "--yaml",
        f"data.train_files={rows}",
    ]
    result = subprocess.run(
        [*command, f"data.val_files={rows}"], capture_output=True, text=True, timeout=120, check=True, cwd=tmp_path
    )
    configuration, _, said = result.stdout.partition("# Each step asks 16 questions")
    assert configuration and all(line.startswith("#") for line in said.splitlines()[1:])
    assert "# 40 training rows: 2 steps per epoch, 8 rows left over" in result.stdout
    config = OmegaConf.create(result.stdout)
    assert config.data.train_batch_size == 16  # type: ignore[union-attr]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["rows.parquet"]  # nothing is started or written
    few = [*command, f"data.val_files={rows}", "data.train_batch_size=64"]
    refused = subprocess.run(few, capture_output=True, text=True, timeout=120, check=False, cwd=tmp_path)
    assert refused.returncode == 2 and "has 40 rows, fewer than data.train_batch_size=64" in refused.stderr


def test_a_dry_run_prints_the_plan_alone_and_writes_the_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    start.launch([*TINY, "trainer.experiment_name=mine"], dry_run=True)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("Each step asks 16 questions") and len(lines) < 40
    assert lines[-1].endswith("outputs/mine/dry_run.yaml (--yaml prints them instead).")
    written = OmegaConf.load(tmp_path / "outputs" / "mine" / "dry_run.yaml")
    assert written.trainer.experiment_name == "mine"
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["dry_run.yaml"]


def test_the_commands_to_run_next_name_the_checkpoint_and_the_merged_folder() -> None:
    checkpoint = Path("/my runs/mine/checkpoints/global_step_40")
    config = load_config([*TINY, "data.val_files=['data/held out.parquet','other.parquet']"])
    lines = start.next_commands(checkpoint, start.evaluation_data(config)).splitlines()
    merge, evaluate, infer = (shlex.split(line.partition("seg-zero ")[2]) for line in lines)
    assert merge == ["merge", "--local_dir", str(checkpoint)]
    model = ["--model", f"{checkpoint}/actor/merged"]
    assert evaluate == ["evaluate", *model, "--data", "data/held out.parquet", "--out", "/my runs/mine/evaluation"]
    assert infer[:3] == ["infer", *model]


def test_rows_that_may_lack_masks_are_not_named_for_the_evaluation() -> None:
    config = load_config([*TINY, "data.segment_held_out=false"])
    assert start.evaluation_data(config) == "reasonseg_val"


@pytest.mark.parametrize("key", ["train_files", "val_files"])
def test_a_missing_file_is_refused_before_the_other_rows_are_made(
    key: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=rf"data\.{key}: .*nope\.parquet does not exist"):
        start.launch([*TINY, f"data.{key}=nope.parquet"])
    assert not os.listdir(tmp_path)


def test_a_place_that_no_run_can_have_is_refused_before_rows_are_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="/proc/run cannot be written, as /proc "):
        start.launch([*TINY, "output_dir=/proc/run"])
    assert not os.listdir(tmp_path)


def test_a_run_that_is_stopped_at_once_says_what_is_left_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stop(*_: object) -> int:
        raise SystemExit(143)

    write_split(tmp_path / "rows.parquet", seed=4, count=16)
    monkeypatch.setattr(start, "supervise", stop)
    files = [f"data.{key}={tmp_path / 'rows.parquet'}" for key in ("train_files", "val_files")]
    with pytest.raises(SystemExit, match="143"):
        start.launch([*TINY, *files, f"output_dir={tmp_path / 'run'}"])
    assert capsys.readouterr().out.splitlines()[-1] == "stopped before the first step; nothing to resume"
    RunFiles(tmp_path / "run").write_phase(1, "sampling")
    assert "stopped before the first checkpoint" in start.stopped_line(tmp_path / "run", None)
    assert "rerun the same command to resume after step 8: /a/run" in start.stopped_line(Path("/a/run"), 8)


def test_ctrl_c_before_a_run_is_started_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: object, **__: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(start, "launch", stop)
    with pytest.raises(KeyboardInterrupt, match="stopped before the run was started"):
        train(TINY)


def test_rows_of_the_hub_are_not_asked_for() -> None:
    config = load_config(SEVEN)
    assert plan.rows_here(config, "train_files", SYNTHETIC) is None
    missing = load_config([*TINY, "data.train_files=gone.parquet"])
    with pytest.raises(InputError, match="does not exist"):
        plan.rows_here(missing, "train_files", SYNTHETIC)
