"""Modelfiles are read as Ollama reads them, with the place of everything, and printed as they came."""

import base64
import gzip
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollamaq.errors import UsageError
from ollamaq.modelfile.format import formatted
from ollamaq.modelfile.parser import ModelfileError, decode, encode, parse, read_modelfile

# Modelfiles, with what Ollama 0.34.2 reads in them; integration/modelfiles.py writes it.
RECORDED = json.loads(gzip.decompress((Path(__file__).parent / "data" / "modelfiles.json.gz").read_bytes()))


def arguments(command):
    return f"{command.name}: {command.value}" if command.keyword == "MESSAGE" else command.value


def read(text):
    return [(command.ollama_name, arguments(command)) for command in parse(text).commands]


def test_modelfiles_are_read_as_ollama_read_them():
    for data, answer in RECORDED:
        modelfile = base64.b64decode(data)
        if "error" in answer:
            with pytest.raises(ModelfileError) as refused:
                parse(*decode(modelfile))
            assert refused.value.said in answer["error"], modelfile
        else:
            said = [(command["name"], command["args"]) for command in answer["commands"]]
            assert read(decode(modelfile)[0]) == said, modelfile
    assert sum("commands" in answer for _, answer in RECORDED) > 100
    assert sum("error" in answer for _, answer in RECORDED) > 50


def test_every_command_and_comment_has_its_place():
    text = '# a\r\nFROM x\r\n  PARAMETER stop "a\nb"  \n\tMESSAGE user hi\n# end'
    document = parse(text)
    assert str(document) == text
    assert [(text[part.start : part.end], document.place(part.start)) for part in document.parts] == [
        ("# a", (1, 1)),
        ("FROM x", (2, 1)),
        ('PARAMETER stop "a\nb"', (3, 3)),
        ("MESSAGE user hi", (5, 2)),
        ("# end", (6, 1)),
    ]
    assert [text[command.value_start : command.end] for command in document.commands] == ["x", '"a\nb"', "hi"]


@pytest.mark.parametrize(
    ("text", "place", "said"),
    [
        ("FROM x\n\nFORM y\n", (3, 1), "'FORM' is not an instruction"),
        ("FROM x\nMESSAGE tool hi\n", (2, 9), "'tool' is not a role"),
        ('FROM x\nSYSTEM "a\n', (2, 1), "the quotes of SYSTEM are never closed"),
        ("FROM x\nPARAMETER stop\n", (2, 1), "PARAMETER stop has no value"),
        ("FROM", (1, 1), "it ends within 'FROM'"),
        ("# nothing\n", (1, 1), "there is no FROM"),
    ],
)
def test_what_ollama_would_not_read_is_refused_with_its_place(text, place, said):
    with pytest.raises(ModelfileError, match=said) as refused:
        parse(text)
    assert (refused.value.line, refused.value.column) == place
    assert refused.value.next_step


def test_a_mistyped_instruction_is_recognised():
    with pytest.raises(ModelfileError) as refused:
        parse("PARAMTER temperature 1\n")
    assert refused.value.next_step == "did you mean PARAMETER?"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16-le", "utf-16-be"])
def test_a_file_keeps_its_encoding(tmp_path, encoding):
    path = tmp_path / "Modelfile"
    path.write_bytes(encode("FROM x\nSYSTEM Grüße 🙂\n", encoding))
    document = read_modelfile(path)
    assert document.encoding == encoding
    assert document.commands[1].value == "Grüße 🙂"
    assert encode(str(document), encoding) == path.read_bytes()


def test_a_file_that_is_not_there_or_too_large_is_refused(tmp_path, monkeypatch):
    with pytest.raises(UsageError, match=r"cannot read .*nothing: No such file"):
        read_modelfile(tmp_path / "nothing")
    (tmp_path / "Modelfile").write_text("FROM x\n")
    monkeypatch.setattr("ollamaq.modelfile.parser.MAX_BYTES", 3)
    with pytest.raises(UsageError, match="more than"):
        read_modelfile(tmp_path / "Modelfile")


def test_a_long_quoted_value_is_read_in_linear_time():
    licence = '"a\n' * 200_000
    assert parse(f'FROM x\nLICENSE """{licence}"""\n').commands[1].value == licence


PIECES = ('"', '"""', "\n", " ", "\t", "\r", "\r\n", "#", "é", "x", "\u00a0", "FROM y\n", "SYSTEM ", "PARAMETER stop ")
PIECES += ("PARAMETER  top_k 1\n", "# c\n", "MESSAGE user ", "\n\n\n", "from\tz\n", '"a\nb"\n')


@given(st.lists(st.sampled_from(PIECES), max_size=12).map(lambda pieces: "FROM x\n" + "".join(pieces)))
def test_the_formatter_changes_nothing_that_ollama_reads_and_nothing_twice(text):
    try:
        document = parse(text)
    except ModelfileError:
        return
    written = formatted(document)
    assert read(written) == read(text)
    assert formatted(parse(written)) == written
    comments = [part.text.rstrip() for part in document.parts if part not in document.commands]
    assert [part.text for part in parse(written).parts if not hasattr(part, "keyword")] == comments


def test_the_formatter_writes_one_style():
    text = 'from ./m.gguf\n\n\n\n#  note  \n  SYSTEM  "Be brief."\nLICENSE "a\nb"\nparameter stop """x"""\nADAPTER \n'
    assert formatted(parse(text)) == (
        'FROM ./m.gguf\n\n#  note\nSYSTEM Be brief.\nLICENSE """a\nb"""\nPARAMETER stop x\nADAPTER ""\n'
    )


def test_the_formatter_leaves_characters_that_ollama_drops_to_their_author():
    text = "FROM x\nSYSTEM a\u00a0b\n"
    assert formatted(parse(text)) == text


def test_the_formatter_keeps_windows_line_ends():
    assert formatted(parse("from x\r\nsystem a\r\n")) == "FROM x\r\nSYSTEM a\r\n"
