"""Forward passes over packed rows: no padding, hidden states out. Knows no loss, no task and no trainer."""
