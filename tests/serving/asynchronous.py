"""Tests that are coroutines: each on an event loop of its own."""

import asyncio
import functools


def asynchronous(test):
    @functools.wraps(test)
    def run(*args, **kwargs):
        asyncio.run(asyncio.wait_for(test(*args, **kwargs), 60))

    return run


async def until(condition, seconds=20):
    """Wait until something holds that another thread or task brings about."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.005)
