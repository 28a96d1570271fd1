"""Publishing: nothing has its final name before it passed, and a failure leaves the target as it was."""

import hashlib
import json
import struct

import numpy as np
import pytest
from typer.testing import CliRunner

import ollamaq
from ollamaq import publishing
from ollamaq.chat import strategy
from ollamaq.chat.conversations import Conversation
from ollamaq.chat.forms import go_form, jinja_form
from ollamaq.chat.gotemplate import GoTemplate
from ollamaq.chat.jinja import ChatFormat
from ollamaq.chat.selection import claims_of_go, claims_of_jinja
from ollamaq.checkpoint import open_checkpoint
from ollamaq.cli import app
from ollamaq.errors import ModelRefused, ServerError, UsageError
from ollamaq.gate import Gate
from ollamaq.gguf.reader import read_gguf
from ollamaq.modelfile.model import Modelfile
from ollamaq.modelfile.parser import parse
from ollamaq.quantize import Overrides
from ollamaq.registry.push import Pushed
from ollamaq.registry.reference import parse_reference
from ollamaq.servers.target import Reply
from ollamaq.team.policy import PolicyBroken
from ollamaq.team.preset import prompted


class Memory:
    """A target that keeps models in a dictionary and prompts them as ``chat_format`` says."""

    engine, version, pinned = "Memory", "1", None

    def __init__(self, chat_format, answer="Paris.", done_reason="stop", label="memory"):
        self.label = label
        self.chat_format, self.answer, self.done_reason = chat_format, answer, done_reason
        self.models, self.blobs, self.seen = {}, set(), []

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.left = True

    def digest(self, name):
        return self.models.get(name)

    def create(self, name, gguf, sha256, modelfile, progress, projector=None):
        assert hashlib.sha256(gguf.read_bytes()).hexdigest() == sha256
        self.seen.append(dict(self.models))
        self.models[name] = sha256
        sent = sha256 not in self.blobs
        self.blobs.add(sha256)
        return sent

    def copy(self, source, destination):
        self.models[destination] = self.models[source]

    def delete(self, name):
        del self.models[name]

    def template(self, name):
        return self.chat_format.template

    def capabilities(self, name):
        return claims_of_jinja(self.chat_format.template)

    def render(self, name, messages, tools=None, think=None):
        return jinja_form("there", self.chat_format).render(Conversation(messages, tools, think))

    def log(self):
        return f"log of {self.label}"

    def chat(self, name, messages, options):
        return Reply(self.answer, self.done_reason, 7, 3, 0.1)


@pytest.fixture
def checkpoint(tiny_checkpoint):
    return tiny_checkpoint()


@pytest.fixture
def target(checkpoint, monkeypatch):
    memory = Memory(ChatFormat.of(open_checkpoint(checkpoint)))
    monkeypatch.setattr(publishing, "open_targets", lambda to, **options: [] if to == "file" else [memory])
    monkeypatch.setattr(publishing, "tokenizer_of", lambda path: None)
    return memory


def test_a_model_that_passes_gets_its_name_and_staging_goes(checkpoint, target, tmp_path):
    (release,) = ollamaq.publish(checkpoint, "bot", quantization="Q8_0", output=tmp_path / "out")
    assert list(target.models) == ["bot:q8_0"]
    assert release.sent
    assert release.passed
    assert target.left


def test_publishing_again_finds_the_blob(checkpoint, target, tmp_path):
    first, second = (ollamaq.publish(checkpoint, "bot", output=tmp_path / "out")[0] for _ in range(2))
    assert (first.sent, second.sent) == (True, False)


@pytest.mark.parametrize("fault", [{"answer": ""}, {"done_reason": "length"}])
def test_a_model_that_fails_its_gate_leaves_the_old_one(fault, checkpoint, target, tmp_path):
    target.models["bot:q8_0"] = "old"
    vars(target).update(fault)
    with pytest.raises(publishing.PublishFailed, match="nothing was published") as failure:
        ollamaq.publish(checkpoint, "bot", quantization="Q8_0", output=tmp_path / "out")
    assert target.models == {"bot:q8_0": "old"}
    told = json.loads((tmp_path / "out" / "release.json").read_text())
    assert [check["name"] for check in told["smoke"] if check["ok"] is False]
    assert failure.value.releases[0].package == tmp_path / "out"


def test_of_several_mixes_none_is_named_before_all_have_passed(checkpoint, target, tmp_path):
    ollamaq.publish(checkpoint, "bot", quantization=["Q8_0", "F16"], output=tmp_path / "out")
    assert not any("bot:q8_0" in models for models in target.seen)
    assert set(target.models) == {"bot:q8_0", "bot:fp16"}


def test_a_server_lost_on_the_way_is_what_is_reported(checkpoint, target, tmp_path, monkeypatch):
    def lost(*arguments):
        raise ServerError("the server is gone")

    monkeypatch.setattr(target, "create", lost)
    monkeypatch.setattr(target, "digest", lost)
    with pytest.raises(ServerError, match="the server is gone"):
        ollamaq.publish(checkpoint, "bot", output=tmp_path / "out")


def test_another_publisher_under_the_same_name_is_noticed(checkpoint, target, tmp_path, monkeypatch):
    monkeypatch.setattr(target, "copy", lambda source, destination: target.models.update({destination: "theirs"}))
    with pytest.raises(ServerError, match="another model as bot:q8_0"):
        ollamaq.publish(checkpoint, "bot", quantization="Q8_0", output=tmp_path / "out")


@pytest.fixture
def targets(checkpoint, monkeypatch):
    chat_format = ChatFormat.of(open_checkpoint(checkpoint))
    memories = [Memory(chat_format, label=f"memory {i}") for i in range(2)]
    for i, memory in enumerate(memories):
        memory.version, memory.pinned = f"0.{i}", f"image@sha256:{i}"
    monkeypatch.setattr(publishing, "open_targets", lambda to, **options: memories)
    monkeypatch.setattr(publishing, "tokenizer_of", lambda path: None)
    return memories


def test_on_several_targets_a_model_must_pass_on_all(checkpoint, targets, tmp_path):
    targets[1].answer = ""
    with pytest.raises(publishing.PublishFailed, match=r"answer@0\.1") as failure:
        ollamaq.publish(checkpoint, "bot", output=tmp_path / "out")
    assert [memory.models for memory in targets] == [{}, {}]
    assert (tmp_path / "out" / "server.log").read_text() == "memory 0\nlog of memory 0\n\nmemory 1\nlog of memory 1\n"
    assert "server.log" in failure.value.next_step
    targets[1].answer = "Paris."
    (release,) = ollamaq.publish(checkpoint, "bot", output=tmp_path / "out")
    assert [list(memory.models) for memory in targets] == [["bot:q5_K_M"]] * 2
    assert {"loads@0.0", "loads@0.1"} <= {check.name for check in release.checks}
    told = json.loads((tmp_path / "out" / "release.json").read_text())
    assert told["tested_with"] == "Memory 0.0, Memory 0.1"
    assert told["images"] == ["image@sha256:0", "image@sha256:1"]
    assert told["template"]["equal_to_training"] is True
    assert not (tmp_path / "out" / "server.log").exists()


def test_the_package_tells_inputs_types_and_verdict(checkpoint, target, tmp_path):
    ollamaq.publish(checkpoint, "bot", quantization="Q8_0", output=tmp_path / "out")
    told = json.loads((tmp_path / "out" / "release.json").read_text())
    weights = checkpoint / "model.safetensors"
    assert told["inputs"]["model.safetensors"] == hashlib.sha256(weights.read_bytes()).hexdigest()
    assert told["gguf"]["sha256"] == hashlib.sha256((tmp_path / "out" / "model.gguf").read_bytes()).hexdigest()
    assert told["template"]["equal_to_training"] is True
    assert {tensor["type"] for tensor in told["tensors"]} == {"Q8_0", "F32"}
    assert "FROM ./model.gguf" in (tmp_path / "out" / "Modelfile").read_text()


def test_one_full_name_for_two_mixes_is_refused(checkpoint, target, tmp_path):
    with pytest.raises(UsageError, match="'bot:1' is one name for 2 mixes"):
        ollamaq.publish(checkpoint, "bot:1", quantization=["Q8_0", "F16"], output=tmp_path / "out")


def test_a_gguf_of_floats_can_be_published(checkpoint, target, tmp_path):
    from ollamaq.gguf.writer import write
    from ollamaq.source import open_source

    write(tmp_path / "f16.gguf", open_source(checkpoint, outtype="f16").model)
    (release,) = ollamaq.publish(tmp_path / "f16.gguf", "bot", quantization="Q8_0", output=tmp_path / "out")
    assert release.passed


def test_a_quantized_gguf_is_published_as_it_is_and_quantized_again_only_on_demand(checkpoint, target, tmp_path):
    ollamaq.publish(checkpoint, "bot", quantization="Q8_0", to="file", output=tmp_path / "out")
    quantized = tmp_path / "out" / "model.gguf"
    (release,) = ollamaq.publish(quantized, "bot", quantization="Q8_0", output=tmp_path / "again")
    assert release.passed
    assert (tmp_path / "again" / "model.gguf").read_bytes() == quantized.read_bytes()
    with pytest.raises(ModelRefused, match="already"):
        ollamaq.publish(quantized, "bot", quantization="Q4_0", output=tmp_path / "smaller")
    again = Overrides(allow_requantize=True)
    (release,) = ollamaq.publish(quantized, "bot", quantization="Q4_0", overrides=again, output=tmp_path / "smaller")
    assert release.bytes < quantized.stat().st_size


def test_an_importance_matrix_is_used_and_told_of(checkpoint, tmp_path):
    imatrix = tmp_path / "imatrix.dat"
    name, values = b"blk.0.attn_q.weight", np.linspace(0, 1, 256, dtype="<f4")
    imatrix.write_bytes(struct.pack("<ii", 1, len(name)) + name + struct.pack("<ii", 1, 256) + values.tobytes())
    mix = {"quantization": "Q4_0", "to": "file"}
    ollamaq.publish(checkpoint, **mix, output=tmp_path / "plain")
    ollamaq.publish(checkpoint, **mix, imatrix=str(imatrix), output=tmp_path / "out")
    told = json.loads((tmp_path / "out" / "release.json").read_text())
    assert told["inputs"]["imatrix"] == hashlib.sha256(imatrix.read_bytes()).hexdigest()
    plain, weighted = (read_gguf(tmp_path / directory / "model.gguf") for directory in ("plain", "out"))
    assert weighted.metadata["quantize.imatrix.entries_count"].value == 1
    rows = {
        model: {t.name: t.rows(0, t.n_rows).tobytes() for t in read.tensors}
        for model, read in (("p", plain), ("w", weighted))
    }
    assert [name for name in rows["p"] if rows["p"][name] != rows["w"][name]] == ["blk.0.attn_q.weight"]


def test_only_a_package_is_made_for_a_file(checkpoint, tmp_path):
    (release,) = ollamaq.publish(checkpoint, quantization="Q4_K_M", to="file", output=tmp_path / "out")
    assert release.target is None
    assert release.name == f"{checkpoint.name.lower()}:q4_K_M"
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "model.gguf",
        "Modelfile",
        "release.json",
        "provenance.json",
        "bom.cdx.json",
    }


class Rendering(Memory):
    """A target that renders the TEMPLATE that it was given, or else its own idea of the chat template."""

    engine = "Ollama"

    def __init__(self, chat_format, version, native=None):
        super().__init__(chat_format)
        self.version, self.native, self.tried = version, native or chat_format, []

    def create(self, name, gguf, sha256, modelfile, progress, projector=None):
        self.tried.append(modelfile.template)
        return super().create(name, gguf, sha256, modelfile, progress, projector)

    def template(self, name):
        return self.tried[-1] or self.native.template

    def capabilities(self, name):
        return (
            claims_of_go(GoTemplate.parse(self.tried[-1])) if self.tried[-1] else claims_of_jinja(self.native.template)
        )

    def render(self, name, messages, tools=None, think=None):
        form = go_form("", self.tried[-1]) if self.tried[-1] else jinja_form("", self.native)
        return form.render(Conversation(messages, tools, think))


@pytest.fixture
def rendering(checkpoint, monkeypatch):
    def make(version, native=None):
        memory = Rendering(ChatFormat.of(open_checkpoint(checkpoint)), version, native)
        monkeypatch.setattr(publishing, "open_targets", lambda to, **options: [memory])
        monkeypatch.setattr(publishing, "tokenizer_of", lambda path: None)
        return memory

    return make


def strategy_of(directory):
    return json.loads((directory / "release.json").read_text())["template"]


def test_a_server_before_jinja_gets_a_proved_template(checkpoint, rendering, tmp_path):
    target = rendering("0.12.6")
    (release,) = ollamaq.publish(checkpoint, "bot", quantization="Q8_0", output=tmp_path / "out")
    assert release.passed
    assert target.tried == [read_template(tmp_path / "out")]
    told = strategy_of(tmp_path / "out")
    assert (told["strategy"], told["passed_over"]) == ("derived TEMPLATE", [])
    assert "Ollama 0.12.6 renders no Jinja" in told["reason"]


def read_template(directory):
    return next(c.value for c in parse((directory / "Modelfile").read_text()).commands if c.keyword == "TEMPLATE")


def test_a_server_that_renders_the_chat_template_otherwise_gets_a_proved_template(checkpoint, rendering, tmp_path):
    target = rendering("0.34.2", ChatFormat("{% for m in messages %}{{ m.content }}{% endfor %}"))
    ollamaq.publish(checkpoint, "bot", quantization="Q8_0", output=tmp_path / "out")
    assert target.tried == [None, read_template(tmp_path / "out")]
    assert list(target.models) == ["bot:q8_0"]
    told = strategy_of(tmp_path / "out")
    assert told["strategy"] == "derived TEMPLATE"
    assert [passed["strategy"] for passed in told["passed_over"]] == ["chat template"]
    assert "no system message: differs at character" in told["passed_over"][0]["because"]


class Attaching(Rendering):
    """A server that attaches a RENDERER to everything: "near" has one conversation wrong, all others have them all."""

    def create(self, name, gguf, sha256, modelfile, progress, projector=None):
        self.tried.append(modelfile.renderer or "its own")
        return Memory.create(self, name, gguf, sha256, modelfile, progress, projector)

    def template(self, name):
        return f"RENDERER {self.tried[-1]}"

    def capabilities(self, name):
        return ()

    def render(self, name, messages, tools=None, think=None):
        wrong = self.tried[-1] != "near" or (messages[-1]["role"] == "assistant" and len(messages) == 2)
        return jinja_form("", self.native).render(Conversation(messages, tools, think)) + "!" * wrong


@pytest.fixture
def attaching(checkpoint, monkeypatch):
    memory = Attaching(ChatFormat.of(open_checkpoint(checkpoint)), "0.34.2")
    monkeypatch.setattr(publishing, "open_targets", lambda to, **options: [memory])
    monkeypatch.setattr(publishing, "tokenizer_of", lambda path: None)
    monkeypatch.setitem(strategy.ATTACHED, "llama", (("far", "p"), ("near", "p"), ("other", "p")))
    return memory


def test_where_every_renderer_differs_none_is_published_and_the_nearest_is_told(checkpoint, attaching, tmp_path):
    with pytest.raises(publishing.PublishFailed, match="prompt"):
        ollamaq.publish(checkpoint, "bot", quantization="Q8_0", output=tmp_path / "out")
    assert attaching.tried == ["far", "near", "other", "its own", "near"]
    assert not attaching.models
    told = strategy_of(tmp_path / "out")
    assert (told["strategy"], told["renderer"], told["equal_to_training"]) == ("RENDERER", "near", False)
    assert "1 of 48 conversations differ by RENDERER near, which Ollama attaches" in told["verdict"]
    assert [passed.get("renderer") for passed in told["passed_over"]] == ["far", "other", None]
    assert "RENDERER near\nPARSER p\n" in (tmp_path / "out" / "Modelfile").read_text()


def test_a_gate_lets_so_many_prompts_differ(checkpoint, attaching, tmp_path):
    gate = Gate("ollamaq.toml", max_differing_prompts=1)
    (release,) = ollamaq.publish(checkpoint, "bot", quantization="Q8_0", output=tmp_path / "out", gate=gate)
    (prompt,) = [check for check in release.checks if check.name == "prompt"]
    assert (prompt.ok, prompt.tolerated, release.passed) == (False, True, True)
    assert list(attaching.models) == ["bot:q8_0"]


def test_an_engine_that_knows_no_templates_in_go_is_given_none(checkpoint, rendering, tmp_path):
    target = rendering("1", ChatFormat("{% for m in messages %}{{ m.content }}{% endfor %}"))
    target.engine = "xllamacpp"
    with pytest.raises(publishing.PublishFailed, match="prompt"):
        ollamaq.publish(checkpoint, "bot", quantization="Q8_0", output=tmp_path / "out")
    assert target.tried == [None]


def test_the_next_mix_begins_with_what_the_first_one_found(checkpoint, rendering, tmp_path):
    target = rendering("0.34.2", ChatFormat("{% for m in messages %}{{ m.content }}{% endfor %}"))
    ollamaq.publish(checkpoint, "bot", quantization=["Q8_0", "F16"], output=tmp_path / "out")
    assert [bool(template) for template in target.tried] == [False, True, True]


def test_a_server_for_which_nothing_is_proved_is_told_before_any_work(tiny_checkpoint, rendering, tmp_path):
    odd = "{% for m in messages %}{{ m.content | wordwrap(9) }}{% endfor %}"
    rendering("0.12.6")
    with pytest.raises(ModelRefused, match=r"Ollama 0\.12\.6 renders no Jinja, and no TEMPLATE was proved"):
        ollamaq.publish(tiny_checkpoint("odd", tokenizer_config={"chat_template": odd}), output=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_package_for_an_older_ollama_is_asked_for_by_its_version(checkpoint, tmp_path):
    ollamaq.publish(checkpoint, "bot", to="file", ollama=["0.12.6"], output=tmp_path / "old")
    ollamaq.publish(checkpoint, "bot", to="file", output=tmp_path / "new")
    assert "TEMPLATE" in (tmp_path / "old" / "Modelfile").read_text()
    assert "TEMPLATE" not in (tmp_path / "new" / "Modelfile").read_text()
    told = json.loads((tmp_path / "old" / "release.json").read_text())
    assert {"name": "temperature", "value": 0.2, "origin": "generation_config.json"} in told["parameter_origins"]
    assert {"name": "stop", "value": "<|im_end|>", "origin": "chat template"} in told["parameter_origins"]


TEAM = """
[policy]
require = ["system", "license"]
[policy.ranges]
temperature = [0, 1]
[presets.house]
name = "acme/{{ model }}:{{ env }}"
system = "You are {{ model }}."
license = "MIT"
parameters = { temperature = 0.5, stop = ["User:"] }
messages = [{ role = "user", content = "Hi" }, { role = "assistant", content = "Hello." }]
[presets.house.environments.prod.parameters]
num_ctx = 2048
"""
HELLO = (("user", "Hi"), ("assistant", "Hello."))


@pytest.fixture
def team(tmp_path, monkeypatch):
    (tmp_path / "ollamaq.toml").write_text(TEAM)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("OLLAMAQ_PRESETS", raising=False)
    return tmp_path / "ollamaq.toml"


def test_a_preset_is_what_is_published_over_what_the_model_brings(checkpoint, target, team):
    created, create = [], target.create
    target.create = lambda *arguments: created.append(arguments[3]) or create(*arguments)
    target.chat_format = prompted(target.chat_format, Modelfile("x", system="You are tiny.", messages=HELLO))
    (release,) = ollamaq.publish(checkpoint, preset="house", env="prod")
    (modelfile,) = created
    assert release.name == "acme/tiny:prod"
    assert modelfile == Modelfile(
        "./model.gguf",
        system="You are tiny.",
        parameters={"num_ctx": 2048, "stop": ["<|im_end|>", "User:"], "temperature": 0.5, "top_p": 0.9},
        licenses=("MIT",),
        messages=HELLO,
    )


def test_a_presets_own_template_is_what_is_tried_and_told(checkpoint, rendering, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.gotmpl").write_text("{{ range .Messages }}{{ .Content }}{{ end }}")
    (tmp_path / "ollamaq.toml").write_text('[presets.own]\ntemplate_file = "own.gotmpl"\n')
    target = rendering("0.34.2")
    with pytest.raises(publishing.PublishFailed, match="prompt"):
        ollamaq.publish(checkpoint, "bot", quantization="Q8_0", output=tmp_path / "out", preset="own")
    assert target.tried == [(tmp_path / "own.gotmpl").read_text()]
    told = strategy_of(tmp_path / "out")
    assert (told["strategy"], told["passed_over"], told["equal_to_training"]) == ("preset", [], False)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("temperature = 0.5", "temperature = 1.5", "temperature is 1.5, not between 0 and 1"),
        ("temperature = 0.5", "seed = 1", "parameters.temperature is 1.2, not between 0 and 1"),
        ('license = "MIT"', "", "it has no license"),
        ('"license"]', '"license"]\ntags = ["q*"]', r"the tag 'prod' is like none of q\*"),
    ],
)
def test_a_model_that_breaks_its_teams_policy_is_not_published(old, new, said, tiny_checkpoint, target, team):
    team.write_text(TEAM.replace(old, new))
    checkpoint = tiny_checkpoint("hot", generation_config={"temperature": 1.2})
    with pytest.raises(PolicyBroken, match=said):
        ollamaq.publish(checkpoint, preset="house", env="prod")
    assert not target.models
    assert not list(team.parent.glob("*-Q5_K_M"))
    arguments = ["publish", str(checkpoint), "--preset", "house", "--env", "prod", "--dry-run"]
    assert CliRunner().invoke(app, arguments).exit_code == 1


def test_a_policy_holds_for_the_name_that_is_given(checkpoint, target, team):
    team.write_text(TEAM.replace('"license"]', '"license"]\nnames = ["acme/*"]'))
    with pytest.raises(PolicyBroken, match="the name 'bot' is like none of"):
        ollamaq.publish(checkpoint, "bot", preset="house", env="prod")


def test_only_what_has_passed_is_pushed_to_a_registry(checkpoint, target, tmp_path, monkeypatch):
    order = []
    place = parse_reference("registry.test/team/tiny:q8_0")
    monkeypatch.setattr(publishing, "push_places", lambda *arguments, **options: order.append("asked") or [place])

    def push(package, reference, **options):
        order.append(sorted(target.models))
        return Pushed(str(reference), "sha256:00", 1, ())

    monkeypatch.setattr(publishing, "push_model", push)
    options = {"quantization": "Q8_0", "output": tmp_path / "out", "push": "registry.test/team/tiny"}
    (release,) = ollamaq.publish(checkpoint, **options)
    assert release.pushed == "registry.test/team/tiny:q8_0"
    assert order == ["asked", ["tiny:q8_0"]]
    target.answer = ""
    with pytest.raises(publishing.PublishFailed):
        ollamaq.publish(checkpoint, **options)
    assert order == ["asked", ["tiny:q8_0"], "asked"]


def test_a_package_that_is_only_made_is_held_to_the_gate_too(checkpoint, tmp_path):
    gate = Gate("ollamaq.toml", max_size="1KB", required=("prompt",))
    with pytest.raises(publishing.PublishFailed, match=r"gate: prompt required.*gate: max_size"):
        ollamaq.publish(checkpoint, "bot", to="file", output=tmp_path / "out", gate=gate)
