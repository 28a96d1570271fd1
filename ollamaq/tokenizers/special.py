"""Which tokens open and close a text: ids from the tokenizer's files, and whether its post-processor adds them.

Order and precedence are those of llama.cpp's converter (``gguf-py/gguf/vocab.py``): the post-processor before
tokenizer_config.json, that before config.json, and an id counts only where an added token has it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

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


def special_tokens(
    tokenizer: dict[str, Any], tokenizer_config: dict[str, Any], config: dict[str, Any]
) -> tuple[dict[str, int], dict[str, bool]]:
    """Token ids by role, and for each role whether the tokenizer adds it, in the converter's order."""
    roles = Roles({key[:-6]: value for key, value in tokenizer_config.items() if key.endswith("_token")})
    roles.default("bos", roles.tokens.get("cls"))
    roles.default("eos", roles.tokens.get("sep"))
    post_processor = tokenizer.get("post_processor") or {}
    for processor in post_processor.get("processors", [post_processor]):
        if rule := PROCESSORS.get(processor.get("type")):
            rule(roles, processor)
    ids: dict[str, int] = {}
    if tokenizer_config:
        first: dict[str, Any] = {}
        for token in tokenizer.get("added_tokens") or []:
            first.setdefault(token["content"], token["id"])
        for name in roles.names:
            token = roles.tokens.get(name)
            text = token.get("content") if isinstance(token, dict) else token
            if isinstance(text, str) and isinstance(first.get(text), int):
                ids[name] = first[text]
            if isinstance(added := tokenizer_config.get(f"add_{name}_token"), bool):
                roles.adds.setdefault(name, added)
    for name in roles.names:
        if isinstance(at := config.get(f"{name}_token_id"), int):
            ids.setdefault(name, at)
    return ids, roles.adds


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
