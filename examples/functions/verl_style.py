# A reward function as verl's `custom_reward_function` names it: one sample a call, by keyword. With its own verl dataset
# the gold answer comes from reward_model["ground_truth"]; with a plain one, from the column `ground_truth` or `answer`.

import re

ANSWER = re.compile(r"####\s*(-?[\d.,]+)")


def extract(text):
    found = ANSWER.findall(text[-300:])
    return found[-1].replace(",", "").rstrip(".") if found else None


def compute_score(data_source, solution_str, ground_truth, extra_info=None, format_score=0.1):
    """1 for the right answer behind ####, `format_score` for another one there, else 0."""
    if not data_source.endswith("gsm8k"):
        raise NotImplementedError(f"no rule for {data_source}")
    pred = extract(solution_str)
    gold = extract(ground_truth) or ground_truth
    correct = pred == gold
    score = 1.0 if correct else format_score if pred is not None else 0.0
    if extra_info and extra_info.get("split") == "hard":
        score *= 1.5
    return {"score": score, "acc": correct, "pred": pred}
