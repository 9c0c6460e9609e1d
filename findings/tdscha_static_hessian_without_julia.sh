#!/usr/bin/env bash
# Guess: tdscha.StaticHessian.StaticHessian(ensemble), the free-energy Hessian with the fourth order by an iterative solver,
#   runs in serial mode with the compiled routines that pip builds; Julia is an option for speed.
# Found (tdscha 1.6.2, python-sscha 1.6.2, cellconstructor 1.6.2, gcc and gfortran): without Julia init() works and run()
#   raises, in both modes: with symmetries an IndexError in the loop over degenerate spaces, without them a TypeError,
#   since it calls its own compiled routine with 13 of 15 arguments.
# Why it matters: it is the one way to the fourth order beside the tensors of python-sscha that is said to need no Julia; who
#   wants to compare with it finds nothing to compare.
set -eu
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT; cd "$folder"
python3 -m venv venv; venv/bin/python -m pip install -q tdscha==1.6.2 python-sscha==1.6.2 cellconstructor==1.6.2 ase==3.29.0 spglib==2.8.0 numpy==2.4.6 scipy==1.17.1 matplotlib==3.11.2 six==1.17.0
cat > try.py <<'END'
import contextlib
import io
from importlib.metadata import version

import cellconstructor as CC
import cellconstructor.Phonons
import numpy as np
import sscha.Ensemble
import tdscha.StaticHessian

print("tdscha", version("tdscha"), "python-sscha", version("python-sscha"), "cellconstructor", version("CellConstructor"))
structure = CC.Structure.Structure(2)
structure.atoms, structure.has_unit_cell = ["Na", "Cl"], True
structure.unit_cell = 3.0 * np.eye(3)
structure.coords = np.array([[0.0, 0.0, 0.0], [1.5, 1.5, 1.5]])
structure.set_masses({"Na": 20953.0, "Cl": 32312.0})  # electron masses / 2, the unit of cellconstructor
dyn = CC.Phonons.Phonons(structure)
spring = 0.2 * np.kron([[1.0, -1.0], [-1.0, 1.0]], np.eye(3))  # Ry/bohr^2
dyn.dynmats[0] = spring.astype(complex)

np.random.seed(1)
ensemble = sscha.Ensemble.Ensemble(dyn, 0.0)
ensemble.generate(20)
for k in range(20):  # a harmonic crystal with a quartic term
    u = ensemble.u_disps[k]
    relative = (u.reshape(2, 3)[1] - u.reshape(2, 3)[0])
    quartic = 0.05 * relative**3
    ensemble.energies[k] = 0.5 * u @ spring @ u + 0.0125 * (relative**4).sum()
    ensemble.forces[k] = -(spring @ u).reshape(2, 3) + np.array([quartic, -quartic])
ensemble.update_weights(dyn, 0.0)
ensemble.init()
for symmetric in (True, False):
    for mode in (0, 1):
        hessian = tdscha.StaticHessian.StaticHessian(ensemble, lanczos_input={"mode": mode})
        with contextlib.redirect_stdout(io.StringIO()):
            hessian.init(ensemble)
            if not symmetric:
                hessian.lanczos = tdscha.DynamicalLanczos.Lanczos(ensemble, mode=mode)
                hessian.lanczos.init(use_symmetries=False)
        try:
            with contextlib.redirect_stdout(io.StringIO()):
                hessian.run(3)
            said = "ran"
        except Exception as error:
            said = f"{type(error).__name__}: {error}"
        print("FOUND", "symmetries" if symmetric else "no symmetries", "mode", mode, said)
END
SSCHA_JULIA_BACKEND=none venv/bin/python try.py | grep "FOUND\|tdscha 1" | tee out.txt
[ "$(grep -c "FOUND symmetries mode . IndexError" out.txt)" = 2 ]
[ "$(grep -c "FOUND no symmetries mode . TypeError: function takes exactly 15 arguments (13 given)" out.txt)" = 2 ]
