"""Sentences of a policy's reasoning."""

from __future__ import annotations

import time

import pytest

from seg_zero.rewards.sentences import sentences


@pytest.mark.parametrize("character", ["#", "_", ">", " ", "\t"])
def test_a_long_run_before_no_list_marker_costs_little(character: str) -> None:
    """A search for the marker took a minute for 60,000 characters; five seconds leave room for any machine."""
    start = time.process_time()
    sentences(f"a{character * 60_000}b")
    assert time.process_time() - start < 5


def test_a_marker_is_left_out_at_the_start_alone() -> None:
    assert sentences("- the red cup is left") == ["the red cup is left"]
    assert sentences("the red cup - it is left") == ["the red cup - it is left"]
