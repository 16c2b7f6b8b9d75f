# Reward functions for grade-school mathematics as people write them for TRL's GRPOTrainer: nothing in here knows of a
# reward server. `answer` is a column of the dataset, in GSM8K's form: the solution, then "#### 42".

import re

NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?")


def last_number(text):
    numbers = NUMBER.findall(text)
    return numbers[-1].replace(",", "").rstrip(".") if numbers else None


def correctness_reward(completions, answer, **kwargs):
    """2 for the right number at the end, 0.5 if it stands somewhere else, else 0. None where the gold answer has none."""
    rewards = []
    for completion, solution in zip(completions, answer):
        gold = last_number(solution.split("####")[-1])
        if gold is None:
            rewards.append(None)
        elif last_number(completion) == gold:
            rewards.append(2.0)
        else:
            rewards.append(0.5 if gold in NUMBER.findall(completion) else 0.0)
    return rewards


def turns_reward(completions, **kwargs):
    """For conversations (view: messages): 1 for a single message of the assistant's, a third less for each further one."""
    return [max(0.0, 1.0 - (len(completion) - 1) / 3) for completion in completions]
