"""A reward is a named list of weighted terms. Its home is ``configs/reward/NAME.yaml``, key ``terms``::

    terms:
      iou: {function: seg_zero.rewards.boxes.iou, weight: 1.0, threshold: 0.5}

A term is a function ``(response, **settings) -> float``; whatever stands beside ``function`` and
``weight`` are its settings. A weight of 0 switches a term off.
"""

from __future__ import annotations

import importlib
import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from typing import Any

import numpy as np

from seg_zero.rewards.needs import needed_by
from seg_zero.rewards.response import Response

Settings = Mapping[str, Mapping[str, Any]]
_FOLDER = resources.files("seg_zero.configs") / "reward"


@dataclass(frozen=True)
class Term:
    """One weighted term; calling it gives the unweighted value for a response."""

    name: str
    weight: float
    function: Callable[..., float]
    settings: Mapping[str, Any]

    def __call__(self, response: Response) -> float:
        return float(self.function(response, **self.settings))

    @property
    def needs_mask(self) -> bool:
        """Whether SAM2 must segment the answer first."""
        return "mask" in needed_by(self.function)

    @property
    def needs_true_mask(self) -> bool:
        """Whether the term looks at the true pixels where a row has them."""
        return "true_mask" in needed_by(self.function)


def presets() -> list[str]:
    """The names that :func:`compute` and ``reward=`` know."""
    files = _FOLDER.iterdir()
    return sorted(file.name[:-5] for file in files if file.name.endswith(".yaml") and "\nterms:" in file.read_text())


@lru_cache
def preset_settings(preset: str) -> Settings:
    """The ``terms`` of a preset's file. Raises ValueError for an unknown name."""
    import yaml

    if preset not in presets():
        raise ValueError(f"unknown reward preset {preset!r}; choose one of {', '.join(presets())}")
    terms: Settings = yaml.safe_load((_FOLDER / f"{preset}.yaml").read_text())["terms"]
    return terms


def _function(name: str, path: object) -> Callable[..., float]:
    module, _, attribute = str(path).rpartition(".")
    try:
        function = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(
            f"reward term {name!r}: function {path!r} cannot be imported ({error}); "
            "give it as package.module.function, importable from the working directory"
        ) from error
    if not callable(function):
        raise ValueError(f"reward term {name!r}: {path!r} is no function")
    return function  # type: ignore[no-any-return]


def read_terms(settings: Settings) -> tuple[Term, ...]:
    """The terms of a configuration whose weight is not 0.

    Raises ValueError, naming the term, for a weight that is not a number, a function that cannot be
    imported or a setting it does not have, and if no term is left.
    """
    terms = []
    for name, given in settings.items():
        rest = dict(given or {})
        weight = rest.pop("weight", None)
        if isinstance(weight, bool) or not isinstance(weight, int | float) or not math.isfinite(weight):
            raise ValueError(f"reward term {name!r}: weight {weight!r} is not a number; set reward.terms.{name}.weight")
        path = rest.pop("function", None)
        if path is None:
            raise ValueError(f"reward term {name!r} has no function; known terms: {', '.join(settings)}")
        function = _function(name, path)
        try:
            inspect.signature(function).bind(None, **rest)
        except TypeError as error:
            known = list(inspect.signature(function).parameters)[1:]
            raise ValueError(f"reward term {name!r}: {error}; {path} takes {', '.join(known) or 'none'}") from error
        if weight:
            terms.append(Term(str(name), float(weight), function, rest))
    if not terms:
        raise ValueError("the reward has no term with a weight; give at least one in reward.terms")
    return tuple(terms)


@lru_cache
def _preset(preset: str) -> tuple[Term, ...]:
    return read_terms(preset_settings(preset))


def score(terms: Sequence[Term], response: Response) -> dict[str, float]:
    """Every term's value and ``"total"``, their weighted sum."""
    values = {term.name: term(response) for term in terms}
    return {**values, "total": sum(term.weight * values[term.name] for term in terms)}


def compute(
    preset: str,
    prediction: str,
    ground_truth: str,
    image_size: tuple[float, float],
    terms: Settings | None = None,
    mask_iou: float | None = None,
    question: str | None = None,
    kind: str | None = None,
    true_mask: np.ndarray | None = None,
) -> dict[str, float]:
    """Score one response: every term's value, and ``"total"``, their weighted sum.

    prediction: the policy's text, whatever it is. ground_truth: tag string (single) or JSON string
    (multi), in pixels of the image of ``image_size`` = (width, height) that the policy saw. terms: settings
    laid over the preset's, e.g. ``{"iou": {"weight": 2}}``. mask_iou, question, kind, true_mask: see
    :class:`Response`; the term ``mask`` needs the first. Raises ValueError for an unknown preset, a term that is set
    up wrongly or an unreadable ground truth, never because of ``prediction``.
    """
    response = Response(prediction, ground_truth, image_size, mask_iou, question, kind, true_mask=true_mask)
    if not terms:
        return score(_preset(preset), response)
    base = preset_settings(preset)
    merged = {name: {**base.get(name, {}), **terms.get(name, {})} for name in (*base, *terms)}
    return score(read_terms(merged), response)
