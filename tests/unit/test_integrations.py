"""The files in `integrations/` for home automation: valid, without secrets, and closed."""

from __future__ import annotations

import datetime
import json
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jinja2
import pytest
import yaml

from m2fp_stream import cli
from m2fp_stream.config import load_settings
from m2fp_stream.pipeline.live.health import Health, judged

FOLDER = Path(__file__).resolve().parent.parent.parent / "integrations"
OURS = sorted([FOLDER / "frigate/door.yaml", FOLDER / "home_assistant/door.yaml"])
HOME_ASSISTANT = FOLDER / "home_assistant/m2fp_stream.yaml"


def read(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("path", OURS, ids=lambda path: path.parent.name)
def test_our_own_configurations_are_valid(path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["check-config", str(path)]) == 0, capfd.readouterr().err
    settings = load_settings(path, environ={})
    assert settings.policy.hide == "head"
    assert settings.push.enabled != settings.serve.enabled
    assert not settings.record.enabled
    assert settings.serve.host == "127.0.0.1", "open to others by decision alone"


def test_frigate_knows_the_covered_stream_and_no_camera() -> None:
    text = (FOLDER / "frigate/config.yml").read_text(encoding="utf-8")
    found = read(FOLDER / "frigate/config.yml")
    assert {"mqtt", "cameras", "go2rtc"} <= set(found)
    assert found["go2rtc"]["streams"] == {"door": None}, "empty: it waits for what is pushed"
    for camera in found["cameras"].values():
        assert camera["detect"].keys() >= {"enabled", "width", "height", "fps"}
        for source in camera["ffmpeg"]["inputs"]:
            assert source.keys() == {"path", "input_args", "roles"}
            assert source["path"].startswith("rtsp://127.0.0.1:8554/")
    (address,) = set(re.findall(r"rtsp://[^\s\"]+[^\s\".]", text))
    assert address == "rtsp://127.0.0.1:8554/door"


def test_the_compose_file_closes_our_container_and_checks_its_health() -> None:
    services = read(FOLDER / "frigate/compose.yaml")["services"]
    door = services["door"]
    assert door["cap_drop"] == ["ALL"]
    assert door["read_only"] is True
    assert door["security_opt"] == ["no-new-privileges:true"]
    assert door["mem_limit"] == door["memswap_limit"], "or pictures may be swapped out"
    stats = door["command"][door["command"].index("--stats") + 1]
    assert door["healthcheck"]["test"] == ["CMD", "m2fp-stream", "doctor", "--stats", stats]
    mounted = door["volumes"][0].split(":")[1]
    assert door["command"][:2] == ["run", mounted]
    assert not any("environment" in service for service in services.values())


def sensor() -> dict[str, Any]:
    return dict(read(HOME_ASSISTANT)["command_line"][0]["sensor"])


def value(output: str) -> str:
    """Renders the sensor's value as Home Assistant does."""
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, autoescape=False)
    environment.globals.update(
        now=lambda: datetime.datetime.now(datetime.UTC),
        as_datetime=datetime.datetime.fromisoformat,
        timedelta=datetime.timedelta,
    )
    template = environment.from_string(sensor()["value_template"])
    return template.render(value_json=json.loads(output)).strip()


def run_sensor(folder: Path) -> str:
    done = subprocess.run(
        sensor()["command"], shell=True, cwd=folder, capture_output=True, text=True, check=True
    )
    assert done.stderr == ""
    return done.stdout


FACTS: dict[str, Any] = {
    **{"frames": 9, "fps": 25.0, "uptime_s": 70.0, "source": "up", "sinks": {}},
    **{"covered_fraction": 0.1, "level": "parts", "frames_wholly_covered": 1},
    **{"reconnects": 0, "person_s_ago": 3.0},
}


def test_the_sensor_of_home_assistant_says_the_health_and_when_there_is_none(
    tmp_path: Path,
) -> None:
    assert value(run_sensor(tmp_path)) == "silent"
    path = tmp_path / "m2fp-stream/door.json"
    path.parent.mkdir()

    def seen(change: Callable[[dict[str, Any]], None] = lambda _: None) -> str:
        facts = judged(FACTS)
        change(facts)
        path.write_text(json.dumps(facts), encoding="utf-8")
        return value(run_sensor(tmp_path))

    assert seen() == "ok"
    assert seen(lambda facts: facts.update(health="failing")) == "failing"
    old = datetime.datetime.now(datetime.UTC) - datetime.timedelta(seconds=61)
    assert seen(lambda facts: facts.update(time=old.isoformat())) == "silent"


def test_home_assistant_names_what_stats_have_and_every_state_of_health() -> None:
    assert set(sensor()["json_attributes"]) <= set(judged(FACTS))
    package = read(HOME_ASSISTANT)
    state = package["template"][0]["binary_sensor"][0]["state"]
    bad = set(re.findall(r"'(\w+)'", state.partition(" in ")[2]))
    assert bad == {Health.FAILING.value, Health.ENDED.value, "silent"}
    (automation,) = package["automation"]
    assert automation["triggers"][0]["entity_id"] == "binary_sensor.door_camera_problem"
    assert automation["actions"][0]["action"] == "persistent_notification.create"


@pytest.mark.parametrize(
    "name",
    ["m2fp-stream@.service", "m2fp-stream-watch@.service", "m2fp-stream-watch@.timer"],
)
def test_the_units_are_understood_by_systemd(name: str, tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("no systemd-analyze here; apt-get install systemd")
    for path in (FOLDER / "systemd").iterdir():
        text = path.read_text(encoding="utf-8")
        text = text.replace("/opt/m2fp-stream/bin/m2fp-stream ", "/bin/true ")
        (tmp_path / path.name.replace("@.", "@door.")).write_text(text, encoding="utf-8")
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(tmp_path / name.replace("@.", "@door."))],
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": "/usr/bin:/bin", "SYSTEMD_UNIT_PATH": f"{tmp_path}:"},
    )
    ours = [line for line in done.stderr.splitlines() if "m2fp-stream" in line]
    assert ours == []
    assert done.returncode == 0, done.stderr
