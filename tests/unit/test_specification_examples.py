"""The code examples of the specification's chapters on backoff and throttling, as they are written there.

Only what is remote is a stand-in: the wire under requests and httpx, a psycopg2, a boto3, a Bedrock client. Their
exceptions are the real ones (psycopg2's apart). `from backoff import` and `from throttle import` are
`from fleetq_core.backoff import` and `from fleetq_core.throttle import` here. Nothing sleeps.
"""

from __future__ import annotations

import asyncio
import builtins
import io
import json
import logging
import random
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, Dict  # noqa: UP035 -- as the specification writes it
from unittest.mock import Mock

import httpx
import pytest
import requests
from botocore.exceptions import ClientError

import fleetq_core
from fleetq_core.backoff import (
    BackoffConfig,
    calculate_delay_fibonacci,
    calculate_delay_linear,
    no_sleep,
    with_backoff,
)
from fleetq_core.model import Step
from fleetq_core.throttle import (
    AdaptiveThrottle,
    ThrottleConfig,
    all_throttles,
    get_or_create_throttle,
    reset_throttle,
    with_throttle,
)

logger = logging.getLogger(__name__)


class Service:
    """A remote service: gives its answers in turn, and counts the calls."""

    def __init__(self, *answers: Any) -> None:
        self._answers = list(answers)
        self.calls: list[Any] = []

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self.calls.append(kwargs or args)
        answer = self._answers.pop(0)
        if isinstance(answer, BaseException):
            raise answer
        return answer

    async def invoke(self, prompt: Any) -> Any:
        return self(prompt)

    call = invoke


def throttled(code: str = "ThrottlingException") -> ClientError:
    """As botocore raises it."""
    return ClientError(
        {"Error": {"Code": code, "Message": "Rate exceeded"}, "ResponseMetadata": {"HTTPStatusCode": 400}},
        "InvokeModel",
    )


@pytest.fixture(autouse=True)
def slept() -> Iterator[list[float]]:
    """Delays in seconds."""
    with no_sleep() as delays:
        yield delays


@pytest.fixture
def web(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """web(200, 503, error): what requests and httpx find on the wire; gives the addresses that were called."""

    def script(*answers: int | Exception) -> list[str]:
        left, called = list(answers), []

        def answer(url: str) -> int:
            called.append(url)
            found = left.pop(0)
            if isinstance(found, Exception):
                raise found
            return found

        def send(_: object, request: requests.PreparedRequest, **kwargs: Any) -> requests.Response:
            response = requests.Response()
            response.status_code = answer(str(request.url))
            response.raw = io.BytesIO(b'{"name": "Ada"}')
            response.url, response.request = str(request.url), request
            return response

        async def handle(_: object, request: httpx.Request) -> httpx.Response:
            return httpx.Response(answer(str(request.url)), json={"name": "Ada"})

        monkeypatch.setattr("requests.adapters.HTTPAdapter.send", send)
        monkeypatch.setattr("httpx.AsyncHTTPTransport.handle_async_request", handle)
        return called

    return script


# -- backoff: basic usage and options ---------------------------------------------------------------------------------


def test_basic_usage_retries_a_server_error_and_a_lost_connection(web: Callable[..., list[str]]) -> None:
    @with_backoff(max_attempts=3, base_delay_ms=100)
    def unreliable_api_call():
        response = requests.get("https://api.example.com/data")
        response.raise_for_status()
        return response.json()

    called = web(503, requests.exceptions.ConnectionError("reset"), 200)
    assert unreliable_api_call() == {"name": "Ada"}
    assert called == ["https://api.example.com/data"] * 3


def test_basic_usage_raises_the_last_error_after_three_attempts(
    web: Callable[..., list[str]], slept: list[float]
) -> None:
    @with_backoff(max_attempts=3, base_delay_ms=100)
    def unreliable_api_call():
        response = requests.get("https://api.example.com/data")
        response.raise_for_status()
        return response.json()

    called = web(500, 502, 503, 200)
    with pytest.raises(requests.exceptions.HTTPError, match="503"):
        unreliable_api_call()
    assert len(called) == 3
    assert len(slept) == 2
    assert 0 <= slept[0] <= 0.1
    assert 0 <= slept[1] <= 0.2


def test_every_option_of_the_specification_is_taken_and_acts(slept: list[float]) -> None:
    told: list[tuple[int, float, Exception]] = []

    def my_callback_func(attempt: int, delay: float, exc: Exception) -> None:
        told.append((attempt, delay, exc))

    errors = [ConnectionError(), TimeoutError(), ConnectionError(), TimeoutError(), ConnectionError()]
    service = Service(*errors)

    @with_backoff(
        max_attempts=5,              # Maximum number of retry attempts
        base_delay_ms=50,            # Base delay in milliseconds
        max_delay_ms=5000,           # Maximum delay cap in milliseconds
        jitter=True,                 # Apply full jitter to delays
        retry_on=(ConnectionError, TimeoutError),  # Only retry on specific exceptions
        on_retry=my_callback_func,   # Callback function on each retry
        timeout_total_s=30.0         # Total timeout for all attempts
    )  # fmt: skip
    def my_function():
        return service()

    with pytest.raises(ConnectionError):
        my_function()
    assert len(service.calls) == 5
    assert told == [(number + 1, slept[number], errors[number]) for number in range(4)]
    assert all(0 <= delay <= 0.05 * 2**number for number, delay in enumerate(slept))


def test_only_the_named_exceptions_are_retried() -> None:
    service = Service(KeyError("not named"), "never")
    with pytest.raises(KeyError):
        with_backoff(max_attempts=5, retry_on=(ConnectionError, TimeoutError))(service)()
    assert len(service.calls) == 1


# -- backoff: the real-world examples ---------------------------------------------------------------------------------


def test_example_1_database_connections(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    stub: Any = ModuleType("psycopg2")
    stub.OperationalError = type("OperationalError", (Exception,), {})
    stub.connect = Service(stub.OperationalError("starting up"), stub.OperationalError("starting up"), "connection")
    monkeypatch.setitem(sys.modules, "psycopg2", stub)

    import psycopg2

    @with_backoff(
        max_attempts=5,
        base_delay_ms=100,
        retry_on=(psycopg2.OperationalError,),
        on_retry=lambda attempt, delay, exc: print(f"DB connection failed, retry {attempt}"),
    )
    def connect_to_database():
        """Connect to PostgreSQL with automatic retries"""
        return psycopg2.connect(host="db.example.com", database="mydb", user="user", password="password")

    conn = connect_to_database()
    assert conn == "connection"
    assert stub.connect.calls == [
        {"host": "db.example.com", "database": "mydb", "user": "user", "password": "password"}
    ] * 3  # fmt: skip
    assert capsys.readouterr().out == "DB connection failed, retry 1\nDB connection failed, retry 2\n"
    assert connect_to_database.__doc__ == "Connect to PostgreSQL with automatic retries"


def test_example_2_external_api_calls(web: Callable[..., list[str]], slept: list[float]) -> None:
    @with_backoff(
        max_attempts=3,
        base_delay_ms=200,
        max_delay_ms=2000,
        retry_on=(requests.exceptions.RequestException,),
    )
    def fetch_user_data(user_id: str):
        """Fetch user data from external API with retries"""
        response = requests.get(f"https://api.example.com/users/{user_id}")
        response.raise_for_status()
        return response.json()

    called = web(requests.exceptions.ReadTimeout(), 503, 200)
    user = fetch_user_data("user-123")
    assert user == {"name": "Ada"}
    assert called == ["https://api.example.com/users/user-123"] * 3
    assert slept[0] <= 0.2
    assert slept[1] <= 0.4


@pytest.mark.parametrize("failure", [httpx.ConnectError("refused"), httpx.ReadTimeout("slow"), 503, 429])
def test_example_3_async_functions(web: Callable[..., list[str]], failure: Any) -> None:
    @with_backoff(
        max_attempts=5,
        base_delay_ms=100,
        retry_on=(httpx.RequestError, httpx.HTTPStatusError),
    )
    async def async_api_call(url: str):
        """Async HTTP request with automatic retries"""
        async with httpx.AsyncClient() as client:
            response = await client.get(url)
            response.raise_for_status()
            return response.json()

    async def main() -> Any:
        return await async_api_call("https://api.example.com/data")

    called = web(failure, failure, 200)
    assert asyncio.run(main()) == {"name": "Ada"}
    assert called == ["https://api.example.com/data"] * 3


def test_example_4_file_operations(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, slept: list[float]) -> None:
    share = tmp_path / "network"
    opened: list[str] = []

    def mounting(filepath: str, mode: str) -> Any:
        """The share comes up after two tries."""
        opened.append(filepath)
        if len(opened) == 3:
            share.mkdir()
        return builtins.open(share / Path(filepath).name, mode)

    monkeypatch.setitem(globals(), "open", mounting)

    @with_backoff(max_attempts=3, base_delay_ms=500, retry_on=(IOError, OSError))
    def write_to_network_drive(filepath: str, data: str):
        """Write to network drive with retries on I/O errors"""
        with open(filepath, 'w') as f:  # fmt: skip
            f.write(data)
        return True

    assert write_to_network_drive("/mnt/network/data.txt", "Important data")
    assert opened == ["/mnt/network/data.txt"] * 3
    assert (share / "data.txt").read_text() == "Important data"
    assert slept[0] <= 0.5


# -- backoff: callbacks, strategies, predicates, profiles -------------------------------------------------------------


def test_on_retry_logs_attempt_delay_and_exception(caplog: pytest.LogCaptureFixture, slept: list[float]) -> None:
    def log_retry(attempt: int, delay: float, exception: Exception):
        """Custom callback for retry events"""
        logger.warning(f"Retry attempt {attempt} after {delay:.2f}s due to: {exception}")

    service = Service(ConnectionError("line down"), TimeoutError("too slow"), None)

    @with_backoff(max_attempts=5, base_delay_ms=100, on_retry=log_retry)
    def critical_operation():
        return service()

    critical_operation()
    assert [record.getMessage() for record in caplog.records if record.name == __name__] == [
        f"Retry attempt 1 after {slept[0]:.2f}s due to: line down",
        f"Retry attempt 2 after {slept[1]:.2f}s due to: too slow",
    ]


def linear_of_the_specification(attempt: int, config: BackoffConfig) -> float:
    """Linear backoff instead of exponential"""
    delay_ms = min(config.base_delay_ms * (attempt + 1), config.max_delay_ms)
    if config.jitter:
        delay_ms = random.uniform(0, delay_ms)
    return delay_ms / 1000.0


def fibonacci_of_the_specification(attempt: int, config: BackoffConfig) -> float:
    """Fibonacci backoff sequence"""

    def fib(n: int) -> int:
        if n <= 1:
            return n
        return fib(n - 1) + fib(n - 2)

    delay_ms = min(config.base_delay_ms * fib(attempt), config.max_delay_ms)
    if config.jitter:
        delay_ms = random.uniform(0, delay_ms)
    return delay_ms / 1000.0


@pytest.mark.parametrize(
    ("theirs", "ours", "delays"),
    [
        (linear_of_the_specification, calculate_delay_linear, [0.05, 0.1, 0.15, 0.2, 0.25, 0.3]),
        (fibonacci_of_the_specification, calculate_delay_fibonacci, [0.0, 0.05, 0.05, 0.1, 0.15, 0.25]),
    ],
)
def test_the_custom_strategies_run_and_are_the_shipped_ones(
    theirs: Callable[[int, BackoffConfig], float],
    ours: Callable[[int, BackoffConfig], float],
    delays: list[float],
    slept: list[float],
) -> None:
    for strategy in (theirs, ours):
        slept.clear()
        service = Service(*[ConnectionError() for _ in delays], "ok")
        assert with_backoff(max_attempts=7, jitter=False, strategy=strategy)(service)() == "ok"
        assert slept == pytest.approx(delays)
    plain, spread = BackoffConfig(jitter=False), BackoffConfig()
    for attempt in range(16):
        assert theirs(attempt, plain) == ours(attempt, plain)
        for strategy in (theirs, ours):
            assert 0 <= strategy(attempt, spread) <= ours(attempt, plain)


def should_retry_on_status(exception: Exception) -> bool:
    """Custom predicate: only retry on specific HTTP status codes"""
    if isinstance(exception, requests.exceptions.HTTPError):
        # Retry on 429 (rate limit), 500, 502, 503, 504
        return exception.response.status_code in [429, 500, 502, 503, 504]
    return True


def test_smart_api_call_takes_one_class_without_a_tuple(web: Callable[..., list[str]]) -> None:
    @with_backoff(max_attempts=5, base_delay_ms=1000, retry_on=requests.exceptions.HTTPError)
    def smart_api_call(url: str):
        response = requests.get(url)
        response.raise_for_status()
        return response.json()

    called = web(429, 500, 502, 504, 200)
    assert smart_api_call("https://api.example.com/a") == {"name": "Ada"}
    assert len(called) == 5


@pytest.mark.parametrize(("status", "attempts"), [(429, 2), (500, 2), (502, 2), (503, 2), (504, 2), (404, 1), (501, 1)])
def test_the_custom_predicate_decides_by_status(web: Callable[..., list[str]], status: int, attempts: int) -> None:
    @with_backoff(max_attempts=2, base_delay_ms=1000, retry_on=should_retry_on_status)
    def smart_api_call(url: str):
        response = requests.get(url)
        response.raise_for_status()
        return response.json()

    called = web(status, status)
    with pytest.raises(requests.exceptions.HTTPError, match=str(status)):
        smart_api_call("https://api.example.com/a")
    assert len(called) == attempts


def test_profiles_by_partial_keep_their_attempts_and_bounds(slept: list[float]) -> None:
    aggressive_backoff = partial(with_backoff, max_attempts=10, base_delay_ms=50, max_delay_ms=1000)
    conservative_backoff = partial(with_backoff, max_attempts=3, base_delay_ms=1000, max_delay_ms=10000)
    service = Service(*[ConnectionError() for _ in range(13)])

    @aggressive_backoff()
    def high_priority_task():
        """Retry quickly and frequently"""
        service()

    @conservative_backoff()
    def low_priority_task():
        """Retry slowly with longer delays"""
        service()

    with pytest.raises(ConnectionError):
        high_priority_task()
    assert len(service.calls) == 10
    assert all(delay <= min(1.0, 0.05 * 2**number) for number, delay in enumerate(slept))
    slept.clear()
    with pytest.raises(ConnectionError):
        low_priority_task()
    assert len(service.calls) == 13
    assert len(slept) == 2
    assert all(delay <= 2**number for number, delay in enumerate(slept))


def test_an_executor_with_backoff_retries_its_external_service() -> None:
    external_service = SimpleNamespace(process=Service(ConnectionError(), TimeoutError(), {"status": "done"}))

    @with_backoff(max_attempts=3, base_delay_ms=500, retry_on=(ConnectionError, TimeoutError))
    def execute_task(step: Dict[str, Any]) -> Any:  # noqa: UP006
        """Task executor with automatic retries for transient failures"""
        step_id = step['STEP_ID']  # noqa: F841 # fmt: skip
        payload = step['PAYLOAD']  # fmt: skip

        # Call external service
        result = external_service.process(payload)
        return result  # noqa: RET504

    payload = {"task_type": "my_custom_task"}
    assert execute_task({"STEP_ID": "s-1", "PAYLOAD": payload}) == {"status": "done"}
    assert external_service.process.calls == [(payload,)] * 3


def test_an_executor_reads_the_step_that_a_handler_gets_as_the_specification_does() -> None:
    def execute_task(step: Any) -> Any:
        step_id = step['STEP_ID']  # fmt: skip
        payload = step['PAYLOAD']  # fmt: skip
        return step_id, payload

    step = Step(step_id="s-1", payload={"task_type": "t"}, priority=0, retry_count=0, claim_token="c", pod_id="p")
    assert execute_task(step) == ("s-1", {"task_type": "t"})


# -- backoff: best practices ------------------------------------------------------------------------------------------


def test_best_practice_1_specific_errors_are_good_and_exception_is_warned_of() -> None:
    assert with_backoff(retry_on=(ConnectionError, TimeoutError))(Service(TimeoutError(), 1))() == 1
    with pytest.warns(UserWarning, match="permanent failures"):
        broad = with_backoff(retry_on=Exception)
    assert broad(Service(KeyError(), 1))() == 1


def test_best_practice_2_the_total_timeout_ends_the_retries(slept: list[float]) -> None:
    service = Service(*[ConnectionError() for _ in range(5)])
    with pytest.raises(ConnectionError):
        with_backoff(max_attempts=5, timeout_total_s=30.0)(service)()
    assert len(service.calls) == 5
    slow = Service(*[ConnectionError() for _ in range(5)])
    with pytest.raises(ConnectionError):
        with_backoff(max_attempts=5, timeout_total_s=30.0, base_delay_ms=20_000, max_delay_ms=20_000, jitter=False)(
            slow
        )()
    assert len(slow.calls) == 2
    assert slept[4:] == [20]  # a second wait of 20 s would pass 30 s


def test_best_practice_3_jitter_spreads_and_its_absence_does_not(slept: list[float]) -> None:
    for _ in range(20):
        with_backoff(jitter=True)(Service(ConnectionError(), 1))()
    assert len(set(slept)) == 20
    slept.clear()
    for _ in range(20):
        with_backoff(jitter=False)(Service(ConnectionError(), 1))()
    assert set(slept) == {0.05}


def test_best_practice_4_retries_are_logged_by_a_lambda(caplog: pytest.LogCaptureFixture) -> None:
    logged = with_backoff(on_retry=lambda a, d, e: logger.warning(f"Retry {a}: {e}"))
    assert logged(Service(ConnectionError("gone"), 1))() == 1
    assert "Retry 1: gone" in caplog.text


def test_best_practice_5_a_mock_service_is_retried_until_it_answers() -> None:
    mock_service = Mock()
    mock_service.side_effect = [ConnectionError(), ConnectionError(), {"status": "ok"}]

    @with_backoff()
    def my_retryable_function():
        return mock_service()

    result = my_retryable_function()
    assert result == {"status": "ok"}
    assert mock_service.call_count == 3


# -- throttle: basic usage --------------------------------------------------------------------------------------------


class BotoThrottlingException(Exception):
    """What the specification calls an API-specific exception."""


class ThrottleException(Exception):
    """As above, in its second example."""


def test_a_throttle_is_made_with_the_settings_of_the_specification() -> None:
    bedrock_throttle = AdaptiveThrottle("bedrock", ThrottleConfig(
        initial_limit=10,      # Start with 10 concurrent requests
        min_limit=1,           # Never go below 1
        max_limit=100,         # Cap at 100
        additive_increase=1,   # Increase by 1 on success
        multiplicative_decrease=0.5,  # Halve on throttle error
        enable_latency_tracking=True  # Track latency for pressure sensing
    ))  # fmt: skip
    assert (bedrock_throttle.name, bedrock_throttle.max_inflight) == ("bedrock", 10)
    assert bedrock_throttle.config == ThrottleConfig()
    for _ in range(10):
        bedrock_throttle.record_throttle()
    assert bedrock_throttle.max_inflight == 1
    for _ in range(10 * 120):
        bedrock_throttle.record_success()
    assert bedrock_throttle.max_inflight == 100


@pytest.mark.parametrize(
    ("answer", "limit"),
    [("a joke", 10), (BotoThrottlingException(), 5), (TimeoutError(), 7), (ValueError("permanent"), 10)],
)
def test_the_decorator_pattern_throttles_and_records(answer: Any, limit: int) -> None:
    bedrock_throttle = AdaptiveThrottle("bedrock")
    bedrock_client = Service(answer)
    inside: list[Any] = []

    @with_throttle(
        throttle=bedrock_throttle,
        throttle_exceptions=(BotoThrottlingException,),  # API-specific exceptions
        timeout_exceptions=(TimeoutError,),
    )
    async def call_bedrock_api(prompt: str):
        """Function automatically throttled and monitored"""
        inside.append(bedrock_throttle.stats()["current_inflight"])
        response = await bedrock_client.invoke(prompt)
        return response  # noqa: RET504

    async def main() -> Any:
        result = await call_bedrock_api("Tell me a joke")
        return result  # noqa: RET504

    if isinstance(answer, Exception):
        with pytest.raises(type(answer)) as found:
            asyncio.run(main())
        assert found.value is answer
    else:
        assert asyncio.run(main()) == "a joke"
    assert inside == [1]
    assert (bedrock_throttle.max_inflight, bedrock_throttle.stats()["current_inflight"]) == (limit, 0)
    assert bedrock_throttle.stats()["total_successes"] == (answer == "a joke")


@pytest.mark.parametrize(("answer", "limit"), [("text", 10), (ThrottleException(), 5), (TimeoutError(), 7)])
def test_the_context_manager_pattern_records_what_the_caller_says(answer: Any, limit: int) -> None:
    bedrock_throttle = AdaptiveThrottle("bedrock")
    bedrock_client = Service(answer)

    async def process_with_bedrock(data):
        async with bedrock_throttle.acquire():
            # Acquired a slot - proceed with API call
            start = time.time()

            try:
                result = await bedrock_client.invoke(data)

                # Record success with latency
                latency = time.time() - start
                bedrock_throttle.record_success(latency=latency)

                return result

            except ThrottleException as e:  # noqa: F841
                # API says we're going too fast
                bedrock_throttle.record_throttle()
                raise

            except TimeoutError as e:  # noqa: F841
                # Possible capacity issue
                bedrock_throttle.record_timeout()
                raise

    if isinstance(answer, Exception):
        with pytest.raises(type(answer)):
            asyncio.run(process_with_bedrock("data"))
    else:
        assert asyncio.run(process_with_bedrock("data")) == "text"
        assert bedrock_throttle.stats()["current_p95_latency"] is not None
    assert bedrock_client.calls == [("data",)]
    assert (bedrock_throttle.max_inflight, bedrock_throttle.stats()["current_inflight"]) == (limit, 0)


def test_no_more_calls_than_the_limit_are_under_way() -> None:
    throttle = AdaptiveThrottle("bedrock", ThrottleConfig(initial_limit=3))
    under_way, most = 0, 0

    @with_throttle(throttle)
    async def call(gate: asyncio.Event) -> None:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await gate.wait()
        under_way -= 1

    async def main() -> None:
        gate = asyncio.Event()
        calls = [asyncio.create_task(call(gate)) for _ in range(8)]
        for _ in range(20):
            await asyncio.sleep(0)
        assert (under_way, throttle.waiting) == (3, 5)
        gate.set()
        await asyncio.gather(*calls)

    asyncio.run(main())
    assert throttle.stats()["total_successes"] == 8


# -- throttle: how it works -------------------------------------------------------------------------------------------


def successes(throttle: AdaptiveThrottle, number: int, latency: float | None = None) -> int:
    for _ in range(number):
        throttle.record_success(latency=latency)
    return throttle.max_inflight


def test_successes_raise_the_limit_10_11_12_13() -> None:
    throttle = AdaptiveThrottle("api")
    assert successes(throttle, 9) == 10
    assert [successes(throttle, number) for number in (1, 10, 10)] == [11, 12, 13]


@pytest.mark.parametrize(
    ("before", "event", "after"), [(13, "record_throttle", 6), (12, "record_throttle", 6), (10, "record_timeout", 7)]
)
def test_a_throttle_error_halves_and_a_timeout_takes_three_tenths(before: int, event: str, after: int) -> None:
    throttle = AdaptiveThrottle("api", ThrottleConfig(initial_limit=before))
    getattr(throttle, event)()
    assert throttle.max_inflight == after


def test_the_feedback_loop_from_5_to_12_to_6_to_9() -> None:
    throttle = AdaptiveThrottle("api", ThrottleConfig(initial_limit=5))
    limits = [throttle.max_inflight, *(successes(throttle, 10) for _ in range(7))]
    throttle.record_throttle()
    limits += [throttle.max_inflight, *(successes(throttle, 10) for _ in range(3))]
    assert limits == [5, 6, 7, 8, 9, 10, 11, 12, 6, 7, 8, 9]


def test_rising_latency_pauses_increases_and_throttle_errors_still_cut() -> None:
    throttle = AdaptiveThrottle("api", ThrottleConfig(
        enable_latency_tracking=True,
        latency_window_size=100,  # Track last 100 requests
        latency_increase_threshold=1.5  # Pause if latency 1.5x baseline
    ))  # fmt: skip
    assert successes(throttle, 100, latency=0.3) == 20  # stable: goes on
    assert successes(throttle, 50, latency=0.44) == 25  # 1.47 times the baseline: goes on
    assert successes(throttle, 49, latency=0.6) == 25  # rising: stays
    throttle.record_throttle()
    assert throttle.max_inflight == 12


def test_latency_that_has_doubled_is_not_normal_after_one_window() -> None:
    throttle = AdaptiveThrottle("api")
    assert successes(throttle, 100, latency=0.3) == 20
    assert successes(throttle, 100, latency=0.6) == 20


def test_without_latency_tracking_nothing_pauses() -> None:
    throttle = AdaptiveThrottle("api", ThrottleConfig(enable_latency_tracking=False))
    assert successes(throttle, 100, latency=0.3) == 20
    assert successes(throttle, 50, latency=9.0) == 25


# -- throttle: shared, watched, reset ---------------------------------------------------------------------------------


def test_an_executor_shares_one_throttle_by_name() -> None:
    seen: list[Any] = []

    def call_bedrock_sync(payload: dict[str, Any]) -> str:
        seen.append((payload["prompt"], get_or_create_throttle("bedrock").stats()["current_inflight"]))
        return "text"

    def execute_task(step):
        task_type = step['PAYLOAD']['task_type']  # fmt: skip

        if task_type == 'bedrock_inference':  # fmt: skip
            # Get shared throttle (created once, reused everywhere)
            throttle = get_or_create_throttle("bedrock")

            with throttle.acquire_sync():
                result = call_bedrock_sync(step['PAYLOAD'])  # fmt: skip

            return result  # noqa: RET504
        return None

    for prompt in ("one", "two"):
        assert execute_task({"PAYLOAD": {"task_type": "bedrock_inference", "prompt": prompt}}) == "text"
    assert execute_task({"PAYLOAD": {"task_type": "other"}}) is None
    assert seen == [("one", 1), ("two", 1)]
    assert list(all_throttles()) == ["bedrock"]
    assert get_or_create_throttle("bedrock").stats()["total_requests"] == 2
    assert get_or_create_throttle("bedrock") is not get_or_create_throttle("openai")


def test_stats_have_the_fields_of_the_specification_and_their_sums() -> None:
    throttle = get_or_create_throttle("bedrock", ThrottleConfig(initial_limit=15, max_limit=15))
    successes(throttle, 900, latency=0.3)
    successes(throttle, 50, latency=0.45)
    for _ in range(50):
        throttle.record_throttle()
    stats = {name: throttle.stats() for name, throttle in all_throttles().items()}
    assert stats == {
        "bedrock": {
            "max_inflight": 1,
            "current_inflight": 0,
            "available_capacity": 1,
            "total_requests": 1000,
            "total_successes": 950,
            "total_throttles": 50,
            "throttle_rate": 0.05,
            "current_p95_latency": 0.45,
            "baseline_latency": 0.3,
        }
    }
    assert json.loads(json.dumps(stats)) == stats


def test_stats_of_15_allowed_and_8_under_way_leave_7() -> None:
    throttle = AdaptiveThrottle("bedrock", ThrottleConfig(initial_limit=15))
    permits = [throttle.try_acquire() for _ in range(8)]
    stats = throttle.stats()
    assert [stats[name] for name in ("max_inflight", "current_inflight", "available_capacity")] == [15, 8, 7]
    for permit in permits:
        assert permit is not None
        permit.release()


def test_reset_goes_back_to_the_initial_state() -> None:
    throttle = get_or_create_throttle("bedrock")
    new = throttle.stats()
    successes(throttle, 200, latency=0.3)
    throttle.record_throttle()
    assert throttle.stats() != new
    reset_throttle("bedrock")
    assert throttle.stats() == new
    throttle.record_throttle()
    throttle.reset()
    assert throttle.stats() == new


# -- throttle: Bedrock ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "limit", "counted"),
    [
        ({"body": io.BytesIO(b'{"completion": "Qubits."}')}, 10, (1, 0)),
        (throttled("ThrottlingException"), 5, (0, 1)),
        (throttled("TooManyRequestsException"), 5, (0, 1)),
        (throttled("ValidationException"), 10, (0, 0)),
        (throttled("AccessDeniedException"), 10, (0, 0)),
    ],
)
def test_the_bedrock_example_learns_from_throttles_only(
    monkeypatch: pytest.MonkeyPatch, answer: Any, limit: int, counted: tuple[int, int]
) -> None:
    client_of, invoke_model = [], Service(answer)
    stub: Any = ModuleType("boto3")
    stub.client = lambda name: client_of.append(name) or SimpleNamespace(invoke_model=invoke_model)
    monkeypatch.setitem(sys.modules, "boto3", stub)

    import boto3

    # Configure throttle for Bedrock
    bedrock_throttle = AdaptiveThrottle("bedrock", ThrottleConfig(
        initial_limit=10,
        min_limit=2,
        max_limit=50,
        enable_latency_tracking=True
    ))  # fmt: skip

    def is_throttle_error(e):
        """Check if boto3 error is a throttle"""
        if isinstance(e, ClientError):
            error_code = e.response.get('Error', {}).get('Code', '')  # fmt: skip
            return error_code in ['ThrottlingException', 'TooManyRequestsException']  # fmt: skip
        return False

    @with_throttle(
        throttle=bedrock_throttle,
        throttle_exceptions=(ClientError,),
    )
    async def invoke_bedrock_model(prompt: str, model_id: str):
        """Invoke Bedrock model with adaptive throttling"""
        client = boto3.client('bedrock-runtime')  # fmt: skip

        try:
            response = client.invoke_model(
                modelId=model_id,
                body=json.dumps({"prompt": prompt}),
            )
            return json.loads(response['body'].read())  # fmt: skip

        except ClientError as e:
            if is_throttle_error(e):
                # Let decorator handle throttle recording
                raise
            # Non-throttle error - don't affect throttle state
            raise

    async def main() -> Any:
        result = await invoke_bedrock_model("Explain quantum computing", "anthropic.claude-v2")
        return result  # noqa: RET504

    if isinstance(answer, Exception):
        with pytest.raises(ClientError) as found:
            asyncio.run(main())
        assert found.value is answer
    else:
        assert asyncio.run(main()) == {"completion": "Qubits."}
    assert client_of == ["bedrock-runtime"]
    assert invoke_model.calls == [{"modelId": "anthropic.claude-v2", "body": '{"prompt": "Explain quantum computing"}'}]
    stats = bedrock_throttle.stats()
    assert stats["max_inflight"] == limit
    assert (stats["total_successes"], stats["total_throttles"]) == counted
    assert stats["current_inflight"] == 0


def test_the_bedrock_example_never_falls_below_its_two() -> None:
    bedrock_throttle = AdaptiveThrottle("bedrock", ThrottleConfig(initial_limit=10, min_limit=2, max_limit=50))
    call = with_throttle(throttle=bedrock_throttle, throttle_exceptions=(ClientError,))(Service(*[throttled()] * 2))
    for _ in range(2):
        with pytest.raises(ClientError):
            call()
    for _ in range(5):
        bedrock_throttle.record_throttle()
    assert bedrock_throttle.max_inflight == 2


def test_the_predicate_of_the_bedrock_example_may_stand_for_its_class() -> None:
    def is_throttle_error(e: BaseException) -> bool:
        return isinstance(e, ClientError) and e.response["Error"]["Code"] == "ThrottlingException"

    for code, limit in (("ThrottlingException", 5), ("TooManyRequestsException", 10)):
        throttle = AdaptiveThrottle("bedrock")
        with pytest.raises(ClientError):
            with_throttle(throttle=throttle, throttle_exceptions=is_throttle_error)(Service(throttled(code)))()
        assert throttle.max_inflight == limit


# -- throttle with backoff, and profiles ------------------------------------------------------------------------------


def test_throttle_and_backoff_combined_retry_within_one_slot() -> None:
    bedrock_throttle = AdaptiveThrottle("bedrock")
    api = Service(throttled(), throttled(), "done")

    # Combined: Throttle + Backoff
    @with_throttle(bedrock_throttle)
    @with_backoff(max_attempts=3, base_delay_ms=1000)
    async def robust_api_call(data):
        return await api.call(data)

    assert asyncio.run(robust_api_call("x")) == "done"
    assert len(api.calls) == 3
    stats = bedrock_throttle.stats()
    assert [stats[name] for name in ("total_requests", "total_successes", "total_throttles")] == [1, 1, 0]


def test_throttle_and_backoff_combined_record_the_refusal_that_is_left() -> None:
    bedrock_throttle = AdaptiveThrottle("bedrock")
    api = Service(*[throttled()] * 3)

    @with_throttle(bedrock_throttle)
    @with_backoff(max_attempts=3, base_delay_ms=1000)
    async def robust_api_call(data):
        return await api.call(data)

    with pytest.raises(ClientError):
        asyncio.run(robust_api_call("x"))
    assert (len(api.calls), bedrock_throttle.max_inflight) == (3, 5)


def test_the_conservative_profile_needs_20_successes_and_falls_to_three_tenths() -> None:
    throttle = AdaptiveThrottle("api", ThrottleConfig(
        initial_limit=5,
        additive_increase=1,
        multiplicative_decrease=0.3,  # More aggressive decrease
        success_threshold=20  # Require more successes before increasing
    ))  # fmt: skip
    assert [throttle.max_inflight, successes(throttle, 19), successes(throttle, 1)] == [5, 5, 6]
    throttle.record_throttle()
    assert throttle.max_inflight == 1


def test_the_aggressive_profile_grows_by_2_after_5_and_falls_to_seven_tenths() -> None:
    throttle = AdaptiveThrottle("api", ThrottleConfig(
        initial_limit=20,
        additive_increase=2,  # Increase faster
        multiplicative_decrease=0.7,  # Less aggressive decrease
        success_threshold=5  # Increase sooner
    ))  # fmt: skip
    throttle.record_throttle()
    assert [throttle.max_inflight, successes(throttle, 4), successes(throttle, 1)] == [14, 14, 16]


def test_the_latency_sensitive_profile_pauses_where_the_default_goes_on() -> None:
    sensitive = AdaptiveThrottle("api", ThrottleConfig(
        enable_latency_tracking=True,
        latency_window_size=50,
        latency_increase_threshold=1.3  # Very sensitive to latency
    ))  # fmt: skip
    default = AdaptiveThrottle("api", ThrottleConfig(latency_window_size=50))
    assert [successes(throttle, 50, latency=0.3) for throttle in (sensitive, default)] == [15, 15]
    assert [successes(throttle, 20, latency=0.42) for throttle in (sensitive, default)] == [15, 17]


@pytest.mark.parametrize(
    "name", ["with_backoff", "AdaptiveThrottle", "ThrottleConfig", "with_throttle", "get_or_create_throttle"]
)
def test_the_names_of_the_specification_are_also_those_of_the_package(name: str) -> None:
    part = fleetq_core.backoff if name == "with_backoff" else fleetq_core.throttle
    assert getattr(fleetq_core, name) is getattr(part, name)
