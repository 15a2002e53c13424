"""A policy that another machine serves over the OpenAI API, such as ``vllm serve``."""

from __future__ import annotations

import base64
import io
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import Any

import httpx
from PIL import Image

from seg_zero.errors import InputError, one_line
from seg_zero.hub import check_proxies, exempt_own_addresses
from seg_zero.policy.base import (
    GREEDY,
    MAX_NEW_TOKENS,
    Policy,
    Reply,
    Request,
    Sampling,
    UnansweredReply,
    pictures_of,
    take_waiting,
)
from seg_zero.prompting import PromptSpec, prompt_text

POLL = 0.01  # seconds between looks for new requests while others are under way
RETRY_AFTER = 0.2  # seconds
CHECK_TIMEOUT = 3.0  # seconds


class RemotePolicy(Policy):
    """Prompt and resize are those of the policies in this process; the text is written elsewhere."""

    def __init__(
        self,
        url: str,
        spec: PromptSpec,
        model: str | None = None,
        max_new_tokens: int = MAX_NEW_TOKENS,
        timeout: float = 60.0,
        in_flight: int = 64,
    ) -> None:
        """Reach the server at ``url`` (ending in /v1); ``model``: a name it serves, None for its only one.

        timeout: seconds for one answer. Raises InputError if there is no such server or model.
        """
        self.url, self.spec, self.max_new_tokens, self.in_flight = url.rstrip("/"), spec, max_new_tokens, in_flight
        check_proxies(f"--policy_url {url}")
        exempt_own_addresses()
        limits = httpx.Limits(max_connections=in_flight, max_keepalive_connections=in_flight)
        try:
            self._client = httpx.Client(timeout=timeout, limits=limits)
            served = self._served()
        except (httpx.HTTPError, httpx.InvalidURL, ValueError, KeyError, TypeError) as error:
            raise InputError(
                f"--policy_url {url} does not answer as an OpenAI server ({_reason(error)}); "
                "give the address of a `vllm serve`, such as http://host:8000/v1"
            ) from error
        if model is None and len(served) != 1:
            raise InputError(f"--policy_url {url} serves {', '.join(served) or 'nothing'}; name one by --policy_name")
        if model is not None and model not in served:
            raise InputError(f"--policy_name {model} is not served at {url}; there is {', '.join(served)}")
        self.model = model or served[0]

    def _served(self) -> list[str]:
        answer = self._client.get(f"{self.url}/models", timeout=CHECK_TIMEOUT).raise_for_status()
        return [str(entry["id"]) for entry in answer.json()["data"]]

    def problem(self) -> str | None:
        """One line if the server cannot be reached now."""
        try:
            self._served()
        except (httpx.HTTPError, ValueError, KeyError, TypeError) as error:
            return f"the policy at {self.url} cannot be reached ({_reason(error)})"
        return None

    def stream(self, requests: Iterable[Request | None], sampling: Sampling = GREEDY) -> Iterator[Reply]:
        """Replies as they come, up to ``in_flight`` under way; a server that fails twice gives UnansweredReply."""
        source, open_ended = iter(requests), True
        under_way = set[Future[Reply]]()
        with ThreadPoolExecutor(self.in_flight, "remote") as pool:
            while open_ended or under_way:
                taken, open_ended = take_waiting(source, self.in_flight - len(under_way))
                under_way |= {pool.submit(self._ask, request, sampling) for request in taken}
                done, under_way = wait(under_way, POLL if open_ended else None, FIRST_COMPLETED)
                for one in done:
                    yield one.result()

    def _ask(self, request: Request, sampling: Sampling) -> Reply:
        """One request, tried twice."""
        body = self._body(request, sampling)
        problem = ""
        for attempt in range(2):
            if attempt:
                time.sleep(RETRY_AFTER)
            try:
                answer = self._client.post(f"{self.url}/chat/completions", json=body)
                if answer.status_code == 400:  # e.g. a question that is longer than the policy's context
                    return Reply(request.key, (), 0, False, f"the policy refused the request: {_message(answer)}")
                answer.raise_for_status()
                content = answer.json()
                texts = tuple(str(one["message"]["content"] or "") for one in content["choices"])
                cut = any(one["finish_reason"] == "length" for one in content["choices"])
                if len(texts) != sampling.answers:
                    raise ValueError(f"{len(texts)} texts for {sampling.answers}")
                return Reply(request.key, texts, int(content["usage"]["completion_tokens"]), cut)
            except (httpx.HTTPError, ValueError, KeyError, TypeError) as error:
                problem = f"the policy at {self.url} gave no answer ({_reason(error)}), twice; try again later"
        return UnansweredReply(request.key, (), 0, False, problem)

    def _body(self, request: Request, sampling: Sampling) -> dict[str, Any]:
        """The same text and picture that a policy in this process would see."""
        content: list[dict[str, Any]] = [
            {"type": "image_url", "image_url": {"url": _data_url(image)}} for image in pictures_of(request, self.spec)
        ]
        content.append({"type": "text", "text": prompt_text(request.question, self.spec, request.context)})
        return {
            "model": self.model,
            "messages": [{"role": "user", "content": content}],
            "n": sampling.answers,
            "max_tokens": self.max_new_tokens,
            "temperature": sampling.temperature,
            "seed": sampling.seed_of(request.key) if sampling.temperature else None,
            # Else vLLM's server takes these from the model's generation config; Qwen2.5-VL's has a penalty of 1.05.
            "top_p": 1.0,
            "top_k": 0,
            "repetition_penalty": 1.0,
        }


def _data_url(image: Image.Image) -> str:
    """The picture without loss; quick rather than small."""
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", compress_level=1)
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"


def _reason(error: Exception) -> str:
    if isinstance(error, httpx.HTTPStatusError):
        return f"status {error.response.status_code}"
    if isinstance(error, httpx.TimeoutException):
        return "no answer in time"
    if isinstance(error, httpx.HTTPError | httpx.InvalidURL):
        return one_line(error)
    return "not an OpenAI answer"


def _message(answer: httpx.Response) -> str:
    """The message of an OpenAI error on one line."""
    try:
        return " ".join(str(answer.json()["error"]["message"]).split())[:200]
    except (ValueError, KeyError, TypeError):
        return "status 400"
