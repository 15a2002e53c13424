"""A further prompt about the same picture: the same text, and only what is new is computed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from seg_zero.policy import Request, Sampling, TransformersPolicy
from seg_zero.policy.families import FAMILIES

RED, BLUE = Image.new("RGB", (50, 80), "red"), Image.new("RGB", (50, 80), "blue")
FIRST = 'Earlier answers: instance 1, "the cup": [{"bbox_2d": [1,2,3,4]}]'
SECOND = f'{FIRST}; instance 2, "the tea": [{{"bbox_2d": [5,6,7,8]}}]'


@pytest.fixture(scope="module", params=list(FAMILIES))
def loaded(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> TransformersPolicy:
    from helpers.tiny_models import save_tiny_model

    folder: Path = save_tiny_model(request.param, tmp_path_factory.mktemp("models") / request.param)
    return TransformersPolicy.from_pretrained(folder, max_new_tokens=6)


def fresh(policy: TransformersPolicy) -> TransformersPolicy:
    """The same policy, which has kept nothing."""
    return TransformersPolicy(policy.model, policy.processor, policy.spec, policy.max_new_tokens, 8)


@pytest.fixture
def policy(loaded: TransformersPolicy) -> TransformersPolicy:
    return fresh(loaded)


class Watched:
    """How many tokens each prompt's first pass is given, and how many pictures were seen."""

    def __init__(self, policy: TransformersPolicy) -> None:
        self.policy, self.tokens, self.pictures = policy, list[int](), 0
        tower, text = policy.model.model.visual, policy.model.model.language_model
        self._hooks = [
            tower.register_forward_hook(self._saw),
            text.register_forward_pre_hook(self._read, with_kwargs=True),
        ]

    def _saw(self, *_: Any) -> None:
        self.pictures += 1

    def _read(self, _: Any, __: Any, named: dict[str, Any]) -> None:
        count = named["inputs_embeds"].shape[1]
        if count > 1:
            self.tokens.append(count)

    def ask(self, *requests: Request) -> list[str]:
        self.tokens, self.pictures = [], 0
        return [reply.texts[0] for request in requests for reply in self.policy.stream([request])]

    def close(self) -> None:
        for hook in self._hooks:
            hook.remove()


def anew(policy: TransformersPolicy, *requests: Request) -> list[str]:
    """The texts of a policy that keeps nothing between the requests."""
    return [reply.texts[0] for request in requests for reply in fresh(policy).stream([request])]


TALK = (
    Request(0, RED, "the cup"),
    Request(1, RED, "the tea beside instance 1", FIRST),
    Request(2, RED, "the spoon", SECOND),
)


def test_a_conversation_goes_on_from_its_last_prompt(policy: TransformersPolicy) -> None:
    wanted = anew(policy, *TALK)
    watched = Watched(policy)
    assert watched.ask(*TALK) == wanted
    whole = [policy._inputs([request])["input_ids"].shape[1] for request in TALK]
    assert watched.pictures == 1 and watched.tokens[0] == whole[0]
    assert all(0 < read < full / 2 for read, full in zip(watched.tokens[2:], whole[2:], strict=True))
    assert watched.tokens[1] <= whole[1] - policy.spec.image_tokens
    # The prompt before, once more: all but its last token is known.
    assert watched.ask(TALK[2]) == wanted[2:] and watched.pictures == 0 and watched.tokens in ([], [1])
    watched.close()


def test_nothing_is_kept_of_another_picture_or_of_what_was_asked_beside_others(policy: TransformersPolicy) -> None:
    other = Request(3, BLUE, "the tea beside instance 1", FIRST)
    framed = Request(4, RED, "the cup", pictures=(BLUE,))
    wanted = anew(policy, TALK[0], other, TALK[1], framed)
    watched = Watched(policy)
    assert watched.ask(TALK[0], other, TALK[1], framed) == wanted and watched.pictures == 4
    policy.generate([RED, BLUE], ["the cup", "the tea"])  # a batch changes the state of the model
    list(policy.stream([TALK[0]], Sampling(2, 1.0, 0)))
    assert watched.ask(framed, TALK[1]) == [wanted[3], wanted[2]]
    watched.close()


def test_a_text_read_word_by_word_or_left_unread_keeps_its_prompt_too(policy: TransformersPolicy) -> None:
    wanted = anew(policy, *TALK)
    assert "".join(policy.stream_text(RED, "the cup")) == wanted[0]
    watched = Watched(policy)
    unread = policy.stream_text(RED, "the cup")
    next(unread, None)
    unread.close()
    assert watched.pictures == 0
    assert watched.ask(*TALK[1:]) == wanted[1:] and watched.pictures == 0
    watched.close()


def test_a_failed_answer_keeps_nothing(policy: TransformersPolicy, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = anew(policy, TALK[1])
    watched = Watched(policy)
    watched.ask(TALK[0])

    def fails(*_: Any, **__: Any) -> None:
        raise RuntimeError("out of memory")

    with monkeypatch.context() as patched:
        patched.setattr(policy.model, "generate", fails)
        with pytest.raises(RuntimeError, match="out of memory"):
            watched.ask(TALK[1])
    assert watched.ask(TALK[1]) == wanted and watched.pictures == 1
    watched.close()
