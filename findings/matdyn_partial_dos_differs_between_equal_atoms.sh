#!/usr/bin/env bash
# Guess: in the file of matdyn.x with dos = .true. (fldos: frequency, total, one column per atom) atoms that symmetry maps
#   onto each other have the same partial density of states; that the q-points are reduced by symmetry is of no account.
# Found (Quantum ESPRESSO 6.7): every star of q is represented by one of its members, and the columns are not symmetrised.
#   Of three equivalent hydrogens in a cubic crystal (XH3, 8 x 8 x 8 points) one has eight times the states of another at
#   some frequency, and the mean of 1/w^2 of the first is 15 % above that of the third. A finer mesh does not help. Total
#   and sum over equivalent atoms are right; with nosym = .true. the columns agree but for the tetrahedra.
# Why it matters: "the DOS of H" is often the column of one H, and mean-square displacements, neutron spectra and
#   effective masses of an atom are integrals over its column. Average over equivalent atoms first.
# Needs matdyn.x 6.x (Debian: quantum-espresso). The force constants are springs, written in the form of q2r.x.
set -eu
command -v matdyn.x >/dev/null || { echo "matdyn.x is not installed (Debian: apt-get install quantum-espresso)"; exit 2; }
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT; cd "$folder"
export OMP_NUM_THREADS=1 LC_ALL=C
cat > springs.py <<'END'
"""XH3: X at the corners, H at the middle of the edges of a cube; springs (Ry/bohr^2) along and across each bond."""
from itertools import product

SIZE = 2
PLACES = [(0, 0, 0), (0.5, 0, 0), (0, 0.5, 0), (0, 0, 0.5)]
BONDS = {0.25: (0.10, 0.03), 0.5: (0.03, 0.005), 1.0: (0.02, 0.004)}  # by squared length: X-H, H-H, X-X
constants = {}


def add(cell, i, j, a, b, value):
    key = (a, b, i, j, *(n % SIZE for n in cell))
    constants[key] = constants.get(key, 0.0) + value


for i, j, cell in product(range(4), range(4), product(range(-2, 3), repeat=3)):
    bond = [PLACES[j][a] + cell[a] - PLACES[i][a] for a in range(3)]
    square = sum(x * x for x in bond)
    if square not in BONDS or (square == 1.0 and (i or j)):
        continue
    along, across = BONDS[square]
    for a, b in product(range(3), repeat=2):
        value = (along - across) * bond[a] * bond[b] / square + across * (a == b)
        add(cell, i, j, a, b, -value)
        add((0, 0, 0), i, i, a, b, value)
amu = 911.4442431
with open("springs.fc", "w") as file:
    file.write("2 4 1 6.0 0.0 0.0 0.0 0.0 0.0\n")
    file.write(f"1 'X ' {32.06 * amu}\n2 'H ' {1.008 * amu}\n")
    for number, place in enumerate(PLACES):
        file.write(f"{number + 1} {1 if number == 0 else 2} {place[0]} {place[1]} {place[2]}\n")
    file.write(f"F\n{SIZE} {SIZE} {SIZE}\n")
    for a, b, i, j in product(range(3), range(3), range(4), range(4)):
        file.write(f"{a + 1} {b + 1} {i + 1} {j + 1}\n")
        for z, y, x in product(range(SIZE), repeat=3):
            file.write(f"{x + 1} {y + 1} {z + 1} {constants.get((a, b, i, j, x, y, z), 0.0):.14e}\n")
END
python3 springs.py
for nosym in false true; do
  cat > "$nosym.in" <<END
&input
 asr = 'no', flfrc = 'springs.fc', dos = .true., nk1 = 8, nk2 = 8, nk3 = 8, deltaE = 2.0, nosym = .$nosym.
 fldos = '$nosym.dos', flfrq = '$nosym.freq', flvec = ' '
/
END
  matdyn.x < "$nosym.in" > "$nosym.out"
done
grep -m1 "Program" false.out
cat > compare.py <<'END'
import sys


def columns(path):
    rows = [[float(word) for word in line.split()] for line in open(path) if not line.lstrip().startswith("#")]
    return [row for row in rows if len(row) == 6]


def points(path):
    return int(open(path).readline().split("nks=")[1].split()[0])


spreads, sums, ratio = {}, {}, 0.0
for name in ("false", "true"):
    rows = columns(f"{name}.dos")
    top = max(sum(row[3:]) / 3 for row in rows)
    spreads[name] = max(max(row[3:]) - min(row[3:]) for row in rows) / top
    sums[name] = [(row[1], sum(row[3:])) for row in rows]
    strong = [row for row in rows if sum(row[3:]) / 3 > 0.2 * top]
    worst = max(strong, key=lambda row: max(row[3:]) / min(row[3:]))
    squares = [sum(row[k] / row[0] ** 2 for row in rows if row[0] > 20) for k in (3, 4, 5)]
    shares = [3 * square / sum(squares) for square in squares]
    print(f"nosym = .{name}.: {points(name + '.freq')} q-points; the three H differ by up to {spreads[name]:.0%} of the highest")
    print(f"  value; at {worst[0]:.0f} 1/cm: {worst[3]:.5f} {worst[4]:.5f} {worst[5]:.5f}; "
          f"mean of 1/w^2 over that of all H: {', '.join(f'{x:.2f}' for x in shares)}")
    if name == "false":
        ratio = max(worst[3:]) / min(worst[3:])
difference = max(abs(a - b) for old, new in zip(sums["false"], sums["true"]) for a, b in zip(old, new))
print(f"total and sum of the three H: equal to {difference:.0e}")
found = ratio > 1.5 and spreads["false"] > 3 * spreads["true"] and difference < 1e-5
print("as found" if found else "the behaviour has changed")
sys.exit(0 if found else 1)
END
python3 compare.py
