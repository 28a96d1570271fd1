"""Architectures to which Ollama attaches a RENDERER: those that it has for them are tried, and the nearest is found."""

import chat_templates
import families
import parts
import pytest

from ollamaq.chat.jinja import ChatFormat
from ollamaq.digests import digest_of
from ollamaq.gguf.splits import join, read_parts
from ollamaq.gguf.writer import write
from ollamaq.modelfile.model import Modelfile
from ollamaq.ollama.client import Client
from ollamaq.prompting import Prompting
from ollamaq.servers.remote import RemoteServer
from ollamaq.smoke import DIFFERING, CheckResult
from ollamaq.smoke.prompts import Prompts
from ollamaq.source import open_source

NEAREST = {
    ("gemma4", "google-gemma-4-31B-it"): ("gemma4-large", 7),
    ("nemotron-h", "NVIDIA-Nemotron-3-Nano-30B-A3B-BF16"): ("nemotron-3-nano", 6),
}
"""The renderer that prompts the fewest conversations of 48 otherwise than in training, and how many."""


@pytest.mark.parametrize(("family", "template"), NEAREST)
def test_the_nearest_renderer_is_found_on_a_server(family, template, ollama_server, tmp_path):
    text = (parts.chat_templates() / f"{template}.jinja").read_text()
    families.write_checkpoint(family, tmp_path / "tiny")
    families.write_gguf(tmp_path / "tiny", tmp_path / "plain.gguf")
    gguf = tmp_path / "model.gguf"
    write(gguf, chat_templates.with_template(join(read_parts(tmp_path / "plain.gguf").values()), text))
    trained = ChatFormat(text, {"bos_token": "<bos>", "eos_token": "</s>"})
    with RemoteServer(Client(ollama_server)) as target:
        prompting, undecided = Prompting(open_source(gguf), [target]), True
        try:
            while undecided:
                modelfile = prompting.applied(Modelfile("./model.gguf", parameters={"num_ctx": chat_templates.CONTEXT}))
                target.create("attached", gguf, digest_of(gguf), modelfile, lambda *told: None)
                prompts = Prompts(target, "attached", trained)
                seen = {DIFFERING: prompts.differing}
                checks = [CheckResult("prompt", False, prompts.wrong or "", measured=seen)]
                undecided = prompting.another(Modelfile("./model.gguf"), checks)
        finally:
            target.delete("attached")
    assert (prompting.chosen.renderer, prompts.differing) == NEAREST[family, template]
    assert f"RENDERER {prompting.chosen.renderer}, which Ollama attaches" in prompts.wrong
