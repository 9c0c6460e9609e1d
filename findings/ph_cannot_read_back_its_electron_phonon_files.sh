#!/usr/bin/env bash
# Guess: ph.x with electron_phonon = 'interpolated' that was stopped goes on with recover = .true.: representations
#   that are done are read from PREFIX.phsave, as without electron-phonon.
# Found (ph.x 6.7): with electron-phonon the recovery ends at once with an error, and the last line says that the tag
#   PARTIAL_EL_PHON is not found. ph.x wrote those files itself, and calls the tag PARTIAL_ELPH in them. The same
#   input without electron_phonon recovers. Even a run that was finished cannot be read back.
# Why it matters: a q-point of a hydride on a dense k-mesh takes hours; what a time limit costs is the whole q-point,
#   unless the phonons are made without electron-phonon and the coupling in a second run. They recover after a clean stop
#   only (max_seconds); after a kill they end with other matrices: ph_recovered_after_a_kill_is_wrong.sh.
# Needs pw.x and ph.x 6.x (Debian: quantum-espresso, quantum-espresso-data).
set -eu
for program in pw.x ph.x; do
  command -v $program >/dev/null || { echo "$program is not installed"; exit 2; }
done
pseudo=/usr/share/espresso/pseudo
[ -f "$pseudo/Al.pz-vbc.UPF" ] || { echo "Al.pz-vbc.UPF is not installed (Debian: quantum-espresso-data)"; exit 2; }
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT; cd "$folder"
export OMP_NUM_THREADS=1 LC_ALL=C
pw() {
cat > $1.in <<END
&CONTROL
 calculation = 'scf', prefix = 'al', outdir = './out', pseudo_dir = '$pseudo'
/
&SYSTEM
 ibrav = 2, celldm(1) = 7.65, nat = 1, ntyp = 1, ecutwfc = 12
 occupations = 'smearing', smearing = 'mp', degauss = 0.05 $3
/
&ELECTRONS
 conv_thr = 1e-10
/
ATOMIC_SPECIES
 Al 26.98 Al.pz-vbc.UPF
ATOMIC_POSITIONS alat
 Al 0 0 0
K_POINTS automatic
 $2 $2 $2 0 0 0
END
pw.x -in $1.in > $1.out
}
ph() {
cat > $1.in <<END
&INPUTPH
 prefix = 'al', outdir = './out', fildyn = 'dyn', fildvscf = 'dvscf', tr2_ph = 1d-12
 ldisp = .true., nq1 = 2, nq2 = 2, nq3 = 2, start_q = 1, last_q = 1
 $2
/
END
status=0; ph.x -in $1.in > $1.out 2>&1 || status=$?
echo "$1: exit status $status, $(grep -c 'JOB DONE' $1.out || true) x JOB DONE, last line: $(grep -v '^ *$' $1.out | tail -1 | cut -c1-60)"
}
pw dense 8 ", la2F = .true."
pw scf 4 ""
ph plain ""
ph plain_recovered "recover = .true."
rm -rf out/_ph0 dyn*
coupling="electron_phonon = 'interpolated', el_ph_sigma = 0.005, el_ph_nsigma = 2"
ph coupled "$coupling"
ph coupled_recovered "$coupling, recover = .true."
grep -m1 "Program PHONON" plain.out
echo "tags written: $(grep -oh 'PARTIAL_EL[A-Z_]*' out/_ph0/al.phsave/elph.1.1.xml | sort -u)"
grep -q "JOB DONE" plain_recovered.out && grep -q "JOB DONE" coupled.out || { echo "changed: the runs that worked fail"; exit 1; }
if grep -q "JOB DONE" coupled_recovered.out || ! grep -q "PARTIAL_EL_PHON not found" coupled_recovered.out; then
  echo "changed: electron-phonon recovers"; exit 1
fi
echo "as found: ph.x cannot read back its own electron-phonon files"
