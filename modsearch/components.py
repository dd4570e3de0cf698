"""Everything built in, one literal table a kind; importing it imports no component.

A new component is one file and one line here.
"""

ROUTERS = {
    "expert_choice": "modsearch.nn.routers.expert_choice:ExpertChoice",
    "random": "modsearch.nn.routers.random:Random",
}

BLOCKS = {
    "dense": "modsearch.nn.blocks.dense:Dense",
    "mod": "modsearch.nn.blocks.mod:Mod",
}

FFNS = {
    "mlp": "modsearch.nn.ffn.mlp:Mlp",
}

SCHEDULES = {
    "every_nth": "modsearch.nn.schedules:EveryNth",
}

TABLES = {"block": BLOCKS, "ffn": FFNS, "router": ROUTERS, "schedule": SCHEDULES}

GROUPS = {kind: f"modsearch.{kind}s" for kind in TABLES}
"""Of entry points of other packages."""
