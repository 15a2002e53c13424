"""A policy of a published size with random weights, for measuring time and memory where no weights can be downloaded.

    python benchmarks/random_policy.py /dev/shm/random_3b               # Qwen2.5-VL-3B: 3.75 billion weights, 7.5 GB
    python benchmarks/random_policy.py /tmp/small --layers 2 --vision-layers 2 --width 256

Tokenizer, image processor and chat template are the embedded policy's; the vocabulary has the published size. Its
answers are noise that never ends before ``data.max_response_length``, so every step does the most work that its
settings allow.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path
from typing import Any

# Of https://huggingface.co/Qwen/Qwen2.5-VL-3B-Instruct, config.json.
TEXT_3B = {
    "hidden_size": 2048,
    "intermediate_size": 11008,
    "num_hidden_layers": 36,
    "num_attention_heads": 16,
    "num_key_value_heads": 2,
    "vocab_size": 151_936,
    "tie_word_embeddings": True,
    "max_position_embeddings": 128_000,
}
VISION_3B = {"depth": 32, "hidden_size": 1280, "intermediate_size": 3420, "num_heads": 16, "window_size": 112}


def config_of_size(layers: int = 36, vision_layers: int = 32, width: int = 2048) -> Any:
    """The embedded policy's configuration with the dimensions of Qwen2.5-VL-3B, or part of them."""
    from transformers import AutoConfig

    from seg_zero.policy.model_files import TINY_POLICY

    config = AutoConfig.from_pretrained(TINY_POLICY)
    text, vision = config.text_config, config.vision_config
    sizes = {**TEXT_3B, "num_hidden_layers": layers}
    if width != TEXT_3B["hidden_size"]:
        sizes |= {"hidden_size": width, "intermediate_size": 4 * width, "num_attention_heads": width // 128}
        sizes["num_key_value_heads"] = max(1, width // 1024)
    for name, value in sizes.items():
        setattr(text, name, value)
    config.tie_word_embeddings = True
    text.layer_types = ["full_attention"] * layers
    text.rope_parameters["mrope_section"] = [16, 24, 24]  # half of a head's 128 channels
    for name, value in VISION_3B.items():
        setattr(vision, name, value)
    vision.depth, vision.out_hidden_size = vision_layers, text.hidden_size
    vision.fullatt_block_indexes = [block for block in (7, 15, 23, 31) if block < vision_layers]
    return config


def random_model(config: Any, device: str, dtype: Any) -> Any:
    """The model of ``config``, drawn on ``device`` with seed 0: the same bfloat16 numbers for every ``dtype``."""
    import torch
    from transformers import AutoModelForImageTextToText

    torch.manual_seed(0)
    with torch.device(device):
        model = AutoModelForImageTextToText.from_config(config, dtype=torch.bfloat16, attn_implementation="sdpa")
    return model.to(dtype)


def main() -> None:
    import torch

    from seg_zero.policy.model_files import TINY_POLICY

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--layers", type=int, default=36, help="of the language model")
    parser.add_argument("--vision-layers", type=int, default=32)
    parser.add_argument("--width", type=int, default=2048, help="of the language model; a multiple of 128")
    arguments = parser.parse_args()

    config = config_of_size(arguments.layers, arguments.vision_layers, arguments.width)
    model = random_model(config, "cuda" if torch.cuda.is_available() else "cpu", torch.bfloat16)
    model.save_pretrained(arguments.out)
    for file in Path(TINY_POLICY).iterdir():
        if file.name != "config.json" and file.suffix != ".safetensors" and not (arguments.out / file.name).exists():
            shutil.copy(file, arguments.out / file.name)
    print(f"{arguments.out}: {sum(weight.numel() for weight in model.parameters()):,} weights")


if __name__ == "__main__":
    main()
