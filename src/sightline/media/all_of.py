"""Doing several things at once, all or nothing."""

import asyncio
from collections.abc import Coroutine, Mapping
from typing import Any, TypeVar

K = TypeVar("K")
T = TypeVar("T")


async def all_of(work: Mapping[K, Coroutine[Any, Any, T]]) -> dict[K, T]:
    """Do everything at once and return the results; the first error ends the rest."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = {key: group.create_task(one) for key, one in work.items()}
    except BaseExceptionGroup as errors:
        raise _first_leaf(errors) from None
    return {key: task.result() for key, task in tasks.items()}


def _first_leaf(errors: BaseExceptionGroup[BaseException]) -> BaseException:
    error = errors.exceptions[0]
    return _first_leaf(error) if isinstance(error, BaseExceptionGroup) else error
