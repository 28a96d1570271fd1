"""Names and addresses mean to us what they mean to Ollama (its ``types/model`` and ``envconfig``)."""

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollamaq.errors import UsageError
from ollamaq.ollama.host import parse_host
from ollamaq.ollama.names import default_name, library_tag, parse_name, staging_name


@pytest.mark.parametrize(
    ("text", "shown", "parts"),
    [
        ("a", "a:latest", ("registry.ollama.ai", "library", "a", "latest")),
        ("Bot:Q8_0", "Bot:Q8_0", ("registry.ollama.ai", "library", "Bot", "Q8_0")),
        ("_x.y-z:1.0", "_x.y-z:1.0", ("registry.ollama.ai", "library", "_x.y-z", "1.0")),
        ("team/bot", "team/bot:latest", ("registry.ollama.ai", "team", "bot", "latest")),
        ("LIBRARY/bot", "bot:latest", ("registry.ollama.ai", "LIBRARY", "bot", "latest")),
        ("localhost:5000/team/bot", "localhost:5000/team/bot:latest", ("localhost:5000", "team", "bot", "latest")),
        ("http://reg.io:5000/n/m:t", "reg.io:5000/n/m:t", ("reg.io:5000", "n", "m", "t")),
        ("Registry.Ollama.AI/n/m:t", "n/m:t", ("Registry.Ollama.AI", "n", "m", "t")),
        ("x" * 80 + ":" + "t" * 80, "x" * 80 + ":" + "t" * 80, ("registry.ollama.ai", "library", "x" * 80, "t" * 80)),
    ],
)
def test_a_valid_name_gets_its_defaults_and_is_shown_short(text, shown, parts):
    assert parse_name(text).parts == parts
    assert str(parse_name(text)) == shown


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "model is missing"),
        ("a:", "tag is missing"),
        (":b", "model is missing"),
        ("/a", "namespace is missing"),
        ("a/", "model is missing"),
        ("h//m", "namespace is missing"),
        ("/n/m", "host is missing"),
        ("a:b:c", "model has ':'"),
        ("bad name", "model has ' '"),
        ("a:x y", "tag has ' '"),
        ("café", "model has 'é'"),
        ("../up", "namespace starts with '.'"),
        ("n.s/m", "namespace has '.'"),
        ("a/b/c/d", "host has '/'"),
        ("-a", "model starts with '-'"),
        ("a:.b", "tag starts with '.'"),
        ("a@sha256:3", "model has '@'"),
        ("a\n", "model has '\\n'"),
        ("x" * 81, "model has 81 characters, of 80"),
        ("m:" + "t" * 81, "tag has 81 characters, of 80"),
        ("h" * 351 + "/n/m", "host has 351 characters, of 350"),
        ("m:cloud", "reserves the tag 'cloud'"),
        ("m:120b-Cloud", "reserves the tag '120b-Cloud'"),
        ("m:local", "reserves the tag 'local'"),
    ],
)
def test_a_name_that_ollama_would_refuse_is_refused_with_the_part_and_the_reason(text, why):
    with pytest.raises(UsageError, match=re.escape(why)) as refused:
        parse_name(text)
    assert refused.value.next_step


@given(st.text(st.sampled_from("aB7_-.:/@é "), max_size=12))
def test_what_is_shown_of_a_name_means_the_same_model(text):
    try:
        name = parse_name(text)
    except UsageError:
        return
    assert parse_name(str(name)).same(name)
    assert all(re.fullmatch(r"\w[\w.:-]*", part, re.ASCII) for part in name.parts)


def test_case_does_not_tell_models_apart():
    assert parse_name("Bot:Q8_0").same(parse_name("registry.ollama.ai/library/bot:q8_0"))
    assert not parse_name("bot:q8_0").same(parse_name("bot:q8_1"))


@pytest.mark.parametrize(
    ("directory", "mix", "name", "full"),
    [
        ("finetune", "Q5_K_M", None, "finetune:q5_K_M"),
        ("/data/My Model (v2)", "F16", None, "my-model-v2:fp16"),
        ("/data/ünïcode_7B", "Q8_0", None, "n-code_7b:q8_0"),
        ("/data/weights.F16.gguf", "Q6_K", None, "weights.f16:q6_K"),
        ("/data/" + "x" * 100, "BF16", None, "x" * 80 + ":bf16"),
        ("finetune", "Q4_K_S", "team/bot", "team/bot:q4_K_S"),
        ("finetune", "Q4_K_S", "team/bot:prod", "team/bot:prod"),
        ("finetune", "Q8_0", "localhost:5000/team/bot", "localhost:5000/team/bot:q8_0"),
    ],
)
def test_a_model_is_named_after_its_directory_and_its_mix(directory, mix, name, full):
    assert default_name(Path(directory), mix, name) == full


def test_the_directory_one_stands_in_has_a_name(tmp_path, monkeypatch):
    (tmp_path / "Bot").mkdir()
    monkeypatch.chdir(tmp_path / "Bot")
    assert default_name(Path(), "Q8_0") == "bot:q8_0"


def test_a_directory_without_a_usable_name_needs_one():
    with pytest.raises(UsageError, match="模型") as refused:
        default_name(Path("/data/模型"), "Q8_0")
    assert "give a name" in refused.value.next_step


@pytest.mark.parametrize(
    ("mix", "tag"), [("Q4_0", "q4_0"), ("Q3_K_L", "q3_K_L"), ("F32", "fp32"), ("BF16", "bf16"), ("IQ4_XS", "iq4_XS")]
)
def test_tags_are_written_as_in_ollamas_library(mix, tag):
    assert library_tag(mix) == tag


def test_a_staging_name_is_valid_recognisable_and_follows_from_name_and_token():
    staged = staging_name("team/bot:prod", "ab" * 32)
    assert re.fullmatch("team/bot:staging-[0-9a-f]{12}", staged)
    assert staged == staging_name("TEAM/bot:prod", "ab" * 32).lower()
    others = {staging_name("team/bot:prod", "cd" * 32), staging_name("team/bot:test", "ab" * 32)}
    assert len(others | {staged}) == 3
    assert str(parse_name(staging_name("x" * 80, ""))).startswith("x" * 80 + ":staging-")


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("", "http://127.0.0.1:11434"),
        ("  ", "http://127.0.0.1:11434"),
        ("1.2.3.4", "http://1.2.3.4:11434"),
        ("example.com", "http://example.com:11434"),
        ("example.com:", "http://example.com:11434"),
        (":1234", "http://127.0.0.1:1234"),
        ("example.com:1234", "http://example.com:1234"),
        ("http://example.com", "http://example.com:80"),
        ("https://example.com", "https://example.com:443"),
        ("https://example.com:1234", "https://example.com:1234"),
        ("example.com/", "http://example.com:11434"),
        ("http://example.com:1234/ollama/", "http://example.com:1234/ollama"),
        ("example.com/a b", "http://example.com:11434/a%20b"),
        ("::1", "http://[::1]:11434"),
        ("[::1]", "http://[::1]:11434"),
        ("[::1]:1337", "http://[::1]:1337"),
        ("[0:0:0:0:0:0:0:1]", "http://[::1]:11434"),
        ("::ffff:1.2.3.4", "http://1.2.3.4:11434"),
        ("example.com:65535", "http://example.com:65535"),
        ("example.com:65536", "http://example.com:11434"),
        ("https://example.com:66000", "https://example.com:443"),
        ("example.com:-1", "http://example.com:11434"),
        ("example.com:+80", "http://example.com:80"),
        ('"1.2.3.4"', "http://1.2.3.4:11434"),
        ("' 1.2.3.4 '", "http://1.2.3.4:11434"),
        ("0.0.0.0", "http://127.0.0.1:11434"),
        ("0.0.0.0:99", "http://127.0.0.1:99"),
        ("[::]:99", "http://[::1]:99"),
        ("ollama.com", "https://ollama.com:443"),
        ("http://ollama.com", "http://ollama.com:80"),
    ],
)
def test_an_address_means_what_ollama_host_means(text, url):
    assert parse_host(text) == url


@pytest.mark.parametrize("text", ["ftp://x", "HTTP://x", "unix://o.sock", "a b", "1:2:3", "u:p@host", "[x", "h%"])
def test_an_address_that_no_client_can_use_is_refused(text):
    with pytest.raises(UsageError, match=re.escape(text)) as refused:
        parse_host(text)
    assert refused.value.next_step
