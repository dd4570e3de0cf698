"""Everything built in, one literal table a kind; importing it imports no component.

A new component is one file and one line here.
"""

ROUTERS = {
    "expert_choice": "modsearch.nn.routers.expert_choice:ExpertChoice",
    "predictor": "modsearch.nn.routers.predictor:Predictor",
    "random": "modsearch.nn.routers.random:Random",
    "static": "modsearch.nn.routers.static:Static",
    "threshold": "modsearch.nn.routers.threshold:Threshold",
    "token_choice": "modsearch.nn.routers.token_choice:TokenChoice",
}

BLOCKS = {
    "dense": "modsearch.nn.blocks.dense:Dense",
    "mod": "modsearch.nn.blocks.mod:Mod",
}

COMPOSITES = {
    "moe": {"block": "dense", "ffn": "moe"},
    "mode_staged": {"block": "mod", "ffn": "moe"},
    "mode_integrated": {"block": "dense", "ffn": "mode_integrated"},
}
"""Names of blocks that are another block with a certain ffn."""

TAKEN = {
    name: f"block {parts['block']} with ffn {parts['ffn']}" for name, parts in COMPOSITES.items()
}
"""The same in words; no block of a third party may have such a name."""

FFNS = {
    "mlp": "modsearch.nn.ffn.mlp:Mlp",
    "mode_integrated": "modsearch.nn.ffn.mode_integrated:ModeIntegrated",
    "moe": "modsearch.nn.ffn.moe:Moe",
}

SCHEDULES = {
    "every_nth": "modsearch.nn.schedules:EveryNth",
    "explicit": "modsearch.nn.schedules:Explicit",
}

OPTIMIZERS = {
    "adamw": "modsearch.optim.adamw:AdamW",
    "muon": "modsearch.optim.muon:Muon",
}

RATE_SCHEDULES = {
    "cosine": "modsearch.optim.schedules:Cosine",
    "linear": "modsearch.optim.schedules:Linear",
    "wsd": "modsearch.optim.schedules:Wsd",
}

GRID = "grid"
ISOFLOP = "isoflop"
"""The sampler that runs every point, and so has no number of trials."""

SAMPLERS = {
    GRID: "modsearch.sampling.grid:Grid",
    "gp": "modsearch.sampling.gp:Gp",
    ISOFLOP: "modsearch.sampling.isoflop:Isoflop",
    "nsga2": "modsearch.sampling.nsga2:Nsga2",
    "qmc": "modsearch.sampling.qmc:Qmc",
    "random": "modsearch.sampling.random:Random",
    "tpe": "modsearch.sampling.tpe:Tpe",
}

TRACKERS = {
    "mlflow": "modsearch.tracking.mlflow:MLflow",
    "tensorboard": "modsearch.tracking.tensorboard:TensorBoard",
    "trackio": "modsearch.tracking.trackio:Trackio",
    "wandb": "modsearch.tracking.wandb:WandB",
}

TABLES = {
    "block": BLOCKS,
    "ffn": FFNS,
    "optimizer": OPTIMIZERS,
    "rate_schedule": RATE_SCHEDULES,
    "router": ROUTERS,
    "sampler": SAMPLERS,
    "schedule": SCHEDULES,
}

GROUPS = {kind: f"modsearch.{kind}s" for kind in (*TABLES, "tracker")}
"""Of entry points of other packages."""
