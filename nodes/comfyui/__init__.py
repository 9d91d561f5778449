"""The one place that touches ComfyUI: its API and versions (api), runs (run), folders and memory (memory, parts)."""
