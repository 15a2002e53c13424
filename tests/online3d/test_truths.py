"""Ground truth of ScanNet and SceneNN, from annotations as these data sets write them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from seg_zero.cli.main import main
from seg_zero.errors import InputError
from seg_zero.online3d.evaluation.judge import judge_folders
from seg_zero.online3d.evaluation.ply import positions, read_vertices
from seg_zero.online3d.evaluation.scannet import CLASSES, LABELS, VALID, classes_of_table
from seg_zero.online3d.evaluation.truth import find_truth
from seg_zero.online3d.results.files import write_result
from seg_zero.online3d.results.result import Result

TABLE = (
    "id\traw_category\tcategory\tcount\n1\twall\twall\t9\n2\tchair\tchair\t8\n2\toffice chair \tchair\t1\n"
    '12\t"weird" thing\tthing\t1\n4\tdesk\ttable\t3\n'
)
SCENE = "scene0011_00"
EACH = 150  # vertices of an object
LAYOUT = {"binary_little_endian": "<", "binary_big_endian": ">"}


def write_ply(path: Path, points: np.ndarray, labels: np.ndarray | None = None, order: str = "ascii") -> None:
    """Vertices with a colour byte, as the data sets' meshes have, and a face after them."""
    end = LAYOUT.get(order, "<")
    fields = [("x", f"{end}f4"), ("y", f"{end}f4"), ("z", f"{end}f4"), ("red", "u1")]
    fields += [] if labels is None else [("label", f"{end}u2")]
    table = np.zeros(len(points), dtype=fields)
    for column, axis in enumerate("xyz"):
        table[axis] = points[:, column]
    if labels is not None:
        table["label"] = labels
    header = ["ply", f"format {order} 1.0", "comment made by a test", f"element vertex {len(points)}"]
    header += [*(f"property float {axis}" for axis in "xyz"), "property uchar red"]
    header += [] if labels is None else ["property ushort label"]
    header += ["element face 1", "property list uchar int vertex_indices", "end_header", ""]
    body = table.tobytes() + b"\x03" + bytes(12)
    if order == "ascii":
        body = "".join(" ".join(str(value) for value in row) + "\n" for row in table.tolist()).encode() + b"3 0 1 2\n"
    path.write_bytes("\n".join(header).encode() + body)


def cubes(count: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    return np.concatenate([rng.uniform(0, 0.5, (EACH, 3)) + np.array([2 * at, 0, 0]) for at in range(count)]).astype(
        np.float32
    )


@pytest.fixture
def scannet(tmp_path: Path) -> Path:
    """A wall, two chairs, a thing outside the 200 classes, a desk; vertices of the last cube belong to no object."""
    folder = tmp_path / "scans" / SCENE
    folder.mkdir(parents=True)
    write_ply(folder / f"{SCENE}_vh_clean_2.ply", cubes(6), order="binary_little_endian")
    segments = np.repeat([10, 20, 31, 40, 50, 99], EACH)
    segments[EACH : EACH + 40] = 21
    (folder / f"{SCENE}_vh_clean_2.0.010000.segs.json").write_text(json.dumps({"segIndices": segments.tolist()}))
    names = [("wall", [10]), ("chair", [20, 21]), ("office chair ", [31]), ('"weird" thing', [40]), ("desk", [50])]
    groups = [{"objectId": i, "label": label, "segments": parts} for i, (label, parts) in enumerate(names)]
    (folder / f"{SCENE}.aggregation.json").write_text(json.dumps({"segGroups": groups}))
    (tmp_path / "scans" / LABELS).write_text(TABLE)
    return folder


@pytest.fixture
def scenenn(tmp_path: Path) -> Path:
    folder = tmp_path / "005"
    folder.mkdir()
    write_ply(folder / "005.ply", cubes(5), np.repeat([7, 13, 300, 301, 0], EACH), "binary_big_endian")
    (folder / "005.xml").write_text(
        '<?xml version="1.0"?><annotation><label id="7" text="wall" nyu_class="wall"/>'
        '<label id="13" text="ghe" nyu_class="chair"/><label id="300" text="fridge" nyu_class="fridge"/>'
        '<label id="301" text="thing" nyu_class=""/></annotation>'
    )
    return folder


def test_the_classes_are_those_of_scannet200() -> None:
    assert len(CLASSES) == 200 and len(VALID) == 198 and max(CLASSES) == 1191


def test_scannet_objects_are_their_segments_in_the_200_classes(scannet: Path) -> None:
    found = find_truth(scannet)
    assert np.allclose(found.truth.points, cubes(6))
    wanted = np.repeat([1001, 2002, 2003, 0, 4005, 0], EACH)  # class * 1000 + objectId + 1; the weird thing is no class
    assert found.truth.ids.tolist() == wanted.tolist()
    assert found.valid == VALID
    assert classes_of_table(scannet.parent / LABELS) == {"chair": 2, "table": 4}


def test_scenenn_objects_are_labels_with_a_class(scenenn: Path) -> None:
    found = find_truth(scenenn)
    assert np.allclose(found.truth.points, cubes(5))
    assert found.truth.ids.tolist() == np.repeat([1001, 5002, 24003, 0, 0], EACH).tolist()
    assert found.valid is not None and 1 not in found.valid and 24 in found.valid


def scan_of(folder: Path, points: np.ndarray, sequence: Path) -> Path:
    """A scan that found every cube, with a summary that names its sequence."""
    folder.mkdir()
    count = len(points) // EACH
    masks = np.repeat(np.eye(count, dtype=bool), EACH, axis=0)
    numbers = np.arange(count)
    colours = np.zeros((len(points), 3), dtype=np.uint8)
    frames = [np.array([0])] * count
    write_result(Result(points, colours, masks, np.zeros((count, 0)), numbers, numbers, frames), folder)
    summary = {"sequence": str(sequence), "layout": "folder", "source": "", "settings": {}}
    (folder / "scan.json").write_text(json.dumps(summary))
    return folder


@pytest.mark.parametrize(("name", "objects", "true"), [("scannet", 6, 3), ("scenenn", 5, 2)])
def test_evaluate_takes_the_annotations_of_the_sequence(
    name: str,
    objects: int,
    true: int,
    tmp_path: Path,
    request: pytest.FixtureRequest,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Walls, and what has no class, are void: found, they are no mistake."""
    truth = request.getfixturevalue(name)
    scan = scan_of(tmp_path / "scan", cubes(objects), truth)
    assert main(["scan", "evaluate", str(scan)]) == 0
    table = capsys.readouterr().out
    assert "1.000  1.000  1.000" in table and f"{objects} ({true})" in table
    assert judge_folders([scan], truth).together == judge_folders([scan]).together


def test_scans_of_two_data_sets_are_judged_apart(scannet: Path, scenenn: Path, tmp_path: Path) -> None:
    scans = [scan_of(tmp_path / "a", cubes(6), scannet), scan_of(tmp_path / "b", cubes(5), scenenn)]
    with pytest.raises(InputError, match="of another data set"):
        judge_folders(scans)


@pytest.mark.parametrize("order", ["ascii", *LAYOUT])
def test_vertices_are_read_in_every_order_of_bytes(order: str, tmp_path: Path) -> None:
    points, labels = cubes(1), np.arange(EACH)
    write_ply(tmp_path / "mesh.ply", points, labels, order)
    vertices = read_vertices(tmp_path / "mesh.ply", "label")
    assert np.allclose(positions(vertices), points, atol=1e-5) and vertices["label"].tolist() == labels.tolist()


HEAD = "ply\nformat ascii 1.0\nelement vertex 1\nproperty float x\nproperty float y\nproperty float z\n"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read .*it is the mesh of the truth"),
        ("", "is no PLY file"),
        ("ply\nformat ascii 1.0\n", "is no PLY file"),
        (HEAD.replace("ascii", "compressed") + "end_header\n0 0 0\n", "has the format 'compressed'"),
        ("ply\nformat ascii 1.0\nelement face 1\nend_header\n", "its first element is not its vertices"),
        (HEAD + "property list uchar int more\nend_header\n0 0 0\n", "which is no single number"),
        (HEAD + "property float x\nend_header\n0 0 0 0\n", "have one name"),
        (HEAD + "end_header\n0 0 0\n", "have no label"),
        (HEAD + "property int label\nend_header\n", "is cut off: 0 of 1"),
        (HEAD + "property int label\nend_header\n0 0 zero 1\n", "cannot be read as numbers"),
        (HEAD + "property int label\nend_header\n0 0\n", "cannot be read as numbers"),
        (HEAD.replace("ascii", "binary_little_endian") + "property int label\nend_header\nxyz", "is cut off: 0 of 1"),
    ],
)
def test_meshes_that_cannot_be_used_are_named(content: str | None, message: str, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "mesh.ply").write_text(content)
    with pytest.raises(InputError, match=message):
        read_vertices(tmp_path / "mesh.ply", "label")


SEGMENTS, GROUPS = f"{SCENE}_vh_clean_2.0.010000.segs.json", f"{SCENE}.aggregation.json"


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        (SEGMENTS, None, "holds no segIndices"),
        (SEGMENTS, '{"segIndices": [1, 2]}', "is of 2 vertices, but .* has 900"),
        (GROUPS, "[]", "holds no segGroups"),
        (GROUPS, '{"segGroups": []}', "each needs its own"),
        (GROUPS, '{"segGroups": [{"objectId": 999, "label": "chair", "segments": []}]}', "each needs its own"),
        (GROUPS, '{"segGroups": [{"objectId": 0, "label": "chiar", "segments": [20]}]}', "'chiar' is not in"),
        (GROUPS, '{"segGroups": [{"objectId": 0, "label": "chair", "segments": [7]}]}', "no point of the truth"),
        (f"../{LABELS}", None, "put ScanNet's table into one"),
        (f"../{LABELS}", "id\tname\n1\twall\n", "is no table of labels"),
        (f"../{LABELS}", "id\traw_category\n", "holds no labels"),
        ("other_vh_clean_2.ply", "", "holds 2 files"),
    ],
)
def test_annotations_of_scannet_that_do_not_fit_are_named(
    file: str, content: str | None, message: str, scannet: Path
) -> None:
    if content is None:
        (scannet / file).unlink()
    else:
        (scannet / file).write_text(content)
    with pytest.raises(InputError, match=message):
        find_truth(scannet)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<annotation>", "holds no labels with an id"),
        ("<annotation><label text='a'/></annotation>", "holds no labels with an id"),
        ("<annotation/>", "holds 0 labels"),
        ("<annotation><label id='1'/><label id='1'/></annotation>", "each with its own id"),
        ("<annotation><label id='7' nyu_class='ship'/></annotation>", "no point of the truth belongs"),
    ],
)
def test_annotations_of_scenenn_that_do_not_fit_are_named(text: str, message: str, scenenn: Path) -> None:
    (scenenn / "005.xml").write_text(text)
    with pytest.raises(InputError, match=message):
        find_truth(scenenn)


def test_a_folder_without_truth_says_what_could_be_there(tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"neither truth\.npz nor annotations of ScanNet or SceneNN; give it with --truth"
    ):
        find_truth(tmp_path)
