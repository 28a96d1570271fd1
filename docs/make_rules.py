"""Write the pages of the linter's rules into docs/rules: one for each, and one that lists them."""

import sys
from pathlib import Path

from ollamaq.modelfile.lint.explain import pages


def main(directory: Path) -> None:
    """Write them all, and remove what no rule has any more."""
    directory.mkdir(parents=True, exist_ok=True)
    made = pages()
    for path in directory.glob("*.md"):
        if path.name not in made:
            path.unlink()
    for name, text in made.items():
        (directory / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent / "rules")
