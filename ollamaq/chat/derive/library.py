"""Templates that others call: JSON and texts of values as Python writes them, which Ollama's ``json`` does not.

``json.dumps`` puts a space after ``:`` and ``,`` and leaves ``<``, ``>`` and ``&`` alone. Tools have their keys in the
order of transformers' ``get_json_schema``, as Ollama does not keep the one that they came in.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

STRING = """"
{{- range $at := len . }}{{ $byte := index $ $at }}
  {{- if eq $byte 34 }}\\"{{ else if eq $byte 92 }}\\\\{{ else if eq $byte 10 }}\\n{{ else if eq $byte 13 }}\\r
  {{- else if eq $byte 9 }}\\t{{ else if eq $byte 8 }}\\b{{ else if eq $byte 12 }}\\f
  {{- else if lt $byte 32 }}{{ printf "\\\\u%04x" $byte }}
  {{- else }}{{ slice $ $at (len (printf "%*sx" $at "")) }}{{ end }}
{{- end }}\""""
ANY = """
{{- $type := printf "%T" . }}
{{- if eq $type "string" }}{{ template "json string" . }}
{{- else if eq $type "map[string]interface {}" }}{{ template "json arguments" . }}
{{- else if eq $type "[]interface {}" }}[
  {{- range $at, $item := . }}{{ if $at }}, {{ end }}{{ template "json" $item }}{{ end }}]
{{- else }}{{ json . }}{{ end }}"""
MAPPING = """{
{{- $first := true }}
{{- range $key, $item := . }}{{ if not $first }}, {{ end }}{{ $first = false }}
  {{- template "json string" $key }}: {{ template "json" $item }}{{ end }}}"""
STRINGS = """[{{ range $at, $item := . }}{{ if $at }}, {{ end }}{{ template "json string" $item }}{{ end }}]"""
PROPERTIES = """{
{{- $first := true }}
{{- range $key, $item := . }}{{ if not $first }}, {{ end }}{{ $first = false }}
  {{- template "json string" $key }}: {{ template "json property" $item }}{{ end }}}"""
PROPERTY = """{
{{- $next := "" }}
{{- if .AnyOf }}"anyOf": [
  {{- range $at, $item := .AnyOf }}{{ if $at }}, {{ end }}{{ template "json property" $item }}{{ end }}]
  {{- $next = ", " }}{{ end }}
{{- if .Type }}{{ $next }}"type": {{ if eq (len .Type) 1 }}{{ template "json string" (index .Type 0) }}
  {{- else }}{{ template "json strings" .Type }}{{ end }}{{ $next = ", " }}{{ end }}
{{- if .Items }}{{ $next }}"items": {{ template "json schema" .Items }}{{ $next = ", " }}{{ end }}
{{- if .Properties }}{{ $next }}"properties": {{ template "json properties" .Properties.ToMap }}
  {{- $next = ", " }}{{ end }}
{{- if .Required }}{{ $next }}"required": {{ template "json strings" .Required }}{{ $next = ", " }}{{ end }}
{{- if .Enum }}{{ $next }}"enum": {{ template "json" .Enum }}{{ $next = ", " }}{{ end }}
{{- if .Description }}{{ $next }}"description": {{ template "json string" .Description }}{{ end }}}"""
SCHEMA = """
{{- if ne (printf "%T" .) "map[string]interface {}" }}{{ template "json" . }}{{ else }}{
{{- $next := "" }}
{{- if .type }}"type": {{ template "json" .type }}{{ $next = ", " }}{{ end }}
{{- if .items }}{{ $next }}"items": {{ template "json schema" .items }}{{ $next = ", " }}{{ end }}
{{- if .properties }}{{ $next }}"properties": {
  {{- $after := "" }}{{ range $key, $item := .properties }}{{ $after }}
    {{- template "json string" $key }}: {{ template "json schema" $item }}
    {{- $after = ", " }}{{ end }}}{{ $next = ", " }}{{ end }}
{{- if .required }}{{ $next }}"required": {{ template "json" .required }}{{ $next = ", " }}{{ end }}
{{- if .enum }}{{ $next }}"enum": {{ template "json" .enum }}{{ $next = ", " }}{{ end }}
{{- if .description }}{{ $next }}"description": {{ template "json string" .description }}{{ $next = ", " }}{{ end }}
{{- range $key, $item := . }}
  {{- if not (eq $key "type" "items" "properties" "required" "enum" "description") }}{{ $next }}
    {{- template "json string" $key }}: {{ template "json" $item }}{{ $next = ", " }}{{ end }}
{{- end }}}{{ end }}"""
PARAMETERS = """{"type": {{ template "json string" .Type }}
{{- if .Properties }}, "properties": {{ template "json properties" .Properties }}
{{- else }}, "properties": {}{{ end }}
{{- if ne (printf "%#v" .Required) "[]string(nil)" }}, "required": {{ template "json strings" .Required }}{{ end }}}"""
FUNCTION = """{"name": {{ template "json string" .Name }}
{{- if .Description }}, "description": {{ template "json string" .Description }}{{ end -}}
, "parameters": {{ template "json parameters" .Parameters }}}"""
TOOL = """{"type": {{ template "json string" .Type }}, "function": {{ template "json function" .Function }}}"""
STR = """
{{- $type := printf "%T" . }}
{{- if eq $type "string" }}{{ . }}{{ else if eq $type "bool" }}{{ if . }}True{{ else }}False{{ end }}
{{- else if eq $type "<nil>" }}None{{ else }}{{ template "repr" . }}{{ end }}"""
REPR = """
{{- $type := printf "%T" . }}
{{- if eq $type "string" }}'{{ . }}'{{ else if eq $type "map[string]interface {}" }}{
  {{- $next := "" }}{{ range $key, $item := . }}{{ $next }}'{{ $key }}': {{ template "repr" $item }}
    {{- $next = ", " }}{{ end }}}
{{- else if eq $type "[]interface {}" }}[
  {{- range $at, $item := . }}{{ if $at }}, {{ end }}{{ template "repr" $item }}{{ end }}]
{{- else if eq $type "bool" }}{{ if . }}True{{ else }}False{{ end }}
{{- else if eq $type "<nil>" }}None{{ else }}{{ json . }}{{ end }}"""

TEMPLATES = {
    "json string": STRING,
    "json": ANY,
    "json arguments": MAPPING,
    "json strings": STRINGS,
    "json properties": PROPERTIES,
    "json property": PROPERTY,
    "json schema": SCHEMA,
    "json parameters": PARAMETERS,
    "json function": FUNCTION,
    "json tool": TOOL,
    "str": STR,
    "repr": REPR,
}


def definitions(names: Iterable[str]) -> str:
    """The ``define`` of each template that is called, and of those that they call."""
    wanted, waiting = set(), list(names)
    while waiting:
        name = waiting.pop()
        if name not in wanted:
            wanted.add(name)
            waiting.extend(re.findall(r'template "([^"]+)"', TEMPLATES[name]))
    return "".join(f'{{{{- define "{n}" }}}}{body}{{{{ end }}}}\n' for n, body in TEMPLATES.items() if n in wanted)
