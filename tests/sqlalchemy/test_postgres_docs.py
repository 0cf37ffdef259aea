"""docs/howto/postgres_bridge.md does what it says: its program runs as it is printed, on PostgreSQL."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from tests.postgres import PostgresServer
from tests.servers import RedisServer

ROOT = Path(__file__).parents[2]


def test_the_program_of_the_page_runs(
    postgres: PostgresServer, postgres_url: str, redis_server: RedisServer, tmp_path: Path
) -> None:
    page = (ROOT / "docs/howto/postgres_bridge.md").read_text()
    blocks = re.findall(r"^```py\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    assert len(blocks) == 3
    (tmp_path / "page.py").write_text("\n".join(blocks))
    environment = {
        **os.environ,
        "PATH": os.pathsep.join((str(postgres.binaries), os.environ["PATH"])),
        "PYTHONPATH": str(ROOT),
        "TIERCACHE_URL": redis_server.url(),
        "DATABASE_URL": postgres_url,
    }

    done = subprocess.run(
        [sys.executable, "page.py"], cwd=tmp_path, env=environment, capture_output=True, timeout=60
    )

    assert done.returncode == 0, done.stderr.decode()
