"""How each kind of reward-model server is asked, and how its answers are read."""
