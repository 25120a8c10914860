"""Reading and checking take memory for hashes, not for rows."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import assay

_SCRIPT = """
import sys
from pathlib import Path
from assay.feedback import check, read
if sys.argv[1] == "check":
    check(sys.argv[2])
else:
    read(sys.argv[2], cache_dir=sys.argv[3])
# Not getrusage: its peak includes the parent's memory at the moment of the fork.
print(next(line.split()[1] for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")))
"""


def write_pairs(path: Path, rows: int) -> None:
    """Write pairs of about 1,000 characters a row; a tenth of the prompts occur twice, far apart."""
    rng = np.random.default_rng(0)
    schema = pa.schema([(name, pa.string()) for name in ("prompt", "chosen", "rejected")])
    with pq.ParquetWriter(path, schema) as writer:
        for start in range(0, rows, 10_000):
            numbers = np.arange(start, min(start + 10_000, rows))
            prompts = np.where(numbers % 10 == 0, numbers // 2, numbers)
            noise = rng.integers(0, 2**62, size=(len(numbers), 3, 16))
            columns = [
                [f"{name}{key} " + " ".join(map(hex, noise[i, j])) for i, key in enumerate(keys)]
                for j, (name, keys) in enumerate((("prompt", prompts), ("yes", numbers), ("no", numbers)))
            ]
            writer.write_table(pa.table(dict(zip(schema.names, columns, strict=True)), schema=schema))


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="peak memory is read from /proc")
@pytest.mark.parametrize("verb", ["check", "read"])
def test_peak_memory_grows_by_bytes_per_row(verb: str, tmp_path: Path) -> None:
    peaks = []
    for rows in (30_000, 150_000):
        path = tmp_path / f"{rows}.parquet"
        write_pairs(path, rows)
        command = [sys.executable, "-c", _SCRIPT, verb, str(path), str(tmp_path / "cache")]
        environment = {**os.environ, "PYTHONPATH": str(Path(assay.__file__).parents[1])}
        done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
        peaks.append(int(done.stdout) / 1024)
    # 120,000 rows more are 110 MB of text, but some 14 MB of hashes and lengths.
    assert peaks[1] - peaks[0] < 35
