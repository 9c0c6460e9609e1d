#!/usr/bin/env bash
# Guess: "total cpu time spent up to now is … secs" (pw.x, each iteration) and "total cpu time : … secs" (ph.x) are
#   CPU time, as they say and as in version 5: what a job has cost, however busy the machine was.
# Found (Quantum ESPRESSO 6.7): both are time on the clock. A pw.x stopped for four seconds counts them. Only the
#   final table "PWSCF : … CPU … WALL" has CPU seconds, and an interrupted run does not reach it.
# Why it matters: core-hours of killed or restarted runs are summed from these lines, as they have nothing else; on
#   a shared machine that overstates the cost several times, and a time limit taken from it (max_seconds) is one on
#   the clock.
# Needs pw.x and ph.x 6.x (Debian: quantum-espresso, quantum-espresso-data).
set -eu
for program in pw.x ph.x; do
  command -v $program >/dev/null || { echo "$program is not installed (Debian: apt-get install quantum-espresso)"; exit 2; }
done
pseudo=/usr/share/espresso/pseudo
[ -f "$pseudo/Al.pz-vbc.UPF" ] || { echo "Al.pz-vbc.UPF is not installed (Debian: quantum-espresso-data)"; exit 2; }
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT; cd "$folder"
export OMP_NUM_THREADS=1 LC_ALL=C
cat > pw.in <<END
&CONTROL
 calculation = 'scf', prefix = 'al', outdir = './out', pseudo_dir = '$pseudo'
/
&SYSTEM
 ibrav = 2, celldm(1) = 7.65, nat = 1, ntyp = 1, ecutwfc = 14
 occupations = 'smearing', smearing = 'mp', degauss = 0.05
/
&ELECTRONS
 conv_thr = 1e-10
/
ATOMIC_SPECIES
 Al 26.98 Al.pz-vbc.UPF
ATOMIC_POSITIONS alat
 Al 0 0 0
K_POINTS automatic
 8 8 8 0 0 0
END
cat > ph.in <<END
phonons
&INPUTPH
 prefix = 'al', outdir = './out', fildyn = 'dyn', tr2_ph = 1d-12
/
0.5 0.0 0.0
END
paused() {  # run a program, stop it for four seconds as soon as it has begun an iteration
  $1 -in "$2.in" > "$2.out" 2>&1 & job=$!
  for _ in $(seq 400); do grep -q "$3" "$2.out" && break; sleep 0.02; done
  kill -STOP $job; sleep 4; kill -CONT $job; wait $job
}
paused pw.x pw "cpu time spent"
paused ph.x ph "total cpu time"
grep -m1 "Program PWSCF" pw.out
pw_line=$(grep "total cpu time spent" pw.out | tail -1); ph_line=$(grep "total cpu time" ph.out | tail -1)
pw_end=$(grep "PWSCF *:.*CPU" pw.out | tail -1); ph_end=$(grep "PHONON *:.*CPU" ph.out | tail -1)
printf '%s\n' "$pw_line" "$pw_end" "$ph_line" "$ph_end"
seconds() { echo "$1" | sed -E 's/.*[:s] +([0-9.]+) secs.*/\1/'; }
cpu() { echo "$1" | sed -E 's/.*: *([0-9.]+)s CPU.*/\1/'; }
wall=1
for pair in "$(seconds "$pw_line") $(cpu "$pw_end")" "$(seconds "$ph_line") $(cpu "$ph_end")"; do
  set -- $pair
  awk -v line="$1" -v cpu="$2" 'BEGIN { exit !(line > cpu + 2) }' || wall=0
done
if [ $wall = 1 ]; then echo "the lines called cpu time hold time on the clock: as found"; exit 0; fi
echo "CHANGED: the lines called cpu time are no longer time on the clock"; exit 1
