"""Loss networks by kind."""
