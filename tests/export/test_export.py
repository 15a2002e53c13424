"""The model card of a merged folder, and its upload to a hub that runs here."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from helpers.full_disk import little_room
from helpers.sharded import copy_side_files
from helpers.tiny_models import save_tiny_model
from huggingface_hub import ModelCard
from transformers import AutoModelForImageTextToText

from seg_zero.cli.merge import main as merge_command
from seg_zero.errors import InputError, run_command
from seg_zero.export.card import model_card, read_run
from seg_zero.export.merge import merge
from seg_zero.export.write_model import write_model

ROOT = Path(__file__).resolve().parents[2]
RUN = {
    "actor_rollout_ref": {
        "model": {"path": "Qwen/Qwen2.5-VL-7B-Instruct"},
        "actor": {"optim": {"lr": 1e-6}, "use_kl_loss": True, "kl_loss_coef": 0.005},
        "rollout": {"n": 8},
    },
    "algorithm": {"adv_estimator": "grpo"},
    "data": {"train_files": ["Ricky06662/VisionReasoner_multi_object_7k_840", "/home/me/secret/rows.parquet"]},
    "reward": {"terms": {"iou": {"weight": 1.0}, "mask": {"weight": 0.0}, "point": {"weight": 0.5}}},
    "trainer": {"experiment_name": "first_try"},
}


@pytest.fixture
def step(tmp_path: Path) -> Path:
    """A checkpoint of one worker in a run's folder."""
    model = save_tiny_model("qwen2_5_vl", tmp_path / "model")
    step = tmp_path / "run" / "checkpoints" / "global_step_40"
    copy_side_files(model, step / "actor")
    state = AutoModelForImageTextToText.from_pretrained(model).state_dict()
    torch.save(state, step / "actor" / "model_world_size_1_rank_0.pt")
    (step.parents[1] / "config.yaml").write_text(yaml.safe_dump(RUN))
    return step


def test_card_says_what_was_trained(step: Path, tmp_path: Path) -> None:
    """For the hub: base model, library, task. For readers: step, algorithm, reward, data without local paths."""
    card = ModelCard.load(merge(step, tmp_path / "merged") / "README.md")
    assert card.data.library_name == "transformers" and card.data.pipeline_tag == "image-text-to-text"
    assert card.data.base_model == "Qwen/Qwen2.5-VL-7B-Instruct"
    for fact in (
        "| training step | 40 |", "| algorithm | grpo |", "| reward | iou x 1, point x 0.5 |",
        "| data | Ricky06662/VisionReasoner_multi_object_7k_840, rows.parquet |", "| KL weight | 0.005 |",
        "seg-zero infer --reasoning_model_path", "vllm serve", "transformers 5.9.0", "# first_try, step 40",
    ):  # fmt: skip
        assert fact in card.text, fact
    assert "secret" not in card.content


def test_shards_without_weights_are_named(step: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"the shards for .*config\.json hold no weights"):
        write_model(step / "actor" / "huggingface", {}, tmp_path, "5GB")


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (
            ["tokenizer.json"],
            r"no tokenizer \(tokenizer\.json or vocab\.json\), so that .* from Qwen/Qwen2\.5",
        ),
        (["processor_config.json"], "has no image processor .* could not be loaded; copy the files there from"),
        (["chat_template.jinja"], r"has no chat template; copy chat_template\.jinja from the base model \(Qwen/Qwen2"),
    ],
)
def test_a_checkpoint_that_could_not_be_loaded_is_refused_before_anything_is_written(
    step: Path, tmp_path: Path, files: list[str], message: str
) -> None:
    for name in files:
        (step / "actor" / "huggingface" / name).unlink()
    with pytest.raises(InputError, match=message):
        merge(step, tmp_path / "merged")
    assert not any(tmp_path.glob("*merged*"))


def test_shards_without_the_note_of_their_layout_name_it(step: Path, tmp_path: Path) -> None:
    (step / "actor" / "fsdp_config.json").unlink()
    for folder in (step, step / "actor"):
        with pytest.raises(InputError, match=rf"{step / 'actor'} holds shards but no fsdp_config\.json"):
            merge(folder, tmp_path / "merged")


def test_a_disk_that_becomes_full_leaves_nothing_half_written(
    step: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["--local_dir", str(step), "--target_dir", str(tmp_path / "merged")]
    with little_room(100_000):
        assert run_command(merge_command, given) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and f"{tmp_path / 'merged'} cannot be written (File too large)" in error
    assert not any(tmp_path.glob("*merged*"))


def test_card_without_a_run_and_cards_that_exist(step: Path, tmp_path: Path) -> None:
    """Nothing is invented; a card among the checkpoint's files stays; a broken config.yaml is named."""
    (step.parents[1] / "config.yaml").write_text("a: [")
    with pytest.raises(InputError, match=r"config\.yaml cannot be read"):
        merge(step, tmp_path / "merged")
    (step.parents[1] / "config.yaml").unlink()
    assert read_run(step / "actor") == {}
    card = ModelCard(model_card({}, step="global_step_40", base_model=None, adapter=False))
    assert card.data.base_model is None and "| base model | unknown |" in card.text and "reward" not in card.text
    (step / "actor" / "huggingface" / "README.md").write_text("mine")
    assert (merge(step, tmp_path / "merged") / "README.md").read_text() == "mine"


def test_card_of_adapters_names_what_they_belong_to() -> None:
    card = ModelCard(model_card(RUN, step="global_step_3", base_model="Qwen/Qwen2.5-VL-7B-Instruct", adapter=True))
    assert card.data.library_name == "peft"
    assert 'from_pretrained("Qwen/Qwen2.5-VL-7B-Instruct")' in card.text


@pytest.mark.parametrize("name", ["", "name", "a/b/c", "user/na me", "user/", "user/-x", "../x"])
def test_wrong_repository_names(name: str, tmp_path: Path) -> None:
    """Found before the checkpoint is looked at."""
    with pytest.raises(InputError, match="is not a name on the hub"):
        merge_command(["--local_dir", str(tmp_path), "--hf_upload_path", name])


class Hub(ThreadingHTTPServer):
    """Answers what huggingface_hub asks when a folder is pushed; keeps the repository and its files."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answer)
        self.created: list[dict[str, Any]] = []
        self.files: dict[str, bytes] = {}

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Answer(BaseHTTPRequestHandler):
    server: Hub

    def log_message(self, *_: Any) -> None: ...

    def _send(self, value: Any, status: int = 200) -> None:
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self) -> None:
        if self.headers.get("Authorization") != "Bearer hf_right":
            return self._send({"error": "Invalid credentials"}, 401)
        if self.path == "/api/whoami-v2":
            return self._send({"type": "user", "name": "user", "orgs": []})
        return self._send({"error": "not found"}, 404)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.path == "/api/repos/create":
            self.server.created.append(json.loads(body))
            return self._send({"url": f"{self.server.address}/user/name"})
        if self.path == "/api/validate-yaml":
            return self._send({"errors": [], "warnings": []})
        if self.path.endswith("/preupload/main"):
            files = json.loads(body)["files"]
            modes = [{"path": f["path"], "uploadMode": "regular", "shouldIgnore": False} for f in files]
            return self._send({"files": modes})
        if self.path.endswith("/commit/main"):
            for line in body.splitlines():
                entry = json.loads(line)
                if entry["key"] == "file":
                    self.server.files[entry["value"]["path"]] = base64.b64decode(entry["value"]["content"])
            return self._send({"commitUrl": f"{self.server.address}/user/name/commit/1", "commitOid": "1" * 40})
        return self._send({"error": "not found"}, 404)


@pytest.fixture
def hub() -> Iterator[Hub]:
    server = Hub()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def push(step: Path, hub: str, home: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own, as addresses and tokens are read when huggingface_hub is imported."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGING"))}
    command = [sys.executable, "training_scripts/model_merger.py", "--local_dir", str(step)]
    return subprocess.run(
        [*command, "--target_dir", str(home / "merged"), "--hf_upload_path", "user/name"],
        cwd=ROOT, env={**inherited, "HF_ENDPOINT": hub, "HF_HOME": str(home), **environment},
        capture_output=True, text=True, timeout=110, check=False,
    )  # fmt: skip


def test_upload(step: Path, hub: Hub, tmp_path: Path) -> None:
    """A private repository with every file of the merged folder."""
    result = push(step, hub.address, tmp_path, HF_TOKEN="hf_right")
    assert result.returncode == 0, result.stderr
    assert f"uploaded to {hub.address}/user/name" in result.stdout
    assert hub.created == [{"name": "name", "organization": "user", "visibility": "private"}]
    assert hub.files == {path.name: path.read_bytes() for path in (tmp_path / "merged").iterdir()}


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({}, "needs a token of the hub"),
        ({"HF_TOKEN": "hf_wrong"}, "refuses the token"),
        ({"HF_TOKEN": "hf_right", "HF_HUB_OFFLINE": "1"}, "the hub does not answer"),
        ({"HF_TOKEN": "hf_right", "HF_ENDPOINT": "http://127.0.0.1:9"}, "the hub does not answer"),
    ],
    ids=["no token", "wrong token", "offline", "unreachable"],
)
def test_what_stops_an_upload_stops_it_before_merging(
    step: Path, hub: Hub, tmp_path: Path, environment: dict[str, str], message: str
) -> None:
    result = push(step, hub.address, tmp_path, **environment)
    assert result.returncode == 2 and message in result.stderr, result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "merged").exists() and not hub.files
