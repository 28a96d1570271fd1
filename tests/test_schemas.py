"""The published JSON Schemas are those that files are checked by, and mean to other programs what they mean here."""

import json
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollamaq.cli.config import schemas
from ollamaq.errors import UsageError
from ollamaq.team.schema import SCHEMAS, check

Draft7Validator = pytest.importorskip("jsonschema").Draft7Validator
ROOT = Path(__file__).resolve().parent.parent
ALL = schemas()


def test_the_published_schemas_are_up_to_date(tmp_path):
    subprocess.run([sys.executable, ROOT / "docs" / "make_schemas.py", tmp_path], check=True)
    for name in ALL:
        file = f"{name}.schema.json"
        assert (ROOT / "docs" / "schemas" / file).read_text() == (tmp_path / file).read_text()


@pytest.mark.parametrize("name", ALL)
def test_a_published_schema_is_a_schema(name):
    Draft7Validator.check_schema(json.loads((ROOT / "docs" / "schemas" / f"{name}.schema.json").read_text()))


@pytest.mark.parametrize("path", sorted((ROOT / "examples").rglob("*.toml")), ids=lambda path: path.name)
def test_the_examples_are_as_the_schemas_say(path):
    data = tomllib.loads(path.read_text())
    validator = Draft7Validator(ALL.get(path.stem, SCHEMAS["preset"]))
    assert not [error.message for error in validator.iter_errors(data)]


KEYS = st.sampled_from(
    (
        *("name", "extends", "system", "parameters", "temperature", "num_ctx", "stop", "messages", "role", "content"),
        *(
            "policy",
            "require",
            "ranges",
            "licenses",
            "environments",
            "prod",
            "models",
            "presets",
            "defaults",
            "to",
            "q",
        ),
        "unknown",
    )
)
VALUES = st.recursive(
    st.sampled_from(["", "text", "user", "system", 0, 1, 4096, 0.5, True]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=12,
)


@pytest.mark.parametrize("name", tuple(SCHEMAS))
@given(data=st.dictionaries(KEYS, VALUES, max_size=4))
def test_other_validators_take_and_refuse_the_same_files(name, data):
    try:
        check(data, name, "file")
        taken = True
    except UsageError:
        taken = False
    assert taken == Draft7Validator(SCHEMAS[name]).is_valid(data)
