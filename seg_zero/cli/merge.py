"""The command ``seg-zero merge``, also ``training_scripts/model_merger.py``."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from seg_zero.errors import print_error
from seg_zero.export.merge import DTYPES, MAX_SHARD_SIZE, VerificationError, merge
from seg_zero.prompting import SPEC_FILE


def main(argv: Sequence[str]) -> int:
    """Turn a training checkpoint into a model folder."""
    parser = argparse.ArgumentParser(prog="model_merger.py", description=main.__doc__)
    parser.add_argument("--local_dir", required=True, type=Path, help="global_step_N folder, or actor folder in it")
    parser.add_argument("--target_dir", type=Path, help="folder to make (default: merged, inside the actor folder)")
    parser.add_argument("--dtype", choices=DTYPES, default="trained", help="of the weights (default: %(default)s)")
    parser.add_argument(
        "--lora",
        choices=("merge", "adapter"),
        default="merge",
        help="of a LoRA run: a whole model with the adapters added, or the adapters alone (default: %(default)s)",
    )
    parser.add_argument("--base_model", help="what the run started from (default: as the run's config.yaml says)")
    parser.add_argument(
        "--max_shard_size", default=MAX_SHARD_SIZE, help="of a weights file; about what memory takes (default: 5GB)"
    )
    parser.add_argument("--verify", action="store_true", help="compare the written model with the shards")
    parser.add_argument("--hf_upload_path", metavar="USER/NAME", help="repository on the hub to push the folder to")
    parser.add_argument("--public", action="store_true", help="make that repository public (default: private)")
    arguments = parser.parse_args(argv)
    if arguments.hf_upload_path is not None:
        from seg_zero.export.upload import check_upload

        check_upload(arguments.hf_upload_path)
    try:
        target = merge(
            arguments.local_dir,
            arguments.target_dir,
            arguments.dtype,
            lora=arguments.lora,
            base_model=arguments.base_model,
            max_shard_size=arguments.max_shard_size,
            verify=arguments.verify,
        )
    except VerificationError as error:
        print_error(error)
        return 1
    if arguments.lora == "merge" and not (target / SPEC_FILE).is_file():
        print(f"note: the checkpoint has no {SPEC_FILE}; inference will use the default prompt")
    print(f"merged into {target}")
    if arguments.hf_upload_path is not None:
        from seg_zero.export.upload import upload

        print(f"uploaded to {upload(target, arguments.hf_upload_path, public=arguments.public)}")
    return 0
