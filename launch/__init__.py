"""Everything that starts a process or loads a model: the CLI, training preflight, prediction, the pipeline."""
