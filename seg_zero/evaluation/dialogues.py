"""Evaluates dialogues with true and with predicted history, side by side, resumable.

manifest.json           the settings that decide the results
parts/00003.jsonl       PART_DIALOGUES dialogues from 3 * PART_DIALOGUES, with both histories, written when complete
dialogues.jsonl         all dialogues in order; equal runs write equal bytes
metrics.json            by history, by way of counting, by round
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from PIL import Image

from seg_zero.dialogue.data.records import DialogueRecord
from seg_zero.dialogue.memory import GIVEN, Instance
from seg_zero.dialogue.references import Asked
from seg_zero.dialogue.session import Answerer, Ask, Embed
from seg_zero.errors import InputError
from seg_zero.evaluation.store import only_evaluation, open_folder
from seg_zero.files import read_lines, write_json, write_text
from seg_zero.masks import decode_mask, encode_mask
from seg_zero.metrics import MaskCounts, MaskMetrics, RoundMetrics, RoundScore, SegLlmMetrics, in_frame, score_round
from seg_zero.segmenter import Embedding, Segmenter

PART_DIALOGUES = 16  # answered round by round in one batch, and stored together
ALL_DIALOGUES = "dialogues.jsonl"
TRUE, PREDICTED = "true", "predicted"
HISTORIES = (TRUE, PREDICTED)
NATIVE, SEGLLM = "native", "segllm_1024"
COUNTINGS: dict[str, type[MaskMetrics]] = {NATIVE: MaskMetrics, SEGLLM: SegLlmMetrics}

Progress = Callable[[Sequence["PlayedDialogue"], bool], None]
Results = dict[str, dict[str, dict[str, dict[str, float]]]]


@dataclass(frozen=True, eq=False)
class Question:
    """One round to be answered. instances: the earlier rounds of its history, and regions given with it."""

    dialogue: int
    number: int
    picture: Image.Image
    asked: Asked
    instances: tuple[Instance, ...]


@dataclass(frozen=True, eq=False)
class Guess:
    """An answer: masks, boolean N x H x W, the policy's text, and why there is none."""

    masks: np.ndarray
    text: str = ""
    problem: str | None = None


class Predictor(Protocol):
    """What answers the rounds of an evaluation; dialogue numbers begin anew with ``begin``."""

    def begin(self, pictures: dict[int, Image.Image]) -> None:
        """Pictures of the dialogues that are asked about next."""
        ...

    def answer(self, questions: Sequence[Question]) -> list[Guess]:
        """A guess for each question, whatever becomes of it."""
        ...


class ModelPredictor:
    """A policy and a SAM2; a picture is embedded once for both histories."""

    def __init__(self, answerer: Answerer) -> None:
        self._answerer = answerer
        self._embed: dict[int, Embed] = {}

    def begin(self, pictures: dict[int, Image.Image]) -> None:
        self._embed = {number: _once(self._answerer.segmenter, picture) for number, picture in pictures.items()}

    def answer(self, questions: Sequence[Question]) -> list[Guess]:
        asks = [Ask(one.picture, one.asked, one.instances, self._embed[one.dialogue]) for one in questions]
        guesses = []
        for one, found in zip(questions, self._answerer.answer(asks), strict=True):
            if isinstance(found, InputError):
                guesses.append(Guess(np.zeros((0, one.picture.height, one.picture.width), dtype=bool), "", str(found)))
            else:
                guesses.append(Guess(found[0].masks, found[0].text, found[0].problem))
        return guesses


@dataclass(frozen=True)
class PlayedRound:
    """One answered round. mask: COCO RLE of the union; scores: by way of counting."""

    question: str
    references: tuple[int, ...]
    text: str
    problem: str | None
    mask: dict[str, Any]
    scores: dict[str, RoundScore]

    @property
    def iou(self) -> float:
        """At the picture's own size; 1 where truth and mask are empty."""
        return MaskMetrics().add_counts(self.scores[NATIVE].counts)


@dataclass(frozen=True)
class PlayedDialogue:
    """A dialogue's answers by history; number: its place in the data, from 0."""

    number: int
    id: str
    rounds: dict[str, tuple[PlayedRound, ...]] = field(default_factory=dict)

    def mean_iou(self, history: str) -> float:
        return float(np.mean([one.iou for one in self.rounds[history]]))

    def record(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def of_record(cls, record: dict[str, Any]) -> PlayedDialogue:
        """Raises KeyError or TypeError for what is no record."""
        rounds = {
            history: tuple(
                PlayedRound(
                    one["question"],
                    tuple(one["references"]),
                    one["text"],
                    one["problem"],
                    one["mask"],
                    {
                        name: RoundScore(MaskCounts(**one["scores"][name]["counts"]), one["scores"][name]["box_iou"])
                        for name in COUNTINGS
                    },
                )
                for one in record["rounds"][history]
            )
            for history in HISTORIES
        }
        return cls(record["number"], record["id"], rounds)


def evaluate_dialogues(
    load: Callable[[], Predictor],
    settings: dict[str, Any],
    dialogues: Sequence[DialogueRecord],
    out: Path,
    progress: Progress = lambda played, old: None,
) -> tuple[Results, list[PlayedDialogue]]:
    """Answer the dialogues that ``out`` does not hold yet, and write metrics.json.

    load: makes the predictor, when there is something to answer; settings: what decides the results, for the manifest.
    Returns the metrics by history, way of counting and round, and all dialogues in order. Raises InputError for another
    evaluation in ``out`` and for pictures that cannot be read.
    """
    if not dialogues:
        raise InputError("there are no dialogues to evaluate; check the data")
    with only_evaluation(out):
        open_folder(out, {**settings, "dialogues": len(dialogues)})
        parts = [
            range(first, min(first + PART_DIALOGUES, len(dialogues)))
            for first in range(0, len(dialogues), PART_DIALOGUES)
        ]
        played: list[PlayedDialogue] = []
        predictor: Predictor | None = None
        for place, numbers in enumerate(parts):
            path = out / "parts" / f"{place:05d}.jsonl"
            some = _read(path, numbers)
            old = some is not None
            if some is None:
                predictor = predictor or load()
                some = play(predictor, {number: dialogues[number] for number in numbers})
                _write(path, some)
            played += some
            progress(some, old)
        _write(out / ALL_DIALOGUES, played)
        results = metrics_of(played)
        write_json(out / "metrics.json", results)
        return results, played


def play(predictor: Predictor, dialogues: dict[int, DialogueRecord]) -> list[PlayedDialogue]:
    """Answer some dialogues with both histories, round by round.

    Raises InputError for a picture that cannot be read.
    """
    pictures = {number: item.picture() for number, item in dialogues.items()}
    predictor.begin(pictures)
    rounds: dict[str, dict[int, list[PlayedRound]]] = {h: {number: [] for number in dialogues} for h in HISTORIES}
    memories: dict[str, dict[int, list[Instance]]] = {h: {number: [] for number in dialogues} for h in HISTORIES}
    guesses: dict[int, Guess] = {}
    for number in range(1, max(len(item.rounds) for item in dialogues.values()) + 1):
        asked = {d: item for d, item in dialogues.items() if len(item.rounds) >= number}
        truths = {d: item.rounds[number - 1].truth() for d, item in asked.items()}
        for history in HISTORIES:
            if number > 1 or history == TRUE:  # the first round has no history, so its guesses hold for both
                questions = [_question(d, number, pictures[d], item, memories[history][d]) for d, item in asked.items()]
                guesses = dict(zip(asked, predictor.answer(questions), strict=True))
            for d, item in asked.items():
                rounds[history][d].append(_judged(item, number, guesses[d], truths[d]))
                name = item.rounds[number - 1].asked.question
                masks = guesses[d].masks[guesses[d].masks.any(axis=(1, 2))]
                true, found = Instance.of_mask(number, name, truths[d]), Instance(number, name, masks)
                memories[history][d].append(true if history == TRUE else found)
    return [
        PlayedDialogue(d, item.id, {history: tuple(rounds[history][d]) for history in HISTORIES})
        for d, item in dialogues.items()
    ]


def metrics_of(played: Sequence[PlayedDialogue]) -> Results:
    """By history, way of counting ("native", "segllm_1024") and round. Every round of the data is in the mean."""
    results: Results = {}
    for history in HISTORIES:
        results[history] = {}
        for counting, rule in COUNTINGS.items():
            metrics = RoundMetrics(rule)
            for item in played:
                for number, one in enumerate(item.rounds[history], start=1):
                    metrics.add(number, one.scores[counting])
            results[history][counting] = metrics.result()
    return results


def _question(d: int, number: int, picture: Image.Image, item: DialogueRecord, memory: list[Instance]) -> Question:
    one = item.rounds[number - 1]
    instances = tuple(memory)
    if one.given:
        instances += (Instance(GIVEN, "", np.stack([decode_mask(rle) for rle in one.given])),)
    return Question(d, number, picture, one.asked, instances)


def _judged(item: DialogueRecord, number: int, guess: Guess, truth: np.ndarray) -> PlayedRound:
    one = item.rounds[number - 1]
    mask = np.asarray(guess.masks.any(axis=0))
    native, framed = score_round(mask, truth), score_round(in_frame(mask), in_frame(truth))
    if guess.problem is not None:  # scores 0, even if nothing is to be found
        native, framed = (replace(score, counts=replace(score.counts, answered=False)) for score in (native, framed))
    scores = {NATIVE: native, SEGLLM: framed}
    return PlayedRound(one.asked.question, one.asked.references, guess.text, guess.problem, encode_mask(mask), scores)


def _once(segmenter: Segmenter, picture: Image.Image) -> Embed:
    kept: list[Future[tuple[Embedding, float]]] = []

    def embed() -> tuple[Future[tuple[Embedding, float]], bool]:
        if kept:
            return kept[0], False
        future: Future[tuple[Embedding, float]] = Future()
        future.set_result((segmenter.embed([picture])[0], 0.0))
        kept.append(future)
        return future, True

    return embed


def _write(path: Path, played: Sequence[PlayedDialogue]) -> None:
    write_text(path, "".join(f"{json.dumps(one.record(), ensure_ascii=False)}\n" for one in played))


def _read(path: Path, numbers: range) -> list[PlayedDialogue] | None:
    """The dialogues of a part; None if it is missing or not as written."""
    try:
        found = [PlayedDialogue.of_record(json.loads(line)) for line in read_lines(path)]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return found if [one.number for one in found] == list(numbers) else None
