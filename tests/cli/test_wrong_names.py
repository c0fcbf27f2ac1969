"""A wrong name or value given to any verb is one line, and leaves every file as it was; then the right one works."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import pytest
from lerobot_sets import small_episode, write_set
from official_checkpoint import make_checkpoint
from tiny_weights import write_weights
from toy_tabletop import toy_buffer

from emu_robot.cli import main as cli
from emu_robot.models.weights import stage_hash
from emu_robot.tokenizers.image import ImageTokenizer


@dataclass(frozen=True)
class World:
    """A folder with what verbs read: data, weights, a LeRobotDataset, an official checkpoint, a folder of notes."""

    root: Path

    def words(self, typed: str) -> list[str]:
        """A command line as arguments, `~` standing for the folder."""
        return typed.replace("~", str(self.root)).split()


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    root = tmp_path_factory.mktemp("world")
    write_weights(root / "weights")
    buffer = toy_buffer(root / "data", 40)
    tokenizer = ImageTokenizer.load(root / "weights")
    buffer.encode("front", tokenizer.encode_images, stage_hash(root / "weights", "tokenizer"))
    buffer.close()
    toy_buffer(root / "more", 2).close()
    write_set(root / "set", [small_episode(seed) for seed in range(4)], cameras=("top", "side"))
    make_checkpoint(root / "emu")
    (root / "notes").mkdir()
    (root / "notes/todo.txt").write_text("tidy up")
    return World(root)


def tree(*folders: Path) -> dict[str, str]:
    """Every file with its hash, every folder."""
    paths = [path for folder in folders for path in sorted(folder.rglob("*"))]
    return {str(p): hashlib.sha256(p.read_bytes()).hexdigest() if p.is_file() else "" for p in paths}


LOOP = (
    ("loop.device=gpu", "unknown device 'gpu'; known: auto, cpu, cuda, cuda:N"),
    ("loop.device=cuda:77", "device=cuda:77: this machine has"),
    ("loop.dtype=bfloat", "unknown loop.dtype 'bfloat'; known: auto, float32, bfloat16; did you mean 'bfloat16'?"),
    ("loop.track=comet", "unknown loop.track 'comet'; known: none, tensorboard, trackio, wandb"),
    ("loop.init_from=nowhere.pt", "no checkpoint at nowhere.pt"),
    ("loop.steps=0", "steps is 0, must be at least 1"),
    ("data=nowhere", "nowhere: no such replay buffer"),
)
POLICY = (
    ("policy=nowhere", "unknown weights 'nowhere'; known: "),
    ("tasks=lng", "unknown task 'lng'; known: "),
    ("split=both", "unknown split 'both'; known: seen, heldout"),
    ("env=tabletp", "unknown environment 'tabletp'; known: "),
    ("n=0", "n is 0"),
)
WRONG = {
    "collect out=new n=1 lerobot=false": (
        ("families=open_drawr", "unknown task 'open_drawr'; known: "),
        ("env=tabletp", "unknown environment 'tabletp'; known: "),
        ("split=both", "unknown split 'both'; known: seen, heldout"),
        ("policy=nowhere policy_share=0.5", "unknown weights 'nowhere'; known: "),
        ("n=0", "n is 0, must be at least 1"),
        ("out=~/data", "data: a replay buffer that something else filled"),
        ("out=~/notes", "notes: already exists; expected a new path"),
    ),
    "eval out=new workers=0": (
        *POLICY,
        ("goal=best", "unknown goal 'best'"),
        ("decoder=dadi", "unknown decoder 'dadi'"),
    ),
    "demo out=new workers=0": POLICY,
    "imagine out=new workers=0": (
        *POLICY[:1],
        ("tasks=long", "tasks has no effect: every scene has a chain"),
        *POLICY[2:],
    ),
    "measure planner out=new workers=0": POLICY,
    "measure tokenizer out=new": POLICY,
    "measure keyframes out=new buffer=~/data": (
        ("buffer=nowhere", "nowhere: no such replay buffer"),
        ("keyframes.method=rst", "unknown keyframes.method 'rst'; known: auto, rest"),
        ("keyframes.method=pause keyframes.rest_radius=0.3", "keyframes.rest_radius has no effect: method=pause"),
    ),
    "plan out=new.png weights=~/weights": (
        ("weights=nowhere", "unknown weights 'nowhere'; known: "),
        ("out=new/plan.xyz", "unknown kind of picture '.xyz'; known: "),
        ("image=nowhere.png instruction=go", "nowhere.png is not a picture that can be read"),
        ("image=nowhere.png instruction=go tasks=long", "tasks has no effect: image=nowhere.png is the scene"),
        ("official.task=vla", "official.task has no effect: weights="),
    ),
    "train stage=tokenizer data=~/data weights=new out=run": (
        *LOOP,
        ("camera=frnt", "unknown camera in"),
        ("model.n_embed=1", "tokenizer.n_embed is 1, must lie in [2, 16777216]"),
        ("model.resolution=64", "unknown key 'model.resolution'"),
        ("loop.eval_every=5", "loop.eval_every has no effect: stage tokenizer evaluates nothing"),
        ("model.encoder=official model.local_width=9", "model.local_width has no effect: encoder=official"),
        ("model.encoder=patches model.ch=9", "model.ch has no effect: encoder=patches"),
        ("model.encoder=patches colour=9", "colour has no effect: clusters are not trained by steps"),
        ("clusters.rounds=0", "clusters.rounds is 0"),
        ("clusters.rounds=2", "clusters.rounds has no effect: model.encoder=local"),
    ),
    "generate weights=~/emu prompt=words out=answer": (
        ("task=paint", "'paint'"),
        ("task=x2i", "task=x2i changes pictures: image="),
        ("task=t2i image=~/photo.png", "task=t2i draws from words alone"),
        ("image=nowhere.png", "nowhere.png"),
        ("weights=nowhere", "nowhere"),
        ("generation.text_top_p=0", "text_top_p is 0"),
        ("prompt=", "prompt= is missing"),
    ),
    "train stage=planner data=~/data start=~/weights weights=new out=run": (
        *(one for one in LOOP if not one[0].startswith("loop.init_from")),  # start= says where to begin
        ("start=nowhere", "unknown weights 'nowhere'; known: "),
        ("planner.max_steps=3", "planner.max_steps has no effect: it comes from the weights that start="),
        ("planner.model.hidden_size=64", "planner.model.hidden_size has no effect: it comes from the weights"),
        ("planner.model.vocab_size=64", "unknown key 'planner.model.vocab_size'"),
        ("planner.image.rows=4", "unknown key 'planner.image.rows'"),
        ("lora.alpha=4", "lora.alpha has no effect: lora.rank=0"),
        ("loop.channels_last=true", "loop.channels_last has no effect: a transformer has no channels"),
        ("loop.init_from=~/emu/model.safetensors", "both name weights to start from; give one"),
        ("weights=~/notes/new data=~/more", "codes_front: no such array"),
    ),
    "train stage=planner data=~/data weights=~/weights out=run": (
        ("planner.camera=frnt", "'frnt'; known: front"),
        ("lora.rank=2", "lora.rank=2 needs start="),
        ("sequences.wordless_share=0 planner.image_guidance=2", "planner.image_guidance has no effect"),
    ),
    "train stage=dida data=~/data weights=~/weights out=run": (
        *LOOP,
        ("weights=nowhere", "nowhere"),
        ("path=metrik", "unknown path 'metrik'; known: metric, uniform, mask; did you mean 'metric'?"),
        ("drawn_share=0 drawn_images=9", "drawn_images has no effect: drawn_share=0"),
    ),
    "train stage=head data=~/data weights=~/weights cameras=front out=run": (
        *LOOP,
        ("weights=nowhere", "nowhere"),
        ("start=nowhere", "unknown weights 'nowhere'; known: "),
        ("cameras=frnt", "unknown camera in"),
        ("cameras=front,front", "cameras must be different names"),
        ("model.action_dim=99", "unknown key 'model.action_dim' for train-head"),
        ("model.text_vocabulary=5", "unknown key 'model.text_vocabulary' for train-head"),
        ("model.channels=12", "head.channels must be a multiple of 8, got 12"),
        ("start=~/weights model.width=64", "model.width has no effect: it comes from the weights that start="),
        ("sampling.generated=0.3", "sampling.generated has no effect: generated_goals=0"),
        ("holdout=1", "holdout is 1.0, must be above 0 and below 1"),
    ),
    "train stage=world_model data=~/data weights=~/emu out=run": (
        *LOOP,
        ("weights=./nowhere", "nowhere"),
        ("camera=frnt", "unknown camera in"),
        ("model.task=vl", "unknown model.task 'vl'; known: t2i"),
        ("model.generation.seed=1", "model.generation.seed has no effect: stage world_model generates nothing"),
    ),
    "train stage=head": (("stage=body", "unknown stage 'body'; known: tokenizer"),),
    "finetune dataset=~/set weights=~/weights out=new": (
        ("dataset=./nowhere", "./nowhere: no such folder"),
        ("weights=nowhere", "unknown weights 'nowhere'; known: "),
        ("prepare.cameras.front=tpo", "unknown camera of"),
        ("prepare.cameras.wrist=side", "the planner looks through 'front'"),
        ("prepare.state_names=elbw.pos", "unknown dimension of observation.state"),
        ("prepare.captioner=no.such:words", "captioner='no.such:words': no such package.module:function"),
        ("prepare.keyframes.method=rst", "unknown prepare.keyframes.method 'rst'"),
        ("head.loop.device=gpu", "unknown device 'gpu'"),
        ("planner.loop.init_from=nowhere.pt", "no checkpoint at nowhere.pt"),
        ("head.model.width=8", "unknown key 'head.model.width'"),
        ("planner.data=elsewhere", "unknown key 'planner.data'"),
        ("prepare.image_size=64", "unknown key 'prepare.image_size'"),
        ("track=tensorboard head.loop.track=wandb", "head.loop.track has no effect: track=tensorboard"),
    ),
    "teleop out=new": (
        ("port=70000", "port is 70000, must lie in [0, 65535]"),
        ("env=tabletp", "unknown environment 'tabletp'; known: "),
        ("policy=nowhere", "unknown weights 'nowhere'; known: "),
        ("arm=so101", "unknown arm 'so101'; known: lerobot:TYPE, such as lerobot:so101_follower"),
        ("leader=so101", "unknown leader 'so101'; known: lerobot:TYPE, such as lerobot:so101_leader, spacemouse"),
        ("leader.port=x", "leader.port is given without leader=, such as leader=lerobot:so101_leader"),
    ),
    "watch port=0 n=1": (
        *POLICY[:4],
        ("n=-1", "n is -1, must lie in [0, 100000]"),
        ("robot=pandas", "unknown robot 'pandas'; known: "),
        ("robot= record=new", "robot is empty, record= needs one, such as panda_sim"),
        ("robot=so101", "the weights act on 8 dimensions"),
        ("graph=sym", "unknown graph 'sym'; known: sim, arm"),
        ("policy=expert", "policy=expert plans nothing that could be watched"),
        ("namespace=left", "namespace has no effect: it is that of graph=, which is not given"),
        ("host=0.0.0.0", "other machines could see the cameras; give token=WORD, too"),
    ),
    "report out=new.html": (
        ("runs=nowhere,~/notes", "nowhere: no evaluation"),
        ("runs=~/notes", "a comparison needs two or more"),
        ("out=new.txt", "out=new.txt must be an .html file"),
    ),
    "data check dataset=~/set workers=0": (
        ("dataset=./nowhere", "./nowhere: no such folder"),
        ("grippers=grip", "unknown dimension of"),
        ("exclude=9", "unknown episode of"),
        ("quality.offset=0", "quality.offset is 0"),
    ),
    "data view dataset=~/set workers=0": (
        ("dataset=./nowhere", "./nowhere: no such folder"),
        ("port=70000", "port is 70000, must lie in [0, 65535]"),
    ),
    "data encode buffer=~/more weights=~/weights": (
        ("buffer=nowhere", "nowhere: no such replay buffer"),
        ("weights=nowhere", "unknown weights 'nowhere'; known: "),
        ("camera=frnt", "unknown camera in"),
        ("device=gpu", "unknown device 'gpu'"),
    ),
    "data export buffer=~/data out=new": (
        ("buffer=nowhere", "nowhere: no such replay buffer"),
        ("crf=60", "crf is 60, must lie in [0, 51]"),
        ("out=new", "a LeRobotDataset needs every one"),
        ("out=~/notes", "notes: exists and is not a LeRobotDataset"),
    ),
    "data merge out=new sources=~/data": (
        ("sources=~/data,nowhere", "nowhere: no such replay buffer"),
        ("image_every=0", "image_every is 0, must be at least 1"),
        ("out=~/more", "more: already exists and holds something else"),
    ),
    "data prepare dataset=~/set out=new workers=0": (
        ("dataset=./nowhere", "./nowhere: no such folder"),
        ("cameras.front=tpo", "unknown camera of"),
        ("state=observation.stat", "observation.stat"),
        ("grippers=grip", "unknown dimension of"),
        ("captioner=no.such:words", "no such package.module:function"),
        ("fit=stretchy", "unknown fit 'stretchy'; known: "),
        ("out=~/data", "data: a replay buffer that something else filled"),
    ),
    "data from-mcap out=new": (
        ("recording=nowhere", "nowhere: no such file or folder"),
        ("recording=~/notes", "notes: holds no .mcap file"),
        ("recording=~/notes namespace=left", "namespace has no effect: it is that of robot=, which is not given"),
        ("recording=~/notes control_hz=0", "control_hz is 0, must be at least 1"),
    ),
    "to-lerobot out=new": (("weights=nowhere", "unknown weights 'nowhere'; known: "),),
    "bringup": (
        ("graph=smi", "unknown graph 'smi'; known: "),
        ("robot=ur6e", "ur6e"),
        ("nodes=+recrder", "unknown node 'recrder'; known: "),
        ("speed=3", "unknown setting 'speed'; known: "),
    ),
    "doctor": (("rso", "unknown part 'rso'; known: ros"), ("ros robt=a", "unknown key 'robt'; known: robot, graph")),
    "serve-vla-eval": (
        ("policy=nowhere", "unknown weights 'nowhere'; known: "),
        ("goal=oracle", "unknown goal 'oracle'; known: "),
        ("cameras.top=agentview", "unknown camera of the policy 'top'"),
        ("port=70000", "port is 70000, must lie in [0, 65535]"),
    ),
    "bench": (
        ("lst", "unknown bench command 'lst'; known: list, install, run"),
        ("run pushd policy=expert", "unknown benchmark 'pushd'; known: tabletop, tabletop2, metaworld-mt10"),
        ("run", "bench run takes one name, got 0; known: tabletop"),
        ("run pusht", "policy= is missing: no released weights play pusht"),
        ("run tabletop spilt=seen", "unknown key 'spilt' for eval"),
        ("run tabletop policy=nowhere out=new", "unknown weights 'nowhere'; known: "),
        ("install pushd", "unknown benchmark 'pushd'; known: "),
        ("install pusht n=1", "bench install takes no settings, got n=1"),
        ("list all", "bench list takes nothing, got all"),
    ),
    "sim": (("fly", "unknown sim command 'fly'; known: bench"), ("bench steps=0", "steps is 0, must be at least 1")),
}
CASES = [(base, wrong, said) for base, several in WRONG.items() for wrong, said in several]


def test_every_verb_is_asked() -> None:
    assert {base.split()[0] for base in WRONG} == set(cli.VERBS) - {"train-mini"}  # that one takes no settings


@pytest.mark.parametrize(("base", "wrong", "said"), CASES, ids=[f"{base.split(' out')[0]} {w}" for base, w, _ in CASES])
def test_a_wrong_name_changes_no_file(
    base: str,
    wrong: str,
    said: str,
    world: World,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    before = tree(world.root, tmp_path)
    assert cli.main(world.words(changed(base, wrong))) == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and lines[0].startswith("error: ") and said in lines[0], lines
    assert tree(world.root, tmp_path) == before


def changed(base: str, wrong: str) -> str:
    """The words of `base`, with those of `wrong` instead of the ones of the same keys."""
    keys = {word.partition("=")[0] for word in wrong.split() if "=" in word}
    kept = [word for word in base.split() if "=" not in word or word.partition("=")[0] not in keys]
    return f"{' '.join(kept)} {wrong}"


QUICK = "loop.steps=1 loop.batch_size=2 loop.threads=1 loop.device=cpu loop.compile=false"


@pytest.mark.parametrize(
    ("base", "wrong", "right", "made"),
    [
        ("collect out=new n=1 lerobot=false image_every=50 workers=1", "families=open_drawr", "families=push", "new"),
        (f"train stage=tokenizer data=~/data weights=new out=run {QUICK}", "camera=frnt", "", "new/text.json"),
        (
            f"train stage=planner data=~/data weights=new out=run {QUICK} eval_queries=2 sequences.shift_share=0",
            "start=nowhere",
            "start=~/weights",
            "new/head.safetensors",
        ),
        (
            f"train stage=head data=~/data weights=~/weights cameras=front out=run {QUICK}",
            "start=nowhere",
            "model.channels=8",
            "run/head/checkpoint.pt",
        ),
        ("data prepare dataset=~/set out=new workers=0 image_size=16", "grippers=grip", "", "new/prepared.json"),
        ("data merge sources=~/data,~/more out=new", "image_every=0", "", "new/merged.json"),
    ],
)
def test_the_corrected_command_works(
    base: str, wrong: str, right: str, made: str, world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(world.words(changed(base, wrong))) == 1
    assert cli.main(world.words(f"{base} {right}")) in (0, None)
    assert (tmp_path / made).exists()
