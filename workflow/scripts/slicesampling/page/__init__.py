"""The annotation page, and the page that shows a finished run."""
