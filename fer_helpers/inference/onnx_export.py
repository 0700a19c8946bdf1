"""A network as one ONNX file that needs no Python: faces in, calibrated probabilities out, checked as it is written."""

from __future__ import annotations

import contextlib
import copy
import logging
import tempfile
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchvision  # noqa: F401 - imported after the first export, its operations would stay unknown to the exporter
from torch import nn

from ..data.faceset import IMAGE_SIZE
from ..files import FerError, check_file, needs_extra, write_atomic
from ..transforms.augmentation import normalise, views
from .pretrained import Pretrained

AGREEMENT = 1e-4  # largest difference of a probability between PyTorch and onnxruntime that is accepted


@dataclass(frozen=True)
class Exported:
    """An ONNX file and how far it is from the network that it came from.

    Attributes
    ----------
    path : the file; input "images", uint8 (N, 48, 48); output "probabilities", float32 (N, C), and where the network
        tells people's votes "votes", their shares, float32 (N, C).
    difference : largest difference of a probability, 0..1, over the images it was checked on.
    agreement : share of those images with the same answer.
    """

    path: Path
    difference: float
    agreement: float


class Answering(nn.Module):
    """uint8 (N, 48, 48) to float32 (N, C): normalised, seen in the views of the network's ``tta``, its mean logits
    divided by its temperature, and softmax; and the same of the logits of votes, where it has such."""

    def __init__(self, network: Pretrained) -> None:
        super().__init__()
        self.model, self.tta = copy.deepcopy(network.model).eval(), network.config.tta
        temperatures = [network.calibration.temperature]
        if self.model.voter is not None:
            temperatures.append(network.calibration.vote_temperature)
        self.parts = len(temperatures)
        self.scale: torch.Tensor | None = (1 / torch.tensor(temperatures)).repeat_interleave(
            len(network.config.class_names))
        layers = [self.model.classifier, self.model.voter][:self.parts]
        if all(type(layer) is nn.Linear for layer in layers):
            self.model.classifier, self.model.voter, self.scale = _joined(layers, self.scale), None, None

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        # One pass over all views: a pass each would hold its own copy of the weights once they are quantised.
        seen = list(views(normalise(images), self.tta))
        logits = self.model.with_votes(torch.cat(seen))
        if len(seen) > 1:
            logits = logits.unflatten(0, (len(seen), -1)).mean(0)
        if self.scale is not None:
            logits = logits * self.scale
        return tuple(part.softmax(1) for part in logits.chunk(self.parts, 1))


def _joined(layers: list[nn.Linear], scale: torch.Tensor) -> nn.Linear:
    """Dense layers of the same features as one, its outputs times ``scale``: one matrix product, and no division."""
    joined = nn.Linear(layers[0].in_features, len(scale))
    with torch.no_grad():
        joined.weight.copy_(torch.cat([layer.weight for layer in layers]) * scale[:, None])
        joined.bias.copy_(torch.cat([layer.bias for layer in layers]) * scale)
    return joined


def export_onnx(network: Pretrained, target: Path | str, images: torch.Tensor) -> Exported:
    """Write ``network`` with its preprocessing and its calibrated softmax; any number of images goes in at a time.

    Parameters
    ----------
    network : from `loading.load_network`.
    target : file to write; classes, temperature and threshold stand in its metadata.
    images : uint8 (N, 48, 48) to check it on.

    Raises
    ------
    FerError
        If the "export" extra is not installed, the file cannot be written, or onnxruntime answers differently by more
        than `AGREEMENT`: nothing is kept then.
    """
    _runtime()
    target = Path(target)
    answering, calibration = Answering(network), network.calibration
    checked: list[Exported] = []

    def write(path: Path) -> None:
        _to_onnx(answering, path, {
            "classes": ",".join(network.config.class_names), "temperature": str(calibration.temperature),
            "threshold": str(calibration.threshold), "arch": network.config.arch})
        checked.append(_check(answering, path, target, images))
        if not checked[0].difference <= AGREEMENT:
            raise FerError(f"{target}: onnxruntime differs by {checked[0].difference:.1e} from PyTorch, above "
                           f"{AGREEMENT:g}; update torch and onnxruntime")

    write_atomic(target, write)
    return checked[0]


def quantise(network: Pretrained, source: Path | str, target: Path | str, calibration: torch.Tensor,
             images: torch.Tensor) -> Exported:
    """An exported file with integer weights and activations (Jacob et al. 2018, arXiv:1712.05877): weights take
    a quarter of the space.

    Parameters
    ----------
    network : what ``source`` was exported from.
    calibration : uint8 (N, 48, 48), some hundred typical images, whose activations set the ranges; no test images.
    images : uint8 (N, 48, 48) to compare the answers on.

    Raises
    ------
    FerError
        If the "export" extra is not installed, ``source`` is missing, or ``target`` cannot be written.
    """
    _runtime()
    source, target = Path(source), Path(target)
    if not source.exists():
        raise FerError(f"{source}: is missing; export it first")
    from onnxruntime import quantization

    class Reader(quantization.CalibrationDataReader):  # type: ignore[misc]  # onnxruntime has no types
        def __init__(self) -> None:
            self.parts: Iterator[torch.Tensor] = iter(calibration.split(32))

        def get_next(self) -> dict[str, np.ndarray] | None:
            part = next(self.parts, None)
            return None if part is None else {"images": part.numpy()}

    checked: list[Exported] = []

    def write(path: Path) -> None:
        with tempfile.TemporaryDirectory() as folder:
            prepared = Path(folder) / "prepared.onnx"
            quantization.shape_inference.quant_pre_process(str(source), str(prepared), skip_symbolic_shape=True)
            # Seven bits for weights: processors without VNNI add pairs of products in 16 bits, where eight overflow.
            # On one of them that cost the shipped network 15 points of accuracy.
            quantization.quantize_static(str(prepared), str(path), Reader(), per_channel=True, reduce_range=True,
                                         op_types_to_quantize=["Conv", "Gemm", "MatMul"])
        checked.append(_check(Answering(network), path, target, images))

    write_atomic(target, write)
    return checked[0]


def session(path: Path | str, threads: int = 0) -> Any:
    """An onnxruntime session on the processor; ``threads`` 0 takes all.

    Raises
    ------
    FerError
        If the "export" extra is not installed, or the file is no network that onnxruntime can read.
    """
    runtime = _runtime()
    options = runtime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = threads, 3
    with _explained(path):
        # Its fallback would try the same again, and print that.
        return runtime.InferenceSession(str(check_file(path)), options, providers=["CPUExecutionProvider"],
                                        enable_fallback=0)


def answers(path: Path | str, images: torch.Tensor) -> np.ndarray:
    """float32 (N, C): the probabilities that an exported file gives to uint8 images (N, 48, 48); errors are those of
    `session`."""
    return _outputs(path, images)[0]


def _outputs(path: Path | str, images: torch.Tensor) -> list[np.ndarray]:
    running = session(path)
    with _explained(path):
        return [np.concatenate(parts) for parts in zip(*(
            running.run(None, {"images": part.numpy()}) for part in images.split(64)), strict=True)]


@contextlib.contextmanager
def _explained(path: Path | str) -> Iterator[None]:
    try:
        yield
    except FerError:
        raise
    except Exception as error:  # the runtime has an exception of its own for each way to be wrong
        raise FerError(f"{path}: is no network that we exported ({type(error).__name__}); export it again") from error


def _runtime() -> Any:
    with needs_extra("export"):
        import onnxruntime
        import onnxscript  # noqa: F401
    return onnxruntime


def _to_onnx(answering: Answering, path: Path, metadata: dict[str, str]) -> None:
    import onnx

    example = torch.zeros(2, IMAGE_SIZE, IMAGE_SIZE, dtype=torch.uint8)
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the exporter's own insides, nothing a user could mend
            program = torch.onnx.export(answering, (example,), input_names=["images"], dynamo=True, verbose=False,
                                        output_names=["probabilities", "votes"][:answering.parts],
                                        dynamic_shapes={"images": {0: torch.export.Dim("batch", min=1)}})
    finally:
        logger.setLevel(level)
    assert program is not None
    model = program.model_proto
    onnx.helper.set_model_props(model, metadata)
    onnx.save(model, str(path))


def _check(answering: Answering, path: Path, target: Path, images: torch.Tensor) -> Exported:
    with torch.inference_mode():
        ours = [torch.cat(parts).numpy() for parts in zip(*map(answering, images.split(64)), strict=True)]
    theirs = _outputs(path, images)
    return Exported(target, max(float(np.abs(a - b).max()) for a, b in zip(ours, theirs, strict=True)),
                    float((ours[0].argmax(1) == theirs[0].argmax(1)).mean()))
