"""What a team's gate asks for beyond passing checks."""

import pytest

from ollamaq.errors import UsageError
from ollamaq.gate import Gate, read_gate
from ollamaq.servers.target import Reply
from ollamaq.smoke import CheckResult

LOADS = CheckResult("loads", True, "")
ANSWER = CheckResult("answer", True, "")
TOKENS = CheckResult("tokens", None, "needs the checkpoint")
BAD = CheckResult("prompt", False, "differs")


class Target:
    label, engine, version = "here", "Fake", "1"

    def __init__(self, **rates):
        self.rates = rates

    def digest(self, name):
        return name if name in self.rates else None

    def chat(self, name, messages, options, **request):
        return Reply("x", "stop", 1, 1, 1.0, tokens_per_second=self.rates[name], first_token=0.1)


def judged(gate, checks=(LOADS, ANSWER, TOKENS), **seen):
    return {check.name: check for check in gate.judged(checks, **seen)}


def test_no_gate_asks_for_nothing():
    assert list(judged(Gate())) == ["loads", "answer", "tokens"]


def test_a_required_check_must_be_made_and_pass():
    checks = judged(Gate("ollamaq.toml", required=("answer", "tokens", "prompt", "mine")), (LOADS, ANSWER, TOKENS, BAD))
    assert [name for name, check in checks.items() if check.ok is False] == [
        "prompt",
        "gate: tokens required",
        "gate: prompt required",
        "gate: mine required",
    ]
    assert checks["gate: tokens required"].detail == "tokens was not checked: needs the checkpoint"
    assert "ollamaq.toml: gate.required" in checks["gate: mine required"].detail


def test_a_model_has_a_largest_size():
    gate = Gate("ollamaq.toml", max_size="1KB", max_bits_per_weight=5.0)
    assert all(check.ok is not False for check in judged(gate, size=1000, bits_per_weight=5.0).values())
    checks = judged(gate, size=1001, bits_per_weight=5.1)
    assert checks["gate: max_size"].detail == "1001 bytes, where ollamaq.toml: gate.max_size allows 1KB (1000 bytes)"
    assert checks["gate: max_bits_per_weight"].blocks


@pytest.mark.parametrize(("rate", "ok"), [(20.0, True), (11.0, True), (9.0, False)])
def test_a_model_may_not_be_much_slower_than_the_one_before(rate, ok):
    seen = {"target": Target(new=rate, old=20.0), "staged": "new", "final": "old"}
    assert judged(Gate("f", max_slowdown=2.0), **seen)["gate: max_slowdown"].ok is ok


def test_the_first_version_has_none_before_it():
    seen = {"target": Target(new=1.0), "staged": "new", "final": "old"}
    assert judged(Gate("f", max_slowdown=2.0), **seen)["gate: max_slowdown"].ok is None


def test_the_same_model_again_is_no_slower_whatever_the_clock_says():
    target = Target(new=1.0, old=20.0)
    target.digest = lambda name: "same"
    seen = {"target": target, "staged": "new", "final": "old"}
    assert judged(Gate("f", max_slowdown=1.2), **seen)["gate: max_slowdown"].ok


def test_a_package_alone_has_a_size_and_passes_no_required_check():
    checks = judged(Gate("f", required=("prompt",), max_size="1KB"), (), size=1001)
    assert [name for name, check in checks.items() if check.blocks] == ["gate: prompt required", "gate: max_size"]
    assert judged(Gate("f", max_size="1KB"), (), size=1000)["gate: max_size"].ok


def test_cases_that_were_not_checked_are_not_counted_as_passed():
    unchecked = [CheckResult(f"unchecked {i}", None, "", case=f"unchecked {i}") for i in range(9)]
    assert any(check.blocks for check in Gate("f", pass_rate=0.8).judged([LOADS, *unchecked, *cases(0, 1)]))


def cases(passed, failed):
    return [CheckResult(f"case {i}", i < passed, "", case=f"case {i}") for i in range(passed + failed)]


def test_some_cases_of_a_suite_may_fail_where_the_gate_lets_them():
    gate = Gate("f", pass_rate=0.8)
    assert not any(check.blocks for check in gate.judged([LOADS, *cases(8, 2)]))
    assert sum(check.blocks for check in gate.judged([LOADS, *cases(7, 3)])) == 3
    assert any(check.blocks for check in gate.judged([LOADS, BAD, *cases(9, 1)]))
    required = Gate("f", pass_rate=0.5, required=("case 9",))
    assert sum(check.blocks for check in required.judged([LOADS, *cases(8, 2)])) == 2


def test_a_model_that_does_not_load_is_judged_no_further():
    broken = CheckResult("loads", False, "no")
    assert Gate("f", required=("answer",)).judged([broken]) == [broken]


def test_the_gate_is_that_of_the_repository(tmp_path):
    assert read_gate(tmp_path) == Gate()
    (tmp_path / "ollamaq.toml").write_text('[gate]\nrequired = ["answer"]\nmax_size = "2GB"\n')
    (tmp_path / "below").mkdir()
    gate = read_gate(tmp_path / "below")
    assert (gate.file, gate.required, gate.max_size) == ("ollamaq.toml", ("answer",), "2GB")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("requires = ['x']", r"gate\.requires is unknown; did you mean required"),
        ("max_size = 3", "gate.max_size is 3"),
        ("max_size = 'big'", "gate.max_size"),
        ("pass_rate = 1.5", "gate.pass_rate"),
        ("max_slowdown = 0", "gate.max_slowdown"),
        ("max_differing_prompts = -1", "gate.max_differing_prompts"),
        ("max_differing_prompts = 1.5", "gate.max_differing_prompts"),
    ],
)
def test_a_gate_that_cannot_be_is_refused_by_file_and_key(tmp_path, text, message):
    (tmp_path / "ollamaq.toml").write_text(f"[gate]\n{text}\n")
    with pytest.raises(UsageError, match=message):
        read_gate(tmp_path)
