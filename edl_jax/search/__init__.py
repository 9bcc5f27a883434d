"""Search for losses: candidates as tables, students that train many at once, methods that propose them."""
