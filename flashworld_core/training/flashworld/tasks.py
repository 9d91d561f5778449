"""What an update of stage 2 does: drawn from the seed and the update, so that every process does the same.

Processes that shard a network must run the same passes in the same order, or they wait for each other for ever.
"""

from __future__ import annotations

import dataclasses
from typing import Literal

from ..draws import Draws

Task = Literal["multiview", "input_views", "novel_views"]
Kind = Literal["multiview", "ood"]


@dataclasses.dataclass(frozen=True)
class Assignment:
    """The control flow of one update.

    Attributes:
        task: what is scored: the multi-view mode's latents, or the 3D mode's renders at input or at novel views.
        kind: multi-view data, or out-of-distribution data without truth.
        rollout: steps without gradient before the scored one, 0 .. steps - 1.
        with_image: whether the samples are given a picture.
        with_text: whether they are given their prompt.
    """

    task: Task
    kind: Kind
    rollout: int
    with_image: bool
    with_text: bool


def assign(
    draws: Draws, *, tasks: dict[str, float], data: dict[str, float], conditioning: dict[str, float], steps: int
) -> Assignment:
    """Draw an update's assignment.

    Args:
        draws: of the update; its sample is ignored.
        tasks: weights of "multiview", "input_views" and "novel_views" (the paper: 1, 3, 1).
        data: weights of "multiview" and "ood" (the paper: 2, 1).
        conditioning: weights of "image_and_text", "image", "text" and "nothing".
        steps: of the student's schedule.
    """
    draws = draws.of(None)
    given = draws.choice("conditioning", conditioning)
    return Assignment(
        task=draws.choice("task", tasks),
        kind=draws.choice("data", data),
        rollout=draws.integer("rollout", steps),
        with_image=given.startswith("image"),
        with_text=given.endswith("text"),
    )


def turns(iteration: int, critic_updates: int) -> tuple[str, ...]:
    """Who is updated in an iteration, in order: the critic in every one, the student in each ``critic_updates``-th.

    The paper's 10,000 training steps are read as such iterations. The student goes first, so that it is judged by the
    critic of the iterations before.
    """
    return ("student", "critic") if iteration % critic_updates == 0 else ("critic",)
