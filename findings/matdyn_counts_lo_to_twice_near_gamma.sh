#!/usr/bin/env bash
# Guess: matdyn.x at a q-point very close to Γ (1e-6, as one types to choose the direction of the limit) gives the
#   limit of its own bands: the LO mode where it stands at 1e-3 and 1e-4.
# Found (Quantum ESPRESSO 6.7): at 1e-6 the non-analytical term enters twice, once in the sum over q+G and once as
#   the explicit limit for "q = 0": the LO-TO splitting of ω² doubles, tens of cm-1 too high, without a warning.
#   From 1e-5 on it is right, and at exactly Γ with the direction of the neighbouring point too.
# Why it matters: bands of polar crystals are asked for at such points to split LO from TO; the LO frequency is the
#   number that is then compared with Raman and infrared spectra.
# Needs pw.x, ph.x, q2r.x, matdyn.x 6.x (Debian: quantum-espresso, quantum-espresso-data).
set -eu
for program in pw.x ph.x q2r.x matdyn.x; do
  command -v $program >/dev/null || { echo "$program is not installed"; exit 2; }
done
pseudo=/usr/share/espresso/pseudo
[ -f "$pseudo/Al.pz-vbc.UPF" ] || { echo "Al.pz-vbc.UPF is not installed (Debian: quantum-espresso-data)"; exit 2; }
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT; cd "$folder"
export OMP_NUM_THREADS=1 LC_ALL=C
cat > pw.in <<END
&CONTROL
 calculation = 'scf', prefix = 'x', outdir = './out', pseudo_dir = '$pseudo'
/
&SYSTEM
 ibrav = 2, celldm(1) = 10.6, nat = 2, ntyp = 2, ecutwfc = 10
/
&ELECTRONS
 conv_thr = 1e-12
/
ATOMIC_SPECIES
 Al 26.98 Al.pz-vbc.UPF
 As 74.92 As.pz-bhs.UPF
ATOMIC_POSITIONS alat
 Al 0 0 0
 As 0.25 0.25 0.25
K_POINTS automatic
 3 3 3 1 1 1
END
cat > ph.in <<END
phonons
&INPUTPH
 prefix = 'x', outdir = './out', fildyn = 'dyn', tr2_ph = 1d-16, ldisp = .true., nq1 = 1, nq2 = 1, nq3 = 1, epsil = .true.
/
END
pw.x -in pw.in > pw.out; ph.x -in ph.in > ph.out
grep -m1 "Program PHONON" ph.out
echo "&input fildyn = 'dyn', zasr = 'simple', flfrc = 'x.fc' /" > q2r.in; q2r.x < q2r.in > q2r.out
cat > matdyn.in <<END
&input asr = 'simple', flfrc = 'x.fc', flfrq = 'x.freq', fldos = ' ' /
4
1e-3 0.0 0.0
1e-4 0.0 0.0
1e-5 0.0 0.0
1e-6 0.0 0.0
END
matdyn.x < matdyn.in > matdyn.out
cat x.freq
awk 'NR > 1 && (NR % 2) == 1 { lo[++n] = $NF; to = $(NF - 1) }
     END { print "TO", to, "LO at 1e-3, 1e-4, 1e-5, 1e-6:", lo[1], lo[2], lo[3], lo[4]
           ratio = (lo[4]^2 - to^2) / (lo[1]^2 - to^2); print "splitting of the squares at 1e-6 over that at 1e-3:", ratio
           found = ratio > 1.9 && ratio < 2.1 && (lo[3] - lo[1])^2 < 0.01
           print found ? "as found" : "the behaviour has changed"; exit !found }' x.freq
