"""Print the lowest versions that ``pyproject.toml`` allows, to test with them that it allows no lower than it should.

    python scripts/lowest.py > work/lowest.txt
    pip install -c work/lowest.txt -e ".[test,av,evaluate,watch]" && python -m pytest

Those that the extra ``dev`` alone asks for are left out.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

PYPROJECT = Path(__file__).resolve().parent.parent / "pyproject.toml"


def main() -> None:
    project = tomllib.loads(PYPROJECT.read_text())["project"]
    extras = [lines for extra, lines in project["optional-dependencies"].items() if extra != "dev"]
    for line in sorted({line for lines in (project["dependencies"], *extras) for line in lines}):
        if floor := re.fullmatch(r"([\w.-]+)(?:\[.*\])?>=([\w.]+)(?:;.*)?", line):
            print(f"{floor[1]}=={floor[2]}")


if __name__ == "__main__":
    main()
