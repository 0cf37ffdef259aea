"""What SQL that nobody has described may do, judged by its first word; a stated rule, that errs on one side.

What begins with one of READING reads, with one of NEITHER it does nothing of either. So do some, WITH and SET
among them, where none of the words that change data is in them, and BEGIN where it begins a transaction, not
a block. COMMIT and END make public what was gathered. Anything else counts as a write to everything. What
stands between semicolons is judged by itself, be it a statement or a part of a constant. Functions and
procedures that write are not seen: say `invalidates=`.
"""

from __future__ import annotations

import enum
import functools
import re
from collections.abc import Callable
from typing import TypeVar

from tiercache.sqlalchemy.noting import PURE

T = TypeVar("T")

LONG = 4_000  # characters of a text that is not kept


class Effect(enum.Enum):
    """What a text does."""

    READS = "reads"
    NEITHER = "neither reads nor writes"
    COMMITS = "commits"
    SNAPSHOT = "asks for a snapshot, for this transaction"
    SNAPSHOTS = "asks for snapshots, from now on"
    EVERYTHING = "may write anything"


READING = frozenset(
    {"declare", "desc", "describe", "explain", "fetch", "pragma", "select", "show", "table", "values", "with"}
)
# What brings no rows of tables, and changes none.
NEITHER = frozenset(
    """
    abort analyze attach begin close deallocate detach discard listen lock move notify prepare release reset
    rollback savepoint set start unlisten use vacuum
    """.split()  # noqa: SIM905  # twenty quoted words are harder to read
)
# What MySQL and MariaDB list under "Statements That Cause an Implicit Commit", and the DDL of Oracle.
IMPLICIT = frozenset({"mysql", "mariadb", "oracle"})
_ENDING = re.compile(
    r"(alter|analyze|associate|audit|begin|cache|change|check|comment|create|disassociate|drop|flashback|flush|"
    r"grant|import|install|load|lock|noaudit|optimize|purge|rename|repair|reset|revoke|set|start|stop|"
    r"truncate|uninstall|unlock|xa)\b"
)
# Not one in another, nor one with a CR in it: databases differ in where those end.
_COMMENT = re.compile(r"\s+|--[^\r\n]*(\r?\n|$)|/\*(?!!)((?!/\*).)*?\*/|\(", re.DOTALL)
_WORD = re.compile(r"[a-z_]+")
_CHANGES = re.compile(r"\b(insert|update|delete|merge|replace|truncate|drop|alter|call|exec|execute|into)\b")
# One statement may follow another without a semicolon (SET NOCOUNT ON UPDATE ...).
_WITH_OTHERS = frozenset({"declare", "explain", "prepare", "set", "use", "with"})
_BEGINS = re.compile(
    r"begin(\s+(work|tran|transaction|deferred|immediate|exclusive|concurrent|isolation|level|read|write|only|"
    r"repeatable|committed|uncommitted|serializable|snapshot|not|deferrable)|,)*\s*(--[^\r\n]*|/\*[^*]*\*/)?\s*"
)
_SNAPSHOT = re.compile(r"\b(repeatable\s+read|serializable|snapshot)\b")
_CREATES = re.compile(
    r"create\s+(unique\s+)?(table|index|schema|sequence|extension|type|database|role|user)\b"
)


_HARMLESS = (
    r"transaction|characteristics|constraints|isolation|application_name|client_encoding|names|jit|work_mem|"
    r"\w*timeout\b|enable_|synchronous_commit|tiercache\."
)
_TUNES = re.compile(rf"(set|reset|discard|use|attach|detach)\b(?!\s+(session\s+|local\s+)?({_HARMLESS}))")

_QUOTED = re.compile(r"'[^']*'|\"[^\"]*\"|`[^`]*`")
_TEXT = re.compile(r"'[^']*'|\"")  # and what a name may stand in
_CALLED = re.compile(r"([\w.]+)\s*\(")
_OWN = re.compile(r"(pg_catalog\.)?(pg_|txid_|json|array_|has_|inet_|last_insert|sqlite_|uuid)|tiercache\.")
# Functions of the databases, and words before a parenthesis, that tell a connection nothing.
_PLAIN = PURE | frozenset(
    """
    all and array as between by case changes clock_timestamp connection_id current_database
    current_date current_schema current_schemas current_setting current_time current_timestamp
    current_user currval database db_name decimal else exists filter format_type found_rows from
    gen_random_uuid get_lock getdate host_name in interval is_free_lock lastval like localtime
    localtimestamp newid nextval not now numeric nvarchar obj_description object_id on or over partition
    rand random release_lock row row_count schema schema_name scope_identity select serverproperty
    session_user setval sleep some statement_timestamp suser_sname sysdate then timeofday to_regclass
    to_regtype total_changes transaction_timestamp unix_timestamp user using utc_timestamp values varchar
    version when where
    """.split()  # noqa: SIM905  # a hundred quoted words are harder to read, and to keep sorted
)


def remembered(function: Callable[[str], T]) -> Callable[[str], T]:
    """*function*, asked once for a text that comes again; a long one, as of many rows, hardly does."""
    of_known = functools.lru_cache(maxsize=500)(function)

    @functools.wraps(function)
    def of(sql: str) -> T:
        return of_known(sql) if len(sql) <= LONG else function(sql)

    return of


@remembered
def changes_what_is_read(sql: str) -> bool:
    """Whether *sql* tells the connection something by which one question may have another answer on another.

    A search path, a role, a setting that row-level security looks at. Not: limits of time, and the like. A
    function that nobody knows, called by a SELECT that reads no table, may do so: `SELECT use_tenant('a')`.
    """
    parts = [part[_begin(part) :] for part in sql.lower().split(";")]
    return "set_config" in sql.lower() or any(_TUNES.match(part) or _calls(part) for part in parts)


def _calls(sql: str) -> bool:
    sql = _TEXT.sub("", sql)
    if not sql.startswith("select") or re.search(r"\bfrom\b", sql):
        return False
    return any(
        not _OWN.match(name) and name.removeprefix("pg_catalog.") not in _PLAIN
        for name in _CALLED.findall(sql)
    )


@remembered
def effects_of(sql: str) -> tuple[Effect, ...]:
    """The effect of each statement of *sql*, in their order."""
    return tuple(_effect(part) for part in sql.lower().split(";") if _begin(part) < len(part))


@remembered
def ends_transaction(sql: str) -> bool:
    """Whether *sql* commits what came before it on one of IMPLICIT: nearly all but queries and DML do."""
    return any(_ENDING.match(part, _begin(part)) for part in sql.lower().split(";"))


def is_several(sql: str) -> bool:
    """Whether a semicolon of *sql* may end a statement: it is in no constant and in no name."""
    if ";" not in sql:
        return False
    # Where there are these, quotes may stand for themselves, and then nobody knows what is between two.
    is_plain = not any(mark in sql for mark in ("\\", "--", "/*", "#", "$"))
    return ";" in (_QUOTED.sub("", sql) if is_plain else sql)


def _begin(sql: str) -> int:
    """Where its first word is, after comments and opening parentheses."""
    place = 0
    while found := _COMMENT.match(sql, place):
        place = found.end()
    return place


def _effect(sql: str) -> Effect:
    sql = sql[_begin(sql) :]
    found = _WORD.match(sql)
    word = found[0] if found else ""
    if word in ("commit", "end"):
        # Of a transaction prepared elsewhere, nobody here knows what it wrote.
        return Effect.EVERYTHING if re.match(r"commit\s+prepared\b", sql) else Effect.COMMITS
    if word in _WITH_OTHERS and _CHANGES.search(sql) and not _is_transaction(sql):
        return Effect.EVERYTHING
    if word == "begin" and not _BEGINS.fullmatch(sql):
        return Effect.EVERYTHING
    if word in ("set", "begin", "start") and _SNAPSHOT.search(sql):
        return Effect.SNAPSHOTS if re.match(r"set\s+(session|default)", sql) else Effect.SNAPSHOT
    if word in READING:
        return Effect.READS
    if word in NEITHER or _CREATES.match(sql):
        return Effect.NEITHER
    return Effect.EVERYTHING


def _is_transaction(sql: str) -> bool:
    return re.match(r"prepare\s+transaction\b", sql) is not None
