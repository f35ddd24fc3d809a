"""The Python of the API page runs as it stands there, against a real server."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from tests.contract.running import Api

PAGE = Path(__file__).parents[2] / "docs" / "api.md"


def test_the_snippet_of_the_page_runs(api: Api) -> None:
    (snippet,) = re.findall(r"```python\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    assert '"localhost:50051"' in snippet
    # The limits of time are for idle machines; one that runs tests is given more.
    patience = (
        "from saerec_ray import _calls as c\nc.RECOMMEND_SECONDS = c.READ_SECONDS = c.WRITE_SECONDS = 20.0\n"
    )
    snippet = patience + snippet.replace('"localhost:50051"', f'"127.0.0.1:{api.port}"')
    done = subprocess.run([sys.executable, "-c", snippet], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 5 + 3
    assert all("because of" in line for line in lines[:5])
    assert lines[6].endswith("of the page would stay")
    assert lines[7].startswith("INVALID_ARGUMENT INVALID_FIELD")
