import json

import pytest
import structlog

from reward_server.telemetry import logs


@pytest.fixture
def shown(capsys):
    """Returns a function that returns what was logged."""
    yield lambda: capsys.readouterr().err
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()


def test_lines_are_json_where_there_is_no_terminal(shown):
    logs.configure("auto", "info")
    structlog.contextvars.bind_contextvars(request_id="r1")
    structlog.get_logger().info("call taken", samples=3)
    line = json.loads(shown())
    assert line["event"] == "call taken"
    assert (line["samples"], line["request_id"], line["level"]) == (3, "r1", "info")
    assert line["timestamp"].endswith("Z")


def test_lines_are_readable_on_demand(shown):
    logs.configure("console", "info")
    structlog.get_logger().info("call taken", samples=3)
    line = shown()
    assert "call taken" in line
    assert not line.startswith("{")


def test_lines_below_the_level_are_dropped(shown):
    logs.configure("json", "warning")
    structlog.get_logger().info("call taken")
    assert shown() == ""


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_exceptions_show_where_and_not_what(shown, log_format):
    logs.configure(log_format, "info")

    def fails(text):
        raise ValueError(f"cannot read {text!r}")

    try:
        fails("a person's secret prompt")
    except ValueError:
        structlog.get_logger().exception("call failed")
    text = shown()
    assert "ValueError" in text
    assert "test_logs.py" in text
    assert "fails" in text
    assert "secret prompt" not in text


def test_what_is_no_json_is_shown_in_python_s_way(shown):
    logs.configure("json", "info")
    structlog.get_logger().info("odd", value={1, 2})
    assert json.loads(shown())["value"] == "{1, 2}"
