"""Child processes: how they are started, spoken to, handed pictures, and waited for."""
