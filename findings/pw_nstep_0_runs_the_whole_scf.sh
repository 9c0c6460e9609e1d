#!/usr/bin/env bash
# Guess: nstep = 0 makes pw.x stop after its initialisation (a "dry run"), whatever the calculation.
# Found (pw.x 6.7): in calculation = 'scf' it is ignored; the whole scf cycle runs.  What stops pw.x after
#   initialisation is a file <prefix>.EXIT that exists at the start: symmetry operations, k-points and memory are
#   printed, then "JOB DONE" with exit status 255, and no total energy.
# Why it matters: k-points and memory of a job are wanted before it is queued; with nstep = 0 a "preview" of an
#   expensive cell computes that cell.  And "JOB DONE" alone does not say that anything was computed.
# Needs pw.x 6.x (Debian: quantum-espresso, quantum-espresso-data).
set -eu
command -v pw.x >/dev/null || { echo "pw.x is not installed (Debian: apt-get install quantum-espresso)"; exit 2; }
pseudo=/usr/share/espresso/pseudo
[ -f "$pseudo/Al.pz-vbc.UPF" ] || { echo "Al.pz-vbc.UPF is not installed (Debian: quantum-espresso-data)"; exit 2; }
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT; cd "$folder"
export OMP_NUM_THREADS=1
input() {
cat <<END
&CONTROL
 calculation = 'scf', prefix = 'al', outdir = './out', pseudo_dir = '$pseudo'$1
/
&SYSTEM
 ibrav = 2, celldm(1) = 7.65, nat = 1, ntyp = 1, ecutwfc = 12
 occupations = 'smearing', smearing = 'mp', degauss = 0.05
/
&ELECTRONS
/
ATOMIC_SPECIES
 Al 26.98 Al.pz-vbc.UPF
ATOMIC_POSITIONS alat
 Al 0 0 0
K_POINTS automatic
 4 4 4 0 0 0
END
}
input ", nstep = 0" > nstep.in
input "" > exit.in
status_nstep=0; pw.x -in nstep.in > nstep.out 2>&1 || status_nstep=$?
rm -rf out; mkdir out; touch al.EXIT out/al.EXIT
status_exit=0; pw.x -in exit.in > exit.out 2>&1 || status_exit=$?
grep -m1 "Program PWSCF" nstep.out
energies_nstep=$(grep -c '^!' nstep.out || true)
energies_exit=$(grep -c '^!' exit.out || true)
echo "nstep = 0 : status $status_nstep, total energies printed: $energies_nstep, $(grep -c 'JOB DONE' nstep.out || true) JOB DONE"
echo "al.EXIT   : status $status_exit, total energies printed: $energies_exit, $(grep -c 'JOB DONE' exit.out || true) JOB DONE;$(grep -m1 'Sym. Ops' exit.out);$(grep -m1 'number of k points' exit.out)"
if [ "$energies_nstep" = 1 ] && [ "$energies_exit" = 0 ] && grep -q "Sym. Ops" exit.out && grep -q "JOB DONE" exit.out; then
  echo "as found: nstep = 0 runs the scf; <prefix>.EXIT is the dry run, and it says JOB DONE"
else
  echo "behaviour changed"; exit 1
fi
