from abc import ABC, abstractmethod

from . import io

__all__ = ["ComfyExtension", "Types", "io"]


class ComfyExtension(ABC):
    """``on_load`` is never called on the oldest hosts."""

    @abstractmethod
    async def get_node_list(self): ...


class Types:
    pass
