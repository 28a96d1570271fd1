"""Templates that others call: JSON and texts of values as Python writes them, which Ollama's ``json`` does not.

``json.dumps`` puts a space after ``:`` and ``,`` and leaves ``<``, ``>`` and ``&`` alone. Templates whose names begin
with ``ascii`` escape what is beyond ASCII, too, those with ``html`` what HTML has other signs for. Tools have their
keys in the order of transformers' ``get_json_schema``, as Ollama does not keep the one that they came in.

In JSON, ``⟨`` stands for what comes before the first element, ``‚`` for what comes between two, and ``⟨if …⟩`` for what
comes after the last: nothing, a comma, nothing; or lines with an indentation, which each depth has templates of its own
for (``json tool 4 0``), as a template of Go's takes one argument.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from ollamaq.chat.derive import trimming

MAX_DEPTH = 9
"""Of indented JSON; what is deeper is an error when it is rendered."""


def _quoted(quote: str, others: str) -> str:
    """A text in JSON, byte by byte; ``others`` says what becomes of those that have no escape of their own."""
    return (
        quote
        + """
{{- range $at := len . }}{{ $byte := index $ $at }}
  {{- if eq $byte 34 }}\\⟨"⟩{{ else if eq $byte 92 }}\\\\{{ else if eq $byte 10 }}\\n{{ else if eq $byte 13 }}\\r
  {{- else if eq $byte 9 }}\\t{{ else if eq $byte 8 }}\\b{{ else if eq $byte 12 }}\\f""".replace('⟨"⟩', quote)
        + others
        + "\n{{- end }}"
        + quote
    )


STRING = _quoted(
    '"',
    """
  {{- else if lt $byte 32 }}{{ printf "\\\\u%04x" $byte }}
  {{- else }}{{ slice $ $at (len (printf "%*sx" $at "")) }}{{ end }}""",
)
ASCII = _quoted(
    '"',
    """
  {{- else if or (lt $byte 32) (eq $byte 127) }}{{ printf "\\\\u%04x" $byte }}
  {{- else if lt $byte 128 }}{{ printf "%c" $byte }}
  {{- else if ge $byte 240 }}{{ template "surrogates" (slice $ $at) }}
  {{- else if ge $byte 192 }}{{ slice (printf "%+q" (printf "%.1s" (slice $ $at))) 1 7 }}{{ end }}""",
)
HTML = _quoted(
    "&#34;",
    """
  {{- else if lt $byte 32 }}{{ printf "\\\\u%04x" $byte }}
  {{- else }}{{ html (slice $ $at (len (printf "%*sx" $at ""))) }}{{ end }}""",
)
SURROGATES = """
{{- $high := 55232 }}{{ $low := 56192 }}
{{- range $_ := len (slice (printf "%*s" (index . 0) "") 240) }}
  {{- $high = len (printf "%*s%256s" $high "" "") }}{{ end }}
{{- range $_ := len (slice (printf "%*s" (index . 1) "") 128) }}{{ $high = len (printf "%*s%4s" $high "" "") }}{{ end }}
{{- range $_ := len (slice (printf "%*s" (index . 2) "") 128) }}{{ $low = len (printf "%*s%64s" $low "" "") }}
  {{- if eq $low 57216 }}{{ $low = 56192 }}{{ $high = len (printf "%*sx" $high "") }}{{ end }}
{{- end }}{{ printf "\\\\u%04x\\\\u%04x" $high (len (printf "%*s%*s" $low "" (index . 3) "")) }}"""
ANY = """
{{- $type := printf "%T" . }}
{{- if eq $type "string" }}{{ template "json string" . }}
{{- else if eq $type "map[string]interface {}" }}{{ template "json arguments" . }}
{{- else if eq $type "[]interface {}" }}{{ template "json list" . }}
{{- else }}{{ json . }}{{ end }}"""
MAPPING = """{{- $next := "⟨" }}{
{{- range $key, $item := . }}{{ $next }}{{ $next = "‚" }}
  {{- template "json string" $key }}: {{ template "json" $item }}{{ end }}⟨if .⟩}"""
LIST = """{{- $next := "⟨" }}[
{{- range . }}{{ $next }}{{ $next = "‚" }}{{ template "json" . }}{{ end }}⟨if .⟩]"""
STRINGS = """{{- $next := "⟨" }}[
{{- range . }}{{ $next }}{{ $next = "‚" }}{{ template "json string" . }}{{ end }}⟨if .⟩]"""
PROPERTIES = """{{- $next := "⟨" }}{
{{- range $key, $item := . }}{{ $next }}{{ $next = "‚" }}
  {{- template "json string" $key }}: {{ template "json property" $item }}{{ end }}⟨if .⟩}"""
ALTERNATIVES = """{{- $next := "⟨" }}[
{{- range . }}{{ $next }}{{ $next = "‚" }}{{ template "json property" . }}{{ end }}⟨if .⟩]"""
PROPERTY = """{{- $next := "⟨" }}{
{{- if .AnyOf }}{{ $next }}"anyOf": {{ template "json alternatives" .AnyOf }}{{ $next = "‚" }}{{ end }}
{{- if .Type }}{{ $next }}"type": {{ if eq (len .Type) 1 }}{{ template "json string" (index .Type 0) }}
  {{- else }}{{ template "json strings" .Type }}{{ end }}{{ $next = "‚" }}{{ end }}
{{- if .Items }}{{ $next }}"items": {{ template "json schema" .Items }}{{ $next = "‚" }}{{ end }}
{{- if .Properties }}{{ $next }}"properties": {{ template "json properties" .Properties.ToMap }}
  {{- $next = "‚" }}{{ end }}
{{- if .Required }}{{ $next }}"required": {{ template "json strings" .Required }}{{ $next = "‚" }}{{ end }}
{{- if .Enum }}{{ $next }}"enum": {{ template "json list" .Enum }}{{ $next = "‚" }}{{ end }}
{{- if .Description }}{{ $next }}"description": {{ template "json string" .Description }}{{ $next = "‚" }}{{ end }}
{{- "" }}⟨if eq $next "‚"⟩}"""
SCHEMA = """
{{- if ne (printf "%T" .) "map[string]interface {}" }}{{ template "json" . }}{{ else }}{{ $next := "⟨" }}{
{{- if .type }}{{ $next }}"type": {{ template "json" .type }}{{ $next = "‚" }}{{ end }}
{{- if .items }}{{ $next }}"items": {{ template "json schema" .items }}{{ $next = "‚" }}{{ end }}
{{- if .properties }}{{ $next }}"properties": {{ template "json schemas" .properties }}{{ $next = "‚" }}{{ end }}
{{- if .required }}{{ $next }}"required": {{ template "json" .required }}{{ $next = "‚" }}{{ end }}
{{- if .enum }}{{ $next }}"enum": {{ template "json" .enum }}{{ $next = "‚" }}{{ end }}
{{- if .description }}{{ $next }}"description": {{ template "json string" .description }}{{ $next = "‚" }}{{ end }}
{{- range $key, $item := . }}
  {{- if not (eq $key "type" "items" "properties" "required" "enum" "description") }}{{ $next }}
    {{- template "json string" $key }}: {{ template "json" $item }}{{ $next = "‚" }}{{ end }}
{{- end }}⟨if .⟩}{{ end }}"""
SCHEMAS = """{{- $next := "⟨" }}{
{{- range $key, $item := . }}{{ $next }}{{ $next = "‚" }}
  {{- template "json string" $key }}: {{ template "json schema" $item }}{{ end }}⟨if .⟩}"""
PARAMETERS = """{{ "{⟨" }}"type": {{ template "json string" .Type }}{{ "‚" -}}
"properties": {{ template "json properties" .Properties }}
{{- if ne (printf "%#v" .Required) "[]string(nil)" }}{{ "‚" -}}
"required": {{ template "json strings" .Required }}{{ end }}⟨if true⟩}"""
FUNCTION = """{{ "{⟨" }}"name": {{ template "json string" .Name }}{{ "‚" }}
{{- if .Description }}"description": {{ template "json string" .Description }}{{ "‚" }}{{ end -}}
"parameters": {{ template "json parameters" .Parameters }}⟨if true⟩}"""
TOOL = """{{ "{⟨" }}"type": {{ template "json string" .Type }}{{ "‚" -}}
"function": {{ template "json function" .Function }}⟨if true⟩}"""
UPPER = """
{{- range $at := len . }}{{ $byte := index $ $at }}
  {{- if and (ge $byte 97) (le $byte 122) }}{{ printf "%c" (len (slice (printf "%*s" $byte "") 32)) }}
  {{- else }}{{ slice $ $at (len (printf "%*sx" $at "")) }}{{ end }}
{{- end }}"""
STR = """
{{- $type := printf "%T" . }}
{{- if eq $type "string" }}{{ . }}{{ else }}{{ template "repr" . }}{{ end }}"""
REPR = """
{{- $type := printf "%T" . }}
{{- if eq $type "string" }}{{ template "repr string" . }}
{{- else if eq $type "map[string]interface {}" }}{{ template "repr arguments" . }}
{{- else if eq $type "[]interface {}" }}{{ template "repr list" . }}
{{- else if eq $type "bool" }}{{ if . }}True{{ else }}False{{ end }}
{{- else if eq $type "<nil>" }}None{{ else }}{{ json . }}{{ end }}"""
REPR_STRING = r"""
{{- $single := false }}{{ $double := false }}
{{- range $at := len . }}{{ $byte := index $ $at }}
  {{- if eq $byte 39 }}{{ $single = true }}{{ else if eq $byte 34 }}{{ $double = true }}{{ end }}
{{- end }}
{{- $quote := "'" }}{{ if and $single (not $double) }}{{ $quote = "\"" }}{{ end }}{{ $quote }}
{{- range $at := len . }}{{ $byte := index $ $at }}
  {{- if eq $byte 92 }}\\{{ else if eq $byte 10 }}\n{{ else if eq $byte 13 }}\r{{ else if eq $byte 9 }}\t
  {{- else if and (eq $byte 39) (eq $quote "'") }}{{ if $double }}\{{ end }}'
  {{- else if or (lt $byte 32) (eq $byte 127) }}{{ printf "\\x%02x" $byte }}
  {{- else if lt $byte 128 }}{{ printf "%c" $byte }}
  {{- else if ge $byte 192 }}
    {{- $size := 2 }}{{ if ge $byte 240 }}{{ $size = 4 }}{{ else if ge $byte 224 }}{{ $size = 3 }}{{ end }}
    {{- $rune := slice (slice $ $at) 0 $size }}{{ $quoted := printf "%q" $rune }}
    {{- if ne (slice $quoted 1 2) "\\" }}{{ $rune }}
    {{- else if and (eq (slice $quoted 1 5) "\\u00") (lt (index $quoted 5) 103) }}\x{{ slice $quoted 5 7 }}
    {{- else }}{{ slice $quoted 1 (len (slice $quoted 1)) }}{{ end }}
  {{- end }}
{{- end }}{{ $quote }}"""

JSON = {
    "json": ANY,
    "json arguments": MAPPING,
    "json list": LIST,
    "json strings": STRINGS,
    "json properties": PROPERTIES,
    "json alternatives": ALTERNATIVES,
    "json property": PROPERTY,
    "json schema": SCHEMA,
    "json schemas": SCHEMAS,
    "json parameters": PARAMETERS,
    "json function": FUNCTION,
    "json tool": TOOL,
}
TEXTS = {
    "json string": STRING,
    "ascii json string": ASCII,
    "html json string": HTML,
    "surrogates": SURROGATES,
    "upper": UPPER,
    "str": STR,
    "repr": REPR,
    "repr string": REPR_STRING,
    **trimming.TEMPLATES,
}
SAME_DEPTH = ("json", "json schema")
"""Templates that may hand their argument on, and that are no brackets of their own then."""


def definitions(names: Iterable[str]) -> str:
    """The ``define`` of each template that is called, and of those that they call."""
    found: dict[str, str] = {}
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        if name not in found:
            found[name] = _body(name)
            waiting.extend(re.findall(r'template "([^"]+)"', found[name]))
    return "".join(f'{{{{- define "{name}" }}}}{body}{{{{ end }}}}\n' for name, body in sorted(found.items()))


def _body(name: str) -> str:
    """The text of a template; that of ``json tool 4 0`` is indented by 4 spaces at depth 0."""
    if name in TEXTS:
        return TEXTS[name]
    if name.startswith("ascii "):
        return _body(name.removeprefix("ascii ")).replace('template "json', 'template "ascii json')
    if name.startswith("html "):
        body = re.sub(r'"(\w+)": ', r"&#34;\1&#34;: ", _body(name.removeprefix("html ")))
        return body.replace('template "json', 'template "html json')
    if name.startswith("repr "):
        body = re.sub(r'"(\w+)": ', r"'\1': ", _body(name.replace("repr", "json")))
        return body.replace('template "json', 'template "repr')
    if name in JSON:
        return re.sub(r"⟨if [^⟩]*⟩", "", JSON[name]).replace("⟨", "").replace("‚", ", ")
    base, indent, depth = re.fullmatch(r"(.*) (\d+) (\d+)", name).groups()  # type: ignore[union-attr]
    width, level = int(indent), int(depth)
    if level > MAX_DEPTH and base != "json":  # which is for what is no list and no object, too
        return '{{ slice "nested too deeply" 99 }}'
    inner, outer = "\\n" + " " * width * (level + 1), "\\n" + " " * width * level

    def deeper(match: re.Match[str]) -> str:
        called = match[1]
        if called in TEXTS:
            return match[0]
        same = base in SAME_DEPTH and match[2] == " ."
        return f'template "{called} {width} {level if same else level + 1}"{match[2]}'

    text = re.sub(r'template "([^"]+)"( \S+)', deeper, JSON[base])
    text = re.sub(r"⟨if ([^⟩]*)⟩", lambda match: f'{{{{ if {match[1]} }}}}{{{{ "{outer}" }}}}{{{{ end }}}}', text)
    return text.replace("⟨", inner).replace("‚", "," + inner)
