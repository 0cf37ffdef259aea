"""How an integration teaches every cache of a process to store its classes."""

from __future__ import annotations

from tiercache import TierCache, shapes


class Temperature:
    """Of a library that knows nothing of caches."""

    def __init__(self, degrees: float) -> None:
        self.degrees = degrees


TEMPERATURE = shapes.Shape(
    Temperature,
    "1",
    (".degrees",),
    False,
    lambda instance: (instance.degrees,),
    lambda parts: Temperature(*parts),
)


class Library:
    def shape(self, cls: type) -> shapes.Shape | shapes.Linked | None:
        return TEMPERATURE if cls is Temperature else None

    def named(self, name: str) -> type | None:
        return Temperature if name == TEMPERATURE.name else None


def test_a_cache_that_was_made_before_stores_what_a_family_was_taught_for_since() -> None:
    library = Library()
    cache = TierCache("memory://", private=True)
    with cache.sync:
        shapes.teach(library)
        shapes.teach(library)

        cache.sync.set("k", [Temperature(21.5)])

        (came,) = cache.sync.get("k")
        assert (type(came), came.degrees) == (Temperature, 21.5)
    assert list(shapes.families()).count(library) == 1
