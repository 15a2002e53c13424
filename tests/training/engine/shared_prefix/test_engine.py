"""Shared prefixes in verl's real FSDP2 engine on CPU: every family in one process, and one family in two."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.shared_engine import VARIANTS
from helpers.tiny_models import save_tiny_model

from seg_zero.policy.families import DEFAULT_FAMILY, FAMILIES

SCRIPT = Path(__file__).parents[3] / "helpers" / "shared_engine.py"
FEW = ["dynamic micro-batches", "adapters"]
IN_TWO = ["fixed micro-batches", "groups cut"]
WANTED = {
    1: {family: list(VARIANTS) if family == DEFAULT_FAMILY else FEW for family in FAMILIES},
    2: {DEFAULT_FAMILY: IN_TWO},
}
CASES = [(family, name) for family, names in WANTED[1].items() for name in names]
RELATIVE = 1e-5
Compared = dict[str, dict[str, Any]]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("models")
    return {family: save_tiny_model(family, folder / family) for family in FAMILIES}


@pytest.fixture(scope="module")
def engines(models: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], Compared]:
    """What the script finds in so many processes; it is run once for each number of them."""

    @cache
    def run(workers: int) -> Compared:
        file = tmp_path_factory.mktemp("found") / "found.pt"
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        environment = {
            **os.environ,
            "VERL_PLATFORM": "cpu",
            "HF_HUB_OFFLINE": "1",
            "TORCHDYNAMO_DISABLE": "1",
            "OMP_WAIT_POLICY": "PASSIVE",
            "PYTHONPATH": os.pathsep.join([str(SCRIPT.parents[2]), str(SCRIPT.parents[1])]),
            "WORLD_SIZE": str(workers),
            "DIST_INIT_METHOD": f"tcp://127.0.0.1:{port}",
        }
        asked = json.dumps({str(models[family]): names for family, names in WANTED[workers].items()})
        processes = [
            subprocess.Popen(
                [sys.executable, str(SCRIPT), str(file), asked],
                stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env={**environment, "RANK": str(rank)},
            )
            for rank in range(workers)
        ]  # fmt: skip
        try:
            for process in processes:
                _, error = process.communicate(timeout=280)
                assert process.returncode == 0, error[-3000:]
        finally:
            for process in processes:
                process.kill()
        found = torch.load(file, weights_only=True)
        return {family: found[str(models[family])] for family in WANTED[workers]}

    return run


def assert_same(ours: dict[str, Any], verls: dict[str, Any]) -> None:
    """Log-probabilities, entropy, loss and each weight's gradient, to 1e-5 of their largest value."""
    for name in ("log_probs", "entropy"):
        assert (ours[name] - verls[name]).abs().max() <= RELATIVE * verls[name].abs().max()
    assert ours["loss"] == pytest.approx(verls["loss"], rel=RELATIVE, abs=RELATIVE)
    assert_same_gradients(ours["gradients"], verls["gradients"])


def assert_same_gradients(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> None:
    assert set(ours) == set(theirs) and len(theirs) > 30
    largest = max(float(gradient.abs().max()) for gradient in theirs.values())
    for name, gradient in theirs.items():
        scale = max(float(gradient.abs().max()), 1e-5 * largest)  # below, rounding of what enters other weights
        assert (ours[name] - gradient).abs().max() <= RELATIVE * scale, name


@pytest.mark.timeout(300)
@pytest.mark.parametrize(("family", "variant"), CASES)
def test_an_update_with_shared_prefixes_is_verls_own(
    engines: Callable[[int], Compared], family: str, variant: str
) -> None:
    """Groups of 3, 3 and 2 answers of 9 to 40 tokens, with KL, entropy and a temperature."""
    verls, ours = engines(1)[family][variant]
    assert_same(ours, verls)
    # A third of all tokens need not be computed; a lower limit cuts groups, which compute their prompt again.
    (shared,) = ours["metrics"]["shared_fraction"]
    assert 0.2 < shared < 0.3 if variant == "groups cut" else 0.4 < shared < 0.5
    assert ours["metrics"]["padding_share"] == [0.0]
    towers = [name for name in ours["gradients"] if ".visual." in name]
    assert bool(towers) == (variant not in ("frozen tower", "adapters"))


@pytest.mark.timeout(300)
@pytest.mark.parametrize("variant", IN_TWO)
def test_two_workers_agree_with_verl_and_with_one(engines: Callable[[int], Compared], variant: str) -> None:
    """A group of three is divided between them, and they need different numbers of micro-batches."""
    verls, ours = engines(2)[DEFAULT_FAMILY][variant]
    assert_same(ours, verls)
    alone = engines(1)[DEFAULT_FAMILY][variant][1]["gradients"]
    assert_same_gradients(ours["gradients"], alone)
