#!/usr/bin/env bash
# Guess: on a machine whose cores have other work, PyTorch with as many threads as cores gets its share of them: with one
#   other busy process for each core a loop takes about twice as long as with the cores for itself, four times at worst.
# Found (torch 2.13.0, Linux x86-64): threads that wait for each other at the end of each parallel section spin, and spend
#   on that the time slices which the thread they wait for would need.  Operations on some 1e5 numbers become tens of times
#   slower than with one thread on the same busy machine; OMP_WAIT_POLICY=passive, which lets them sleep, cures it.
# Why it matters: relaxations, molecular dynamics and trainings of small interatomic potentials consist of such operations,
#   and share their machine with pw.x.  A minute becomes an hour, CPU time is used all the while, and nothing tells why.
set -eu
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT; cd "$folder"
unset OMP_WAIT_POLICY OMP_NUM_THREADS GOMP_SPINCOUNT
python3 -m venv venv
venv/bin/pip install -q "torch==2.13.0" "numpy<3"
cat > work.py <<'END'
import sys, time
import torch

threads = int(sys.argv[1])
torch.set_num_threads(threads)
x = torch.ones(100_000, dtype=torch.float64)
for _ in range(5):
    x = (x * 1.0000001).sin()
start, count = time.monotonic(), 0
while time.monotonic() - start < 6 or count == 0:
    for _ in range(20):
        x = (x * 1.0000001).sin()
    count += 20
print((time.monotonic() - start) / count)
END
cat > compare.py <<'END'
import os, subprocess, sys, torch

cores = len(os.sched_getaffinity(0))
print("torch", torch.__version__, "cores", cores)
if cores < 2:
    print("one core alone shows nothing")
    sys.exit(0)
busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(cores)]
try:
    def step(threads, **more):
        done = subprocess.run(
            [sys.executable, "work.py", str(threads)], env=os.environ | more, capture_output=True, text=True, check=True
        )
        seconds = float(done.stdout)
        print(f"{threads} threads {more or ''}: {1e3 * seconds:.2f} ms a step", flush=True)
        return seconds

    one, spinning, sleeping = step(1), step(cores), step(cores, OMP_WAIT_POLICY="passive")
finally:
    for process in busy:
        process.kill()
found = spinning > 4 * one and spinning > 4 * sleeping
print("as found" if found else "the behaviour changed")
sys.exit(not found)
END
venv/bin/python compare.py
