#!/usr/bin/env bash
# Guess: AlphaNetCalculator of msc-alphanet takes a checkpoint of AlphaNet's own training, or refuses it.
# Found (msc-alphanet 0.1.3): it loads with strict=False. Of a checkpoint of the training (weights under "state_dict") no
#   weight has a name that it looks for, so none is taken, without a word: energies are those of random weights, others
#   at each start. Also: a slab without a third cell vector is repeated every ångström (complete=True, and three periodic
#   directions whatever pbc says), and "zbl": true, in two of the published configurations, changes no energy, since
#   the repulsion that it computes is never added.
# Why it matters: the calculator's documentation names the conversion (alpha-conv) but nothing tells that it was forgotten.
# torch-scatter must be compiled; of its functions those four that AlphaNet calls are written out in torch below.
set -eu
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT; cd "$folder"
python3 -m venv venv
venv/bin/pip install -q "torch==2.13.0" "torch-geometric==2.8.1" "pydantic-settings==2.16.3" "ase==3.29.0"
venv/bin/pip install -q --no-deps msc-alphanet==0.1.3
cat > torch_scatter.py <<'EOF'
import torch


def scatter(src, index, dim=-1, out=None, dim_size=None, reduce="sum"):
    size = int(index.max()) + 1 if dim_size is None else int(dim_size)
    shape, across = list(src.shape), [1] * src.dim()
    shape[dim] = across[dim] = size
    total = src.new_zeros(shape).index_add(dim, index, src)
    counts = torch.bincount(index, minlength=size).clamp(min=1).view(across)
    return total / counts if reduce == "mean" else total


scatter_add = scatter


def segment_coo(src, index, dim_size):
    return scatter(src, index, 0, None, dim_size)


def segment_csr(src, indptr):
    return torch.stack([src[a:b].sum() for a, b in zip(indptr[:-1].tolist(), indptr[1:].tolist())])
EOF
cat > energies.py <<'EOF'
import json
import warnings
from importlib.metadata import version

warnings.simplefilter("ignore")
import torch
from alphanet.config import All_Config
from alphanet.infer.calc import AlphaNetCalculator
from alphanet.models.model import AlphaNetWrapper
from ase import Atoms
from ase.build import bulk, fcc111

shape = {
    "num_layers": 2, "hidden_channels": 16, "num_radial": 8, "head": 4, "hidden_channels_chi": 16, "main_chi1": 8,
    "mp_chi1": 8, "chi2": 3, "cutoff": 4.1, "has_dropout_flag": False, "compute_forces": True, "compute_stress": True,
}
json.dump({"model": shape}, open("model.json", "w"))
json.dump({"model": shape | {"zbl": True}}, open("zbl.json", "w"))
torch.manual_seed(0)
network = AlphaNetWrapper(All_Config.from_json("model.json"))
torch.save(network.state_dict(), "state.ckpt")
torch.save({"state_dict": {f"model.{name}": t for name, t in network.state_dict().items()}}, "training.ckpt")


def energy(atoms, weights="state.ckpt", config="model.json"):
    atoms = atoms.copy()
    atoms.calc = AlphaNetCalculator(weights, All_Config.from_json(config), precision="64")
    return round(float(atoms.get_potential_energy()), 6)


print("msc-alphanet", version("msc-alphanet"))
copper = bulk("Cu", cubic=True)
state = {energy(copper) for _ in range(3)}
training = {energy(copper, "training.ckpt") for _ in range(3)}
print("Cu, three times, state:", state, "training:", training)
flat, slab = fcc111("Cu", (2, 2, 3)), fcc111("Cu", (2, 2, 3), vacuum=10)
print("slab without a third vector:", energy(flat), "with 20 Å of vacuum:", energy(slab))
close = Atoms("H2", positions=[[5, 5, 5], [5, 5, 5.3]], cell=[10] * 3, pbc=True)
print("H2 at 0.3 Å, zbl false and true:", energy(close), energy(close, config="zbl.json"))
as_found = (
    len(state) == 1 and len(training) == 3 and abs(energy(flat) - energy(slab)) > 1
    and energy(close) == energy(close, config="zbl.json")
)
raise SystemExit(0 if as_found else 1)
EOF
if venv/bin/python energies.py 2>/dev/null; then
  echo "as found: weights that do not fit are not missed"
else
  echo "behaviour changed"; exit 1
fi
