#!/usr/bin/env bash
# Guess: Client.get_executor() is a concurrent.futures executor, so every submit() runs the function once more.
# Found (distributed 2026.8.0): while an earlier future lives, a second submit() with the same function and
#   arguments is answered with what the first one left, a failure included; the function does not run again.
#   get_executor(pure=False) runs it each time.
# Why it matters: a DFT job that failed (full disk, a node without pw.x) and is tried again in the same session with
#   the same input "fails" at once without having been started; two drawings of random structures are one.
set -eu
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT; cd "$folder"
python3 -m venv venv
venv/bin/pip install -q distributed==2026.8.0
cat > again.py <<'END'
import distributed
from distributed import Client, LocalCluster

print("distributed", distributed.__version__)

def job(name):
    with open(name + ".runs", "a") as stream:
        stream.write("x")
    raise RuntimeError("the disk is full")


def tried_twice(executor, name):
    futures = []
    for _ in range(2):
        futures.append(executor.submit(job, name))
        print(f"  {name}: {type(futures[-1].exception()).__name__}", flush=True)
    return len(open(name + ".runs").read())


if __name__ == "__main__":
    with LocalCluster(n_workers=1, threads_per_worker=1, processes=False, dashboard_address=None) as cluster:
        with Client(cluster) as client:
            default = tried_twice(client.get_executor(), "default")
            impure = tried_twice(client.get_executor(pure=False), "pure=False")
    print(f"two submits of a failing job: {default} run by default, {impure} with pure=False")
    raise SystemExit(0 if (default, impure) == (1, 2) else 1)
END
if venv/bin/python again.py 2> errors.txt; then
  echo "as found: the second call is answered from memory"
else
  tail -5 errors.txt; echo "behaviour changed"; exit 1
fi
