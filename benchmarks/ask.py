"""How long an answer takes, and what overlapping SAM2 with the policy and keeping its embeddings save.

    python benchmarks/ask.py
    python benchmarks/ask.py --untrained_sam2 sam2.1_hiera_t --questions 5     # a SAM2 of a published size
    python benchmarks/ask.py --reasoning_model_path FOLDER --segmentation_model_path FOLDER --side 1024

Three ways of asking the same questions with the same models, in turn, the median of each:

    after      the policy writes, then SAM2 embeds and segments: its embedding adds to the wait
    meanwhile  SAM2 embeds while the policy writes (what a first question costs)
    again      a further question about the image asked about last: nothing is embedded
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def untrained(name: str, folder: Path) -> Path:
    """A folder with the SAM2 of a configuration such as sam2.1_hiera_t, with random weights."""
    import torch

    from seg_zero.segmenter.sam2_package import build_model

    (package,) = find_spec("sam2").submodule_search_locations  # type: ignore[union-attr, misc]
    config = next(Path(package, "configs").rglob(f"{name}.yaml"))
    shutil.copy(config, folder)
    torch.manual_seed(0)
    torch.save({"model": build_model(config).state_dict()}, folder / f"{name}.pt")
    return folder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reasoning_model_path", default="tiny")
    parser.add_argument("--segmentation_model_path", default="tiny")
    parser.add_argument("--untrained_sam2", help="a configuration of sam2's, built without weights; speed needs none")
    parser.add_argument("--device")
    parser.add_argument("--side", type=int, default=448, help="of the images, in pixels")
    parser.add_argument("--questions", type=int, default=20)
    args = parser.parse_args()

    import numpy as np
    import torch
    from PIL import Image

    from seg_zero.answer import parse_answer
    from seg_zero.data.synthetic.scenes import make_samples
    from seg_zero.devices import wait_for
    from seg_zero.pipeline import ReasoningSegmenter
    from seg_zero.policy.loading import quiet_transformers
    from seg_zero.prompting import to_image_pixels

    quiet_transformers()
    with tempfile.TemporaryDirectory() as folder:
        sam2 = untrained(args.untrained_sam2, Path(folder)) if args.untrained_sam2 else args.segmentation_model_path
        models = ReasoningSegmenter.from_pretrained(args.reasoning_model_path, sam2, device=args.device)
    size = (args.side, args.side)
    samples = list(make_samples(7, args.questions + 1))
    asked = [(s.scene.image.resize(size, Image.Resampling.NEAREST), s.question.text) for s in samples]

    def after(image: Image.Image, question: str) -> np.ndarray:
        text = models.policy.generate([image], [question])[0]
        objects = [to_image_pixels(item, models.policy.spec, *size) for item in parse_answer(text).objects]
        return models.segmenter.segment(image, objects).union

    def timed(function: object, *arguments: object) -> tuple[float, np.ndarray]:
        start = time.perf_counter()
        found = function(*arguments)  # type: ignore[operator]
        wait_for(models.segmenter.device)
        return time.perf_counter() - start, getattr(found, "mask", found)

    def forget() -> None:
        """Another picture, so that the policy does not go on from this very prompt, which it keeps."""
        models.policy.generate([asked[0][0]], [asked[0][1]])

    after(*asked[0]), models(*asked[0])  # the first run of everything is slower
    different = 0
    times: dict[str, list[float]] = {"after": [], "meanwhile": [], "again": [], "embedding": []}
    for image, question in asked[1:]:
        forget()
        taken, wanted = timed(after, image, question)
        times["after"].append(taken)
        for name in ("meanwhile", "again"):
            forget()
            taken, mask = timed(models, image, question)
            times[name].append(taken)
            different += not np.array_equal(mask, wanted)
        times["embedding"].append(timed(models.segmenter.embed, [image])[0])
    median = {name: float(np.median(values)) * 1000 for name, values in times.items()}
    print(
        f"{os.cpu_count()} CPU cores, {platform.processor() or platform.machine()}, torch {torch.__version__}, ", end=""
    )
    print(f"device {models.segmenter.device}; {args.questions} questions about images of {args.side} pixels, medians")
    for name in ("after", "meanwhile", "again"):
        print(f"{name:<10} {median[name]:7.1f} ms  {median[name] / median['after']:5.2f} of after")
    print(f"masks that differ from those of after: {different} of {2 * args.questions}")
    hidden = (median["after"] - median["meanwhile"]) / median["embedding"]
    print(
        f"one embedding takes {median['embedding']:.1f} ms, of which {max(hidden, 0):.0%} is hidden behind the policy"
    )


if __name__ == "__main__":
    main()
