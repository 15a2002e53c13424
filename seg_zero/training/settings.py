"""The sections of the training configuration that belong to this project, as typed values.

Here is what each key may hold; the defaults, and what a key means, are in ``configs/grpo.yaml`` and its groups. Other
sections are verl's.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, is_dataclass
from typing import Annotated, Any, ClassVar, TypeVar, get_type_hints

from omegaconf import DictConfig, OmegaConf

from seg_zero.dialogue.renderers import CARRIES, WAYS
from seg_zero.errors import InputError


@dataclass(frozen=True)
class Rule:
    """What a value must be, and what to do if it is not."""

    wanted: str
    remedy: str
    holds: Callable[[Any], bool]

    def check(self, key: str, value: object) -> None:
        """Raises InputError, naming key, value and remedy, if the rule does not hold."""
        if not self.holds(value):
            raise InputError(f"{key}={written(value)} is not {self.wanted}; {self.remedy}")


def is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def whole(least: int) -> Rule:
    return Rule(
        f"a whole number from {least} up", f"set it to {least} or more", lambda v: type(v) is int and v >= least
    )


def number(least: float) -> Rule:
    return Rule(f"a number from {least:g} up", f"set it to {least:g} or more", lambda v: is_number(v) and v >= least)


def or_null(rule: Rule) -> Rule:
    return Rule(f"{rule.wanted} or null", f"{rule.remedy} or to null", lambda v: v is None or rule.holds(v))


def one_of(*names: str) -> Rule:
    return Rule(f"one of {', '.join(names)}", "set it to one of them", lambda v: v in names)


SWITCH = Rule("true or false", "set it to true or false", lambda v: isinstance(v, bool))
_TEXT = Rule("a text", "set it to a name", lambda v: isinstance(v, str) and bool(v.strip()))
_NAMES = Rule(
    "a name or a list of names",
    "set it to all-linear or to a list",
    lambda v: _TEXT.holds(v) or (isinstance(v, list) and bool(v) and all(map(_TEXT.holds, v))),
)
POSITIVE = Rule("a number above 0", "set it to more than 0", lambda v: is_number(v) and v > 0)
FRACTION = Rule("a number from 0 to 1", "set it to a number in this range", lambda v: is_number(v) and 0 <= v <= 1)
_DEVICE = Rule("cpu or cuda", "set it to one of them", lambda v: v in ("cpu", "cuda"))


@dataclass(frozen=True)
class RunSettings:
    """Keys of no section."""

    SECTION: ClassVar[str] = ""

    output_dir: Annotated[str, _TEXT]
    watchdog_minutes: Annotated[float, POSITIVE]


@dataclass(frozen=True)
class CheckpointSettings:
    SECTION: ClassVar[str] = "checkpoints"

    keep_last: Annotated[int, whole(0)]
    keep_best: Annotated[bool, SWITCH]
    best_by: Annotated[str, _TEXT]


@dataclass(frozen=True)
class ValidationSettings:
    SECTION: ClassVar[str] = "validation"

    pictures: Annotated[int, whole(0)]


@dataclass(frozen=True)
class HealthSettings:
    SECTION: ClassVar[str] = "health"

    stop_after_not_finite: Annotated[int, whole(1)]


@dataclass(frozen=True)
class HardwareSettings:
    SECTION: ClassVar[str] = "hardware"

    device_memory_gib: Annotated[float | None, or_null(POSITIVE)]
    fork_processes: Annotated[bool, SWITCH]


@dataclass(frozen=True)
class EngineSettings:
    """What this project changes in verl's step; each switch that is off gives verl's own behaviour."""

    SECTION: ClassVar[str] = "engine"

    vision_once: Annotated[bool, SWITCH]
    processed_images_once: Annotated[bool, SWITCH]
    group_rollouts: Annotated[bool, SWITCH]
    one_update: Annotated[bool, SWITCH]
    group_by_length: Annotated[bool, SWITCH]
    sort_by_length: Annotated[bool, SWITCH]
    shared_prefix: Annotated[bool, SWITCH]
    shared_prefix_tokens: Annotated[int | None, or_null(whole(1))]


QUESTIONS, ROUNDS, CONVERSATIONS = "questions", "rounds", "conversations"
DIALOGUE_GRPO = "dialogue_grpo"  # the advantage estimator of conversations


@dataclass(frozen=True)
class DialogueSettings:
    """What a row is, and how earlier rounds of a dialogue re-enter its prompt."""

    SECTION: ClassVar[str] = "dialogue"

    rows: Annotated[str, one_of(QUESTIONS, ROUNDS, CONVERSATIONS)]
    references: Annotated[str, one_of(*WAYS)]
    carry: Annotated[str, one_of(*CARRIES)]
    max_rounds: Annotated[int, whole(1)]
    teacher_history: Annotated[float, FRACTION]
    predictions: Annotated[str | None, or_null(_TEXT)]
    discount: Annotated[float, FRACTION]


@dataclass(frozen=True)
class LoraSettings:
    rank: Annotated[int, whole(0)]
    alpha: Annotated[int, whole(1)]
    targets: Annotated[str | list[str], _NAMES]
    exclude: Annotated[str | None, or_null(_TEXT)]


@dataclass(frozen=True)
class PolicySettings:
    """Whether family, template, coordinates and image size fit one another, :class:`PromptSpec` tells."""

    SECTION: ClassVar[str] = "policy"

    family: Annotated[str, _TEXT]
    coordinates: Annotated[str | None, or_null(_TEXT)]
    prompt_template: Annotated[str | None, or_null(_TEXT)]
    freeze_vision: Annotated[bool, SWITCH]
    lora: LoraSettings
    segmentation_model: Annotated[str, _TEXT]
    template: Annotated[str, _TEXT]
    image_size: Annotated[int, whole(1)]
    min_pixels: Annotated[int, whole(1)]
    max_pixels: Annotated[int, whole(1)]


@dataclass(frozen=True)
class MaskScorerSettings:
    SECTION: ClassVar[str] = "reward.mask_scorer"

    segmentation_model: Annotated[str, _TEXT]
    device: Annotated[str, _DEVICE]
    actors: Annotated[int, whole(1)]
    num_gpus: Annotated[float, number(0)]
    cache_images: Annotated[int, whole(1)]
    timeout_seconds: Annotated[float, POSITIVE]


Section = (
    RunSettings
    | CheckpointSettings
    | ValidationSettings
    | HealthSettings
    | HardwareSettings
    | EngineSettings
    | DialogueSettings
    | PolicySettings
    | MaskScorerSettings
)
SECTIONS: tuple[type[Section], ...] = (
    RunSettings,
    CheckpointSettings,
    ValidationSettings,
    HealthSettings,
    HardwareSettings,
    EngineSettings,
    DialogueSettings,
    PolicySettings,
    MaskScorerSettings,
)
Settings = TypeVar("Settings")


def from_mapping(name: str, values: object, section: type[Settings]) -> Settings:
    """The section ``name`` ("": keys of no section) from plain values.

    Raises InputError, naming key, value and remedy, for a key that is unknown, has no value or a wrong one.
    """
    if not isinstance(values, Mapping):
        raise InputError(f"{name}={values} is not a section; give its keys, e.g. {name}.{next(iter(_rules(section)))}")
    rules, prefix = _rules(section), f"{name}." if name else ""
    for key in map(str, values):
        if key not in rules:
            near = difflib.get_close_matches(key, rules, n=3) or list(rules)
            listed = ", ".join(f"{prefix}{one}" for one in near)
            raise InputError(f"unknown configuration key {f'{prefix}{key}'!r}; nearest existing: {listed}")
    found: dict[str, Any] = {}
    for key, rule in rules.items():
        if key not in values:
            raise InputError(f"configuration: {prefix}{key} has no value; set it, e.g. {prefix}{key}=VALUE")
        value = values[key]
        if not isinstance(rule, Rule):
            found[key] = from_mapping(f"{prefix}{key}", value, rule)
        else:
            rule.check(f"{prefix}{key}", value)
            found[key] = value
    return section(**found)


def written(value: object) -> str:
    """A value as an override would give it, in one line."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return " ".join(str(value).split()) or "''"


def _rules(section: type) -> dict[str, Any]:
    """The rule of each key, or the class of a section within the section."""
    hints = get_type_hints(section, include_extras=True)
    return {
        key: hint if is_dataclass(hint) else hint.__metadata__[0] for key, hint in hints.items() if key != "SECTION"
    }


def read(config: DictConfig, section: type[Settings]) -> Settings:
    """A section of a whole configuration, e.g. ``read(config, HealthSettings)``; errors of :func:`from_mapping`."""
    name: str = section.SECTION  # type: ignore[attr-defined]
    if not name:  # beside verl's keys, of which the section knows nothing
        return from_mapping(name, {key: config[key] for key in _rules(section) if key in config}, section)
    node = OmegaConf.select(config, name)
    return from_mapping(name, OmegaConf.to_container(node) if OmegaConf.is_config(node) else node, section)


def check(config: DictConfig) -> None:
    """Raises InputError at the first wrong value in any section."""
    for section in SECTIONS:
        read(config, section)
