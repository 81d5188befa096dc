"""The work queue: order, deduplication, one turn at a time, repetition."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from unisd_operator.queue import TransientError, WorkQueue


def run(scenario: Callable[[WorkQueue[str]], Awaitable[None]]) -> None:
    async def main() -> None:
        async with asyncio.timeout(120):
            await scenario(WorkQueue())

    asyncio.run(main())


async def until(
    done: Callable[[], bool], queue: WorkQueue[str], work: Callable[[str], Awaitable[float | None]]
) -> None:
    """Works until something is so, and a moment longer, in which nothing more is to happen."""
    task = asyncio.create_task(queue.run(4, work))
    while not done():
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.05)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def test_a_key_added_often_is_looked_at_once() -> None:
    seen: list[str] = []

    async def work(key: str) -> None:
        seen.append(key)

    async def scenario(queue: WorkQueue[str]) -> None:
        for _ in range(5):
            queue.add("a")
        queue.add("b")
        assert queue.depth == 2
        await until(lambda: len(seen) == 2, queue, work)
        assert sorted(seen) == ["a", "b"]
        assert queue.depth == 0

    run(scenario)


def test_a_key_is_never_worked_on_twice_at_once_and_again_if_it_was_added_meanwhile() -> None:
    running, most, turns = 0, 0, 0

    async def scenario(queue: WorkQueue[str]) -> None:
        async def work(key: str) -> None:
            nonlocal running, most, turns
            running, turns = running + 1, turns + 1
            most = max(most, running)
            if turns == 1:
                queue.add(key)
                queue.add(key)
            await asyncio.sleep(0.05)
            running -= 1

        queue.add("a")
        await until(lambda: (turns, running) == (2, 0), queue, work)
        assert (most, turns) == (1, 2)

    run(scenario)


def test_an_earlier_time_wins_and_a_later_one_is_passed_over() -> None:
    seen: list[str] = []

    async def work(key: str) -> None:
        seen.append(key)

    async def scenario(queue: WorkQueue[str]) -> None:
        queue.add("a", 600)
        queue.add("b", 600)
        assert queue.depth == 0
        queue.add("a", 0.01)
        queue.add("a", 600)
        await until(lambda: bool(seen), queue, work)
        assert seen == ["a"]

    run(scenario)


@pytest.mark.parametrize("error", [TransientError("the API server is away"), RuntimeError("a bug")])
def test_a_turn_that_fails_is_repeated_and_stops_no_other(error: Exception) -> None:
    seen: list[str] = []

    async def work(key: str) -> None:
        seen.append(key)
        if key == "bad" and seen.count("bad") == 1:
            raise error

    async def scenario(queue: WorkQueue[str]) -> None:
        queue.add("bad")
        queue.add("good")
        await until(lambda: len(seen) == 3, queue, work)
        assert (seen.count("bad"), seen.count("good")) == (2, 1)

    run(scenario)


def test_a_turn_says_when_it_wants_to_be_repeated() -> None:
    turns = 0

    async def work(key: str) -> float | None:
        nonlocal turns
        turns += 1
        return 0.02 if turns < 3 else None

    async def scenario(queue: WorkQueue[str]) -> None:
        queue.add("a")
        await until(lambda: turns == 3, queue, work)
        assert turns == 3

    run(scenario)


def test_a_dropped_key_is_not_looked_at() -> None:
    async def work(key: str) -> None:
        raise AssertionError(key)

    async def scenario(queue: WorkQueue[str]) -> None:
        queue.add("a")
        queue.drop("a")
        await until(lambda: True, queue, work)
        assert queue.age == 0

    run(scenario)


def test_what_comes_first_passes_all_that_wait() -> None:
    seen: list[str] = []

    async def work(key: str) -> None:
        seen.append(key)

    async def scenario(queue: WorkQueue[str]) -> None:
        for key in ("a", "b", "c"):
            queue.add(key)
        queue.add("d", 600)
        queue.add_first("d")
        queue.add_first("c")
        await until(lambda: len(seen) == 4, queue, work)
        assert seen == ["d", "c", "a", "b"]

    run(scenario)
