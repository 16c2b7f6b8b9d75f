# Reward functions as people write them for TRL's GRPOTrainer: nothing in here knows of a reward server.
# examples/classic/server.yaml serves them as they stand.
#
# Called by TRL itself they fail, as TRL passes every function more keywords than these take
# ("unexpected keyword argument 'completion_ids'"); the reward server passes what a signature asks for.

# 1. A length reward: too short is bad, concise is best.
def length_reward(completions, prompts=None):
    rewards = []
    for completion in completions:
        num_words = len(completion.split())
        if num_words < 5:
            rewards.append(-1.0)
        elif num_words < 50:
            rewards.append(1.0)
        else:
            rewards.append(0.5)
    return rewards


# 2. A format reward: ends with a full stop, does not begin with a blank.
def format_reward(completions, prompts=None):
    rewards = []
    for completion in completions:
        score = 0.0
        if completion.strip().endswith("."):
            score += 0.5
        if not completion.startswith(" "):
            score += 0.5
        rewards.append(score)
    return rewards


# 3. Both in one, half and half.
def combined_reward(completions, prompts=None):
    length_scores = length_reward(completions, prompts)
    format_scores = format_reward(completions, prompts)
    return [0.5 * l + 0.5 * f for l, f in zip(length_scores, format_scores)]


# 4. Two functions meant for GRPOConfig(reward_weights=[0.5, 0.5]).
def accuracy_reward(completions, prompts):
    rewards = []
    for prompt, completion in zip(prompts, completions):
        keywords = [w.strip("?!.,").lower() for w in prompt.split() if len(w) > 4]
        if not keywords:
            rewards.append(0.0)
            continue
        text = completion.lower()
        rewards.append(sum(1 for k in keywords if k in text) / len(keywords))
    return rewards


def style_reward(completions, prompts=None):
    rewards = []
    for completion in completions:
        words = completion.lower().split()
        if not words:
            rewards.append(0.0)
        else:
            rewards.append(len(set(words)) / len(words))
    return rewards


# 5. A judge. A real one asks a language model; this one is small and always of the same opinion.
class JudgeModel:
    def evaluate(self, prompt, completion):
        asked = set(prompt.lower().split())
        said = set(completion.lower().split())
        if not said:
            return 0.0
        overlap = len(asked & said) / max(1, len(asked))
        brevity = 1.0 / (1.0 + len(completion) / 500)
        return round(10 * (0.6 * overlap + 0.4 * brevity), 3)


judge_model = JudgeModel()


def judge_reward(completions, prompts):
    rewards = []
    for prompt, completion in zip(prompts, completions):
        rewards.append(judge_model.evaluate(prompt, completion))
    return rewards
