"""Projectors: what makes a picture into something that a language model reads, a short declarative file each.

To add one, write its file, and name it here by its class in config.json and its ``vision_config``'s ``model_type``.
"""

from __future__ import annotations

from ollamaq.architectures.family import Config, Family
from ollamaq.architectures.projectors.gemma3 import GEMMA3_VISION
from ollamaq.architectures.projectors.pixtral import MISTRAL3_VISION, PIXTRAL
from ollamaq.architectures.projectors.qwen_vl import QWEN2_5_VISION, QWEN2_VISION

ANY = ""
PROJECTORS: dict[str, dict[str, Family]] = {
    "Gemma3ForConditionalGeneration": {ANY: GEMMA3_VISION},
    "LlavaForConditionalGeneration": {"pixtral": PIXTRAL},
    "Mistral3ForConditionalGeneration": {ANY: MISTRAL3_VISION},
    "Qwen2VLForConditionalGeneration": {ANY: QWEN2_VISION},
    "Qwen2_5_VLForConditionalGeneration": {ANY: QWEN2_5_VISION},
}
"""By class, then by the ``model_type`` of its vision tower where there are several."""
SUPPORTED = "Gemma 3, Qwen 2 VL, Qwen 2.5 VL, Pixtral and Mistral 3"


def projector_of(config: Config) -> Family | None:
    """The projector of a model's config.json; None where it has none that is known."""
    classes, vision = config.get("architectures"), config.get("vision_config")
    name = classes[0] if isinstance(classes, list) and classes else None
    towers = PROJECTORS.get(name, {}) if isinstance(name, str) else {}
    if not isinstance(vision, dict):
        return None
    return towers.get(str(vision.get("model_type", ANY)), towers.get(ANY))
