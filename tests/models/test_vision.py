import torch

from emu_robot.models.vision import FiLM, GoalFusion, ImageStem, KeypointTrunk, zero_init


def test_stem_has_one_cell_per_four_pixels():
    assert ImageStem(16)(torch.rand(2, 3, 32, 64)).shape == (2, 16, 8, 16)


def test_film_starts_as_the_identity():
    features, condition = torch.randn(3, 8, 4, 4), torch.randn(3, 5)
    assert torch.equal(FiLM(5, 8)(features, condition), features)


def test_goal_difference_starts_silent_and_learns():
    fusion = GoalFusion(8)
    current, goal = torch.randn(2, 8, 4, 4), torch.randn(2, 8, 4, 4)
    assert torch.equal(fusion(current, goal, None), current + fusion.goal(goal))
    fusion(current, goal, None).sum().backward()
    assert fusion.difference.weight.grad is not None
    assert fusion.difference.weight.grad.abs().sum() > 0


def test_a_dropped_goal_is_as_if_none_were_given():
    fusion = GoalFusion(8)
    torch.nn.init.normal_(fusion.no_goal)
    current, goal = torch.randn(2, 8, 4, 4), torch.randn(2, 8, 4, 4)
    mixed = fusion(current, goal, torch.tensor([True, False]))
    assert torch.equal(mixed[1], fusion(current, None, None)[1])
    assert torch.equal(mixed[0], fusion(current, goal, None)[0])


def test_keypoints_follow_what_their_query_asks_for():
    trunk = KeypointTrunk(8, keypoints=2, condition_dim=3, fine_blocks=0, coarse_blocks=0)
    for layer in (trunk.fine_logits, trunk.coarse_logits):
        zero_init(layer)
    with torch.no_grad():
        trunk.query.weight[0, 0] = 100.0  # keypoint 0 follows channel 0 when the first condition is on
    features = torch.zeros(2, 8, 16, 16)
    features[:, 0, 3, 12] = 1.0
    out = trunk(features, torch.tensor([[1.0, 0, 0], [0.0, 0, 0]]))
    assert out.shape == (2, trunk.out_dim)
    x, y = out[:, 0], out[:, 2]
    torch.testing.assert_close(torch.stack([x[0], y[0]]), torch.tensor([2 * 12 / 15 - 1, 2 * 3 / 15 - 1]))
    assert x[1].abs() < 1e-6
    attention = trunk.attention(features, trunk.down(features), torch.randn(2, 3))
    torch.testing.assert_close(attention.sum((2, 3)), torch.ones(2, 2))
