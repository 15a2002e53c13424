"""vLLM's OpenAI server takes a merged folder as it is and answers what seg_zero's own policies answer."""

from __future__ import annotations

import base64
import io
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch

pytestmark = pytest.mark.timeout(300)

NEW_TOKENS = 64


@pytest.fixture(scope="module")
def merged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The embedded policy as a checkpoint, merged."""
    from helpers.sharded import copy_side_files
    from transformers import AutoModelForImageTextToText

    from seg_zero.export.merge import merge
    from seg_zero.policy.model_files import TINY_POLICY

    step = tmp_path_factory.mktemp("checkpoints") / "global_step_1"
    copy_side_files(TINY_POLICY, step / "actor")
    state = AutoModelForImageTextToText.from_pretrained(TINY_POLICY, dtype=torch.float32).state_dict()
    torch.save(state, step / "actor" / "model_world_size_1_rank_0.pt")
    return merge(step, step.parent / "merged", max_shard_size="8MB", verify=True)


@pytest.fixture(scope="module")
def server(merged: Path) -> Iterator[str]:
    """Address of a server with the merged folder; it ends with the test."""
    import httpx
    from helpers.sharded import free_port

    address = f"http://127.0.0.1:{(port := free_port())}"
    environment = {
        **os.environ, "VLLM_CPU_OMP_THREADS_BIND": "nobind", "TORCHDYNAMO_DISABLE": "1", "OMP_NUM_THREADS": "1",
        "HF_HUB_OFFLINE": "1",
    }  # fmt: skip
    # The module behind `vllm serve`, whose command does not start with the CPU build: it asks for a package "vllm".
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", str(merged)]
    command += ["--served-model-name", "policy", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--dtype", "float32", "--enforce-eager", "--no-enable-chunked-prefill"]
    command += ["--kv-cache-memory-bytes", str(64 << 20)]
    log = merged.parent / "server.log"
    with log.open("w") as output:
        process = subprocess.Popen(
            [*command, "--max-model-len", "1024"],
            env=environment, stdout=output, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
        try:
            for _ in range(240):
                time.sleep(0.5)
                assert process.poll() is None, log.read_text()[-3000:]
                try:
                    if httpx.get(f"{address}/health").status_code == 200:
                        break
                except httpx.TransportError:
                    continue
            else:
                pytest.fail(f"the server did not start: {log.read_text()[-3000:]}")
            yield address
        finally:
            process.terminate()
            try:
                process.wait(30)
            finally:
                # It leads a group of its own, with its engine in it.
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)


def ask(address: str, text: str, picture: Any) -> str:
    """One greedy answer to a text and a picture, sent as a data URL."""
    from openai import OpenAI

    encoded = io.BytesIO()
    picture.save(encoded, format="PNG")
    url = f"data:image/png;base64,{base64.b64encode(encoded.getvalue()).decode()}"
    content: Any = [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": text}]
    answer = OpenAI(base_url=f"{address}/v1", api_key="none").chat.completions.create(
        model="policy", messages=[{"role": "user", "content": content}], temperature=0, max_tokens=NEW_TOKENS
    )
    return str(answer.choices[0].message.content)


def test_server_answers_as_the_policy_does(merged: Path, server: str) -> None:
    """The same greedy text for pictures and questions, from weights in several files."""
    from seg_zero.data.synthetic.scenes import make_samples
    from seg_zero.policy import TransformersPolicy
    from seg_zero.prompting import build_messages, resize_for_policy

    policy = TransformersPolicy.from_pretrained(merged, max_new_tokens=NEW_TOKENS)
    samples = list(make_samples(seed=5, count=6, side=160))
    images, questions = [s.scene.image for s in samples], [s.question.text for s in samples]
    expected = policy.generate(images, questions)
    assert len(set(expected)) > 3 and len(list(merged.glob("model-*.safetensors"))) > 1
    found = []
    for image, question in zip(images, questions, strict=True):
        text = build_messages(question, policy.spec)[0]["content"][1]["text"]
        found.append(ask(server, text, resize_for_policy(image, policy.spec)))
    assert found == expected


def test_seg_zero_serve_answers_the_same_with_the_policy_elsewhere(merged: Path, server: str) -> None:
    """Two seg-zero servers would share this policy; text and mask are those of the pipeline in one process."""
    import httpx
    from helpers.sharded import free_port

    from seg_zero.data.synthetic.scenes import make_samples
    from seg_zero.masks import decode_mask
    from seg_zero.pipeline import ReasoningSegmenter

    pipeline = ReasoningSegmenter.from_pretrained(merged, max_new_tokens=NEW_TOKENS)
    samples = list(make_samples(seed=6, count=6, side=160))
    address = f"http://127.0.0.1:{(port := free_port())}"
    command = [sys.executable, "-m", "seg_zero.cli", "serve", "--port", str(port), "--model", str(merged)]
    command += ["--policy_url", f"{server}/v1", "--max_new_tokens", str(NEW_TOKENS)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline().startswith(f"serving on {address} (policy policy, segmenter tiny, engine http")
        for sample in samples:
            expected = pipeline(sample.scene.image, sample.question.text)
            encoded = io.BytesIO()
            sample.scene.image.save(encoded, format="PNG")
            form: Any = {"files": {"image": encoded.getvalue()}, "data": {"question": sample.question.text}}
            answer = httpx.post(f"{address}/v1/segment", **form, timeout=60)
            assert answer.status_code == 200, answer.text
            assert answer.json()["text"] == expected.text
            assert (decode_mask(answer.json()["mask"]) == expected.mask).all()
        long = httpx.post(
            f"{address}/v1/segment", files=form["files"], data={"question": "a red cup " * 190}, timeout=60
        )
        assert long.status_code == 422 and "the policy refused the request" in long.json()["error"]
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.wait()
