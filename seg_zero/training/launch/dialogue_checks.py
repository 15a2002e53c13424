"""Checks of what a run asks of dialogues, before anything is started. Imports nothing heavy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from seg_zero.data.augmentation import Augmentation
from seg_zero.dialogue.data.records import BadRecord, Reading, read_dialogues
from seg_zero.errors import InputError
from seg_zero.evaluation.dialogues import ALL_DIALOGUES
from seg_zero.prompting import PromptSpec
from seg_zero.training.dialogue.scripts import Script, bad_dialogues, count, dialogue_files, earlier_answers, scripts_of
from seg_zero.training.settings import CONVERSATIONS, DIALOGUE_GRPO, QUESTIONS, ROUNDS, DialogueSettings, read


def check(config: DictConfig, spec: PromptSpec) -> None:
    """The settings of dialogues agree with one another and with the rest. Raises InputError for the first that does
    not, with the remedy."""
    settings = read(config, DialogueSettings)
    estimator, loop = config.algorithm.adv_estimator, config.actor_rollout_ref.rollout.agent.default_agent_loop
    if settings.rows != CONVERSATIONS:
        for key, value, own in (
            ("algorithm.adv_estimator", estimator, DIALOGUE_GRPO),
            ("actor_rollout_ref.rollout.agent.default_agent_loop", loop, "dialogue"),
        ):
            if value == own:
                raise InputError(f"{key}={own} is for whole conversations; set dialogue=conversations")
    if settings.rows == QUESTIONS:
        return
    if not spec.multi:
        raise InputError(
            f"policy.template={spec.template} has no answer for a round without an object; dialogues need one such as "
            "multi"
        )
    if Augmentation(**config.data.augmentation) != Augmentation():
        raise InputError(
            "data.augmentation would move what earlier rounds of a dialogue say; set its flip and scale_jitter to 0"
        )
    if settings.rows == ROUNDS:
        _check_rounds(settings)
    else:
        _check_conversations(config, settings)


def _check_rounds(settings: DialogueSettings) -> None:
    if settings.references == "mask":
        raise InputError(
            "dialogue.references=mask shows the policy no more than text does, and SAM2's part is not played in "
            "single rounds; set it to text, or dialogue=conversations"
        )
    if settings.teacher_history < 1 and settings.predictions is None:
        raise InputError(
            f"dialogue.teacher_history={settings.teacher_history} needs earlier answers; set dialogue.predictions to "
            "the folder of `seg-zero evaluate` on data.train_files, or dialogue.teacher_history=1"
        )


def _check_conversations(config: DictConfig, settings: DialogueSettings) -> None:
    if settings.predictions is not None:
        raise InputError(
            f"dialogue.predictions={settings.predictions} is for dialogue=rounds; conversations make their own answers"
        )
    rollout = "actor_rollout_ref.rollout"
    wanted: dict[str, object] = {
        "algorithm.adv_estimator": DIALOGUE_GRPO,
        f"{rollout}.agent.default_agent_loop": "dialogue",
        "actor_rollout_ref.actor.use_dynamic_bsz": True,
        f"{rollout}.log_prob_use_dynamic_bsz": True,
        "actor_rollout_ref.ref.log_prob_use_dynamic_bsz": True,
        "algorithm.filter_groups.enable": False,
        "reward.reward_manager.name": "naive",
        "reward.reward_model.enable": False,
        "distillation.enabled": False,
    }
    for key, need in wanted.items():
        value = OmegaConf.select(config, key)
        if value != need:
            raise InputError(
                f"dialogue=conversations does not work with {key}={str(value).lower()}; set it to {str(need).lower()}"
            )


class _Files:
    """The dialogues of files and earlier answers to them, read once however many checks ask; again if one changes."""

    def __init__(self) -> None:
        self._readings: dict[Path, tuple[Any, Reading]] = {}
        self._answered: set[Any] = set()

    def reading(self, path: Path) -> Reading:
        """A file's dialogues without the things that only their proof looks at, and its unusable records."""
        stamp = _stamp(path)
        if path not in self._readings or self._readings[path][0] != stamp:
            found = read_dialogues(path)
            self._readings[path] = stamp, replace(found, dialogues=[replace(one, things=()) for one in found.dialogues])
        return self._readings[path][1]

    def usable(self, path: Path) -> Reading:
        """The same without the unusable records, about which :func:`find_bad` decides."""
        return replace(self.reading(path), bad=[])

    def check_answers(self, predictions: str, scripts: Sequence[Script], asked: tuple[Any, ...]) -> None:
        """As :func:`earlier_answers`; asked: of what the scripts depend on."""
        path = Path(predictions).expanduser()
        known = (path, _stamp(path / ALL_DIALOGUES if path.is_dir() else path), *asked)
        if known not in self._answered:
            earlier_answers(predictions, scripts)
            self._answered.add(known)

    def forget(self) -> None:
        self._readings.clear()
        self._answered.clear()


_files = _Files()
forget_files = _files.forget  # before a run, whose launcher waits for hours


def _stamp(path: Path) -> tuple[int, int] | None:
    """What changes when a file is written; None if there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size


def count_rows(config: DictConfig, names: str | Sequence[str], limit: int) -> int:
    """Rows of a run: rounds or dialogues, without records that cannot be used. Raises InputError for files that cannot
    be used, and for earlier answers that do not belong to the training rows."""
    settings = read(config, DialogueSettings)
    scripts = scripts_of(names, settings, limit, config.data.bad_rows, _files.usable)
    if settings.predictions is not None and names == config.data.train_files:
        files = tuple((path, _stamp(path)) for path in dialogue_files(names))
        _files.check_answers(settings.predictions, scripts, (files, settings.max_rounds, limit))
    return count(scripts, settings)


def find_bad(config: DictConfig, skip_bad: bool) -> dict[str, list[int]]:
    """Records that cannot be used, by file: their numbers, from 0. Raises InputError if there are any, unless
    ``skip_bad``."""
    found: dict[str, list[BadRecord]] = {}
    for names in (config.data.train_files, config.data.val_files):
        found |= bad_dialogues(names, _files.reading)
    for name, bad in found.items():
        if not skip_bad:
            raise InputError(
                f"{len(bad)} records of {name} cannot be used, {bad[0].line()}; `seg-zero data dialogues --check "
                f"{name}` lists all; --skip-bad skips them"
            )
        print(f"data: {len(bad)} records of {name} are skipped", flush=True)
    return {name: [one.number - 1 for one in bad] for name, bad in found.items()}


def plan_lines(config: DictConfig) -> list[str]:
    """What a row is and how earlier rounds re-enter, for the plan; nothing where rows are questions."""
    settings = read(config, DialogueSettings)
    if settings.rows == QUESTIONS:
        return []
    which = "all of them" if settings.carry == "all" else "those that the question refers to"
    how = f"Earlier rounds re-enter as {settings.references}, {which}"
    teacher = f"with their true masks in {settings.teacher_history:.0%} of "
    if settings.rows == ROUNDS:
        return [f"Each row is a round of a dialogue of at most {settings.max_rounds}. {how}, {teacher}the rows."]
    later = "with its own score alone" if not settings.discount else f"also with later rounds x {settings.discount:g}"
    return [
        f"Each row is a dialogue of at most {settings.max_rounds} rounds, and each of its rounds a sample, credited "
        f"{later}. {how}, {teacher}the rounds."
    ]
