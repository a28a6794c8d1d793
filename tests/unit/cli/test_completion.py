"""What shells offer; each is asked itself where it is there."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from m2fp_stream.cli import completion
from m2fp_stream.cli.arguments import parsers
from tests.kit.cli import run

Capture = pytest.CaptureFixture[str]

IN_BASH = """
source "$0"
for line in "$@"; do
    COMP_WORDS=(); COMPREPLY=()
    read -r -a COMP_WORDS <<<"$line"
    [[ $line != *" " ]] || COMP_WORDS+=("")
    COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
    _shtab_m2fp_stream 2>/dev/null
    (IFS='|'; echo "${COMPREPLY[*]}")
done
"""
IN_FISH = """
source $argv[1]
for line in $argv[2..-1]
    echo (complete -C $line | string split -f1 \\t | string trim -r -c / | string join '|')
end
"""
OFFERED = {
    "m2fp-stream check": "check-config",
    "m2fp-stream anonymize a.mp4 --keep": "--keep-quality|--keep-zone",
    "m2fp-stream anonymize --audio ": "drop|keep|disguise",
    "m2fp-stream anonymize --quality s": "standard",
    "m2fp-stream anonymize --hide he": "head",
    "m2fp-stream preview --effect s": "silhouette|solid",
    "m2fp-stream parse --parser ": "embedded|m2fp",
    "m2fp-stream kiosk --rotate ": "0|180|270|90",
    "m2fp-stream models ex": "export",
    "m2fp-stream completion ": "bash|fish|zsh",
    "m2fp-stream anonymize ": "a.mp4|folder",
    "m2fp-stream check-config a": "a.mp4",
    "m2fp-stream preview --record ": "folder",
    "m2fp-stream anonymize --crf ": "",
}
"""What is offered after a line, in any order."""


def asked(command: list[str], here: Path) -> dict[str, str]:
    (here / "folder").mkdir()
    (here / "a.mp4").touch()
    done = subprocess.run(
        [*command, *OFFERED], cwd=here, capture_output=True, text=True, check=True
    )
    assert done.stderr == ""
    lines = dict(zip(OFFERED, done.stdout.split("\n"), strict=False))
    return {line: "|".join(sorted(lines[line].split("|"))) for line in OFFERED}


EXPECTED = {line: "|".join(sorted(words.split("|"))) for line, words in OFFERED.items()}


def script(shell: str, tmp_path: Path, capsys: Capture) -> str:
    assert run("completion", shell) == 0
    out, err = capsys.readouterr()
    assert err == ""
    path = tmp_path / f"script.{shell}"
    path.write_text(out, encoding="utf-8")
    return str(path)


def test_bash_offers_commands_options_values_and_files(tmp_path: Path, capsys: Capture) -> None:
    here = tmp_path / "here"
    here.mkdir()
    told = asked(["bash", "-c", IN_BASH, script("bash", tmp_path, capsys)], here)
    assert told == EXPECTED


def test_fish_offers_the_same(tmp_path: Path, capsys: Capture) -> None:
    if shutil.which("fish") is None:
        pytest.skip("needs fish; apt-get install fish")
    here = tmp_path / "here"
    here.mkdir()
    command = ["fish", "--no-config", "-c", IN_FISH, script("fish", tmp_path, capsys)]
    told = asked(command, here)
    nothing = "m2fp-stream anonymize --crf "  # fish offers files where it knows nothing else
    assert told | {nothing: ""} == EXPECTED


def test_zsh_takes_the_script(tmp_path: Path, capsys: Capture) -> None:
    if shutil.which("zsh") is None:
        pytest.skip("needs zsh; apt-get install zsh")
    path = script("zsh", tmp_path, capsys)
    subprocess.run(["zsh", "-f", "-n", path], check=True)
    text = Path(path).read_text(encoding="utf-8")
    assert text.startswith("#compdef m2fp-stream\n")
    assert '(drop keep disguise)"' in text


def test_every_value_of_the_table_that_is_one_of_some_words_is_offered() -> None:
    words = {flag for command in parsers()[1].values() for flag in command.flags}
    offered = {flag: completion._words(flag) for flag in words if completion._words(flag)}
    assert offered["--preset"][0] == "ultrafast"
    assert offered["--language"] == ["auto", "en", "zh"]
    assert set(offered) >= {"--hide", "--effect", "--parser", "--quality", "--audio", "--rotate"}
