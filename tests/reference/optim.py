"""Twenty steps of PyTorch's optimizers, and sixty rates of its schedules, in f64.

python tests/reference/optim.py > tests/reference/optim.csv   (PyTorch 2.15)

The loss is sum over i of (w[i+1] - w[i]^2)^2 + (1 - w[i])^2, the start is START.
"""

import torch

torch.set_default_dtype(torch.float64)
START = [-0.5, 0.25, 1.5, -0.0]
SGD, ADAM, ADAMW = torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW
RULES = {
    "sgd": (SGD, dict(lr=0.02)),
    "sgd_decay": (SGD, dict(lr=0.02, weight_decay=0.1)),
    "sgd_momentum": (SGD, dict(lr=0.02, momentum=0.9)),
    "sgd_momentum_decay": (SGD, dict(lr=0.02, momentum=0.8, weight_decay=0.1)),
    "sgd_nesterov": (SGD, dict(lr=0.02, momentum=0.9, nesterov=True)),
    "sgd_nesterov_decay": (SGD, dict(lr=0.02, momentum=0.8, nesterov=True, weight_decay=0.1)),
    "sgd_clip_value": (SGD, dict(lr=0.02)),
    "adam": (ADAM, dict(lr=0.1)),
    "adam_betas": (ADAM, dict(lr=0.1, betas=(0.5, 0.9), eps=1e-3)),
    "adamw": (ADAMW, dict(lr=0.1)),
    "adamw_decay": (ADAMW, dict(lr=0.1, betas=(0.5, 0.9), eps=1e-3, weight_decay=0.3)),
}


def loss(w):
    return ((w[1:] - w[:-1] ** 2) ** 2 + (1 - w[:-1]) ** 2).sum()


def line(*items):
    print(",".join(x if isinstance(x, str) else repr(x) for x in items))


for name, (rule, config) in RULES.items():
    w = torch.tensor(START, requires_grad=True)
    optimizer = rule([w], **config)
    for t in range(20):
        optimizer.zero_grad()
        loss(w).backward()
        if name == "sgd_clip_value":
            torch.nn.utils.clip_grad_value_([w], 0.5)
        optimizer.step()
        line(name, t + 1, *w.tolist())

L = torch.optim.lr_scheduler
SCHEDULES = {
    "rate_step": lambda o: L.StepLR(o, 7, 0.5),
    "rate_exponential": lambda o: L.ExponentialLR(o, 0.9),
    "rate_cosine": lambda o: L.CosineAnnealingLR(o, 59, 0.01),
    "rate_one_cycle": lambda o: L.OneCycleLR(o, 0.1, total_steps=60),
}
for name, schedule in SCHEDULES.items():
    optimizer = SGD([torch.zeros(1, requires_grad=True)], lr=0.1)
    schedule = schedule(optimizer)
    for t in range(60):
        line(name, t + 1, float(optimizer.param_groups[0]["lr"]))
        optimizer.step()
        if t < 59:
            schedule.step()
