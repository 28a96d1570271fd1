"""The first suite: the model loads, answers, stops by itself, and is prompted as in training."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Callable, Sequence

from ollamaq.chat.compare import REFUSED
from ollamaq.chat.conversations import CONVERSATIONS
from ollamaq.chat.forms import asked
from ollamaq.chat.jinja import ChatFormat, TemplateRefuses
from ollamaq.errors import OllamaqError, ServerGone, UsageError
from ollamaq.servers.target import Message, Reply, Target, Unsupported
from ollamaq.smoke.cases import OPTIONS, Case
from ollamaq.smoke.checks import quoted, wrong_answer, wrong_end, wrong_regex
from ollamaq.smoke.picture import PICTURE
from ollamaq.smoke.prompts import Prompts
from ollamaq.smoke.result import DIFFERING, CheckResult
from ollamaq.smoke.run import run_suite
from ollamaq.smoke.tokens import wrong_ids

PROMPTS = ("What is the capital of France?",)
ONE = OPTIONS | {"num_predict": 1}
LOOK = "What is in this picture?"
NOTHING_TO_COMPARE = "no chat template of training to compare with"


Verdict = tuple[bool | None, str]


def run_smoke(
    target: Target,
    name: str,
    chat_format: ChatFormat | None,
    *,
    prompts: Sequence[str] | None = None,
    expect: str | None = None,
    tokenize: Callable[[str], list[int]] | None = None,
    sees: bool = False,
    cases: Sequence[Case] = (),
) -> list[CheckResult]:
    """Test a model where it runs. What goes wrong fails a check; only a server that is gone ends the test.

    Args:
        target: where it runs.
        name: the model.
        chat_format: the one of training, if it is known.
        prompts: questions, instead of the suite's own.
        expect: a case-insensitive regular expression that the first answer must contain.
        tokenize: the token ids of a prompt in training, if they can be had.
        sees: whether it must take pictures.
        cases: of a team's own suite.

    Raises:
        ServerGone: the server cannot be reached any more.
        UsageError: ``expect`` is not a regular expression.
    """
    if expect and (wrong := wrong_regex(expect)):
        raise UsageError(
            f"{expect!r} is not a regular expression: {wrong}", next_step="put \\ before marks such as ( [ *"
        )
    special_tokens = list(chat_format.special_tokens.values()) if chat_format else []
    questions = list(prompts or PROMPTS)
    replies: list[Reply] = []

    def loads() -> Verdict:
        replies.append(target.chat(name, _user(questions[0]), OPTIONS))
        return True, f"answered by {target.engine} {target.version}"

    def answer() -> Verdict:
        replies.extend(target.chat(name, _user(question), OPTIONS) for question in questions[1:])
        expected = [expect] + [None] * (len(replies) - 1)
        for question, reply, wanted in zip(questions, replies, expected, strict=True):
            if wrong := wrong_answer(reply, wanted, special_tokens):
                return False, f"{quoted(question)}: {wrong}"
        return True, f"{questions[0]} → {quoted(replies[0].text)}"

    def stops() -> Verdict:
        wrong = wrong_end(replies)
        return not wrong, wrong or f"after {', '.join(str(reply.answer_tokens) for reply in replies)} tokens"

    prompts_of = Prompts(target, name, chat_format) if chat_format else None
    differing: dict[str, float] = {}

    def prompt() -> Verdict:
        if not prompts_of or not chat_format:
            return None, NOTHING_TO_COMPARE
        if all(verdict.verdict == REFUSED for verdict in prompts_of.verdicts.values()):
            with contextlib.suppress(TemplateRefuses):
                chat_format.render(_user(PROMPTS[0]))
            return None, NOTHING_TO_COMPARE
        wrong = prompts_of.wrong
        if wrong:
            differing[DIFFERING] = prompts_of.differing
        return not wrong, wrong or prompts_of.summary

    def capabilities() -> Verdict:
        if not prompts_of:
            return None, NOTHING_TO_COMPARE
        wrong = prompts_of.wrong_capabilities()
        return not wrong, wrong or ", ".join(sorted(prompts_of.capabilities)) or "completion"

    def tokens() -> Verdict:
        rendered = prompts_of.comparable(CONVERSATIONS) if prompts_of else []
        if not rendered:
            return None, NOTHING_TO_COMPARE
        if tokenize is None:
            return None, "needs the checkpoint and pip install 'ollamaq[verify]'"
        for label, conversation, expected in rendered:
            messages, more = conversation.messages, asked(conversation)
            ids = tokenize(expected)
            if wrong := wrong_ids(theirs(expected) or ids, ids):
                return False, f"{label}: {wrong}"
            there, wanted = target.chat(name, messages, ONE, **more).prompt_tokens, len(ids)
            if there < wanted and target.chat(name, messages, ONE, **more).prompt_tokens <= 1:
                return None, f"{target.engine} {target.version} leaves out tokens that it still knew"
            if there != wanted:
                bos = chat_format.special_tokens.get("bos_token") if chat_format else None
                doubled = bos and there == wanted + 1 and expected.startswith(bos)
                why = f": the server puts another {bos} before the prompt's own" if doubled else ""
                return False, f"{label}: {there} tokens there, {wanted} in training{why}"
        same = "as many, with the same ids," if theirs(rendered[0][2]) else "as many"
        return True, f"{len(rendered)} of {len(rendered)} conversations {same} as in training"

    def theirs(text: str) -> list[int] | None:
        with contextlib.suppress(Unsupported):
            return target.tokenize(name, text)
        return None

    def picture() -> Verdict:
        said = {"role": "user", "content": LOOK}
        blind, seen = (target.chat(name, [message], ONE) for message in (said, said | {"images": [PICTURE]}))
        more = seen.prompt_tokens - blind.prompt_tokens
        return more > 0, f"a picture is {more} tokens" if more > 0 else "the server passes the picture over"

    first = _check("loads", loads)
    if not first.ok:
        return [first]
    rest = [
        ("answer", answer),
        ("stops", stops),
        ("prompt", prompt),
        ("capabilities", capabilities),
        ("tokens", tokens),
    ]
    if sees:
        rest.append(("picture", picture))
    own = [_check(label, run) for label, run in rest]
    own = [dataclasses.replace(check, measured=differing) if check.name == "prompt" else check for check in own]
    return [first, *own, *run_suite(target, name, cases, special_tokens)]


def apart(checks: Sequence[CheckResult], target: Target) -> list[CheckResult]:
    """Checks whose names tell on which version they were made: ``prompt@0.34.2``."""
    return [dataclasses.replace(check, name=f"{check.name}@{target.version}") for check in checks]


def _check(name: str, run: Callable[[], Verdict]) -> CheckResult:
    started = time.monotonic()
    try:
        ok, detail = run()
    except ServerGone:
        raise
    except OllamaqError as error:
        ok, detail = False, str(error)
    return CheckResult(name, ok, detail, time.monotonic() - started)


def _user(question: str) -> list[Message]:
    return [{"role": "user", "content": question}]
