"""Assembles every component's options into `Settings`, from files, environment and overrides.

No other module reads configuration files or the values of `M2FP_STREAM_*` variables.

A value given on the command line beats one of the environment, that one beats the file's, and
that one the default. A value replaces the whole value below it: lists and per-label effects are
not merged.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from math import isfinite
from pathlib import Path
from textwrap import wrap
from typing import Any, Final

import yaml
from pydantic import Field, ValidationError

from .compositor.compose import ComposeOptions
from .core.errors import ConfigError
from .core.home import own_folder
from .core.labels import nearest
from .options import Options
from .parsers.embedded.options import EmbeddedOptions
from .parsers.m2fp.options import M2FPOptions
from .pipeline.files.options import FilePipelineOptions
from .pipeline.live.capture import CaptureOptions
from .pipeline.live.options import LiveOptions
from .policy import PolicyOptions
from .privacy.audio import AudioOptions
from .sinks.encoders import VideoFileOptions
from .sinks.pipe import PipeOptions
from .sinks.push import PushOptions
from .sinks.segments import RecordOptions
from .sinks.serve import ServeOptions
from .sinks.virtual_camera import VirtualCameraOptions
from .sinks.window import WindowOptions
from .sources.options import CameraOptions, FileOptions, StreamOptions, SyntheticOptions
from .web.options import KioskOptions, PageOptions

__all__ = ["ENVIRONMENT_PREFIX", "Settings", "cache_folder", "load_settings", "sample_yaml"]

ENVIRONMENT_PREFIX: Final = "M2FP_STREAM_"
_TEST_PREFIX: Final = ENVIRONMENT_PREFIX + "TEST_"
"""Variables of this prefix belong to the tests; they set nothing."""

_MAX_FILE_BYTES: Final = 1 << 20
"""A configuration is a few kilobytes (the documented sample: under 16); more is another file."""


_REPLACED: Final = {
    "file.interval_s": "faces are looked for in every frame now; see file.people_every",
    "file.full_interval_s": "replaced by file.people_every (frames)",
    "file.max_gap": "replaced by file.people_every",
    "file.parse_side": "replaced by file.look_size",
    "file.parse_deadline_s": "replaced by file.deadline_s",
    "capture.frozen_s": "gone: a camera whose scene is still is alive while its pictures come",
    "live.away_s": "replaced by capture.away_s",
    "live.min_interval_s": "faces are looked for in every frame now; see live.people_s",
    "live.max_interval_s": "faces are looked for in every frame now; see live.people_s",
    "live.full_interval_s": "replaced by live.far_s",
    "live.full_spacing_s": "replaced by live.people_s",
    "live.parse_side": "replaced by live.look_size",
    "live.min_parse_side": "replaced by live.min_look_size",
    "live.parse_deadline_s": "replaced by live.look_deadline_s",
    "tracking": "people are followed as tracks now, live too: remove the section",
}
"""What became of keys that files of earlier versions may hold."""


class Settings(Options):
    """Every option of a run, one section a component; immutable, unknown keys refused."""

    policy: PolicyOptions = Field(
        default_factory=PolicyOptions, title="What is hidden, and how it looks"
    )
    parser: EmbeddedOptions = Field(
        default_factory=EmbeddedOptions, title="The embedded parser, which finds people"
    )
    compose: ComposeOptions = Field(default_factory=ComposeOptions, title="How covers are drawn")
    source: FileOptions = Field(default_factory=FileOptions, title="Reading the input")
    m2fp: M2FPOptions = Field(
        default_factory=M2FPOptions, title="M2FP, the reference parser, beside the embedded one"
    )
    output: VideoFileOptions = Field(
        default_factory=VideoFileOptions, title="Writing the output video"
    )
    audio: AudioOptions = Field(default_factory=AudioOptions, title="The sound of recorded files")
    file: FilePipelineOptions = Field(
        default_factory=FilePipelineOptions, title="The pipeline for recorded files"
    )
    capture: CaptureOptions = Field(default_factory=CaptureOptions, title="The live source")
    camera: CameraOptions = Field(
        default_factory=CameraOptions, title="Live source: a camera of this machine"
    )
    stream: StreamOptions = Field(
        default_factory=StreamOptions, title="Live source: a camera or server on the network"
    )
    synthetic: SyntheticOptions = Field(
        default_factory=SyntheticOptions, title="Live source: a drawn test picture"
    )
    live: LiveOptions = Field(default_factory=LiveOptions, title="The pipeline for live pictures")
    window: WindowOptions = Field(default_factory=WindowOptions, title="Live sink: a window")
    virtual_camera: VirtualCameraOptions = Field(
        default_factory=VirtualCameraOptions, title="Live sink: a virtual camera for calls"
    )
    record: RecordOptions = Field(default_factory=RecordOptions, title="Live sink: recordings")
    push: PushOptions = Field(
        default_factory=PushOptions, title="Live sink: a server that takes the stream"
    )
    serve: ServeOptions = Field(
        default_factory=ServeOptions, title="Live sink: a server that players pull from"
    )
    pipe: PipeOptions = Field(default_factory=PipeOptions, title="Live sink: standard output")
    page: PageOptions = Field(
        default_factory=PageOptions, title="The kiosk's page, and who sees it"
    )
    kiosk: KioskOptions = Field(
        default_factory=KioskOptions, title="The kiosk: what the mirror shows"
    )


def load_settings(
    path: Path | None = None,
    environ: Mapping[str, str] | None = None,
    overrides: Mapping[str, object] | None = None,
    *,
    flags: Mapping[str, str] | None = None,
) -> Settings:
    """Returns the settings of a run: overrides over environment over file over defaults.

    Args:
        path: a YAML file, or None.
        environ: variables ``M2FP_STREAM_SECTION__FIELD``, their values parsed as YAML; None
            means those of this process.
        overrides: dotted keys, e.g. ``{"output.crf": 18}``.
        flags: the command-line flag behind a dotted key, for messages.

    Raises:
        ConfigError: anything is wrong. The message is about the first problem; where there are
            more, `__notes__` has all of them, one line each. Values are never shown.
    """
    layers = [("command line", _nested(overrides or {}))]
    layers.append(("environment", _from_environment(os.environ if environ is None else environ)))
    if path is not None:
        layers.append((str(path), _from_file(path)))
    merged: dict[str, Any] = {}
    for _, layer in reversed(layers):
        for section, values in layer.items():
            known = isinstance(values, Mapping)
            merged[section] = {**merged.get(section, {}), **values} if known else values
    try:
        # JSON is where pydantic's strict mode takes a list for a tuple and a name for an enum.
        return Settings.model_validate_json(json.dumps(merged, default=str))
    except ValidationError as error:
        problems = list(_problems(error, merged, layers, flags or {}))
    raise _config_error(problems)


def cache_folder(environ: Mapping[str, str] | None = None) -> Path:
    """Returns the folder for what may be thrown away; it need not exist.

    Raises:
        ConfigError: see `own_folder`.
    """
    given = os.environ if environ is None else environ
    return own_folder("XDG_CACHE_HOME", given, ".cache") / "m2fp-stream"


def sample_yaml() -> str:
    """Returns a YAML file that documents every option and sets each to its default."""
    schema = Settings.model_json_schema()
    defaults = Settings().model_dump(mode="json")
    lines = [
        "# Every option of m2fp-stream with its default; by m2fp_stream.config.sample_yaml().",
        "# The command line beats the environment (M2FP_STREAM_SECTION__FIELD=value), both beat",
        "# a file like this one.",
    ]
    for section, reference in schema["properties"].items():
        fields = _resolve(schema, reference)["properties"]
        lines += ["", f"# {reference['title']}.", f"{section}:"]
        for name, field in fields.items():
            text = [f"{field.get('title', name)}. {field.get('description', '')}".strip()]
            text.append(f"({_expected(schema, field)})")
            lines += [f"  # {line}" for part in text for line in wrap(part, 94)]
            value = yaml.safe_dump([defaults[section][name]], default_flow_style=True, width=4096)
            lines.append(f"  {name}: {value.strip()[1:-1]}")
    return "\n".join(lines) + "\n"


class _Loader(yaml.SafeLoader):
    """YAML with each key once (the last would win silently), no aliases, finite numbers."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            problem = "aliases are not supported"
            raise yaml.composer.ComposerError(None, None, problem, self.get_mark())
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            name = key.value if isinstance(key, yaml.ScalarNode) else None
            if name is None or name in seen:
                what = "a key must be a plain word" if name is None else f"duplicate key {name!r}"
                raise yaml.constructor.ConstructorError(None, None, what, key.start_mark)
            seen.add(name)
        return {str(key): value for key, value in super().construct_mapping(node, deep).items()}

    def construct_finite(self, node: yaml.ScalarNode) -> float | str:
        """Leaves infinities and not-a-number as text, which no option for a number takes."""
        value = super().construct_yaml_float(node)
        return value if isfinite(value) else str(value)


_Loader.add_constructor("tag:yaml.org,2002:float", _Loader.construct_finite)


def _parse_yaml(text: str, origin: str) -> Any:
    try:
        return yaml.load(text, _Loader)  # noqa: S506  # _Loader is a SafeLoader
    except yaml.MarkedYAMLError as error:
        # Only the problem and its place: the rest of the message quotes the file.
        mark = error.problem_mark
        place = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        problem = error.problem or "it cannot be parsed"
        raise ConfigError(f"{origin}{place}: not valid YAML: {problem}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ConfigError(f"{origin}: not valid YAML ({type(error).__name__})") from None


def _from_file(path: Path) -> dict[str, Any]:
    try:
        if path.exists() and not path.is_file():
            raise ConfigError(f"{path}: not a file; expected a YAML configuration")
        with path.open("rb") as file:
            content = file.read(_MAX_FILE_BYTES + 1)
        text = content.decode("utf-8")
    except OSError as error:
        raise ConfigError(f"{path}: cannot read the configuration: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: not a text file; expected YAML in UTF-8") from None
    if len(content) > _MAX_FILE_BYTES:
        raise ConfigError(f"{path}: larger than 1 MiB; expected a YAML configuration")
    data = _parse_yaml(text, str(path))
    if data is None:
        return {}
    if not isinstance(data, dict):
        raise ConfigError(f"{path}: expected sections ({', '.join(Settings.model_fields)}) at top")
    for section, values in data.items():
        if section in Settings.model_fields and not isinstance(values, dict | None):
            raise ConfigError(f"{path}: {section}: expected options, one `name: value` a line")
    # A section whose every line is commented out reads as null.
    return {section: {} if values is None else values for section, values in data.items()}


def _from_environment(environ: Mapping[str, str]) -> dict[str, Any]:
    dotted = {}
    for variable in sorted(environ):
        if variable.startswith(ENVIRONMENT_PREFIX) and not variable.startswith(_TEST_PREFIX):
            name = variable.removeprefix(ENVIRONMENT_PREFIX)
            key = name.lower().replace("__", ".")
            section, _, field = key.partition(".")
            if field not in _fields(section):
                known = [_variable(key) for key in _keys()]
                close = get_close_matches(variable, known, n=1, cutoff=0)
                raise ConfigError(f"unknown variable {variable}; did you mean {close[0]}?")
            dotted[key] = _parse_yaml(environ[variable], variable)
    return _nested(dotted)


def _nested(dotted: Mapping[str, object]) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for key, value in dotted.items():
        section, _, field = key.partition(".")
        tree.setdefault(section, {})[field] = value
    return tree


def _variable(dotted: str) -> str:
    return ENVIRONMENT_PREFIX + dotted.replace(".", "__").upper()


def _fields(section: str) -> list[str]:
    field = Settings.model_fields.get(section)
    model: Any = field.annotation if field is not None else None
    return [] if model is None else list(model.model_fields)


def _keys() -> list[str]:
    return [f"{section}.{field}" for section in Settings.model_fields for field in _fields(section)]


def _suggest(key: str) -> str:
    """Returns ``did you mean X?`` for an unknown dotted key: misspelt, or in another section."""
    keys = _keys()
    section, _, leaf = key.rpartition(".")
    elsewhere = [known for known in keys if known.rpartition(".")[2] == leaf]
    close = elsewhere[:2] or get_close_matches(key, keys, n=2, cutoff=0.7)
    if not section and not elsewhere:
        close = get_close_matches(key, list(Settings.model_fields), n=1) or close
    if not close:
        return nearest(leaf, _fields(section) or Settings.model_fields)
    return f"did you mean {' or '.join(close)}?"


def _problems(
    error: ValidationError,
    merged: Mapping[str, Any],
    layers: list[tuple[str, dict[str, Any]]],
    flags: Mapping[str, str],
) -> Iterator[str]:
    """Yields one line for each wrong key: where it came from, its name, what was expected."""
    expected: dict[tuple[str | int, ...], list[str]] = {}
    for item in error.errors(include_url=False, include_input=False, include_context=False):
        place = _place(item["loc"], merged)
        if item["type"] == "extra_forbidden":
            dotted = ".".join(map(str, place))
            text = f"unknown key; {_REPLACED.get(dotted) or _suggest(dotted)}"
        else:
            text = item["msg"].removeprefix("Value error, ").replace("Input should be", "expected")
            text = re.sub("a valid (array|tuple)", "a list", text)
        if text not in expected.setdefault(place, []):
            expected[place].append(text)
    for place, texts in expected.items():
        if any(other[: len(place)] == place != other for other in expected):
            continue  # what is wrong inside a value says more than "no member of the union"
        dotted = ".".join(map(str, place))
        origin = next((name for name, layer in layers if _reach(place[:2], layer)), "default")
        if origin == "command line" and dotted in flags:
            where = flags[dotted]
        elif origin == "environment":
            where = ".".join([_variable(".".join(map(str, place[:2]))), *map(str, place[2:])])
        else:
            where = f"{origin}: {dotted}"
        yield f"{where}: {texts[0]}" + "".join(
            f" or {text.removeprefix('expected ')}" for text in texts[1:]
        )


def _place(loc: tuple[str | int, ...], data: object) -> tuple[str | int, ...]:
    """Returns `loc` without what is no key of the data: pydantic adds names of union members."""
    place: list[str | int] = []
    for step in loc:
        if isinstance(data, list):
            data = dict(enumerate(data))
        if isinstance(data, Mapping) and step in data:
            data = data[step]
            place.append(step)
    return tuple(place)


def _reach(place: tuple[str | int, ...], data: object) -> bool:
    return len(_place(place, data)) == len(place)


def _config_error(problems: list[str]) -> ConfigError:
    first, *others = problems
    more = f" (and {len(others)} more: `m2fp-stream check-config` lists them)" if others else ""
    error = ConfigError(first + more)
    if others:
        for problem in problems:
            error.add_note(problem)
    return error


def _resolve(schema: Mapping[str, Any], field: Mapping[str, Any]) -> Mapping[str, Any]:
    reference = field.get("$ref")
    if reference is None:
        return field
    resolved: Mapping[str, Any] = schema["$defs"][reference.rpartition("/")[2]]
    return resolved


def _expected(schema: Mapping[str, Any], field: Mapping[str, Any]) -> str:
    """Returns in words what a field takes, e.g. ``a number, at least 0, at most 1``."""
    field = _resolve(schema, field)
    if "anyOf" in field:
        return ", or ".join(_expected(schema, choice) for choice in field["anyOf"])
    if "enum" in field:
        return "one of " + ", ".join(str(choice) for choice in field["enum"])
    kind = field.get("type", "value")
    if kind == "array":
        fewest, most = field.get("minItems"), field.get("maxItems")
        item: Mapping[str, Any] = field.get("items") or field.get("prefixItems", [{}])[0]
        size = "" if most is None else f" of {most}" if fewest == most else f" of at most {most}"
        return f"a list{size}, each {_expected(schema, item)}"
    if kind == "object":
        keys = _expected(schema, field.get("propertyNames", {"type": "string"}))
        return f"key: value; key {keys}; value {_expected(schema, field['additionalProperties'])}"
    words = {"integer": "a whole number", "number": "a number", "string": "text"}
    words |= {"boolean": "true or false", "null": "null"}
    bounds = {
        "minimum": "at least",
        "exclusiveMinimum": "above",
        "maximum": "at most",
        "exclusiveMaximum": "below",
    }
    limits = [
        f", {text} {str(field[name]).removesuffix('.0')}"
        for name, text in bounds.items()
        if name in field
    ]
    return words.get(kind, str(kind)) + "".join(limits)
