"""What a suite can say of an answer: one function for each check, which tells what is wrong, or nothing."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from ollamaq.servers.target import Reply
from ollamaq.smoke.checks import quoted, wrong_answer, wrong_end


class CannotCheck(Exception):
    """A check that could not be made here, and why; it has neither passed nor failed."""


LONGEST_LOOP = 400
"""Characters of what an answer says over and over."""
SENTENCE = 20
"""What is as long is a loop when it comes four times at an answer's end; what is shorter, when it comes eight times."""

REFUSAL = re.compile(
    r"\b(?:can(?:no|')t|can not|won't|will not|unable to|not able to|must decline)\b"
    r"|\bnot (?:going|allowed|comfortable) to\b"
    r"|\b(?:sorry|apologi[sz]e)\b[^.!?]*\b(?:but|cannot|can't|unable)\b|\bagainst my\b",
    re.IGNORECASE,
)

REFUSAL_SEEN = 240
"""Characters at an answer's beginning: who refuses says so at once."""
THOUGHT = re.compile(r"</?think(?:ing)?>", re.IGNORECASE)
"""Thoughts that were not told apart from the answer."""


def _loop(text: str) -> str | None:
    """What an answer says over and over at its end."""
    for whole in (text, f" {text.rstrip()}"):
        for length in range(2, LONGEST_LOOP + 1):
            unit = whole[-length:]
            if whole.endswith(unit * (4 if length >= SENTENCE else 8)) and any(map(str.isalnum, unit)):
                return unit.strip()
    return None


def _listed(value: str | list[str]) -> list[str]:
    return [value] if isinstance(value, str) else value


def _contains(reply: Reply, wanted: Any, checks: Mapping[str, Any]) -> str | None:
    missing = [text for text in _listed(wanted) if text.casefold() not in reply.text.casefold()]
    return f"{quoted(reply.text)} does not contain {missing[0]!r}" if missing else None


def _excludes(reply: Reply, unwanted: Any, checks: Mapping[str, Any]) -> str | None:
    found = [text for text in _listed(unwanted) if text.casefold() in reply.text.casefold()]
    return f"{quoted(reply.text)} contains {found[0]!r}" if found else None


def _regex(reply: Reply, expression: Any, checks: Mapping[str, Any]) -> str | None:
    return None if re.search(expression, reply.text) else f"{quoted(reply.text)} does not match {expression!r}"


def _equals(reply: Reply, wanted: Any, checks: Mapping[str, Any]) -> str | None:
    return None if reply.text.strip() == wanted.strip() else f"{quoted(reply.text)} is not {quoted(wanted)}"


def _json_schema(reply: Reply, schema: Any, checks: Mapping[str, Any]) -> str | None:
    try:
        import referencing
        from jsonschema import exceptions, validators
    except ImportError:
        raise CannotCheck("needs pip install 'ollamaq[suites]'") from None
    try:
        value = json.loads(reply.text)
    except (ValueError, RecursionError):
        return f"{quoted(reply.text)} is not JSON"
    try:
        kind = validators.validator_for(schema)
        kind.check_schema(schema)
        first = exceptions.best_match(kind(schema, registry=referencing.Registry()).iter_errors(value))
    except (referencing.exceptions.Unresolvable, exceptions.SchemaError) as error:
        raise CannotCheck(f"the schema cannot be used: {error}") from None
    return f"{quoted(reply.text)}: {first.json_path}: {first.message[:200]}" if first else None


def _stops(reply: Reply, wanted: Any, checks: Mapping[str, Any]) -> str | None:
    return wrong_end([reply]) if wanted else None


def _language(reply: Reply, wanted: Any, checks: Mapping[str, Any]) -> str | None:
    try:
        import py3langid
    except ImportError:
        raise CannotCheck("needs pip install 'ollamaq[suites]'") from None
    found = py3langid.classify(reply.text)[0]
    return None if found == wanted else f"{quoted(reply.text)} reads as {found}, not {wanted}"


def _refuses(reply: Reply, wanted: Any, checks: Mapping[str, Any]) -> str | None:
    begins = reply.text[:REFUSAL_SEEN].replace("’", "'")
    if bool(REFUSAL.search(begins)) == wanted:
        return None
    return f"{quoted(reply.text)} {'does not refuse' if wanted else 'refuses'}"


def _tool_call(reply: Reply, wanted: Any, checks: Mapping[str, Any]) -> str | None:
    arguments = wanted.get("arguments", {})
    for call in reply.tool_calls:
        if call.name == wanted["name"] and {key: call.arguments.get(key) for key in arguments} == arguments:
            return None
    made = ", ".join(f"{call.name}({json.dumps(call.arguments, ensure_ascii=False)})" for call in reply.tool_calls)
    return f"calls {made[:400]}" if made else f"calls nothing, and says {quoted(reply.text)}"


def _thinking(reply: Reply, wanted: Any, checks: Mapping[str, Any]) -> str | None:
    if found := THOUGHT.search(reply.text):
        return f"thoughts show in the answer, at {found[0]}: {quoted(reply.text)}"
    if bool(reply.thinking.strip()) == wanted:
        return None
    return "does not think" if wanted else f"thinks: {quoted(reply.thinking)}"


def _baseline(reply: Reply, recorded: Any, checks: Mapping[str, Any]) -> str | None:
    tolerance = checks.get("tolerance", 0)
    difference = 1 - difflib.SequenceMatcher(None, recorded.split(), reply.text.split(), autojunk=False).ratio()
    if difference <= tolerance:
        return None
    return f"{quoted(reply.text)} differs by {difference:.0%} from the baseline {quoted(recorded)}"


CHECKS: dict[str, Callable[[Reply, Any, Mapping[str, Any]], str | None]] = {
    "stops": _stops,
    "contains": _contains,
    "excludes": _excludes,
    "regex": _regex,
    "equals": _equals,
    "json_schema": _json_schema,
    "language": _language,
    "refuses": _refuses,
    "tool_call": _tool_call,
    "thinking": _thinking,
    "baseline": _baseline,
}


def wrong_reply(reply: Reply, checks: Mapping[str, Any], special_tokens: list[str]) -> str | None:
    """What is wrong with an answer; that it says something, leaks no marks and ends is always wanted.

    Raises:
        CannotCheck: nothing is wrong so far, but a check could not be made here.
    """
    if not reply.tool_calls and (wrong := wrong_answer(reply, None, special_tokens)):
        return wrong
    if loop := _loop(reply.text):
        return f"{quoted(loop)} over and over"
    unchecked = None
    for name, check in CHECKS.items():
        if name not in checks and name != "stops":
            continue
        try:
            if wrong := check(reply, checks.get(name, True), checks):
                return wrong
        except CannotCheck as why:
            unchecked = f"{name}: {why}"
    if unchecked:
        raise CannotCheck(unchecked)
    return None
