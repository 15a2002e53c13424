"""Association of masks over key frames: this package, all pairs, and the released bookkeeping; fusion by stage; AP.

    python benchmarks/online3d.py                              # all parts; about an hour on two cores
    python benchmarks/online3d.py --parts association --masks 80 160 --frames 100

association  the same masks of random objects, 80 to 640 per scene, to three implementations: ours; every pair of masks
             compared as sets; and a dense re-implementation of the released bookkeeping (a matrix of voxels by key
             frames, a matrix of live by live masks, a list of live numbers).
growth       one long run: time and bytes per key frame, and the slope of time over key frames in log-log.
fusion       synthetic 640x480 frames with some 25 masks: ms of CPU by stage and key frames per second, in one thread,
             without a mask network. In small: --parts fusion --fused 15 --noises 0.01.
accuracy     AP of synthetic rooms: split masks; wrong merges and missing masks as well.
rules        fixed against adaptive thresholds: the same noisy masks, with vectors as several encoders make them.
             In small: --parts rules --rooms 1 --views 30.
geometry     AP with and without FPFH as a vector of the shape: the same noisy masks.

Writes online3d.json and online3d.md to --out. Nothing is fetched.
"""

from __future__ import annotations

import argparse
import itertools
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from seg_zero.files import make_folder, write_json, write_text
from seg_zero.online3d.bank import MaskBank, NewMask
from seg_zero.online3d.config import GEOMETRIES, RULES, SceneConfig
from seg_zero.online3d.evaluation.judge import judge
from seg_zero.online3d.results.instances import instances_of, point_masks
from seg_zero.online3d.scene import STAGES, OnlineScene
from seg_zero.online3d.synthetic.features import ToyEncoder
from seg_zero.online3d.synthetic.room import make_room
from seg_zero.online3d.synthetic.sequence import Faults, SyntheticSequence

PARTS = ("association", "growth", "fusion", "accuracy", "rules", "geometry")
VOXELS_OF_A_MASK = 800
VIEW = 20  # masks of a key frame
CONFIG = SceneConfig()
SMALL = CONFIG.replaced(few_pixel=40, voxel_size=0.05, query_radius=0.06, min_instance_points=30)  # for 160x120 pixels
SMALL_VERTICES = 30
# Expected cosines of masks of different objects and of one object.
ENCODERS = {
    "no features": None,
    "loose, 0.1 and 0.5": (0.1, 0.5),
    "as CLIP ViT-H, 0.6 and 0.9": (0.6, 0.9),
    "tight, 0.85 and 0.95": (0.85, 0.95),
    "useless, 0.7 and 0.7": (0.7, 0.7),
}
Frames = list[list[np.ndarray]]


def random_frames(masks: int, seed: int = 0) -> Frames:
    """``masks`` masks in key frames of 20: a camera that goes round masks / 8 objects, so that each is seen 8 times."""
    rng = np.random.default_rng(seed)
    objects = max(masks // 8, VIEW)
    frames: Frames = []
    for row in range(masks // VIEW):
        frame = []
        for place in range(VIEW):
            start = ((row * VIEW // 2 + place) % objects) * 2 * VOXELS_OF_A_MASK
            start += int(rng.integers(0, VOXELS_OF_A_MASK // 10))
            frame.append(np.arange(start, start + VOXELS_OF_A_MASK, dtype=np.int32))
        frames.append(frame)
    return frames


def ours(frames: Frames) -> float:
    """Seconds per key frame, merging every fifth one."""
    bank = MaskBank(CONFIG)
    start = time.perf_counter()
    for row, frame in enumerate(frames):
        bank.add([NewMask(voxels) for voxels in frame])
        if row % CONFIG.merge_kf_interval == CONFIG.merge_kf_interval - 1:
            bank.update()
    return (time.perf_counter() - start) / len(frames)


def all_pairs(frames: Frames) -> float:
    """Seconds per key frame: each new mask is intersected with every earlier one; no merging."""
    known: list[set[int]] = []
    start = time.perf_counter()
    for frame in frames:
        news = [set(voxels.tolist()) for voxels in frame]
        for new in news:
            for old in known:
                len(new & old)
        known += news
    return (time.perf_counter() - start) / len(frames)


def dense(frames: Frames) -> float:
    """Seconds per key frame of the released bookkeeping, with the same comparisons; nothing is merged."""
    count = 1 + max(int(mask.max()) for frame in frames for mask in frame)
    labels = np.zeros((count, len(frames)), dtype=np.float32)
    table: dict[int, list[int]] = {}
    live: list[int] = []
    voxels: list[np.ndarray] = []
    rows: list[int] = []
    start = time.perf_counter()
    for row, frame in enumerate(frames):
        for number, mask in enumerate(frame):
            labels[mask, row] = number + 1
        total = len(live) + len(frame)
        contains = np.eye(total, dtype=np.float32)
        for place, mask in enumerate(frame):
            counts: dict[int, int] = {}
            for voxel in mask.tolist():
                for raw in table.get(voxel, ()):
                    if raw in live:  # a list, as released
                        counts[raw] = counts.get(raw, 0) + 1
            for other, common in counts.items():
                here = int(np.count_nonzero(labels[voxels[other], row]))
                there = int(np.count_nonzero(labels[mask][:, [rows[other]]].any(axis=1)))
                contains[len(live) + place, other] = common / max(here, 1)
                contains[other, len(live) + place] = common / max(there, 1)
        similar = (contains + contains.T) / 2
        holds = ((CONFIG.containing_ratio < contains.T) & (contains > CONFIG.contained_ratio)).astype(np.float32)
        if row % CONFIG.merge_kf_interval == CONFIG.merge_kf_interval - 1:
            holds @ np.eye(total, dtype=np.float32) @ holds.T + similar  # the cubic product
        for mask in frame:
            number = len(voxels)
            voxels.append(mask)
            rows.append(row)
            live.append(number)
            for voxel in mask.tolist():
                table.setdefault(voxel, []).append(number)
    return (time.perf_counter() - start) / len(frames)


METHODS: dict[str, Callable[[Frames], float]] = {"ours": ours, "all pairs": all_pairs, "dense": dense}


def association(sizes: list[int], repeats: int) -> list[dict[str, float]]:
    ours(random_frames(2 * VIEW))  # compiles
    out = []
    for masks in sizes:
        frames = random_frames(masks)
        row = {"masks": float(masks)}
        for name, method in METHODS.items():
            row[name] = 1000 * min(method(frames) for _ in range(repeats))
        out.append(row)
        print(row, flush=True)
    return out


def growth(count: int) -> dict[str, Any]:
    """A camera that goes round the same 40 objects for ``count`` key frames."""
    bank = MaskBank(CONFIG)
    rng = np.random.default_rng(0)
    seconds, sizes = [], []
    for row in range(count):
        frame = []
        for place in range(VIEW):
            begin = ((row + place) % (2 * VIEW)) * 2 * VOXELS_OF_A_MASK + int(rng.integers(0, 80))
            frame.append(NewMask(np.arange(begin, begin + VOXELS_OF_A_MASK, dtype=np.int32)))
        start = time.perf_counter()
        bank.add(frame)
        if row % CONFIG.merge_kf_interval == CONFIG.merge_kf_interval - 1:
            bank.update()
        seconds.append(time.perf_counter() - start)
        sizes.append(bank.nbytes)
    window = max(count // 20, CONFIG.merge_kf_interval)
    starts = np.arange(0, count - window + 1, window)
    means = np.array([np.mean(seconds[start : start + window]) for start in starts])
    middles = starts + window / 2
    late = middles > count / 10  # the first windows compile and fill an empty table
    slope = float(np.polyfit(np.log(middles[late]), np.log(means[late]), 1)[0])
    return {
        "key frames": count,
        "slope": slope,
        "ms first": 1000 * float(means[late][0]),
        "ms last": 1000 * float(means[-1]),
        "bytes per key frame": sizes[-1] / count,
    }


def fusion(count: int, noises: list[float]) -> list[dict[str, float]]:
    """Milliseconds of CPU by stage at 640x480, for each noise of the depth; fusion runs in one thread."""
    out = []
    for noise in noises:
        sequence = SyntheticSequence(make_room(0, boxes=26, spheres=12), count, faults=Faults(split=1.0), noise=noise)
        scene = OnlineScene(clock=time.process_time)
        totals = dict.fromkeys(STAGES, 0.0)
        masks = used = 0
        for place, (frame, given) in enumerate(sequence):
            added = scene.add(frame, given)
            if place >= CONFIG.merge_kf_interval:  # the first ones compile
                used += 1
                masks += added.masks
                for name, value in added.milliseconds.items():
                    totals[name] += value
        stages = {name: value / max(used, 1) for name, value in totals.items() if value}
        whole = sum(stages.values())
        speed = {"ms": whole, "key frames per second": 1000 / whole}
        out.append({"noise": noise, "masks per frame": masks / max(used, 1), **stages, **speed})
        print(out[-1], flush=True)
    return out


def accuracy(rooms: int, count: int) -> dict[str, dict[str, float]]:
    cases = {
        "exact masks": Faults(),
        "25 % split": Faults(split=0.25),
        "25 % split, 20 % merged, 20 % missing": Faults(split=0.25, merged=0.2, missing=0.2),
    }
    out = {}
    for name, faults in cases.items():
        total = None
        for seed in range(rooms):
            sequence = SyntheticSequence(make_room(seed), count, 320, 240, faults=faults, seed=seed)
            scene = OnlineScene()
            for frame, masks in sequence:
                scene.add(frame, masks)
            scene.finish()
            points, truth = scene.surface.points(CONFIG.min_hits), sequence.truth()
            found = point_masks(scene.instances, points)
            one = judge(scene.surface.centres(points), found, truth.points, truth.ids).metric
            total = one if total is None else total.merge(one)
        out[name] = total.result() if total is not None else {}
        print(name, out[name], flush=True)
    return out


def lifted_masks(sequence: SyntheticSequence, scene: OnlineScene) -> list[list[tuple[np.ndarray, int, int]]]:
    """For each key frame the voxels of its masks, their numbers, and the object that each mask mostly shows."""
    frames = []
    for row, (frame, masks) in enumerate(sequence):
        ids = sequence.view(row).ids
        depth = np.where((frame.depth > CONFIG.depth_near) & (frame.depth < CONFIG.depth_far), frame.depth, 0)
        voxels = scene.surface.project(depth, frame.intrinsics, frame.pose)
        scene.surface.record(row, voxels, frame.colour)
        lifted = scene.lifter.lift(voxels, masks.labels)
        frames.append(
            [(one.voxels, one.number, int(np.bincount(ids[masks.labels == one.number]).argmax())) for one in lifted]
        )
    return frames


def rules(rooms: int, count: int, noises: list[float]) -> list[dict[str, Any]]:
    """AP by noise of the depth, encoder and rule; 25 % of the masks split, 10 % merged, 10 % missing."""
    totals: dict[tuple[float, str, str], Any] = {}
    for noise, seed in itertools.product(noises, range(rooms)):
        faults = Faults(split=0.25, merged=0.1, missing=0.1)
        sequence = SyntheticSequence(make_room(seed), count, 160, 120, noise=noise, faults=faults, seed=seed)
        scene = OnlineScene(SMALL)
        frames = lifted_masks(sequence, scene)
        points, truth = scene.surface.points(SMALL.min_hits), sequence.truth(SMALL.voxel_size)
        for (name, cosines), rule in itertools.product(ENCODERS.items(), RULES):
            encode = (lambda _: None) if cosines is None else ToyEncoder(*cosines, seed)
            bank = MaskBank(SMALL.replaced(rule=rule))
            for row, frame in enumerate(frames, 1):
                bank.add([NewMask(voxels, number, encode(identity)) for voxels, number, identity in frame])
                if row % SMALL.merge_kf_interval == 0 or row == count:
                    bank.update()
            found = point_masks(instances_of(bank, scene.surface, list(range(count))), points)
            centres = scene.surface.centres(points)
            one = judge(centres, found, truth.points, truth.ids, min_vertices=SMALL_VERTICES).metric
            key = noise, name, rule
            totals[key] = totals[key].merge(one) if key in totals else one
        print(f"rules: noise {noise}, room {seed}", flush=True)
    return [{"noise": noise, "encoder": name, "rule": rule, **metric.result()}
            for (noise, name, rule), metric in totals.items()]  # fmt: skip


def geometry(rooms: int, count: int, noises: list[float]) -> list[dict[str, Any]]:
    """AP and milliseconds per key frame by noise of the depth and geometry; masks as for the rules, no features."""
    out = []
    for noise, name in itertools.product(noises, GEOMETRIES):
        total, spent = None, 0.0
        for seed in range(rooms):
            faults = Faults(split=0.25, merged=0.1, missing=0.1)
            sequence = SyntheticSequence(make_room(seed), count, 160, 120, noise=noise, faults=faults, seed=seed)
            scene = OnlineScene(SMALL.replaced(geometry=name, geo_radius=4 * SMALL.voxel_size))
            for frame, masks in sequence:
                start = time.process_time()
                scene.add(frame, masks)
                spent += time.process_time() - start
            scene.finish()
            points, truth = scene.surface.points(SMALL.min_hits), sequence.truth(SMALL.voxel_size)
            found, centres = point_masks(scene.instances, points), scene.surface.centres(points)
            one = judge(centres, found, truth.points, truth.ids, min_vertices=SMALL_VERTICES).metric
            total = one if total is None else total.merge(one)
        values = {} if total is None else total.result()
        out.append({"noise": noise, "geometry": name, "ms": 1000 * spent / (rooms * count), **values})
        print(out[-1], flush=True)
    return out


def _rules_table(rows: list[dict[str, Any]]) -> list[str]:
    """A line for each noise and encoder, fixed beside adaptive."""
    cells: dict[tuple[float, str], dict[str, str]] = {}
    for row in rows:
        values = " / ".join(f"{row[name]:.3f}" for name in ("AP", "AP50", "AP25"))
        cells.setdefault((row["noise"], row["encoder"]), {})[row["rule"]] = values
    lines = ["| depth noise | vectors | fixed: AP / AP50 / AP25 | adaptive |", "|---|---|---|---|"]
    lines += [f"| {100 * noise:g} % | {name} | {' | '.join(both[rule] for rule in RULES)} |"
              for (noise, name), both in cells.items()]  # fmt: skip
    return [*lines, ""]


def report(results: dict[str, Any]) -> str:
    lines = ["# Online 3D segmentation", ""]
    if rows := results.get("association"):
        lines += ["| masks | ours, ms per key frame | all pairs | dense | all pairs / ours | dense / ours |"]
        lines += ["|---|---|---|---|---|---|"]
        for row in rows:
            values = [row[name] for name in METHODS]
            ratios = [value / values[0] for value in values[1:]]
            cells = [f"{row['masks']:.0f}", *(f"{v:.2f}" for v in values), *(f"{ratio:.1f}" for ratio in ratios)]
            lines.append(f"| {' | '.join(cells)} |")
        lines.append("")
    for values in filter(None, [results.get("growth"), *results.get("fusion", [])]):
        lines += [", ".join(f"{name} {value:.4g}" for name, value in values.items()), ""]
    if cases := results.get("accuracy"):
        lines += ["| masks | AP | AP50 | AP25 |", "|---|---|---|---|"]
        lines += [f"| {name} | {' | '.join(f'{v:.3f}' for v in values.values())} |" for name, values in cases.items()]
        lines.append("")
    if compared := results.get("rules"):
        lines += _rules_table(compared)
    if shapes := results.get("geometry"):
        lines += ["| depth noise | geometry | AP / AP50 / AP25 | ms of CPU per key frame |", "|---|---|---|---|"]
        for row in shapes:
            values = " / ".join(f"{row[name]:.3f}" for name in ("AP", "AP50", "AP25"))
            lines.append(f"| {100 * row['noise']:g} % | {row['geometry']} | {values} | {row['ms']:.0f} |")
        lines.append("")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--masks", nargs="+", type=int, default=[80, 160, 320, 640], help="for association")
    parser.add_argument("--frames", type=int, default=2000, help="key frames of growth")
    parser.add_argument("--fused", type=int, default=65, help="key frames of fusion")
    parser.add_argument("--rooms", type=int, default=5, help="of accuracy, rules and geometry")
    parser.add_argument("--views", type=int, default=60, help="key frames of each room")
    parser.add_argument("--noises", nargs="+", type=float, default=[0.01, 0.05], help="of the depth")
    parser.add_argument("--repeats", type=int, default=3, help="of association; the quickest counts")
    parser.add_argument("--out", type=Path, default=Path("outputs/benchmarks/online3d"))
    args = parser.parse_args()
    make_folder(args.out)
    run: dict[str, Callable[[], Any]] = {
        "association": lambda: association(args.masks, args.repeats),
        "growth": lambda: growth(args.frames),
        "fusion": lambda: fusion(args.fused, [0.0, *args.noises]),
        "accuracy": lambda: accuracy(args.rooms, args.views),
        "rules": lambda: rules(args.rooms, args.views, args.noises),
        "geometry": lambda: geometry(args.rooms, args.views, args.noises),
    }
    results: dict[str, Any] = {}
    for part in args.parts:
        results[part] = run[part]()
        print(part, json.dumps(results[part]), flush=True)
    write_json(args.out / "online3d.json", results)
    write_text(args.out / "online3d.md", report(results))
    print(report(results))


if __name__ == "__main__":
    main()
