"""Pictures labelled by text: the model in line for all users, one user's state, and what the page shows of it."""

from __future__ import annotations

import html
import json
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from seg_zero.encoders.radio_versions import ImageDefaults
from seg_zero.errors import InputError, counted
from seg_zero.images import encode_png
from seg_zero.open_vocabulary.labels import parse_labels
from seg_zero.open_vocabulary.pictures import (
    colour_of_label,
    draw_labels,
    enlargement,
    heatmap,
    heatmap_grid,
    label_picture,
    tint_labels,
)
from seg_zero.open_vocabulary.result import LabelledImage
from seg_zero.open_vocabulary.settings import Settings
from seg_zero.segmenter import Segmenter
from seg_zero.web import show
from seg_zero.web.asker import PATIENCE, Waiting
from seg_zero.web.session import Asking, Picture, write_pixel

if TYPE_CHECKING:
    # Their packages may be missing.
    from seg_zero.open_vocabulary.segmenter import OpenVocabularySegmenter
    from seg_zero.remote_sensing.segmenter import RemoteSensingSegmenter

RADIO, AERIAL = "RADIO", "Remote sensing"  # the models, by what the page calls them
MOST_LABELS = 200
PICTURES_KEPT = 16  # whose features are remembered, of all users
WELCOME = (
    '<ol class="welcome"><li>Choose an example, or give a picture of your own.</li>'
    "<li>Write what may be in it: each label gets a colour, and every pixel gets a label.</li>"
    "<li>Look at the map and at the heat map of each label; take them with you.</li></ol>"
)


@dataclass(frozen=True)
class AerialSettings:
    """Settings of the network for aerial tiles. sliding: four windows besides the whole picture; threshold: pixels
    whose highest probability is below have no label."""

    sliding: bool = False
    threshold: float = 0.0


@dataclass(frozen=True)
class Asked:
    """What is wanted of a picture: its labels, the settings of a model, which say what model that is, and whether SAM2
    redraws the edges, which it does for RADIO alone."""

    labels: tuple[str, ...]
    settings: Settings | AerialSettings
    refine: bool = False

    @property
    def model(self) -> str:
        return RADIO if isinstance(self.settings, Settings) else AERIAL


class Labeller:
    """Labels one picture at a time, in order of arrival, in its own thread.

    models: the name of the weights and what labels with them, for RADIO, AERIAL or both; warning: what is to be said
    about RADIO's.
    """

    def __init__(
        self,
        models: Mapping[str, tuple[str, OpenVocabularySegmenter | RemoteSensingSegmenter]],
        refiner: Segmenter,
        warning: str | None = None,
    ) -> None:
        self.names = {model: name for model, (name, _) in models.items()}
        self._warning = warning
        self._models: dict[str, Any] = {model: segmenter for model, (_, segmenter) in models.items()}
        self._refiner = refiner
        if RADIO in self._models:
            self._models[RADIO].images_kept = PICTURES_KEPT
        self._worker = ThreadPoolExecutor(1, "labels")
        self._lock = threading.Lock()
        self._line: list[object] = []

    @property
    def about(self) -> str:
        """The models in one line."""
        return " ".join(f"{model}: {name}." for model, name in self.names.items())

    def warning_of(self, model: str) -> str | None:
        """What is to be said about a model with its answers."""
        return self._warning if model == RADIO else None

    @property
    def windows(self) -> tuple[int, int]:
        """Crop and stride of the RADIO backbone, in pixels; those of the published ones if there is none."""
        known = RADIO in self._models
        image = self._models[RADIO].encoder.description.image if known else ImageDefaults()
        return image.crop, image.stride

    def label(self, image: Image.Image, asked: Asked) -> Iterator[Waiting | tuple[LabelledImage, float]]:
        """The labelled picture and the seconds that it took; a Waiting if nothing happens.

        Closing the iterator while others come first takes the picture out of the line. Raises what
        :meth:`OpenVocabularySegmenter.segment` raises.
        """
        ticket = object()
        with self._lock:
            self._line.append(ticket)
            job = self._worker.submit(self._work, image, asked)
        try:
            while not wait([job], PATIENCE).done:
                with self._lock:
                    ahead = self._line.index(ticket)
                yield Waiting(ahead)
            yield job.result()
        finally:
            job.cancel()
            with self._lock:
                self._line.remove(ticket)

    def _work(self, image: Image.Image, asked: Asked) -> tuple[LabelledImage, float]:
        start = time.perf_counter()
        segmenter = self._models[asked.model]
        if isinstance(asked.settings, AerialSettings):
            segmenter.sliding = asked.settings.sliding
            found = segmenter.segment(image, asked.labels, asked.settings.threshold)
        else:
            segmenter.change(asked.settings)
            segmenter.refine_with(self._refiner if asked.refine else None)
            found = segmenter.segment(image, asked.labels)
        return found, time.perf_counter() - start


@dataclass(frozen=True, eq=False)
class Labelled:
    """An answer, as small as the page needs it: T labels, h x w patches, H x W pixels of the picture's view.

    label_map: uint16 H x W, 0 without a label; areas: fractions of 1 + T values of it; probabilities: float32
    T x h x w; files: links to what can be downloaded.
    """

    picture: Picture
    names: tuple[str, ...]
    label_map: np.ndarray
    areas: np.ndarray
    probabilities: np.ndarray
    kept: np.ndarray
    seconds: float
    warning: str | None
    files: str

    @classmethod
    def of(cls, picture: Picture, found: LabelledImage, seconds: float, asked: Asked, by: Labeller) -> Labelled:
        values = found.label_map.astype(np.uint16)
        areas = np.bincount(values.ravel(), minlength=len(found.names)) / values.size
        view = np.asarray(Image.fromarray(values).resize(picture.view.size, Image.Resampling.NEAREST))
        labels = [
            {
                "value": number,
                "texts": list(label.texts),
                "area": round(float(areas[number]), 6),
                "highest_probability": round(float(found.patch_probabilities[number - 1].max()), 6),
                "absent": not found.kept[number - 1],
            }
            for number, label in enumerate(found.labels, start=1)
        ]
        record = {
            **{"image": picture.name, "size": list(picture.size)},
            **{"model": asked.model, "backbone": by.names[asked.model], "labels": labels},
            **{"unlabelled": round(float(areas[0]), 6), "refined": asked.refine, "settings": asdict(asked.settings)},
        }
        return cls(
            *(picture, tuple(found.names[1:]), view, areas, found.patch_probabilities, found.kept, seconds),
            warning=by.warning_of(asked.model),
            files=_files(picture, found, view, record),
        )

    def heat(self, index: int) -> np.ndarray:
        """float32 H x W: the probability of a label, from 0 up, before any is taken for absent."""
        small = Image.fromarray(self.probabilities[index])
        return np.asarray(small.resize(self.picture.view.size, Image.Resampling.BILINEAR))


@dataclass(eq=False)
class Labelling(Asking):
    """The state of one user. shown: 0 for the map of all labels, else the number of the label whose heat is shown."""

    answer: Labelled | None = None
    shown: int = 0

    def answered(self, answer: Labelled) -> None:
        # The label that is looked at stays, if it is still among the labels.
        name = self.answer.names[self.shown - 1] if self.answer is not None and self.shown else None
        self.answer = answer
        self.shown = answer.names.index(name) + 1 if name in answer.names else 0


def chips(given: Sequence[str]) -> list[str]:
    """What was written, one label each: several may be written at once with semicolons or on lines of their own.

    Blank ones and repetitions are left out.
    """
    parts = (" ".join(part.split()) for text in given for part in text.replace("\n", ";").split(";"))
    found: dict[str, str] = {}
    for part in filter(None, parts):
        found.setdefault(part.casefold(), part)
    return list(found.values())


def read_chips(given: Sequence[str]) -> tuple[str, ...]:
    """The labels to ask about. Raises InputError for none, too many, or repeated synonyms."""
    labels = chips(given)
    if len(labels) > MOST_LABELS:
        raise InputError(f"{len(labels)} labels are more than {MOST_LABELS}; ask about fewer at a time")
    parse_labels(labels)
    return tuple(labels)


def draw(state: Labelling, strength: float) -> Image.Image | None:
    """The map of all labels over the picture, or the heat of one; None before the first answer."""
    answer = state.answer
    if answer is None:
        return None
    if not state.shown:
        return tint_labels(answer.picture.view, answer.label_map.astype(np.int32), strength)
    view, scale = answer.picture.view, enlargement(answer.picture.view.size)
    hot = Image.fromarray(heatmap(answer.heat(state.shown - 1)))
    return hot.resize((view.width * scale, view.height * scale), Image.Resampling.NEAREST)


def thumbnails(answer: Labelled) -> list[tuple[Image.Image, str]]:
    """The map, then the heat of each label, small and with captions."""
    size = (show.THUMBNAIL_SIDE * 2, show.THUMBNAIL_SIDE)
    whole = tint_labels(answer.picture.view, answer.label_map.astype(np.int32))
    whole.thumbnail(size)
    found = [(whole, "all labels")]
    for index, name in enumerate(answer.names):
        small = Image.fromarray(heatmap(answer.probabilities[index]))
        fitted = answer.picture.view.copy()
        fitted.thumbnail(size)
        found.append((small.resize(fitted.size, Image.Resampling.BILINEAR), f"{name}, up to {_top(answer, index):.2f}"))
    return found


def waiting(ahead: int) -> str:
    """What stands in place of an answer while it is made, and ``ahead`` of other users come first."""
    line = f"waiting for {counted(ahead, 'picture')} of others" if ahead else "the picture is being labelled"
    return show.notice(f"{line} …", "note")


def headline(answer: Labelled) -> str:
    """What was found and how long it took, as HTML."""
    seen = int((answer.areas[1:] > 0).sum())
    line = f"{counted(seen, 'label')} of {len(answer.names)} found in {answer.picture.name}"
    time_taken = f'<div class="times">labelling {answer.seconds:.2f} s</div>'
    return show.notice(line, "note") + show.notice(answer.warning or "", "warning") + time_taken


def legend(answer: Labelled) -> str:
    """All labels with their colour, how much of the picture they cover, and their highest probability, as HTML."""
    rows = []
    order = sorted(range(1, len(answer.names) + 1), key=lambda number: -answer.areas[number])
    for number in [*order, *([0] if answer.areas[0] else [])]:
        name = "no label" if not number else answer.names[number - 1]
        swatch = f'<span class="swatch" style="background: rgb{colour_of_label(number)}"></span>' if number else ""
        top = f"{_top(answer, number - 1):.2f}" if number else ""
        absent = " (taken for absent)" if number and not answer.kept[number - 1] else ""
        rows.append(
            f'<tr><th scope="row">{swatch}{html.escape(name)}</th><td>{_percent(answer.areas[number])}</td>'
            f"<td>{top}{absent}</td></tr>"
        )
    head = "".join(f'<th scope="col">{words}</th>' for words in ("label", "area", "highest probability"))
    return f'<table class="objects"><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table>'


def at_place(answer: Labelled, click: tuple[float, float]) -> str:
    """The most probable labels at a click, in pixels of what :func:`draw` gave, as one line."""
    view, scale = answer.picture.view, enlargement(answer.picture.view.size)
    column, row = (min(int(at / scale), side - 1) for at, side in zip(click, view.size, strict=True))
    _, height, width = answer.probabilities.shape
    here = answer.probabilities[:, row * height // view.height, column * width // view.width]
    best = [f"{answer.names[index]} {here[index]:.2f}" for index in np.argsort(-here, kind="stable")[:3]]
    x, y = (at * whole / side for at, whole, side in zip((column, row), answer.picture.size, view.size, strict=True))
    return f"at {write_pixel(x)}, {write_pixel(y)}: {', '.join(best)}"


def _top(answer: Labelled, index: int) -> float:
    return float(answer.probabilities[index].max())


def _percent(fraction: float) -> str:
    if not fraction:
        return "none"
    return "below 1 %" if fraction < 0.01 else f"{fraction:.0%}".replace("%", " %")


def _files(picture: Picture, found: LabelledImage, view: np.ndarray, record: dict[str, Any]) -> str:
    """Links to the files of an answer. view: the label map at the size of the picture's view."""
    stem, names, count = show.stem_of(picture), found.names, len(found.labels)
    whole = Image.fromarray(found.label_map.astype(np.uint16)).resize(picture.size, Image.Resampling.NEAREST)
    heats = ((label.name, found.patch_probabilities[index]) for index, label in enumerate(found.labels))
    pictures = (
        ("labels", label_picture(np.asarray(whole), count), "Label map (PNG)"),
        ("overlay", draw_labels(picture.view, view.astype(np.int32), names), "Overlay (PNG)"),
        ("heatmaps", heatmap_grid(picture.view, heats), "Heat maps (PNG)"),
    )
    text = json.dumps(record, ensure_ascii=False).encode("utf-8")
    return show.links(
        (
            *((f"{stem}_{kind}.png", "image/png", encode_png(made), words) for kind, made, words in pictures),
            (f"{stem}_labels.json", "application/json", text, "Labels (JSON)"),
        )
    )
