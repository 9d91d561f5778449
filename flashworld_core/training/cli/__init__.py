"""The commands of ``python -m flashworld_core.training``: one file each, with ``add_arguments`` and ``run``."""

COMMANDS = {
    "index": ("flashworld_core.training.cli.index", "go through a data set once and write its index"),
    "embed": ("flashworld_core.training.cli.embed", "text embeddings of all prompts, computed once"),
    "pretrain": ("flashworld_core.training.cli.pretrain", "stage 1: both modes from one pass"),
    "distill": ("flashworld_core.training.cli.distill", "stage 2: the few-step student, from a run of stage 1"),
    "evaluate": ("flashworld_core.training.cli.evaluate", "judge one model or two: figures and a report"),
    "ablate": ("flashworld_core.training.cli.ablate", "variants A to F of the method on ToyWorld"),
    "export": ("flashworld_core.training.cli.export", "a run's weights as a model folder"),
    "card": ("flashworld_core.training.cli.card", "figures, curve, pictures and model card into a model folder"),
    "vae": ("flashworld_core.training.cli.vae", "the first flashworld-tiny: its autoencoder"),
    "generator": ("flashworld_core.training.cli.generator", "the first flashworld-tiny: its generator"),
    "example": ("flashworld_core.training.cli.example", "write the picture, path and prompt of the demo"),
}
"""Command to (module, what it does); the module is imported when the command is used."""
