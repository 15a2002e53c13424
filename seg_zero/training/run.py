"""What the launcher starts: verl's own entry point with our trainer known to it.

python -m seg_zero.training.run --config-path FOLDER --config-name config
"""

from __future__ import annotations

import hydra
import ray
from omegaconf import DictConfig
from verl.trainer.main_ppo import TaskRunnerV1, run_ppo
from verl.trainer.ppo.utils import need_critic, need_reference_policy
from verl.utils.config import validate_config


@ray.remote
class TaskRunner(TaskRunnerV1.__ray_actor_class__):  # type: ignore[misc,name-defined]
    """verl's task runner; importing the trainer registers its name."""

    def run(self, config: DictConfig) -> None:
        import seg_zero.training.trainer  # noqa: F401

        super().run(config)


@hydra.main(config_path=None, version_base=None)
def main(config: DictConfig) -> None:
    validate_config(config, use_reference_policy=need_reference_policy(config), use_critic=need_critic(config))
    run_ppo(config, task_runner_class=TaskRunner)


if __name__ == "__main__":
    main()
