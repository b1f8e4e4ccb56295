"""Times of the two layouts of `shared.model.linear`, for the threshold between them.

    python -m bench.linear [--threads N]

One line per matrix (out x in) and number of rows: microseconds of oneDNN prepacked, of MKL over a
transposed copy, and of the plain product. Twelve matrices take turns, as the layers of a model do.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F

from shared.model.linear import PackedLinear, TransposedLinear

SHAPES = ((512, 256), (1408, 256), (256, 704), (2048, 256), (2304, 768), (4096, 768), (768, 2048))
NUM_ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 512)
NUM_MATRICES = 12
NUM_RUNS = 40


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    torch.set_num_threads(parser.parse_args().threads)
    print(f"{'out x in':>12} {'rows':>4} {'packed':>8} {'transposed':>10} {'plain':>8}  us")
    with torch.inference_mode():
        for num_out, num_in in SHAPES:
            print_shape(num_out, num_in)


def print_shape(num_out: int, num_in: int) -> None:
    """Print the lines of one matrix."""
    weights = [torch.randn(num_out, num_in) for _ in range(NUM_MATRICES)]
    packed = [PackedLinear(weight, None) for weight in weights]
    transposed = [TransposedLinear(weight, None) for weight in weights]
    for num_rows in NUM_ROWS:
        x_RI = torch.randn(num_rows, num_in)
        times = (
            median_us(lambda x=x_RI: [linear(x) for linear in packed]),
            median_us(lambda x=x_RI: [linear(x) for linear in transposed]),
            median_us(lambda x=x_RI: [F.linear(x, weight) for weight in weights]),
        )
        shape = f"{num_out} x {num_in}"
        print(f"{shape:>12} {num_rows:>4} {times[0]:8.0f} {times[1]:10.0f} {times[2]:8.0f}")


def median_us(run: Callable[[], object]) -> float:
    """Return the median time of one matrix's product."""
    samples = []
    for _ in range(NUM_RUNS):
        started = time.perf_counter()
        run()
        samples.append(time.perf_counter() - started)
    return statistics.median(samples) / NUM_MATRICES * 1e6


if __name__ == "__main__":
    main()
