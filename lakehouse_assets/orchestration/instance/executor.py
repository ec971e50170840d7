"""How a run executes its steps: a single one in the run's process, several side by side in processes of their own.

Nearly all runs have one step, and a process of its own would only add its start. But where a backfill or a person asks
for several archives, Dagster puts those with the same partitions into one run. In one process they would be synced one
after the other.
"""

from collections.abc import Iterator
from typing import Any

import dagster as dg

MAX_CONCURRENT = 2
"""Steps of one run at a time. They share its memory limit and its slots in the pools."""


class StepsExecutor(dg.Executor):
    """Has ``alone`` execute a run of one step, and ``several`` any other; both are Dagster's own."""

    def __init__(self, alone: dg.Executor, several: dg.Executor) -> None:
        self._alone = alone
        self._several = several

    @property
    def retries(self) -> Any:
        return self._alone.retries

    def execute(self, plan_context: Any, execution_plan: Any) -> Iterator[Any]:
        is_one = len(execution_plan.step_keys_to_execute) == 1
        yield from (self._alone if is_one else self._several).execute(plan_context, execution_plan)


@dg.executor(
    name="steps",
    config_schema={
        "max_concurrent": dg.Field(
            int,
            is_required=False,
            default_value=MAX_CONCURRENT,
            description="Steps at a time of a run that has several; each is a process.",
        )
    },
)
def steps_executor(init_context: dg.InitExecutorContext) -> dg.Executor:
    """The executor of all jobs. Run config: ``execution: {config: {max_concurrent: 4}}``."""
    several = {"max_concurrent": init_context.executor_config["max_concurrent"]}
    return StepsExecutor(
        _create(dg.in_process_executor, init_context, {}), _create(dg.multiprocess_executor, init_context, several)
    )


def _create(
    executor: dg.ExecutorDefinition, init_context: dg.InitExecutorContext, config: dict[str, Any]
) -> dg.Executor:
    create: Any = executor.executor_creation_fn
    config = {"retries": {"enabled": {}}, **config}
    return create(dg.InitExecutorContext(init_context.job, executor, config, init_context.instance))
