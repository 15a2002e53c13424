"""verl's entry point with our trainer registered, on the launcher's machine."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import ray
from omegaconf import DictConfig, open_dict
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy
from verl.trainer.main_ppo import TaskRunnerV1, run_ppo
from verl.trainer.ppo.utils import need_critic, need_reference_policy
from verl.utils.config import validate_config

from seg_zero.training.environment import joins_cluster, worker_variables
from seg_zero.training.run_files import RunFiles
from seg_zero.training.settings import EngineSettings, read


@ray.remote
class TaskRunner(TaskRunnerV1.__ray_actor_class__):  # type: ignore[misc,name-defined]
    """verl's task runner; importing the trainer registers its name."""

    def run(self, config: DictConfig) -> None:
        RunFiles(Path(config.output_dir)).write_stage("importing the trainer on Ray")
        import seg_zero.training.trainer.trainer  # noqa: F401
        from seg_zero.training.rollout.manager import register_group_server

        if read(config, EngineSettings).group_rollouts:
            register_group_server()
        super().run(config)


class TaskRunnerHere:
    """Starts the task runner on the launcher's machine, where the launcher follows its files (as verl asks for one)."""

    @staticmethod
    def options(**options: Any) -> Any:
        here = ray.get_runtime_context().get_node_id()
        return TaskRunner.options(scheduling_strategy=NodeAffinitySchedulingStrategy(here, soft=False), **options)

    @staticmethod
    def remote() -> Any:
        return TaskRunnerHere.options().remote()


def train(config: DictConfig) -> None:
    """Run verl to its end, in the current process and on Ray."""
    validate_config(config, use_reference_policy=need_reference_policy(config), use_critic=need_critic(config))
    if joins_cluster(config):
        settings = config.ray_kwargs.ray_init
        with open_dict(settings):  # workers of an own Ray inherit the environment
            given = settings.runtime_env.get("env_vars") or {}
            settings.runtime_env.env_vars = {**worker_variables(os.environ), **given}
    RunFiles(Path(config.output_dir)).write_stage("joining Ray" if joins_cluster(config) else "starting Ray")
    run_ppo(config, task_runner_class=TaskRunnerHere)
