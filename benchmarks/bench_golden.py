"""A golden sample to Parquet: ours against json + pandas, each in a process of its own; seconds and peak memory.

.venv/bin/python benchmarks/golden_file.py benchmarks/out/golden.jsonl.gz 1000000
.venv/bin/python benchmarks/bench_golden.py ours benchmarks/out/golden.jsonl.gz
.venv-bench/bin/python benchmarks/bench_golden.py pandas benchmarks/out/golden.jsonl.gz
"""

from __future__ import annotations

import gzip
import json
import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import Any


def by_pandas(recording: Path, target: Path) -> int:
    """As a script does it: floats, everything in memory, no checks."""
    import pandas as pd  # noqa: PLC0415 - in an environment of its own

    trades: list[tuple[Any, ...]] = []
    depth: list[tuple[Any, ...]] = []
    with gzip.open(recording, "rb") as file:
        for line in file:
            message = json.loads(line)
            stamp, data = message["capture_ns"], message["data"]
            if message["stream"].endswith("@trade"):
                trades.append((stamp, data["E"], data["T"], data["t"], float(data["p"]), float(data["q"]), data["m"]))
            elif "@depth@" in message["stream"]:
                for side, levels in ((0, data["b"]), (1, data["a"])):
                    depth += [(stamp, data["E"], data["U"], data["u"], side, float(price), float(quantity)) for price, quantity in levels]
    names = ["capture_ns", "event_ms", "trade_ms", "trade_id", "price", "quantity", "buyer_maker"]
    pd.DataFrame(trades, columns=names).to_parquet(target / "trades.parquet")
    names = ["capture_ns", "event_ms", "first_id", "last_id", "side", "price", "quantity"]
    pd.DataFrame(depth, columns=names).to_parquet(target / "depth.parquet")
    return len(trades) + len(depth)


def by_us(recording: Path, target: Path) -> int:
    """Exact, checked, hour by hour, with a manifest."""
    from capture_pipeline.golden.convert import convert  # noqa: PLC0415 - the peer's environment has it not

    return sum(convert(recording, "20260803T123000Z_btcusdt", target).rows.values())


def main() -> None:
    """Run one of them."""
    name, recording = sys.argv[1], Path(sys.argv[2])
    with tempfile.TemporaryDirectory() as folder:
        start, cpu = time.monotonic(), time.process_time()
        rows = (by_us if name == "ours" else by_pandas)(recording, Path(folder))
        seconds, used = time.monotonic() - start, time.process_time() - cpu
        size = sum(path.stat().st_size for path in Path(folder).rglob("*.parquet"))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{name}: {rows:,} rows, {seconds:.1f} s ({used:.1f} s of CPU), peak {peak:,.0f} MB, Parquet {size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
