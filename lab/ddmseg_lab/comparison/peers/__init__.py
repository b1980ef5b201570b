"""What a user would otherwise take, on the same scans: each tool in a Python of its own."""
