"""What the demo model does next, from the messages and the tools of a request and nothing else.

The loop is the one a language model would take: which datasources are there, what is in the one
that fits, a query, an answer. Every call is made once; a query that fails is tried once more
without its joins.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from embedded.demo_model import answers, sql
from embedded.demo_model.forms import is_question
from embedded.demo_model.plans import NotUnderstood, Overview, Plan, Query
from embedded.demo_model.questions import parse
from embedded.demo_model.schema import Schema
from embedded.demo_model.schema import parse as parse_schema
from embedded.demo_model.transcript import Exchange, Transcript, read
from embedded.demo_model.words import words

LIST, DESCRIBE, QUERY = "list_datasources", "describe_schema", "database_query"
MAX_DESCRIBED = 3  # datasources looked into when none is named
MAX_PARTS = 4
MAX_QUESTION_CHARS = 1000  # patterns take longer than linear time
HOPELESS = ("denied", "cancelled", "unavailable", "unreadable")  # no other query would fare better


@dataclass(frozen=True, slots=True)
class Call:
    """A tool call to make."""

    name: str
    arguments: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Action:
    """The next assistant message: text, calls, or both; without calls it is the answer."""

    text: str = ""
    calls: tuple[Call, ...] = ()


@dataclass(frozen=True, slots=True)
class Source:
    """A datasource that speaks SQL."""

    id: str
    name: str
    kind: str


@dataclass(slots=True)
class Results:
    """Results of `database_query`, by their query.

    A person who approves a call may change its query; such a result belongs to the first
    question that has none of its own.
    """

    known: dict[str, Exchange]
    others: list[Exchange] = field(default_factory=list)

    def take(self, query: str) -> Exchange | None:
        """The result of a query, or of the changed one that ran in its place."""
        if query in self.known:
            return self.known[query]
        return self.others.pop(0) if self.others else None


def decide(messages: Sequence[Mapping[str, Any]], tools: Collection[str]) -> Action:
    """The next step of the turn."""
    transcript = read(messages)
    if len(transcript.question) > MAX_QUESTION_CHARS:
        return _answer(f"{answers.CAN_DO} They are shorter than that; I read no long messages.")
    if not is_question(transcript.question):
        return _answer(f"Hello! {answers.CAN_DO} Ask me “what data is there?” to begin.")
    if not {LIST, DESCRIBE, QUERY} <= set(tools):
        return _answer(f"{answers.CAN_DO} This request gave me no tools to reach data with.")
    listings = transcript.of(LIST)
    if not listings:
        return Action(calls=(Call(LIST, {}),))
    if error := listings[-1].error:
        return _answer(answers.of_failure("list the datasources", error))
    sources = _sources(listings[-1].result)
    if not sources:
        return _answer("This project has no SQL datasource yet. Add one in the project's settings.")
    return _look(transcript, _candidates(sources, transcript.question))


def _answer(text: str) -> Action:
    return Action(text=answers.labelled(text))


def _sources(listing: Mapping[str, Any]) -> list[Source]:
    found = listing.get("datasources")
    return [
        Source(str(item["id"]), str(item.get("name") or ""), str(item.get("kind")))
        for item in (found if isinstance(found, list) else ())
        if isinstance(item, Mapping) and item.get("id") and item.get("kind") in sql.KINDS
    ]


def _candidates(sources: list[Source], question: str) -> list[Source]:
    """The datasources whose name has most words of the question; several when none has any."""
    asked = set(words(question))
    fit = {source: len(asked.intersection(words(source.name))) for source in sources}
    best = max(fit.values())
    found = [source for source in sources if fit[source] == best]
    return found[:MAX_DESCRIBED]


def _look(transcript: Transcript, candidates: list[Source]) -> Action:
    """Describe what is not described yet, then answer from the source that understands most."""
    described = {
        str(exchange.arguments.get("datasource_id")): exchange
        for exchange in transcript.of(DESCRIBE)
    }
    missing = [source for source in candidates if source.id not in described]
    if missing:
        calls = tuple(Call(DESCRIBE, {"datasource_id": source.id}) for source in missing)
        return Action(calls=calls)
    readable = [source for source in candidates if not described[source.id].error]
    if not readable:
        error = described[candidates[0].id].error or {}
        return _answer(answers.of_failure(f"read the schema of {candidates[0].name}", error))
    readings = []
    for source in readable:
        schema = parse_schema(described[source.id].result)
        plans = [_plan(part, source, schema) for part in _parts(transcript.question)]
        understood = sum(not isinstance(plan, NotUnderstood) for plan in plans)
        readings.append((understood, source, schema, plans))
    _, source, schema, plans = max(readings, key=lambda reading: reading[0])
    return _work(transcript, source, schema, plans)


def _parts(question: str) -> list[str]:
    return re.split(r"[,;]?\s+and also\s+", question, flags=re.IGNORECASE)[:MAX_PARTS]


def _plan(question: str, source: Source, schema: Schema) -> Plan | NotUnderstood:
    name = re.escape(source.name)
    named = (
        rf"\s*\b(?:in|from|of|using|on)\s+(?:the\s+)?{name}(?:\s+(?:database|datasource))?(?!\w)"
    )
    try:
        return parse(re.sub(named, "", question, flags=re.IGNORECASE), schema)
    except NotUnderstood as error:
        return error


def _work(
    transcript: Transcript, source: Source, schema: Schema, plans: list[Plan | NotUnderstood]
) -> Action:
    """Run what has not run; answer when everything has."""
    exchanges = transcript.of(QUERY)
    ours = {attempt for plan in plans for attempt in _attempts(plan, source.kind)}
    by_query = {str(exchange.arguments.get("query")): exchange for exchange in exchanges}
    others = [e for e in exchanges if str(e.arguments.get("query")) not in ours]
    results = Results(by_query, others)
    calls: list[Call] = []
    parts: list[str] = []
    repairs = False
    for plan in plans:
        if isinstance(plan, NotUnderstood):
            parts.append(f"{plan} {answers.CAN_DO}\n\n{answers.suggestions(schema)}")
        elif isinstance(plan, Overview):
            parts.append(answers.of_overview(plan, schema, source.name))
        else:
            outcome = _outcome(plan, source.kind, results)
            if isinstance(outcome, Exchange):
                parts.append(_told(plan, outcome))
            else:
                calls.append(Call(QUERY, {"datasource_id": source.id, "query": outcome}))
                repairs = repairs or bool(exchanges)
    if calls:
        return Action("That failed; once more without the join." if repairs else "", tuple(calls))
    return _answer("\n\n".join(parts))


def _attempts(plan: Plan | NotUnderstood, kind: str) -> list[str]:
    if not isinstance(plan, Query):
        return []
    simpler = plan.without_joins()
    return [sql.write(plan, kind)] + ([sql.write(simpler, kind)] if simpler else [])


def _outcome(plan: Query, kind: str, results: Results) -> Exchange | str:
    """The result to report, or the query to run."""
    last: Exchange | None = None
    for attempt in _attempts(plan, kind):
        exchange = results.take(attempt)
        if exchange is None:
            return attempt
        if not exchange.error or exchange.error.get("code") in HOPELESS:
            return exchange
        last = exchange
    assert last is not None  # noqa: S101 - a query has at least one attempt
    return last


def _told(plan: Query, exchange: Exchange) -> str:
    if exchange.error:
        return answers.of_failure("answer that, the query failed", exchange.error)
    if not all(isinstance(exchange.result.get(part), list) for part in ("rows", "columns")):
        return answers.of_failure("read the result", {"message": "it holds no rows."})
    return answers.of_query(plan, exchange.result)
