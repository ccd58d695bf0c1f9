"""A command to play with: throttle-sim."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict

import click

from fleetq_core.playground.play import (
    LONGEST_CALL_S,
    LONGEST_S,
    MOST_CLIENTS,
    SETTLED_S,
    SHORTEST_CALL_S,
    SHORTEST_S,
    Adaption,
    Kind,
    Moment,
    Played,
    capacities_of,
    play,
    scenario_of,
)
from fleetq_core.playground.scenario import Mode

from .group import as_json, main
from .printing import print_json

BAR = 30
SAYS_NO = {
    Mode.HARD: "refuses at once above its capacity",
    Mode.RATE: "refuses what is above a rate",
    Mode.TIMEOUTS: "never refuses: calls above its capacity wait, and time out",
}


@main.command("throttle-sim")
@click.option("--clients", type=click.IntRange(1, MOST_CLIENTS), default=1, show_default=True)
@click.option("--scope", type=click.Choice([kind.value for kind in Kind]), default=Kind.POD.value, show_default=True,
              help="A throttle for each client, one for all, or the plain AIMD of textbooks for each.")  # fmt: skip
@click.option("--mode", type=click.Choice([mode.value for mode in Mode]), default=Mode.HARD.value, show_default=True,
              help="How the downstream says no.")  # fmt: skip
@click.option("--steps", default="40,10,60", show_default=True, help="Its capacities, one after another.")
@click.option("--length", type=click.FloatRange(SHORTEST_S, LONGEST_S), default=900.0, show_default=True,
              help="Virtual seconds.")  # fmt: skip
@click.option("--mean-call", type=click.FloatRange(SHORTEST_CALL_S, LONGEST_CALL_S), default=1.0, show_default=True,
              help="Seconds of a call on average.")  # fmt: skip
@click.option("--seed", type=click.IntRange(min=0), default=1, show_default=True, help="The same seed, the same run.")
@as_json
def throttle_sim(
    clients: int, scope: str, mode: str, steps: str, length: float, mean_call: float, seed: int, as_json: bool
) -> None:
    """Watch a throttle follow a capacity that steps, in virtual time; needs no store and no pod."""
    try:
        scenario = scenario_of(capacities_of(steps), Mode(mode), clients, length, mean_call)
    except ValueError as exc:
        raise click.UsageError(str(exc)) from exc
    played = play(scenario, Kind(scope), seed)
    if as_json:
        print_json(asdict(played))
        return
    for line in _lines(played):
        click.echo(line)


def _lines(played: Played) -> Iterator[str]:
    scenario = played.scenario
    who = "1 client that always has" if scenario.clients == 1 else f"{scenario.clients} clients that always have"
    yield f"{who} work, scope {played.kind.value}. The downstream {SAYS_NO[scenario.mode]}."
    yield f"{scenario.length_s:g} s, calls of {scenario.mean_call_s:g} s on average, seed {played.seed}."
    yield ""
    yield from _timeline(played)
    if played.moments:
        whose = "" if scenario.clients == 1 else " of all" if played.kind is Kind.FLEET else " of the first client"
        yield ""
        yield f"What moved the limit{whose}:"
        yield from (f"  {_moment(moment)}" for moment in played.moments)
    yield ""
    yield from _figures(played)


def _timeline(played: Played) -> Iterator[str]:
    lost = _lost(played)
    yield f"{'second':>7}  {'capacity':>8}  {'limit':>5}  {'answered/s':>10}  {lost + '/s':>12}"
    most = max(max(part.capacity / played.scenario.mean_call_s, part.answered_per_s) for part in played.slices)
    for part in played.slices:
        can = round(BAR * part.capacity / played.scenario.mean_call_s / most)
        does = round(BAR * part.answered_per_s / most)
        bar = "█" * does + "░" * (can - does)
        figures = f"{part.answered_per_s:>10.2f}  {part.lost_per_s:>12.2f}"
        yield f"{part.at_s:>7.0f}  {part.capacity:>8}  {part.limit:>5}  {figures}  {bar}"


def _moment(moment: Moment) -> str:
    when = f"{moment.at_s:.0f}" if round(moment.at_s) == round(moment.until_s) else (
        f"{moment.at_s:.0f}–{moment.until_s:.0f}"
    )  # fmt: skip
    times = f", {moment.times} times" if moment.times > 1 else ""
    return f"{when:>9} s  {moment.before:>3} → {moment.after:<3}  {moment.reason}{times}"


def _figures(played: Played) -> Iterator[str]:
    lost = _lost(played)
    yield f"utilisation  {played.utilisation:.3f}   {lost}  {100 * played.lost_share:.2f} % of all calls"
    if played.steady_utilisation is not None and played.steady_lost_share is not None:
        steady = f"{played.steady_utilisation:.3f}   {lost}  {100 * played.steady_lost_share:.2f} %"
        yield f"     steady  {steady}   (without the first {SETTLED_S:g} s of each capacity)"
    if played.fairness is not None:
        yield f"   fairness  {played.fairness:.3f}   (Jain's index; 1 is even)"
    yield from map(_adaption, played.adaptions)


def _adaption(found: Adaption) -> str:
    goal = "no more than that under way" if found.after < found.before else "90 % of it used"
    when = "never in this phase" if found.seconds is None else f"after {found.seconds:.1f} s"
    return f"{found.before:>4} → {found.after:<4} {goal}: {when}"


def _lost(played: Played) -> str:
    return "timed out" if played.scenario.mode is Mode.TIMEOUTS else "refused"
