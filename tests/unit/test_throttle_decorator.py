"""with_throttle and the specification's examples, with stubs for the remote service only."""

from __future__ import annotations

import asyncio
import json
import re
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from fleetq_core.backoff import no_sleep, with_backoff
from fleetq_core.tasks import default_registry
from fleetq_core.throttle import AdaptiveThrottle, ThrottleConfig, is_throttle_error, with_throttle
from fleetq_core.throttle.judge import matches, wait_s

PAGE = (Path(__file__).parents[2] / "docs" / "throttle.md").read_text(encoding="utf-8")


class ClientError(Exception):
    """Stands in for botocore.exceptions.ClientError."""

    def __init__(self, code: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(code)
        self.response = {"Error": {"Code": code}, "ResponseMetadata": {"HTTPHeaders": headers or {}}}


class HttpError(Exception):
    def __init__(self, status: int, **headers: str) -> None:
        super().__init__(status)
        self.response = SimpleNamespace(status_code=status, headers=headers)


@pytest.mark.parametrize(
    ("code", "limit"), [("ThrottlingException", 5), ("TooManyRequestsException", 5), ("ValidationException", 10)]
)
def test_bedrock_with_the_broad_class_is_judged_by_its_code(code: str, limit: int) -> None:
    throttle = AdaptiveThrottle("bedrock", ThrottleConfig(initial_limit=10, min_limit=2, max_limit=50))

    @with_throttle(throttle=throttle, throttle_exceptions=(ClientError,))
    async def invoke_bedrock_model(prompt: str) -> Any:
        if code:
            raise ClientError(code)
        return json.loads(prompt)

    with pytest.raises(ClientError):
        asyncio.run(invoke_bedrock_model("{}"))
    assert (throttle.max_inflight, throttle.stats()["current_inflight"]) == (limit, 0)


@pytest.mark.parametrize(
    ("error", "limit"), [(ClientError("SlowDown"), 5), (TimeoutError(), 7), (KeyError("x"), 10), (HttpError(503), 10)]
)
@pytest.mark.parametrize("kind", ["sync", "async"])
def test_outcomes_by_default(error: Exception, limit: int, kind: str) -> None:
    throttle = AdaptiveThrottle("api")

    @with_throttle(throttle)
    def call() -> None:
        raise error

    @with_throttle(throttle)
    async def call_async() -> None:
        raise error

    with pytest.raises(type(error)):
        call() if kind == "sync" else asyncio.run(call_async())
    assert throttle.max_inflight == limit


def test_a_predicate_has_the_last_word() -> None:
    assert matches(lambda error: "busy" in str(error), ValueError("busy"))
    assert not matches(lambda error: "busy" in str(error), ClientError("SlowDown"))
    assert matches(ValueError, ValueError())
    assert not is_throttle_error(ValueError())


def test_a_returned_429_is_a_refusal_and_its_header_is_honoured() -> None:
    throttle = AdaptiveThrottle("api")
    answers = iter([SimpleNamespace(status_code=429, headers={"Retry-After": "30"})])
    call = with_throttle(throttle)(lambda: next(answers))
    call()
    assert throttle.max_inflight == 5
    assert throttle.try_acquire() is None


@pytest.mark.parametrize(
    ("carrier", "seconds"),
    [
        (HttpError(429, **{"Retry-After": "7"}), 7),
        (HttpError(429, **{"retry-after": "Fri, 15 Jan 2027 08:00:09 GMT"}), 9),
        (HttpError(429, **{"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "1800000005"}), 5),
        (HttpError(429, **{"RateLimit-Remaining": "0", "RateLimit-Reset": "4"}), 4),
        (HttpError(429, **{"RateLimit-Remaining": "3", "RateLimit-Reset": "4"}), None),
        (HttpError(429, **{"Retry-After": "999999"}), 300),
        (HttpError(429, **{"Retry-After": "soon"}), None),
        (HttpError(429, **{"Retry-After": "nan"}), None),
        (ClientError("SlowDown", {"retry-after": "3"}), 3),
        (ValueError(), None),
        (None, None),
    ],
)
def test_what_headers_say(carrier: object, seconds: float | None) -> None:
    assert wait_s(carrier, now_ts=1_800_000_000.0) == seconds


def test_the_context_manager_of_the_specification() -> None:
    throttle = AdaptiveThrottle("bedrock")

    async def process(fail: Exception | None) -> str:
        async with throttle.acquire():
            start = time.time()
            try:
                if fail:
                    raise fail
                throttle.record_success(latency=time.time() - start)
            except ClientError:
                throttle.record_throttle()
                raise
            except TimeoutError:
                throttle.record_timeout()
                raise
            return "answer"

    assert asyncio.run(process(None)) == "answer"
    for error, limit in ((TimeoutError(), 7), (ClientError("x"), 7)):
        with pytest.raises(type(error)):
            asyncio.run(process(error))
        assert throttle.max_inflight <= limit


def test_a_retry_inside_the_throttle_as_the_specification_combines_them() -> None:
    throttle, attempts = AdaptiveThrottle("bedrock"), []

    @with_throttle(throttle)
    @with_backoff(max_attempts=3, base_delay_ms=1000)
    async def robust_api_call(data: str) -> str:
        attempts.append(data)
        if len(attempts) < 3:
            raise ClientError("ThrottlingException")
        return data

    with no_sleep():
        assert asyncio.run(robust_api_call("x")) == "x"
    assert (len(attempts), throttle.max_inflight, throttle.stats()["total_successes"]) == (3, 10, 1)


def test_the_profiles_of_the_specification() -> None:
    ThrottleConfig(initial_limit=5, additive_increase=1, multiplicative_decrease=0.3, success_threshold=20)
    ThrottleConfig(initial_limit=20, additive_increase=2, multiplicative_decrease=0.7, success_threshold=5)
    ThrottleConfig(enable_latency_tracking=True, latency_window_size=50, latency_increase_threshold=1.3)


@pytest.mark.parametrize("number", range(len(re.findall(r"```python", PAGE))))
def test_the_page_runs(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(default_registry, "_tasks", {})
    blocks = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    namespace: dict[str, Any] = {}
    for block in blocks[: number + 1]:
        exec(compile(block, f"throttle.md block {number}", "exec"), namespace)
