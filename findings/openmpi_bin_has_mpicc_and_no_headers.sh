#!/usr/bin/env bash
# Guess: where the command mpicc is there, an MPI program can be compiled: the compiler wrapper belongs to the
#   development package.
# Found (Debian 12, openmpi-bin 4.1.4): openmpi-bin, which quantum-espresso brings along, installs mpicc; mpi.h and the
#   libraries to link with are in libopenmpi-dev, which it does not depend on.
# Why it matters: python-sscha and CellConstructor look for MPI by mpicc on a machine that has pw.x, and their build
#   stops at the linker (cannot find -lmpi) after minutes of compiling.
# Needs apt-get and dpkg-deb of Debian or Ubuntu; downloads two packages into a temporary folder and installs nothing.
set -eu
for program in apt-get dpkg-deb; do
  command -v $program >/dev/null || { echo "$program is not there: no Debian"; exit 2; }
done
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT; chmod 755 "$folder"; cd "$folder"
apt-get -q download openmpi-bin libopenmpi-dev >/dev/null 2>&1 || { echo "the packages cannot be downloaded"; exit 2; }
lists() { dpkg-deb -c "$1"_*.deb | grep -c "$2" || true; }
wrapper=$(lists openmpi-bin 'bin/mpicc'); headers=$(lists openmpi-bin 'include/mpi.h'); elsewhere=$(lists libopenmpi-dev 'include/mpi.h')
depends=$(dpkg-deb -f openmpi-bin_*.deb Depends | grep -c libopenmpi-dev || true)
echo "openmpi-bin $(dpkg-deb -f openmpi-bin_*.deb Version): mpicc $wrapper, mpi.h $headers, depends on libopenmpi-dev: $depends"
echo "libopenmpi-dev: mpi.h $elsewhere"
if [ "$wrapper" -gt 0 ] && [ "$headers" = 0 ] && [ "$elsewhere" -gt 0 ] && [ "$depends" = 0 ]; then
  echo "as found: mpicc without anything to compile against"
else
  echo "changed: mpicc comes with its headers, or not at all"; exit 1
fi
