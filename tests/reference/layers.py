"""Values and gradients of PyTorch's layers, for tests/layers.rs.

    python tests/reference/layers.py > tests/reference/layers.txt

A record is the name of a case and its tensors: the variables as our layers name them, the input x,
the value y, the cotangent c and gradients d_…; elements column-major (first axis fastest).
"""

import numpy as np
import torch
import torch.nn.functional as F

torch.set_default_dtype(torch.float64)
rng = np.random.default_rng(20201126)


def line(name, a):
    a = a.detach().numpy()
    print(name, ",".join(map(str, a.shape)), *(repr(float(v)) for v in a.flatten(order="F")))


def r(*shape):
    return torch.tensor(rng.uniform(-2, 2, shape), requires_grad=True)


def record(name, f, **inputs):
    y = f(**inputs)
    c = torch.tensor(rng.uniform(0.5, 1.5, y.shape))
    print("case", name)
    for key, value in inputs.items():
        line(key, value)
    line("y", y)
    line("c", c)
    for key, g in zip(inputs, torch.autograd.grad(y, list(inputs.values()), c, allow_unused=True)):
        if g is not None:
            line("d_" + key, g)


def nchw(f):
    return lambda x, w, b: f(x.permute(0, 3, 1, 2), w.permute(3, 2, 0, 1).contiguous(), b).permute(0, 2, 3, 1)


record("layer_norm", lambda x, gain, bias: F.layer_norm(x, (5,), gain, bias), x=r(4, 3, 5), gain=r(5), bias=r(5))
record("rms_norm", lambda x, gain: F.rms_norm(x, (5,), gain, eps=1e-5), x=r(4, 5), gain=r(5))
record("group_norm", lambda x, gain, bias: F.group_norm(x.movedim(-1, 1), 2, gain, bias).movedim(1, -1),
       x=r(2, 3, 2, 4), gain=r(4), bias=r(4))
record("conv1d", lambda x, w, b: F.conv1d(x.mT, w.permute(2, 1, 0).contiguous(), b, stride=2).mT,
       x=r(2, 7, 3), w=r(3, 3, 2), b=r(2))
record("conv2d", nchw(lambda x, w, b: F.conv2d(x, w, b, padding=1).relu()), x=r(2, 4, 5, 2), w=r(3, 3, 2, 3), b=r(3))
record("conv_transpose1d", lambda x, w, b: F.conv_transpose1d(x.mT, w.permute(2, 1, 0).contiguous(), b, stride=2).mT,
       x=r(2, 4, 3), w=r(2, 2, 3), b=r(2))
record("conv_transpose2d", nchw(lambda x, w, b: F.conv_transpose2d(x, w, b, stride=2, groups=2)),
       x=r(2, 3, 2, 4), w=r(2, 3, 1, 4), b=r(2))

attention = torch.nn.MultiheadAttention(6, 2, batch_first=True)
padding = torch.tensor([[0, 0, 0, 1], [0, 0, 0, 0], [0, 1, 1, 1]]) == 1


def attend(x, w_in, b_in, w_out, b_out, memory=None, mask=None, causal=False):
    tensors = {"in_proj_weight": w_in.T, "in_proj_bias": b_in, "out_proj.weight": w_out.T, "out_proj.bias": b_out}
    memory = x if memory is None else memory
    hidden = torch.ones(x.shape[1], x.shape[1]).triu(1) == 1 if causal else None
    return torch.func.functional_call(attention, tensors, (x, memory, memory),
                                      {"key_padding_mask": mask, "attn_mask": hidden, "need_weights": False})[0]


weights = lambda: {"w_in": r(6, 18), "b_in": r(18), "w_out": r(6, 6), "b_out": r(6)}
record("attention", attend, x=r(3, 4, 6), **weights())
record("attention_causal", lambda **t: attend(**t, causal=True), x=r(3, 4, 6), **weights())
record("attention_masked", lambda **t: attend(**t, mask=padding), x=r(3, 4, 6), **weights())
record("attention_across", lambda **t: attend(**t, mask=padding), x=r(3, 2, 6), **weights(), memory=r(3, 4, 6))

# Two steps of training, each with its gradients, then inference.
running = {"mean": torch.zeros(3), "variance": torch.ones(3)}


def train(x, gain, bias):
    return F.batch_norm(x.movedim(-1, 1), running["mean"], running["variance"], gain, bias, training=True).movedim(1, -1)


gain, bias = r(3), r(3)
for step in (1, 2):
    record(f"batch_norm_{step}", train, x=r(2, 2, 3, 3), gain=gain, bias=bias)
    line("mean", running["mean"])
    line("variance", running["variance"])
record("batch_norm_inference",
       lambda x, gain, bias: F.batch_norm(x, running["mean"], running["variance"], gain, bias), x=r(4, 3), gain=gain, bias=bias)
