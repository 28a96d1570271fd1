"""Which tokens open and close a text: ids from the tokenizer's files, and whether its post-processor adds them.

Order and precedence are those of llama.cpp's converter (``gguf-py/gguf/vocab.py``): the post-processor before
tokenizer_config.json, that before config.json, and an id counts only where an added token has it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from gguf import TokenType

from ollamaq.checkpoint import Checkpoint
from ollamaq.gguf.model import Metadata
from ollamaq.tokenizers.spec import TokenizerSpec

KEYS = {
    "bos": "bos_token_id",
    "eos": "eos_token_id",
    "unk": "unknown_token_id",
    "sep": "seperator_token_id",
    "pad": "padding_token_id",
    "mask": "mask_token_id",
    "eot": "eot_token_id",
    "eom": "eom_token_id",
}
"""Roles that have a key in GGUF (so spelt); ``cls`` has none."""
APART = (TokenType.CONTROL, TokenType.USER_DEFINED)
ADDED = {"bos": "add_bos_token", "eos": "add_eos_token", "sep": "add_sep_token"}


@dataclass
class Roles:
    """Tokens by role as tokenizer_config.json has them, amended by what the post-processor shows."""

    tokens: dict[str, Any]
    names: list[str] = field(default_factory=lambda: ["bos", "eos", "unk", "sep", "pad", "cls", "mask"])
    adds: dict[str, bool] = field(default_factory=dict)

    def has(self, text: Any, *names: str) -> bool:
        return any(text == self.tokens.get(name) for name in names)

    def default(self, name: str, token: Any) -> None:
        if not self.tokens.get(name):
            self.tokens[name] = token


def special_texts(metadata: Metadata) -> frozenset[str]:
    """The tokens of a GGUF's vocabulary that stand apart from ordinary text."""
    tokens, types = (
        entry.value if (entry := metadata.get(f"tokenizer.ggml.{key}")) else () for key in ("tokens", "token_type")
    )
    return frozenset(token for token, type_ in zip(tokens, types, strict=False) if type_ in APART)


def adds_bos(metadata: Metadata) -> bool:
    """Whether texts begin with a BOS; where nothing says so, those of SentencePiece do."""
    said = metadata.get("tokenizer.ggml.add_bos_token")
    kind = metadata.get("tokenizer.ggml.model")
    return said.value is True if said else bool(kind and kind.value == "llama")


def special_tokens(checkpoint: Checkpoint, spec: TokenizerSpec, limit: int) -> tuple[dict[str, int], dict[str, bool]]:
    """Token ids (below ``limit``) by role, and for each role whether the tokenizer adds it, in the converter's order.

    Raises:
        KeyError: the family needs a token that the tokenizer has not.
    """
    tokenizer, tokenizer_config, config = checkpoint.tokenizer, checkpoint.tokenizer_config, checkpoint.config
    roles = Roles({key[:-6]: value for key, value in tokenizer_config.items() if key.endswith("_token")})
    if tokenizer:
        roles.default("bos", roles.tokens.get("cls"))
        roles.default("eos", roles.tokens.get("sep"))
    post_processor = tokenizer.get("post_processor") or {}
    for processor in post_processor.get("processors", [post_processor]):
        if rule := PROCESSORS.get(processor.get("type")):
            rule(roles, processor)
    listed: dict[str, Any] = {}
    for token in tokenizer.get("added_tokens") or []:
        listed.setdefault(token["content"], token["id"])
    ids: dict[str, int] = {}

    def take(name: str, at: Any) -> None:
        if isinstance(at, int) and 0 <= at < limit:
            ids.setdefault(name, at)

    if tokenizer_config:
        for name in roles.names:
            token = roles.tokens.get(name)
            text = token.get("content") if isinstance(token, dict) else token
            if isinstance(added := tokenizer_config.get(f"add_{name}_token"), bool):
                roles.adds.setdefault(name, added)
            if isinstance(text, str):
                take(name, listed.get(text))
    text_config = config.get("text_config") or {}
    for name in roles.names:
        at = config.get(f"{name}_token_id")
        take(name, text_config.get(f"{name}_token_id") if at is None else at)
    decoder = tokenizer_config.get("added_tokens_decoder") or {}
    listed = {token["content"]: int(at) for at, token in decoder.items()} | listed
    for name, text in spec.special.items():
        take(name, listed[text])
    if spec.eos in listed:
        ids["eos"] = listed[spec.eos]
    return ids, roles.adds


def normalizer_keys(normalizer: dict[str, Any] | None) -> dict[str, bool]:
    """Whether a tokenizer.json's normalizer lowers case and strips accents, as far as it says so."""
    match normalizer or {}:
        case {"type": "Lowercase"}:
            return {"normalizer.lowercase": True}
        case {"type": "StripAccents"}:
            return {"normalizer.strip_accents": True}
        case {"type": "BertNormalizer", **rest}:
            said = {f"normalizer.{name}": rest.get(name) for name in ("lowercase", "strip_accents")}
            return {key: value for key, value in said.items() if value is not None}
        case {"type": "Sequence", "normalizers": list(parts)}:
            keys = {key: value for part in parts for key, value in normalizer_keys(part).items()}
            return dict(sorted(keys.items()))
    return {}


def _byte_level(roles: Roles, processor: dict[str, Any]) -> None:
    roles.adds.setdefault("bos", False)
    roles.adds.setdefault("eos", False)


def _roberta(roles: Roles, processor: dict[str, Any]) -> None:
    roles.adds |= {"bos": True, "eos": True, "sep": True}
    for name, otherwise in (("cls", "bos"), ("sep", "eos")):
        roles.default(name, processor.get(name, [roles.tokens.get(otherwise)])[0])


def _template(roles: Roles, processor: dict[str, Any]) -> None:
    single, pair = processor.get("single", []), processor.get("pair", [])
    first = _special(single[0]) if len(single) > 1 else None
    last = _special(single[-1]) if len(single) > 1 else None
    if first:
        if not roles.has(first, "bos", "cls"):
            roles.default("bos", first)
            roles.default("cls", first)
        roles.adds["bos"] = roles.has(first, "bos", "cls")
    if last:
        if not roles.has(last, "eos"):  # the former end of text ends a turn or a message then
            ending = next((name for name in ("eot", "eom") if name not in roles.names), None)
            if ending:
                roles.names.append(ending)
                roles.tokens[ending] = roles.tokens.get("eos")
            roles.tokens["eos"] = last
        roles.adds["eos"] = True
    if first and pair and _special(pair[0]) == first:
        pair = pair[1:]
    if last and pair and _special(pair[-1]) == last:
        pair = pair[:-1]
    if len(pair) > 2 and _sequence(pair[0]) == "A" and _sequence(pair[-1]) == "B":
        between = [_special(piece) for piece in pair[1:-1]]
        add = bool(between[0]) and not last and roles.has(between[0], "sep", "eos")
        if len(between) == 2 and between[1]:
            add = add or roles.has(between[1], "sep", "eos")
        roles.adds["sep"] = add
        if add:
            roles.default("sep", roles.tokens.get("eos"))


PROCESSORS = {"ByteLevel": _byte_level, "RobertaProcessing": _roberta, "TemplateProcessing": _template}


def _special(piece: dict[str, Any]) -> Any:
    return piece.get("SpecialToken", {}).get("id")


def _sequence(piece: dict[str, Any]) -> Any:
    return piece.get("Sequence", {}).get("id")
