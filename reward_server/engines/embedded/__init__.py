"""The engine `embedded`: a model in llama.cpp, in a child process of the server."""
