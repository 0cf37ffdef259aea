"""What psql or another service commits: `python -m examples.shop.bridge`, beside the workers, until SIGTERM.

One is enough, however many workers there are; a second shares the work, and goes on alone if need be.
"""

from __future__ import annotations

import logging
import os
import signal

from tiercache import TierCache
from tiercache.sqlalchemy.postgres import Bridge


def main() -> None:
    logging.basicConfig(level=logging.WARNING)
    ends = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, ends)  # before a thread begins: they are for sigwait() alone
    cache = TierCache(os.environ["SHOP_REDIS"], namespace="shop", max_staleness=1.0)
    with cache.sync, Bridge(cache, os.environ["SHOP_DATABASE"]):
        signal.sigwait(ends)


if __name__ == "__main__":
    main()
