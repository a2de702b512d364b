"""What the answers of the benchmark show, in numbers and in words."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.machine import in_words

# After a move for so long the workers notice it, load the version and take it over.
SWITCHING_SECONDS = 1.0


def latency(found: Any, moves: list[float]) -> dict[str, dict[str, float]]:
    """Milliseconds of the answers before the first move, in the second after a move, and at other times."""
    due, milliseconds = np.array(found["due"]), np.array(found["latency_ms"])
    order = np.argsort(due)
    due, milliseconds = due[order], milliseconds[order]
    last = np.searchsorted(np.array(moves), due, side="right") - 1
    since = due - np.array(moves)[np.maximum(last, 0)]
    parts = {
        "before the first move": last < 0,
        f"within {SWITCHING_SECONDS:g} s of a move": (last >= 0) & (since <= SWITCHING_SECONDS),
        "between moves": (last >= 0) & (since > SWITCHING_SECONDS),
    }
    return {name: _quantiles(milliseconds[part]) for name, part in parts.items()}


def follow_seconds(found: Any, moves: list[float]) -> dict[str, float]:
    """From a move to the last request that the version before it was asked: when every worker had followed."""
    due, version = np.array(found["due"]), np.array(found["version"])
    order = np.argsort(due)
    due, version = due[order], version[order]
    seconds = []
    for i, moved in enumerate(moves):
        until = moves[i + 1] if i + 1 < len(moves) else np.inf
        inside = (due > moved) & (due < until)
        before = version[due <= moved]
        if len(before) and inside.any():
            old = due[inside][version[inside] == before[-1]]
            seconds.append(float(old[-1] - moved) if len(old) else 0.0)
    return {"median": float(np.median(seconds)), "longest": float(np.max(seconds)), "moves": len(seconds)}


def failures(result: dict[str, Any]) -> list[str]:
    """What must not be, in words."""
    lost = sum(count for status, count in result["statuses"].items() if status != "200")
    found = {
        "requests without a 200": lost + result["broken"] + result["unanswered"],
        "answers that differ from their version's": result["wrong"],
        "versions that could not be loaded": int(result["switches"]["failed"]),
    }
    return [f"{count} {what}" for what, count in found.items() if count]


def write(result: dict[str, Any]) -> str:
    """The README of the results."""
    answered = result["statuses"].get("200", 0)
    lines = [
        "# Promotions and rollbacks under load",
        "",
        f"`python -m benchmarks.switching --seconds {result['seconds']:g}`, commit {result['commit']}. "
        f"{in_words(result['machine'])}.",
        "",
        f"A service with {result['workers']} workers, asked {result['rate']:.0f} times a second (half of the "
        f"{result['most_rps']:.0f} that it and the load generator reach together on these cores), "
        f"{result['moves']} moves of the pointer in {result['seconds']:g} s.",
        "",
        "| | |",
        "|---|---|",
        f"| requests answered with 200 | {answered} |",
        f"| refused, failed, broken off or unanswered | {_lost(result)} |",
        f"| answers checked against the version that they name | {result['checked']} |",
        f"| of these wrong (a probability off by more than 1e-5) | {result['wrong']} |",
        f"| switches made, of all workers | {result['switches']['done']:.0f} |",
        f"| from a move to the last request to the version before | median {result['follow_seconds']['median']:.2f} s, "
        f"longest {result['follow_seconds']['longest']:.2f} s |",
        "",
        "| latency, ms | p50 | p99 | p99.9 | longest | answers |",
        "|---|---|---|---|---|---|",
    ]
    for name, row in result["latency"].items():
        figures = " | ".join(f"{row[key]:.1f}" for key in ("p50", "p99", "p99.9", "longest"))
        lines.append(f"| {name} | {figures} | {row['answers']:.0f} |")
    lines += ["", "| seconds | moves | resident MB of each worker |", "|---|---|---|"]
    for row in result["memory"]:
        lines.append(f"| {row['seconds']} | {row['moves']} | {', '.join(f'{mb:.1f}' for mb in row['resident_mb'])} |")
    return "\n".join(lines) + "\n"


def _lost(result: dict[str, Any]) -> int:
    others = sum(count for status, count in result["statuses"].items() if status != "200")
    return int(others + result["broken"] + result["unanswered"])


def _quantiles(milliseconds: Any) -> dict[str, float]:
    if not len(milliseconds):
        return {"p50": np.nan, "p99": np.nan, "p99.9": np.nan, "longest": np.nan, "answers": 0}
    p50, p99, p999 = np.percentile(milliseconds, [50, 99, 99.9])
    longest = float(milliseconds.max())
    return {"p50": p50, "p99": p99, "p99.9": p999, "longest": longest, "answers": len(milliseconds)}
