"""One stage carried out in a process, or in several: what is recorded of it, its last words, its secrets."""
