from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest
from pydantic import BaseModel, ValidationError

from m2fp_stream.config import Settings, cache_folder, load_settings, sample_yaml
from m2fp_stream.core.errors import ConfigError
from m2fp_stream.options import Options

ROOT = Path(__file__).resolve().parents[2]
SECTIONS: dict[str, type[BaseModel]] = {
    name: type(section) for name, section in Settings() if isinstance(section, BaseModel)
}
FIELDS = [(section, name) for section, model in SECTIONS.items() for name in model.model_fields]


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return tmp_path / "config.yaml"


def refused(text: str, path: Path) -> ConfigError:
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        load_settings(path, {})
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 2
    return caught.value


def test_without_anything_every_option_has_its_default() -> None:
    assert load_settings(None, {}, {}) == Settings()


def test_command_line_beats_environment_beats_file_beats_default(config: Path) -> None:
    config.write_text("output: {crf: 1, preset: slow, threads: 3}", encoding="utf-8")
    environ = {"M2FP_STREAM_OUTPUT__CRF": "2", "M2FP_STREAM_OUTPUT__PRESET": "fast"}
    output = load_settings(config, environ, {"output.crf": 3}).output
    assert (output.crf, output.preset, output.threads) == (3, "fast", 3)
    output = load_settings(config, environ).output
    assert (output.crf, output.preset, output.threads) == (2, "fast", 3)
    output = load_settings(config, {}).output
    assert (output.crf, output.preset, output.threads) == (1, "slow", 3)


def test_the_process_environment_is_read_where_none_is_given(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("M2FP_STREAM_OUTPUT__CRF", "7")
    assert load_settings().output.crf == 7


def test_environment_values_are_yaml_so_lists_and_maps_work() -> None:
    environ = {
        "M2FP_STREAM_POLICY__HIDE": "[face, hair]",
        "M2FP_STREAM_POLICY__EFFECTS": "{hair: solid}",
    }
    policy = load_settings(None, environ).policy
    assert policy.hide == ("face", "hair")
    assert policy.effects == {"hair": "solid"}


def test_a_value_replaces_the_whole_value_below(config: Path) -> None:
    config.write_text("policy: {effects: {face: solid}}", encoding="utf-8")
    policy = load_settings(config, {}, {"policy.effects": {"hair": "mosaic"}}).policy
    assert policy.effects == {"hair": "mosaic"}


def test_variables_of_the_tests_and_of_others_set_nothing() -> None:
    environ = {"M2FP_STREAM_TEST_DATA": "x", "HOME": "y", "M2FP_STREAMER__X": "z"}
    assert load_settings(None, environ) == Settings()


@pytest.mark.parametrize("text", ["", "# nothing\n", "policy:\n", "policy:\n  # hide: face\n"])
def test_an_empty_file_or_section_changes_nothing(text: str, config: Path) -> None:
    config.write_text(text, encoding="utf-8")
    assert load_settings(config, {}) == Settings()


def test_a_byte_order_mark_is_accepted(config: Path) -> None:
    config.write_bytes(b"\xef\xbb\xbfoutput: {crf: 4}")
    assert load_settings(config, {}).output.crf == 4


@pytest.mark.parametrize(
    ("text", "key", "hint"),
    [
        ("polcy: {}", "polcy", "did you mean policy?"),
        ("policy: {hid: face}", "policy.hid", "policy.hide"),
        ("crf: 20", "crf", "did you mean output.crf or record.crf?"),
        ("policy: {crf: 20}", "policy.crf", "did you mean output.crf or record.crf?"),
        ("policy: {zzzz: 1}", "policy.zzzz", "valid names: cover_spans, effect, effects, hide"),
        ("qqqq: {}", "qqqq", "valid names: audio, c"),
        ("3: {}", "3", "valid names"),
    ],
)
def test_an_unknown_key_names_file_key_and_nearest(
    text: str, key: str, hint: str, config: Path
) -> None:
    message = str(refused(text, config))
    assert message.startswith(f"{config}: {key}: unknown key; ")
    assert hint in message


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("output: {crf: 99}", "output.crf: expected less than or equal to 51"),
        ("output: {crf: '20'}", "output.crf: expected a valid integer"),
        ("output: {crf: 20.5}", "output.crf: expected a valid integer"),
        ("output: {crf: true}", "output.crf: expected a valid integer"),
        ("output: {crf: 2020-02-02}", "output.crf: expected a valid integer"),
        ("policy: {effect: blur}", "policy.effect: expected 'frost', 'solid'"),
        ("policy: {hide: 3}", "or 'person' or a list"),
        ("policy: {hide: [fase]}", "policy.hide: unknown label 'fase'; did you mean face?"),
        ("policy: {hide: [face, 3]}", "policy.hide.1: expected a valid string"),
        ("policy: {effects: {face: blur}}", "policy.effects.face: expected 'frost'"),
        ("policy: {margin: .nan}", "policy.margin: expected"),
        ("policy: 3", "policy: expected options"),
        ("policy: [hide]", "policy: expected options"),
        ("[1, 2]", "expected sections (policy, parser"),
        ("just words", "expected sections (policy, parser"),
    ],
)
def test_a_wrong_value_names_file_key_and_what_was_expected(
    text: str, expected: str, config: Path
) -> None:
    message = str(refused(text, config))
    assert message.startswith(f"{config}: ")
    assert expected in message


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: [", "line 1"),
        ("output:\n  crf: 1\n  crf: 2", "line 3, column 3: not valid YAML: duplicate key 'crf'"),
        ("x: &a {}\ny: *a", "aliases are not supported"),
        ("? [a]\n: b", "a key must be a plain word"),
        ("a: !!python/object:os.system x", "could not determine a constructor"),
        ("[" * 20_000, "not valid YAML (RecursionError)"),
        ("a: 9999-99-99", "not valid YAML (ValueError)"),
        ("a: b\0c", "not valid YAML (ReaderError)"),
    ],
)
def test_broken_yaml_says_where(text: str, expected: str, config: Path) -> None:
    message = str(refused(text, config))
    assert message.startswith(str(config))
    assert expected in message


@pytest.mark.parametrize(
    "text",
    [
        "output: {crf: hunter2}",
        "policy: {effect: hunter2}",
        "policy: {hide: {password: hunter2}}",
        "a: 'hunter2",
        "hunter2",
        "hunter2: &a x\nb: *hunter2",
    ],
)
def test_a_value_is_never_shown(text: str, config: Path) -> None:
    error = refused(text, config)
    assert "hunter2" not in " ".join([str(error), *getattr(error, "__notes__", [])])
    assert error.__cause__ is None
    assert error.__context__ is None or error.__suppress_context__


def test_several_problems_are_one_line_and_a_note_each(config: Path) -> None:
    error = refused("output: {crf: 99, preset: x}\nzz: {}", config)
    assert "(and 2 more" in str(error)
    assert len(error.__notes__) == 3
    assert [note.split(": ")[1] for note in error.__notes__] == [
        "output.crf",
        "output.preset",
        "zz",
    ]


def test_a_problem_names_the_layer_it_came_from(config: Path) -> None:
    config.write_text("output: {threads: 0}", encoding="utf-8")
    environ = {"M2FP_STREAM_OUTPUT__PRESET": "x", "M2FP_STREAM_POLICY__EFFECTS": "{face: x}"}
    overrides = {"output.crf": 99, "policy.margin": -1, "policy.nope": 1}
    with pytest.raises(ConfigError) as caught:
        load_settings(config, environ, overrides, flags={"output.crf": "--crf"})
    assert {
        note.partition(": expected")[0].partition("; ")[0] for note in caught.value.__notes__
    } == {
        "M2FP_STREAM_POLICY__EFFECTS.face",
        "command line: policy.margin",
        "command line: policy.nope: unknown key",
        "--crf",
        "M2FP_STREAM_OUTPUT__PRESET",
        f"{config}: output.threads",
    }


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("M2FP_STREAM_POLICY_HIDE", "M2FP_STREAM_POLICY__HIDE"),
        ("M2FP_STREAM_POLICY__HIDEE", "M2FP_STREAM_POLICY__HIDE"),
        ("M2FP_STREAM_POLICY", "M2FP_STREAM_POLICY__"),
        ("M2FP_STREAM_", "M2FP_STREAM_"),
    ],
)
def test_an_unknown_variable_is_refused_and_the_nearest_named(name: str, hint: str) -> None:
    with pytest.raises(ConfigError, match=rf"unknown variable {name}; did you mean {hint}"):
        load_settings(None, {name: "face"})


def test_a_broken_variable_is_named() -> None:
    with pytest.raises(ConfigError, match=r"^M2FP_STREAM_OUTPUT__CRF, line 1.*not valid YAML"):
        load_settings(None, {"M2FP_STREAM_OUTPUT__CRF": "["})


@pytest.mark.parametrize(
    ("content", "expected"),
    [(b"\xff\xfe\x00", "not a text file"), (b"# " + b"x" * (1 << 20), "larger than 1 MiB")],
)
def test_a_file_that_is_no_configuration_is_refused(
    content: bytes, expected: str, config: Path
) -> None:
    config.write_bytes(content)
    with pytest.raises(ConfigError, match=expected):
        load_settings(config, {})


@pytest.mark.parametrize(
    ("section", "key", "successor"),
    [
        ("file", "interval_s", "people_every"),
        ("file", "full_interval_s", "people_every"),
        ("file", "max_gap", "people_every"),
        ("file", "parse_side", "look_size"),
        ("file", "parse_deadline_s", "deadline_s"),
        ("live", "min_interval_s", "people_s"),
        ("live", "max_interval_s", "people_s"),
        ("live", "full_interval_s", "far_s"),
        ("live", "full_spacing_s", "people_s"),
        ("live", "parse_side", "look_size"),
        ("live", "min_parse_side", "min_look_size"),
        ("live", "parse_deadline_s", "look_deadline_s"),
    ],
)
def test_a_key_of_an_earlier_version_says_what_replaced_it(
    section: str, key: str, successor: str, config: Path
) -> None:
    config.write_text(f"{section}:\n  {key}: 1\n", encoding="utf-8")
    expected = rf"{section}.{key}.*unknown key; .*{section}\.{successor}"
    with pytest.raises(ConfigError, match=expected):
        load_settings(config, {})
    assert successor in SECTIONS[section].model_fields


def test_a_section_that_left_says_so(config: Path) -> None:
    config.write_text("tracking:\n  hold_s: 1\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"tracking.*unknown key; .*remove the section"):
        load_settings(config, {})


def test_a_missing_file_or_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nope.yaml: cannot read the configuration: No such"):
        load_settings(tmp_path / "nope.yaml", {})
    with pytest.raises(ConfigError, match="not a file"):
        load_settings(tmp_path, {})


def test_the_documented_sample_is_the_generated_one() -> None:
    sample = (ROOT / "configs" / "anonymize.yaml").read_text(encoding="utf-8")
    assert sample == sample_yaml(), (
        "run: python -c 'from m2fp_stream.config import sample_yaml; ...'"
    )


def test_the_documented_sample_sets_every_option_to_its_default(config: Path) -> None:
    sample = sample_yaml()
    config.write_text(sample, encoding="utf-8")
    assert load_settings(config, {}) == Settings()
    for _, name in FIELDS:
        assert f"\n  {name}: " in sample


def _is_text(annotation: object) -> bool:
    return str in (annotation, *get_args(annotation))


@pytest.mark.parametrize(("section", "name"), FIELDS)
def test_every_option_is_documented_and_refuses_what_is_not_finite(section: str, name: str) -> None:
    field = SECTIONS[section].model_fields[name]
    assert field.title
    assert field.description
    if _is_text(field.annotation) and name != "host":
        return  # ".nan" is a text like any other
    for value in (".nan", ".inf", "-.inf"):
        with pytest.raises(ConfigError, match=rf"{section}__{name}".upper()):
            load_settings(None, {f"M2FP_STREAM_{section}__{name}".upper(): value})


@pytest.mark.parametrize("model", [Settings, *SECTIONS.values()])
def test_every_section_is_frozen_strict_and_hides_its_input(model: type[BaseModel]) -> None:
    config = model.model_config
    assert config.get("frozen")
    assert config.get("strict")
    assert config.get("extra") == "forbid"
    assert config.get("hide_input_in_errors")
    assert config.get("allow_inf_nan") is False
    assert issubclass(model, Options)
    with pytest.raises(ValidationError):
        setattr(Settings(), "policy", None)  # noqa: B010  # a type checker would refuse the plain form


def test_cache_folder_follows_the_specification(monkeypatch: pytest.MonkeyPatch) -> None:
    assert cache_folder({"XDG_CACHE_HOME": "/c"}) == Path("/c/m2fp-stream")
    monkeypatch.setenv("HOME", "/h")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert cache_folder({"XDG_CACHE_HOME": "relative"}) == Path("/h/.cache/m2fp-stream")
    assert cache_folder() == Path("/h/.cache/m2fp-stream")
