"""Layers that compute what torch's own do, faster on the processor."""

from __future__ import annotations

from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import nn

Module = TypeVar("Module", bound=nn.Module)

#: Output positions up to which the weight gradient is faster as a matrix product, measured in `benchmarks/README.md`.
SMALL_MAP = 9


class Conv2d(nn.Conv2d):
    """`torch.nn.Conv2d` whose bf16 training on the CPU is faster where the output map is 3×3 or smaller.

    A 48-pixel face leaves such maps in the deep half of a network, and oneDNN's weight gradient runs at a fifth of the
    arithmetic peak there. For square kernels, strides and paddings; results agree up to rounding.
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        assert not isinstance(self.padding, str)  # "same" is resolved by none of the networks here
        side = (x.shape[-1] + 2 * self.padding[0] - self.kernel_size[0]) // self.stride[0] + 1
        if (x.device.type == "cpu" and self.training and side * side <= SMALL_MAP and torch.is_autocast_enabled("cpu")
                and torch.is_grad_enabled()):
            dtype = torch.get_autocast_dtype("cpu")
            out: torch.Tensor = _SmallMapConv.apply(x.to(dtype), self.weight.to(dtype), self.stride[0], self.padding[0])
            return out if self.bias is None else out + self.bias.to(dtype)[:, None, None]
        return super().forward(x)


def speed_up(model: Module) -> Module:
    """Give every plain convolution of ``model`` the faster training, in place."""
    for module in model.modules():
        if type(module) is nn.Conv2d and module.groups == 1 and module.dilation == (1, 1):
            module.__class__ = Conv2d
    return model


class _SmallMapConv(torch.autograd.Function):
    """Convolution of (N, C, H, W) with (D, C, K, K), both of one dtype and in channels-last order."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight: torch.Tensor, stride: int, padding: int) -> torch.Tensor:
        ctx.save_for_backward(x, weight)
        ctx.stride, ctx.padding = stride, padding
        return F.conv2d(x, weight, stride=stride, padding=padding)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, torch.Tensor, None, None]:
        (x, weight), stride, padding = ctx.saved_tensors, ctx.stride, ctx.padding
        grad_x = torch.ops.aten.convolution_backward(
            grad, x, weight, None, [stride] * 2, [padding] * 2, [1, 1], False, [0, 0], 1,
            [ctx.needs_input_grad[0], False, False])[0]
        count, size = len(weight), weight.shape[-1]
        rows = grad.permute(0, 2, 3, 1).reshape(-1, count)
        patches = F.pad(x.permute(0, 2, 3, 1), (0, 0, padding, padding, padding, padding))
        patches = patches.unfold(1, size, stride).unfold(2, size, stride).permute(0, 1, 2, 4, 5, 3)
        product = rows.T @ patches.reshape(len(rows), -1)
        return grad_x, product.view(count, size, size, -1).permute(0, 3, 1, 2), None, None
