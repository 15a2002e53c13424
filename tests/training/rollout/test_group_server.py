"""One request to vLLM for all answers to a question."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from seg_zero.training.cpu.upstream_fixes import answer_for_vllm_metadata

answer_for_vllm_metadata()

from vllm.sampling_params import RequestOutputKind  # noqa: E402

from seg_zero.training.rollout.group_server import GroupServer  # noqa: E402


class Engine:
    """An engine that gives these outputs at once; keeps what it was asked."""

    def __init__(self, outputs: Sequence[Any]) -> None:
        self.outputs = outputs
        self.asked: dict[str, Any] = {}

    async def generate(self, **asked: Any) -> AsyncIterator[Any]:
        self.asked = asked
        yield SimpleNamespace(outputs=self.outputs)


def completion(index: int, tokens: Sequence[int], reason: str = "stop", logs: bool = True) -> Any:
    logprobs = [{token: SimpleNamespace(logprob=-float(token))} for token in tokens] if logs else None
    return SimpleNamespace(index=index, token_ids=tokens, finish_reason=reason, logprobs=logprobs)


def make_server(outputs: Sequence[Any], tensor_parallel: int = 1) -> GroupServer:
    server = object.__new__(GroupServer)
    server.config = SimpleNamespace(
        max_model_len=20, response_length=12, ignore_eos=False, tensor_model_parallel_size=tensor_parallel
    )
    server.engine, server.global_steps = Engine(outputs), 4
    server._submission_paused, server._admitting = False, 0
    return server


def ask(server: GroupServer, prompt: list[int], count: int, images: Any = None, **sampling: Any) -> Any:
    return asyncio.run(server.generate_group(prompt, {"temperature": 1.0, **sampling}, count, images, {}))


def test_answers_come_in_order_from_one_request() -> None:
    server = make_server([completion(1, (5, 6)), completion(0, (7,))])
    answers, step = ask(server, [1, 2, 3], 2, ["image"], seed=9, logprobs=0)
    assert [(one.tokens, one.log_probs) for one in answers] == [([7], [-7.0]), ([5, 6], [-5.0, -6.0])] and step == 4
    params, prompt = server.engine.asked["sampling_params"], server.engine.asked["prompt"]
    assert (params.n, params.seed, params.max_tokens, params.logprobs) == (2, 9, 12, 0)
    assert params.output_kind == RequestOutputKind.FINAL_ONLY and not params.detokenize
    assert prompt["prompt_token_ids"] == [1, 2, 3] and prompt["multi_modal_data"] == {"image": ["image"]}
    assert server._admitting == 0


def test_an_answer_is_no_longer_than_the_context_allows() -> None:
    server = make_server([completion(0, (5,), logs=False)])
    assert ask(server, [1] * 15, 1)[0][0].log_probs is None
    assert server.engine.asked["sampling_params"].max_tokens == 5
    with pytest.raises(ValueError, match="a prompt of 20 tokens fills max_model_len=20"):
        ask(server, [1] * 20, 1)


def test_greedy_answers_are_computed_once() -> None:
    """vLLM refuses several greedy answers, which would all be the same."""
    server = make_server([completion(0, (5,))])
    answers, _ = ask(server, [1], 3, temperature=0.0)
    assert [one.tokens for one in answers] == [[5]] * 3 and server.engine.asked["sampling_params"].n == 1


@pytest.mark.parametrize(
    "outputs", [[], [completion(0, (5,))], [completion(0, (5,)), completion(1, (), reason="abort")]]
)
def test_a_request_that_vllm_gives_up_raises(outputs: Sequence[Any]) -> None:
    server = make_server(outputs)
    with pytest.raises(RuntimeError, match=r"gave up a request: \d of 2 answers"):
        ask(server, [1], 2)
    assert server._admitting == 0


@pytest.mark.parametrize(("tensor_parallel", "given", "found"), [(1, {}, "uni"), (2, {}, None), (1, "mp", "mp")])
def test_one_worker_runs_in_the_engines_process(tensor_parallel: int, given: Any, found: str | None) -> None:
    settings = {"distributed_executor_backend": given} if given else {}
    make_server([], tensor_parallel)._preprocess_engine_kwargs(settings)
    assert settings.get("distributed_executor_backend") == found
