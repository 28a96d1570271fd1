"""Ollama's own templates beside ours.

    python integration/gotemplates.py tests/data/gotemplates.json.gz

writes what Ollama's package makes of the templates below and of 400 random ones, for the fast tests.
"""

import base64
import functools
import gzip
import json
import re
import subprocess
import sys
from pathlib import Path

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parent))

from go_program import GoProgram

from ollamaq.chat.gotemplate import GoTemplate, TemplateError, ollama_prompt
from ollamaq.errors import UsageError

OURS_ALONE = (
    "prints an address in memory",
    "complex numbers are not supported",
    "of a float64 is not supported",
    "exceeded maximum template depth",
    "nested too deep",
    "it takes more than",
    "it makes more than",
    "it goes too deep",
)
"""What we refuse, and Go does not."""

# --- templates ------------------------------------------------------------------------------------------------------

# fmt: off
NAMES = ("System", "Messages", "Tools", "Response", "Prompt", "Think", "ThinkLevel", "IsThinkSet", "Role", "Content",
         "Thinking", "ToolCalls", "Function", "Name", "Arguments", "Parameters", "Properties", "Required", "Type",
         "Description", "Enum", "Items", "ID", "Index", "Images", "ToolName", "ToolCallID", "Missing", "a", "n", "Len")
CONSTANTS = ('"user"', '"assistant"', '"system"', '"tool"', '""', '"a<b>&\\"é\\n"', '`raw`', "'x'", "'\\n'", "0", "1",
             "2", "-1", "1.5", "0x10", "1e3", "1_0", "0b1", "07", "true", "false", "nil", '"\\xff"', '"日本"', "1e30",
             "9223372036854775807", "9223372036854775808", '"%d"', "100000000.0")
FORMATS = ("%s", "%v", "%q", "%d", "%x", "%X", "%#v", "%+v", "%T", "%5s|", "%-5s|", "%05d", "%+d", "%.2s", "%.1f",
           "%c", "%U", "%*s", "%t", "%%", "%!", "%[1]v", "%[2]s", "%s %s", "%6.2f", "%g", "%e", "%b", "%o", "%#x",
           "% x", "%#q", "%+q", "%", "%03s", "%z", "%.*f", "%#U", "% d", "%O", "%w", "%5t|", "%-5d|", "%#o")
FUNCTIONS = ("eq", "ne", "lt", "le", "gt", "ge", "and", "or", "not", "len", "index", "slice", "print", "println",
             "html", "js", "urlquery", "json", "toTypeScriptType", "call", "nosuch")
TEXTS = (" ", "\n", "x", "<|im_start|>", "é🙂", "\n\n  ", "}}", "{", "-", "a\tb")
# fmt: on
LOOPS = (
    ("range $i, $m := .Messages", "$i $m"),
    ("range .Messages", ""),
    ("range $m := .Messages", "$m"),
    ("range .Tools", ""),
    ("range $k, $v := .Function.Parameters.Properties", "$k $v"),
    ("range .ToolCalls", ""),
    ("range $k, $v := .Function.Arguments", "$k $v"),
    ("range $n := 3", "$n"),
    ("range len .Content", ""),
)
VARIABLES = ("$", "$x", "$m", "$i", "$k", "$v", "$n")


def _operand() -> st.SearchStrategy[str]:
    field = st.lists(st.sampled_from(NAMES), min_size=1, max_size=2).map(lambda names: "." + ".".join(names))
    variable = st.builds(str.__add__, st.sampled_from(VARIABLES), st.one_of(st.just(""), st.just(""), field))
    return st.one_of(field, field, st.just("."), st.sampled_from(CONSTANTS), variable)


def _call(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    arg = st.one_of(_operand(), inner.map("({})".format), inner.map("({}).Content".format))
    args = st.lists(arg, max_size=3).map(" ".join)
    return st.one_of(
        st.builds("{} {}".format, st.sampled_from(FUNCTIONS), args),
        st.builds('printf "{}" {}'.format, st.lists(st.sampled_from(FORMATS), max_size=3).map("".join), args),
        st.builds("{} | {}".format, inner, st.sampled_from([*FUNCTIONS, 'printf "%v"', "eq 1", 'printf "%-8q|"'])),
        st.builds("{} {} {}".format, st.sampled_from(["eq", "ne", "lt", "index", "slice"]), arg, arg),
        st.builds("{} {}".format, st.sampled_from(["json", "len", "print", "not", "html", "js"]), arg),
    )


PIPES = st.recursive(_operand(), _call, max_leaves=4)


def _blocks(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    body = st.lists(inner, max_size=3).map("".join)
    otherwise = st.one_of(st.just(""), body.map("{{{{ else }}}}{}".format))
    chained = st.builds("{{{{ else if {} }}}}{}".format, PIPES, body)
    leaving = st.sampled_from(
        ["", "", "{{ break }}", "{{ continue }}", "{{ if eq .Role `user` }}{{ continue }}{{ end }}"]
    )
    return st.one_of(
        st.builds("{{{{ if {} }}}}{}{}{}{{{{ end }}}}".format, PIPES, body, st.one_of(st.just(""), chained), otherwise),
        st.builds("{{{{- with {} }}}}{}{}{{{{ end -}}}}".format, PIPES, body, otherwise),
        st.builds(
            "{{{{ {} }}}}{}{}{}{{{{- end }}}}".format,
            st.sampled_from([loop for loop, _ in LOOPS]),
            body,
            leaving,
            otherwise,
        ),
        st.builds("{{{{ range {} }}}}{}{{{{ end }}}}".format, PIPES, body),
        st.builds('{{{{ define "t" }}}}{}{{{{ end }}}}{{{{ template "t" {} }}}}'.format, body, PIPES),
        st.builds('{{{{ block "b" {} }}}}{}{{{{ end }}}}'.format, PIPES, body),
    )


LEAVES = st.one_of(
    st.sampled_from(TEXTS),
    PIPES.map("{{{{ {} }}}}".format),
    PIPES.map("{{{{- {} -}}}}".format),
    PIPES.map("{{{{ $x := {} }}}}".format),
    PIPES.map("{{{{ $x = {} }}}}".format),
    st.just("{{/* c */}}"),
    st.just("{{- /* c */ -}}"),
)
BLOCKS = st.recursive(LEAVES, _blocks, max_leaves=8)
WHOLE = st.lists(BLOCKS, min_size=1, max_size=5).map("".join)
DECLARED = WHOLE.map(
    "{{{{ $x := 0 }}}}{{{{ $i := 0 }}}}{{{{ $m := . }}}}{{{{ $k := . }}}}{{{{ $v := . }}}}{{{{ $n := 1 }}}}{}".format
)
PIECES = (
    *(
        "{{",
        "}}",
        "{{-",
        "-}}",
        "{{ ",
        " }}",
        " -}}",
        "{{- ",
        "/*",
        "*/",
        "{{/*",
        "*/}}",
        "(",
        ")",
        "|",
        ",",
        ":=",
        "=",
        ":",
    ),
    *(
        "if ",
        "range ",
        "with ",
        "end",
        "else",
        "define ",
        "block ",
        "template ",
        "break",
        "continue",
        "nil",
        "$",
        "$x",
        ".",
    ),
    *(
        ".A",
        ".Messages",
        ".Response",
        '"',
        "'",
        "`",
        "\\",
        "\n",
        " ",
        "1",
        "1.",
        "0x",
        "1i",
        "1+2i",
        "é",
        "_",
        "true",
        "len ",
    ),
    *(
        "printf ",
        '"t"',
        "{{ end }}",
        "{{ if . }}",
        "{{ range . }}",
        "{{ else }}",
        "x",
        "%",
        "#",
        "\x00",
        "\u200b",
        "9" * 25,
    ),
)
BROKEN = st.one_of(
    st.lists(st.sampled_from(PIECES), max_size=12).map("".join),
    st.builds(
        lambda text, at, piece: text[: at % (len(text) + 1)] + piece + text[at % (len(text) + 1) :],
        WHOLE,
        st.integers(0, 300),
        st.sampled_from(PIECES),
    ),
    st.builds(lambda text, at: text[: at % (len(text) + 1)], WHOLE, st.integers(0, 300)),
)

# Templates that mostly work: what may be said by where it is said.
# fmt: off
TEXTS_AT = {
    "top": (
        "$.System", ".System", "len .Messages", "json .Tools", ".Tools", ".Think", ".ThinkLevel", ".IsThinkSet",
        ".Missing", "json .Messages", ".Prompt", ".Suffix", ".Response", "currentDate | len",
    ),
    "message": (
        ".Content", ".Role", ".Thinking", "json .", ".", "len .Content", "slice .Content 0", "index .Content 0",
        ".Images", ".ToolCalls", "json .ToolCalls", ".ToolName", ".ToolCallID", "$.System", "len $.Messages",
        "html .Content", "js .Content", "urlquery .Content", "printf `%q %+q %x` .Content .Role .Thinking",
        "printf `%-6s|%6.2s|` .Role .Content", "printf `%v %+v %#v` .ToolCalls .Images .Thinking",
        "print .Role .Content 1 2 true", "println .Role nil 1.5", "(index $.Messages 0).Content",
        ".Content | printf `%s-%d` 1", "index $.Messages 1 | json", "slice $.Messages 1 | len",
    ),
    "call": (
        ".ID", ".Function.Name", ".Function.Index", ".Function.Arguments", "json .Function.Arguments", "json .", ".",
        "len .Function.Arguments", "printf `%v|%#v` .Function .Function.Arguments", ".Function.Arguments.a",
        "index .Function.Arguments `a b`",
    ),
    "any": (
        ".", "json .", "printf `%T %v %s %q` . . . .", "printf `%d %x %t` . . .", "printf `%#v %+v` . .", "html .",
        "print . 1 .", "$.System",
    ),
    "tool": (
        ".", "json .", ".Type", ".Function.Name", ".Function.Description", "json .Function", ".Function",
        ".Function.Parameters", "json .Function.Parameters", ".Function.Parameters.Properties",
        "len .Function.Parameters.Properties", ".Function.Parameters.Required",
        "printf `%#v` .Function.Parameters.Required", ".Items", "printf `%+v` .Function",
        "index .Function.Parameters.Properties `b`", ".Function.Parameters.Properties.a.Type", ".String | len",
    ),
    "property": (
        ".Type", "json .", ".Description", "json .Enum", ".Enum", ".Items", "toTypeScriptType .",
        ".ToTypeScriptType", "printf `%#v` .Type", ".Type.String", "json .Properties", ".Required", "json .Required",
        "len .AnyOf", ".Properties.Len", "len .Properties.ToMap", "printf `%T` .Properties", "json .AnyOf",
        "toTypeScriptType .Properties",
    ),
    "number": (
        ".", "printf `%03d %x %c %U %q %b` . . . . . .", "slice `abcdef` .", "index `abcd` .", "eq . 1",
        "print . `x` .",
    ),
}
CONDITIONS_AT = {
    "top": (
        ".System", ".Tools", ".Think", "and .IsThinkSet (not .Think)", "eq .ThinkLevel `high`",
        "or .Missing .System", "gt (len .Messages) 1",
    ),
    "message": (
        "eq .Role `user`", "ne .Role `tool` `x` | not", "eq .Role `system` `assistant`", ".Content", ".Thinking",
        ".ToolCalls", "and .ToolCalls (not .Content)", "or (eq .Role `user`) (eq .Role `tool`)",
        "lt (len .Content) 3", "le .Content `a`", "eq (slice .Content 0) .Content", "gt (index .Content 0) 65",
        "eq .Thinking nil", "ge .Role `b` | not",
    ),
    "call": (
        ".ID", ".Function.Arguments", "eq .Function.Index 0",
    ),
    "any": (
        ".", "eq . nil", "not .", "eq (printf `%v` .) `1`", "eq (json .) `null`",
    ),
    "tool": (
        ".Function.Parameters.Required", ".Items", "eq .Type `function`", ".Function.Description",
    ),
    "property": (
        ".Enum", ".Type", ".Properties", ".Items", "and .Description .Type", "eq (len .Type) 1",
    ),
    "number": (
        ".", "gt . 1", "eq . 0 2",
    ),
}
LOOPS_AT = {
    "top": (
        ("range .Messages", "message"), ("range $i, $m := .Messages", "message"), ("range .Tools", "tool"),
        ("range 3", "number"),
    ),
    "message": (
        ("range .ToolCalls", "call"), ("range $n := len .Content", "number"), ("with $x := .ToolCalls", "any"),
    ),
    "call": (
        ("range .Function.Arguments", "any"), ("range $k, $v := .Function.Arguments", "any"),
        ("with .Function.Arguments", "any"),
    ),
    "tool": (
        ("range $k, $v := .Function.Parameters.Properties", "property"),
        ("range .Function.Parameters.Properties", "property"), ("with .Function.Parameters.Required", "any"),
    ),
    "property": (
        ("range .Enum", "any"), ("with .Items", "any"), ("range .AnyOf", "property"),
        ("range $k, $v := .Properties.All", "property"),
    ),
    "any": (),
    "number": (),
}
# fmt: on


@st.composite
def working(draw: st.DrawFn, at: str = "top", depth: int = 3) -> str:
    """A template that mostly works."""
    made = []
    for _ in range(draw(st.integers(1, 3))):
        kind = draw(st.sampled_from(["say", "say", "text", "if", "loop", "loop", "set", "leave"]))
        open_, close = draw(st.sampled_from([("{{ ", " }}"), ("{{- ", " }}"), ("{{ ", " -}}"), ("{{- ", " -}}")]))
        if kind == "text":
            made.append(draw(st.sampled_from(TEXTS)))
        elif kind == "if" and depth:
            condition = draw(st.sampled_from(CONDITIONS_AT[at]))
            other = open_ + "else" + close + draw(working(at, depth - 1)) if draw(st.booleans()) else ""
            made.append(f"{open_}if {condition}{close}{draw(working(at, depth - 1))}{other}{{{{ end{close}")
        elif kind == "loop" and depth and LOOPS_AT[at]:
            loop, inside = draw(st.sampled_from(LOOPS_AT[at]))
            made.append(f"{open_}{loop}{close}{draw(working(inside, depth - 1))}{open_}end }}}}")
        elif kind == "set":
            expression = draw(st.sampled_from(TEXTS_AT[at]))
            made.append(f"{{{{ $y := {expression} }}}}{{{{ if $y }}}}{{{{ $y = 1 }}}}{{{{ end }}}}{{{{ $y }}}}")
        elif kind == "leave" and at != "top":
            condition = draw(st.sampled_from(CONDITIONS_AT[at]))
            made.append(
                f"{{{{ if {condition} }}}}{{{{ {draw(st.sampled_from(['break', 'continue']))} }}}}{{{{ end }}}}"
                if depth < 3
                else ""
            )
        else:
            made.append(open_ + draw(st.sampled_from(TEXTS_AT[at])) + close)
    return "".join(made)


TEMPLATES = st.one_of(working(), working(), working(), working(), DECLARED, WHOLE, BROKEN)

# --- chats ----------------------------------------------------------------------------------------------------------

CONTENTS = st.one_of(
    st.sampled_from(
        ["", "Hi.", "a\nb", "  x  ", "<think>é</think>", "日本語 🙂", '"q" & <b>', "[img]", "\u2028\x01\x7f", "{{ . }}"]
    ),
    st.text(max_size=8),
)
JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-5, 10**17), st.floats(-1e25, 1e25), CONTENTS),
    lambda inner: st.one_of(st.lists(inner, max_size=2), st.dictionaries(CONTENTS, inner, max_size=2)),
    max_leaves=4,
)
TYPES = st.sampled_from(
    ["string", "number", "integer", "boolean", "array", "object", "null", "odd", ["string", "null"], [], None]
)
PROPERTIES = st.recursive(
    st.fixed_dictionaries(
        {}, optional={"type": TYPES, "description": CONTENTS, "enum": st.lists(JSON, max_size=2), "default": JSON}
    ),
    lambda inner: st.fixed_dictionaries(
        {"type": TYPES},
        optional={
            "items": JSON,
            "anyOf": st.lists(inner, max_size=2),
            "properties": st.dictionaries(CONTENTS, inner, max_size=2),
            "required": st.lists(CONTENTS, max_size=2),
        },
    ),
    max_leaves=3,
)
PARAMETERS = st.fixed_dictionaries(
    {
        "type": st.just("object"),
        "properties": st.dictionaries(st.sampled_from(["b", "a", "é<"]), PROPERTIES, max_size=3),
    },
    optional={"required": st.lists(st.sampled_from("ab"), max_size=2), "$defs": JSON, "items": JSON},
)
TOOLS = st.lists(
    st.fixed_dictionaries(
        {"type": st.just("function")},
        optional={
            "function": st.fixed_dictionaries(
                {"name": CONTENTS}, optional={"description": CONTENTS, "parameters": PARAMETERS}
            ),
            "items": JSON,
        },
    ),
    max_size=2,
)
CALLS = st.lists(
    st.fixed_dictionaries(
        {
            "function": st.fixed_dictionaries(
                {"name": CONTENTS},
                optional={"arguments": st.dictionaries(CONTENTS, JSON, max_size=3), "index": st.integers(0, 3)},
            )
        },
        optional={"id": CONTENTS},
    ),
    max_size=2,
)
MESSAGES = st.fixed_dictionaries(
    {"role": st.sampled_from(["user", "user", "assistant", "assistant", "system", "tool", "User", "odd"])},
    optional={
        "content": CONTENTS,
        "thinking": CONTENTS,
        "tool_calls": CALLS,
        "tool_name": CONTENTS,
        "tool_call_id": CONTENTS,
    },
)
CHATS = st.fixed_dictionaries(
    {"messages": st.lists(MESSAGES, max_size=5)},
    optional={
        "tools": TOOLS,
        "think": st.sampled_from([True, False, "low", "high", None]),
        "prompt": st.sampled_from(["", "p"]),
        "suffix": st.sampled_from(["", "s"]),
    },
)
VALUES = st.dictionaries(st.sampled_from(NAMES), JSON, max_size=4)
QUESTIONS = st.one_of(
    st.builds(lambda template, chat: {"template": template, "chat": chat}, TEMPLATES, CHATS),
    st.builds(lambda template, chat: {"template": template, "chat": chat}, TEMPLATES, CHATS),
    st.builds(lambda template, values: {"template": template, "values": values}, TEMPLATES, VALUES),
)

TOOL = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": 'Of a place, "now" <&>',
        "parameters": {
            "type": "object",
            "required": ["city"],
            "properties": {
                "unit": {"type": "string", "enum": ["C", "F"]},
                "city": {"type": ["string", "null"], "description": "Where"},
                "days": {"anyOf": [{"type": "integer"}, {"type": "array", "items": {"type": "string"}}]},
                "more": {"type": "object", "properties": {"z": {"type": "number"}, "a": {}}, "required": ["a"]},
            },
        },
    },
}
CALLED = {
    "id": "c1",
    "function": {"name": "weather", "arguments": {"unit": "C", "city": "Zürich", "n": 3, "l": [1.5, None]}},
}
CHOSEN_CHATS = (
    {"messages": [{"role": "user", "content": "Hi."}]},
    {
        "messages": [{"role": "system", "content": "Be terse."}, {"role": "user", "content": "a<b> 日本\n"}],
        "think": True,
    },
    {
        "messages": [
            {"role": "user", "content": "one"},
            {"role": "user", "content": "two", "images": ["QUJD"]},
            {"role": "assistant", "content": "answer", "thinking": "so"},
            {"role": "system", "content": "late"},
            {"role": "user", "content": "[img] last", "images": ["QUJD", "/w=="]},
        ],
        "think": "high",
    },
    {
        "messages": [
            {"role": "user", "content": "Weather?"},
            {"role": "assistant", "content": "", "tool_calls": [CALLED, CALLED]},
            {"role": "tool", "content": "12", "tool_name": "weather", "tool_call_id": "c1"},
            {"role": "tool", "content": "13", "tool_name": "weather"},
            {"role": "assistant", "content": "Cold"},
        ],
        "tools": [TOOL, TOOL],
        "think": False,
    },
    {"messages": [], "prompt": "before", "suffix": "after"},
    {"messages": []},
)
CHOSEN = (
    "{{ .Prompt }}",
    "{{ .System }}|{{ .Prompt }}|{{ .Response }}|after",
    "{{ if .Prompt }}{{ .Prompt }}{{ if .Response }}:{{ .Response }} gone{{ end }} gone{{ end }} gone",
    "{{ if .Prompt }}{{ .Response }}{{ else }}other{{ end }}",
    '{{ printf "<%s %s>" .Response .Prompt }}tail',
    "{{ .Suffix }}<>{{ .Prompt }}{{ .Missing }}",
    "{{ json .Prompt }}{{ .Response }}{{ .Missing.Deeper }}",
    "{{ .Prompt }}{{ .Response }}{{ json 1 }}",
    "{{ .Prompt }}{{ json .Response }}",
    '{{ define "t" }}[{{ . }}]{{ end }}{{ range .Messages }}{{ template "t" .Content }}{{ end }}',
    '{{ define "t" }}[{{ . }}]{{ end }}{{ template "t" .Prompt }}',
    '{{ define "t" }}x{{ end }}{{ template "t" }}',
    "{{ (index .Messages 0).Content }}",
    "{{ .Messages | len }} {{ with .System }}{{ . }}{{ else }}none{{ end }}{{ .Think }}{{ .ThinkLevel }}"
    "{{ .IsThinkSet }}",
    "{{ range .Messages }}{{ . }}\n{{ json . }}\n{{ printf `%+v` .ToolCalls }}{{ .Images }}{{ end }}",
    "{{ .Tools }}{{ range .Tools }}{{ . }}{{ json .Function }}{{ .Function }}{{ end }}{{ .Messages | len }}",
    "{{ range .Tools }}{{ range $k, $v := .Function.Parameters.Properties }}{{ $k }}:{{ toTypeScriptType $v }}"
    " {{ $v.ToTypeScriptType }}"
    " {{ $v.Type }} {{ json $v }} {{ $v.Enum }}{{ with $v.Properties }}{{ .Len }}{{ range $n, $p := .All }}"
    "{{ $n }}{{ end }}{{ json . }}"
    "{{ .ToMap | len }}{{ end }};{{ end }}{{ end }}{{ len .Messages }}",
    "{{ range .Messages }}{{ range .ToolCalls }}{{ .Function.Name }}{{ .Function.Arguments }}"
    "{{ range $k, $v := .Function.Arguments }}"
    "{{ $k }}={{ $v }} {{ printf `%T %#v %s %d %q` $v $v $v $v $v }}{{ end }}{{ end }}{{ end }}",
    "{{ range $i, $m := .Messages }}{{ if gt $i 2 }}{{ break }}{{ end }}{{ if eq $m.Role `system` }}"
    "{{ continue }}{{ end }}"
    "{{ $last := eq (len (slice $.Messages $i)) 1 }}{{ $i }}{{ $last }}{{ $m.Content }}{{ end }}",
    "{{ range .Messages }}{{ $c := .Content }}{{ range len $c }}{{ index $c . }} {{ slice $c . }}|{{ end }}{{ end }}",
    "{{ range .Messages }}{{ if and .Content (ne .Role `tool`) (or .Thinking nil 1) }}{{ .Role }}{{ end }}"
    "{{ end }}{{ and }}",
    "{{ $x := 1 }}{{ range .Messages }}{{ $x = .Role }}{{ $y := $x }}{{ end }}{{ $x }}",
    "{{ range .Messages }}{{ html .Content }}{{ js .Content }}{{ urlquery .Content }}"
    "{{ printf `%q %+q %#q %x % X` .Content .Content .Content .Content .Content }}{{ end }}",
    "{{ .Messages.Foo }}",
    "{{ (index .Messages 0).Foo }}{{ .Messages }}",
    "{{ range .Messages }}{{ .Content.Foo }}{{ end }}",
    "{{ index .Messages 99 }}{{ range .Messages }}{{ end }}",
    "{{ range .Messages }}{{ eq .Content 1 }}{{ end }}",
    "{{ range .Messages }}{{ lt .ToolCalls 1 }}{{ end }}",
    "{{ slice `why` 99 }}",
    "{{ .X",
    "a\n{{ if }}",
    "\n\n{{ foo }}",
    "{{ range .Messages }}",
    "{{ end }}",
    '{{ "a\nb" }}',
    "{{ 'ab' }}{{ 1.5.x }}",
    "{{ break }}",
    "{{ $x }}",
    "{{ .A | 1 }}",
    "{{ 1 2 }}{{ .Response }}",
)


class Ollama(GoProgram):
    """Ollama's own package of templates."""

    NAME = "gotemplate"

    def __call__(self, question: dict) -> dict:
        answer = self.answer(question)
        text = base64.b64decode(answer["text"] or "").decode("utf-8", "ollamaq-go")
        outcome = {"error": answer["error"]} if "error" in answer else {"text": text}
        return outcome | {"vars": answer.get("vars", [])}


def ours(question: dict) -> dict:
    """What our engine says to the same question."""
    try:
        template = GoTemplate.parse(question["template"])
    except TemplateError as error:
        return {"error": error.go, "vars": []}
    told = {"vars": sorted(template.variables)}
    try:
        if "chat" in question:
            return {"text": ollama_prompt(template, **question["chat"])} | told
        return {"text": template.render(question["values"])} | told
    except TemplateError as error:
        return {"error": error.go} | told
    except UsageError as error:
        return {"error": f"request: {error}"} | told


def differ(question: dict, theirs: dict) -> str | None:
    """Where the two answers differ, but for what only we refuse and words that Go makes up anew each time."""
    mine = ours(question)
    error = mine.get("error", "")
    if mine == theirs or any(words in error for words in OURS_ALONE) or theirs.get("error") == "timeout":
        return None
    if error.startswith("request: ") and theirs.get("error", "").startswith("request: "):
        return None
    if re.search("0xc?[0-9a-f]{9,}", theirs.get("text", "") + theirs.get("error", "")):
        return None
    return f"{json.dumps(question)}\n  Ollama: {theirs}\n  we:     {mine}"


@functools.cache
def stock() -> dict[str, str]:
    """Ollama's stock templates, by name."""
    command = ("go", "list", "-C", Path(__file__).parent / "go" / "gotemplate", "-f", "{{.Dir}}")
    package = "github.com/ollama/ollama/template"
    directory = subprocess.run([*command, package], check=True, capture_output=True, text=True).stdout.strip()
    return {path.stem: path.read_text() for path in sorted(Path(directory).glob("*.gotmpl"))}


def write(target: Path) -> None:
    """Write questions and Ollama's answers."""
    ask = Ollama()
    questions = [{"template": text, "chat": chat} for text in CHOSEN for chat in CHOSEN_CHATS]

    @seed(2026)
    @settings(
        max_examples=400, database=None, deadline=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck)
    )
    @given(QUESTIONS)
    def collect(question: dict) -> None:
        questions.append(question)

    collect()
    asked = [(question, ask(question)) for question in questions]
    assert not [found for question, answer in asked if (found := differ(question, answer))]
    cases = [[question, answer] for question, answer in asked if ours(question) == answer]
    target.write_bytes(gzip.compress(json.dumps(cases).encode(), mtime=0))


if __name__ == "__main__":
    write(Path(sys.argv[1]))
