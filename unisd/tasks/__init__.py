"""What is learnt: rows, prompts, demonstrations and grading, one module a task."""
