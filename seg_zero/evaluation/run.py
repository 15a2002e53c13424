"""Runs an evaluation: answers the rows missing in a folder, on one or several workers, and summarises all rows."""

from __future__ import annotations

import hashlib
import logging
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

from seg_zero.data.rows import Row
from seg_zero.data.source import RowSource
from seg_zero.devices import choose_device
from seg_zero.errors import InputError, counted, one_line
from seg_zero.evaluation.answering import answer_rows
from seg_zero.evaluation.predictions import PART_ROWS, Prediction
from seg_zero.evaluation.store import Store, only_evaluation
from seg_zero.evaluation.summary import Summary, summarise
from seg_zero.files import RAY_SOCKETS, short_temporary_folder, write_json
from seg_zero.policy import GREEDY, Policy, Sampling
from seg_zero.policy.loading import load_policy
from seg_zero.policy.model_files import default_spec, models_warning, resolve_model
from seg_zero.prompting import PromptSpec, PromptTemplate
from seg_zero.segmenter import Segmenter, files_of, load_segmenter

_END_BYTES = 1 << 20
_DEATHS = 3  # of workers, without a finished part in between

Progress = Callable[[Sequence[Prediction], bool], None]


@dataclass(frozen=True)
class Models:
    """What answers: names of the models and how they are run.

    engine: "vllm" or "transformers"; batch_size: rows at a time with transformers; tensor_parallel_size: GPUs per
    worker with vLLM; device: a torch device, None for CUDA if there is one. The others are those of
    :meth:`seg_zero.pipeline.ReasoningSegmenter.from_pretrained`.
    """

    policy: str | None = None
    segmenter: str | None = None
    engine: str = "transformers"
    device: str | None = None
    template: str | None = None
    prompt_template: PromptTemplate | None = None
    image_size: int | None = None
    max_new_tokens: int = 1024
    batch_size: int = 32
    tensor_parallel_size: int = 1

    def spec(self) -> PromptSpec:
        return default_spec(resolve_model(self.policy), self.template, self.image_size, self.prompt_template)

    def warning(self) -> str | None:
        """What is to be said about the models before the first answer, or None."""
        return models_warning(resolve_model(self.policy), self.spec(), self.segmenter)

    def load(self) -> tuple[Policy, Segmenter]:
        policy = load_policy(
            self.policy,
            self.engine,
            spec=self.spec(),
            device=self.device,
            max_new_tokens=self.max_new_tokens,
            batch_size=self.batch_size,
            tensor_parallel_size=self.tensor_parallel_size,
        )
        return policy, load_segmenter(self.segmenter, device=choose_device(self.device))

    def settings(self) -> dict[str, Any]:
        """The settings that can change the results: the models by content, but neither batch size nor layout."""
        policy = resolve_model(self.policy)
        return {
            "policy": policy,
            "policy_files": fingerprint(policy),
            "segmenter": str(self.segmenter or "tiny"),
            "segmenter_files": _digest(files_of(self.segmenter)),
            "engine": self.engine,
            "device": choose_device(self.device).partition(":")[0],
            "prompt": asdict(self.spec()),
            "max_new_tokens": self.max_new_tokens,
        }


def fingerprint(model: str) -> str:
    """Identifies the content of a model folder, its README aside; for a hub id, the commit in the local cache."""
    if Path(model).is_dir():
        return _digest(sorted(path for path in Path(model).iterdir() if path.is_file() and path.suffix != ".md"))
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(model, "config.json")
    return Path(found).parent.name if isinstance(found, str) else "not downloaded yet"


def _digest(files: Sequence[Path]) -> str:
    """Of names, sizes, and the first and last megabyte of each file: a model's files may have many gigabytes."""
    digest = hashlib.blake2b(digest_size=16)
    for path in files:
        size = path.stat().st_size
        digest.update(f"{path.name} {size}\n".encode())
        with path.open("rb") as stream:
            digest.update(stream.read(_END_BYTES))
            stream.seek(max(0, size - _END_BYTES))
            digest.update(stream.read(_END_BYTES))
    return digest.hexdigest()


def evaluate(
    models: Models,
    rows: RowSource,
    out: Path,
    *,
    rule: str = "lisa",
    sampling: Sampling = GREEDY,
    workers: int = 1,
    progress: Progress | None = None,
) -> Summary:
    """Answer every row missing in ``out``, and summarise all by ``rule``; see :mod:`.store` for the files.

    After an interruption, the same call resumes and produces the same bytes in predictions.jsonl and
    metrics.json. ``progress`` is told the predictions of each finished part, and whether
    an earlier call had made them.
    Raises InputError for a folder with other settings, an empty dataset, rows without masks, a full disk.
    """
    if not len(rows):
        raise InputError(f"dataset {rows.name} has no rows; check the file")
    maskless = rows.without_mask()
    if len(maskless):
        raise InputError(
            f"{len(maskless)} of {len(rows)} rows of {rows.name} have no mask, the first is row "
            f"{rows.number(int(maskless[0]))}; evaluation needs the column 'mask', see docs/data.md"
        )
    store = Store(out, len(rows))
    settings = {
        **models.settings(),
        "data": rows.name,
        "data_fingerprint": rows.fingerprint,
        "rows": len(rows),
        "sampling": asdict(sampling),
    }
    with only_evaluation(out):
        store.open_for(settings)
        pending = store.pending()
        for path in store.damaged:
            print(f"{path} is damaged; its rows are answered again", file=sys.stderr)
        if progress is not None:
            for part in sorted(set(range(store.parts)) - set(pending)):
                progress(store.read(part) or [], True)
        if pending:
            done = _parallel if workers > 1 else _alone
            for part, predictions in done(models, rows, store, pending, sampling, min(workers, len(pending))):
                store.write(part, predictions)
                if progress is not None:
                    progress(predictions, False)
        summary = replace(summarise(store.finish(), rule, settings), warning=models.warning())
        write_json(out / "metrics.json", summary.record())
    return summary


Parts = Iterator[tuple[int, list[Prediction]]]


def answer_parts(
    policy: Policy, segmenter: Segmenter, rows: Sequence[Row], parts: dict[int, range], sampling: Sampling
) -> Parts:
    """The predictions of parts (their numbers and rows), each when all of its rows are answered."""
    found: dict[int, list[Prediction]] = {part: [] for part in parts}
    for prediction in answer_rows(policy, segmenter, rows, list(chain(*parts.values())), sampling):
        part = prediction.row // PART_ROWS
        found[part].append(prediction)
        if len(found[part]) == len(parts[part]):
            yield part, found.pop(part)


def _alone(
    models: Models, rows: RowSource, store: Store, pending: Sequence[int], sampling: Sampling, _workers: int
) -> Parts:
    policy, segmenter = models.load()
    yield from answer_parts(policy, segmenter, rows, {part: store.numbers(part) for part in pending}, sampling)


class _Worker:
    """A Ray actor with its own models."""

    def __init__(self, models: Models, rows: RowSource) -> None:
        from seg_zero.policy.loading import quiet_transformers

        quiet_transformers()
        self._rows = rows
        self._policy, self._segmenter = models.load()

    def run(self, parts: dict[int, range], sampling: Sampling) -> Parts:
        yield from answer_parts(self._policy, self._segmenter, self._rows, parts, sampling)


def _parallel(
    models: Models, rows: RowSource, store: Store, pending: Sequence[int], sampling: Sampling, workers: int
) -> Parts:
    """Deal the parts to workers; those of a worker that dies go to a new one."""
    import ray
    import torch

    gpus = torch.cuda.device_count() if (models.device or "cuda").startswith("cuda") else 0
    each = models.tensor_parallel_size if gpus else 0
    if gpus and workers * each > gpus:
        raise InputError(f"--workers {workers} of {each} GPUs each need more than the {gpus} GPUs here; ask for fewer")
    cores = max(1, len(os.sched_getaffinity(0)) // workers)
    environment = {"OMP_NUM_THREADS": str(cores), "OMP_WAIT_POLICY": "PASSIVE", "RAY_USAGE_STATS_ENABLED": "0"}
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_worker_niceness", "0")  # as in training: Ray's own workers give way to any other job
    os.environ.setdefault("RAY_TMPDIR", str(short_temporary_folder(RAY_SOCKETS)))
    print(f"starting {counted(workers, 'worker')} on Ray; each loads its own models", flush=True)
    try:
        ray.init(
            address="local",
            num_cpus=workers,
            num_gpus=gpus,
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.ERROR,
            runtime_env={"env_vars": environment},
        )
    except Exception as error:  # Ray raises a plain Exception if its node is late
        raise InputError(
            f"Ray did not start ({one_line(error)}); rerun the same command with less beside it, or omit --workers"
        ) from error
    actor: Any = ray.remote(_Worker).options(num_cpus=1, num_gpus=each)
    left = [list(pending[i::workers]) for i in range(workers)]
    deaths = 0

    def start(some: Sequence[int]) -> tuple[Any, Any]:  # the worker lives as long as something refers to it
        worker = actor.remote(models, rows)
        parts = {part: store.numbers(part) for part in some}
        return worker, worker.run.options(num_returns="streaming").remote(parts, sampling)

    try:
        running = {i: start(some) for i, some in enumerate(left)}
        while running:
            streams = {stream: i for i, (_, stream) in running.items()}
            ready: Any = ray.wait(list(streams), num_returns=1)[0][0]
            i = streams[ready]
            try:
                part, predictions = ray.get(next(ready))
            except StopIteration:
                del running[i]
            except ray.exceptions.ActorDiedError as error:
                deaths += 1
                if deaths > _DEATHS:
                    raise InputError(
                        f"{deaths} evaluation workers died, the last one with: {str(error).splitlines()[0]}; try "
                        "fewer --workers or a smaller --batch_size; rerun the same command to resume"
                    ) from error
                print(f"worker {i + 1} died; its {len(left[i])} remaining parts go to a new one", flush=True)
                running[i] = start(left[i])
            else:
                deaths = 0
                left[i].remove(part)
                yield part, predictions
    finally:
        ray.shutdown()


def wall_clock_line(rows: int, answered: int, seconds: float) -> str:
    """One line about the speed of this run."""
    if not answered:
        return "the row was there already" if rows == 1 else f"all {rows:,} rows were there already"
    speed = answered / max(seconds, 1e-9)
    return f"answered {answered:,} of {counted(rows, 'row')} in {seconds:.1f} s, {speed:.1f} rows/s"
