"""Pushes a merged folder to the Hugging Face hub."""

from __future__ import annotations

from pathlib import Path

from seg_zero.errors import InputError, one_line


def check_upload(repository: str) -> None:
    """Find out before any work whether the upload can succeed: the name, a token, and that the hub accepts it.

    Raises InputError if not.
    """
    from httpx import HTTPError  # of huggingface_hub, whose own errors are kinds of it
    from huggingface_hub import HfApi, get_token
    from huggingface_hub.errors import HFValidationError, OfflineModeIsEnabled
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(repository)
        complete = repository.count("/") == 1
    except HFValidationError:
        complete = False
    if not complete:
        raise InputError(f"--hf_upload_path {repository!r} is not a name on the hub; give user/name")
    if get_token() is None:
        raise InputError("--hf_upload_path needs a token of the hub; run `hf auth login` or set HF_TOKEN")
    try:
        HfApi().whoami()
    except (OfflineModeIsEnabled, HTTPError, OSError) as error:
        raise InputError(
            f"the hub does not answer or refuses the token ({one_line(error, 200)}); nothing was merged"
        ) from error


def upload(folder: Path, repository: str, *, public: bool = False) -> str:
    """Create ``repository`` if it does not exist (private unless ``public``) and push ``folder``; returns its address.

    Raises InputError if the hub refuses; ``folder`` stays.
    """
    from httpx import HTTPError
    from huggingface_hub import HfApi
    from huggingface_hub.errors import OfflineModeIsEnabled

    api = HfApi()
    try:
        url = api.create_repo(repository, private=not public, exist_ok=True)
        api.upload_folder(folder_path=folder, repo_id=repository, commit_message="Upload merged checkpoint")
    except (OfflineModeIsEnabled, HTTPError, OSError) as error:
        raise InputError(
            f"{folder} is merged, but uploading it failed ({one_line(error, 200)}); "
            f"`hf upload {repository} {folder}` tries again"
        ) from error
    return str(url)
