"""The questions to a real account work, against the server that is always there."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from scripts import sandbox
from tests.contract.reference import API_KEY, serving

if TYPE_CHECKING:
    from pathlib import Path


def test_twenty_questions_get_the_reference_server_s_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A script that fails on a real account wastes the day on which there is one."""
    monkeypatch.setenv(sandbox.KEY_VARIABLE, API_KEY)
    output = tmp_path / "answers.json"

    with serving() as server:
        words = ["--base-url", server.url, "--output", str(output), "--wait", "20"]
        assert sandbox.main(words) == 0

    document = json.loads(output.read_text("utf-8"))
    answers = document["answers"]
    assert len(answers) == 20
    findings = {answer["question"]: answer for answer in answers}
    refused = {question for question, one in findings.items() if one["status"] >= 400}
    assert refused == {
        "whether a product needs merchantId",
        "whether a type without a metric is refused",
        "what an empty period gets",
    }
    assert findings["whether a duplicate gets the first id"]["finding"] == "the same id"
    totals = next(each for question, each in findings.items() if "count:" in question)
    assert totals["finding"] == "totalCost 11.85"
    assert "(none)" not in findings["the text of a missing dimension"]["finding"]
    printed = capsys.readouterr().out
    assert "| 20 | what a deletion responds | DELETE" in printed
    assert API_KEY not in printed + output.read_text("utf-8")


@pytest.mark.parametrize("key", ["", "sk_live_1234"])
def test_a_live_account_is_never_asked(
    key: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It would create events that a customer pays for."""
    monkeypatch.setenv(sandbox.KEY_VARIABLE, key)

    assert sandbox.main([]) == 2
    assert "not of a live account" in capsys.readouterr().out
