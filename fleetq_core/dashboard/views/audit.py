"""The Audit screen: who ordered what and what came of it, how this pod is configured, and which versions live."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import SecretStr
from pydantic.fields import FieldInfo

from fleetq_core.commands import ALL_PODS, THE_LEADER, CommandKind
from fleetq_core.config import Config, variable_of
from fleetq_core.dashboard.snapshot import Snapshot
from fleetq_core.model import CommandAnswer, CommandRecord, format_ts
from fleetq_core.queue import STORE_OPERATOR
from fleetq_core.version import VERSION

from .pods import alive_pods, hearing_pods
from .words import Fact, duration, number, plural, shortened

STATES = ("refused", "open", "partly", "unheard", "done")
HEARD_FOR_S = 3600.0  # as long as `open_commands` in store/sql hands an order to pods
# What the queue does itself and writes into the log.
AUDITED = ("submit_steps", "requeue_steps", "cancel_steps", "replay_steps")
MOST_NAMED = 5  # pods in a sentence
NOT_SET, HIDDEN = "not set", "set (hidden)"


@dataclass(frozen=True, slots=True)
class OrderLine:
    """An order in a table."""

    state: list[str]
    order: str
    to: str
    by: str
    issued: str | None
    answers: str
    command_id: str


@dataclass(frozen=True, slots=True)
class AnswerLine:
    """What one pod answered."""

    state: list[str]
    pod: str
    answered: str | None
    after: str
    result: str


@dataclass(frozen=True, slots=True)
class SettingLine:
    """A setting of this pod."""

    variable: str
    value: str
    source: list[str]
    meaning: str


@dataclass(frozen=True, slots=True)
class VersionLine:
    """A version that living pods run."""

    version: str
    pods: int
    names: str
    same: str


def kind_words(kind: str) -> str:
    """A kind of order as a person reads it."""
    return kind.replace("_", " ")


def kinds(commands: Iterable[CommandRecord]) -> list[str]:
    """The kinds one may look for: all that this version knows, and those in the log that it does not."""
    known = [*CommandKind, *AUDITED]
    return [kind_words(kind) for kind in dict.fromkeys([*known, *sorted(r.command.kind for r in commands)])]


def people(commands: Iterable[CommandRecord]) -> list[str]:
    """Who has ordered something."""
    return sorted({record.command.issued_by for record in commands})


def matching(commands: Iterable[CommandRecord], kind: str | None, person: str | None) -> list[CommandRecord]:
    """The orders of a kind (in words) and a person; None means any."""
    return [
        record
        for record in commands
        if kind in (None, kind_words(record.command.kind)) and person in (None, record.command.issued_by)
    ]


def state_of(record: CommandRecord, snap: Snapshot) -> str:
    """What became of an order.

    refused (somebody could not do it), open (nobody has answered yet), unheard (nobody has, and nobody will),
    partly (living pods have not answered yet) or done.
    """
    if any(not answer.ok for answer in record.answers):
        return "refused"
    if not record.answers:
        return "open" if _is_heard(record, snap) else "unheard"
    return "partly" if _silent(record, snap) else "done"


def order_lines(commands: Iterable[CommandRecord], snap: Snapshot) -> list[OrderLine]:
    """The orders, in the order given."""
    return [
        OrderLine(
            state=[state_of(record, snap)],
            order=shortened(order_words(record)),
            to=target_words(record.command.target),
            by=shortened(record.command.issued_by),
            issued=format_ts(record.command.issued_ts),
            answers=shortened("; ".join(_told(answer) for answer in _refused_first(record.answers)), 300),
            command_id=record.command.command_id,
        )
        for record in commands
    ]


def order_words(record: CommandRecord) -> str:
    """What was ordered, with the argument that matters most."""
    kind, args = record.command.kind, record.command.args
    if kind == CommandKind.RESET_THROTTLE and args.get("name"):
        return f"{kind_words(kind)} {args['name']}"
    if kind in AUDITED and "count" in args:
        told = f"{kind.split('_')[0]} {plural(number(args['count']), 'step')}"
        return f"{told}: {args['filter']}" if args.get("filter") else told
    return kind_words(kind)


def target_words(target: str) -> str:
    """Whom an order is for."""
    return {ALL_PODS: "all pods", THE_LEADER: "the leader", STORE_OPERATOR: "the store"}.get(target, target)


def summary(commands: Sequence[CommandRecord], snap: Snapshot) -> list[Fact]:
    """How many orders went wrong, and how many wait."""
    states = [state_of(record, snap) for record in commands]
    refused, waits = states.count("refused"), states.count("open") + states.count("partly")
    unheard = states.count("unheard")
    return [
        Fact("Orders", f"{len(states):,}", hint="In the table below."),
        Fact("Refused", f"{refused:,}", "warn" if refused else "good", "At least one pod answered that it could not."),
        Fact("Wait for an answer", f"{waits:,}", "warn" if waits else "good", "Pods answer with their next heartbeat."),
        Fact("Unheard", f"{unheard:,}", "warn" if unheard else "good", "Nobody answered within the hour."),
    ]


def order_facts(record: CommandRecord) -> list[Fact]:
    """The head of one order."""
    command = record.command
    return [
        Fact("Order", kind_words(command.kind)),
        Fact("To", target_words(command.target)),
        Fact("By", command.issued_by),
        Fact("Issued (UTC)", format_ts(command.issued_ts) or "–"),
    ]


def answers_sentence(record: CommandRecord, snap: Snapshot) -> str:
    """Who answered and who has not."""
    answers, silent = record.answers, _silent(record, snap)
    refused = sum(not answer.ok for answer in answers)
    told = plural(len(answers), "answer") + (f", {refused:,} refused" if refused else "") if answers else "No answer"
    if not answers and not _is_heard(record, snap):
        return f"{told}. Pods obey an order for {duration(HEARD_FOR_S)}; this one is older, so nobody will."
    if silent:
        more = f" and {len(silent) - MOST_NAMED:,} more" if len(silent) > MOST_NAMED else ""
        return f"{told}. Not yet answered: {', '.join(silent[:MOST_NAMED])}{more}."
    if not answers and record.command.target == ALL_PODS:
        return f"{told}. No pod that lived when it was ordered lives now."
    if not answers and record.command.target not in (THE_LEADER, STORE_OPERATOR):
        return f"{told}. That pod does not live now, or began after the order."
    return f"{told}." if answers else f"{told} yet."


def answer_lines(record: CommandRecord) -> list[AnswerLine]:
    """Every answer, the refusals first."""
    return [
        AnswerLine(
            state=["done" if answer.ok else "refused"],
            pod=target_words(answer.pod_id),
            answered=format_ts(answer.done_ts),
            after=duration(answer.done_ts - record.command.issued_ts),
            result=shortened(answer.result, 500),
        )
        for answer in _refused_first(record.answers)
    ]


def refusals(record: CommandRecord) -> list[str]:
    """The refusals in full, a text for each."""
    return [f"{target_words(answer.pod_id)}: {answer.result}" for answer in record.answers if not answer.ok]


def setting_lines(config: Config) -> list[SettingLine]:
    """Every setting of this pod, those that were set first. Of a secret it tells only whether there is one."""
    lines = [
        SettingLine(
            variable=variable_of(name),
            value=_value(getattr(config, name), field),
            source=["set" if name in config.model_fields_set else "default"],
            meaning=field.description or "",
        )
        for name, field in Config.model_fields.items()
    ]
    return sorted(lines, key=lambda line: line.source != ["set"])


def version_lines(snap: Snapshot) -> list[VersionLine]:
    """The versions that living pods have published, those that are not this dashboard's first."""
    by_version: dict[str, list[str]] = {}
    for pod in alive_pods(snap):
        by_version.setdefault(str(pod.meta.get("version") or "unknown"), []).append(pod.pod_id)
    lines = [
        VersionLine(
            version=shortened(version),
            pods=len(names),
            names=shortened(", ".join(sorted(names)), 500),
            same="this dashboard's" if version == VERSION else "another",
        )
        for version, names in sorted(by_version.items())
    ]
    return sorted(lines, key=lambda line: line.same != "another")


def _told(answer: CommandAnswer) -> str:
    who = target_words(answer.pod_id)
    return f"{who}: {answer.result}" if answer.ok else f"{who} refused: {answer.result}"


def _refused_first(answers: Iterable[CommandAnswer]) -> list[CommandAnswer]:
    return sorted(answers, key=lambda answer: (answer.ok, answer.done_ts))


def _is_heard(record: CommandRecord, snap: Snapshot) -> bool:
    return record.command.issued_ts > snap.now_ts - HEARD_FOR_S


def _silent(record: CommandRecord, snap: Snapshot) -> list[str]:
    """The pods that will hear the order and have not answered."""
    command = record.command
    if not _is_heard(record, snap):
        return []
    answered = {answer.pod_id for answer in record.answers}
    return [
        pod.pod_id
        for pod in hearing_pods(snap)
        if command.target in (ALL_PODS, pod.pod_id) and pod.birth_ts <= command.issued_ts and pod.pod_id not in answered
    ]


def _value(value: Any, field: FieldInfo) -> str:
    # By the declared type too: a secret that reached the field as a plain text stays hidden.
    if isinstance(value, SecretStr) or "SecretStr" in repr(field.annotation):
        return HIDDEN if value else NOT_SET
    if isinstance(value, tuple):
        return ", ".join(str(part) for part in value) or NOT_SET
    if isinstance(value, float):
        return f"{value:g}"
    return NOT_SET if value in (None, "") else str(value)
