"""The workflow, which lies in workflow/Snakefile, from the root of its repository."""


include: "workflow/Snakefile"


# An included file does not say what is made where nothing is asked for.
workflow.default_target = "all"
