"""What the rooms near the ground show comes without torch, until it is used."""

import subprocess
import sys

ROOMS = ("phonons", "potential", "symmetry", "vibrations", "reactions", "pipeline.ts")


def test_faces_come_without_torch():
    code = "; ".join(f"import himlip_ase.{room}" for room in ROOMS)
    code += "; import sys; assert 'torch' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
