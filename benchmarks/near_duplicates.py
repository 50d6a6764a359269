"""Time and memory of the search for near-duplicates among a million pictures.

    python benchmarks/near_duplicates.py
    python benchmarks/near_duplicates.py --pictures=20000 --alike=1000   # seconds

The pictures are numbers that hang together as those of aligned faces do. One in fifty is a noisy
copy of another one, half of those mirrored; `--alike` more are one picture with noise, as frames of
a video that stands still. Printed are the seconds, the peak of memory beyond the pictures, and the
share of the copies that is found.
"""

import argparse
import resource
import time

import numpy as np

from facejax.data import near_duplicates

_FACTORS = 24  # in which most of a face's 64 numbers hang together
COPIES = 0.02
NOISE = 0.2  # of a number's own deviation: a correlation of 0.98


def pictures_of(count: int, alike: int) -> tuple[np.ndarray, np.ndarray]:
    """float32 [count, 64], and int64 [copies, 2] which are copies of which."""
    random = np.random.default_rng(0)
    mixing = random.standard_normal((_FACTORS, near_duplicates.SIZE), np.float32)
    rows = random.standard_normal((count, _FACTORS), np.float32) @ mixing / _FACTORS**0.5
    rows += 0.7 * random.standard_normal(rows.shape, np.float32)
    copies = int(COPIES * count)
    chosen = random.permutation(count)[: 2 * copies].reshape(-1, 2)
    noise = random.standard_normal((copies, near_duplicates.SIZE), np.float32)
    rows[chosen[:, 1]] = rows[chosen[:, 0]] + NOISE * noise
    rows[chosen[::2, 1]] *= near_duplicates.MIRROR
    if alike:
        still = rows[0] + NOISE * random.standard_normal((alike, near_duplicates.SIZE), np.float32)
        rows = np.concatenate([rows, still])
    return rows, np.sort(chosen, axis=1)


def main() -> None:
    """Prints the figures."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--pictures", type=int, default=1_000_000)
    parser.add_argument("--alike", type=int, default=0)
    parser.add_argument("--bands", type=int, default=4)
    options = parser.parse_args()
    rows, copies = pictures_of(options.pictures, options.alike)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started, used = time.perf_counter(), time.process_time()
    found = near_duplicates.find(rows, bands=options.bands)
    seconds, busy = time.perf_counter() - started, time.process_time() - used
    peak = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    keys = found.first * len(rows) + found.second
    hit = np.isin(copies[:, 0] * len(rows) + copies[:, 1], keys)
    print(f"pictures: {len(rows)}, of them one with noise: {options.alike}")
    print(f"time: {seconds:.1f} s, of processor {busy:.1f} s")
    print(
        f"memory: {peak:.0f} MiB more at its peak, where the pictures are {rows.nbytes >> 20} MiB"
    )
    print(f"pairs: {len(keys)}; copies found: {hit.sum()} of {len(hit)} ({hit.mean():.1%})")
    print(f"hashes of which only some neighbours were compared: {found.cut}")


if __name__ == "__main__":
    main()
