"""The network of the start for questions of several hops: the embedded tiny policy with two more layers and more words."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from transformers import Qwen2_5_VLForConditionalGeneration, Qwen2_5_VLProcessor, Qwen2Tokenizer

from seg_zero.answer import write_answer, write_solution_multi
from seg_zero.data.synthetic.hops import ALIKE, RELATIONS
from seg_zero.data.synthetic.scenes import COLOURS, SHAPES
from seg_zero.models.tiny_policy_model import make_model
from seg_zero.models.tiny_policy_tokenizer import make_processor, make_tokenizer
from seg_zero.objects import PromptObject
from seg_zero.policy.model_files import TINY_POLICY
from seg_zero.prompting import TEMPLATES

# Layers of the embedded policy by place in the new network; the others start as the identity. The layer whose first
# attention head learns to look at objects stays in the middle.
GROWN: dict[int, int] = {0: 0, 1: 1, 3: 2, 5: 3}
LAYERS = 6


def _sentences() -> Iterator[str]:
    """What the tokenizer is learnt from: questions and responses, every word often."""
    solution = write_solution_multi([PromptObject((1, 1, 9, 9), ((5, 5),))] * 2)
    for colour in COLOURS:
        for shape in SHAPES:
            item = f"the {colour} {shape}"
            for number, relation in enumerate(RELATIONS):
                second = RELATIONS[(7 * number + 3) % len(RELATIONS)]
                yield TEMPLATES["brief"].replace("{question}", second.words(relation.words(item)))
                said = f"same {relation.where}" if relation.where in ALIKE else f"{relation.choice} {relation.where}"
                yield write_answer(f"I see {item} (1,2); {said} {item} (3,4)", solution)
            yield "user\nassistant\n"


def make_hop_tokenizer() -> Qwen2Tokenizer:
    return make_tokenizer(_sentences())


def make_hop_processor() -> Qwen2_5_VLProcessor:
    return make_processor(make_hop_tokenizer())


def grow_tiny_policy(processor: Qwen2_5_VLProcessor, seed: int) -> Qwen2_5_VLForConditionalGeneration:
    """The embedded policy's weights in a network of :data:`LAYERS` layers, float32.

    Words that both tokenizers have keep their embedding; all other embeddings are drawn from ``seed``. Before training a
    new layer changes nothing.
    """
    model: Any = make_model(processor, seed, LAYERS)
    source: Any = Qwen2_5_VLForConditionalGeneration.from_pretrained(TINY_POLICY, dtype=torch.float32)
    old = Qwen2_5_VLProcessor.from_pretrained(TINY_POLICY).tokenizer.get_vocab()
    new = processor.tokenizer.get_vocab()
    shared = [word for word in new if word in old]
    ours, theirs = model.model.language_model, source.model.language_model
    with torch.no_grad():
        model.model.visual.load_state_dict(source.model.visual.state_dict())
        rows = theirs.embed_tokens.weight[[old[word] for word in shared]]
        ours.embed_tokens.weight[[new[word] for word in shared]] = rows
        ours.norm.load_state_dict(theirs.norm.state_dict())
        for place, layer in enumerate(ours.layers):
            if place in GROWN:
                layer.load_state_dict(theirs.layers[GROWN[place]].state_dict())
            else:
                layer.self_attn.o_proj.weight.zero_()
                layer.mlp.down_proj.weight.zero_()
    grown: Qwen2_5_VLForConditionalGeneration = model
    return grown
