"""What a reader sees: tables, figures and pages, made from finished results."""
