"""The process that the launcher starts: verl's own entry point, with our trainer registered.

python -m seg_zero.training.run --config-path FOLDER --config-name config
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import hydra
from omegaconf import DictConfig, open_dict

from seg_zero.training.environment import joins_cluster
from seg_zero.training.run_files import RunFiles
from seg_zero.training.settings import HardwareSettings, read
from seg_zero.training.supervision import fork_server


@hydra.main(config_path=None, version_base=None)
def main(config: DictConfig) -> None:
    RunFiles(Path(config.output_dir)).write_stage("importing torch and verl")
    if read(config, HardwareSettings).fork_processes and sys.platform == "linux" and not joins_cluster(config):
        with tempfile.TemporaryDirectory(prefix="seg_zero_") as folder:  # a socket's path must be short
            settings = config.ray_kwargs.ray_init.runtime_env
            with open_dict(settings):
                settings.py_executable = fork_server.start(Path(folder))
            _train(config)
    else:
        _train(config)


def _train(config: DictConfig) -> None:
    from seg_zero.training.task_runner import train  # imports verl while the fork server imports the same

    train(config)


if __name__ == "__main__":
    main()
