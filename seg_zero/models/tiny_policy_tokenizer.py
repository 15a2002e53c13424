"""Tokenizer, chat template and processor of the tiny policy.

A byte-level BPE with Qwen's pre-tokenizer and special tokens, learnt from the sentences that synthetic
scenes bring up. Every whole number 0..112 is one token: a policy of a few million parameters learns to
point at a place far sooner than to spell that place in decimal digits.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import AddedToken, Qwen2_5_VLProcessor, Qwen2Tokenizer, Qwen2VLImageProcessor
from transformers.models.qwen2_vl.video_processing_qwen2_vl import Qwen2VLVideoProcessor

from seg_zero.answer import write_answer, write_solution_multi
from seg_zero.data.synthetic.scenes import COLOURS, PLURALS, SHAPES
from seg_zero.objects import PromptObject
from seg_zero.prompting import TEMPLATES

IMAGE_SIZE = 112  # pixels; also the largest number with its own token
PATCH_SIZE = 14  # pixels
MERGE_SIZE = 2  # patches per side that become one visual token
GRID = IMAGE_SIZE // (PATCH_SIZE * MERGE_SIZE)  # visual tokens per side
VOCAB_SIZE = 512  # a multiple of 64 and equal to len(tokenizer): no padded ids whose log-probabilities could differ

_PRE_TOKEN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}|"
    r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_SPECIAL = (
    *("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|object_ref_start|>", "<|object_ref_end|>", "<|box_start|>"),
    *("<|box_end|>", "<|quad_start|>", "<|quad_end|>", "<|vision_start|>", "<|vision_end|>", "<|vision_pad|>"),
    *("<|image_pad|>", "<|video_pad|>"),
)
_WORDS = ("<think>", "</think>", "<answer>", "</answer>", "bbox_2d", "point_2d")

# Of dialogues, one token each. None occurs in prompts and answers of single questions, whose tokens stay as they were.
DIALOGUE_WORDS = (
    *("Earlier answers", "instance", "; instance", " instance", " and instance", "The question refers to instance"),
    *(', "', '": [{"', "]}]; instance", "]}]. The question refers to instance", "nothing was found", "Region 0"),
    *("region 0", ", given by the user", "The small picture", " shows", " alone"),
    *("Numbered outlines in the image mark these objects", " to the left of", " to the right of", " higher up than"),
    *(" lower down than", " next to", " close to", " between", " left of instance", " right of instance"),
    *(" above instance", " below instance", "the other", " that is not", " not"),
    *(" of instance", " of the same shape as", " that this", " belongs to", " is a part of", " that", "its", "this"),
    *(" core", " cap", " stripe", " base", "Please", "please", " mark", "where", "Where", "which", "Which", "show me"),
    *("Show me", " one", " is", " is the earlier answer", "correct it", " excluding", " except", " without", " inside"),
    *(" other than", " then", "]."),
)

# Qwen's format without a default system turn. Contents are strings or lists of text, image and video parts.
CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{% if message['content'] is string %}{{ message['content'] }}"
    "{% else %}{% for part in message['content'] %}"
    "{% if part['type'] == 'image' or 'image' in part or 'image_url' in part %}"
    "<|vision_start|><|image_pad|><|vision_end|>"
    "{% elif part['type'] == 'video' or 'video' in part %}<|vision_start|><|video_pad|><|vision_end|>"
    "{% elif 'text' in part %}{{ part['text'] }}{% endif %}"
    "{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def _sentences() -> Iterator[str]:
    """The corpus: prompts and answers of every kind, each word about as often as scenes use it."""
    places = ("top left", "top", "top right", "left", "centre", "right", "bottom left", "bottom", "bottom right")
    solution = write_solution_multi([PromptObject((1, 1, 9, 9), ((5, 5),))] * 2)
    for colour in COLOURS:
        for shape in SHAPES:
            for place, word in zip(places, ("leftmost", "rightmost", "topmost", "bottommost") * 3, strict=False):
                for relation in ("left of", "right of", "above", "below"):
                    asked = f"the {word} {colour} {shape} {relation} the {colour} {shape}"
                    yield TEMPLATES["brief"].replace("{question}", asked)
                many = f"all {colour} {PLURALS[shape]}"
                yield TEMPLATES["brief"].replace("{question}", many)
                yield write_answer(f"I see the small {colour} {shape}, {place} and the large {shape}", solution)
                yield write_answer(f"I see no {colour} {shape}", "[]")
                yield write_answer(f"looks {colour}", solution)
                yield f"user\nassistant\nsystem\nthe largest {colour} shape\nthe smallest shape\nall shapes"


def _learn_merges(sentences: Iterable[str], size: int) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """A byte-level BPE of ``size`` entries: vocabulary and merges."""
    learner = Tokenizer(models.BPE())
    learner.normalizer = normalizers.NFC()
    learner.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex("|".join(_WORDS[:4])), behavior="removed"),
            pre_tokenizers.Split(Regex("|".join(_WORDS[4:])), behavior="removed"),
            pre_tokenizers.Split(Regex(_PRE_TOKEN), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    learner.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size, initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()), show_progress=False
    )
    learner.train_from_iterator(sentences, trainer)
    learnt = json.loads(learner.to_str())["model"]
    return learnt["vocab"], [(left, right) for left, right in learnt["merges"]]


def make_tokenizer(sentences: Iterable[str] | None = None, words: Sequence[str] = ()) -> Qwen2Tokenizer:
    """A tokenizer of VOCAB_SIZE entries, learnt from ``sentences``, and of ``words`` that are one token each.

    Without any it is that of the tiny policy; with :data:`DIALOGUE_WORDS`, that of a policy that is taught dialogues.
    """
    if sentences is None:
        sentences = _sentences()
    numbers = [str(value) for value in range(10, IMAGE_SIZE + 1)]  # 0..9 are single bytes already
    added = len(_SPECIAL) + len(_WORDS) + len(numbers)
    vocabulary, merges = _learn_merges(sentences, VOCAB_SIZE - added)
    made: Any = Qwen2Tokenizer  # its annotation of merges is narrower than what it takes
    tokenizer: Qwen2Tokenizer = made(
        vocab=vocabulary,
        merges=merges,
        unk_token="<|endoftext|>",
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        model_max_length=4096,
    )
    tokenizer.add_special_tokens({"additional_special_tokens": list(_SPECIAL)})
    # Not "special": decoding that skips special tokens must keep the answer.
    tokenizer.add_tokens([AddedToken(word, normalized=False, special=False) for word in (*_WORDS, *numbers, *words)])
    size = VOCAB_SIZE + len(words)
    if len(tokenizer) != size:
        raise ValueError(f"the tokenizer has {len(tokenizer)} entries instead of {size}: the corpus is too small")
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def number_ids(tokenizer: Qwen2Tokenizer) -> list[int]:
    """Token ids of the whole numbers 0..112, in order."""
    ids = tokenizer.convert_tokens_to_ids([str(value) for value in range(IMAGE_SIZE + 1)])
    return ids if isinstance(ids, list) else [ids]


def make_processor(tokenizer: Qwen2Tokenizer | None = None) -> Qwen2_5_VLProcessor:
    """Processor for images of 28 x 28 to 112 x 112 pixels; 112 x 112 is passed on unchanged.

    The tokenizer is that of the tiny policy unless another is given.
    """
    pixels = {"min_pixels": (PATCH_SIZE * MERGE_SIZE) ** 2, "max_pixels": IMAGE_SIZE**2}
    shared = {"patch_size": PATCH_SIZE, "merge_size": MERGE_SIZE, "temporal_patch_size": 2}
    return Qwen2_5_VLProcessor(
        image_processor=Qwen2VLImageProcessor(**pixels, **shared),
        tokenizer=make_tokenizer() if tokenizer is None else tokenizer,
        video_processor=Qwen2VLVideoProcessor(**pixels, **shared),
        chat_template=CHAT_TEMPLATE,
    )
