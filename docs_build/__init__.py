"""What makes docs/ a site: links to source files, code and reference taken from the source, the notebook as a page."""
