"""The remote-sensing model: seconds an image and a training step, against CAT-Seg's aggregator and rotations in turn.

    python benchmarks/remote_sensing.py                       # ViT-B shapes: some minutes on two cores
    python benchmarks/remote_sensing.py --size tiny --rounds 1
    python benchmarks/remote_sensing.py --device cuda --classes 40 --rounds 20 --precision bf16

full          RS-Fusion, four rotations as one batch, DINO and RemoteCLIP.
in turn       the same, the rotations one after the other.
aggregator    the same, with CAT-Seg's Swin and linear attention in the place of RS-Fusion.
CAT-Seg       one direction, no DINO, no RemoteCLIP, CAT-Seg's aggregator; "sliding": five passes a picture.

operations    multiplications and additions of each, counted from the shapes; the decoder is all but the encoders.

Variants take turns, round by round, in one process; the median counts. Weights are random, which changes no time.
Pictures are labelled in the precision of --dtype; a training step has that of --precision, and on CUDA TF32 where the
recipe of a training has it. On CUDA also the memory that each call took at its peak beyond what was held before.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from seg_zero.cli.demo import describe_machine
from seg_zero.devices import choose_device, choose_dtype, wait_for
from seg_zero.errors import run_command
from seg_zero.remote_sensing.model.decoder import Features
from seg_zero.remote_sensing.model.finetuning import set_trained
from seg_zero.remote_sensing.model.loss import segmentation_loss
from seg_zero.remote_sensing.model.network import RemoteSensingNetwork
from seg_zero.remote_sensing.model.settings import ModelSettings
from seg_zero.remote_sensing.segmenter import RemoteSensingSegmenter
from seg_zero.remote_sensing.training.config import compose_settings


class InTurn(RemoteSensingNetwork):
    """The rotations one after the other, as the published code runs them."""

    def features(self, pixels: torch.Tensor) -> Features:
        whole, own = self.settings, self.settings.clip.vision
        self.settings = replace(whole, rotate=False)
        try:
            first = super().features(pixels)
        finally:
            self.settings = whole
        squeezed = torch.nn.functional.interpolate(
            pixels, size=(own.side, own.side), mode="bilinear", align_corners=False
        )
        others = [self.clip.image(torch.rot90(squeezed, k, (2, 3)))[0] for k in (1, 2, 3)]
        return replace(first, directions=(first.image, *others))


def variants(settings: ModelSettings, sliding: bool, dtype: torch.dtype) -> dict[str, RemoteSensingSegmenter]:
    heavy = replace(settings, aggregator="cat_seg")
    alone = replace(heavy, rotate=False, dino=None, remote=None, layers=2)
    torch.manual_seed(0)
    full = RemoteSensingNetwork(settings)
    turned = InTurn(settings)
    turned.load_state_dict(full.state_dict())
    networks = {
        "full": full,
        "in turn": turned,
        "aggregator": RemoteSensingNetwork(heavy),
        "CAT-Seg": RemoteSensingNetwork(alone),
    }
    made = {name: RemoteSensingSegmenter(network, dtype=dtype) for name, network in networks.items()}
    if sliding:
        made["CAT-Seg, sliding"] = RemoteSensingSegmenter(networks["CAT-Seg"], sliding=True, dtype=dtype)
    return made


def print_times(title: str, actions: dict[str, Callable[[], object]], rounds: int, device: str) -> None:
    """Seconds of each action in each round, after one that does not count; on CUDA also the memory it needs."""
    cuda = device.startswith("cuda")
    times: dict[str, list[float]] = {name: [] for name in actions}
    peaks: dict[str, int] = {}
    for number in range(rounds + 1):
        for name, action in actions.items():
            if cuda:
                torch.cuda.reset_peak_memory_stats(device)
                held = torch.cuda.memory_allocated(device)
            start = time.perf_counter()
            action()
            wait_for(device)
            if number:
                times[name].append(time.perf_counter() - start)
            if cuda:
                peaks[name] = torch.cuda.max_memory_allocated(device) - held
    own = statistics.median(times["full"])
    print(f"\n{title:<18}{'seconds':>10}{'least':>10}{'most':>10}{'of full':>10}" + f"{'MiB':>10}" * cuda)
    for name, found in times.items():
        middle = statistics.median(found)
        line = f"{name:<18}{middle:>10.4f}{min(found):>10.4f}{max(found):>10.4f}{middle / own:>10.2f}"
        print(line + (f"{peaks[name] / 2**20:>10,.0f}" if cuda else ""), flush=True)


def decoding(segmenter: RemoteSensingSegmenter, names: Sequence[str]) -> Callable[[], object]:
    """The decoder alone, on the features of one picture."""
    network = segmenter.network
    with torch.inference_mode(), segmenter.autocast():
        side = network.settings.clip.vision.side
        features = network.features(torch.zeros(1, 3, side, side, device=segmenter.device))
        text = network.texts(names)

    @torch.inference_mode()
    def decode() -> object:
        with segmenter.autocast():
            return network.decoder(features, text)

    return decode


def print_operations(made: dict[str, RemoteSensingSegmenter], classes: int) -> None:
    print(f"\n{'operations':<18}{'encoders':>10}{'decoder':>10}{'all':>10}  GFLOP")
    for name, segmenter in made.items():
        settings, pictures = segmenter.network.settings, 5 if segmenter.sliding else 1
        with torch.device("meta"):
            network = RemoteSensingNetwork(settings)
        side = settings.clip.vision.side
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            features = network.features(torch.zeros(pictures, 3, side, side, device="meta"))
            encoders = counter.get_total_flops()
            network.decoder(features, torch.zeros(classes, settings.clip.embed, device="meta"))
            everything = counter.get_total_flops()
        numbers = (encoders, everything - encoders, everything)
        print(f"{name:<18}" + "".join(f"{number / 1e9:>10,.1f}" for number in numbers))


def training_step(
    network: RemoteSensingNetwork, batch: int, side: int, names: Sequence[str], precision: str
) -> Callable[[], None]:
    device = next(network.parameters()).device
    images = torch.rand(batch, 3, side, side, device=device) * 255
    labels = torch.randint(0, len(names), (batch, side, side), device=device)
    set_trained(network, "attention", "frozen")
    optimiser = torch.optim.AdamW([weight for weight in network.parameters() if weight.requires_grad], lr=1e-6)

    def step() -> None:
        network.train()
        with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
            loss = segmentation_loss(network(images, names), labels)
        loss.backward()
        optimiser.step()
        optimiser.zero_grad()

    return step


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="vit_b", choices=("vit_b", "vit_l", "tiny"))
    parser.add_argument("--classes", type=int, default=17)
    parser.add_argument("--layers", type=int, help="of RS-Fusion and of CAT-Seg's (default: the DLRSD recipe's)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batch", type=int, default=1, help="tiles of a training step (default: 1)")
    parser.add_argument("--precision", default="no", choices=("no", "bf16"), help="of a training step (default: no)")
    parser.add_argument("--dtype", default="float32", help="of labelling a picture (default: float32)")
    parser.add_argument("--no_training", action="store_true", help="inference alone")
    parser.add_argument("--no_sliding", action="store_true", help="without CAT-Seg's windows")
    parser.add_argument("--device", help="(default: cuda if there is one)")
    args = parser.parse_args(argv)
    layers = [] if args.layers is None else [f"model.layers={args.layers}"]
    settings, _ = compose_settings([f"size={args.size}", "data.train.folder=none", *layers])
    model, device = settings.model, choose_device(args.device)
    print(describe_machine())
    print(f"{args.size}, {args.classes} classes, {model.layers} layers, {device}, {args.dtype}, {args.rounds} rounds")
    made = variants(model, not args.no_sliding, choose_dtype(args.dtype, device))
    for segmenter in made.values():
        segmenter.network.eval().to(device)
    names = [f"class {number}" for number in range(args.classes)]
    print_operations(made, args.classes)
    image = np.random.default_rng(0).integers(0, 256, (640, 640, 3), dtype=np.uint8)
    first, second = (made[name].probabilities(image, names) for name in ("full", "in turn"))
    print(f"\nfull and in turn differ by at most {np.abs(first - second).max():.1e}")
    asked = {name: (lambda one=one: one.probabilities(image, names)) for name, one in made.items()}
    print_times("an image", asked, args.rounds, device)
    decoders = {name: decoding(made[name], names) for name in ("full", "aggregator", "CAT-Seg")}
    print_times("its decoder", decoders, args.rounds, device)
    if not args.no_training:
        chosen = [name for name in made if "sliding" not in name]
        side = model.clip.vision.side
        steps = {name: training_step(made[name].network, args.batch, side, names, args.precision) for name in chosen}
        if settings.tf32 and device.startswith("cuda"):
            torch.set_float32_matmul_precision("high")
        print_times(f"a step of {args.batch}", steps, args.rounds, device)
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
