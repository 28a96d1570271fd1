"""Makes the server stop where a fine-tune's answers end.

llama.cpp stops at the tokens of the keys eos, eot and eom, and at tokens of certain texts (``src/llama-vocab.cpp``). A
fine-tune that ends its turns with another one never stops: a stop text in the Modelfile does not help either, since a
control token has no text in the answer.
"""

from __future__ import annotations

import logging

from gguf import GGUFValueType

from ollamaq.gguf.model import Metadata, Value

KEYS = tuple(f"tokenizer.ggml.{role}_token_id" for role in ("eos", "eot", "eom"))
KNOWN = frozenset(
    """
<|eot_id|> <|im_end|> <|end|> <|return|> <|call|> <|flush|> <|calls|> <end_of_turn> <|endoftext|> </s> <|eom_id|> <EOT>
_<EOT> [EOT] [EOS] <|end_of_text|> <end_of_utterance> <eos> <turn|> <|tool_response> <｜end▁of▁sentence｜> [e~[
""".split()  # noqa: SIM905
)

log = logging.getLogger(__name__)


def with_end_of_turn(metadata: Metadata, text: str) -> Metadata:
    """The metadata, with a key for the token that ends a turn where llama.cpp would not stop at it."""
    tokens = metadata["tokenizer.ggml.tokens"].value
    ends = {metadata[key].value for key in KEYS if key in metadata}
    if text in KNOWN or text not in tokens or tokens.index(text) in ends:
        return metadata
    free = next((key for key in KEYS[1:] if key not in metadata), None)
    if free is None:
        log.warning(
            "turns end with %r, and %s name other tokens: the server will not stop there", text, ", ".join(KEYS)
        )
        return metadata
    log.warning("turns end with %r, at which llama.cpp would not stop: %s names it now", text, free)
    return metadata | {free: Value(GGUFValueType.UINT32, tokens.index(text))}
