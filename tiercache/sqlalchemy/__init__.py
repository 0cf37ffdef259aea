"""SQLAlchemy: what is committed makes entries invalid, reads are cached, and entities are values.

from tiercache.sqlalchemy import from_cache, install

install(cache, engine)      # or a sessionmaker, a Session, their async kin
session.scalars(select(User).options(from_cache(ttl=300)))
"""

from tiercache.sqlalchemy.attach import attach
from tiercache.sqlalchemy.dependency import cached_dependency
from tiercache.sqlalchemy.install import install, uninstall
from tiercache.sqlalchemy.listening import Reads, noting_reads
from tiercache.sqlalchemy.options import from_cache
from tiercache.sqlalchemy.unloaded import NotLoaded

__all__ = [
    "NotLoaded",
    "Reads",
    "attach",
    "cached_dependency",
    "from_cache",
    "install",
    "noting_reads",
    "uninstall",
]
