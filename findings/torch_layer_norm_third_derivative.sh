#!/usr/bin/env bash
# Guess: torch.nn.functional.layer_norm may be differentiated as often as one likes, as torch.sin may.
# Found (torch 2.13.0, CPU): energies, first and second derivatives are right (gradgradcheck passes); the third one, that
#   is the gradient of a Hessian-vector product, is wrong without a word: 10.27 instead of 13.24 below. The same
#   function written out in plain operations is right. Known upstream: pytorch issue 175754, open pull request 176234.
# Why it matters: training on Hessians, unless by differences of forces, needs just these gradients. A network with a LayerNorm (AlphaNet, most
#   transformers) then descends along another direction than that of its loss.
set -eu
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT; cd "$folder"
python3 -m venv venv
venv/bin/pip install -q "torch==2.13.0"
cat > third.py <<'END'
import warnings

warnings.simplefilter("ignore")
import torch


def written_out(x):
    centred = x - x.mean(-1, keepdim=True)
    return centred / torch.sqrt((centred * centred).mean(-1, keepdim=True) + 1e-5)


def own(x):
    return torch.nn.functional.layer_norm(x, x.shape[-1:])


print("torch", torch.__version__)
torch.manual_seed(0)
x, weights, v, u, d = (torch.randn(3, 8, dtype=torch.float64) for _ in range(5))
agree = {}
for function in (own, written_out):

    def product(x):
        y = function(x)
        (slope,) = torch.autograd.grad((weights * (y + torch.sin(y))).sum(), x, create_graph=True)
        return (torch.autograd.grad((slope * v).sum(), x, create_graph=True)[0] * u).sum()

    start = x.clone().requires_grad_(True)
    third = float((torch.autograd.grad(product(start), start)[0] * d).sum())
    ends = [float(product((x + s * 1e-5 * d).requires_grad_(True)).detach()) for s in (1, -1)]
    numeric = (ends[0] - ends[1]) / 2e-5
    second = torch.autograd.gradgradcheck(lambda x: function(x).sin(), (x.clone().requires_grad_(True),))
    agree[function.__name__] = abs(third - numeric) < 1e-5 * abs(numeric)
    print(f"{function.__name__}: third derivative {third:.4f}, by differences {numeric:.4f}; second right: {second}")
raise SystemExit(0 if agree == {"own": False, "written_out": True} else 1)
END
if venv/bin/python third.py; then
  echo "as found: the third derivative of layer_norm is wrong"
else
  echo "behaviour changed"; exit 1
fi
