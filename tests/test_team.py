"""A team's presets come to the Modelfiles that it means, and nothing in them leads out of their directory."""

import pytest
from typer.testing import CliRunner

from ollamaq.chat.known import find_format
from ollamaq.cli import app
from ollamaq.errors import UsageError
from ollamaq.team.compose import compose
from ollamaq.team.places import find_team
from ollamaq.team.policy import PolicyBroken

CATALOGUE = """
environments = ["staging", "prod"]
[policy]
require = ["system", "license"]
licenses = ["MIT"]
names = ["acme/*"]
[policy.ranges]
temperature = [0, 1]
[presets.base]
license = "MIT"
name = "acme/{{ model }}:{{ env }}"
system = "You are {{ who }}."
[presets.base.parameters]
temperature = 0.7
num_ctx = 4096
[presets.base.environments.prod.parameters]
num_ctx = 8192
[models.bot]
extends = "base"
from = "llama3.2"
variables.who = "Bot"
[models.bot.environments.staging.parameters]
temperature = 0
"""


@pytest.fixture
def team(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("OLLAMAQ_PRESETS", raising=False)

    def make(text=CATALOGUE, **files):
        (tmp_path / "ollamaq.toml").write_text(text)
        for name, content in files.items():
            path = tmp_path / name.replace("__", "/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)
        return find_team()

    return make


def run(*arguments):
    return CliRunner().invoke(app, ["modelfile", *arguments])


def test_what_builds_on_a_preset_wins_over_it_and_the_environment_within(team):
    made = team()
    prod, staging = (compose(made, made.model("bot"), env) for env in ("prod", "staging"))
    assert prod.name == "acme/bot:prod"
    assert prod.modelfile.system == "You are Bot."
    assert prod.modelfile.parameters == {"num_ctx": 8192, "temperature": 0.7}
    assert staging.modelfile.parameters == {"num_ctx": 4096, "temperature": 0}


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("temperature = 0\n", "temperature = 2\n", "temperature is 2, not between 0 and 1"),
        ('license = "MIT"', 'license = "GPL"', "is 'GPL', not one of MIT"),
        ('system = "You are {{ who }}."', "", "it has no system"),
        ('name = "acme/', 'name = "other/', "the name 'other/bot' is like none of acme/*"),
    ],
)
def test_a_model_that_breaks_the_policy_is_refused(team, old, new, said):
    made = team(CATALOGUE.replace(old, new))
    with pytest.raises(PolicyBroken, match=said.replace("*", r"\*")):
        compose(made, made.model("bot"), "staging")


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("num_ctx = 4096", "num_ctxs = 4096", "presets.base.parameters.num_ctxs is unknown; did you mean num_ctx"),
        ("num_ctx = 4096", 'num_ctx = "4096"', "presets.base.parameters.num_ctx is '4096', not a whole number"),
        ("{{ who }}", "{{ whoo }}", "did you mean who"),
        ('extends = "base"', 'extends = "bass"', "did you mean base"),
        ('system = "You are {{ who }}."', 'system_file = "../x"', "leaves"),
        ('system = "You are {{ who }}."', 'system_file = "/etc/passwd"', "leaves"),
        ('from = "llama3.2"', 'from = "../../../x.gguf"', "leaves"),
        ('from = "llama3.2"', 'from = "llama3.2"\noutput = "../x"', "leaves"),
        ('license = "MIT"', 'license = "MIT"\nextends = "base"', "never ends"),
    ],
)
def test_what_is_wrong_is_said_with_file_and_key(team, old, new, said):
    def made():
        found = team(CATALOGUE.replace(old, new))
        return compose(found, found.model("bot"), "prod")

    with pytest.raises(UsageError, match=said) as error:
        made()
    assert "ollamaq.toml" in str(error.value)


def test_render_writes_what_check_then_finds_up_to_date(team, tmp_path):
    team()
    assert run("render", "--all", "--check").exit_code == 1
    assert run("render", "--all").exit_code == 0
    assert run("render", "--all", "--check").exit_code == 0
    path = tmp_path / "modelfiles" / "prod" / "bot.Modelfile"
    assert path.read_text() == (
        "# Rendered from ollamaq.toml (models.bot, prod): change it there.\n"
        "FROM llama3.2\nSYSTEM You are Bot.\nPARAMETER num_ctx 8192\nPARAMETER temperature 0.7\nLICENSE MIT\n"
    )
    path.write_text(path.read_text().replace("0.7", "0.9"))
    checked = run("render", "bot", "--env", "prod", "--check")
    assert checked.exit_code == 1
    assert "-PARAMETER temperature 0.9\n+PARAMETER temperature 0.7\n" in checked.stdout


def test_a_preset_file_may_build_on_a_shared_one_of_its_name(team):
    made = team(
        'shared = ["vendor"]\n[models.bot]\nextends = "base"\nfrom = "x"\n',
        presets__base_toml="",
    )
    (made.root / "presets").mkdir(exist_ok=True)
    (made.root / "vendor").mkdir(exist_ok=True)
    (made.root / "presets" / "base.toml").write_text('extends = "base"\nparameters.seed = 1\n')
    (made.root / "vendor" / "base.toml").write_text('license = "MIT"\nparameters.seed = 2\n')
    found = find_team()
    modelfile = compose(found, found.model("bot")).modelfile
    assert (modelfile.licenses, modelfile.parameters) == (("MIT",), {"seed": 1})


CHAT_FORMAT = """
[policy.ranges]
temperature = [0, 1]
[presets.base]
chat_format = "kimi-k2"
[models.bot]
extends = "base"
from = "./model.gguf"
parameters.top_k = 5
"""


def test_a_chat_format_gives_template_stops_and_sampling_beneath_what_is_said(team):
    made = team(CHAT_FORMAT)
    modelfile = compose(made, made.model("bot")).modelfile
    assert modelfile.template == find_format("kimi-k2").go
    assert modelfile.parameters == {"stop": ["<|im_end|>"], "temperature": 0.6, "top_k": 5}
    made = team(CHAT_FORMAT + 'template_file = "own.gotmpl"\n', **{"own.gotmpl": "{{ .Prompt }}"})
    modelfile = compose(made, made.model("bot")).modelfile
    assert (modelfile.template, modelfile.parameters) == ("{{ .Prompt }}", {"top_k": 5})


def test_a_policy_holds_for_what_a_chat_format_brings_along(team):
    made = team(CHAT_FORMAT.replace("kimi-k2", "seed-oss"))
    with pytest.raises(PolicyBroken, match=r"chat_format \(its temperature\) is 1.1"):
        compose(made, made.model("bot"))


def test_an_unknown_chat_format_is_refused_where_it_is_said(team):
    with pytest.raises(UsageError, match=r"presets.base.chat_format is 'kimi'; did you mean"):
        team(CHAT_FORMAT.replace("kimi-k2", "kimi"))


PLACES = ("model", "repository", "vendor", "given", "package")


@pytest.mark.parametrize("first", PLACES)
def test_presets_are_looked_for_in_order(first, tmp_path, monkeypatch):
    package = tmp_path / "site" / "acme_presets"
    metadata = tmp_path / "site" / "acme_presets-1.dist-info"
    for directory in (package, metadata):
        directory.mkdir(parents=True)
    (package / "__init__.py").touch()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-presets\nVersion: 1\n")
    (metadata / "entry_points.txt").write_text("[ollamaq.presets]\nacme = acme_presets\n")
    monkeypatch.syspath_prepend(tmp_path / "site")
    monkeypatch.setenv("OLLAMAQ_PRESETS", str(tmp_path / "given"))
    (tmp_path / "repository").mkdir()
    (tmp_path / "repository" / "ollamaq.toml").write_text('shared = ["vendor"]\n')
    folders = {
        "model": tmp_path / "model" / "presets",
        "repository": tmp_path / "repository" / "presets",
        "vendor": tmp_path / "repository" / "vendor",
        "given": tmp_path / "given",
        "package": package,
    }
    for name in PLACES[PLACES.index(first) :]:
        folders[name].mkdir(parents=True, exist_ok=True)
        (folders[name] / "base.toml").write_text(f'license = "{name}"\n')
    found = find_team(tmp_path / "repository", model=tmp_path / "model")
    assert found.preset("base").data["license"] == first
