#!/usr/bin/env python3
"""Runs our engines and the Python peers in turns on the same work and writes the ratio table.

    python3 benches/peers/run.py [--rounds 3] [--sizes A,B,C] [--write]

Needs Python 3.11 or newer with venv, the package index for what requirements.txt pins (once), and
cargo. Every program gets one thread and, where `taskset` exists, one and the same processor. A
round runs each program once, in turns, on its own seeds; a number is the least over all trials, since
other programs on the machine only ever add to it. Seconds are of the processor, as the operating
system accounts them, without the drawing of the data for the peers and with it for ours.

The same run checks that the accuracies agree: the mean over seeds of every program lies within four
standard errors of that of NumPy. `--write` puts the table into docs/speed.md.
"""

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
VENV = ROOT / "target" / "peers-venv"
PYTHON = VENV / "bin" / "python"
DOCUMENT = ROOT / "docs" / "speed.md"
BEGIN, END = "<!-- peers: begin -->", "<!-- peers: end -->"

SIZES = {
    "A": (512, 64, 32, 8192),
    "B": (1024, 128, 64, 16384),
    "C": (2048, 128, 128, 32768),
}
OURS = {"ours, `early`": "early", "ours, `exact`": "exact"}
PEERS = {
    "NumPy, counting, small steps": ("numpy_counting.py", {}),
    "JAX, by hand, chunks of 256": ("jax_chunked.py", {"CHUNK": "256"}),
    "JAX, by hand, chunks of 1024": ("jax_chunked.py", {"CHUNK": "1024"}),
    "JAX, autodiff, whole batch": ("jax_autodiff.py", {}),
}
# Seeds of one run of a program. The slow one gets fewer.
SEEDS = {"ours, `early`": 8, "NumPy, counting, small steps": 4, "JAX, autodiff, whole batch": 2}


def environment(extra):
    """One thread; the kernel that the library itself picks for this processor."""
    env = {k: v for k, v in os.environ.items() if k not in ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")}
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        env[name] = "1"
    env["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
    env["JAX_PLATFORMS"] = "cpu"
    return env | extra


def prepare():
    if not PYTHON.exists():
        subprocess.run([sys.executable, "-m", "venv", VENV], check=True)
        install = [PYTHON, "-m", "pip", "install", "--quiet", "-r", HERE / "requirements.txt"]
        subprocess.run(install, check=True)
    build = ["cargo", "build", "--release", "--locked", "--example", "timed_trial"]
    subprocess.run(build, cwd=ROOT, check=True)


def rates(size):
    """Step sizes at which the small-step limit holds and attention is as good as an argmax."""
    vocab, _, length, _ = size
    return [1.0, 1000.0 * length**2 * vocab, 1e4]


def run(name, size, seed, pin):
    sizes = [str(x) for x in size]
    last = seed + SEEDS.get(name, 2)
    steps = ["--rates", *(repr(x) for x in rates(size))]
    if name in OURS:
        program = ROOT / "target" / "release" / "examples" / "timed_trial"
        command = [program, OURS[name], "f32", *sizes, "--seeds", f"{seed}..{last}", *steps]
        env = environment({})
    else:
        script, extra = PEERS[name]
        command = [PYTHON, HERE / script, *sizes, "--seeds", str(seed), str(last), *steps]
        env = environment(extra)
    done = subprocess.run([*pin, *command], env=env, check=True, capture_output=True, text=True)
    return json.loads(done.stdout)


def numpy_kernel():
    code = "import numpy, threadpoolctl as t; print(t.threadpool_info()[0]['architecture'])"
    done = subprocess.run([PYTHON, "-c", code], env=environment({}), capture_output=True, text=True)
    return done.stdout.strip() or "unknown"


def processor():
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine()
    fields = dict(line.split(":", 1) for line in lines if ":" in line)
    fields = {k.strip(): v.strip() for k, v in fields.items()}
    return f"{fields.get('model name', '?')}, family {fields.get('cpu family', '?')}"


def mean_and_error(values):
    return statistics.mean(values), statistics.stdev(values) / len(values) ** 0.5


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--sizes", default="A,B,C")
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    prepare()
    pin = ["taskset", "-c", "0"] if shutil.which("taskset") else []
    lines, wrong = [], []
    lines.append("| size (V, d, L, N) | program | processor s | wall s | peak MiB | accuracy | time / `early` | time / `exact` |")
    lines.append("|---|---|---|---|---|---|---|---|")
    for letter in options.sizes.split(","):
        size = SIZES[letter]
        results = {name: [] for name in [*OURS, *PEERS]}
        for turn in range(options.rounds):
            for name in results:
                results[name].append(run(name, size, 100 * turn, pin))
                print(letter, turn, name, min(results[name][-1]["cpu_s"]), file=sys.stderr)
        table = {}
        for name, runs in results.items():
            flat = {k: [x for r in runs for x in r[k]] for k in ("cpu_s", "wall_s", "accuracy")}
            peak = max(r["peak_kib"] for r in runs) / 1024
            table[name] = (min(flat["cpu_s"]), min(flat["wall_s"]), peak, *mean_and_error(flat["accuracy"]))
        _, _, _, level, level_error = table["NumPy, counting, small steps"]
        for name, (cpu, wall, peak, accuracy, error) in table.items():
            if abs(accuracy - level) > 4 * (error**2 + level_error**2) ** 0.5:
                wrong.append(f"{letter}: {name}: {accuracy:.4f} against {level:.4f}")
            early, exact = (cpu / table[ours][0] for ours in OURS)
            lines.append(
                f"| {letter} {size} | {name} | {cpu:.4f} | {wall:.4f} | {peak:.0f} "
                f"| {accuracy:.4f} ± {error:.4f} | {early:.2f} | {exact:.2f} |"
            )
    command = " ".join(["python3 benches/peers/run.py", *sys.argv[1:]])
    text = (
        f"`{command}`: {options.rounds} rounds, least time of all trials; {processor()}; "
        f"NumPy ran the `{numpy_kernel()}` kernel of OpenBLAS.\n\n" + "\n".join(lines)
    )
    print(text)
    if wrong:
        sys.exit("accuracies differ by more than four standard errors:\n" + "\n".join(wrong))
    if options.write:
        document = DOCUMENT.read_text()
        head, rest = document.split(BEGIN)
        _, tail = rest.split(END)
        DOCUMENT.write_text(f"{head}{BEGIN}\n{text}\n{END}{tail}")


if __name__ == "__main__":
    main()
