"""The client of a reward server, as a library of its own: it needs no training stack.

```python
from trainer.client import RewardClient

with RewardClient("127.0.0.1:8470") as client:
    print(client.score(rewards=["brevity"], completions=["Hello."]).rewards["brevity"].scores)
```
"""

from trainer.client.aio import AioPendingScore, AioRewardClient
from trainer.client.batch import BatchFields
from trainer.client.catalog import Catalog, CostClass, Health, RewardInfo
from trainer.client.options import ClientKeywords, ClientOptions
from trainer.client.sync import PendingScore, RewardClient
from trainer.client.verdicts import Blame, Cost, RewardScores, ScoreResult, Status

__all__ = [
    "AioPendingScore",
    "AioRewardClient",
    "BatchFields",
    "Blame",
    "Catalog",
    "ClientKeywords",
    "ClientOptions",
    "Cost",
    "CostClass",
    "Health",
    "PendingScore",
    "RewardClient",
    "RewardInfo",
    "RewardScores",
    "ScoreResult",
    "Status",
]
