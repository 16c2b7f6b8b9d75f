"""The engine `ollama`: models on Ollama hosts, through its own API."""
