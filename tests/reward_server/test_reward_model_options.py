"""Options of the scorer `reward_model` that contradict each other."""

import pytest
from pydantic import ValidationError

from reward_server.scorers.endpoints.model_options import RewardModelOptions


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"protocol": "tei", "input": "chat"}, "tei takes pair, plain, completion, template, not chat"),
        ({"protocol": "llamacpp", "input": "plain"}, "llamacpp takes pair, not plain"),
        ({"protocol": "tei", "input": "template"}, "that needs one"),
        ({"protocol": "tei", "input": "plain", "template_file": "t.jinja"}, "belongs to the input template"),
        ({"protocol": "tei", "template_variables": {"bos_token": "<s>"}}, "belong to the input template"),
        ({"protocol": "openrlhf", "too_long": "keep_end"}, "openrlhf cannot be told to cut"),
        ({"protocol": "tei", "rows": "last"}, "only vllm_pooling answers in rows"),
        ({"protocol": "tei", "label": 1}, "tei names its classes"),
        ({"protocol": "vllm_score", "label": -1}, "a number counts from 0"),
        ({"protocol": "tei", "calibrate": {"low": 1, "high": 1}}, "low and high must differ"),
        ({"protocol": "tei", "calibrate": {"low": float("nan"), "high": 1}}, "must be a finite number"),
    ],
)
def test_options_that_contradict_each_other_are_refused(options, told):
    with pytest.raises(ValidationError, match=told):
        RewardModelOptions(url="http://box", **options)
