#!/usr/bin/env bash
# Guess: ase.io.espresso.read_espresso_ph gives one λ and one γ for every frequency of a q-point.
# Found (ase 3.29.0): of a mode with a negative λ, which ph.x prints for every imaginary one, neither is there.
#   The lists are shorter than "freqs" and begin with the first stable mode: λ[k] is that of another mode than
#   freqs[k], without a word.
# Why it matters: λ summed or plotted beside the frequencies of an unstable crystal (most high-pressure
#   hydrides) pairs a soft mode with the coupling of another one.
# The lines below are in the form of ph.x 6.7, electron_phonon = 'interpolated'.
set -eu
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT; cd "$folder"
python3 -m venv venv
venv/bin/pip install -q ase==3.29.0
cat > ph.out <<'END'

     Calculation of q =    0.5000000   0.0000000   0.0000000

     Diagonalizing the dynamical matrix

     q = (    0.500000000   0.000000000   0.000000000 ) 

 **************************************************************************
     freq (    1) =      -6.000000 [THz] =    -200.138456 [cm-1]
     freq (    2) =       9.000000 [THz] =     300.207684 [cm-1]
     freq (    3) =      12.000000 [THz] =     400.276913 [cm-1]
 **************************************************************************
     electron-phonon interaction  ...

     Gaussian Broadening:   0.005 Ry, ngauss=   0
     DOS =  1.000000 states/spin/Ry/Unit Cell at Ef= 10.000000 eV
     lambda(    1)= -0.4000   gamma=   50.00 GHz
     lambda(    2)=  0.2000   gamma=   60.00 GHz
     lambda(    3)=  0.1000   gamma=   70.00 GHz


     Number of q in the star =    1
     List of q in the star:
          1   0.500000000   0.000000000   0.000000000
END
cat > lambdas.py <<'END'
import ase
from ase.io.espresso import read_espresso_ph

with open("ph.out") as stream:
    (point,) = read_espresso_ph(stream).values()
found = point["ep_data"][0.005]
print(f"ase {ase.__version__}: freqs {point['freqs'].tolist()}, lambdas {found['lambdas']}, gammas {found['gammas']}")
raise SystemExit(0 if len(point["freqs"]) == 3 and found["lambdas"] == [0.2, 0.1] else 1)
END
if venv/bin/python lambdas.py; then
  echo "as found: three frequencies, two λ"
else
  echo "behaviour changed"; exit 1
fi
