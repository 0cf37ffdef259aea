"""Sequences of keys that stand for traffic: each is decided by its arguments and its seed alone."""

from __future__ import annotations

import itertools
import random
from itertools import accumulate


def zipf(keys: int, exponent: float, length: int, seed: int) -> list[int]:
    """Key k is drawn with a weight of 1 / (k + 1) ** exponent, independently of all before."""
    weights = list(accumulate((k + 1) ** -exponent for k in range(keys)))
    return random.Random(seed).choices(range(keys), cum_weights=weights, k=length)


def loop(keys: int, length: int) -> list[int]:
    """All keys in turn, again and again: the worst case of LRU as soon as one does not fit."""
    return [i % keys for i in range(length)]


def scan_and_zipf(keys: int, exponent: float, length: int, seed: int, *, scan: int) -> list[int]:
    """Zipf, and after every *scan* of its reads as many keys that are read once and never again."""
    reads = iter(zipf(keys, exponent, length + scan, seed))
    once = itertools.count(keys)
    trace: list[int] = []
    while len(trace) < length:
        trace += [next(reads) for _ in range(scan)]
        trace += [next(once) for _ in range(scan)]
    return trace[:length]


def shifting(keys: int, exponent: float, length: int, seed: int, *, hold: int) -> list[int]:
    """Zipf over keys whose ranks move on: after every *hold* reads, a tenth of all keys change places.

    So what was hot is cold after some ten moves, as with the news of a day.
    """
    moving = random.Random(seed + 1)
    names = list(range(keys))
    trace = []
    for number, rank in enumerate(zipf(keys, exponent, length, seed)):
        if number % hold == 0 and number:
            places = moving.sample(range(keys), keys // 10)
            moved = [names[place] for place in places]
            moving.shuffle(moved)
            for place, name in zip(places, moved, strict=True):
                names[place] = name
        trace.append(names[rank])
    return trace
