"""All rules, by their ids. An id never changes its meaning; what a rule says about itself becomes docs/rules."""

from __future__ import annotations

from collections.abc import Iterator

from ollamaq.modelfile.lint import about, grammar, model, origin, parameters, template
from ollamaq.modelfile.lint.rule import Context, Problem, Rule, Severity

ERROR, WARNING = Severity.ERROR, Severity.WARNING


def syntax(c: Context) -> Iterator[Problem]:
    """Ollama cannot read the file, and stops where this finding is. There is nothing to see behind that place, so no
    other rule is asked.
    """
    yield from ()


def ignore_without_reason(c: Context) -> Iterator[Problem]:
    """``# ollamaq: ignore RULE reason`` silences rules for the instruction below it. Whoever reads it next year wants
    to know why; without a reason, or with an id that no rule has, it silences nothing.
    """
    yield from ()


def unused_ignore(c: Context) -> Iterator[Problem]:
    """There is nothing to silence any more. The fix removes the comment, if none of its rules has anything to say."""
    yield from ()


RULES: tuple[Rule, ...] = (
    # written
    Rule("OQ001", "syntax", ERROR, syntax, "FORM llama3.2", "FROM llama3.2"),
    Rule(
        "OQ002",
        "ignore-without-reason",
        WARNING,
        ignore_without_reason,
        "# ollamaq: ignore OQ105\nPARAMETER temperature 3",
        "# ollamaq: ignore OQ105 for brainstorming, agreed with the team\nPARAMETER temperature 3",
    ),
    Rule(
        "OQ003",
        "unused-ignore",
        WARNING,
        unused_ignore,
        "# ollamaq: ignore OQ105 was hot once\nPARAMETER temperature 1",
        "PARAMETER temperature 1",
        fixable=True,
    ),
    Rule(
        "OQ004",
        "dropped-character",
        ERROR,
        grammar.dropped_character,
        "SYSTEM Prices are in\u00a0euros.",
        "SYSTEM Prices are in euros.",
        fixable=True,
    ),
    Rule("OQ005", "wrong-bytes", ERROR, grammar.wrong_bytes, "SYSTEM Caf\ufffd.", "SYSTEM Café."),
    Rule(
        "OQ006",
        "swallowed-instruction",
        ERROR,
        grammar.swallowed_instruction,
        'SYSTEM "Be brief." # house style\nPARAMETER temperature 0.2\nLICENSE "MIT"',
        '# house style\nSYSTEM "Be brief."\nPARAMETER temperature 0.2\nLICENSE "MIT"',
    ),
    Rule(
        "OQ007",
        "literal-escape",
        WARNING,
        grammar.literal_escape,
        r'PARAMETER stop "\n\nUser:"',
        'PARAMETER stop "\n\nUser:"',
    ),
    Rule("OQ008", "single-quotes", WARNING, grammar.single_quotes, "SYSTEM 'Be brief.'", 'SYSTEM "Be brief."'),
    Rule(
        "OQ009",
        "trailing-comment",
        WARNING,
        grammar.trailing_comment,
        "PARAMETER temperature 0.2 # for extraction",
        "# for extraction\nPARAMETER temperature 0.2",
        fixable=True,
    ),
    Rule(
        "OQ010",
        "does-not-read-back",
        WARNING,
        grammar.does_not_read_back,
        'SYSTEM """"Yes" is your only answer."""',
        'SYSTEM """Your only answer is "yes"."""',
    ),
    Rule("OQ011", "empty-value", WARNING, grammar.empty_value, 'SYSTEM ""', "SYSTEM Be brief."),
    Rule(
        "OQ012",
        "repeated-instruction",
        WARNING,
        grammar.repeated_instruction,
        "SYSTEM Be brief.\nSYSTEM Be kind.",
        "SYSTEM Be brief. Be kind.",
        fixable=True,
    ),
    # parameters
    Rule(
        "OQ101",
        "unknown-parameter",
        ERROR,
        parameters.unknown_parameter,
        "PARAMETER temprature 0.2",
        "PARAMETER temperature 0.2",
    ),
    Rule(
        "OQ102",
        "blanks-before-name",
        ERROR,
        parameters.blanks_before_name,
        "PARAMETER  temperature 0.2",
        "PARAMETER temperature 0.2",
        fixable=True,
    ),
    Rule("OQ103", "wrong-type", ERROR, parameters.wrong_type, "PARAMETER num_ctx 4k", "PARAMETER num_ctx 4096"),
    Rule(
        "OQ104",
        "removed-parameter",
        WARNING,
        parameters.removed_parameter,
        "PARAMETER mirostat 2",
        "PARAMETER min_p 0.05",
        fixable=True,
    ),
    Rule("OQ105", "out-of-range", WARNING, parameters.out_of_range, "PARAMETER top_p 90", "PARAMETER top_p 0.9"),
    Rule(
        "OQ106",
        "repeated-parameter",
        WARNING,
        parameters.repeated_parameter,
        "PARAMETER seed 1\nPARAMETER seed 2",
        "PARAMETER seed 2",
        fixable=True,
    ),
    Rule(
        "OQ107",
        "repeated-stop",
        WARNING,
        parameters.repeated_stop,
        "PARAMETER stop <|im_end|>\nPARAMETER stop <|im_end|>",
        "PARAMETER stop <|im_end|>",
        fixable=True,
    ),
    # chat format
    Rule(
        "OQ201",
        "empty-stop",
        ERROR,
        template.empty_stop,
        'PARAMETER stop ""',
        "PARAMETER stop <|im_end|>",
        fixable=True,
    ),
    Rule(
        "OQ202",
        "harmful-stop",
        WARNING,
        template.harmful_stop,
        "PARAMETER stop </think>",
        "PARAMETER stop <|im_end|>",
    ),
    Rule(
        "OQ203",
        "missing-stop",
        WARNING,
        template.missing_stop,
        "FROM ./model.gguf\nLICENSE MIT\n"
        'TEMPLATE """<|im_start|>user\n{{ .Prompt }}<|im_end|>\n<|im_start|>assistant\n"""',
        "FROM ./model.gguf\nLICENSE MIT\n"
        'TEMPLATE """<|im_start|>user\n{{ .Prompt }}<|im_end|>\n<|im_start|>assistant\n"""\n'
        "PARAMETER stop <|im_end|>",
        fixable=True,
    ),
    Rule(
        "OQ204",
        "bos-in-template",
        WARNING,
        template.bos_in_template,
        "TEMPLATE <s>[INST] {{ .Prompt }} [/INST]",
        "TEMPLATE [INST] {{ .Prompt }} [/INST]",
        fixable=True,
    ),
    Rule(
        "OQ205",
        "ignored-system",
        ERROR,
        template.ignored_system,
        "SYSTEM Be brief.\nTEMPLATE User: {{ .Prompt }}",
        "SYSTEM Be brief.\nTEMPLATE {{ .System }} User: {{ .Prompt }}",
    ),
    Rule(
        "OQ206",
        "template-without-prompt",
        ERROR,
        template.template_without_prompt,
        "TEMPLATE {{ .System }}",
        "TEMPLATE {{ .System }} {{ .Prompt }}",
    ),
    Rule(
        "OQ207",
        "jinja-template",
        ERROR,
        template.jinja_template,
        "TEMPLATE {% for m in messages %}{{ m.content }}{% endfor %}",
        "TEMPLATE {{ range .Messages }}{{ .Content }}{{ end }}",
    ),
    Rule(
        "OQ208",
        "broken-template",
        ERROR,
        template.broken_template,
        "TEMPLATE {{ if .System }}{{ .System }} {{ .Prompt }}",
        "TEMPLATE {{ if .System }}{{ .System }} {{ end }}{{ .Prompt }}",
    ),
    Rule(
        "OQ209",
        "incomplete-tools",
        WARNING,
        template.incomplete_tools,
        "TEMPLATE {{ .Tools }}{{ range .Messages }}{{ .Role }}: {{ .Content }} {{ end }}",
        "TEMPLATE {{ .Tools }}{{ range .Messages }}{{ .Role }}: {{ .Content }}{{ .ToolCalls }} {{ end }}",
    ),
    Rule(
        "OQ210",
        "ignored-template",
        WARNING,
        template.ignored_template,
        "RENDERER qwen3-coder\nPARSER qwen3-coder\nTEMPLATE User: {{ .Prompt }}",
        "RENDERER qwen3-coder\nPARSER qwen3-coder",
    ),
    Rule(
        "OQ211",
        "unknown-renderer",
        ERROR,
        template.unknown_renderer,
        "RENDERER qwen3coder\nPARSER qwen3-coder",
        "RENDERER qwen3-coder\nPARSER qwen3-coder",
    ),
    Rule(
        "OQ212",
        "bare-template",
        WARNING,
        template.bare_template,
        "TEMPLATE {{ .Prompt }}",
        "# no TEMPLATE: the model's own chat template is used",
    ),
    Rule(
        "OQ213",
        "almost-known-format",
        WARNING,
        template.almost_known_format,
        'TEMPLATE """{{ range .Messages }}<|im_start|>{{ .Role }}\n{{ .Content }}<|im_end|>{{ end }}'
        '<|im_start|>assistant\n"""\nPARAMETER stop <|im_end|>',
        'TEMPLATE """{{ range .Messages }}<|im_start|>{{ .Role }}\n{{ .Content }}<|im_end|>\n{{ end }}'
        '<|im_start|>assistant\n"""\nPARAMETER stop <|im_end|>',
    ),
    # origin
    Rule("OQ301", "missing-file", ERROR, origin.missing_file, "FROM ./missing.gguf", "FROM ./model.gguf\nLICENSE MIT"),
    Rule("OQ302", "invalid-name", ERROR, origin.invalid_name, "FROM llama 3.2", "FROM llama3.2"),
    Rule("OQ303", "cloud-model", WARNING, origin.cloud_model, "FROM gpt-oss:120b-cloud", "FROM gpt-oss:20b"),
    Rule(
        "OQ304",
        "adapter",
        ERROR,
        origin.adapter,
        "ADAPTER ./lora.gguf",
        "# FROM leads to the merged model",
    ),
    Rule(
        "OQ305",
        "safetensors",
        ERROR,
        origin.safetensors,
        "FROM ./checkpoint\nLICENSE MIT",
        "FROM ./model.gguf\nLICENSE MIT",
    ),
    Rule(
        "OQ306", "not-gguf", ERROR, origin.not_gguf, "FROM ./notes.gguf\nLICENSE MIT", "FROM ./model.gguf\nLICENSE MIT"
    ),
    Rule(
        "OQ307",
        "store-path",
        WARNING,
        origin.store_path,
        "FROM /root/.ollama/models/blobs/sha256-" + "4f" * 32,
        "FROM llama3.2",
    ),
    Rule(
        "OQ308",
        "missing-draft",
        ERROR,
        origin.missing_draft,
        "FROM ./model.gguf\nLICENSE MIT\nDRAFT ./missing.gguf",
        "FROM ./model.gguf\nLICENSE MIT\nDRAFT ./draft.gguf",
    ),
    Rule("OQ309", "reserved-name", ERROR, origin.reserved_name, "FROM llama3.2", "FROM llama3.2"),
    # about
    Rule(
        "OQ401",
        "missing-licence",
        WARNING,
        about.missing_licence,
        "FROM ./model.gguf",
        "FROM ./model.gguf\nLICENSE MIT",
    ),
    Rule("OQ402", "invalid-requires", ERROR, about.invalid_requires, "REQUIRES newest", "REQUIRES 0.34.1"),
    Rule(
        "OQ403",
        "requires-not-met",
        WARNING,
        about.requires_not_met,
        "REQUIRES 0.9.0\nRENDERER qwen3-coder\nPARSER qwen3-coder",
        "REQUIRES 0.14.0\nRENDERER qwen3-coder\nPARSER qwen3-coder",
    ),
    Rule(
        "OQ404",
        "secret",
        ERROR,
        about.secret,
        "SYSTEM Ask the service with the password: hunter2hunter2",
        "SYSTEM Ask the service.",
    ),
    # the model, where one is given
    Rule(
        "OQ501",
        "context-too-long",
        WARNING,
        model.context_too_long,
        "PARAMETER num_ctx 1000000\nPARAMETER stop <|im_end|>",
        "PARAMETER num_ctx 4096\nPARAMETER stop <|im_end|>",
    ),
    Rule(
        "OQ502",
        "model-stop-missing",
        WARNING,
        model.model_stop_missing,
        "PARAMETER temperature 0.2",
        "PARAMETER temperature 0.2\nPARAMETER stop <|im_end|>",
        fixable=True,
    ),
    Rule(
        "OQ503",
        "unknown-token",
        ERROR,
        model.unknown_token,
        "PARAMETER stop <|im_end|>\nPARAMETER stop <|eot_id|>",
        "PARAMETER stop <|im_end|>",
    ),
    Rule(
        "OQ504",
        "lost-capability",
        WARNING,
        model.lost_capability,
        "TEMPLATE {{ range .Messages }}{{ .Role }}: {{ .Content }} {{ end }}\nPARAMETER stop <|im_end|>",
        "PARAMETER stop <|im_end|>",
    ),
    Rule(
        "OQ505",
        "context-beyond-memory",
        WARNING,
        model.context_beyond_memory,
        "PARAMETER num_ctx 65536\nPARAMETER stop <|im_end|>",
        "PARAMETER num_ctx 4096\nPARAMETER stop <|im_end|>",
    ),
)

BY_ID = {rule.id: rule for rule in RULES}
SYNTAX, NO_REASON, UNUSED = (BY_ID[id_] for id_ in ("OQ001", "OQ002", "OQ003"))
