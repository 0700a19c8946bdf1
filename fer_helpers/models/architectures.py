"""The architectures, all of one signature. What they share is in `models.base`; `models.factory` builds them."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from ..data.faceset import IMAGE_SIZE
from .base import Maps, Network, initialise, register_model
from .heads import AveragePool

#: Networks of the original study, as Keras defines them.
ORIGINALS = ("simple_cnn", "original_vgg16", "original_vgg19", "original_resnet50")


class Original(Network):
    """What the networks of the original study share (melomilk/facial-emotion-recognition-research): Keras's layers and
    start, three equal channels from 0 to 1 as input, and one dense layer before the classifier.

    Weights are drawn uniformly after Glorot & Bengio 2010, biases are 0. An image of one channel, normalised as
    `augmentation.normalise` does it, becomes three; one of several channels is only brought to 0 to 1.
    """

    stack: nn.Module
    hidden = 1000
    dropout = 0.1

    def __init__(self, num_classes: int, in_chans: int, batch_norm: bool) -> None:
        super().__init__()
        self.stack, width = self.build(3 if in_chans == 1 else in_chans, batch_norm)
        self.dense = nn.Linear(width, self.hidden)
        self.classifier = nn.Linear(self.hidden, num_classes)
        initialise(self, "glorot")

    def build(self, in_chans: int, batch_norm: bool) -> tuple[nn.Module, int]:
        """The convolutions, and how many numbers they leave of a 48×48 image."""
        raise NotImplementedError

    def features(self, images: torch.Tensor) -> torch.Tensor:
        images = (images + 2) / 4
        channels = 3 if images.shape[1] == 1 else images.shape[1]
        images = images.expand(-1, channels, -1, -1).contiguous(memory_format=torch.channels_last)
        return F.relu(self.dense(self.stack(images).flatten(1)))

    def classify(self, features: torch.Tensor) -> torch.Tensor:
        return self.classifier(F.dropout(features, self.dropout, self.training))


@register_model
class SimpleCNN(Original):
    """The original study's simple CNN: two 3×3 convolutions without padding, 32 and 48 filters, and a dense layer of
    500 units. It has no batch normalisation, by definition."""

    name = "simple_cnn"
    hidden = 500
    dropout = 0.0

    def build(self, in_chans: int, batch_norm: bool) -> tuple[nn.Module, int]:
        del batch_norm
        return nn.Sequential(nn.Conv2d(in_chans, 32, 3), nn.ReLU(), nn.MaxPool2d(2),
                             nn.Conv2d(32, 48, 3), nn.ReLU(), nn.MaxPool2d(2)), 48 * 10 * 10


class VGG(Network):
    """3×3 stacks without shortcuts (Simonyan & Zisserman 2015, arXiv:1409.1556), with a head made for 48 px.

    Five poolings, odd sizes rounded up, leave 2×2×512 numbers of a 48×48 image. torchvision's head would blow them up
    to 7×7×512 and spend 100 M weights on the copies; here two hidden dense layers of 1024 units follow directly. Batch
    normalisation after each convolution is torchvision's ``vgg*_bn``.
    """

    stages: tuple[tuple[int, int], ...]  # (convolutions, filters) of each stage; a pooling ends each
    hidden = 1024

    def __init__(self, num_classes: int, in_chans: int, batch_norm: bool) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for depth, filters in self.stages:
            for _ in range(depth):
                layers.append(nn.Conv2d(in_chans, filters, 3, padding=1, bias=not batch_norm))
                if batch_norm:
                    layers.append(nn.BatchNorm2d(filters))
                layers.append(nn.ReLU(inplace=True))
                in_chans = filters
            layers.append(nn.MaxPool2d(2, ceil_mode=True))
        self.stack = nn.Sequential(*layers)
        width = in_chans * (-(-IMAGE_SIZE // 2 ** len(self.stages))) ** 2
        self.head = nn.Sequential(
            nn.Flatten(), nn.Linear(width, self.hidden), nn.ReLU(inplace=True), nn.Dropout(0.5),
            nn.Linear(self.hidden, self.hidden), nn.ReLU(inplace=True))
        self.dropout = nn.Dropout(0.5)
        self.classifier = nn.Linear(self.hidden, num_classes)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
            elif isinstance(layer, nn.Linear):
                nn.init.normal_(layer.weight, std=0.01)
            if isinstance(layer, (nn.Conv2d, nn.Linear)) and layer.bias is not None:
                nn.init.zeros_(layer.bias)

    def features(self, images: torch.Tensor) -> torch.Tensor:
        return self.head(self.stack(images))

    def classify(self, features: torch.Tensor) -> torch.Tensor:
        return self.classifier(self.dropout(features))


@register_model
class VGG16(VGG):
    name = "vgg16"
    stages = ((2, 64), (2, 128), (3, 256), (3, 512), (3, 512))


@register_model
class VGG19(VGG):
    name = "vgg19"
    stages = ((2, 64), (2, 128), (4, 256), (4, 512), (4, 512))


@register_model
class ResNet50(Network):
    """torchvision's 50 layers with identity shortcuts (He et al. 2016, arXiv:1512.03385), stem made for 48 px.

    A 3×3 convolution replaces the 7×7 one, which would see a sixth of so small a face at once.
    """

    name = "resnet50"
    any_size = True
    conv1: nn.Conv2d
    bn1: nn.Module
    relu: nn.Module
    maxpool: nn.Module
    layer1: nn.Module
    layer2: nn.Module
    layer3: nn.Module
    layer4: nn.Module

    def __init__(self, num_classes: int, in_chans: int, batch_norm: bool) -> None:
        from torchvision.models.resnet import Bottleneck, ResNet  # takes two seconds, which other networks need not

        super().__init__()
        built = ResNet(Bottleneck, [3, 4, 6, 3], num_classes=num_classes, zero_init_residual=batch_norm,
                       norm_layer=nn.BatchNorm2d if batch_norm else _no_norm)
        for name, layer in built.named_children():
            self.add_module(name, layer)
        self.conv1 = nn.Conv2d(in_chans, 64, 3, stride=2, padding=1, bias=False)
        nn.init.kaiming_normal_(self.conv1.weight, mode="fan_out", nonlinearity="relu")
        self.pool, self.classifier = AveragePool(), self.fc
        del self.avgpool, self.fc

    def maps(self, images: torch.Tensor) -> Maps:
        """Of the last stage whose map tells regions of a face apart (1024 on 3×3), and of the last (2048 on 2×2)."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(images))))
        regional = self.layer3(self.layer2(self.layer1(x)))
        return regional, self.layer4(regional)


@register_model
class Compact(Network):
    """Our fast residual network: a patch stem and three stages of one residual block, 64 to 256 filters.

    In the manner of the short ResNets of the CIFAR-10 speed records (Page 2018, DAWNBench): few wide layers, which
    keep the arithmetic units busy, instead of many thin ones.
    """

    name = "compact"
    any_size = True

    def __init__(self, num_classes: int, in_chans: int, batch_norm: bool) -> None:
        super().__init__()
        self.body = nn.Sequential(
            _conv(in_chans, 64, batch_norm, kernel=4, stride=2),
            _Residual(64, batch_norm),
            # Pooled before the widening convolution, not after it: a quarter of its cost.
            nn.MaxPool2d(2), _conv(64, 128, batch_norm),
            _Residual(128, batch_norm),
            nn.MaxPool2d(2), _conv(128, 256, batch_norm),
            _Residual(256, batch_norm))
        self.pool = AveragePool()
        self.classifier = nn.Linear(256, num_classes)

    def maps(self, images: torch.Tensor) -> Maps:
        """Of the last stage, 256 on 6×6, twice: it both tells regions apart and sees the whole face."""
        last = self.body(images)
        return last, last


@register_model
class Mobile(Network):
    """Our small network for answers: inverted residuals, 3×3 filters of one channel each between 1×1 convolutions to
    three times the channels and back (MobileNetV2, Sandler et al. 2018, arXiv:1801.04381).

    It goes to 12×12 by its second convolution of places: on one core, time lies in large maps.
    """

    name = "mobile"
    any_size = True
    stages: tuple[tuple[int, int], ...] = ((40, 2), (80, 3), (128, 3))  # (channels, blocks) of each; it halves the map

    def __init__(self, num_classes: int, in_chans: int, batch_norm: bool) -> None:
        super().__init__()
        channels = 24
        layers: list[nn.Module] = [_conv(in_chans, channels, batch_norm, kernel=4, stride=2)]
        for width, blocks in self.stages:
            layers.append(_inverted(channels, width, batch_norm, stride=2))
            layers += [_Shortcut(_inverted(width, width, batch_norm)) for _ in range(blocks - 1)]
            channels = width
        self.body = nn.Sequential(*layers, _conv(channels, 256, batch_norm, kernel=1))
        self.pool = AveragePool()
        self.classifier = nn.Linear(256, num_classes)

    def maps(self, images: torch.Tensor) -> Maps:
        """Of the last stage, 256 on 3×3, twice: it both tells regions apart and sees the whole face."""
        last = self.body(images)
        return last, last


class OriginalVGG(Original):
    """Keras's VGG without top: 3×3 stacks, each pooled 2×2, which leave 1×1×512 of a 48×48 image; with
    ``batch_norm`` after each convolution, which Keras's has not."""

    stages: tuple[tuple[int, int], ...]

    def build(self, in_chans: int, batch_norm: bool) -> tuple[nn.Module, int]:
        layers: list[nn.Module] = []
        for depth, filters in self.stages:
            for _ in range(depth):
                layers += [*_keras_conv(in_chans, filters, 3, batch_norm), nn.ReLU()]
                in_chans = filters
            layers.append(nn.MaxPool2d(2))
        return nn.Sequential(*layers), in_chans


@register_model
class OriginalVGG16(OriginalVGG):
    name = "original_vgg16"
    stages = VGG16.stages


@register_model
class OriginalVGG19(OriginalVGG):
    name = "original_vgg19"
    stages = VGG19.stages


@register_model
class OriginalResNet50(Original):
    """Keras's ResNet50 without top (He et al. 2016, arXiv:1512.03385), whose 2×2×2048 numbers are not pooled.

    Unlike torchvision's, its convolutions have biases, the stride lies in the first 1×1 convolution of a block, not in
    the 3×3 one, and the running statistics of its normalisation move by 0.01 a step.
    """

    name = "original_resnet50"

    def build(self, in_chans: int, batch_norm: bool) -> tuple[nn.Module, int]:
        layers = [*_keras_conv(in_chans, 64, 7, batch_norm, 2), nn.ReLU(), nn.MaxPool2d(3, 2, 1)]
        width = 64
        for number, depth in enumerate((3, 4, 6, 3)):
            for place in range(depth):
                layers.append(_KerasBottleneck(width, 64 << number, batch_norm, 1 + (number > 0 and place == 0)))
                width = 4 * (64 << number)
        return nn.Sequential(*layers), width * 2 * 2


class _KerasBottleneck(nn.Module):
    """relu(shortcut(x) + branch(x)): 1×1, 3×3 and 1×1 convolutions to four times ``channels``."""

    def __init__(self, in_chans: int, channels: int, batch_norm: bool, stride: int) -> None:
        super().__init__()
        wide = 4 * channels
        self.downsample = nn.Sequential(*_keras_conv(in_chans, wide, 1, batch_norm, stride)) if in_chans != wide \
            else nn.Identity()
        self.branch = nn.Sequential(
            *_keras_conv(in_chans, channels, 1, batch_norm, stride), nn.ReLU(),
            *_keras_conv(channels, channels, 3, batch_norm), nn.ReLU(), *_keras_conv(channels, wide, 1, batch_norm))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.relu(self.downsample(x) + self.branch(x))


def _keras_conv(in_chans: int, out_chans: int, kernel: int, batch_norm: bool, stride: int = 1) -> list[nn.Module]:
    conv = nn.Conv2d(in_chans, out_chans, kernel, stride, kernel // 2)
    return [conv, nn.BatchNorm2d(out_chans, eps=1.001e-5, momentum=0.01)] if batch_norm else [conv]


class _Residual(nn.Module):
    """relu(x + conv(relu(conv(x)))), channels and size unchanged."""

    def __init__(self, channels: int, batch_norm: bool) -> None:
        super().__init__()
        last = _conv(channels, channels, batch_norm)[:2]
        if isinstance(norm := last[1], nn.BatchNorm2d):
            # The block starts as the identity, which lets a high learning rate in from the first step.
            nn.init.zeros_(norm.weight)
        self.branch = nn.Sequential(_conv(channels, channels, batch_norm), last)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.relu(x + self.branch(x))


class _Shortcut(nn.Module):
    """x + branch(x)."""

    def __init__(self, branch: nn.Module) -> None:
        super().__init__()
        self.branch = branch

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.branch(x)


def _inverted(in_chans: int, out_chans: int, batch_norm: bool, stride: int = 1) -> nn.Sequential:
    wide = 3 * in_chans
    return nn.Sequential(_conv(in_chans, wide, batch_norm, kernel=1),
                         _conv(wide, wide, batch_norm, stride=stride, groups=wide),
                         _conv(wide, out_chans, batch_norm, kernel=1)[:2])


def _conv(in_chans: int, out_chans: int, batch_norm: bool, kernel: int = 3, stride: int = 1, groups: int = 1
          ) -> nn.Sequential:
    conv = nn.Conv2d(in_chans, out_chans, kernel, stride, padding=int(kernel > 1), groups=groups, bias=not batch_norm)
    nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
    return nn.Sequential(conv, nn.BatchNorm2d(out_chans) if batch_norm else nn.Identity(), nn.ReLU(inplace=True))


def _no_norm(channels: int) -> nn.Module:
    del channels
    return nn.Identity()
