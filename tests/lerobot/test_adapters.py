"""Adapters on our policy: trained, stored alone, found again below the same head, merged into weights of ours."""

import pytest
import torch
from lerobot.configs import PreTrainedConfig
from lerobot.policies.factory import make_policy
from peft import PeftConfig, PeftModel
from policy_on_small_set import batch, made

from emu_robot.errors import ConfigError
from emu_robot.lerobot.adapters import Fitted
from emu_robot.lerobot.configuration_emu_robot import EmuRobotConfig
from emu_robot.lerobot.modeling_emu_robot import EmuRobotPolicy
from emu_robot.models.weights import load_weights


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


def test_adapters_train_load_and_merge(weights, dataset, tmp_path):
    policy, data = made(weights, dataset, goal="none")
    frozen = {name: value.clone() for name, value in policy.state_dict().items()}
    wrapped = policy.wrap_with_peft(peft_cli_overrides={"method_type": "LORA", "r": 4})
    trained = [name for name, parameter in wrapped.named_parameters() if parameter.requires_grad]
    assert all("lora_" in name or "modules_to_save" in name for name in trained)
    for part in ("head.flow", "head.keypose", "world_model"):
        assert any(part in name for name in trained), part
    optimizer = torch.optim.AdamW(wrapped.get_optim_params(), lr=1e-2)
    for _ in range(3):
        optimizer.zero_grad()
        wrapped.forward(batch(data, range(8)))[0].backward()
        optimizer.step()
    folder = tmp_path / "adapters"
    wrapped.save_pretrained(folder)
    wrapped.config.save_pretrained(folder)  # as LeRobot does
    assert not (folder / "manifest.json").exists()

    config = PreTrainedConfig.from_pretrained(folder)
    assert isinstance(config, EmuRobotConfig) and config.use_peft
    config.pretrained_path = folder
    resumed = make_policy(config, ds_meta=data.meta)
    base = PeftConfig.from_pretrained(str(folder)).base_model_name_or_path
    assert base == str(weights)
    acting = PeftModel.from_pretrained(EmuRobotPolicy.from_pretrained(weights, config=config), folder)
    state = wrapped.state_dict()
    for again in (resumed, acting):
        assert all(torch.equal(value, state[name]) for name, value in again.state_dict().items())
    kept = {name.replace("base_model.model.", "").replace(".base_layer", ""): value for name, value in state.items()}
    assert all(torch.equal(kept[name], value) for name, value in frozen.items() if name in kept)

    seen = {key: value for key, value in batch(data, [3, 40]).items() if key not in ("action", "index")}
    expected, untrained = wrapped.eval().predict_action_chunk(seen), made(weights, dataset, goal="none")[0]
    assert torch.equal(acting.eval().predict_action_chunk(seen), expected)
    assert (untrained.predict_action_chunk(seen) - expected).abs().max() > 1e-2
    merged = acting.merge_and_unload()
    merged.save_pretrained(tmp_path / "merged")
    plain = EmuRobotPolicy.from_pretrained(tmp_path / "merged")
    assert not plain.config.use_peft and not plain.config.fitted
    assert torch.allclose(plain.predict_action_chunk(seen), expected, atol=1e-4)
    stored = load_weights(tmp_path / "merged", "planner").state
    model = merged.world_model.state_dict()
    assert all(torch.equal(value, model[name]) for name, value in stored.items())


def test_what_takes_no_adapters_says_so(weights, dataset):
    policy, _ = made(weights, dataset)
    assert policy._fitted is not None
    fitted = policy._fitted.to_dict()
    for wrong, message in (
        ({"head": {}}, "fitted lacks stats"),
        (
            fitted | {"head": fitted["head"] | {"flow_blocks": 10**9}},
            r"flow_blocks is 1000000000, must lie in \[0, 64\]",
        ),
        (fitted | {"head": fitted["head"] | {"width": 2**14}}, "width is 16384, 32 in the weights"),
        (fitted | {"head": fitted["head"] | {"state_dim": 7}}, r"norm_stats do not fit the head: state is"),
        (fitted | {"control_hz": 0}, "control_hz is 0"),
        (fitted | {"max_words": 10**9}, "max_words is 1000000000"),
    ):
        policy.config.fitted = wrong
        with pytest.raises(ConfigError, match=rf"`fitted` cannot be read \(.*{message}"):
            EmuRobotPolicy(policy.config)
    policy.config.fitted = {}
    with pytest.raises(ConfigError, match="made without a dataset"):
        EmuRobotPolicy(policy.config).wrap_with_peft()


def test_what_was_fitted_survives_config_json(weights, dataset, tmp_path):
    policy, _ = made(weights, dataset)
    assert policy._fitted is not None
    policy.config.fitted = policy._fitted.to_dict()
    policy.config.save_pretrained(tmp_path)
    again = PreTrainedConfig.from_pretrained(tmp_path)
    assert isinstance(again, EmuRobotConfig)
    assert Fitted.from_dict(again.fitted, policy.head.config).to_dict() == policy.config.fitted
