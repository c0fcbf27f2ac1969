import dataclasses
import json
import os
import re
import signal
from functools import partial
from pathlib import Path

import av
import fakes
import pytest
from tiny_weights import write_weights

from emu_robot.config import load_config
from emu_robot.errors import ConfigError, InvalidValueError, SystemSetupError, UnknownNameError, WeightsError
from emu_robot.evaluation import worker
from emu_robot.evaluation.config import FIRST_SEED, EvalConfig
from emu_robot.evaluation.rollouts import evaluate
from emu_robot.evaluation.worker import policy_config
from emu_robot.models.weights import add_extra, copy_weights, resolve_weights
from emu_robot.planner.config import ReplanConfig
from emu_robot.planner.decoding.config import Decoder, DecoderConfig
from emu_robot.policy.config import ChunkConfig, GoalMode, PolicyConfig
from emu_robot.shared.interrupts import Interrupted
from emu_robot.shared.parallel import run_parallel


def config(out: Path, **changes) -> EvalConfig:
    defaults = {
        "env": "fake",
        "tasks": ["one", "both"],
        "n": 8,
        "workers": 0,
        "goal": GoalMode.ORACLE,
        "videos": 1,
        "out": out,
    }
    return EvalConfig(**(defaults | changes))


def run(settings: EvalConfig):
    return evaluate(settings, fakes.make_policy)


def timeless(records):
    return [dataclasses.replace(record, policy_s=0.0, wall_s=0.0) for record in records]


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    return run(config(tmp_path_factory.mktemp("eval")))


def test_seeds_and_tasks_follow_from_the_index(result):
    assert [record.seed for record in result.records] == [FIRST_SEED + i for i in range(8)]
    assert [(record.task, record.group) for record in result.records[:3]] == [
        ("one", "few"),
        ("both", "many"),
        ("one", "few"),
    ]
    assert config(Path("x"), seed=2).episode_seed(3) == FIRST_SEED + 200_003


def test_workers_do_not_change_the_outcome(result, tmp_path):
    parallel = run(config(tmp_path, workers=2))
    assert timeless(parallel.records) == timeless(result.records)


def test_some_fail_and_the_kind_is_told(result):
    assert 0 < result.success.successes < 8
    for record in result.records:
        assert record.failure == (None if record.success else "gave up")
        assert all(step.reached == record.success and step.right for step in record.steps)
        assert len(record.steps) == (len(record.subtasks) if record.success else 1)


def test_eval_info_has_lerobots_names(result):
    info = json.loads(result.info.read_text())
    assert {"per_task", "per_group", "overall"} <= set(info)
    overall = info["overall"]
    assert {"avg_sum_reward", "avg_max_reward", "pc_success", "n_episodes", "eval_s", "eval_ep_s"} <= set(overall)
    assert overall["n_success"] == result.success.successes
    assert overall["pc_success"] == pytest.approx(100 * result.success.rate)
    assert overall["pc_success_ci95"] == pytest.approx([100 * x for x in result.success.interval])
    task = info["per_task"][0]
    assert {"task_group", "task_id", "metrics"} <= set(task)
    assert {"sum_rewards", "max_rewards", "successes", "video_paths"} <= set(task["metrics"])
    assert info["command"].startswith("emu-robot eval policy=mini env=fake split=seen tasks=one,both n=8")
    assert info["seeds"] == {"first": FIRST_SEED, "last": FIRST_SEED + 7}


def test_kept_compositions_are_reported_one_by_one(result):
    per_composition = json.loads(result.info.read_text())["per_composition"]
    assert list(per_composition) == ["blue can, plate", "red cube, plate"]
    both = [record for record in result.records if record.task == "both"]
    blue, red = per_composition.values()
    assert (blue["n_episodes"], red["n_episodes"]) == (len(both), len(result.records))
    assert blue["n_success"] == sum(record.success for record in both)
    assert "2 compositions that demonstrations lack" in result.report.read_text()


def test_tasks_and_groups_are_averaged(tmp_path):
    result = run(config(tmp_path, tasks=["all"], n=9, videos=0))
    info = json.loads(result.info.read_text())
    rates = {task["task"]: task["pc_success"] for task in info["per_task"]}
    assert list(rates) == ["one", "two", "both"] and len(set(rates.values())) > 1
    few, many = (info["per_group"][name]["mean_over_tasks"]["pc_success"] for name in ("few", "many"))
    assert few == pytest.approx((rates["one"] + rates["two"]) / 2) and many == pytest.approx(rates["both"])
    overall = info["overall"]
    assert overall["mean_over_tasks"]["pc_success"] == pytest.approx(sum(rates.values()) / 3)
    assert overall["mean_over_groups"]["pc_success"] == pytest.approx((few + many) / 2)
    low, high = overall["mean_over_groups"]["pc_success_ci95"]
    assert 0 <= low < overall["mean_over_groups"]["pc_success"] < high <= 100
    page = result.report.read_text()
    assert "mean over groups" in page and "few, mean over tasks" in page and fakes.SPEC.success_rule in page


def test_worlds_are_opened_per_task_and_closed(tmp_path):
    fakes.FakeSuite.opened.clear()
    fakes.FakeSuite.alive = 0  # other tests close worlds that no suite opened
    run(config(tmp_path, tasks=["all"], n=9, goal=GoalMode.SHUFFLED))
    for_the_check, two_each = ["one"], ["one", "one", "two", "two", "both", "both"]
    assert fakes.FakeSuite.opened == for_the_check + two_each
    assert fakes.FakeSuite.alive == 0


def test_weights_that_do_not_fit_are_refused_before_anything_is_written(tmp_path):
    weights = write_weights(tmp_path / "weights", control_hz=50)
    with pytest.raises(WeightsError, match="control rate is 50 Hz in the weights, 20 Hz in the environment"):
        run(config(tmp_path / "out", policy=str(weights)))
    assert not (tmp_path / "out").exists()


def test_the_report_is_one_file_without_requests(result):
    html = result.report.read_text()
    assert not re.search(r"""(src|href|url\()\s*=?\s*["'(]?(https?:|//|file:)""", html)
    assert set(re.findall(r'src="(data:[^;]+);', html)) == {"data:image/jpeg", "data:video/mp4"}
    assert str(result.success) in html
    assert result.records[0].instruction in html
    assert "put the red cube on the plate" in html


def test_clips_are_h264_and_last_as_long_as_the_episode(result):
    record = result.records[0]
    with av.open(str(result.config.out / record.clip)) as clip:
        stream = clip.streams.video[0]
        assert stream.codec_context.name == "h264"
        assert stream.frames == 1 + record.n_steps // 2 + 10
    assert all(other.clip is None for other in result.records[1:])


def test_resuming_runs_only_what_is_missing(tmp_path):
    first = run(config(tmp_path, n=4))
    marked = dataclasses.replace(first.records[0], instruction="kept")
    marked.write(tmp_path / "episodes" / "00000.json")
    more = run(config(tmp_path, n=6, resume=True))
    assert more.records[0].instruction == "kept"
    assert timeless(more.records[1:4]) == timeless(first.records[1:])
    assert len(more.records) == 6
    with pytest.raises(ConfigError, match="goal=oracle"):
        run(config(tmp_path, goal=GoalMode.SHUFFLED, resume=True))
    assert run(config(tmp_path, n=1)).records[0].instruction != "kept"


def test_files_of_others_in_the_folder_stay(tmp_path):
    (tmp_path / "episodes").mkdir()
    precious = tmp_path / "episodes" / "00000.json"
    precious.write_text("precious")
    with pytest.raises(ConfigError, match=r"holds other files and no evaluation \(no settings.json\)"):
        run(config(tmp_path, n=1))
    assert precious.read_text() == "precious" and sorted(tmp_path.iterdir()) == [tmp_path / "episodes"]
    with pytest.raises(ConfigError, match="00000.json is a file; it must be a folder"):
        run(config(precious, n=1))


@pytest.mark.parametrize(
    ("part", "value", "said"),
    [
        ("weights", {"head": "0" * 64}, "weights.head 0+, here [0-9a-f]{64}"),
        ("versions", {"torch": "1.0"}, r"versions.torch 1\.0, here 2"),
        ("commit", "abc", "commit abc, here"),
        ("control_hz", 10, "control_hz 10, here 20"),
        ("renderer", {"MUJOCO_GL": "osmesa"}, "renderer.MUJOCO_GL osmesa, here egl"),
    ],
)
def test_an_evaluation_by_other_weights_or_versions_is_not_resumed(tmp_path, monkeypatch, part, value, said):
    monkeypatch.setenv("MUJOCO_GL", "egl")
    run(config(tmp_path, n=1))
    path = tmp_path / "settings.json"
    settings = json.loads(path.read_text())
    assert settings["made_with"] == json.loads((tmp_path / "eval_info.json").read_text())["made_with"]
    old = settings["made_with"][part]
    settings["made_with"][part] = old | value if isinstance(value, dict) else value
    path.write_text(json.dumps(settings))
    with pytest.raises(ConfigError, match=f"was made with {said}"):
        run(config(tmp_path, n=2, resume=True))
    del settings["made_with"]
    path.write_text(json.dumps(settings))
    with pytest.raises(ConfigError, match="not recorded"):
        run(config(tmp_path, n=2, resume=True))


def test_every_knob_of_the_policy_is_set_recorded_and_repeated(tmp_path):
    typed = ["replan.dwell=3", "replan.confirmations=1", "chunk.noise_scale=0.5", "n_action_steps=4", "decoder=ar"]
    settings = load_config("demo", [*typed, f"out={tmp_path}"])
    made = policy_config(settings)
    assert made == PolicyConfig(
        n_action_steps=4,
        chunk=ChunkConfig(noise_scale=0.5),
        replan=ReplanConfig(dwell=3, confirmations=1),
        decoder=DecoderConfig(kind=Decoder.AR),
    )
    assert set(typed) <= set(settings.command().split())
    assert settings.settings()["replan.dwell"] == 3 and settings.settings()["replan.max_failures"] == 3
    assert policy_config(config(tmp_path)).n_action_steps == PolicyConfig().n_action_steps
    run(config(tmp_path, n=1))
    with pytest.raises(ConfigError, match=r"replan\.dwell=2"):
        run(config(tmp_path, n=1, resume=True, replan=ReplanConfig(dwell=3)))
    with pytest.raises(InvalidValueError, match=r"replan.dwell is 0, must lie in \[1, 100\]"):
        load_config("eval", ["replan.dwell=0"])


POLICY_KNOBS = (
    "goal=none", "decoder=ar", "decoder_steps=2", "int8=false", "n_action_steps=4", "replan.dwell=3",
    "chunk.flow_steps=4",
)  # fmt: skip


@pytest.mark.parametrize(
    ("words", "idle"),
    [
        ("decoder=ar", "decoder_steps=2"),
        *(("goal=none", key) for key in ("decoder=ar", "decoder_steps=2", "int8=false", "replan.dwell=3")),
        *(("goal=oracle", key) for key in ("decoder=ar", "decoder_steps=2", "int8=false")),
        *(("policy=expert", key) for key in POLICY_KNOBS),
    ],
)
def test_a_knob_that_does_nothing_is_refused(words, idle):
    with pytest.raises(ConfigError, match=rf"{idle.partition('=')[0]} has no effect: {words}"):
        load_config("eval", [words, idle])
    load_config("eval", [idle])


@pytest.mark.parametrize(
    "words",
    [
        ["policy=expert", "tasks=long", "seed=1"],
        ["goal=none", "chunk.noise_scale=0.5"],
        ["goal=oracle", "replan.dwell=3"],
        ["int8=false", "decoder=dida", "decoder_steps=4", "n=7"],
    ],
)
def test_the_command_in_the_results_repeats_the_evaluation(words):
    settings = load_config("eval", words)
    typed = settings.command().split()[2:]
    assert set(words) <= set(typed)
    again = load_config("eval", typed)
    assert again.settings() == settings.settings() and again.n == settings.n


def test_a_stopped_evaluation_keeps_its_episodes(tmp_path, monkeypatch):
    run_episode = worker.run_episode

    def stopping(environment, policy, seed, *given, **how):
        if seed == FIRST_SEED + 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return run_episode(environment, policy, seed, *given, **how)

    with monkeypatch.context() as patch, pytest.raises(Interrupted, match="keeps 2 of 4 episodes; resume=true"):
        patch.setattr(worker, "run_episode", stopping)
        run(config(tmp_path, n=4))
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "episodes").glob("*.json")}
    assert len(kept) == 2 and len(run(config(tmp_path, n=4, resume=True)).records) == 4
    assert {path: path.stat().st_mtime_ns for path in kept} == kept


def test_the_mode_that_the_weights_name_is_run_and_recorded(tmp_path):
    copy_weights(resolve_weights("mini"), tmp_path / "weights")
    add_extra(tmp_path / "weights", "head", goal="none")
    for goal, meant in ((GoalMode.AUTO, "none"), (GoalMode.TEXT, "text")):
        found = run(config(tmp_path / goal, policy=str(tmp_path / "weights"), goal=goal, n=1, videos=0))
        assert found.config.goal == meant and found.success_line.endswith(f"goal={meant}")
        assert json.loads((tmp_path / goal / "settings.json").read_text())["goal"] == meant
        info = json.loads(found.info.read_text())
        assert info["config"]["goal"] == meant and f" goal={meant} " in info["command"]
        assert f"goal {meant}</span>" in found.report.read_text()
    assert run(config(tmp_path / "mini", goal=GoalMode.AUTO, n=1, videos=0)).config.goal is GoalMode.PLANNER


def test_shuffled_goals_show_another_layout(tmp_path):
    shuffled = run(config(tmp_path, n=1, goal=GoalMode.SHUFFLED))
    assert shuffled.config.title == "one+both, seen, goal=shuffled"
    assert shuffled.records[0].steps[0].predicted is not None


def test_the_expert_is_an_upper_bound(tmp_path):
    expert = evaluate(config(tmp_path, policy="expert", n=2), fakes.make_policy)
    assert expert.success.successes == 2


def test_a_typed_error_crosses_the_process_border(tmp_path):
    with pytest.raises(UnknownNameError, match="unknown policy 'nothing'; known: fake"):
        evaluate(config(tmp_path, workers=1), fakes.no_policy)


def test_what_a_dying_process_had_in_hand_is_run_again(tmp_path, capsys):
    (tmp_path / "alive").touch()
    numbers = run_parallel(partial(fakes.Mortal, tmp_path / "alive"), range(4), 1)
    assert sorted(numbers) == [0, 1, 2, 3]
    assert "a worker process died" in capsys.readouterr().err
    with pytest.raises(SystemSetupError, match="a worker process died"):
        list(run_parallel(partial(fakes.Mortal, tmp_path / "alive", deadly=0), [0], 1))


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"goal": "wish"}, UnknownNameError, "unknown goal 'wish'; known: planner, text"),
        ({"split": "all"}, UnknownNameError, "unknown split 'all'; known: seen"),
        ({"env": "moon"}, UnknownNameError, "unknown environment 'moon'; known: fake, .*tabletop"),
        ({"n": 0}, InvalidValueError, "n is 0"),
        ({"n_action_steps": 0}, InvalidValueError, "n_action_steps is 0"),
        ({"tasks": ["juggle"]}, UnknownNameError, "unknown task 'juggle'"),
    ],
)
def test_bad_settings_are_told_at_once(tmp_path, changes, error, message):
    with pytest.raises(error, match=message):
        run(config(tmp_path, **changes))
