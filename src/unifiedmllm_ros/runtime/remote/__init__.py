"""Models behind an OpenAI-compatible server, with the standard library's HTTP and TLS alone."""
