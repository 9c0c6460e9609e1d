#!/usr/bin/env bash
# Guess: ph.x that was killed within a q-point goes on with recover = .true. from what it had written, and ends with
#   the dynamical matrix of an undisturbed run; as it does after a clean stop by max_seconds.
# Found (ph.x 6.7): it ends with JOB DONE and no warning, and the dynamical matrix is another one: Al, q = L, killed in
#   the second representation: 0.0641 instead of 0.0753 Ry/bohr² (also without fildvscf). dvscf, of which nothing had
#   reached the disk when it was killed, holds no first representation, so that a second run with trans = .false. makes
#   electron-phonon matrices seven times too large, again without a word.
# Why it matters: batch systems kill, and recover = .true. is what the manual offers for it. Safe is start_q: the q-point
#   under way is lost and done anew.
# Needs pw.x and ph.x 6.x (Debian: quantum-espresso, quantum-espresso-data). Some seconds.
set -eu
for program in pw.x ph.x python3; do
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
 ibrav = 2, celldm(1) = 7.65, nat = 1, ntyp = 1, ecutwfc = 16
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
input() {
cat > $1.in <<END
&INPUTPH
 prefix = 'al', outdir = './out', fildyn = 'dyn', fildvscf = 'dvscf', tr2_ph = 1d-14
 ldisp = .true., nq1 = 2, nq2 = 2, nq3 = 2, start_q = 2, last_q = 2
 $2
/
END
}
pw dense 16 ", la2F = .true."
pw scf 8 ""
cp -r out begin
input whole ""; input again "recover = .true."
input coupling "trans = .false., electron_phonon = 'interpolated', el_ph_sigma = 0.02, el_ph_nsigma = 1"
ph.x -in whole.in > whole.out 2>&1
ph.x -in coupling.in > coupling.out 2>&1
mkdir undisturbed recovered
mv dyn2 elph_dir/a2Fq2r.51.2 undisturbed/
rm -rf out; cp -r begin out
ph.x -in whole.in > part.out 2>&1 & running=$!
second() { grep -A200 "Representation #   2 mode" part.out 2>/dev/null | grep -q "iter #   2"; }
until second; do kill -0 $running 2>/dev/null || break; sleep 0.02; done
kill -KILL $running 2>/dev/null || { echo "it was too fast to be killed; run it again"; exit 2; }
wait $running 2>/dev/null || true
ph.x -in again.in > again.out 2>&1
ph.x -in coupling.in > coupling.out 2>&1
mv dyn2 elph_dir/a2Fq2r.51.2 recovered/
grep -m1 "Program PHONON" whole.out
echo "after the kill: $(grep -c 'JOB DONE' part.out || true) x JOB DONE; recovered: $(grep -c 'JOB DONE' again.out) x JOB DONE"
python3 - <<'END'
import sys
def first(path, line):  # of the first block, its diagonal
    return float(open(path).read().splitlines()[line].split()[0])
dyn = [first(f"{name}/dyn2", 11) for name in ("undisturbed", "recovered")]
g = [first(f"{name}/a2Fq2r.51.2", 8) for name in ("undisturbed", "recovered")]
print(f"D_11 (Ry/bohr^2): undisturbed {dyn[0]:.5f}, recovered {dyn[1]:.5f}")
print(f"G_11: undisturbed {g[0]:.5f}, recovered {g[1]:.5f}")
if abs(dyn[1] / dyn[0] - 1) < 0.01 or abs(g[1] / g[0] - 1) < 0.1:
    sys.exit("changed: a killed run recovers to the right matrices")
print("as found: JOB DONE, and other matrices")
END
