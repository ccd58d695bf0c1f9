"""with_backoff: the specification's examples, its limits, and what it must never retry. Nothing here sleeps."""

from __future__ import annotations

import asyncio
import inspect
import random
import re
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from fleetq_core.backoff import (
    BackoffConfig,
    RetryBudget,
    calculate_delay,
    calculate_delay_fibonacci,
    calculate_delay_linear,
    is_throttle,
    is_transient,
    no_sleep,
    retry_after_s,
    with_backoff,
)  # fmt: skip
from fleetq_core.errors import ConfigError, TerminalError, Throttled

PAGE = Path(__file__).parents[2] / "docs" / "backoff.md"


@pytest.fixture(autouse=True)
def slept() -> Iterator[list[float]]:
    seed = random.randrange(10**6)
    print(f"seed {seed}")
    random.seed(seed)
    with no_sleep() as delays:
        yield delays


def script(*outcomes: Any) -> Callable[[], Any]:
    left = iter(outcomes)

    def play() -> Any:
        value = next(left)
        if isinstance(value, BaseException):
            raise value
        return value

    return play


class HttpError(OSError):
    def __init__(self, status: int, **headers: str) -> None:
        super().__init__(str(status))
        self.response = SimpleNamespace(
            status_code=status, headers={k.replace("_", "-"): v for k, v in headers.items()}
        )


def test_the_page_runs() -> None:
    scope: dict[str, Any] = {}
    for block in re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.S):
        exec(block, scope)


def test_sync_succeeds_on_the_last_attempt_and_tells_of_each_retry(slept: list[float]) -> None:
    told: list[tuple[int, float, Exception]] = []
    first, second = ConnectionError(), ConnectionError()
    call = with_backoff(max_attempts=3, base_delay_ms=100, on_retry=lambda *args: told.append(args))(
        script(first, second, "ok")
    )
    assert call() == "ok"
    assert told == [(1, slept[0], first), (2, slept[1], second)]


def test_the_last_error_is_raised_itself_with_a_note() -> None:
    last = ConnectionError("last")
    with pytest.raises(ConnectionError) as found:
        with_backoff(max_attempts=2)(script(ConnectionError(), last))()
    assert found.value is last
    assert "2 attempts" in last.__notes__[0]


def test_async_is_retried_and_keeps_its_signature() -> None:
    play = script(HttpError(503), "ok")

    @with_backoff()
    async def fetch(url: str) -> Any:
        """Doc."""
        return play()

    assert inspect.iscoroutinefunction(fetch)
    assert str(inspect.signature(fetch)).startswith("(url")
    assert asyncio.run(fetch("u")) == "ok"


def test_files(tmp_path: Path) -> None:
    @with_backoff(max_attempts=3, base_delay_ms=500, retry_on=(IOError, OSError))
    def write(path: Path, data: str) -> bool:
        path.parent.mkdir() if not path.parent.exists() else path.write_text(data)
        return bool(path.stat())

    assert write(tmp_path / "new" / "data.txt", "x")


@pytest.mark.parametrize("error", [TerminalError("no"), Throttled("later"), KeyboardInterrupt(), SystemExit(), GeneratorExit(), asyncio.CancelledError()])  # fmt: skip
def test_what_is_never_retried(error: BaseException, slept: list[float]) -> None:
    with pytest.raises(type(error)) as found:
        with_backoff(retry_on=lambda exc: True)(script(error, "no"))()
    assert found.value is error
    assert slept == []


def test_profiles_and_strategies(slept: list[float]) -> None:
    profile = partial(with_backoff, max_attempts=5, base_delay_ms=100, max_delay_ms=250, jitter=False)
    for strategy, expected in (
        (calculate_delay, [0.1, 0.2, 0.25, 0.25]),
        (calculate_delay_linear, [0.1, 0.2, 0.25, 0.25]),
        (calculate_delay_fibonacci, [0.0, 0.1, 0.1, 0.2]),
    ):
        slept.clear()
        profile(strategy=strategy)(script(*[ConnectionError()] * 4, 1))()
        assert slept == pytest.approx(expected)


@pytest.mark.parametrize("jitter", [True, False, "equal", "decorrelated"])
def test_thousands_of_attempts_stay_in_the_bound(jitter: Any, slept: list[float]) -> None:
    with_backoff(max_attempts=5000, max_delay_ms=2000, jitter=jitter)(script(*[ConnectionError()] * 4999, 1))()
    assert len(slept) == 4999
    assert 0 <= min(slept) <= max(slept) <= 2
    for strategy in (calculate_delay_linear, calculate_delay_fibonacci):
        assert 0 <= strategy(10**6, BackoffConfig()) <= 5


def test_retry_after_is_a_floor_under_the_bound(slept: list[float]) -> None:
    with_backoff(base_delay_ms=0)(script(HttpError(429, Retry_After="2"), 1))()
    assert 2 <= slept[0] <= 2.5
    with_backoff(base_delay_ms=0)(script(HttpError(429, Retry_After="100"), 1))()
    assert 3.75 <= slept[1] <= 5
    assert retry_after_s(HttpError(429, Retry_After="Wed, 21 Oct 2015 07:28:00 GMT")) == 0
    assert retry_after_s(HttpError(429, Retry_After="soon")) is None


def test_no_wait_passes_the_total(slept: list[float]) -> None:
    with pytest.raises(ConnectionError) as found:
        with_backoff(base_delay_ms=1000, jitter=False, timeout_total_s=3.5)(script(*[ConnectionError()] * 5))()
    assert slept == [1, 2]
    assert "would pass timeout_total_s=3.5" in found.value.__notes__[0]


def test_the_total_cancels_a_running_async_attempt() -> None:
    @with_backoff(timeout_total_s=0.01)
    async def hang() -> None:
        await asyncio.Event().wait()

    with pytest.raises(TimeoutError) as found:
        asyncio.run(hang())
    assert "1 attempt in" in found.value.__notes__[0]


def test_a_spent_budget_ends_the_retries() -> None:
    budget = RetryBudget(share=0.5, min_per_s=0)
    with pytest.raises(ConnectionError) as found:
        with_backoff(budget=budget)(script(ConnectionError()))()
    assert "budget" in found.value.__notes__[0]
    assert with_backoff(budget=budget, base_delay_ms=0)(script(ConnectionError(), 1))() == 1


@pytest.mark.parametrize(
    ("name", "value"),
    [("max_attempts", 0), ("max_attempts", True), ("base_delay_ms", -1), ("max_delay_ms", float("nan")), ("max_delay_ms", 1),
     ("jitter", "some"), ("retry_on", ()), ("retry_on", BaseException), ("on_retry", 1), ("timeout_total_s", 0), ("budget", 1)],
)  # fmt: skip
def test_a_wrong_setting_is_refused_by_name(name: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=rf"^{name}=.*must be"):
        with_backoff(**{name: value})


def test_wrong_functions_are_refused_and_broad_classes_warned_of() -> None:
    def generator() -> Iterator[int]:
        yield 1

    with pytest.raises(TypeError, match="generator"):
        with_backoff()(generator)
    with pytest.raises(ConfigError, match="parentheses"):
        with_backoff(script(1))  # type: ignore[arg-type]
    with pytest.warns(UserWarning, match="permanent"):
        with_backoff(retry_on=Exception)


def test_only_transient_errors_by_default() -> None:
    assert all(is_transient(HttpError(status)) for status in (408, 425, 429, 500, 503))
    assert not any(is_transient(error) for error in (HttpError(404), ValueError(), FileNotFoundError()))


# -- more of what the specification shows, with stand-ins for what is remote ------------------------------------------


class ClientError(Exception):
    """As botocore's: the code is in the response."""

    def __init__(self, code: str) -> None:
        self.response = {"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": 400}}
        super().__init__(code)


@pytest.mark.parametrize(
    ("error", "transient", "throttle"),
    [
        (ClientError("ThrottlingException"), True, True),
        (ClientError("TooManyRequestsException"), True, True),
        (ClientError("ValidationException"), False, False),
        (HttpError(429), True, True),
        (HttpError(503), True, False),
        (HttpError(503, Retry_After="1"), True, True),
        (HttpError(404), False, False),
    ],
)
def test_errors_are_judged_by_what_they_carry(error: Exception, transient: bool, throttle: bool) -> None:
    assert (is_transient(error), is_throttle(error)) == (transient, throttle)


def test_a_predicate_judges_a_broad_class_by_its_status(slept: list[float]) -> None:
    def passing(error: Exception) -> bool:
        return isinstance(error, HttpError) and error.response.status_code in (429, 500, 502, 503, 504)

    smart = with_backoff(max_attempts=5, base_delay_ms=1000, retry_on=passing)
    assert smart(script(HttpError(503), HttpError(429), {"ok": True}))() == {"ok": True}
    with pytest.raises(HttpError, match="404"):
        smart(script(HttpError(404)))()
    assert len(slept) == 2


def test_a_strategy_of_the_users_own(slept: list[float]) -> None:
    def every_third(attempt: int, config: BackoffConfig) -> float:
        return config.base_delay_ms * (attempt // 3 + 1) / 1000

    calm = with_backoff(max_attempts=6, base_delay_ms=100, retry_on=ConnectionError, strategy=every_third)
    with pytest.raises(ConnectionError):
        calm(script(*[ConnectionError() for _ in range(6)]))()
    assert slept == [0.1, 0.1, 0.1, 0.2, 0.2]


@pytest.mark.parametrize("wrong", [float("nan"), -1.0, None])
def test_a_strategy_that_gives_no_time_is_named(wrong: Any) -> None:
    broken = with_backoff(retry_on=ConnectionError, strategy=lambda attempt, config: wrong)
    with pytest.raises(ConfigError, match="strategy: gave"):
        broken(script(ConnectionError(), 1))()


def test_an_on_retry_that_fails_changes_nothing(caplog: pytest.LogCaptureFixture) -> None:
    def complain(attempt: int, delay: float, error: Exception) -> None:
        raise RuntimeError("the metrics server is down too")

    assert with_backoff(retry_on=ConnectionError, on_retry=complain)(script(ConnectionError(), "fine"))() == "fine"
    assert "the retry goes on" in caplog.text


def test_an_async_on_retry_is_awaited() -> None:
    told: list[tuple[int, str]] = []

    async def tell(attempt: int, delay: float, error: Exception) -> None:
        await asyncio.sleep(0)
        told.append((attempt, str(error)))

    play = script(ConnectionError("a"), ConnectionError("b"), "fine")

    @with_backoff(retry_on=ConnectionError, on_retry=tell)
    async def call() -> Any:
        return play()

    assert asyncio.run(call()) == "fine"
    assert told == [(1, "a"), (2, "b")]


@pytest.mark.parametrize("where", ["attempt", "wait"])
def test_cancellation_goes_through_at_once(where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []

    async def main() -> None:
        inside, never = asyncio.Event(), asyncio.Event()

        async def endless(_: float) -> None:
            inside.set()
            await never.wait()

        monkeypatch.setattr("fleetq_core.backoff.pause.async_sleep", endless)

        @with_backoff(max_attempts=5, retry_on=lambda error: True)
        async def call() -> None:
            calls.append(1)
            if where == "wait":
                raise ConnectionError
            inside.set()
            await never.wait()

        task = asyncio.create_task(call())
        await inside.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert calls == [1]


@pytest.mark.parametrize("error", [TerminalError("no"), KeyboardInterrupt(), SystemExit(1), GeneratorExit()])
def test_what_is_never_retried_is_not_in_async_either(error: BaseException, slept: list[float]) -> None:
    @with_backoff(retry_on=lambda _: True)
    async def call() -> None:
        raise error

    with pytest.raises(type(error)):
        asyncio.run(call())
    assert slept == []


def test_a_budget_is_shared_and_fills_again(slept: list[float]) -> None:
    from fleetq_core.backoff import pause

    budget = RetryBudget(share=0, min_per_s=0.2, ttl_s=10)  # two retries in any ten seconds, whoever asks
    twice = with_backoff(max_attempts=2, base_delay_ms=0, max_delay_ms=0, retry_on=ConnectionError, budget=budget)
    assert [twice(script(ConnectionError(), n))() for n in range(2)] == [0, 1]
    with pytest.raises(ConnectionError):
        twice(script(ConnectionError(), 3))()
    pause.sleep(11)  # in test mode: the clock moves, nobody waits
    assert twice(script(ConnectionError(), 4))() == 4


def test_the_warning_about_a_broad_class_points_at_the_decorated_line() -> None:
    with pytest.warns(UserWarning, match="retries permanent failures too") as caught:
        with_backoff(retry_on=Exception)
    assert caught[0].filename == __file__
