"""What a person looks at afterwards: curves of runs, plots as SVG and PNG, and pages that need nothing else."""
