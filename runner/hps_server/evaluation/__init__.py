"""The evaluator of the embedded HPS: starts tasks, collects their outcome."""
