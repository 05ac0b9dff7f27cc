"""The task and the timing that all Python peers share.

Gaussian embeddings of variance 1/d, labels from the informative token, trigger in the keys only,
three steps of gradient descent, accuracies on fresh sequences. Drawing the data is not timed.
"""

import argparse
import json
import resource
import time
from dataclasses import dataclass

import numpy as np


@dataclass
class Data:
    """Inputs of one trial; tables are float32, indices int32."""

    z_in: np.ndarray  # V x d
    z_out: np.ndarray  # V x d
    trigger: np.ndarray  # d
    query: np.ndarray  # d
    label_of: np.ndarray  # V, informative token to label
    tokens: np.ndarray  # N x L
    position: np.ndarray  # N
    label: np.ndarray  # N
    test_tokens: np.ndarray
    test_position: np.ndarray
    test_label: np.ndarray


def draw(vocab, dim, length, samples, test, seed):
    """Draws the inputs of one trial."""
    rng = np.random.default_rng(seed)

    def gaussian(*shape):
        return (rng.standard_normal(shape) / np.sqrt(dim)).astype(np.float32)

    label_of = rng.permutation(vocab).astype(np.int32)

    def sequences(count):
        tokens = rng.integers(0, vocab, (count, length), dtype=np.int32)
        position = rng.integers(0, length, count, dtype=np.int32)
        return tokens, position, label_of[tokens[np.arange(count), position]]

    return Data(
        gaussian(vocab, dim),
        gaussian(vocab, dim),
        gaussian(dim),
        gaussian(dim),
        label_of,
        *sequences(samples),
        *sequences(test),
    )


def main(run):
    """Times `run(data, rates) -> (attention hits, label hits)` and prints one JSON line.

    The first trial is discarded: it compiles. Times are of the processor and of the wall clock.
    """
    parser = argparse.ArgumentParser()
    for name in ("vocab", "dim", "length", "samples"):
        parser.add_argument(name, type=int)
    parser.add_argument("--test", type=int, default=2048)
    parser.add_argument("--seeds", type=int, nargs=2, default=(0, 1))
    parser.add_argument("--rates", type=float, nargs=3, default=(1.0, 1e6, 10.0))
    options = parser.parse_args()
    sizes = (options.vocab, options.dim, options.length, options.samples, options.test)
    wall, cpu, attention, accuracy = [], [], [], []
    for trial, seed in enumerate([options.seeds[0], *range(*options.seeds)]):
        data = draw(*sizes, seed)
        begin, before = time.perf_counter(), time.process_time()
        attended, correct = run(data, options.rates)
        if trial == 0:
            continue
        cpu.append(time.process_time() - before)
        wall.append(time.perf_counter() - begin)
        attention.append(int(attended) / options.test)
        accuracy.append(int(correct) / options.test)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(
        json.dumps(
            {
                "wall_s": wall,
                "cpu_s": cpu,
                "peak_kib": peak,
                "attention": attention,
                "accuracy": accuracy,
            }
        )
    )
