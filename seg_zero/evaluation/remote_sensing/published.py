"""The published results on OVRSISBench (arXiv 2509.12040, table 1; "retrained": the released code's page)."""

from __future__ import annotations

from dataclasses import dataclass

# The paper's order of columns.
COLUMNS = ("dlrsd", "isaid", "loveda", "potsdam", "uavid", "udd5", "vaihingen", "vdd")
TITLES = dict(zip(COLUMNS, ("DLRSD", "iSAID", "LoveDA", "Potsdam", "UAVid", "UDD5", "Vaihingen", "VDD"), strict=True))


@dataclass(frozen=True)
class PublishedRow:
    """A method as it was published: mIoU and mACC in percent by data set, and their means over the eight.

    trained: the data set that it was trained on; size: of its CLIP, B (ViT-B/16) or L (ViT-L/14@336).
    """

    method: str
    trained: str
    size: str
    cells: dict[str, tuple[float, float]]
    mean: tuple[float, float]


def _row(method: str, trained: str, size: str, cells: str, mean: tuple[float, float]) -> PublishedRow:
    pairs = [cell.split("/") for cell in cells.split()]
    values = {name: (float(iou), float(acc)) for name, (iou, acc) in zip(COLUMNS, pairs, strict=True)} if pairs else {}
    return PublishedRow(method, trained, size, values, mean)


PUBLISHED: tuple[PublishedRow, ...] = (
    _row("SCAN", "dlrsd", "B", "", (25.43, 41.19)),
    _row("SAN", "dlrsd", "B", "", (36.96, 51.36)),
    _row("SED", "dlrsd", "B", "", (32.88, 47.91)),
    _row(
        "CAT-Seg", "dlrsd", "B",
        "85.84/91.44 23.56/38.48 25.45/50.32 26.79/44.72 24.56/39.20 38.23/49.56 32.32/49.65 36.18/54.30",
        (36.62, 52.21),
    ),
    _row(
        "OVRS", "dlrsd", "B",
        "85.98/91.52 39.09/54.43 28.67/52.10 27.47/42.07 25.23/40.18 39.10/50.65 33.71/49.01 37.34/55.15",
        (39.57, 54.51),
    ),
    _row(
        "GSNet", "dlrsd", "B",
        "84.12/90.53 42.00/59.19 29.32/53.02 26.46/43.20 25.42/40.70 40.05/51.72 35.15/52.62 38.10/56.01",
        (40.08, 55.87),
    ),
    _row(
        "RSKT-Seg", "dlrsd", "B",
        "90.60/94.89 44.04/61.23 32.49/55.67 34.53/50.71 28.14/42.86 42.99/57.81 37.16/54.81 41.22/58.09",
        (43.90, 59.51),
    ),
    _row("SCAN", "dlrsd", "L", "", (30.78, 45.87)),
    _row("SAN", "dlrsd", "L", "", (41.80, 53.81)),
    _row("SED", "dlrsd", "L", "", (40.18, 53.13)),
    _row("CAT-Seg", "dlrsd", "L", "", (44.23, 57.58)),
    _row("OVRS", "dlrsd", "L", "", (44.39, 60.24)),
    _row(
        "GSNet", "dlrsd", "L",
        "86.02/91.48 53.73/71.57 32.52/60.23 37.85/52.35 24.22/35.03 40.92/57.04 44.13/62.38 37.34/57.04",
        (44.56, 60.89),
    ),
    _row(
        "RSKT-Seg", "dlrsd", "L",
        "93.49/96.49 54.32/71.72 33.23/57.41 38.44/56.69 25.72/40.89 42.10/56.39 42.69/63.29 39.69/58.60",
        (46.21, 62.69),
    ),
    _row(
        "RSKT-Seg, retrained", "dlrsd", "L",
        "91.58/95.41 56.88/74.48 31.43/55.23 37.14/53.75 23.88/38.75 45.73/59.40 42.29/63.03 40.55/58.75",
        (46.18, 62.35),
    ),
    _row("SCAN", "isaid", "B", "", (18.95, 35.78)),
    _row("SAN", "isaid", "B", "", (25.04, 41.65)),
    _row("SED", "isaid", "B", "", (24.05, 38.97)),
    _row("CAT-Seg", "isaid", "B", "", (26.82, 46.45)),
    _row("OVRS", "isaid", "B", "", (27.59, 47.05)),
    _row(
        "GSNet", "isaid", "B",
        "26.20/57.07 90.00/93.60 26.80/42.84 15.12/36.16 15.93/24.33 12.44/39.62 14.25/41.15 22.22/42.33",
        (27.87, 47.14),
    ),
    _row(
        "RSKT-Seg", "isaid", "B",
        "24.80/55.94 93.16/96.37 28.07/46.58 20.28/46.71 17.15/34.78 13.94/43.47 17.47/50.84 25.34/47.18",
        (30.03, 52.73),
    ),
    _row("SCAN", "isaid", "L", "", (24.69, 44.86)),
    _row("SAN", "isaid", "L", "", (30.01, 49.98)),
    _row("SED", "isaid", "L", "", (28.99, 44.01)),
    _row("CAT-Seg", "isaid", "L", "", (33.11, 52.80)),
    _row("OVRS", "isaid", "L", "", (36.18, 56.05)),
    _row("GSNet", "isaid", "L", "", (35.71, 56.48)),
    _row(
        "RSKT-Seg", "isaid", "L",
        "31.57/61.66 93.96/96.63 29.62/51.01 28.57/51.69 17.36/35.75 34.01/57.38 25.55/52.66 33.40/56.50",
        (36.76, 57.91),
    ),
)  # fmt: skip
