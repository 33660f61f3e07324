"""Twenty steps of PyTorch's optimizers (of MORE those in KEPT), and sixty rates of its schedules,
in f64.

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

O = torch.optim
FAST = dict(lr=0.1, betas=(0.5, 0.9), eps=1e-3)
MORE = {
    "adam_decay": (ADAM, dict(**FAST, weight_decay=0.3)),
    "amsgrad": (ADAM, dict(**FAST, amsgrad=True)),
    "amsgrad_decoupled": (ADAMW, dict(**FAST, amsgrad=True, weight_decay=0.3)),
    "nadam": (O.NAdam, dict(lr=0.1)),
    "nadam_decay": (O.NAdam, dict(**FAST, momentum_decay=0.1, weight_decay=0.3)),
    "nadam_decoupled": (O.NAdam, dict(**FAST, weight_decay=0.3, decoupled_weight_decay=True)),
    "radam": (O.RAdam, dict(lr=0.1)),
    "radam_decay": (O.RAdam, dict(**FAST, weight_decay=0.3)),
    "radam_decoupled": (O.RAdam, dict(**FAST, weight_decay=0.3, decoupled_weight_decay=True)),
    "adamax": (O.Adamax, dict(lr=0.1)),
    "adamax_decay": (O.Adamax, dict(**FAST, weight_decay=0.3)),
    "rmsprop": (O.RMSprop, dict(lr=0.02)),
    "rmsprop_momentum": (O.RMSprop, dict(lr=0.02, alpha=0.9, momentum=0.8)),
    "rmsprop_centered": (O.RMSprop, dict(lr=0.02, eps=1e-3, centered=True)),
    "rmsprop_all": (
        O.RMSprop,
        dict(lr=0.02, alpha=0.9, eps=1e-2, centered=True, momentum=0.5, weight_decay=0.1),
    ),
    "adagrad": (O.Adagrad, dict(lr=0.1)),
    "adagrad_initial": (
        O.Adagrad,
        dict(lr=0.1, eps=1e-3, initial_accumulator_value=0.1, weight_decay=0.3),
    ),
    "adadelta": (O.Adadelta, dict(lr=1.0)),
    "adadelta_decay": (O.Adadelta, dict(lr=5.0, rho=0.7, eps=1e-4, weight_decay=0.3)),
    "rprop": (O.Rprop, dict(lr=0.01)),
    "rprop_etas": (O.Rprop, dict(lr=0.1, etas=(0.3, 1.5), step_sizes=(0.01, 0.3))),
    "asgd": (O.ASGD, dict(lr=0.02)),
    "asgd_average": (O.ASGD, dict(lr=0.02, lambd=0.1, alpha=0.5, t0=5, weight_decay=0.1)),
    "sgd_clip_norm": (SGD, dict(lr=0.02)),
    "sgd_ema": (SGD, dict(lr=0.02)),
    "sgd_mean": (SGD, dict(lr=0.02)),
}
KEPT = (1, 2, 3, 10, 20)


def loss(w):
    return ((w[1:] - w[:-1] ** 2) ** 2 + (1 - w[:-1]) ** 2).sum()


def line(*items):
    print(",".join(x if isinstance(x, str) else repr(x) for x in items))


for name, (rule, config) in (RULES | MORE).items():
    w = torch.nn.Parameter(torch.tensor(START))
    optimizer = rule([w], **config)
    model = torch.nn.ParameterList([w])
    average = O.swa_utils.get_ema_multi_avg_fn(0.9) if name == "sgd_ema" else None
    model = O.swa_utils.AveragedModel(model, multi_avg_fn=average)
    for t in range(20):
        optimizer.zero_grad()
        loss(w).backward()
        if name == "sgd_clip_value":
            torch.nn.utils.clip_grad_value_([w], 0.5)
        if name == "sgd_clip_norm":
            torch.nn.utils.clip_grad_norm_([w], 0.5)
        optimizer.step()
        model.update_parameters(torch.nn.ParameterList([w]))
        shown = w
        if name == "asgd_average":
            shown = optimizer.state[w]["ax"]
        if name in ("sgd_ema", "sgd_mean"):
            shown = model.module[0]
        if name in RULES or t + 1 in KEPT:
            line(name, t + 1, *shown.tolist())

L = torch.optim.lr_scheduler
SCHEDULES = {
    "rate_step": lambda o: L.StepLR(o, 7, 0.5),
    "rate_exponential": lambda o: L.ExponentialLR(o, 0.9),
    "rate_cosine": lambda o: L.CosineAnnealingLR(o, 59, 0.01),
    "rate_one_cycle": lambda o: L.OneCycleLR(o, 0.1, total_steps=60),
    "rate_multi_step": lambda o: L.MultiStepLR(o, [4, 30, 31], 0.5),
    "rate_polynomial": lambda o: L.PolynomialLR(o, 40, 2.0),
    "rate_restarts": lambda o: L.CosineAnnealingWarmRestarts(o, 7, 2, 0.01),
    "rate_plateau": lambda o: L.ReduceLROnPlateau(o, factor=0.5, patience=2, cooldown=3),
}
for name, schedule in SCHEDULES.items():
    optimizer = SGD([torch.zeros(1, requires_grad=True)], lr=0.1)
    schedule = schedule(optimizer)
    for t in range(60):
        line(name, t + 1, float(optimizer.param_groups[0]["lr"]))
        optimizer.step()
        if t < 59:
            # The metric falls for 20 steps, then hardly, up and down.
            metric = max(20 - t, 1) + (t * 7 % 5) / 4096
            schedule.step(*[metric] * (name == "rate_plateau"))
