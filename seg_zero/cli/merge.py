"""The command ``seg-zero merge``, also ``training_scripts/model_merger.py``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from seg_zero.cli.options import add_prompt_template_option, prompt_template_of
from seg_zero.command_line import CommandParser
from seg_zero.errors import print_error
from seg_zero.export.merge import DTYPES, MAX_SHARD_SIZE, VerificationError, merge
from seg_zero.prompting import SPEC_FILE


def parser() -> CommandParser:
    made = CommandParser("merge", main.__doc__)
    made.add_argument(
        "--local_dir", required=True, type=Path, help="checkpoint folder global_step_N, or the actor folder in it"
    )
    made.add_argument("--target_dir", type=Path, help="new folder (default: merged, or adapter, in the actor folder)")
    made.add_argument("--dtype", choices=DTYPES, default="trained", help="dtype of the weights (default: %(default)s)")
    made.add_argument(
        "--lora",
        choices=("merge", "adapter"),
        default="merge",
        help="for LoRA runs: write a full model with adapters added, or only the adapters (default: %(default)s)",
    )
    made.add_argument("--base_model", help="model the run started from (default: that in its config.yaml)")
    made.add_argument(
        "--max_shard_size", default=MAX_SHARD_SIZE, help="largest weights file, about the memory needed (default: 5GB)"
    )
    add_prompt_template_option(made)
    made.add_argument("--verify", action="store_true", help="compare the outputs of the written model and the shards")
    made.add_argument("--hf_upload_path", metavar="USER/NAME", help="push the folder to this hub repository")
    made.add_argument("--public", action="store_true", help="make that repository public (default: private)")
    return made


def main(argv: Sequence[str]) -> int:
    """Turn a training checkpoint into a model folder."""
    arguments = parser().parse_args(argv)
    template = prompt_template_of(arguments)
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
            prompt_template=template,
            verify=arguments.verify,
        )
    except VerificationError as error:
        print_error(error)
        return 1
    if arguments.lora == "merge" and not (target / SPEC_FILE).is_file():
        remedy = "inference will use the default prompt. --prompt_template gives one"
        print(f"note: the checkpoint has no {SPEC_FILE}; {remedy}")
    print(f"merged into {target}")
    if arguments.hf_upload_path is not None:
        from seg_zero.export.upload import upload

        print(f"uploaded to {upload(target, arguments.hf_upload_path, public=arguments.public)}")
    return 0
