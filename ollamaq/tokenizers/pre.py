"""Recognises the pre-tokenizer, how text is cut before merges apply, by its structure in tokenizer.json.

llama.cpp's converter hashes the ids of one text instead, so that any change of the vocabulary hides a pre-tokenizer
that it knows; the structure stays. Names and expressions are llama.cpp's (``src/llama-vocab.cpp``).
"""

from __future__ import annotations

import difflib
import logging
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from ollamaq.errors import ModelRefused, UsageError
from ollamaq.tokenizers.cuts import cut, cuts_of

CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
WORDS = r"|[^\r\n\p{L}\p{N}]?\p{L}+|"
LLAMA3 = CONTRACTIONS + WORDS + r"\p{N}{1,3}" + REST
QWEN2 = CONTRACTIONS + WORDS + r"\p{N}" + REST
QWEN35 = (
    CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
DIGIT, DIGITS, UP_TO_3 = r"\p{N}", r"\p{N}+", r"\p{N}{1,3}"
UPPER, LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
CASED = rf"[^\r\n\p{{L}}\p{{N}}]?{UPPER}*{LOWER}+", rf"[^\r\n\p{{L}}\p{{N}}]?{UPPER}+{LOWER}*"
CASED_REST = r"| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
GPT4O = "|".join(f"{part}{CONTRACTIONS}?" for part in CASED) + "|" + UP_TO_3 + CASED_REST
TEKKEN = "|".join(CASED) + "|" + DIGIT + CASED_REST
ALPHABETIC = (
    "[A-Za-zµÀ-ÖØ-öø-ƺƼ-ƿǄ-ʓʕ-ʯͰ-ͳͶͷͻ-ͽͿΆΈ-ΊΌΎ-ΡΣ-ϵϷ-ҁҊ-ԯԱ-ՖႠ-ჅᎠ-Ᏽᏸ-ᏽᲐ-ᲺᲽ-Ჿᴀ-ᴫᵫ-ᵷᵹ-ᶚḀ-ἕἘ-Ἕἠ-ὅὈ-Ὅὐ-ὗὙὛὝὟ-ώ"
    "ᾀ-ᾴᾶ-ᾼιῂ-ῄῆ-ῌῐ-ΐῖ-Ίῠ-Ῥῲ-ῴῶ-ῼℂℇℊ-ℓℕℙ-ℝℤΩℨK-ℭℯ-ℴℹℼ-ℿⅅ-ⅉⅎↃↄⰀ-ⱻⱾ-ⳤⳫ-ⳮⳲⳳꙀ-ꙭꚀ-ꚛꜢ-ꝯꝱ-ꞇꞋ-ꞎꭰ-ꮿﬀ-ﬆﬓ-ﬗＡ-Ｚａ-ｚ𐐀-𐑏"
    "𐒰-𐓓𐓘-𐓻𐲀-𐲲𐳀-𐳲𑢠-𑣟𞤀-𞥃]"
)
CJK, KANA = "[一-龥ࠀ-一가-퟿]+", "[一-龥぀-ゟ゠-ヿ]+"
DEEPSEEK = ("[\r\n]", rf"\s?{ALPHABETIC}+", r"\s?[!-/:-~！-／：-～‘-‟　-。]+", r"\s+$", CJK)
DEEPSEEK3 = (
    r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"
    r"| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
BLOOM = " ?[^(\\s|.,!?…。，、।۔،)]+"
PUNCTUATION = r"[!-/:-@\[-`{-~\p{P}]"


class Pre(NamedTuple):
    """A pre-tokenizer of llama.cpp and its expressions.

    ``whole`` ones take a word that is in the vocabulary as it is, as ``ignore_merges`` of Llama 3's tokenizer.json
    does. Of names with the same expressions, one with ``marker`` is meant where the vocabulary has that token.
    ``published`` are the expressions of a tokenizer.json, where these are others that give the same ids.
    """

    name: str
    expressions: tuple[str, ...]
    whole: bool = False
    marker: str | None = None
    published: tuple[tuple[str, ...], ...] = ()


PRE_TOKENIZERS = (
    Pre("chatglm-bpe", (LLAMA3,), marker="[gMASK]"),
    Pre("glm4", (LLAMA3,), whole=True, marker="[gMASK]"),
    Pre("llama-bpe", (LLAMA3,), whole=True),
    Pre("smaug-bpe", (LLAMA3,)),
    Pre("qwen2", (QWEN2,)),
    Pre("qwen35", (QWEN35,)),
    Pre("starcoder", (GPT2,), marker="<fim_prefix>"),
    Pre("modern-bert", (GPT2,), marker="|||IP_ADDRESS|||"),
    Pre("gpt-2", (GPT2,)),
    Pre("starcoder", (DIGIT, GPT2), marker="<fim_prefix>"),
    Pre("command-r", (DIGIT, GPT2), marker="<|START_OF_TURN_TOKEN|>"),
    Pre("smollm", (DIGIT, GPT2)),
    Pre("gpt-4o", (GPT4O,)),
    Pre("tekken", (TEKKEN,), whole=True),
    Pre("deepseek-v3", (UP_TO_3, KANA, DEEPSEEK3)),
    Pre("deepseek-llm", (*DEEPSEEK, DIGITS), published=((*DEEPSEEK, DIGIT),)),
    Pre("deepseek-coder", ("[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", CJK, DIGIT)),
    Pre(
        "falcon",
        (r"[\p{P}\$\+<=>\^~\|`]+", GPT2, "[0-9][0-9][0-9]"),
        published=((f"{PUNCTUATION}+", GPT2, DIGITS, "[0-9][0-9][0-9]"),),
    ),
    Pre("bloom", (BLOOM,)),
    Pre("viking", (BLOOM, DIGIT)),
    Pre("superbpe", (DIGITS, r"(?=(\d{3})+(?!\d))")),
    Pre("seed-coder", (CONTRACTIONS + WORDS + r"\p{N}{1}| ?[^\s\p{L}\p{N}\r\n]+|\s*[\r\n]+|\s+(?!\S)|\s+",)),
    Pre(
        "bailingmoe",
        (
            r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]++[\r\n]*"
            r"|\s*[\r\n]|\s+(?!\S)|\s+",
        ),
    ),
    Pre("minicpm5", (UP_TO_3, CONTRACTIONS + WORDS + DIGITS + REST), whole=True),
    Pre(
        "exaone-moe",
        (
            CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?(?:\p{L}\p{M}*(?: \p{L}\p{M}*)*)+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]?"
            r"|\s*[\r\n]|\s+(?!\S)|\s+",
        ),
    ),
    Pre("tiny_aya", (r"\d{1,3}(?=(?:\d{3})*\b)", GPT4O)),
    Pre("ufakzeka", (WORDS.removeprefix("|") + DIGIT + REST,)),
    Pre("laguna", (r"[^\n]+|[\n]+", QWEN2)),
)
"""In the order in which they are taken. Names that llama.cpp treats as one of these (``lfm2`` as ``llama-bpe``) are
left out."""

NAMES = frozenset(
    """
a.x-4.0 afmoe bailingmoe bailingmoe2 bloom chameleon chatglm-bpe codeshell cohere2moe command-r dbrx deepseek-coder
deepseek-llm deepseek-r1-qwen deepseek-v3 default exaone exaone-moe exaone4 f2llmv2 falcon falcon-h1 falcon3 gemma4
gigachat glm4 glm5 gpt-2 gpt-4o gpt3-finnish granite-docling granite-embed-multi-311m granite-embed-multi-97m grok-2
hunyuan hunyuan-dense hy_v4 jais jais-2 jina-de jina-es jina-v1-en jina-v2-code jina-v2-de jina-v2-es jina-v5-nano
joyai-llm kanana2 kimi-k2 kormo laguna lfm2 llada-moe llama-bpe llama-v3 llama3 llama4 megrez mellum mellum2
midm-2.0 minerva-7b minicpm5 minimax-m2 mmbert modern-bert mpt olmo phi-2 pixtral poro-chat qwen2 qwen35 refact
roberta-bpe sarvam-moe seed-coder smaug-bpe smollm solar-open spark2_5 stablelm2 starcoder superbpe talkie tekken
tiny_aya trillion ufakzeka viking whitespace youtu
""".split()  # noqa: SIM905
)
"""Every name that llama.cpp knows for byte-level BPE; with any other it refuses to load the model."""

log = logging.getLogger(__name__)


def named(name: str) -> str:
    """A pre-tokenizer that the user names.

    Raises:
        UsageError: llama.cpp does not know it.
    """
    if name in NAMES:
        return name
    nearest = difflib.get_close_matches(name, sorted(NAMES), n=3, cutoff=0)
    raise UsageError(f"unknown pre-tokenizer {name!r}", next_step=f"the nearest: {', '.join(nearest)}")


def recognise(tokenizer: dict[str, Any], where: str) -> str:
    """The name of a tokenizer.json's pre-tokenizer; ``where`` names the file in errors.

    One that is not known gets the name of that whose cuts differ least on a corpus, and a warning that says by how
    much.

    Raises:
        ModelRefused: its alphabet is not that of bytes, or its cuts cannot be compared with any.
    """
    steps = list(_steps(tokenizer.get("pre_tokenizer") or {}))
    if all(step != "" for step in steps):
        raise ModelRefused(
            f"{where} is BPE without byte level or byte fallback",
            next_step="name the pre-tokenizer with `ollamaq convert --pre NAME` if llama.cpp has one for it",
        )
    expressions = tuple(step for step in steps if step)
    odd = [step for step in steps if step is None] or _odd_normalizer(tokenizer.get("normalizer"))
    whole = bool(tokenizer["model"].get("ignore_merges"))
    tokens = {*tokenizer["model"]["vocab"], *(token["content"] for token in tokenizer.get("added_tokens") or [])}
    candidates = [pre for pre in PRE_TOKENIZERS if pre.marker is None or pre.marker in tokens]
    exact = [pre for pre in candidates if expressions in (pre.expressions, *pre.published)]
    if exact and not odd:
        return min(exact, key=lambda pre: pre.whole != whole).name
    theirs = cut(expressions) if exact else cuts_of(expressions)
    if theirs is None:
        raise ModelRefused(
            f"{where} cuts text in a way that is not known: {' then '.join(expressions)[:200]!r}",
            next_step="name the nearest with `ollamaq convert --pre NAME`",
        )
    differing = [len({*cut(pre.expressions)} ^ {*theirs}) for pre in candidates]
    _, _, least = min(
        (count, pre.whole != whole, i) for i, (count, pre) in enumerate(zip(differing, candidates, strict=True))
    )
    nearest = candidates[least]
    if differing[least] or odd:
        log.warning(
            "%s cuts text in a way that is not known; the nearest is %s: %d of %d cuts differ on a corpus of many"
            " scripts%s. Check the answers, or name another with --pre NAME",
            where,
            nearest.name,
            differing[least],
            len(theirs),
            ", and what changes the text before is left out" if odd else "",
        )
    return nearest.name


def _odd_normalizer(normalizer: Any) -> list[None]:
    """Something, if the normalizer does what llama.cpp would not; it leaves out NFC, which texts mostly are in."""
    return [] if not normalizer or normalizer.get("type") == "NFC" else [None]


def _steps(pre_tokenizer: dict[str, Any]) -> Iterator[str | None]:
    """The expressions that cut text one after the other; "" where bytes become letters, None for what is no cut."""
    match pre_tokenizer:
        case {"type": "Sequence", "pretokenizers": list(parts)}:
            for part in parts:
                yield from _steps(part)
        case {"type": "Split", "pattern": {"Regex": str(expression)}, "behavior": "Isolated"}:
            yield expression
        case {"type": "Split", "pattern": {"Regex": str(expression)}, "behavior": "Removed", "invert": True}:
            yield expression
        case {"type": "Split", "pattern": {"String": str(text)}, "behavior": "Isolated"}:
            yield re.escape(text)
        case {"type": "Digits", "individual_digits": bool(one_by_one)}:
            yield DIGIT if one_by_one else DIGITS
        case {"type": "Punctuation"}:
            yield PUNCTUATION + "+" * (pre_tokenizer.get("behavior") == "Contiguous")
        case {"type": "ByteLevel"}:
            yield from [GPT2] * bool(pre_tokenizer.get("use_regex", True))
            yield ""
            if pre_tokenizer.get("add_prefix_space"):
                yield None
        case _:
            yield None
