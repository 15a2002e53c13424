"""What a training worker on CPU does before verl sets it up (``actor_rollout_ref.model.external_lib``).

verl imports this module in every process that reads the model configuration; only training workers
have a rank, so the others do not pay for the engine's imports.
"""

from __future__ import annotations

import os


def join_process_group() -> None:
    """Join the workers' process group before verl does.

    verl 0.9.1 asks for the backends "cpu:gloo,<device>:<backend>"; with device "cpu" torch refuses the
    repeated device. verl leaves an initialised group alone. Can go when verl drops the repetition.
    """
    import torch.distributed

    if not torch.distributed.is_initialized():
        torch.distributed.init_process_group(
            backend="cpu:gloo",
            rank=int(os.environ["RANK"]),
            world_size=int(os.environ["WORLD_SIZE"]),
            init_method=os.environ.get("DIST_INIT_METHOD"),
        )


def share_cores() -> None:
    """Divide the cores among the workers; the launcher limits every other process to one thread.

    The training phases run while the rollout sleeps, so they may use the whole machine.
    """
    import torch

    torch.set_num_threads(max(1, len(os.sched_getaffinity(0)) // int(os.environ["WORLD_SIZE"])))


if "RANK" in os.environ and "WORLD_SIZE" in os.environ:
    import seg_zero.training.cpu.engine  # noqa: F401  (registers the engine)
    from seg_zero.training.cpu import weight_socket

    share_cores()
    join_process_group()
    weight_socket.send_through_it()
