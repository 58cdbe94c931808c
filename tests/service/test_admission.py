"""The gate: exact books, first come first served, prompt refusals."""

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sightline.core.errors import Overloaded, Unavailable
from sightline.service.admission import Admission


def make(max_running=1, max_waiting=2, queue_timeout_s=60.0, **kwargs) -> Admission:
    kwargs.setdefault("uniform", lambda low, high: 1.0)
    return Admission(
        max_running=max_running,
        max_waiting=max_waiting,
        queue_timeout_s=queue_timeout_s,
        **kwargs,
    )


def books(gate: Admission) -> tuple[int, int]:
    return gate.num_running, gate.num_waiting


class Visitor:
    """Someone who takes a permit, holds it until told to go, and notes the order of entry."""

    def __init__(
        self, gate: Admission, name: object = None, entered: list | None = None, tenant: str = ""
    ) -> None:
        self.go = asyncio.Event()
        self.task = asyncio.create_task(self._visit(gate, name, entered, tenant))

    async def _visit(self, gate, name, entered, tenant) -> None:
        async with gate.permit(tenant):
            if entered is not None:
                entered.append(name)
            await self.go.wait()


def test_permits_are_given_up_to_the_limit_and_in_order_of_arrival(kit) -> None:
    async def scenario() -> None:
        gate, entered = make(max_running=2, max_waiting=3), []
        visitors = [Visitor(gate, i, entered) for i in range(5)]
        await kit.settle()
        assert entered == [0, 1]
        assert books(gate) == (2, 3)
        for i in (1, 0, 2, 3, 4):
            visitors[i].go.set()
            await kit.settle()
            assert gate.num_running <= 2
        assert entered == [0, 1, 2, 3, 4]
        assert books(gate) == (0, 0)

    asyncio.run(scenario())


def test_a_full_queue_refuses_at_once_and_says_how_full_it_is(kit) -> None:
    async def scenario() -> None:
        gate = make(max_waiting=1)
        visitors = [Visitor(gate), Visitor(gate)]
        await kit.settle()
        with pytest.raises(Overloaded) as caught:
            async with gate.permit():
                pass
        assert caught.value.code == "queue_full"
        assert caught.value.message == "Queue is full: 1 waiting, limit 1; retry in 1 s."
        assert books(gate) == (1, 1)
        for visitor in visitors:
            visitor.go.set()
        await gate.wait_idle()

    asyncio.run(scenario())


def test_without_a_queue_whoever_finds_the_gate_busy_is_refused(kit) -> None:
    async def scenario() -> None:
        gate = make(max_waiting=0)
        visitor = Visitor(gate)
        await kit.settle()
        with pytest.raises(Overloaded):
            await gate.permit().__aenter__()
        visitor.go.set()
        await gate.wait_idle()
        async with gate.permit():
            assert books(gate) == (1, 0)

    asyncio.run(scenario())


def test_waiting_too_long_is_overloaded(kit) -> None:
    async def scenario() -> None:
        gate = make(queue_timeout_s=0.01)
        visitor = Visitor(gate)
        await kit.settle()
        with pytest.raises(Unavailable) as caught:
            await gate.permit().__aenter__()
        assert caught.value.code == "overloaded"
        assert "limit of 0.01 s" in caught.value.message
        assert books(gate) == (1, 0)
        visitor.go.set()
        await gate.wait_idle()

    asyncio.run(scenario())


def test_a_drain_refuses_newcomers_and_serves_everyone_inside(kit) -> None:
    async def scenario() -> None:
        gate, entered = make(), []
        visitors = [Visitor(gate, i, entered) for i in range(2)]
        await kit.settle()
        gate.drain()
        with pytest.raises(Unavailable) as caught:
            await gate.permit().__aenter__()
        assert caught.value.code == "draining"
        idle = asyncio.create_task(gate.wait_idle())
        visitors[0].go.set()
        await kit.settle()
        assert entered == [0, 1]
        assert not idle.done()
        visitors[1].go.set()
        await idle

    asyncio.run(scenario())


def test_a_waiting_caller_who_leaves_is_not_missed(kit) -> None:
    async def scenario() -> None:
        gate, entered = make(), []
        visitors = [Visitor(gate, i, entered) for i in range(3)]
        await kit.settle()
        visitors[1].task.cancel()
        visitors[0].go.set()  # in the same turn of the loop: the queue still holds the leaver
        await kit.settle()
        assert entered == [0, 2]
        assert books(gate) == (1, 0)
        visitors[2].go.set()
        await gate.wait_idle()

    asyncio.run(scenario())


def test_a_turn_that_comes_as_the_caller_leaves_goes_to_the_next(kit) -> None:
    async def scenario() -> None:
        gate, entered = make(), []
        go = asyncio.Event()

        async def first() -> None:
            async with gate.permit():
                await go.wait()
            second.task.cancel()  # its turn has come, but it has not woken up yet

        holder = asyncio.create_task(first())
        await kit.settle()
        second, third = Visitor(gate, 2, entered), Visitor(gate, 3, entered)
        await kit.settle()
        go.set()
        await holder
        await kit.settle()
        assert entered == [3]
        third.go.set()
        await gate.wait_idle()
        assert books(gate) == (0, 0)

    asyncio.run(scenario())


def test_an_error_inside_gives_the_permit_back(kit) -> None:
    async def scenario() -> None:
        gate = make()
        with pytest.raises(KeyError):
            async with gate.permit():
                raise KeyError
        assert books(gate) == (0, 0)

    asyncio.run(scenario())


steps = st.lists(
    st.tuples(st.sampled_from(["come", "cancel", "go", "turn"]), st.integers(0, 11)), max_size=60
)


@settings(max_examples=100, deadline=None)
@given(steps=steps, max_running=st.integers(1, 3), max_waiting=st.integers(0, 4))
def test_the_books_balance_after_any_coming_and_going(kit, steps, max_running, max_waiting) -> None:
    async def scenario() -> None:
        gate = make(max_running=max_running, max_waiting=max_waiting)
        inside = [0]
        visitors: list[tuple[asyncio.Task, asyncio.Event]] = []

        async def visit(go: asyncio.Event) -> None:
            async with gate.permit():
                inside[0] += 1
                assert inside[0] <= max_running
                try:
                    await go.wait()
                finally:
                    inside[0] -= 1

        for action, which in steps:
            if action == "come":
                go = asyncio.Event()
                visitors.append((asyncio.create_task(visit(go)), go))
            elif action == "turn":
                await asyncio.sleep(0)
            elif visitors:
                task, go = visitors[which % len(visitors)]
                if action == "go":
                    go.set()
                else:
                    task.cancel()
            assert gate.num_running <= max_running
            assert gate.num_waiting <= max_waiting
        for _, go in visitors:
            go.set()
        results = await asyncio.gather(*(task for task, _ in visitors), return_exceptions=True)
        allowed = (type(None), asyncio.CancelledError, Overloaded)
        assert all(isinstance(result, allowed) for result in results)
        assert books(gate) == (0, 0)
        await gate.wait_idle()

    asyncio.run(scenario())


async def refusal_after(kit, gate: Admission, clock: list[float], held_s: float) -> int:
    """Hold a permit for `held_s`, fill the gate, and return the Retry-After of the next caller."""
    async with gate.permit():
        clock[0] += held_s
    visitors = [Visitor(gate) for _ in range(3)]
    await kit.settle()
    with pytest.raises(Overloaded) as caught:
        await gate.permit().__aenter__()
    for visitor in visitors:
        visitor.go.set()
    await gate.wait_idle()
    return caught.value.retry_after_s


@pytest.mark.parametrize(("held_s", "retry_after_s"), [(0.01, 1), (4.0, 12), (1000.0, 60)])
def test_retry_after_is_the_measured_time_to_drain_within_bounds(
    kit, held_s, retry_after_s
) -> None:
    async def scenario() -> None:
        clock = [100.0]
        gate = make(clock=lambda: clock[0])
        # 2 wait and 1 asks, each of them for held_s, one at a time
        assert await refusal_after(kit, gate, clock, held_s) == retry_after_s

    asyncio.run(scenario())


def test_retry_after_is_spread_by_a_quarter(kit) -> None:
    async def scenario(pick) -> int:
        clock = [100.0]
        gate = make(clock=lambda: clock[0], uniform=pick)
        return await refusal_after(kit, gate, clock, 4.0)

    assert asyncio.run(scenario(min)) == 9
    assert asyncio.run(scenario(max)) == 15


def test_one_of_another_key_is_next_however_many_one_key_has_waiting(kit) -> None:
    async def scenario() -> None:
        gate, entered = make(max_running=1, max_waiting=600), []
        many = [Visitor(gate, i, entered, "many") for i in range(500)]
        await kit.settle()
        one = Visitor(gate, "one", entered, "other")
        for visitor in (*many, one):
            visitor.go.set()
        await asyncio.gather(*(visitor.task for visitor in (*many, one)))
        # One was running, and one of "many" was in front when "other" came.
        assert entered.index("one") <= 2
        assert [i for i in entered if i != "one"] == list(range(500))
        assert books(gate) == (0, 0)

    asyncio.run(scenario())


def test_a_key_that_fills_the_queue_gives_up_its_newest_place_to_another(kit) -> None:
    async def scenario() -> None:
        gate, entered = make(max_running=1, max_waiting=4), []
        many = [Visitor(gate, i, entered, "many") for i in range(5)]
        await kit.settle()
        other = [Visitor(gate, f"other {i}", entered, "other") for i in range(3)]
        await kit.settle()
        assert books(gate) == (1, 4)
        # Two places each; the newest of "many" and the third of "other" were turned away.
        for refused in (many[4], many[3], other[2]):
            with pytest.raises(Overloaded):
                await refused.task
        served = [*many[:3], *other[:2]]
        for visitor in served:
            visitor.go.set()
        await asyncio.gather(*(visitor.task for visitor in served))
        assert entered == [0, 1, "other 0", 2, "other 1"]
        assert books(gate) == (0, 0)

    asyncio.run(scenario())
