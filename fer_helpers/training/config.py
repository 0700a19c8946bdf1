"""`TrainConfig`: everything that decides the outcome of a training run, apart from the data.

`settings` reads it from text. Torch is imported only where a configuration is made: ``fer train --help`` must not wait
for it.
"""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass
from typing import Any

import yaml

from ..data.emotions import class_set, class_setting
from ..files import FerError, listing

OPTIMIZERS = ("sgd", "adam", "adamw", "rmsprop", "muon")
SCHEDULES = ("constant", "step", "cosine", "onecycle", "plateau")
LOSSES = ("cross_entropy", "soft_votes", "sigmoid_cross_entropy")
INITS = ("default", "glorot", "he")
#: Settings of one method or another to learn better than by plain cross-entropy; all are off by default.
METHOD_SETTINGS = ("head", "cbam", "focal", "contrast", "hard_negatives", "pretrain", "pretrain_epochs", "temperature",
                   "guide", "teacher", "distill", "teaching", "votes")
#: Settings that came after runs had been kept: while they are off they are no part of a run's identity.
_LATER = (*METHOD_SETTINGS, "init", "root_eps", "train_set", "validation", "drop_last")
#: Peak learning rate used when a configuration names none.
DEFAULT_LR = {"sgd": 0.05, "adam": 5e-4, "adamw": 5e-4, "rmsprop": 3e-4, "muon": 0.02}
#: Values of settings that are one of a few names.
CHOICES = {"optimizer": OPTIMIZERS, "schedule": SCHEDULES, "loss": LOSSES, "init": INITS,
           "class_weights": ("none", "balanced", "effective"), "precision": ("auto", "fp32", "bf16"),
           "validation": ("stratified", "last"), "keep": ("best", "last", "best_on_test"),
           "pretrain": ("none", "supcon", "simclr"), "teaching": ("each_step", "once")}
#: Lowest and highest value of settings that are numbers.
RANGES: dict[str, tuple[float, float]] = {
    "lr": (0, 100), "momentum": (0, 0.9999), "root_eps": (1e-30, 1), "weight_decay": (0, 10),
    "warmup_epochs": (0, 1000), "epochs": (1, 100_000), "batch_size": (2, 1 << 20), "accumulate": (1, 1 << 20),
    "ema": (0, 0.999999), "label_smoothing": (0, 1), "clip_norm": (1e-9, 1e9), "patience": (1, 100_000),
    "val_fraction": (0.001, 0.9), "train_limit": (2, 1 << 40), "focal": (0, 10), "contrast": (0, 100),
    "hard_negatives": (0, 100), "pretrain_epochs": (0, 100_000), "temperature": (0.001, 100), "guide": (0, 100),
    "distill": (0, 1), "votes": (0, 100), "seed": (0, 2**31)}
_WORDS = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False, "null": None, "none": None}


class _Loader(yaml.SafeLoader):
    """YAML as JSON and version 1.2 have it: 1e-3 is a number, for which version 1.1 wants a dot and a sign, and a date
    is text."""


_Loader.yaml_implicit_resolvers = {first: [(tag, pattern) for tag, pattern in known if "timestamp" not in tag]
                                   for first, known in yaml.SafeLoader.yaml_implicit_resolvers.items()}
_Loader.add_implicit_resolver("tag:yaml.org,2002:float", re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"),
                              list("-+.0123456789"))


def read_value(text: str) -> Any:
    """What a text means by itself: "off" is False, "none" None, "1e-3" a number, "[1e-3, 2]" a list (YAML or JSON); any
    other text is itself."""
    if (word := text.strip().lower()) in _WORDS:
        return _WORDS[word]
    try:
        return yaml.load(text, _Loader)
    except Exception:  # tags and dates break the loader in many ways; the setting's own check says what is wrong
        return text


def convert(value: Any, kind: type, optional: bool = False) -> Any:
    """``value``, which a command line, a plan or papermill may give as text or another number, as a ``kind``, or None
    where that is ``optional``; as it is where it means nothing of that kind."""
    if not isinstance(value, str) or kind is str:
        found = value.lower() if isinstance(value, str) else value
        found = None if optional and found in ("none", "null") else found
    else:
        found = read_value(value)
    if kind is int and isinstance(found, float) and found.is_integer():
        found = int(found)
    if kind is float and isinstance(found, int) and not isinstance(found, bool) and abs(found) < 1 << 53:
        found = float(found)  # 1 and 1.0 are one setting: one run id
    if kind is bool and found in (0, 1):
        found = bool(found)
    fits = isinstance(found, kind) and (kind is bool or not isinstance(found, bool))
    return found if fits or (found is None and optional) else value


def read_setting(name: str, value: Any) -> Any:
    """`convert` for the field of `TrainConfig` of that name, or "method"; of any other name `read_value` of a text."""
    if name in KINDS:
        return convert(value, *KINDS[name])
    return read_value(value) if isinstance(value, str) else value


@dataclass(frozen=True)
class TrainConfig:
    """Everything that decides the outcome of a run, apart from the data. Immutable, checked, JSON both ways.

    Attributes
    ----------
    arch : "simple_cnn", "vgg16", "vgg19", "resnet50", "compact" or "mobile"; "original_vgg16", "original_vgg19" or
        "original_resnet50", as in the original study; or what else `models.register_model` added.
    classes : 3 (anger, fear, happiness), 6 (and sadness, surprise, neutral), 7 (and disgust), 8 (and contempt); names
        of two or more, as in "anger+fear+neutral"; or "data", all that are in both train and test.
    batch_norm : whether the network normalises its activations.
    init : initial weights: "default", the architecture's own; "glorot" (uniform, Glorot & Bengio 2010) or "he" (normal,
        He et al. 2015, arXiv:1502.01852) in every convolution and dense layer, with biases of zero.
    optimizer : "sgd" (Nesterov momentum), "adam", "adamw", "rmsprop" or "muon" (see `optim.Muon`).
    lr : peak learning rate; None takes `DEFAULT_LR` of the optimizer.
    momentum : of sgd and muon; the decay of the running averages of rmsprop (Keras's rho) and adam, adamw (β₁).
    root_eps : of rmsprop: added to the mean square of the gradient under the root, as Keras has it (1e-7), instead of
        to the root, as torch has it (1e-8); None takes torch's way. Under the root it slows gradients smaller than
        its own root (3e-4).
    weight_decay : L2 penalty (decoupled for adamw and muon), on all weights of two or more dimensions.
    schedule : "constant"; "step" (÷10 at 60% and 85%); "cosine" to 0; "onecycle" (up over 30%, then cosine to 0);
        "plateau" (÷2 after three epochs without a better validation loss).
    warmup_epochs : linear rise of the rate from 0 before the schedule takes over its full value; "onecycle" rises by
        itself.
    epochs : passes over the train split.
    batch_size : images per step.
    drop_last : whether the last, smaller batch of an epoch is left out.
    loss : "cross_entropy"; "soft_votes" (cross-entropy to the FER+ vote shares); "sigmoid_cross_entropy" (a binary
        cross-entropy of each logit's sigmoid, mean over classes: what Keras 2 computes where `binary_crossentropy`
        follows a softmax, as in the original study).
    label_smoothing : share of the target spread over all classes, 0 to 1.
    class_weights : "none", "balanced" (inverse class frequency in train) or "effective" (inverse effective number of
        images, β = 0.999, Cui et al. 2019, arXiv:1901.05555); both average 1 over the train images.
    augmentation : "none", "flip", "standard" or "strong", to which "+erase", "+hide", "+trivial", "+augmix", "+mixup"
        and "+cutmix" may be added, as in "flip+hide"; see `augmentation.Policy`.
    precision : "fp32", "bf16" (autocast) or "auto" (see `prediction.choose_precision`).
    accumulate : parts that a batch is worked through in, to save memory; their gradients add up to that of the batch.
    ema : decay per step of a running average of the weights, which then is what is validated and kept; None keeps the
        weights themselves. It starts lower and rises to this value, so that short runs forget the first weights too.
    progressive : train on images of 32 pixels a side in the first 40% of the epochs, 40 in the next 30%, then 48: the
        same number of epochs at two thirds of the cost. For networks with global pooling.
    tta : views whose logits are averaged on the validation and test images of a finished run: "none", "flip" or
        "ten_crop", see `augmentation.views`.
    clip_norm : largest gradient norm; None does not clip.
    keep : "best", the weights of the epoch with the lowest validation loss; "last", those of the last epoch: for a
        fixed recipe that holds out next to nothing; or "best_on_test", those of the highest accuracy on the test
        images, which then stand in for validation: to measure what choosing there pretends.
    patience : stop after this many epochs without a better validation loss; None never stops early.
    train_set : which images of train are used, see `train_sets.select_train`: "all", "original" (those that the
        original study had), "without-CLASS+…", "no-copies" (of test images) or "test-augmented" (test images, too).
    val_fraction : share of train held out for model selection.
    validation : how: "stratified" (drawn class by class, copies together), or "last" (the last in folder order, as
        Keras's ``validation_split`` takes them: whole classes).
    train_limit : train on so many images only (class shares kept); None uses all.
    head : "plain", or what takes the place of average pooling and a dense classifier: "attention", "regions" or "text".
    cbam : attention to channels and places in every residual block, see `heads.CBAM`.
    focal : exponent γ of the focal loss; 0 is plain cross-entropy. See `losses.focal_loss`.
    contrast : weight of a supervised contrastive loss beside the loss above, over two views of each image.
    hard_negatives : how much more the classes that the validation images of a class are taken for count as its
        negatives in that contrastive loss, see `losses.confusion_weights`.
    pretrain : "supcon" or "simclr" trains by the contrastive loss alone at first, with and without the labels; "none"
        does not.
    pretrain_epochs : for so many of ``epochs``. If no epoch is left, the classifier stays untrained.
    temperature : of the contrastive losses.
    guide : weight of a loss that spreads the evidence over the regions of the face, see `losses.spread_loss`.
    teacher : an architecture, trained first as `runs.teacher_config` says; the name of a finished run in the same
        store, or of several with "+" between, whose logits are averaged; or None for no teacher.
    distill : the weight that the teacher's answers have against the labels, see `losses.distillation_loss`.
    teaching : when the teacher answers: "each_step", on the very images that the student is shown, as they were changed
        (Beyer et al. 2022, arXiv:2106.05237), or "once", before the training, on each image and its mirror image, which
        costs next to nothing.
    votes : weight of the cross-entropy of a second classifier of the same features to the FER+ vote shares, beside the
        loss above: what ten people see teaches the features more than one label does, and the network can say it.
    seed : of the initial weights, the order of images, augmentation, dropout, and the validation split.
    """

    arch: str = "compact"
    classes: int | str = 6
    batch_norm: bool = True
    init: str = "default"
    optimizer: str = "sgd"
    lr: float | None = None
    momentum: float = 0.9
    root_eps: float | None = None
    weight_decay: float = 5e-4
    schedule: str = "onecycle"
    warmup_epochs: float = 0.0
    epochs: int = 10
    batch_size: int = 128
    drop_last: bool = True
    loss: str = "cross_entropy"
    label_smoothing: float = 0.0
    class_weights: str = "none"
    augmentation: str = "standard"
    precision: str = "auto"
    accumulate: int = 1
    ema: float | None = None
    progressive: bool = False
    tta: str = "none"
    clip_norm: float | None = None
    keep: str = "best"
    patience: int | None = None
    train_set: str = "all"
    val_fraction: float = 0.1
    validation: str = "stratified"
    train_limit: int | None = None
    head: str = "plain"
    cbam: bool = False
    focal: float = 0.0
    contrast: float = 0.0
    hard_negatives: float = 0.0
    pretrain: str = "none"
    pretrain_epochs: int = 0
    temperature: float = 0.1
    guide: float = 0.0
    teacher: str | None = None
    distill: float = 0.0
    teaching: str = "each_step"
    votes: float = 0.0
    seed: int = 0

    @property
    def rate(self) -> float:
        """``lr``, which is never None once the configuration is made."""
        assert self.lr is not None
        return self.lr

    def __post_init__(self) -> None:
        from ..models.factory import check_arch
        from ..models.heads import HEADS
        from ..transforms.augmentation import TTA, policy
        from .train_sets import missing_classes

        for name in KINDS.keys() - {"method"}:
            object.__setattr__(self, name, read_setting(name, getattr(self, name)))
        check_arch(self.arch)
        if self.classes != "data":
            object.__setattr__(self, "classes", class_setting(class_set(self.classes)))
        policy(self.augmentation)
        missing_classes(self.train_set)
        switches = {name: (True, False) for name, (kind, _) in KINDS.items() if kind is bool}
        for name, allowed in {**CHOICES, **switches, "head": HEADS, "tta": TTA}.items():
            if getattr(self, name) not in allowed:
                raise FerError(f"{name}={getattr(self, name)!r} is unknown; choose one of "
                               f"{', '.join(map(str, allowed))}")
        if self.loss == "sigmoid_cross_entropy" and self.label_smoothing:
            raise FerError("label_smoothing does nothing with loss='sigmoid_cross_entropy'; leave one of them out")
        if self.root_eps is not None and self.optimizer != "rmsprop":
            raise FerError(f"root_eps={self.root_eps!r} is of rmsprop only, not of {self.optimizer}; leave it out")
        if self.lr is None:
            object.__setattr__(self, "lr", DEFAULT_LR[self.optimizer])
        for name, (low, high) in RANGES.items():
            value, (kind, optional) = getattr(self, name), KINDS[name]
            if value is None and optional:
                continue
            fits = isinstance(value, kind) and not isinstance(value, bool)
            if not fits or not low <= value <= high:
                raise FerError(f"{name}={value!r} must be {'a whole' if kind is int else 'a'} number "
                               f"from {low} to {high}")
        if self.batch_size % self.accumulate or self.batch_size < 2 * self.accumulate:
            raise FerError(f"accumulate={self.accumulate} cannot divide batch_size={self.batch_size} into equal parts "
                           "of two or more; choose a divisor of it")
        if not self.drop_last and self.accumulate > 1:
            raise FerError(f"accumulate={self.accumulate} needs batches of equal size; set drop_last to true")
        self._check_method()

    def _check_method(self) -> None:
        """Settings that only make sense together, or with some networks."""
        from ..models.factory import check_arch, list_models
        from ..transforms.augmentation import policy

        if self.arch not in list_models(any_size=True):
            wants = {"progressive": self.progressive, "cbam": self.cbam, "guide": self.guide,
                     "head": self.head != "plain"}
            if asked := [name for name, on in wants.items() if on]:
                raise FerError(f"{asked[0]}={getattr(self, asked[0])!r} needs a network with global pooling, "
                               f"{listing(list_models(any_size=True), 'or')}; {self.arch} has none")
        if self.focal and self.loss == "sigmoid_cross_entropy":
            raise FerError(f"focal={self.focal} does nothing with loss='sigmoid_cross_entropy'; leave one of them out")
        if self.guide and self.head not in ("plain", "attention"):
            raise FerError(f"guide={self.guide} reads the evidence off a dense classifier of a map; head={self.head!r} "
                           "has none, choose plain or attention")
        if (self.pretrain == "none") != (self.pretrain_epochs == 0) or self.pretrain_epochs > self.epochs:
            raise FerError(f"pretrain={self.pretrain!r} with pretrain_epochs={self.pretrain_epochs} of "
                           f"epochs={self.epochs}; give both or neither, and no more epochs than there are")
        if self.hard_negatives and not self.contrast:
            raise FerError(f"hard_negatives={self.hard_negatives} weighs a contrastive loss; set contrast above 0 too")
        if (self.contrast or self.pretrain_epochs) and self.accumulate > 1:
            raise FerError(f"accumulate={self.accumulate} hides the images of a batch from each other, which "
                           "contrastive losses compare; set it to 1")
        if policy(self.augmentation).blends and (self.two_views or self.guide):
            raise FerError(f"augmentation={self.augmentation!r} gives an image two labels, which contrast, pretrain "
                           "and guide cannot take; leave one of them out")
        if (self.teacher is None) != (self.distill == 0):
            raise FerError(f"teacher={self.teacher!r} with distill={self.distill}; give both or neither")
        if self.teaching != TrainConfig.teaching and self.teacher is None:
            raise FerError(f"teaching={self.teaching!r} needs a teacher; name one, or leave it out")
        if self.teacher is not None and not re.fullmatch(r"\w+(-\w+){4,}(\+\w+(-\w+){4,})*", self.teacher):
            check_arch(self.teacher)  # not names of runs

    @property
    def class_names(self) -> tuple[str, ...]:
        """The classes, in the order of their numbers. `FerError` while ``classes`` is "data"."""
        return class_set(self.classes)

    @property
    def two_views(self) -> bool:
        """Whether a step looks at two views of every image."""
        return bool(self.contrast or self.pretrain_epochs)

    def identity(self) -> str:
        """Text that two configurations share if, and only if, they are equal."""
        off = TrainConfig().to_dict()
        return repr(sorted((name, value) for name, value in self.to_dict().items()
                           if name not in _LATER or value != off[name]))

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return dataclasses.asdict(self)

    def command(self) -> str:
        """The ``fer train`` command of this configuration: what differs from the defaults."""
        usual = TrainConfig(optimizer=self.optimizer).to_dict() | {"optimizer": TrainConfig.optimizer}
        changed = [f"{name}={value}" for name, value in self.to_dict().items() if value != usual[name]]
        return " ".join(["fer train", *changed])

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> TrainConfig:
        """The inverse of `to_dict`; missing keys take their defaults, unknown ones raise `FerError`."""
        names = {field.name for field in dataclasses.fields(cls)}
        if not isinstance(values, dict) or (unknown := set(values) - names):
            what = f"unknown setting {sorted(unknown)}" if isinstance(values, dict) else "not a set of settings"
            raise FerError(f"configuration: {what}; known are {', '.join(sorted(names))}")
        return cls(**values)


#: Type of each setting, and whether it may be None; of the ``method`` that a command line or a plan may name, too.
KINDS: dict[str, tuple[type, bool]] = {"method": (str, False)} | {
    field.name: ({"str": str, "int": int, "float": float, "bool": bool}[field.type.partition(" ")[0]],
                 "None" in field.type) for field in dataclasses.fields(TrainConfig) if isinstance(field.type, str)}
