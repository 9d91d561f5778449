"""CLIP score: how well renders go with their prompt, by transformers' CLIP with weights that lie on the disk."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from ..errors import FlashWorldError


class ClipScore:
    """100 times the cosine between a CLIP model's embeddings of an image and of a text, negative ones counted as 0.

    Nothing is downloaded.

    Args:
        path: folder of a CLIP model as Hugging Face stores it (configuration, safetensors, tokenizer, preprocessor).
        device: where it runs.

    Raises:
        FlashWorldError: no such folder, or no CLIP model in it.
    """

    def __init__(self, path: str | Path, device: str | torch.device = "cpu"):
        path = Path(path).expanduser()
        if not path.is_dir():
            raise FlashWorldError(
                f"There is no folder {path} with a CLIP model; download one, such as openai/clip-vit-large-patch14, "
                "and give its folder."
            )
        from transformers import CLIPImageProcessor, CLIPModel, CLIPTokenizerFast

        local = {"local_files_only": True}
        try:
            model = CLIPModel.from_pretrained(path, use_safetensors=True, **local)
            self.tokenizer = CLIPTokenizerFast.from_pretrained(path, **local)
            self.processor = CLIPImageProcessor.from_pretrained(path, **local)
        except Exception as error:  # transformers raises nearly every kind on folders of another model
            raise FlashWorldError(f"{path} holds no CLIP model that can be read: {str(error)[:200]}") from error
        self.model, self.device = model.to(device).eval().requires_grad_(False), torch.device(device)

    @torch.no_grad()
    def __call__(self, images: Tensor, prompt: str) -> Tensor:
        """[V] scores of images [V, H, W, 3] in [0, 1] with a prompt; a prompt too long for the model is cut off."""
        pixels = self.processor(
            [(image.clamp(0, 1) * 255).round().to(torch.uint8).numpy() for image in images.cpu()], return_tensors="pt"
        )["pixel_values"]
        length = self.model.config.text_config.max_position_embeddings
        text = self.tokenizer([prompt], truncation=True, max_length=length, return_tensors="pt")
        seen = self.model.vision_model(pixel_values=pixels.to(self.device)).pooler_output
        read = self.model.text_model(**{k: v.to(self.device) for k, v in text.items()}).pooler_output
        seen, read = self.model.visual_projection(seen), self.model.text_projection(read)
        return 100 * torch.cosine_similarity(seen, read).clamp_min(0).cpu()
