"""The commands of ``python -m flashworld_core.training``: one file each, with ``add_arguments`` and ``run``."""

COMMANDS = {
    "pretrain": ("flashworld_core.training.cli.pretrain", "stage 1: both modes from one pass"),
    "distill": ("flashworld_core.training.cli.distill", "stage 2: the few-step student, from a run of stage 1"),
    "ablate": ("flashworld_core.training.cli.ablate", "variants A to F of the method on ToyWorld"),
}
"""Command to (module, what it does); the module is imported when the command is used."""
