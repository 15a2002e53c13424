"""A reward for right steps. It uses more than answers, so it is an ablation and no fair comparison."""

from __future__ import annotations

from functools import lru_cache

from seg_zero.answer import parse_solution
from seg_zero.data.source import open_rows
from seg_zero.data.synthetic.hop_steps import judge_steps
from seg_zero.data.synthetic.hops import Chain
from seg_zero.data.synthetic.rows import hop_question
from seg_zero.data.synthetic.scenes import Scene
from seg_zero.objects import Box
from seg_zero.rewards import Response


@lru_cache
def _rows(path: str) -> dict[tuple[str, Box | None], tuple[str, str, int]]:
    """Of each row's question and true box, what :func:`hop_question` takes."""
    rows = open_rows(path)
    return {(row.problem, parse_solution(row.solution)[0].box): (row.id, row.kind, row.img_width) for row in rows}


@lru_cache(maxsize=4096)
def _question(name: str, kind: str, side: int) -> tuple[Scene, Chain]:
    return hop_question(name, kind, side)


def right_steps(response: Response, rows: str) -> float:
    """How many of the question's hops are written rightly in a row from the first, of all; ``rows``: the training file.

    KeyError for a question that is not in it.
    """
    scene, chain = _question(*_rows(rows)[response.question or "", response.truth[0].box])
    return judge_steps(scene, chain, response.answer.thinking).right / chain.hops
