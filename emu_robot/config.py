"""The only user of hydra: turns a verb and `key=value` overrides into one validated dataclass.

Schema and defaults live in a dataclass beside the class they configure; the files in configs/ hold only differences:
`configs/<verb>.yaml` for a verb that differs from its dataclass, `configs/experiment/<verb>/<name>.yaml` for a preset,
chosen by `experiment=<name>`. Nothing in them can run code: no `_target_`, no `${...}`.
"""

import dataclasses
import importlib
import re
import types
import typing
from collections.abc import Iterator, Sequence
from enum import Enum
from pathlib import Path
from typing import Any

from emu_robot.errors import ConfigError, UnknownNameError, nearest_known
from emu_robot.shared.settings import check_effects

SCHEMAS = {
    "check": "emu_robot.data.check:CheckConfig",
    "collect": "emu_robot.data.collect:CollectConfig",
    "demo": "emu_robot.evaluation.config:DemoConfig",
    "encode": "emu_robot.training.tokenizer:EncodeConfig",
    "eval": "emu_robot.evaluation.config:EvalConfig",
    "export": "emu_robot.cli.data:ExportConfig",
    "from-mcap": "emu_robot.data.from_mcap:FromMcapConfig",
    "merge": "emu_robot.data.merge:MergeConfig",
    "merge-sets": "emu_robot.cli.data:MergeSetsConfig",
    "finetune": "emu_robot.training.finetune:FinetuneConfig",
    "generate": "emu_robot.cli.generate:GenerateConfig",
    "imagine": "emu_robot.evaluation.imagination:ImagineConfig",
    "measure-completion": "emu_robot.evaluation.completion:CompletionConfig",
    "measure-keyframes": "emu_robot.evaluation.keyframe_quality:KeyframeQualityConfig",
    "measure-language": "emu_robot.evaluation.language:LanguageConfig",
    "measure-planner": "emu_robot.evaluation.plan_accuracy:PlanAccuracyConfig",
    "measure-tokenizer": "emu_robot.evaluation.tokenizer_quality:TokenizerQualityConfig",
    "plan": "emu_robot.cli.plan:PlanConfig",
    "prepare": "emu_robot.data.prepare:PrepareConfig",
    "repair": "emu_robot.cli.data:RepairConfig",
    "report": "emu_robot.evaluation.comparison_page:ReportConfig",
    "view": "emu_robot.data.view:ViewConfig",
    "serve-vla-eval": "emu_robot.serving.config:VlaEvalConfig",
    "sim-bench": "emu_robot.cli.sim:BenchConfig",
    "teleop": "emu_robot.cli.teleop:TeleopVerbConfig",
    "to-lerobot": "emu_robot.cli.to_lerobot:ToLeRobotConfig",
    "train-dida": "emu_robot.training.dida:DidaTrainConfig",
    "train-head": "emu_robot.training.head:HeadTrainConfig",
    "train-planner": "emu_robot.training.planner_config:PlannerTrainConfig",
    "train-world_model": "emu_robot.training.world_model:WorldModelTrainConfig",
    "train-tokenizer": "emu_robot.training.tokenizer:TokenizerTrainConfig",
    "watch": "emu_robot.cli.watch:WatchConfig",
}
"""Verb -> its dataclass, imported on demand."""


def load_config(verb: str, overrides: Sequence[str] = ()) -> Any:
    """The configuration of `verb`: defaults of its dataclass, then its file, then a preset, then `key=value` overrides.

    Text is taken as it is typed, without quotes; lists are typed `a,b,c` or `[a,b,c]`; `table.name=value` adds an entry
    to a table. Raises `UnknownNameError` for an unknown verb, preset or choice, `ConfigError` for a key or value that
    does not fit or has no effect, and the errors of the dataclass itself.
    """
    schema = load_schema(verb)
    fields = dict(leaf_types(schema))
    experiment, arguments, given = None, [], []
    for override in overrides:
        key, value = _split(override)
        if key == "experiment":
            experiment = value
            continue
        if key in given:
            raise ConfigError(f"{key} is given twice")
        given.append(key)
        if _is_table(fields.get(key)) or _is_table(fields.get(key.rpartition(".")[0])):
            arguments.append(f"++{key}={value}")
        elif key not in fields:
            valid = ", ".join(sorted(fields))
            raise ConfigError(f"unknown key {key!r} for {verb}; valid: {valid}{nearest_known(key, fields)}")
        else:
            arguments.append(f"{key}={_literal(key, value, fields[key])}")
    if experiment is not None:
        known = preset_names(verb)
        if experiment not in known:
            raise UnknownNameError(f"experiment for {verb}", experiment, known)
        arguments.insert(0, f"+experiment/{verb}@_global_={experiment}")
    config = _compose(verb, schema, arguments)
    check_effects(config, given)
    return config


def config_folder() -> Path:
    """The folder configs/ of the checkout, or its copy inside an installed wheel."""
    package = Path(__file__).resolve().parent
    for folder in (package / "configs", package.parent / "configs"):
        if folder.is_dir():
            return folder
    raise ConfigError(f"no configs folder in {package} or beside it; reinstall emu_robot")


def preset_names(verb: str) -> list[str]:
    """Names of the presets of `verb`, for `experiment=`."""
    return sorted(path.stem for path in (config_folder() / "experiment" / verb).glob("*.yaml"))


def load_schema(verb: str) -> type:
    """The dataclass that configures `verb`."""
    if verb not in SCHEMAS:
        raise UnknownNameError("verb", verb, SCHEMAS)
    module, name = SCHEMAS[verb].split(":")
    return getattr(importlib.import_module(module), name)


def leaf_types(schema: type, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every dotted key of a schema and of its nested dataclasses, with its type."""
    hints = typing.get_type_hints(schema)
    for field in dataclasses.fields(schema):
        hint = hints[field.name]
        if dataclasses.is_dataclass(hint):
            yield from leaf_types(typing.cast(type, hint), f"{prefix}{field.name}.")
        else:
            yield f"{prefix}{field.name}", hint


def _split(override: str) -> tuple[str, str]:
    key, equals, value = override.partition("=")
    if not equals or not key or key.startswith(("+", "~")):
        raise ConfigError(f"{override!r} is not of the form key=value")
    return key, value


def _literal(key: str, value: str, hint: Any) -> str:
    """`value` in hydra's override grammar, with the meaning that was typed. Raises `UnknownNameError`."""
    choices = type_choices(hint)
    if types.NoneType in choices and value == "null":
        return "null"
    for choice in choices:
        if isinstance(choice, type) and issubclass(choice, Enum):
            names = {str(member.value): member.name for member in choice}
            if value not in names:
                raise UnknownNameError(key, value, names)
            return names[value]
    if any(typing.get_origin(choice) in (tuple, list) for choice in choices):
        inner = value[1:-1] if value.startswith("[") and value.endswith("]") else value
        return "[" + ",".join(part.strip() for part in inner.split(",") if part.strip()) + "]"
    if any(choice in (str, Path) for choice in choices):
        escaped = re.sub(r"(\\*)'", r"\1\1\\'", value)
        trailing = len(escaped) - len(escaped.rstrip("\\"))
        return f"'{escaped}{trailing * chr(92)}'"
    return value


def _compose(verb: str, schema: type, arguments: list[str]) -> Any:
    from hydra import compose, initialize_config_dir
    from hydra.core.config_store import ConfigStore
    from hydra.core.global_hydra import GlobalHydra
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    ConfigStore.instance().store(name=f"{verb}_schema", node=_unlocked(OmegaConf.structured(schema)))
    GlobalHydra.instance().clear()
    name = verb if (config_folder() / f"{verb}.yaml").exists() else f"{verb}_schema"
    folders = {path.name for path in config_folder().iterdir() if path.is_dir()}
    late = [word for word in arguments if word.partition("=")[0] in folders]  # hydra would look for a file to merge
    try:
        with initialize_config_dir(config_dir=str(config_folder()), version_base="1.3"):
            config = compose(config_name=name, overrides=[word for word in arguments if word not in late])
        for override in OverridesParser.create().parse_overrides(late):
            OmegaConf.update(config, override.key_or_group, override.value())
        _refuse_code(verb, OmegaConf.to_container(config, resolve=False))
        return _with_tuples(OmegaConf.to_object(config))
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(f"{verb}: {_one_line(error)}") from error


def _unlocked(node: Any) -> Any:
    """The node made writable, so that files and overrides can be merged into frozen dataclasses."""
    from omegaconf import OmegaConf

    OmegaConf.set_readonly(node, None)
    for name in node:
        child = node._get_node(name)
        if OmegaConf.is_dict(child):
            _unlocked(child)
    return node


def _refuse_code(verb: str, value: Any, key: str = "") -> None:
    """Raise `ConfigError` if a composed config holds an interpolation or a class to instantiate."""
    if isinstance(value, dict):
        for name, inner in value.items():
            if name == "_target_":
                raise ConfigError(f"{verb}: _target_ is not allowed in a configuration")
            _refuse_code(verb, inner, f"{key}.{name}" if key else str(name))
    elif isinstance(value, list):
        for inner in value:
            _refuse_code(verb, inner, key)
    elif isinstance(value, str) and "${" in value:
        raise ConfigError(f"{verb}: {key}={value!r}: interpolation is not allowed in a configuration")


def _with_tuples(config: Any) -> Any:
    """Turn lists into tuples where the schema says tuple, also in nested dataclasses."""
    hints = typing.get_type_hints(type(config))
    changes: dict[str, Any] = {}
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            changes[field.name] = _with_tuples(value)
        elif isinstance(value, list) and any(
            typing.get_origin(choice) is tuple for choice in type_choices(hints[field.name])
        ):
            changes[field.name] = tuple(value)
    return dataclasses.replace(config, **changes) if changes else config


def _is_table(hint: Any) -> bool:
    return typing.get_origin(hint) is dict


def type_choices(hint: Any) -> tuple[Any, ...]:
    """The members of a union type, or the type alone."""
    return typing.get_args(hint) if typing.get_origin(hint) in (types.UnionType, typing.Union) else (hint,)


def _one_line(error: BaseException) -> str:
    """The part of an OmegaConf or hydra message that names the value and the key."""
    cause = error.__cause__ if error.__cause__ is not None else error
    lines = [line.strip() for line in str(cause).splitlines() if line.strip()]
    keys = [line.removeprefix("full_key:").strip() for line in lines if line.startswith("full_key:")]
    said = lines[0] if lines else type(cause).__name__
    return f"{keys[0]}: {said}" if keys and keys[0] else said
