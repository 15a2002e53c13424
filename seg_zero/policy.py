"""Policies: (images, questions) to texts, with transformers or with vLLM."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from PIL import Image

from seg_zero.errors import InputError
from seg_zero.prompting import (
    DEFAULT_FAMILY,
    FAMILIES,
    SPEC_FILE,
    PromptSpec,
    build_messages,
    family_named,
    resize_for_policy,
)

TINY_POLICY = Path(__file__).parent / "models" / "tiny_policy"
PUBLISHED_IMAGE_SIZE = 840  # pixels
MAX_NEW_TOKENS = 1024
_HUB_ID = re.compile(r"[A-Za-z0-9_.-]+/[A-Za-z0-9_.-]+")


class Policy(Protocol):
    """Anything that answers questions about images in text."""

    spec: PromptSpec

    def generate(self, images: Sequence[Image.Image], questions: Sequence[str]) -> list[str]:
        """One text per (RGB image of any size, question), greedy."""


def resolve_model(path_or_id: str | Path | None) -> str:
    """A folder or hub id to load from; None and "tiny" mean the embedded policy.

    Raises InputError for a folder without configuration, weights, tokenizer or image processor, and for
    a model family that :data:`seg_zero.prompting.FAMILIES` does not name.
    """
    if path_or_id is None or str(path_or_id) == "tiny":
        path_or_id = TINY_POLICY
    path = Path(path_or_id)
    if not path.exists():
        if _HUB_ID.fullmatch(str(path_or_id)):
            return str(path_or_id)
        raise InputError(f"policy {path_or_id} is neither a folder nor a hub id such as Ricky06662/VisionReasoner-7B")
    if not (path / "config.json").is_file():
        raise InputError(
            f"policy folder {path} has no config.json; merge a training checkpoint first with "
            "training_scripts/model_merger.py --local_dir"
        )
    wanted = {
        "image processor": ("preprocessor_config.json", "processor_config.json"),
        "tokenizer": ("tokenizer.json", "vocab.json"),
        "weights": ("model.safetensors", "model.safetensors.index.json"),
    }
    for what, names in wanted.items():
        if not any((path / name).is_file() for name in names):
            raise InputError(f"policy folder {path} has no {what} ({' or '.join(names)}); copy it from the base model")
    family = model_type_of(str(path))
    if family not in FAMILIES:
        raise InputError(f"policy folder {path} has model_type {family!r}; supported are {', '.join(FAMILIES)}")
    return str(path)


def hub_file(repository: str, name: str) -> Path | None:
    """A file of a hub repository, from the cache or the hub; None if it has no such file or cannot be reached."""
    from huggingface_hub import hf_hub_download

    try:
        return Path(hf_hub_download(repository, name))
    except (OSError, ValueError):  # what the model's own loading will say in full
        return None


def model_type_of(model: str) -> str | None:
    """``model_type`` in the config.json of a folder or hub id; None if there is none to read."""
    path = Path(model, "config.json") if Path(model).is_dir() else hub_file(model, "config.json")
    if path is None or not path.is_file():
        return None
    try:
        return json.loads(path.read_text()).get("model_type")
    except ValueError as error:
        raise InputError(f"{path} is not JSON ({error}); copy it again from the model") from error


def default_spec(model: str, template: str | None = None, image_size: int | None = None) -> PromptSpec:
    """The prompt settings of a model: its own ``seg_zero.json``, else the published ones by name.

    ``template`` and ``image_size`` replace single values.
    """
    saved = None if Path(model).is_dir() else hub_file(model, SPEC_FILE)
    spec = PromptSpec.load(Path(model) if saved is None else saved.parent)
    if spec is None:
        family = model_type_of(model) or DEFAULT_FAMILY
        known = family_named(family)
        side = round(PUBLISHED_IMAGE_SIZE / known.token_pixels) * known.token_pixels
        spec = PromptSpec.of_family("single" if "seg-zero" in model.lower() else "multi", side, family)
    return replace(spec, template=template or spec.template, image_size=image_size or spec.image_size)


def check_processor(processor: Any, spec: PromptSpec, model: str) -> None:
    """The prompt settings fit the processor. Raises InputError if its image tokens are of another size."""
    pixels = processor.image_processor.patch_size * processor.image_processor.merge_size
    if pixels != spec.token_pixels:
        raise InputError(
            f"the processor of {model} makes one token of {pixels} x {pixels} pixels, but its prompt settings say "
            f"{spec.token_pixels}; correct token_pixels, image_size and coordinates in {SPEC_FILE}, or policy.family"
        )


def _check_length(tokens: int, limit: int, question: str) -> None:
    if tokens > limit:
        raise InputError(
            f"the prompt has {tokens} tokens, more than the {limit} that the model leaves room for "
            f"(question {question[:60]!r}...); shorten the question"
        )


class TransformersPolicy:
    """A policy run by transformers' generate; CPU or GPU, no flash-attention needed."""

    def __init__(self, model: Any, processor: Any, spec: PromptSpec, max_new_tokens: int, batch_size: int) -> None:
        self.model, self.processor, self.spec = model, processor, spec
        self.max_new_tokens, self.batch_size = max_new_tokens, batch_size

    @classmethod
    def from_pretrained(
        cls,
        path_or_id: str | Path | None = None,
        *,
        device: str | None = None,
        spec: PromptSpec | None = None,
        max_new_tokens: int = MAX_NEW_TOKENS,
        batch_size: int = 8,
    ) -> TransformersPolicy:
        """Load a policy of any family: bfloat16 on a GPU, float32 on CPU."""
        name = resolve_model(path_or_id)
        import torch
        from safetensors import SafetensorError
        from transformers import AutoModelForImageTextToText, AutoProcessor

        device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        dtype = torch.float32 if device.startswith("cpu") else torch.bfloat16
        try:
            processor = AutoProcessor.from_pretrained(name)
            model: Any = AutoModelForImageTextToText.from_pretrained(name, dtype=dtype, attn_implementation="sdpa")
        except (OSError, ValueError, KeyError, SafetensorError) as error:
            reason = str(error).strip().split("\n")[0]
            raise InputError(f"policy {name} cannot be loaded ({reason}); check the folder or hub id") from error
        processor.tokenizer.padding_side = "left"
        model.requires_grad_(False).eval()
        spec = spec or default_spec(name)
        check_processor(processor, spec, name)
        return cls(model.to(device), processor, spec, max_new_tokens, batch_size)

    def generate(self, images: Sequence[Image.Image], questions: Sequence[str]) -> list[str]:
        texts: list[str] = []
        for start in range(0, len(images), self.batch_size):
            stop = start + self.batch_size
            texts += self._generate_batch(images[start:stop], questions[start:stop])
        return texts

    def _generate_batch(self, images: Sequence[Image.Image], questions: Sequence[str]) -> list[str]:
        import torch

        prompts = [
            self.processor.apply_chat_template(
                build_messages(question, self.spec), tokenize=False, add_generation_prompt=True
            )
            for question in questions
        ]
        seen = [resize_for_policy(image, self.spec) for image in images]
        inputs = self.processor(text=prompts, images=seen, padding=True, return_tensors="pt").to(self.model.device)
        tokens = inputs["input_ids"].shape[1]
        text_config = self.model.config.get_text_config()
        _check_length(tokens, text_config.max_position_embeddings - 64, max(questions, key=len))
        room = min(self.max_new_tokens, text_config.max_position_embeddings - tokens)
        with torch.inference_mode():
            # Sampling settings of a checkpoint's generation config must not leak into greedy decoding.
            output = self.model.generate(
                **inputs, do_sample=False, temperature=None, top_p=None, top_k=None, max_new_tokens=room
            )
        return self._decode(output[:, tokens:])

    def _decode(self, tokens: Any) -> list[str]:
        return [str(text) for text in self.processor.batch_decode(tokens, skip_special_tokens=True)]


class VllmPolicy:
    """A policy run by vLLM; tensor parallel over ``tensor_parallel_size`` GPUs (or CPU processes)."""

    def __init__(self, engine: Any, processor: Any, spec: PromptSpec, max_new_tokens: int) -> None:
        self.engine, self.processor, self.spec, self.max_new_tokens = engine, processor, spec, max_new_tokens

    @classmethod
    def from_pretrained(
        cls,
        path_or_id: str | Path | None = None,
        *,
        spec: PromptSpec | None = None,
        max_new_tokens: int = MAX_NEW_TOKENS,
        tensor_parallel_size: int = 1,
        gpu_memory_utilization: float = 0.6,
    ) -> VllmPolicy:
        """Load the policy into a vLLM engine: bfloat16 on GPUs, float32 on CPU."""
        name = resolve_model(path_or_id)
        spec = spec or default_spec(name)
        import torch

        settings: dict[str, Any] = {"gpu_memory_utilization": gpu_memory_utilization, "dtype": "bfloat16"}
        if not torch.cuda.is_available():
            for key, value in {"VLLM_CPU_OMP_THREADS_BIND": "nobind", "TORCHDYNAMO_DISABLE": "1"}.items():
                os.environ.setdefault(key, value)
            settings = {"kv_cache_memory_bytes": 256 << 20, "dtype": "float32", "enforce_eager": True}
        os.environ.setdefault("VLLM_LOGGING_LEVEL", "WARNING")
        from transformers import AutoProcessor
        from vllm import LLM

        processor = AutoProcessor.from_pretrained(name)
        check_processor(processor, spec, name)
        engine = LLM(
            model=name,
            tensor_parallel_size=tensor_parallel_size,
            max_model_len=spec.image_tokens + 1024 + max_new_tokens,
            limit_mm_per_prompt={"image": 1, "video": 0},
            disable_log_stats=True,
            **settings,
        )
        return cls(engine, processor, spec, max_new_tokens)

    def generate(self, images: Sequence[Image.Image], questions: Sequence[str]) -> list[str]:
        from vllm import SamplingParams

        requests = []
        for image, question in zip(images, questions, strict=True):
            prompt = self.processor.apply_chat_template(
                build_messages(question, self.spec), tokenize=False, add_generation_prompt=True
            )
            _check_length(len(self.processor.tokenizer(prompt)["input_ids"]), 1024, question)
            picture = resize_for_policy(image, self.spec)
            requests.append({"prompt": prompt, "multi_modal_data": {"image": picture}})
        sampling = SamplingParams(temperature=0.0, max_tokens=self.max_new_tokens)
        outputs = self.engine.generate(requests, sampling, use_tqdm=False)
        return [output.outputs[0].text for output in outputs]
