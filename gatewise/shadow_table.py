"""What shadows have shown, for a person at a terminal."""

from __future__ import annotations

from collections.abc import Iterator

from gatewise.shadow import Comparison

_MOST_DIFFERENCES = 10


def table(one: Comparison) -> Iterator[str]:
    """The lines that tell of a pair of versions: how often they agree, how long each takes, where they differ."""
    yield f"{one.challenger} beside {one.champion}"
    yield f"  rows {one.rows}, failed {one.failed}, requests dropped {one.dropped}"
    if one.agreement is not None and one.interval is not None:
        low, high = one.interval
        yield f"  agreement {one.agreement:.1%} ({low:.1%} to {high:.1%} at 95 %)"
        yield "  engine ms       mean      p50      p99"
        for name, durations in (("champion", one.champion_seconds), ("challenger", one.challenger_seconds)):
            yield f"    {name:<10}" + "".join(f"{value or 0:9.2f}" for value in durations.summary().values())
    counts = [(n, label, other) for label, others in one.differences.items() for other, n in others.items()]
    for n, label, other in sorted(counts, reverse=True)[:_MOST_DIFFERENCES]:
        yield f"  {n:>6} x {label} -> {other}"
    if len(counts) > _MOST_DIFFERENCES:
        yield f"  and {len(counts) - _MOST_DIFFERENCES} more pairs of labels"
