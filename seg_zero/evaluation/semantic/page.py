"""The report of a label evaluation as one self-contained HTML page: numbers, classes, confusions and cases."""

from __future__ import annotations

import html
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from seg_zero.data.label_maps import Pair
from seg_zero.errors import InputError, counted
from seg_zero.evaluation.semantic.run import Judged, Results, map_path
from seg_zero.evaluation.wording import percent
from seg_zero.files import write_text
from seg_zero.images import load_image
from seg_zero.metrics.semantic import IGNORE
from seg_zero.open_vocabulary.pictures import draw_labels
from seg_zero.open_vocabulary.result import NONE
from seg_zero.visualize.html_page import document, panel, tile

SIDE = 420  # of a drawn picture's longer side, in pixels, beside its legend
_TYPICAL, _WORST, _BEST = 4, 4, 2  # how many pictures of each
_CONFUSIONS = 12
_FAILED = 50  # problems in the page; metrics.json has all
_PIXELS = 8_000_000  # of a picture, as it is read for the page


def write_page(
    path: Path, results: Results, out: Path, speed: str, manner: str = "every pixel labelled by text, without training"
) -> None:
    """Write the page; ``out`` holds the label maps, ``speed`` is a line about this run, ``manner`` says how."""
    confusion, failed = results.confusion, results.failed
    ours, other = confusion.result(), confusion.result("detectron2")
    judged = len(results.images) - len(failed)
    body = f"""<h1>Evaluation of labels</h1>
<p class="lead"><b>{html.escape(Path(str(results.settings.get("backbone", "a backbone"))).name)}</b> on
<b>{html.escape(results.data.title)}</b>, {counted(judged, "picture")}: {html.escape(manner)}.</p>
{_problems(failed, len(results.images))}
<div class="tiles">{_tiles(results, judged)}</div>
<p class="note">IoU of a class: its right pixels over all pixels that are or were called it, summed over all pictures
before dividing. {html.escape(speed)}</p>
{_cases(results, out)}
<h2>Classes</h2>{_classes(results)}
{_confusions(results)}
<h2>All metrics</h2>{_numbers(ours, other, results)}
<details><summary>Settings</summary><div class="wide"><table class="words">{_settings(results)}</table></div>
</details>"""
    write_text(path, document(f"Labels of {html.escape(results.data.name)}", body))


def _tiles(results: Results, judged: int) -> str:
    ours, other = results.confusion.result(), results.confusion.result("detectron2")
    right = tile("pixels right", f"{ours['aAcc']:.3f}", f"of those that count, in {counted(judged, 'picture')}")
    if results.data.rule == "mmseg":
        return (
            tile("mIoU", f"{ours['mIoU']:.3f}", "mmseg's rule: a class that is only predicted counts 0")
            + tile("mIoU, detectron2", f"{other['mIoU']:.3f}", "a class that is only predicted is left out")
            + right
        )
    made = tile("mIoU", f"{other['mIoU']:.3f}", "detectron2's rule: a class that is only predicted is left out")
    made += tile("mACC", f"{other['mACC']:.3f}", "how much of a class's pixels is right, mean over the classes")
    made += tile("fwIoU", f"{other['fwIoU']:.3f}", "IoU weighted by the pixels of the classes")
    if results.data.boundaries:
        edges = results.boundaries()
        made += tile("boundary IoU", f"{edges['boundary_IoU']:.3f}", "detectron2's rule, near the edges of regions")
    return made + right


def _problems(failed: Sequence[Judged], total: int) -> str:
    if not failed:
        return ""
    lines = "".join(f"<li>{html.escape(one.problem or '')}</li>" for one in failed[:_FAILED])
    more = f"<li>and {len(failed) - _FAILED} more, in metrics.json</li>" if len(failed) > _FAILED else ""
    return (
        f'<div class="warning"><b>{len(failed)} of {counted(total, "picture")} could not be judged</b> and are in no '
        f"number below. Run the same command again once they are repaired.<ul>{lines}{more}</ul></div>"
    )


def _classes(results: Results) -> str:
    iou, accuracy = results.confusion.iou(results.data.rule), results.confusion.accuracy()
    edges = results.regions.iou() if results.data.boundaries else None
    pixels = results.confusion.matrix.sum(axis=1)
    order = sorted(range(len(iou)), key=lambda i: (np.isnan(iou[i]), -np.nan_to_num(iou[i]), i))
    near = [""] * len(iou) if edges is None else [f"<td>{_value(value)}</td>" for value in edges]
    rows = "".join(
        f"<tr><td>{html.escape(results.names[i])}</td><td>{_bar(iou[i])}</td><td>{_value(iou[i])}</td>"
        f"<td>{_value(accuracy[i])}</td>{near[i]}<td>{percent(pixels[i] / max(1, pixels.sum()))}</td></tr>"
        for i in order
    )
    return (
        '<div class="wide"><table><tr><th>class</th><th style="width:30%"></th><th>IoU</th><th>of its pixels right</th>'
        f"{'' if edges is None else '<th>boundary IoU</th>'}<th>of all pixels</th></tr>{rows}</table></div>"
    )


def _bar(value: float) -> str:
    width = 0 if np.isnan(value) else 100 * value
    return f'<div style="background:var(--bar);border-radius:3px;height:12px;margin-top:6px;width:{width:.1f}%"></div>'


def _value(value: float) -> str:
    return "none" if np.isnan(value) else f"{value:.3f}"


def _confusions(results: Results) -> str:
    """The pairs of classes that cost most of a class's pixels."""
    matrix = results.confusion.matrix.astype(np.float64)
    true = matrix.sum(axis=1, keepdims=True)
    fractions = np.divide(matrix, true, out=np.zeros_like(matrix), where=true > 0)
    np.fill_diagonal(fractions, 0)
    order = np.argsort(-fractions, axis=None, kind="stable")[:_CONFUSIONS]
    names = [*results.names, "no label"]
    rows = "".join(
        f"<tr><td>{html.escape(names[i])}</td><td>{html.escape(names[j])}</td><td>{percent(fractions[i, j])}</td></tr>"
        for i, j in (np.unravel_index(place, fractions.shape) for place in order)
        if fractions[i, j] > 0
    )
    if not rows:
        return ""
    return (
        '<h2>What is taken for what</h2><p class="note">The largest losses: how much of the pixels of a class is '
        f"called another.</p><table><tr><th>is</th><th>is called</th><th>of its pixels</th></tr>{rows}</table>"
    )


def _numbers(ours: dict[str, float], other: dict[str, float], results: Results) -> str:
    rows = [("mmseg", name, value) for name, value in ours.items()]
    rows += [("detectron2", name, value) for name, value in other.items()]
    if results.data.boundaries:
        rules = {"boundary_IoU_regions": "each region's boundary"}
        rows += [(rules.get(name, "detectron2"), name, value) for name, value in results.boundaries().items()]
    cells = "".join(f"<tr><td>{name}</td><td>{rule}</td><td>{value:.4f}</td></tr>" for rule, name, value in rows)
    return f"<table><tr><th>metric</th><th>rule</th><th>value</th></tr>{cells}</table>"


def _settings(results: Results) -> str:
    shown = {name: value for name, value in results.settings.items() if value is not None}
    return "".join(
        f"<tr><td>{html.escape(name.replace('_', ' '))}</td><td>{html.escape(str(value))}</td></tr>"
        for name, value in shown.items()
    )


def _cases(results: Results, out: Path) -> str:
    """Pictures around the median, and the worst and best, by the mean IoU of the classes in them."""
    classes = len(results.data.labels)
    means = {i: _mean_iou(one, classes) for i, one in enumerate(results.images) if one.problem is None}
    order = sorted((i for i, mean in means.items() if not np.isnan(mean)), key=lambda i: (means[i], i))
    first = max(0, len(order) // 2 - _TYPICAL // 2)
    chosen = {
        "Typical": ("The pictures around the median.", order[first : first + _TYPICAL]),
        "Worst": ("The pictures with the lowest IoU.", order[:_WORST]),
        "Best": ("The pictures with the highest IoU.", order[: -_BEST - 1 : -1]),
    }
    if len(order) <= _TYPICAL:
        chosen = {"All pictures" if len(order) > 1 else "The picture": ("", order)}
    sections, seen = [], set[int]()
    for title, (meaning, places) in chosen.items():
        new = [place for place in places if place not in seen]
        seen.update(new)
        drawn = "".join(_case(results, place, means[place], out) for place in new)
        if drawn:
            sections.append(f'<h2>{title}</h2><p class="note">{meaning}</p>{drawn}')
    return "".join(sections)


def _mean_iou(one: Judged, classes: int) -> float:
    """Of the classes that the truth of this picture holds; NaN if it holds none."""
    found = one.confusion(classes).iou("detectron2")
    return float("nan") if np.isnan(found).all() else float(np.nanmean(found))


def _case(results: Results, place: int, mean: float, out: Path) -> str:
    pair = results.data.listing.pairs[place]
    heading = f"<h3>{html.escape(pair.name)} <small>IoU {mean:.2f}</small></h3>"
    try:
        pictures = _drawn(results, pair, out)
    except (InputError, OSError) as error:
        return f'<div class="case">{heading}<p class="down">cannot be drawn: {html.escape(str(error))}</p></div>'
    panels = "".join(panel(drawn, f"{name} of {pair.name}", name) for name, drawn in pictures)
    return f'<div class="case">{heading}<div class="panels">{panels}</div></div>'


def _drawn(results: Results, pair: Pair, out: Path) -> list[tuple[str, Image.Image]]:
    truth = results.data.listing.truth(pair)
    with Image.open(map_path(out, pair.name)) as opened:
        labels = np.asarray(opened)
    true_labels = np.where(truth == IGNORE, 0, truth.astype(np.int32) + 1)
    image, names = load_image(pair.image, _PIXELS), [NONE, *results.names]
    scale = min(1.0, SIDE / max(image.size))
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    small = image.resize(size, Image.Resampling.BILINEAR)
    return [
        (name, draw_labels(small, _shrunk(values, size), names))
        for name, values in (("labels", labels), ("truth", true_labels))
    ]


def _shrunk(values: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A label map at a smaller (width, height), the nearest value each."""
    small = Image.fromarray(values.astype(np.uint8)).resize(size, Image.Resampling.NEAREST)
    return np.asarray(small).astype(np.int64)
