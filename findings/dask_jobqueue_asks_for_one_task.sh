#!/usr/bin/env bash
# dask-jobqueue's SLURMCluster(cores=16) asks SLURM for one task of 16 CPUs, not for 16 tasks.
#
# A good guess: cores=16 reserves what `mpirun -n 16 pw.x` or `srun -n 16 pw.x` needs.
# What happens: the job script says "#SBATCH -n 1" and "#SBATCH --cpus-per-task=16". SLURM then tells MPI of one task
# (SLURM_NTASKS=1, SLURM_TASKS_PER_NODE=1): Open MPI has one slot and refuses -n 16, srun refuses or stretches the step.
# "--ntasks=16" among job_extra_directives is added below the other two and then asks for 16 tasks of 16 CPUs, 256 in all.
# Why it matters: a DFT code that is started from a Dask worker is the usual way of running many labels or phonon
# displacements on a cluster (ASE, quacc, atomate, phonopy's displacements). What serves is
# job_directives_skip=["-n 1", "--cpus-per-task"], job_extra_directives=["--ntasks=16"].
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q dask-jobqueue==0.9.0 distributed==2025.7.0
cat > "$work/try.py" <<'PYTHON'
import dask_jobqueue
import distributed
from dask_jobqueue import SLURMCluster

print("dask-jobqueue", dask_jobqueue.__version__, "distributed", distributed.__version__)
common = dict(memory="32GB", walltime="01:00:00", scheduler_options={"dashboard_address": None})


def directives(**options):
    with SLURMCluster(**common, **options) as cluster:
        return [line for line in cluster.job_script().splitlines() if line.startswith("#SBATCH")]


plain = directives(cores=16)
added = directives(cores=16, job_extra_directives=["--ntasks=16"])
right = directives(cores=16, job_directives_skip=["-n 1", "--cpus-per-task"], job_extra_directives=["--ntasks=16"])
for name, lines in (("cores=16", plain), ("with --ntasks=16", added), ("with the others skipped", right)):
    print(f"{name}:", *lines, sep="\n    ")
assert "#SBATCH -n 1" in plain and "#SBATCH --cpus-per-task=16" in plain
assert "#SBATCH --cpus-per-task=16" in added and "#SBATCH --ntasks=16" in added
assert "#SBATCH --ntasks=16" in right and not any("cpus-per-task" in line or "-n 1" in line for line in right)
PYTHON
"$work/venv/bin/python" "$work/try.py" || { echo "the behaviour changed"; exit 1; }
echo "as described"
