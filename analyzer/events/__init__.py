"""Records → events → streams: recognition by the plan, and correlation."""
