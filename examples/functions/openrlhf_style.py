# A reward function as OpenRLHF's --remote_rm_url names it: three lists by position. A query is the prompt with the
# completion behind it. A tensor may be returned too, where torch is installed.


def reward_func(queries, prompts, labels, **kwargs):
    """Right answer in the last line, less a little for every line too many."""
    rewards, right, lines = [], [], []
    for query, prompt, label in zip(queries, prompts, labels):
        response = query[len(prompt) :].strip()
        gold = label.split("####")[-1].strip()
        last = response.rsplit("\n", 1)[-1]
        right.append(1.0 if gold in last.replace(",", "").split() else 0.0)
        lines.append(response.count("\n") + 1)
        rewards.append(right[-1] - 0.05 * max(0, lines[-1] - 5))
    return {"rewards": rewards, "scores": right, "extra_logs": {"lines": lines}}
