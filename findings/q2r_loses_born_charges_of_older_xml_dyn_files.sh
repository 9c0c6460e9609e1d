#!/usr/bin/env bash
# Guess: q2r.x reads XML dyn files of older versions with all that they hold, Born charges and dielectric tensor
#   included, or refuses them.
# Found (q2r.x 6.7 on the dyn files that ph.x 6.0 wrote for AlAs, Debian's reference files): matrices are read, the
#   charges are dropped without a word: <DIELECTRIC_PROPERTIES> of version 6.0 has no attributes epsil and zstar.
#   The force constants then keep the long-ranged dipole part, and no file says that the crystal is polar. With
#   the two attributes added by hand the same files give the charges.
# Why it matters: dyn files of a polar crystal outlive the version that wrote them; bands, free energies and
#   electron-phonon interpolation made from them with a newer q2r.x are those of a crystal that is not polar.
# Needs q2r.x 6.7 (Debian: quantum-espresso, quantum-espresso-data).
set -eu
command -v q2r.x >/dev/null || { echo "q2r.x is not installed (Debian: apt-get install quantum-espresso)"; exit 2; }
reference=/usr/share/doc/quantum-espresso/examples/PHonon/GRID_example/reference_3
[ -f "$reference/alas.dyn1.xml.gz" ] || { echo "reference files are not installed (Debian: quantum-espresso-data)"; exit 2; }
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT; cd "$folder"
export OMP_NUM_THREADS=1
for file in "$reference"/alas.dyn?.xml.gz; do zcat "$file" > "$(basename "${file%.gz}")"; done
printf '4 4 4\n8\n' > alas.dyn0.xml
count() { grep -c "<Z_AT_" "$1" || true; }
q2r() { printf "&input fildyn='alas.dyn.xml', zasr='no', flfrc='$1' /\n" | q2r.x > "$1.out" 2>&1; grep -q "JOB DONE" "$1.out"; }
q2r plain; plain=$(ls plain.xml plain.xml.xml 2>/dev/null | head -1)
sed -i 's/<DIELECTRIC_PROPERTIES>/<DIELECTRIC_PROPERTIES epsil="true" zstar="true" raman="false">/' alas.dyn1.xml
q2r edited; edited=$(ls edited.xml edited.xml.xml 2>/dev/null | head -1)
grep -m1 -i "program q2r" plain.out || true
echo "charges in alas.dyn1.xml of ph.x 6.0 : $(count alas.dyn1.xml)"
echo "charges in q2r.x's file              : $(count "$plain")"
echo "the same with the two attributes     : $(count "$edited")"
echo "warnings of q2r.x                    : $(grep -ciE 'warning|charge' plain.out || true)"
if [ "$(count alas.dyn1.xml)" = 2 ] && [ "$(count "$plain")" = 0 ] && [ "$(count "$edited")" = 2 ]; then
  echo "as found: the charges are lost in silence"
else
  echo "behaviour changed"; exit 1
fi
