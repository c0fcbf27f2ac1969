import torch

from emu_robot.models.flow import FlowDecoder, interpolate, sample_times


def test_lines_run_from_noise_to_data():
    noise, data = torch.randn(2, 3, 5), torch.randn(2, 5)
    assert torch.equal(interpolate(noise, data, torch.zeros(2, 3)), noise)
    assert torch.equal(interpolate(noise, data, torch.ones(2, 3)), data[:, None].expand(2, 3, 5))


def test_times_lie_in_range_and_lean_towards_noise():
    times = sample_times((20_000,), torch.Generator().manual_seed(0))
    assert times.min() >= 0
    assert times.max() < 1
    assert abs(times.mean() - 0.4) < 0.01  # 1 - u ** (2 / 3) has mean 2 / 5


def test_samples_have_both_modes_of_the_data_and_follow_the_context():
    torch.manual_seed(0)
    flow = FlowDecoder(data_dim=2, context_dim=1, width=32, blocks=2)
    optimizer = torch.optim.Adam(flow.parameters(), lr=5e-3)
    generator = torch.Generator().manual_seed(1)
    for _ in range(300):
        context = torch.randint(0, 2, (128, 1)) * 2.0 - 1
        sign = torch.randint(0, 2, (128, 1)) * 2.0 - 1
        data = torch.cat([sign, context], dim=1)  # first number: either mode; second: told by the context
        time, noise = sample_times((128, 2), generator), torch.randn(128, 2, 2)
        loss = (flow(interpolate(noise, data, time), time, context) - data[:, None]).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    context = torch.ones(500, 1)
    samples = flow.sample(context, torch.randn(500, 2), steps=8)
    assert (samples[:, 1] - 1).abs().mean() < 0.15
    assert 0.35 < (samples[:, 0] > 0).float().mean() < 0.65
    assert (samples[:, 0].abs() - 1).abs().mean() < 0.25


def test_sampling_lands_on_the_prediction_in_one_step():
    flow = FlowDecoder(data_dim=3, context_dim=2, width=16, blocks=1)
    context, noise = torch.randn(4, 2), torch.randn(4, 3)
    predicted = flow(noise[:, None], torch.zeros(4, 1), context)[:, 0]
    torch.testing.assert_close(flow.sample(context, noise, steps=1), predicted)


@torch.no_grad()
def test_samples_are_those_of_steps_computed_one_by_one():
    torch.manual_seed(0)
    flow = FlowDecoder(data_dim=3, context_dim=2, width=16, blocks=2)
    for parameter in flow.parameters():  # modulations begin at zero
        torch.nn.init.normal_(parameter, std=0.3)
    context, noise, steps = torch.randn(4, 2), torch.randn(4, 3), 5
    known = torch.randn(4, 3), torch.rand(4, 3)
    for given in (None, known):
        x = noise[:, None]
        for index in range(steps):
            predicted = flow(x, torch.full((4, 1), index / steps), context)
            if given is not None:
                predicted = predicted + given[1][:, None] * (given[0][:, None] - predicted)
            x = x + (predicted - x) / (1 - index / steps) / steps
        torch.testing.assert_close(flow.sample(context, noise, steps, given), x[:, 0], atol=1e-5, rtol=0)
