import copy
from typing import Any

import pytest
import torch

from emu_robot.errors import ConfigError, InvalidValueError
from emu_robot.models.action_head import ActionHead, HeadConfig, text_ids


def tiny(**changes) -> HeadConfig:
    sizes: dict[str, Any] = {"image_size": 32, "channels": 8, "keypoints": 4, "width": 32, "flow_width": 16}
    words: dict[str, Any] = {"text_vocabulary": 20, "text_width": 16, "text_length": 6}
    return HeadConfig(**(sizes | words | changes))


def observation(cameras: int = 2) -> tuple[list[torch.Tensor], torch.Tensor, torch.Tensor]:
    return [torch.rand(2, 3, 32, 32) for _ in range(cameras)], torch.randn(2, 8), torch.randint(1, 20, (2, 6))


def test_default_head_fits_its_budget():
    parameters = sum(p.numel() for p in ActionHead(HeadConfig()).parameters())
    assert 3e6 < parameters < 8e6
    assert 2 * parameters < 15e6  # bytes as float16


def test_context_and_chunk_have_the_configured_shapes():
    head = ActionHead(tiny(action_horizon=5, keyposes=3))
    context = head.encode(*observation())
    assert context.keypose_BPS.shape == (2, 3, 8)
    assert context.remaining_BP.shape == (2, 3)
    assert context.progress_B.shape == (2,)
    assert head.sample(context, torch.randn(2, 5, 8)).shape == (2, 5, 8)


def test_any_number_of_cameras_is_seen():
    seen = observation(cameras=3)
    head = ActionHead(tiny(cameras=["top", "left", "right"])).eval()
    features = head.encode(*seen).features_BD
    for i in range(3):
        views = [view if j != i else view.flip(3) for j, view in enumerate(seen[0])]
        assert not torch.allclose(head.encode(views, *seen[1:]).features_BD, features)
    alone = ActionHead(tiny(cameras=["top"]))
    assert alone.sample(alone.encode(*observation(cameras=1)), torch.randn(2, 16, 8)).shape == (2, 16, 8)


def test_no_goal_image_is_the_same_as_a_dropped_one():
    head = ActionHead(tiny()).eval()
    torch.nn.init.normal_(head.fusion.no_goal)
    seen = observation()
    without = head.encode(*seen)
    dropped = head.encode(*seen, torch.rand(2, 3, 32, 32), torch.tensor([False, False]))
    given = head.encode(*seen, torch.rand(2, 3, 32, 32))
    torch.testing.assert_close(without.features_BD, dropped.features_BD)
    assert not torch.allclose(without.features_BD, given.features_BD)


def test_padding_changes_nothing_and_no_words_at_all_are_fine():
    head = ActionHead(tiny()).eval()
    short = torch.tensor([[3, 4, 0, 0]])
    torch.testing.assert_close(head.text(short), head.text(torch.tensor([[3, 4, 0, 0, 0, 0]])))
    assert not torch.allclose(head.text(short), head.text(torch.tensor([[4, 3, 0, 0]])))
    assert torch.isfinite(head.text(torch.zeros(1, 4, dtype=torch.long))).all()


def test_the_chunk_does_not_teach_the_keyposes():
    head = ActionHead(tiny())
    context = head.encode(*observation())
    head.denoise(context, torch.randn(2, 1, 128), torch.rand(2, 1)).sum().backward()
    assert head.keypose.weight.grad is None
    assert head.get_parameter("front_stem.1.weight").grad is not None


def test_text_ids_pad_and_refuse_what_does_not_fit():
    assert text_ids([5, 0], tiny()).tolist() == [6, 1, 0, 0, 0, 0]
    with pytest.raises(InvalidValueError, match="7 word ids.*at most 6"):
        text_ids([1] * 7, tiny())
    with pytest.raises(InvalidValueError, match="token 19.*19 tokens"):
        text_ids([19], tiny())


def test_wrong_sizes_are_refused():
    with pytest.raises(ConfigError, match="image_size"):
        HeadConfig(image_size=100)
    with pytest.raises(ConfigError, match="relative_dims"):
        HeadConfig(relative_dims=9)
    with pytest.raises(ConfigError, match="cameras"):
        HeadConfig(cameras=["front", "front"])


@torch.inference_mode()
def test_traced_code_gives_the_same_chunk():
    torch.manual_seed(0)
    head = ActionHead(tiny()).eval()
    for parameter in head.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    traced = copy.deepcopy(head)
    traced.trace()
    for goal in (None, torch.rand(2, 3, 32, 32)):
        seen, noise = observation(), torch.randn(2, 16, 8)
        contexts = [one.encode(*seen, goal) for one in (head, traced)]
        for plain, found in zip(*contexts, strict=True):
            torch.testing.assert_close(found, plain, atol=1e-5, rtol=1e-5)
        chunks = [one.sample(context, noise, 5) for one, context in zip((head, traced), contexts, strict=True)]
        torch.testing.assert_close(chunks[1], chunks[0], atol=1e-5, rtol=1e-5)
