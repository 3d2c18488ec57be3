"""GGUF: control vectors and baked models for llama.cpp."""
