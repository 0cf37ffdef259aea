"""SQLAlchemy: what is committed makes entries invalid.

from tiercache.sqlalchemy import install

install(cache, engine)      # or a sessionmaker, a Session, their async kin
"""

from tiercache.sqlalchemy.install import install, uninstall
from tiercache.sqlalchemy.listening import Reads, noting_reads

__all__ = ["Reads", "install", "noting_reads", "uninstall"]
