"""gRefCOCO in the original files: expressions of one, several or no object of an image."""

from __future__ import annotations

import argparse

from seg_zero.data.builders.build import Source
from seg_zero.data.builders.instances import Record
from seg_zero.data.builders.refcoco import add_refs_arguments, refs_source


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_refs_arguments(parser)


def source(args: argparse.Namespace) -> Source[Record]:
    """A row per sentence of the split; targets that are crowds are skipped, as in the published reader.

    Raises InputError for files that are missing or of another kind.
    """
    return refs_source(args, "grefcoco", "unc", ("grefs(unc).json", "grefs(unc).p"), skip_crowds=True)
