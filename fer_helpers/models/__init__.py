"""Networks by name: architectures, the heads they may have, and what builds them.
They take normalised images and give logits; training is in `training`."""

from typing import TYPE_CHECKING

from ..files import hand_on

if TYPE_CHECKING:
    from .base import Network, network_name, register_model
    from .factory import create_model, list_models, model_table
    from .heads import HEADS
    from .text_embeddings import prototypes
else:
    __getattr__ = hand_on(__name__, {
        "Network": "base", "network_name": "base", "register_model": "base",
        "create_model": "factory", "list_models": "factory", "model_table": "factory",
        "HEADS": "heads",
        "prototypes": "text_embeddings",
    })

__all__ = [
    "HEADS", "Network", "create_model", "list_models", "model_table", "network_name", "prototypes", "register_model",
]
