"""What deep CNNs learn about facial emotion, and why they confuse one emotion with another."""

from typing import Any


def __getattr__(name: str) -> Any:
    if name == "predict":  # imported where it is used: `import fer_helpers` should cost nothing
        from .photographs import predict

        return predict
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
