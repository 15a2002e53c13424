"""``seg-zero infer --video``: a question about a clip."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from seg_zero.cli.options import segmenter_of
from seg_zero.errors import InputError, counted, print_warning
from seg_zero.files import check_file_place, check_folder_place
from seg_zero.prompting import PromptTemplate, check_question

if TYPE_CHECKING:
    from seg_zero.video.clips import Clip
    from seg_zero.video.summary import ClipSummary
    from seg_zero.video.tracking import VideoFrame

OUTPUTS = ("overlay", "rle")
VIDEO_ENDINGS = (".mp4", ".m4v")


def add_video_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("video", "with --video; --outputs are then any of overlay,rle (default: both)")
    group.add_argument(
        "--video", metavar="CLIP", help="a video file, or a folder of frames in the order of their names"
    )
    group.add_argument("--key_frame", type=int, nargs="+", metavar="N", help="frames to ask about, from 0 (default: 0)")
    group.add_argument("--every", type=float, metavar="SECONDS", help="instead: ask every so many seconds")
    group.add_argument("--fps", type=float, help="frames per second of a folder of frames (default: 24)")
    group.add_argument(
        "--min_iou",
        type=float,
        help="a later answer's object is the running one that it overlaps at least so much (default: 0.5)",
    )


def check_no_video_options(args: argparse.Namespace) -> None:
    """Raises InputError for options of video without a video."""
    for name in ("key_frame", "every", "fps", "min_iou"):
        if getattr(args, name) is not None:
            raise InputError(f"--{name} is for clips; give one with --video")


def run_video(args: argparse.Namespace, question: str, folder: Path, template: PromptTemplate | None) -> int:
    """Answer ``question`` about ``args.video``; ``folder``: where files go unless ``args.output_path`` says so."""
    for name, given in (("image_path", args.image_path is not None), ("questions", args.questions is not None)):
        if given:
            raise InputError(
                f"--video and --{name} are given together; ask about pictures and clips one after the other"
            )
    for name, given in (
        ("votes", args.votes != 1),
        ("per_object", args.per_object),
        ("refine", args.refine != 0),
    ):
        if given:
            raise InputError(f"--{name} does nothing with --video; leave it out")
    check_question(question)
    outputs = OUTPUTS if args.outputs is None else tuple(part.strip() for part in args.outputs.split(","))
    for part in outputs:
        if part not in OUTPUTS:
            raise InputError(f"--outputs {args.outputs!r} has {part!r}; with --video choose of {','.join(OUTPUTS)}")
    from seg_zero.video.clips import open_clip
    from seg_zero.video.tracking import MATCH_IOU, KeyFrames, check_min_iou

    clip = open_clip(args.video, args.fps)
    KeyFrames(args.key_frame or (), args.every, len(clip))
    min_iou = MATCH_IOU if args.min_iou is None else args.min_iou
    check_min_iou(min_iou)
    files = _places(args.output_path, clip, folder, outputs)
    source = Path(args.video).expanduser().resolve()
    for file in files.values():
        if file.resolve() == source or source in file.resolve().parents:
            raise InputError(
                f"--output_path {args.output_path} would write into the clip {args.video}; name another place"
            )
    from tqdm import tqdm

    from seg_zero.video.summary import ClipSummary
    from seg_zero.video.writing import open_sinks

    segmenter = segmenter_of(args, template)
    frames = segmenter.segment_video(clip, question, key_frames=args.key_frame or (), every=args.every, min_iou=min_iou)
    summary = ClipSummary()
    with (
        open_sinks(files.get("overlay"), files.get("rle"), clip, question) as sinks,
        tqdm(total=len(clip), unit="frame", disable=None) as bar,
    ):
        for frame in frames:
            for sink in sinks:
                sink.add(frame)
            summary.add(frame)
            if frame.problem is not None:
                with bar.external_write_mode(file=sys.stderr):
                    print_warning(frame.problem if frame.answer is None else f"frame {frame.index}: {frame.problem}")
            if frame.answer is not None and not args.json:
                with bar.external_write_mode(file=sys.stdout):
                    print(_answer_line(frame), flush=True)
            bar.update()
    paths = {name: str(file) for name, file in files.items()}
    record = summary.record(clip, question, paths)
    print(json.dumps(record, ensure_ascii=False) if args.json else _lines(summary, clip, paths))
    return 0


def _places(given: Path | None, clip: Clip, folder: Path, outputs: tuple[str, ...]) -> dict[str, Path]:
    """By output, the file it goes to."""
    place = given or folder
    if given is not None and given.suffix.lower() in VIDEO_ENDINGS:
        files = {"overlay": given, "rle": given.with_name(f"{given.stem}_masks.json")}
        for name in outputs:
            check_file_place(files[name])
    else:
        check_folder_place(place)
        files = {"overlay": place / f"{clip.name}_overlay.mp4", "rle": place / f"{clip.name}_masks.json"}
    return {name: files[name] for name in outputs}


def _answer_line(frame: VideoFrame) -> str:
    assert frame.answer is not None
    thinking = " ".join(frame.answer.thinking.split()) or "(no reasoning)"
    ids = ", ".join(str(item.id) for item in frame.objects) or "none"
    return f"frame {frame.index} ({frame.seconds:.2f} s)  objects {ids}  {thinking}"


def _lines(summary: ClipSummary, clip: Clip, files: dict[str, str]) -> str:
    width, height = clip.size
    lines = [f"frames:    {summary.frames} of {width}x{height}, {float(clip.fps):g} per second"]
    lines += [f"object {number}:  in {counted(count, 'frame')}" for number, count in sorted(summary.seen.items())]
    if not summary.seen:
        lines.append("no object found on any key frame; the output is the clip as it is")
    if summary.unreadable:
        lines.append(f"unreadable: {counted(summary.unreadable, 'frame')}, shown with the masks of the frame before")
    lines.append(f"written:   {'  '.join(files.values())}")
    return "\n".join(lines)
