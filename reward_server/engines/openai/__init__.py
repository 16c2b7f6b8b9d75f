"""The engine `openai`: models on servers that speak OpenAI's API."""
