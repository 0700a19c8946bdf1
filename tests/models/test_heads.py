import pytest
import torch
from torch import nn

from fer_helpers.data.emotions import CLASS_SETS, EMOTIONS
from fer_helpers.data.regions import FACE_GRID
from fer_helpers.files import FerError
from fer_helpers.models.factory import create_model, list_models
from fer_helpers.models.heads import CBAM, HEADS, AttentionPool, AveragePool, RegionPool, TextClassifier
from fer_helpers.models.text_embeddings import prototypes


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def network(arch: str = "compact", **options) -> nn.Module:
    return create_model(arch, 6, seed=0, **options).eval()


def shaken(model: nn.Module) -> nn.Module:
    """The network with what starts at zero opened, so that every part of it acts."""
    random = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=random) * 0.05)
    return model


@pytest.mark.parametrize("cbam", [False, True])
@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("arch", list_models(any_size=True))
def test_every_head_gives_logits_and_passes_a_gradient_to_every_weight(arch, head, cbam):
    model = shaken(create_model(arch, 6, seed=0, head=head, cbam=cbam)).train()
    logits = model(drawn(3, 1, 48, 48))
    assert logits.shape == (3, 6) and model.classify(model.features(drawn(3, 1, 48, 48))).shape == (3, 6)
    nn.functional.cross_entropy(logits, torch.arange(3)).backward()
    silent = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    # A softmax does not feel the same number added to all its inputs.
    assert [name for name in silent if not name.endswith(("score.2.bias", "score.bias"))] == []


@pytest.mark.parametrize("head", ["attention", "regions", "text"])
@pytest.mark.parametrize("arch", list_models(any_size=True))
def test_a_head_leaves_the_weights_below_it_as_the_seed_has_them(arch, head):
    plain, other = network(arch).state_dict(), network(arch, head=head, cbam=True).state_dict()
    below = [name for name in plain if not name.startswith(("classifier", "bn3")) and ".bn3." not in name]
    assert below and all(torch.equal(plain[name], other[name]) for name in below)


@pytest.mark.parametrize(("option", "value"), [("head", "regions"), ("head", "attention"), ("cbam", True)])
@pytest.mark.parametrize("arch", sorted(set(list_models()) - set(list_models(any_size=True))))
def test_a_network_without_global_pooling_has_its_own_head_only(arch, option, value):
    with pytest.raises(FerError, match=f"{arch} does not pool over a map; choose resnet50, compact or mobile"):
        create_model(arch, 6, **{option: value})


def test_an_unknown_head_lists_the_choices():
    with pytest.raises(FerError, match="head='transformer' is unknown; choose one of plain, attention"):
        create_model("compact", 6, head="transformer")


# --- attention pooling

def test_attention_pooling_starts_as_the_mean_and_can_pick_one_place():
    maps = drawn(2, 8, 3, 3)
    pool = AttentionPool(8, hidden=4)
    torch.testing.assert_close(pool((maps, maps)), AveragePool()((maps, maps)))
    # A first layer that reads channel 0, loud at one place only, and a steep second one.
    maps[:, 0], maps[:, 0, 1, 2] = -1, 1
    with torch.no_grad():
        pool.score[0].weight.zero_()
        pool.score[0].bias.zero_()
        pool.score[0].weight[:, 0] = 5
        pool.score[2].weight.fill_(10)
    torch.testing.assert_close(pool((maps, maps)), maps[:, :, 1, 2])
    assert pool.weights((maps, maps))[:, 5].min() > 0.99


@pytest.mark.parametrize("pool", [AveragePool(), AttentionPool(8)])
def test_the_weights_of_places_sum_to_one_and_make_the_features(pool):
    maps = drawn(3, 8, 2, 4), drawn(3, 8, 2, 4)
    weights = pool.weights(maps)
    torch.testing.assert_close(weights.sum(1), torch.ones(3))
    torch.testing.assert_close(torch.einsum("ncp,np->nc", maps[1].flatten(2), weights), pool(maps))


# --- regions

def test_region_features_are_those_of_a_naive_crop():
    # Channel 0 is the column, channel 1 the row, in pixels of the face: a box's mean is its middle.
    line = (torch.arange(48) + 0.5).expand(48, 48)
    maps = torch.stack([line, line.T])[None]
    pool = RegionPool(2, 2, width=4)
    found = []
    pool.local.register_forward_hook(lambda _layer, inputs, _output: found.append(inputs[0][0]))
    pool.tokens((maps, maps))
    for (left, top, right, bottom), (column, row) in zip(FACE_GRID.values(), found[0].tolist(), strict=True):
        crop = maps[0, :, top:bottom, left:right].mean((1, 2))
        # RoIAlign takes a pixel's value at its middle, so that a coordinate is half a pixel less than the crop's mean.
        assert (column, row) == pytest.approx((crop[0].item(), crop[1].item()), abs=0.51)


def test_a_region_of_a_smaller_image_of_the_same_face_has_the_same_features():
    pool, large = RegionPool(3, 3).eval(), drawn(1, 3, 4, 4)
    maps = nn.functional.interpolate(large, (24, 24), mode="bilinear")
    small = nn.functional.interpolate(large, (12, 12), mode="bilinear")
    found = []
    pool.local.register_forward_hook(lambda _layer, inputs, _output: found.append(inputs[0][0]))
    pool.tokens((maps, maps))
    pool.tokens((small, small))
    assert (found[0] - found[1]).abs().mean() < 0.1 * found[0].std()


# --- text

def test_logits_of_the_text_head_are_cosines_to_the_prototypes_times_the_scale():
    head = TextClassifier(8, prototypes(CLASS_SETS[6]))
    features = drawn(3, 8)
    with torch.no_grad():
        projected = head.project(features)
        cosines = nn.functional.cosine_similarity(projected[:, None], head.texts[None], dim=2)
        torch.testing.assert_close(head(features), cosines / 0.07)
        torch.testing.assert_close(head(features * 5), head(features))


def test_the_scale_of_the_text_head_is_capped_as_in_clip():
    head = TextClassifier(8, prototypes(CLASS_SETS[3]))
    with torch.no_grad():
        head.log_scale.fill_(20)
        assert head(drawn(20, 8)).abs().max() <= 100


def test_the_text_head_takes_the_names_it_is_given_and_never_trains_them():
    names = ("anger", "fear")
    model = create_model("compact", 2, seed=0, head="text", class_names=names)
    torch.testing.assert_close(model.classifier.texts, prototypes(names, centred=True))
    assert not any("texts" in name for name, _ in model.named_parameters())
    assert torch.equal(create_model("compact", 7, head="text").classifier.texts, prototypes(EMOTIONS, centred=True))


# --- CBAM

def test_cbam_scales_every_number_by_a_channel_and_a_place_between_zero_and_one():
    module, x = shaken(CBAM(32)), drawn(2, 32, 5, 4)
    with torch.no_grad():
        ratio = module(x) / x
    assert 0 < ratio.min() and ratio.max() < 1
    # Channel times place: a table of rank one for every image.
    ranks = torch.linalg.matrix_rank(ratio.flatten(2).double(), rtol=1e-4)
    assert ranks.tolist() == [1, 1]


@pytest.mark.parametrize(("arch", "blocks"), [("compact", 3), ("resnet50", 16)])
def test_every_residual_block_gets_one_cbam(arch, blocks):
    assert sum(isinstance(layer, CBAM) for layer in network(arch, cbam=True).modules()) == blocks
    assert not any(isinstance(layer, CBAM) for layer in network(arch).modules())
