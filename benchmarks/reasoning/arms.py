"""The arms of the study: ways to go on from the same start, on the same questions of one and two hops."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from seg_zero.answer import write_answer, write_solution_multi
from seg_zero.cli.demo.hops import TRAINED
from seg_zero.data.source import open_rows
from seg_zero.data.synthetic.hop_steps import write_steps
from seg_zero.data.synthetic.hops import HOP_SETS, Chain
from seg_zero.data.synthetic.rows import HELD_OUT_SEED, TRAIN_SEED, hop_question, write_hops
from seg_zero.data.synthetic.scenes import Question, Sample, Scene
from seg_zero.errors import InputError
from seg_zero.evaluation.hops import SIDE
from seg_zero.files import read_text, write_text

_TEMPLATE = "chat_template.jinja"
_ASSISTANT = "<|im_start|>assistant\n"
_EMPTY_THOUGHT = "<think></think>"


@dataclass(frozen=True)
class Arm:
    """A way to go on. ``taught``: what supervised training copies first ("answers" or "chains"), None for nothing.

    grpo: GRPO goes on from there.
    silent: it may not think: every response begins with an empty thought, in GRPO and when it is judged.
    guided: it is rewarded for right steps, too.
    """

    name: str
    taught: str | None = None
    grpo: bool = True
    silent: bool = False
    guided: bool = False

    @property
    def trained(self) -> bool:
        return self.grpo or self.taught is not None


START = Arm("start", grpo=False)
GRPO = Arm("GRPO")
ARMS = (
    START,
    Arm("start, empty thought", grpo=False, silent=True),
    GRPO,
    Arm("supervised answers", taught="answers", grpo=False),
    Arm("supervised answers, empty thought", taught="answers", grpo=False, silent=True),
    Arm("supervised chains", taught="chains", grpo=False),
    Arm("GRPO, empty thought", silent=True),
    Arm("supervised answers, then GRPO, empty thought", taught="answers", silent=True),
    Arm("GRPO, steps rewarded", guided=True),
)


def response_to(scene: Scene, chain: Chain, taught: str) -> str:
    """The exact response: with an empty thought ("answers"), or with all the question's steps ("chains")."""
    thoughts = {"answers": "", "chains": write_steps(scene, chain.path, chain.relations)}
    return write_answer(thoughts[taught], write_solution_multi([scene.objects[chain.target].prompt]))


def write_sets(folder: Path, training_rows: int, held_out_rows: int) -> None:
    """``train.parquet`` of one and two hops in turn, ``held_out_SET.parquet`` for each set; what is there stays."""
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "train.parquet").exists():
        write_hops(folder / "train.parquet", TRAIN_SEED, training_rows, TRAINED, SIDE)
    for name in HOP_SETS:
        if not (folder / f"held_out_{name}.parquet").exists():
            write_hops(folder / f"held_out_{name}.parquet", HELD_OUT_SEED, held_out_rows, [name], SIDE)


def lessons(train: Path, taught: str) -> tuple[list[Sample], list[str]]:
    """The training rows for supervised training: samples, and the response to each."""
    samples, responses = [], []
    for row in open_rows(train):
        scene, chain = hop_question(row.id, row.kind, row.img_width)
        samples.append(Sample(scene, Question(row.kind, chain.text, (chain.target,))))
        responses.append(response_to(scene, chain, taught))
    return samples, responses


def forbid_thoughts(start: Path, out: Path) -> Path:
    """A copy of the policy ``start`` whose chat template begins each response with an empty thought.

    InputError if its template does not end with the opening of the assistant's turn.
    """
    template = read_text(start / _TEMPLATE)
    before, found, after = template.rpartition(_ASSISTANT)
    if not found or "<|im_start|>" in after:
        path = start / _TEMPLATE
        raise InputError(f"{path} does not end with the assistant's turn; give a policy of train_hop_start")
    shutil.copytree(start, out, ignore=shutil.ignore_patterns("progress.pt"))
    write_text(out / _TEMPLATE, before + found + _EMPTY_THOUGHT + after)
    return out


def named(names: Sequence[str] | None) -> list[Arm]:
    """Arms by name, in the order of :data:`ARMS`; all for None. InputError for an unknown one."""
    known = {arm.name: arm for arm in ARMS}
    for name in names or ():
        if name not in known:
            raise InputError(f"arm {name!r} is not known; choose of: {'; '.join(known)}")
    return [arm for arm in ARMS if names is None or arm.name in names]
