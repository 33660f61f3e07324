"""The character model of examples/10_lstm_hamlet.rs in PyTorch: same weights at the start, same
batches in the same order, so that both should learn the same.

    cargo run --release --example 10_lstm_hamlet -- --weights weights.txt
    python tests/reference/hamlet.py weights.txt

Prints the loss and the test loss after each epoch, as the example does.
"""

import sys
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

BATCH, STEPS, EPOCHS, RATE = 32, 32, int(sys.argv[2]) if len(sys.argv) > 2 else 12, 3e-3

text = (Path(__file__).parent.parent.parent / "datasets/hamlet/hamlet.txt").read_text("utf-8")
characters = sorted(set(text))
text = np.array([characters.index(c) for c in text])
cut = len(text) // 10 * 9


def windows(text):
    each = (len(text) - 1) // BATCH // STEPS
    rows = np.arange(BATCH)[:, None] * each * STEPS + np.arange(STEPS)
    return [[torch.from_numpy(text[rows + n * STEPS + ahead]) for ahead in (0, 1)] for n in range(each)]


train, test = windows(text[:cut]), windows(text[cut:])
weights = {}
for line in open(sys.argv[1]):
    name, extents, numbers = line.strip().split(",")
    numbers = np.array(numbers.split(), dtype=np.float32)
    value = numbers.reshape([int(n) for n in extents.split()], order="F")
    weights[name] = torch.from_numpy(np.ascontiguousarray(value)).requires_grad_()
table, wx, wh, b, w_out, b_out = weights.values()


def loss(x, y):
    h = torch.zeros(BATCH, wh.shape[0])
    state = (h[None], h[None])
    layer = [wx.T, wh.T, b, torch.zeros_like(b)]
    h = torch._VF.lstm(table[x], state, layer, True, 1, 0.0, True, False, True)[0]
    return F.cross_entropy((h @ w_out + b_out).flatten(0, 1), y.flatten())


optimizer = torch.optim.Adam(weights.values(), lr=RATE)
for epoch in range(EPOCHS):
    losses = []
    for x, y in train:
        optimizer.zero_grad()
        value = loss(x, y)
        value.backward()
        torch.nn.utils.clip_grad_norm_(weights.values(), 1.0)
        optimizer.step()
        losses.append(value.item())
    with torch.no_grad():
        tested = np.mean([loss(x, y).item() for x, y in test])
    print(f"epoch {epoch + 1:2}: loss {np.mean(losses):.4f}, test loss {tested:.4f}", flush=True)
