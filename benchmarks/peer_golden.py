"""Peers: a simple loop over a golden sample that checks ids, or converts it to Parquet with pandas.

.venv-bench/bin/python benchmarks/peer_golden.py validate|convert RECORDING FOLDER
"""

from __future__ import annotations

import gzip
import json
import sys
from pathlib import Path
from typing import Any

from stopwatch import serve


def main() -> None:
    """Run the stopwatch; the number is not used."""
    task, recording, folder = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    folder.mkdir(parents=True, exist_ok=True)
    if task == "convert":
        import pandas  # noqa: F401, ICN001, PLC0415 - only this task needs it, and its import is not measured
    serve(lambda _: _validate(recording) if task == "validate" else _convert(recording, folder))


def _validate(recording: Path) -> int:
    """Count lines and compare ids of trades and diffs with the previous ids."""
    lines = gaps = 0
    last: dict[str, int] = {}
    with gzip.open(recording, "rb") as file:
        for line in file:
            message = json.loads(line)
            lines += 1
            stream, data = message["stream"], message["data"]
            if stream.endswith("@trade"):
                gaps += data["t"] != last.get(stream, data["t"] - 1) + 1
                last[stream] = data["t"]
            elif "@depth@" in stream:
                gaps += data["U"] != last.get(stream, data["U"] - 1) + 1
                last[stream] = data["u"]
    if gaps:
        raise RuntimeError(gaps)
    return lines


def _convert(recording: Path, folder: Path) -> int:
    """Convert to floats in memory, without checks."""
    import pandas as pd  # noqa: PLC0415 - only this task needs pandas

    trades: list[tuple[Any, ...]] = []
    depth: list[tuple[Any, ...]] = []
    with gzip.open(recording, "rb") as file:
        for line in file:
            message = json.loads(line)
            stamp, data = message["capture_ns"], message["data"]
            if message["stream"].endswith("@trade"):
                trades.append(
                    (stamp, data["E"], data["T"], data["t"], float(data["p"]), float(data["q"]), data["m"])
                )
            elif "@depth@" in message["stream"]:
                for side, levels in ((0, data["b"]), (1, data["a"])):
                    depth += [
                        (stamp, data["E"], data["U"], data["u"], side, float(price), float(quantity))
                        for price, quantity in levels
                    ]
    names = ["capture_ns", "event_ms", "trade_ms", "trade_id", "price", "quantity", "buyer_maker"]
    pd.DataFrame(trades, columns=names).to_parquet(folder / "trades.parquet")
    names = ["capture_ns", "event_ms", "first_id", "last_id", "side", "price", "quantity"]
    pd.DataFrame(depth, columns=names).to_parquet(folder / "depth.parquet")
    return len(trades) + len(depth)


if __name__ == "__main__":
    main()
