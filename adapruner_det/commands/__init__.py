"""What each command does; `adapruner_det.cli` and tools/*.py call their mains."""
