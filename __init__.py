"""ComfyUI-FlashWorld as ComfyUI loads it: the web folder and the list of nodes."""

WEB_DIRECTORY = "./web"
__all__ = ["WEB_DIRECTORY", "comfy_entrypoint"]

if __package__:  # empty where a test runner imports the checkout's root as a plain file
    from .nodes import extension

    async def comfy_entrypoint():
        """The pack's `ComfyExtension`, asked for once when ComfyUI starts."""
        return extension()
