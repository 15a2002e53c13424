"""The network of the start for questions of several hops: the embedded tiny policy with their words."""

from __future__ import annotations

from collections.abc import Iterator

from transformers import Qwen2_5_VLProcessor, Qwen2Tokenizer

from seg_zero.answer import write_answer, write_solution_multi
from seg_zero.data.synthetic.hop_steps import relation_words
from seg_zero.data.synthetic.hops import RELATIONS
from seg_zero.data.synthetic.scenes import COLOURS, SHAPES
from seg_zero.models.hop_start.labels import ANY_SHAPE
from seg_zero.models.tiny_policy_tokenizer import make_processor, make_tokenizer
from seg_zero.objects import PromptObject
from seg_zero.prompting import TEMPLATES


def _sentences() -> Iterator[str]:
    """What the tokenizer is learnt from: questions and responses, every word often."""
    solution = write_solution_multi([PromptObject((1, 1, 9, 9), ((5, 5),))])
    for colour in COLOURS:
        for shape in SHAPES:
            item = f"the {colour} {shape}"
            for number, relation in enumerate(RELATIONS):
                second = RELATIONS[(7 * number + 3) % len(RELATIONS)]
                for asked in (second.words(relation.words(item)), relation.words(ANY_SHAPE)):
                    yield TEMPLATES["brief"].replace("{question}", asked)
                left = f"{relation_words(second)} from {relation_words(relation)}"
                yield write_answer(f"I see {item} (1,2) {left}; {item} (3,4)", solution)
            yield "user\nassistant\n"


def make_hop_tokenizer() -> Qwen2Tokenizer:
    return make_tokenizer(_sentences())


def make_hop_processor() -> Qwen2_5_VLProcessor:
    return make_processor(make_hop_tokenizer())
