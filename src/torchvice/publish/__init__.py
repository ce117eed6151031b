"""Numbers and data in the formats of the Hugging Face Hub, timm and Croissant: files to upload, nothing is uploaded."""

from torchvice.publish.croissant import croissant
from torchvice.publish.hub import eval_results, model_card
from torchvice.publish.published import Published, headline
from torchvice.publish.timm_csv import timm_row

__all__ = ["Published", "croissant", "eval_results", "headline", "model_card", "timm_row"]
