"""Tables, figures and pages from finished results."""
