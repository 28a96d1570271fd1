"""Ollama's own parser of Modelfiles beside ours.

    python integration/modelfiles.py tests/data/modelfiles.json.gz

writes what Ollama's parser makes of the Modelfiles below and of 500 random ones, for the fast tests.
"""

import base64
import gzip
import json
import sys
from pathlib import Path

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parent))

from go_program import GoProgram

from ollamaq.modelfile.parameters import OPTIONS, read_parameter
from ollamaq.modelfile.parser import BLANK, KEYWORDS, ROLES, ModelfileError, decode, encode, parse
from ollamaq.modelfile.versions import NEWEST_VERSION, SEMVER

PIECES = (
    *(f"{keyword} " for keyword in KEYWORDS),
    *("FROM x\n", "from x\n", "From\tx", "FROM", "PARAMETER stop ", "PARAMETER  stop", "MESSAGE user ", "user "),
    *(
        "# c\n",
        "#",
        '"',
        '"""',
        "'",
        "\n",
        "\r",
        "\r\n",
        " ",
        "\t",
        "\\n",
        "x",
        "a_1 ",
        "1",
        "é",
        "🙂",
        "{{ .System }}",
    ),
    *("\u200b", "\u00a0", "\ufeff", "\u3000", "\u2028", "\x00", "\x0b", "\x0c", "\x85", "\u00ad", "\ufffd"),
    *("\u0cf3", "\u1c89", "\U000e0001", "\U0001fac6", "ſ", "K"),  # newer than some Pythons; letters with odd cases
)
QUOTED = st.sampled_from(["x", '"a b"', '"""a\nb"""', '"\n"', 'say "x"', "a\u200bb", '""']) | st.builds(
    lambda quote, inner, end: quote + inner + end,
    st.sampled_from(['"', '"""', ""]),
    st.lists(st.sampled_from(("a", '"', "\n", " ", "\t", '""', "b c", "\u00a0", "FROM y\n")), max_size=6).map("".join),
    st.sampled_from(['"', '"""', "", '" ', '"\u200b', '""']),
)
# fmt: off
VALUES = st.sampled_from((
    "0", "1", "-1", "+1", "0.5", ".5", "5.", "1e3", "1e40", "3.4e38", "3.5e38", "1e-50", "inf", "-Inf", "nan", "+nan",
    "NaN", "infinity", "0x1p-2", "0x1", "0X.8P1", "1.5", "-0.5e-3", "1_000", "1__0", "1_.5", "0x_1_fp1_0", "1_e5",
    "1e1_0", "true", "T", "FALSE", "yes", "9223372036854775807", "9223372036854775808", "-9223372036854775808", "1e",
    "1,5", "٣", "0.34.2", "v1", "v1.2", "1.2.3-rc.1+b", "1.2-rc", "01.2", "1.2.3-01", "1.2.3-", "v", "1.2.3+",
))
# fmt: on
COMMANDS = st.one_of(
    st.builds(lambda keyword, value: f"{keyword} {value}\n", st.sampled_from(KEYWORDS[:8] + KEYWORDS[10:]), QUOTED),
    st.builds(lambda name, value: f"PARAMETER {name} {value}\n", st.sampled_from([*OPTIONS, "x"]), VALUES),
    st.builds(lambda role, text: f"MESSAGE {role} {text}\n", st.sampled_from([*ROLES] * 3 + ["tool"]), QUOTED),
    st.builds(lambda value: f"REQUIRES {value}\n", VALUES),
)
TEXTS = st.one_of(
    st.lists(st.sampled_from(PIECES), max_size=14).map("".join),
    st.lists(COMMANDS, max_size=4).map(lambda commands: "FROM x\n" + "".join(commands)),
    st.lists(st.one_of(COMMANDS, st.sampled_from(PIECES)), max_size=10).map(lambda some: "FROM x\n" + "".join(some)),
)
ENCODED = st.builds(encode, TEXTS, st.sampled_from(["utf-8", "utf-8", "utf-8", "utf-8-sig", "utf-16-le", "utf-16-be"]))
WRONG = st.sampled_from(
    [b"\xff\xfe", b"\xef\xbb\xbf", b"\xc3", b"\xe2\x82", b"\xf0\x9f\x98", b"\xed\xa0\x80", b"\x80", b"\0"]
)
DAMAGED = st.builds(
    lambda data, at, wrong: data[: at % (len(data) + 1)] + wrong + data[at % (len(data) + 1) :],
    ENCODED,
    st.integers(0, 200),
    st.one_of(WRONG, st.just(b"")),
)
MODELFILES = st.one_of(ENCODED, DAMAGED, st.builds(lambda data, at: data[:at], ENCODED, st.integers(0, 60)))

CHOSEN = (
    'FROM x\nSYSTEM "a"\n',
    'FROM x\nSYSTEM "a" b\nPARAMETER seed 1\nLICENSE "MIT"\n',
    'FROM x\nSYSTEM """a\n"quoted"\nb"""\n',
    'FROM x\nSYSTEM "ends\nhere"\nSYSTEM there\n',
    'FROM x\nSYSTEM """"yes" or "no\n"""\n',
    "FROM x\nPARAMETER  temperature 1\n",
    "FROM x\nMESSAGE  user hi\n",
    "FROM x\nMESSAGE user : hi\n",
    "FROM a\rFROM b\r\nFROM c",
    "\ufeffFROM x\u00a0y\n",
    "FROM",
    "FROM ",
    "# only\n",
    "FORM x\n",
    "FROM x\nSYSTEM 'a\\n'\n",
)


INSTRUCTIONS = {"model", *(keyword.lower() for keyword in KEYWORDS if keyword not in ("FROM", "PARAMETER"))}


class Parser(GoProgram):
    """Ollama's own parser."""

    NAME = "modelfile"

    def __call__(self, modelfile: bytes) -> dict:
        return self.answer(base64.b64encode(modelfile).decode())


def differences(modelfile: bytes, answer: dict) -> list[str]:
    """Where our parser, and what we say of values, differ from Ollama's answer."""
    try:
        document = parse(*decode(modelfile))
    except ModelfileError as error:
        said = answer.get("error", "nothing")
        return [] if error.said in said else [f"Ollama says {said!r}, we say {error.said!r}"]
    theirs = [(command["name"], command["args"]) for command in answer.get("commands", ())]
    ours = [(command.ollama_name, _args(command)) for command in document.commands]
    if theirs != ours:
        return [f"Ollama reads {answer}, we read {ours}"]
    pairs = zip(answer["commands"], document.commands, strict=True)
    found = [
        f"{command}: Ollama says {theirs.get('refused')!r}"
        for theirs, command in pairs
        if ("refused" in theirs) != _refused(command)
    ]
    if str(document) != decode(modelfile)[0]:
        found.append("what was read is not printed as it was")
    spans = [(part.start, part.end) for part in document.parts]
    between = [
        document.text[a:b] for a, b in zip([0, *(e for _, e in spans)], [*(s for s, _ in spans), None], strict=True)
    ]
    return found + [f"{gap!r} lies between the parts" for gap in between if gap.strip(BLANK)]


def _args(command) -> str:
    return f"{command.name}: {command.value}" if command.keyword == "MESSAGE" else command.value


def _refused(command) -> bool:
    if command.keyword == "REQUIRES":
        return not SEMVER.fullmatch(command.value)
    if command.keyword != "PARAMETER":
        return False
    option = OPTIONS.get(command.name)
    if command.name == "requires":  # a PARAMETER of an instruction's name is taken for that
        return not SEMVER.fullmatch(command.value)
    if command.name in INSTRUCTIONS or (option and option.dropped):
        return False
    # typical_p is refused before this is asked
    if option is None or (option.refused and command.name != "typical_p"):
        return True
    assert option.since <= NEWEST_VERSION
    return read_parameter(option.type, command.value) is None


def write(target: Path) -> None:
    """Write Modelfiles and Ollama's answers."""
    ask, examples = Parser(), [text.encode() for text in CHOSEN]

    @seed(2026)
    @settings(max_examples=500, database=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
    @given(MODELFILES)
    def collect(modelfile: bytes) -> None:
        examples.append(modelfile)

    collect()
    cases = [[base64.b64encode(data).decode(), ask(data)] for data in dict.fromkeys(examples)]
    target.write_bytes(gzip.compress(json.dumps(cases).encode(), mtime=0))


if __name__ == "__main__":
    write(Path(sys.argv[1]))
