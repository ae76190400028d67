"""The loop: settings, jobs, rounds, batches, and the optimisation of a batch (`Optimization`)."""

from fvlightning.features.loop.batch_size import automatic_batch_size, batch_size_alone
from fvlightning.features.loop.batches import in_batches
from fvlightning.features.loop.jobs import group_jobs, mark_classes
from fvlightning.features.loop.optimization import Networks
from fvlightning.features.loop.optimizer import OptimizerCallable, SchedulerCallable
from fvlightning.features.loop.rounds import list_jobs_of_rounds, run_rounds
from fvlightning.features.loop.settings import Settings

__all__ = [
    "Networks",
    "OptimizerCallable",
    "SchedulerCallable",
    "Settings",
    "automatic_batch_size",
    "batch_size_alone",
    "group_jobs",
    "in_batches",
    "list_jobs_of_rounds",
    "mark_classes",
    "run_rounds",
]
