"""Who answers a query, where the answers are kept, and how they are exchanged with other tools."""
