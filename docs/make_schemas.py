"""Write the JSON Schemas of ollamaq.toml, of presets and of smoke.toml, which editors check them by, into docs/schemas.

python docs/make_schemas.py [DIRECTORY]
"""

import json
import sys
from pathlib import Path

from ollamaq.cli.config import schemas


def main(directory: Path) -> None:
    """Write a file for each schema."""
    directory.mkdir(parents=True, exist_ok=True)
    for name, schema in schemas().items():
        text = json.dumps(schema, ensure_ascii=False, indent=2)
        (directory / f"{name}.schema.json").write_text(f"{text}\n", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent / "schemas")
