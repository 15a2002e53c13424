"""Every shipped configuration and launch script, the published numbers, and bad input to the launcher."""

from __future__ import annotations

import ast
import importlib.util
import re
import subprocess
import sys
from functools import cache
from itertools import zip_longest
from pathlib import Path

import pytest
from omegaconf import DictConfig, OmegaConf

from seg_zero.data.synthetic.rows import write_split
from seg_zero.errors import InputError
from seg_zero.hydra_config import missing_keys
from seg_zero.policy.families import FAMILIES, spec_of_family
from seg_zero.policy.model_files import resolve_model
from seg_zero.policy.model_size import find_architecture
from seg_zero.prompting import PromptSpec, PromptTemplate
from seg_zero.rewards.presets import preset_settings
from seg_zero.training.launch import checks, start
from seg_zero.training.launch import config as composing
from seg_zero.training.launch.config import key_names, load_config, short_names
from seg_zero.training.launch.memory import GIB, estimate
from seg_zero.training.launch.plan import plan
from seg_zero.training.launch.renamed_keys import RENAMED, REPLACED

ROOT = Path(__file__).resolve().parents[3]
SCRIPTS = sorted((ROOT / "training_scripts").glob("run_*.sh"))
SCRIPTS = [path for path in SCRIPTS if "seg_zero.training.launch" in path.read_text()]
TINY = ["policy=tiny", "data=synthetic", "hardware=cpu_2core", "schedule=tiny"]

# The published scripts: n_gpus, rollout TP, memory, micro-batch update / experience.
LAYOUTS = {
    "run_qwen2_5_3b_refCOCOg": (8, 2, 0.5, 1, 2),
    "run_visionreasoner_7b_8x140G": (8, 2, 0.6, 16, 16),
    "run_visionreasoner_7b_4x80G": (4, 2, 0.4, 2, 2),
    "run_visionreasoner_7b_8x46G": (8, 4, 0.1, 1, 1),
}
# Layouts of our own: machines, GPUs of each, rollout TP, memory, micro-batch update / experience.
OWN_LAYOUTS = {
    "run_qwen2_5_3b_1x80G": (1, 1, 1, 0.5, 1, 4),
    "run_qwen2_5_3b_lora_1x24G": (1, 1, 1, 0.5, 1, 1),
    "run_visionreasoner_7b_2x8x80G": (2, 8, 2, 0.5, 2, 4),
}
SINGLE = {"kl": 5e-3, "response": 1300, "save": 50, "template": "single", "preset": "seg", "model": "Qwen2.5-VL-3B"}
MULTI = {"kl": 1e-2, "response": 2000, "save": 100, "template": "multi", "preset": "vision_reasoner"}
MULTI["model"] = "Qwen2.5-VL-7B"


@pytest.fixture(scope="module")
def dry_runs() -> dict[str, DictConfig]:
    """What each launch script prints with --dry-run; all run at once."""
    command = {path.stem: ["bash", str(path), "--dry-run", "--yaml", "worker.rollout.n=8"] for path in SCRIPTS}
    running = {
        name: subprocess.Popen(parts, cwd="/", stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for name, parts in command.items()
    }
    configs = {}
    for name, process in running.items():
        output, errors = process.communicate(timeout=110)
        assert process.returncode == 0, f"{name}: {errors}"
        configs[name] = OmegaConf.create(output)
    return configs


@cache
def loaded(*overrides: str) -> DictConfig:
    """Composed once for all tests of this file that only read it."""
    return load_config(overrides)


def test_all_scripts_are_listed() -> None:
    assert {path.stem for path in SCRIPTS} == {*LAYOUTS, *OWN_LAYOUTS, "run_tiny_cpu", "run_tiny_dialogue_cpu"}


@pytest.mark.parametrize("name", sorted(LAYOUTS))
def test_published_numbers(dry_runs: dict[str, DictConfig], name: str) -> None:
    """The dry run of a launch script shows the published hyper-parameters, in verl's keys."""
    config, recipe = dry_runs[name], SINGLE if "refCOCOg" in name else MULTI
    actor, rollout = config.actor_rollout_ref.actor, config.actor_rollout_ref.rollout
    gpus, tensor_parallel, memory, update, experience = LAYOUTS[name]
    assert (config.trainer.n_gpus_per_node, rollout.tensor_model_parallel_size) == (gpus, tensor_parallel)
    assert rollout.gpu_memory_utilization == memory
    assert (actor.ppo_micro_batch_size_per_gpu, rollout.log_prob_micro_batch_size_per_gpu) == (update, experience)
    assert config.actor_rollout_ref.ref.log_prob_micro_batch_size_per_gpu == experience
    assert not actor.use_dynamic_bsz
    assert (config.data.train_batch_size, rollout.n, actor.ppo_mini_batch_size) == (16, 8, 16)
    assert (actor.optim.lr, actor.optim.weight_decay, actor.optim.lr_scheduler_type) == (1e-6, 0.01, "constant")
    assert (actor.clip_ratio_low, actor.clip_ratio_high, actor.grad_clip, actor.ppo_epochs) == (0.2, 0.2, 1.0, 1)
    assert (actor.use_kl_loss, actor.kl_loss_coef, actor.kl_loss_type) == (True, recipe["kl"], "low_var_kl")
    assert (actor.entropy_coeff, actor.loss_agg_mode) == (1e-3, "token-mean")
    assert (rollout.temperature, rollout.top_p, config.algorithm.adv_estimator) == (1.0, 1.0, "grpo")
    assert (config.data.max_prompt_length, config.data.max_response_length) == (1300, recipe["response"])
    assert (rollout.prompt_length, rollout.response_length) == (1300, recipe["response"])
    assert actor.fsdp_config.param_offload and actor.fsdp_config.optimizer_offload
    assert (config.trainer.total_epochs, config.trainer.save_freq) == (1, recipe["save"])
    assert dict(config.data.mm_processor_kwargs) == {"min_pixels": 3136, "max_pixels": 12845056}
    assert dict(config.data.prompt) == {
        "template": recipe["template"],
        "image_size": 840,
        "family": "qwen2_5_vl",
        "coordinates": None,
        "text": None,
        "newline": False,
        "normalisation": "plain",
    }
    assert OmegaConf.to_container(config.reward.terms) == preset_settings(str(recipe["preset"]))
    assert str(recipe["model"]) in config.actor_rollout_ref.model.path
    assert config.actor_rollout_ref.model.use_remove_padding  # sequences are packed, not padded
    assert config.trainer.balance_batch


@pytest.mark.parametrize("name", sorted(OWN_LAYOUTS))
def test_own_layouts(dry_runs: dict[str, DictConfig], name: str) -> None:
    """The recipe is the published one of its kind; only the LoRA script has StAR's learning rate and no KL."""
    config, lora = dry_runs[name], "lora" in name
    rollout, actor = config.actor_rollout_ref.rollout, config.actor_rollout_ref.actor
    sizes = (actor.ppo_micro_batch_size_per_gpu, rollout.log_prob_micro_batch_size_per_gpu)
    parallel = (rollout.tensor_model_parallel_size, rollout.gpu_memory_utilization)
    assert (config.trainer.nnodes, config.trainer.n_gpus_per_node, *parallel, *sizes) == OWN_LAYOUTS[name]
    assert (config.data.train_batch_size, rollout.n, actor.ppo_mini_batch_size) == (16, 8, 16)
    assert (actor.use_kl_loss, actor.optim.lr) == (not lora, 1e-5 if lora else 1e-6)
    model = config.actor_rollout_ref.model
    assert (model.lora_rank, model.lora_alpha) == ((64, 64) if lora else (0, 64))
    assert config.reward.mask_scorer.device == ("cpu" if lora else "cuda")
    assert OmegaConf.to_container(config.reward.terms) == preset_settings("seg" if "3b" in name else "vision_reasoner")


@pytest.mark.parametrize("name", sorted({*LAYOUTS, *OWN_LAYOUTS}))
def test_every_layout_fits_its_plan(dry_runs: dict[str, DictConfig], name: str) -> None:
    """No phase is estimated to need more than the GPU has, with answers of full length; --dry-run refuses the rest."""
    config = dry_runs[name]
    model = find_architecture(config.actor_rollout_ref.model.path)
    assert model is not None
    needed = estimate(config, model, checks.prompt_spec(config).image_tokens)
    card = config.hardware.device_memory_gib * GIB
    sam2 = 3 * GIB if config.reward.mask_scorer.device == "cuda" else 0
    assert needed.training.peak + sam2 < card
    assert needed.rollout.share + needed.rollout.resident + sam2 < card


def test_tiny_recipe(dry_runs: dict[str, DictConfig]) -> None:
    config = dry_runs["run_tiny_cpu"]
    assert (config.trainer.device, config.trainer.use_v1, config.data.train_batch_size) == ("cpu", True, 16)
    assert config.actor_rollout_ref.model.path == str(ROOT / "seg_zero" / "models" / "tiny_policy")


def test_tiny_recipe_of_dialogues(dry_runs: dict[str, DictConfig]) -> None:
    config = dry_runs["run_tiny_dialogue_cpu"]
    assert (config.dialogue.rows, config.data.dialogue.rows) == ("conversations", "conversations")
    assert (config.algorithm.adv_estimator, config.algorithm.gamma) == ("dialogue_grpo", 0.0)
    assert config.actor_rollout_ref.rollout.agent.default_agent_loop == "dialogue"
    assert config.actor_rollout_ref.actor.use_dynamic_bsz and not config.engine.group_rollouts
    assert config.reward.terms.citation.weight == 0.25


def _options() -> list[list[str]]:
    """Every option of every group once: the first of each group together, then the second, and so on."""
    groups = ("policy", "data", "reward", "hardware", "schedule", "algorithm", "dialogue")
    base = {"data": {"rows"}, "hardware": {"gpu"}, "reward": {"base"}}  # shared parts of other options, not options
    listed = [
        [
            f"{group}={path.stem}"
            for path in sorted((ROOT / "configs" / group).glob("*.yaml"))
            if path.stem not in base.get(group, set())
        ]
        for group in groups
    ]
    return [[option for option in together if option] for together in zip_longest(*listed)]


@pytest.mark.parametrize("hardware", ["cpu_2core", "8x80g"])
def test_every_module_of_ours_that_a_configuration_names_exists(hardware: str) -> None:
    """verl imports them by name, some only when the run has started."""
    text = OmegaConf.to_yaml(loaded(f"hardware={hardware}")) + (ROOT / "configs/agent_loops.yaml").read_text()
    named = set(re.findall(r"\bseg_zero\.[\w.]+", text))
    assert len(named) > 8
    for name in sorted(named):
        parent, _, attribute = name.rpartition(".")
        spec = importlib.util.find_spec(parent)
        assert spec is not None and spec.origin is not None, name
        names = {getattr(node, "name", None) for node in ast.parse(Path(spec.origin).read_text()).body}
        assert attribute in names or importlib.util.find_spec(name) is not None, name


@pytest.mark.parametrize("options", _options(), ids=" ".join)
def test_every_option_resolves(options: list[str]) -> None:
    assert load_config(options).trainer.use_v1


def test_keys_are_set_as_hydra_sets_them() -> None:
    """Options composed once and keys set on a copy: what Hydra makes of all overrides together."""
    given = ["worker.rollout.n=2", *TINY, "+trainer.extra={a: 1}", "~trainer.logger", "output_dir=x"]
    given += ["actor@actor_rollout_ref.actor=megatron_actor", "++worker.rollout.n=3", "hydra.run.dir=x"]
    found, expected = composing._with_keys(given), composing._compose(tuple(given))
    assert OmegaConf.to_yaml(found) == OmegaConf.to_yaml(expected) and found.worker.rollout.n == 3
    assert composing._base(TINY).worker.rollout.n != 3


def test_keys_without_a_value_are_found_in_sections_and_lists_behind_no_reference() -> None:
    written = {"a": "???", "b": {"c": "???", "d": "${a}", "e": 1}, "f": [{"g": "???"}, "???"], "h": "${b}"}
    assert missing_keys(OmegaConf.create(written)) == ["a", "b.c", "f[0].g", "f[1]"]


KEYS: list[tuple[str, object, str]] = [
    ("worker.rollout.n", 4, "actor_rollout_ref.rollout.n"),
    ("worker.rollout.tensor_parallel_size", 4, "actor_rollout_ref.rollout.tensor_model_parallel_size"),
    ("worker.rollout.gpu_memory_utilization", 0.3, "actor_rollout_ref.rollout.gpu_memory_utilization"),
    ("worker.actor.optim.lr", 3e-6, "actor_rollout_ref.actor.optim.lr"),
    ("worker.actor.kl_loss_coef", 0.05, "actor_rollout_ref.actor.kl_loss_coef"),
    ("worker.actor.global_batch_size", 8, "actor_rollout_ref.actor.ppo_mini_batch_size"),
    ("worker.actor.model.model_path", "a/b", "actor_rollout_ref.model.path"),
    (
        "worker.actor.micro_batch_size_per_device_for_update",
        4,
        "actor_rollout_ref.actor.ppo_micro_batch_size_per_gpu",
    ),
    (
        "worker.actor.micro_batch_size_per_device_for_experience",
        4,
        "actor_rollout_ref.rollout.log_prob_micro_batch_size_per_gpu",
    ),
    ("worker.actor.clip_ratio", 0.3, "actor_rollout_ref.actor.clip_ratio_low"),
    ("worker.actor.clip_ratio", 0.3, "actor_rollout_ref.actor.clip_ratio_high"),
    ("worker.actor.clip_ratio_high", 0.3, "actor_rollout_ref.actor.clip_ratio_high"),
    ("worker.actor.entropy_coeff", 0.5, "actor_rollout_ref.actor.entropy_coeff"),
    ("worker.actor.use_kl_loss", False, "actor_rollout_ref.actor.use_kl_loss"),
    ("worker.actor.kl_loss_type", "kl", "actor_rollout_ref.actor.kl_loss_type"),
    ("worker.actor.offload.param_offload", False, "actor_rollout_ref.actor.fsdp_config.param_offload"),
    ("actor_rollout_ref.rollout.n", 2, "actor_rollout_ref.rollout.n"),
    ("actor_rollout_ref.rollout.n", 2, "worker.rollout.n"),  # the short name shows what runs
]
# The short names are set all at once, and then the long ones.
SET = {
    short: tuple(dict.fromkeys(f"{key}={value}" for key, value, _ in KEYS if key.startswith("worker.") == short))
    for short in (True, False)
}


@pytest.mark.parametrize(("key", "value", "reached"), KEYS)
def test_short_and_long_keys(key: str, value: object, reached: str) -> None:
    assert OmegaConf.select(loaded(*SET[key.startswith("worker.")]), reached) == value


@pytest.mark.parametrize(
    ("long", "short"),
    [
        ("trainer.v1.sampler.sampler_kwargs.sort_by_length", "engine.sort_by_length"),
        ("actor_rollout_ref.model.lora.group_by_length", "engine.group_by_length"),
        ("actor_rollout_ref.actor.freeze_vision_tower", "policy.freeze_vision"),
    ],
)
def test_what_is_given_under_the_name_that_verl_reads_shows_in_our_sections(long: str, short: str) -> None:
    """The plan of --dry-run and the engine read the same value."""
    config = load_config([*TINY, f"{long}=false"])
    assert OmegaConf.select(config, long) is OmegaConf.select(config, short) is False
    with pytest.raises(InputError, match=f"^{short}=True and {long}=False are the same setting"):
        load_config([*TINY, f"{long}=false", f"{short}=true"])


def test_every_short_name_reaches_verl() -> None:
    config = loaded(*TINY)
    for short, long_names in short_names().items():
        assert all(OmegaConf.select(config, name) == OmegaConf.select(config, short) for name in long_names), short
    assert {"worker.rollout.n", "worker.actor.optim.lr", "worker.actor.clip_ratio_low"} <= set(short_names())


def test_keys_of_other_trainers_lead_to_ours() -> None:
    """Every replacement that is offered exists, and no replaced key does."""
    names = set(key_names(loaded(*TINY)))
    assert set(RENAMED.values()) <= names
    assert not names & {*RENAMED, *REPLACED}


def test_one_setting_under_two_names() -> None:
    """Equal values pass; different ones are refused, whichever comes last."""
    both = ["worker.rollout.n=4", "actor_rollout_ref.rollout.n=4"]
    assert load_config([*TINY, *both]).worker.rollout.n == 4
    for overrides in (["worker.rollout.n=4", "actor_rollout_ref.rollout.n=2"], ["actor_rollout_ref.rollout.n=2"]):
        with pytest.raises(InputError, match=r"=4 and actor_rollout_ref\.rollout\.n=2 are the same"):
            load_config([*TINY, *overrides, "worker.rollout.n=4"])


def test_a_prompt_template_becomes_part_of_the_configuration(tmp_path: Path) -> None:
    """The run needs the file no more, and its checkpoints carry what was in it."""
    words = PromptTemplate("mine: {question}", "single", newline=True, normalisation="published", image_size=140)
    words.write(tmp_path / "prompt.json")
    given = [*TINY, f"policy.prompt_template={tmp_path / 'prompt.json'}"]
    config = load_config(given)
    (tmp_path / "prompt.json").unlink()
    expected = words.applied_to(PromptSpec("brief", 112))
    assert (
        checks.prompt_spec(config)
        == expected
        == spec_of_family(**OmegaConf.create(OmegaConf.to_yaml(config)).data.prompt)
    )
    assert (config.policy.template, config.policy.image_size) == ("single", 140)
    words.write(tmp_path / "prompt.json")
    assert checks.prompt_spec(load_config([*given, "policy.image_size=112"])).image_size == 112
    with pytest.raises(InputError, match=r"policy\.template=multi and policy\.prompt_template=.* both name a wording"):
        load_config([*given, "policy.template=multi"])
    with pytest.raises(InputError, match=r"none\.json cannot be read"):
        load_config([*TINY, "policy.prompt_template=none.json"])


def test_training_on_from_a_published_checkpoint_needs_its_prompt(tmp_path: Path) -> None:
    given = ["policy=qwen2_5_vl_7b", "worker.actor.model.model_path=Ricky06662/Seg-Zero-7B"]
    config = load_config(given)
    line = checks.prompt_warning(config)
    assert line is not None and "give policy.prompt_template=FILE" in line
    assert f"WARNING: {line}." in plan(config, None)
    PromptTemplate("mine: {question}", "single").write(tmp_path / "prompt.json")
    assert checks.prompt_warning(load_config([*given, f"policy.prompt_template={tmp_path / 'prompt.json'}"])) is None
    assert checks.prompt_warning(loaded(*TINY)) is None


def test_a_model_that_carries_its_wording_is_trained_with_it(tmp_path: Path) -> None:
    PromptSpec("single", 840, text="mine: {question}", newline=True, normalisation="published").save(tmp_path)
    given = [*TINY, f"worker.actor.model.model_path={tmp_path}"]
    spec = checks.prompt_spec(load_config(given))
    assert spec == PromptSpec("single", 112, text="mine: {question}", newline=True, normalisation="published")
    assert checks.prompt_spec(load_config([*given, "policy.template=multi"])) == PromptSpec("multi", 112)
    PromptSpec("single", 840).save(tmp_path)
    assert checks.prompt_spec(load_config(given)) == PromptSpec("brief", 112)


OTHER_ALGORITHMS = ("dr_grpo", "dapo", "gspo")
CHANGED = [
    *((path.stem, OTHER_ALGORITHMS[place % 3]) for place, path in enumerate(sorted(SCRIPTS))),  # a load takes a second
    *(("run_tiny_cpu", algorithm) for algorithm in OTHER_ALGORITHMS),
]


@pytest.mark.parametrize(("script", "algorithm"), sorted(set(CHANGED)))
def test_a_script_takes_another_algorithm(script: str, algorithm: str) -> None:
    """A second algorithm= after the script's own changes the loss and leaves batch, length and learning rate."""
    written = (ROOT / "training_scripts" / f"{script}.sh").read_text()
    given = [word for word in written.split() if "=" in word and not word.startswith("PATH")]
    before, after = loaded(*given), load_config([*given, f"algorithm={algorithm}"])
    assert not after.worker.actor.use_kl_loss and before.worker.actor.use_kl_loss == ("lora" not in script)
    for key in ("data.train_batch_size", "worker.rollout.n", "worker.actor.optim.lr", "trainer.save_freq"):
        assert OmegaConf.select(after, key) == OmegaConf.select(before, key), key


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("data.rollout_batch_size=8", "'data.rollout_batch_size' is named data.train_batch_size here; use that"),
        ("+trainer.total_episodes=2", "'trainer.total_episodes' is named trainer.total_epochs here; use that"),
        ("worker.rollout.limit_images=1", "'worker.rollout.limit_images' does not exist here; omit it"),
        ("worker.reward.compute_score=seg", "choose with reward=seg_strict"),
        ("+worker.rolout.n=4", "unknown configuration key 'worker.rolout.n'; nearest existing: worker.rollout.n"),
        ("+polcy.image_size=4", "unknown configuration key 'polcy.image_size'; nearest existing: policy.image_size"),
        ("worker.rolout.n=4", "unknown configuration key 'worker.rolout.n'; nearest existing: worker.rollout.n"),
        ("trainer.total_step=4", "trainer.total_training_steps"),
        ("lr=1", "worker.actor.optim.lr"),
        ("policy=tinny", "unknown option policy=tinny; choose one of glm4_1v_9b, qwen2_5_vl_3b, "),
        ("a b", "configuration: "),
        ("policy.family=llava", "policy family 'llava' is not supported; choose one of qwen2_vl, "),
        ("policy.template=plain", "unknown prompt template 'plain'"),
        ("policy.image_size=3", "policy: image_size 3"),
        ("worker.rollout.n=0", "worker.rollout.n=0 is not a whole number above 0"),
        ("worker.actor.global_batch_size=5", "data.train_batch_size=16 prompts cannot be split"),
        ("worker.actor.micro_batch_size_per_device_for_update=7", "for_update=7; choose a divisor of 128"),
        ("worker.actor.micro_batch_size_per_device_for_experience=7", "for_experience=7; choose a divisor of 128"),
        ("worker.rollout.tensor_parallel_size=2", "1 workers cannot be split into groups"),
        ("trainer.n_gpus_per_node=4096", "cannot be split over 4096 workers"),
        ("data.max_prompt_length=16", "is 16 tokens, but data.max_prompt_length=16"),
        ("worker.actor.model.model_path=/nowhere", "worker.actor.model.model_path: policy /nowhere is neither"),
        ("reward.terms.iou.weight=much", "reward term 'iou': weight 'much' is not a number"),
        ("+reward.terms.iuo.weight=1", "reward term 'iuo' has no function"),
        ("+reward.terms.mine={function: my_terms.mine, weight: 1}", "'my_terms.mine' cannot be imported"),
        (
            "reward.terms.mask.weight=1;reward.mask_scorer.segmentation_model=none",
            "reward.mask_scorer.segmentation_model",
        ),
        ("reward.terms.mask.weight=1;reward.mask_scorer.actors=0", "reward.mask_scorer.actors=0"),
    ],
)
def test_bad_input_is_one_line(override: str, message: str, tmp_path: Path) -> None:
    """Each fault ends in one InputError line and leaves nothing behind."""
    out = tmp_path / "out"
    with pytest.raises(InputError) as error:
        start.launch([*TINY, f"output_dir={out}", *override.split(";")])
    assert message in str(error.value)
    assert "\n" not in str(error.value)
    assert not out.exists()


def test_too_few_devices() -> None:
    gpu = loaded("hardware=4x80g")
    with pytest.raises(InputError, match="requests 4 GPUs, this machine has 1"):
        checks.check_devices(gpu, gpus=lambda: 1)
    cpu = load_config([*TINY, "trainer.n_gpus_per_node=4"])
    with pytest.raises(InputError, match="requests 4 CPU cores, this machine has 2"):
        checks.check_devices(cpu, cpus=lambda: 2)


def test_processes_that_use_cuda_are_not_forked() -> None:
    checks.check_forks(loaded(*TINY))
    with pytest.raises(InputError, match=r"set hardware\.fork_processes=false"):
        checks.check_forks(load_config(["hardware=4x80g", "hardware.fork_processes=true"]))


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("actor_rollout_ref.model.use_fused_kernels=true", "model.use_fused_kernels=true; set it to false or set"),
        ("actor_rollout_ref.actor.ulysses_sequence_parallel_size=2", "ulysses_sequence_parallel_size=2; set it to 1"),
        ("distillation.enabled=true", "engine.shared_prefix=true does not work with distillation; set engine"),
    ],
)
def test_shared_prefixes_exclude_what_replaces_attention_or_logits(override: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        checks.check_shared_prefix(load_config([*TINY, override]))
    checks.check_shared_prefix(load_config([*TINY, override, "engine.shared_prefix=false"]))


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("actor_rollout_ref.rollout.name=sglang", r"rollout\.name=sglang; set it to vllm or set engine"),
        (
            "actor_rollout_ref.rollout.agent.default_agent_loop=tool_agent",
            "default_agent_loop=tool_agent; set it to se",
        ),
        ("actor_rollout_ref.rollout.disaggregation.enabled=true", r"disaggregation\.enabled=true; set it to false or"),
        ("actor_rollout_ref.model.lora.merge=false", r"lora\.merge=false; set it to true or set engine"),
        (
            "distillation.enabled=true",
            r"distillation\.enabled=true; set it to false or set engine\.group",
        ),
    ],
)
def test_group_rollouts_exclude_what_needs_a_request_for_each_answer(override: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        checks.check_group_rollouts(load_config([*TINY, override]))
    checks.check_group_rollouts(load_config([*TINY, override, "engine.group_rollouts=false"]))


CONVERSATIONS = ["policy=tiny", "data=dialogues", "hardware=cpu_2core", "schedule=tiny", "dialogue=conversations"]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("engine.group_rollouts=true", r"group_rollouts=true does not work with dialogue\.rows=conversations"),
        ("algorithm.adv_estimator=grpo", r"adv_estimator=grpo; set it to dialogue_grpo"),
        ("algorithm.filter_groups.enable=true", r"filter_groups\.enable=true; set it to false"),
        ("actor_rollout_ref.actor.use_dynamic_bsz=false", r"use_dynamic_bsz=false; set it to true"),
        ("dialogue.predictions=outputs/x", r"dialogue\.predictions=outputs/x is for dialogue=rounds"),
        ("data.augmentation.flip=0.5", r"would move what earlier rounds of a dialogue say"),
        ("policy.template=single", r"policy\.template=single has no answer for a round without an object"),
        ("dialogue.teacher_history=1.5", r"teacher_history=1\.5 is not a number from 0 to 1"),
        ("dialogue.references=boxes", r"references=boxes is not one of text, crop, marks, mask"),
        ("dialogue.techer_history=1", r"nearest existing: dialogue\.teacher_history"),
        ("+dialogue.extra=1", r"unknown configuration key 'dialogue\.extra'"),
    ],
)
def test_conversations_exclude_what_they_cannot_do(override: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        checks.check_settings(load_config([*CONVERSATIONS, override]))
    checks.check_settings(loaded(*CONVERSATIONS))
    assert loaded(*CONVERSATIONS).engine.shared_prefix


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["dialogue.teacher_history=0.5"], r"teacher_history=0\.5 needs earlier answers; set dialogue\.predictions"),
        (["dialogue.references=mask"], r"set it to text, or dialogue=conversations"),
        (["algorithm.adv_estimator=dialogue_grpo"], r"is for whole conversations; set dialogue=conversations"),
    ],
)
def test_single_rounds_need_the_history_that_they_hold(overrides: list[str], message: str) -> None:
    rounds = [*CONVERSATIONS[:-1], "dialogue=rounds"]
    with pytest.raises(InputError, match=message):
        checks.check_settings(load_config([*rounds, *overrides]))
    checks.check_settings(loaded(*rounds))
    assert loaded(*rounds).engine.group_rollouts and loaded(*rounds).engine.shared_prefix


def test_missing_flash_attention() -> None:
    with pytest.raises(InputError, match="flash-attn is not installed"):
        checks.check_attention(loaded("hardware=4x80g"), installed=lambda _: None)
    checks.check_attention(loaded("hardware=cpu_2core"), installed=lambda _: None)


def test_model_folder_parts(tmp_path: Path) -> None:
    """A folder that lacks the processor is refused by name of what is missing."""
    for name in ("config.json", "model.safetensors", "tokenizer.json"):
        (tmp_path / name).write_text('{"model_type": "qwen2_5_vl"}')
    with pytest.raises(InputError, match="has no image processor"):
        checks.check_policy(load_config([*TINY, f"worker.actor.model.model_path={tmp_path}"]))
    (tmp_path / "preprocessor_config.json").write_text("{}")
    checks.check_policy(load_config([*TINY, f"worker.actor.model.model_path={tmp_path}"]))


@pytest.mark.parametrize(("family", "size"), [("qwen2_5_vl", 840), ("qwen3_vl", 832), ("glm4v", 840)])
def test_image_sizes_and_adapters_follow_the_family(family: str, size: int) -> None:
    config = load_config([*TINY, f"policy.family={family}", f"policy.image_size={size}"])
    assert checks.prompt_spec(config).image_size == size
    assert config.actor_rollout_ref.model.exclude_modules == FAMILIES[family].lora_exclude
    wrong = load_config([*TINY, f"policy.family={family}", f"policy.image_size={1672 - size}"])
    with pytest.raises(InputError, match=f"image_size {1672 - size} is not a multiple of .*try {size}"):
        checks.prompt_spec(wrong)


@pytest.mark.parametrize("path", sorted((ROOT / "configs" / "policy").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_policy_that_is_offered_fits_its_family(path: Path) -> None:
    config = load_config([f"policy={path.stem}", "hardware=8x80g"])
    spec = checks.prompt_spec(config)
    assert path.stem == "tiny" or spec.image_size == FAMILIES[config.policy.family].image_size
    model = find_architecture(resolve_model(config.actor_rollout_ref.model.path))
    assert model is not None and model.family == config.policy.family


def test_data_files(tmp_path: Path) -> None:
    few = tmp_path / "few.parquet"
    write_split(few, seed=4, count=3)
    broken = tmp_path / "broken.parquet"
    broken.write_text("no")
    for name, message in ((few, "has 3 rows, fewer than"), (broken, "is not parquet"), ("gone.parquet", "not exist")):
        with pytest.raises(InputError, match=message):
            checks.check_data(load_config([*TINY, f"data.train_files={name}", f"data.val_files={few}"]))


def test_a_finished_run_is_not_repeated(tmp_path: Path) -> None:
    rows = tmp_path / "rows.parquet"
    write_split(rows, seed=4, count=32)
    overrides = [*TINY, f"output_dir={tmp_path}", f"data.train_files={rows}", "trainer.total_training_steps=3"]
    config = load_config(overrides)
    assert start.steps_done(config) == 0
    for step in (2, 3):
        (tmp_path / "checkpoints" / f"global_step_{step}").mkdir(parents=True)
    (tmp_path / "checkpoints" / "latest_checkpointed_iteration.txt").write_text("2")
    assert start.steps_done(config) == 2
    (tmp_path / "checkpoints" / "latest_checkpointed_iteration.txt").write_text("3")
    with pytest.raises(InputError, match="already holds a run of 3 steps"):
        start.steps_done(config)


def test_a_checkpoint_of_other_workers_is_not_resumed(tmp_path: Path) -> None:
    for rank in range(4):
        (tmp_path / "actor").mkdir(exist_ok=True)
        (tmp_path / "actor" / f"model_world_size_4_rank_{rank}.pt").touch()
    start.check_shards(tmp_path, load_config([*TINY, "trainer.nnodes=2", "trainer.n_gpus_per_node=2"]))
    with pytest.raises(InputError, match="was written by 4 workers, now there are 1"):
        start.check_shards(tmp_path, loaded(*TINY))


def test_command_line_error_is_short() -> None:
    command = [sys.executable, "-m", "seg_zero.training.launch", "worker.rolout.n=4"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 2
    assert result.stderr.startswith("error: unknown configuration key") and result.stderr.count("\n") == 1
