"""The errors a caller can meet, split by what the caller can do about them.

Fix the call:   SettingError, Unstorable, UnstableKey
Go without:     L2Unavailable (nothing answered), L2Refused (an answer, and it was no)
Give up:        LoadTimeout
Prepare:        ServerNotFound

An error of the user's own loader is never wrapped: it reaches the caller as it was raised (StopIteration
excepted, which no generator can let out).
"""

from __future__ import annotations


class TierCacheError(Exception):
    """The root of every error this package raises on its own account."""


class SettingError(TierCacheError, ValueError):
    """A setting is unknown, of the wrong unit or type, or contradicts another handle's."""


class Unstorable(TierCacheError, TypeError):
    """A value would not come back as it went in; the message holds the path to the part."""


class UnstableKey(TierCacheError, TypeError):
    """An argument has no key that is the same in every process; the message says what to write."""


class L2Unavailable(TierCacheError, ConnectionError):
    """Redis did not answer in time, or the circuit is open because it lately did not."""


class L2Refused(L2Unavailable):
    """Redis answered with an error (ACL, read-only, out of memory): a retry will not help at once."""


class LoadTimeout(TierCacheError, TimeoutError):
    """Somebody else's load of the same key took longer than `load_timeout`; it may still end."""


class ServerNotFound(TierCacheError, FileNotFoundError):
    """No redis-server or valkey-server binary is on this machine; the message names the package."""
