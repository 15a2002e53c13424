"""A clip as numbered frames, from a video file or a folder of pictures; no more than a few are decoded at a time."""

from __future__ import annotations

import os
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Protocol

import av
from av.container import InputContainer
from PIL import Image

from seg_zero.data.inputs import PICTURES
from seg_zero.errors import InputError, one_line
from seg_zero.images import MAX_PIXELS, load_image, size_as_shown

DEFAULT_FPS = Fraction(24)  # of a folder of pictures
CHUNK = 16  # frames decoded at a time when a clip is read backwards


@dataclass(frozen=True)
class ClipFrame:
    """A frame by its number, counted from 0; ``image`` is RGB, or None with the reason in ``problem``."""

    index: int
    image: Image.Image | None
    problem: str | None = None


class Clip(Protocol):
    """Frames of one size (width, height); ``fps``: frames per second, on average if they vary."""

    @property
    def name(self) -> str: ...
    @property
    def size(self) -> tuple[int, int]: ...
    @property
    def fps(self) -> Fraction: ...

    def __len__(self) -> int: ...

    def seconds(self, index: int) -> float:
        """When a frame is shown, from the start of the clip."""
        ...

    def read(self, start: int, stop: int) -> Iterator[ClipFrame]:
        """The frames from ``start`` up to, but without, ``stop``: one for each number, readable or not."""
        ...


def open_clip(path: str | Path, fps: float | None = None) -> Clip:
    """A video file, or a folder of pictures in the order of their names.

    fps: frames per second of a folder (None: 24). Raises InputError for what is neither, holds no frames, or holds
    pictures of different sizes, and for ``fps`` with a video file.
    """
    place = Path(path).expanduser()
    if not place.exists():
        raise InputError(f"video {path} does not exist; check the path")
    if place.is_dir():
        if fps is not None and not 0 < fps <= 1000:
            raise InputError(f"fps={fps} is not above 0 and at most 1000")
        return FolderClip(place, DEFAULT_FPS if fps is None else Fraction(fps).limit_denominator(1001))
    if fps is not None:
        raise InputError(f"video {path} has a frame rate of its own; leave fps out, it is for folders of pictures")
    return FileClip(place)


def backwards(clip: Clip, stop: int) -> Iterator[ClipFrame]:
    """The frames before ``stop``, the last one first."""
    for end in range(stop, 0, -CHUNK):
        yield from reversed(list(clip.read(max(0, end - CHUNK), end)))


class FolderClip:
    """A folder of pictures; those of other kinds and of subfolders do not count."""

    def __init__(self, folder: Path, fps: Fraction = DEFAULT_FPS, names: list[str] | None = None) -> None:
        """names: the frames' file names in order, if they are known."""
        self.name, self.fps = folder.name or str(folder), fps
        if names is None:
            files = sorted(folder.iterdir(), key=lambda path: path.name)
            self._files = [path for path in files if path.suffix.lower() in PICTURES and not path.name.startswith(".")]
        else:
            self._files = [folder / name for name in names]
        if not self._files:
            raise InputError(f"video folder {folder} holds no pictures ({' '.join(PICTURES)})")
        sizes: dict[tuple[int, int], Path] = {}
        for path in self._files:
            if (size := _header_size(path)) is not None:
                sizes.setdefault(size, path)
        if not sizes:
            raise InputError(f"video folder {folder} holds {len(self._files)} pictures, of which none can be read")
        if len(sizes) > 1:
            (one, first), (other, second) = list(sizes.items())[:2]
            raise InputError(
                f"video folder {folder} holds frames of different sizes: {first.name} is {one[0]}x{one[1]} and "
                f"{second.name} {other[0]}x{other[1]}; give frames of one clip"
            )
        (self.size,) = sizes

    def __len__(self) -> int:
        return len(self._files)

    def seconds(self, index: int) -> float:
        return float(index / self.fps)

    def read(self, start: int, stop: int) -> Iterator[ClipFrame]:
        for index in range(start, min(stop, len(self))):
            path = self._files[index]
            try:
                yield ClipFrame(index, load_image(path))
            except InputError as error:
                yield ClipFrame(index, None, f"frame {index} ({path.name}): {error}")


def _header_size(path: Path) -> tuple[int, int] | None:
    """Width and height as shown, without decoding; None for a file that is no picture."""
    try:
        with Image.open(path) as image:
            return size_as_shown(image)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None


class FileClip:
    """A video file, read by PyAV. Its packets are listed first, without decoding, so that frames have numbers."""

    def __init__(self, path: Path, containers: Sequence[str] = ()) -> None:
        """containers: FFmpeg's names of the formats that are read, for files of others (none: all that it knows).

        Playlists name further files, which FFmpeg would read too.
        """
        self._path, self.name = path, path.stem
        self._options = {"format_whitelist": ",".join(containers), "protocol_whitelist": "file"} if containers else {}
        if path.suffix.lower() in PICTURES:
            raise InputError(f"video {path} is a picture; give it with --image_path, or a folder of frames")
        if not path.is_file() or path.stat().st_size == 0:
            raise InputError(f"video {path} holds no data; record or download it again")
        try:
            with self._open() as container:
                stream = container.streams.video[0]
                self.size = (stream.codec_context.width, stream.codec_context.height)
                self.fps = Fraction(stream.average_rate or stream.guessed_rate or DEFAULT_FPS)
                self._base = Fraction(stream.time_base or Fraction(1, 1000))
                times = [
                    packet.pts if packet.pts is not None else packet.dts
                    for packet in container.demux(stream)
                    if packet.size and not packet.is_discard
                ]
        except (av.FFmpegError, OSError, ValueError, IndexError) as error:
            raise InputError(
                f"video {path} cannot be read ({one_line(error)}); give a file such as mp4, mov, mkv or webm, or a "
                "folder of frames"
            ) from error
        self._times = sorted({time for time in times if time is not None})
        if not self._times or min(self.size) < 1:
            raise InputError(f"video {path} holds no frames with a time; convert it to mp4")
        if self.size[0] * self.size[1] > MAX_PIXELS:
            raise InputError(f"video {path} has {self.size[0]}x{self.size[1]} pixels; the limit is {MAX_PIXELS:,}")
        first = next(self._decode(0, len(self._times)), None)
        if first is None:
            raise InputError(f"video {path} holds no frame that can be decoded; record or download it again")
        self.size = first[1].size

    def _open(self) -> InputContainer:
        return av.open(os.fspath(self._path), metadata_errors="ignore", options=self._options)

    def __len__(self) -> int:
        return len(self._times)

    def seconds(self, index: int) -> float:
        return float((self._times[index] - self._times[0]) * self._base)

    def read(self, start: int, stop: int) -> Iterator[ClipFrame]:
        expected = start
        for index, image in self._decode(start, min(stop, len(self))):
            for missing in range(expected, index):
                yield self._missing(missing)
            if image.size == self.size:
                yield ClipFrame(index, image)
            else:
                width, height = image.size
                yield ClipFrame(index, None, f"frame {index} is {width}x{height}, unlike those before it")
            expected = index + 1
        for missing in range(expected, min(stop, len(self))):
            yield self._missing(missing)

    def _missing(self, index: int) -> ClipFrame:
        return ClipFrame(index, None, f"frame {index} ({self.seconds(index):.2f} s) cannot be decoded")

    def _decode(self, start: int, stop: int) -> Iterator[tuple[int, Image.Image]]:
        """The frames that can be decoded, with their numbers, in order."""
        last = start - 1
        with self._open() as container:
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            if start:
                container.seek(self._times[start], stream=stream)
            packets = container.demux(stream)
            while True:
                try:
                    packet = next(packets)
                    frames = packet.decode()
                except (StopIteration, EOFError):
                    return
                except av.FFmpegError:  # of this packet; the decoder goes on with the next one
                    continue
                for frame in frames:
                    time = frame.pts if frame.pts is not None else frame.dts
                    if time is None or frame.is_corrupt:
                        continue
                    index = bisect_left(self._times, time)
                    if index >= stop:
                        return
                    if index > last:
                        last = index
                        image = frame.to_image()
                        yield index, image.rotate(frame.rotation, expand=True) if frame.rotation else image
