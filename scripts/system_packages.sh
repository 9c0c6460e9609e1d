#!/usr/bin/env bash
# Make sure that the compilers and libraries named in one group are there; install them with apt where that is allowed.
#   scripts/system_packages.sh sscha   what `pip install himlip-ase[sscha]` compiles with: C, Fortran, LAPACK, MPI
#   scripts/system_packages.sh qe      Quantum ESPRESSO, for new labels and for one test
# Exit status 1, with one message, when something is missing and may not be installed from here.
set -u
group=${1:-sscha}
python=${PYTHON:-python3}
missing=()
need() { missing+=("$1"); }
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
linkable() { echo 'int main(void){return 0;}' | gcc -x c - -l"$1" -o "$scratch/a.out" 2>/dev/null; }
# openmpi-bin, which comes with Quantum ESPRESSO, has the command mpicc and neither headers nor libraries
mpi_links() { printf '#include <mpi.h>\nint main(void){return 0;}\n' | mpicc -x c - -o "$scratch/a.out" 2>/dev/null; }

case $group in
  sscha)
    command -v gcc >/dev/null || need gcc
    command -v g++ >/dev/null || need g++
    command -v gfortran >/dev/null || need gfortran
    command -v pkg-config >/dev/null || need pkg-config
    mpi_links || need libopenmpi-dev
    linkable lapack || linkable openblas || need liblapack-dev  # brings BLAS along
    "$python" -c 'import sysconfig, pathlib, sys
sys.exit(not (pathlib.Path(sysconfig.get_path("include")) / "Python.h").exists())' || need python3-dev
    ;;
  qe)
    command -v pw.x >/dev/null && command -v ph.x >/dev/null || need quantum-espresso
    compgen -G "/usr/share/espresso/pseudo/*" >/dev/null || need quantum-espresso-data
    ;;
  *) echo "system_packages.sh: unknown group '$group'; choose sscha or qe" >&2; exit 2 ;;
esac
[ ${#missing[@]} -eq 0 ] && exit 0

sudo=()
if [ "$(id -u)" -ne 0 ]; then
  command -v sudo >/dev/null && sudo -n true 2>/dev/null && sudo=(sudo -n)
fi
if command -v apt-get >/dev/null && { [ "$(id -u)" -eq 0 ] || [ ${#sudo[@]} -gt 0 ]; }; then
  echo "Installing system packages: ${missing[*]}"
  export DEBIAN_FRONTEND=noninteractive
  "${sudo[@]}" apt-get install -y -q --no-install-recommends "${missing[@]}" >/dev/null 2>&1 && exit 0
  { "${sudo[@]}" apt-get update -q && "${sudo[@]}" apt-get install -y -q --no-install-recommends "${missing[@]}"; } >/dev/null && exit 0
fi
cat >&2 <<EOF

System packages are missing and cannot be installed from here: ${missing[*]}
Ask an administrator for (or run):   sudo apt install ${missing[*]}
then type the same make command again.
EOF
exit 1
